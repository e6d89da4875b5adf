"""Fig. 1: what a batch costs on each GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.cluster import InstanceSpec, simulate
from gsim.core import ConfigError, Job, Request, Session, register
from gsim.run.settings import Settings
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@register("study", "latency_vs_batch")
@dataclass(frozen=True)
class LatencyVsBatch:
    """Latency of equal requests that are served together, against their number, on each GPU of the pool (Fig. 1)."""

    prompt_tokens: int = 100
    """Of every request ..."""
    output_tokens: int = 200
    """... as in the paper's figure."""
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """Requests that arrive together."""

    def __post_init__(self) -> None:
        for name, value in (("prompt_tokens", self.prompt_tokens), ("output_tokens", self.output_tokens)):
            if value < 1:
                raise ConfigError(f"{name} must be 1 or more, not {value}")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError(f"batch_sizes must be numbers from 1, not {list(self.batch_sizes)}")

    def run(self, context: Context) -> Findings:
        """A batch arrives at once at an idle instance, for every GPU and batch size."""
        import pandas as pd

        instances = {spec.profile.name: spec for spec in context.settings.scenario().instances}
        work = [(spec, batch) for spec in instances.values() for batch in self.batch_sizes]
        rows = [self._row(context.settings, spec, batch) for spec, batch in context.track(work, "batches")]
        frame = pd.DataFrame(rows)
        return Findings({"latency_vs_batch": frame}, {"latency_vs_batch": draw(frame)}, _notes(frame))

    def _row(self, settings: Settings, spec: InstanceSpec, batch: int) -> dict[str, float | str]:
        import dataclasses

        scenario = dataclasses.replace(
            settings.replace(router={"name": "always_first"}, rectifier={"name": "none"}).scenario(), instances=(spec,)
        )
        requests = [Request(i, 0.0, self.prompt_tokens, self.output_tokens, float("inf")) for i in range(batch)]
        sessions = (Session(i, 0.0, (Job(request, self.output_tokens),)) for i, request in enumerate(requests))
        columns = simulate(scenario, sessions, seed=0).requests
        e2e_s, ttft_s = columns["finished_s"], columns["first_token_s"]
        tpot_s = (e2e_s - ttft_s) / max(1, self.output_tokens - 1)
        return {
            "gpu": spec.profile.gpu,
            "batch": batch,
            "mean_e2el_ms": float(np.mean(e2e_s)) * 1e3,
            "max_e2el_ms": float(np.max(e2e_s)) * 1e3,
            "mean_ttft_ms": float(np.mean(ttft_s)) * 1e3,
            "mean_tpot_ms": float(np.mean(tpot_s)) * 1e3,
            "output_throughput": batch * self.output_tokens / float(np.max(e2e_s)),
        }


def draw(frame: pd.DataFrame) -> Figure:
    """Latency and throughput against the batch, a line per GPU."""
    from gsim.study.figure import COLOURS, MARKERS, house_style, new_figure

    with house_style():
        figure, axes = new_figure(2)
        panels = (("mean_e2el_ms", 1e-3, "Mean E2E latency (s)"), ("output_throughput", 1.0, "Output tokens/s"))
        for axis, (column, scale, label) in zip(axes, panels, strict=True):
            for i, (gpu, rows) in enumerate(frame.groupby("gpu", sort=False)):
                style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
                axis.plot(rows["batch"], rows[column] * scale, label=str(gpu), markersize=3.5, linewidth=1.3, **style)
            axis.set_xscale("log", base=2)
            axis.set_xlabel("Batch size (requests)")
            axis.set_ylabel(label)
            axis.set_ylim(bottom=0)
            batches = sorted(set(frame["batch"]))
            axis.set_xticks(batches, [str(batch) for batch in batches])
            axis.minorticks_off()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _notes(frame: pd.DataFrame) -> list[str]:
    notes = []
    for gpu, rows in frame.groupby("gpu", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        factor = last["mean_e2el_ms"] / first["mean_e2el_ms"]
        more = last["output_throughput"] / first["output_throughput"]
        notes.append(
            f"{gpu}: {first['mean_e2el_ms'] / 1e3:.2f} s at batch {first['batch']}, "
            f"{last['mean_e2el_ms'] / 1e3:.2f} s at batch {last['batch']} "
            f"({factor:.1f} times the latency for {more:.0f} times the throughput)"
        )
    return notes
