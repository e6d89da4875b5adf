"""How long a migration takes, by mechanism, context length, link, GPU pair and load (the paper's Fig. 9)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError, entries, register
from gsim.metrics import mean_interval
from gsim.migration import LINKS, LinkConfig
from gsim.study.migration_probe import Probe, ProbeTimes, measure
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@register("study", "migration_latency")
@dataclass(frozen=True)
class MigrationLatency:
    """Time from the decision to migrate to the next token, by how the state moves."""

    model: str = "llama-3.1-8b"
    """Profiles are named GPU-MODEL."""
    pairs: tuple[str, ...] = ("v100>h800", "a40>a800", "a800>a40", "h800>v100")
    """Source and target GPU."""
    mechanisms: tuple[str, ...] = ("token_ids", "kv_copy", "live_kv_copy")
    """How the state moves."""
    links: tuple[str, ...] = ("rdma_10g", "rdma_25g", "rdma_100g", "rdma_400g")
    """Link presets."""
    contexts: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
    """Prompt and generated tokens at the move."""
    background_rps: tuple[float, ...] = (0.0, 1.0)
    """Other requests that each instance serves at the same time, per second."""

    def run(self, context: Context) -> Findings:
        """Measure every combination, with every seed where other requests make them differ."""
        import pandas as pd

        probes = self._probes()
        work = [(probe, seed) for probe in probes for seed in context.seeds[: None if probe.background_rps else 1]]
        times: dict[Probe, list[ProbeTimes]] = {}
        for (probe, _), measured in zip(work, context.map(_measure, work, "migrations"), strict=True):
            times.setdefault(probe, []).append(measured)
        frame = pd.DataFrame([_row(probe, times[probe]) for probe in probes])
        return Findings(
            tables={"to_next_token_ms": _summary(frame), "migration_latency": frame},
            figures={"migration_latency": _figure(frame, self)},
            notes=_notes(frame),
        )

    def _probes(self) -> list[Probe]:
        known = entries("mechanism")
        for name in self.mechanisms:
            if name not in known:
                raise ConfigError(f"mechanisms: '{name}' is unknown; there are: {', '.join(known)}")
        for name in self.links:
            if name not in LINKS:
                raise ConfigError(f"links: '{name}' is unknown; there are: {', '.join(LINKS)}")
        probes = []
        for pair, load, link, mechanism, tokens in itertools.product(
            self.pairs, self.background_rps, self.links, self.mechanisms, self.contexts
        ):
            source, arrow, target = pair.partition(">")
            if not arrow:
                raise ConfigError(f"pairs: '{pair}' must name a source and a target, as in 'v100>h800'")
            profiles = (f"{source}-{self.model}", f"{target}-{self.model}")
            probes.append(Probe(mechanism, *profiles, LinkConfig(link), tokens, load))
        return probes


def _measure(work: tuple[Probe, int]) -> ProbeTimes:
    return measure(*work)


def _row(probe: Probe, times: list[ProbeTimes]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "source": probe.source.partition("-")[0],
        "target": probe.target.partition("-")[0],
        "background_rps": probe.background_rps,
        "link": probe.link.name,
        "mechanism": probe.mechanism,
        "context_tokens": probe.context_tokens,
    }
    for name, values in (
        ("to_target_ms", [t.to_target_s * 1e3 for t in times]),
        ("stalled_ms", [t.stalled_s * 1e3 for t in times]),
    ):
        row[name], row[f"{name}_low"], row[f"{name}_high"] = mean_interval(np.array(values))
    row["given_up"] = sum(np.isnan(t.stalled_s) for t in times)
    return row


def _summary(frame: Any) -> Any:
    """Decision to next token in milliseconds, the mean of all GPU pairs: a row per mechanism, a column per context."""
    by = ["background_rps", "link", "mechanism"]
    means = frame.groupby([*by, "context_tokens"], sort=False)["to_target_ms"].mean().unstack()
    means.columns = [f"{tokens} tokens" for tokens in means.columns]
    return means.reset_index()


def _notes(frame: Any) -> list[str]:
    """What the numbers say: the mean per mechanism and link, idle and loaded."""
    notes = []
    for load, part in frame.groupby("background_rps"):
        means = part.groupby(["link", "mechanism"], sort=False)["stalled_ms"].mean().unstack()
        for link, row in means.iterrows():
            said = ", ".join(f"{mechanism} {value:.0f} ms" for mechanism, value in row.items())
            notes.append(
                f"{load:g} requests/s besides, {link}: the request stands still for {said} (mean of all pairs)"
            )
    return notes


def _figure(frame: Any, study: MigrationLatency) -> Figure:
    """A panel per link: stall against context, averaged over pairs, idle (line) and loaded (dashed)."""
    from gsim.study.figure import COLOURS, DASHES, MARKERS, house_style, new_figure, plain_log_x

    with house_style():
        figure, axes = new_figure(len(study.links), width=2.4)
        for axis, link in zip(axes, study.links, strict=True):
            for i, mechanism in enumerate(study.mechanisms):
                for j, load in enumerate(study.background_rps):
                    chosen = (frame["link"] == link) & (frame["mechanism"] == mechanism)
                    part = frame[chosen & (frame["background_rps"] == load)]
                    curve = part.groupby("context_tokens")["to_target_ms"].mean()
                    label = f"{mechanism}, {load:g} req/s besides"
                    style = DASHES[j % len(DASHES)]
                    marker = MARKERS[i % len(MARKERS)]
                    colour = COLOURS[i % len(COLOURS)]
                    axis.plot(curve.index, curve, style, color=colour, marker=marker, markersize=3, label=label)
            axis.set_yscale("log")
            plain_log_x(axis, study.contexts)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.set_xlabel("Context (tokens)")
            axis.set_title(link)
            axis.set_ylim(0.8 * float(frame["to_target_ms"].min()), 1.25 * float(frame["to_target_ms"].max()))
        axes[0].set_ylabel("Decision to next token (ms)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.5)
    return figure
