"""Where replay by token ids beats a copy of the KV cache: bandwidth x model x GPU."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError, register
from gsim.latency import load_profile
from gsim.latency.profile import prefill_s
from gsim.migration import LinkConfig
from gsim.study.migration_probe import Probe, measure
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Break-even bandwidths (GB/s) by first principles: KV bytes per token x prefill tokens per second, with 2 FLOP per
#: parameter and token at 40 % (V100) or 50 % of the card's peak. For comparison with the profiles' measured prefill.
FIRST_PRINCIPLES_GB_PER_S = {
    "llama-2-7b": {"v100": 1.9, "a40": 2.9, "a800": 6.1, "h800": 19.0},
    "llama-3.1-8b": {"v100": 0.41, "a40": 0.61, "a800": 1.27, "h800": 4.0},
    "qwen2.5-7b": {"v100": 0.19, "a40": 0.28, "a800": 0.59, "h800": 1.9},
}
_LOW_GB_PER_S, _HIGH_GB_PER_S = 0.01, 1000.0


@register("study", "migration_crossover")
@dataclass(frozen=True)
class MigrationCrossover:
    """The link bandwidth above which copying the KV cache beats replaying token ids, per model and target GPU."""

    models: tuple[str, ...] = ("llama-2-7b", "llama-3.1-8b", "qwen2.5-7b")
    """Profiles are named GPU-MODEL."""
    gpus: tuple[str, ...] = ("v100", "a40", "a800", "h800")
    """Target cards (the source is the same card: KV copy needs equal layouts)."""
    bandwidths_gb_per_s: tuple[float, ...] = (0.3125, 1.25, 3.125, 12.5, 25.0, 50.0)
    """For the map: what the copy gets (10, 25, 100, 200 and 400 Gb/s are 1.25, 3.125, 12.5, 25 and 50)."""
    context_tokens: int = 3000
    """Prompt and generated tokens at the move (Llama-2 ends at 4096)."""
    steps: int = 14
    """Bisections of the break-even bandwidth; 14 give it within 0.1 %."""

    def run(self, context: Context) -> Findings:
        """Break-even by formula, by simulation, and by first principles; then the map."""
        import pandas as pd

        if self.steps < 1:
            raise ConfigError(f"steps must be 1 or more, not {self.steps}")
        cards = list(itertools.product(self.models, self.gpus))
        seed = context.seeds[0]
        simulated = context.map(_break_even, [(self, *card, seed) for card in cards], "break-even")
        rows = [self._row(model, gpu, found) for (model, gpu), found in zip(cards, simulated, strict=True)]
        frame = pd.DataFrame(rows)
        points = list(itertools.product(cards, self.bandwidths_gb_per_s))
        cells = context.map(_stalls, [(self, *card, gb, seed) for card, gb in points], "map")
        grid = pd.DataFrame(
            {
                "model": model,
                "gpu": gpu,
                "bandwidth_gb_per_s": gb,
                "token_ids_ms": ids * 1e3,
                "kv_copy_ms": copy * 1e3,
                "ids_over_copy": ids / copy,
            }
            for ((model, gpu), gb), (ids, copy) in zip(points, cells, strict=True)
        )
        return Findings(
            tables={"break_even": frame, "map": grid},
            figures={"migration_crossover": _figure(grid)},
            notes=_notes(frame),
        )

    def _row(self, model: str, gpu: str, simulated: float) -> dict[str, Any]:
        profile = load_profile(f"{gpu}-{model}")
        per_s = self.context_tokens / prefill_s(profile, self.context_tokens)
        known = FIRST_PRINCIPLES_GB_PER_S.get(model, {}).get(gpu, math.nan)
        return {
            "model": model,
            "gpu": gpu,
            "kv_kib_per_token": profile.deployment.kv_bytes_per_token / 1024,
            "prefill_tokens_per_s": per_s,
            "formula_gb_per_s": profile.deployment.kv_bytes_per_token * per_s / 1e9,
            "simulated_gb_per_s": simulated,
            "first_principles_gb_per_s": known,
        }


def _stall_s(study: MigrationCrossover, mechanism: str, model: str, gpu: str, gb_per_s: float, seed: int) -> float:
    link = LinkConfig(bandwidth_bytes_per_s=gb_per_s * 1e9, efficiency=1.0, latency_s=0.0, busy_factor=1.0)
    name = f"{gpu}-{model}"
    return measure(Probe(mechanism, name, name, link, study.context_tokens), seed).stalled_s


def _stalls(work: tuple[MigrationCrossover, str, str, float, int]) -> tuple[float, float]:
    study, model, gpu, gb_per_s, seed = work
    ids, copy = (_stall_s(study, name, model, gpu, gb_per_s, seed) for name in ("token_ids", "kv_copy"))
    return ids, copy


def _break_even(work: tuple[MigrationCrossover, str, str, int]) -> float:
    """Bisection, in the logarithm, on the difference of the two stalls in simulations."""
    study, model, gpu, seed = work
    low, high = math.log(_LOW_GB_PER_S), math.log(_HIGH_GB_PER_S)
    for _ in range(study.steps):
        middle = (low + high) / 2
        ids, copy = _stalls((study, model, gpu, math.exp(middle), seed))
        low, high = (low, middle) if copy < ids else (middle, high)
    return math.exp((low + high) / 2)


def _notes(frame: Any) -> list[str]:
    notes = []
    for row in frame.itertuples():
        gigabits = row.simulated_gb_per_s * 8
        notes.append(
            f"{row.model} on {row.gpu}: token ids win below {row.simulated_gb_per_s:.2f} GB/s ({gigabits:.0f} Gb/s) of "
            f"copy bandwidth"
        )
    return notes


def _ink(value: float, limit: float) -> str:
    """Text that can be read on the map's colour."""
    return "white" if abs(value) > 0.7 * limit else "black"


def _figure(grid: Any) -> Figure:
    import numpy as np

    from gsim.study.figure import house_style, new_figure

    rows = list(dict.fromkeys(zip(grid["model"], grid["gpu"], strict=True)))
    columns = sorted(set(grid["bandwidth_gb_per_s"]))
    values = grid.pivot_table(index=["model", "gpu"], columns="bandwidth_gb_per_s", values="ids_over_copy")
    table = np.log2(np.array([[values.loc[row, gb] for gb in columns] for row in rows], dtype=float))
    with house_style():
        figure, (axis,) = new_figure(1, width=5.0, height=0.9 + 0.26 * len(rows))
        limit = float(np.abs(table).max())
        image = axis.imshow(table, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        axis.set_xticks(range(len(columns)), [f"{gb:g}" for gb in columns])
        axis.set_yticks(range(len(rows)), [f"{model}, {gpu}" for model, gpu in rows])
        for (i, j), value in np.ndenumerate(table):
            axis.text(j, i, f"{2**value:.2g}", ha="center", va="center", fontsize=7, color=_ink(value, limit))
        axis.set_xlabel("Copy bandwidth (GB/s)")
        axis.grid(visible=False)
        figure.colorbar(image, label="log2(stall by token ids / by KV copy)")
    return figure
