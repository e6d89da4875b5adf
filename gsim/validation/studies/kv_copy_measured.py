"""Simulated KV copies beside measured ones: transfer times that serving projects have published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gsim.core import register
from gsim.latency import Deployment, constant_profile, model_shape
from gsim.migration import LinkConfig
from gsim.study.migration_probe import Probe, measure_between
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SetUp(NamedTuple):
    """A published table of transfer times."""

    name: str
    source: str
    deployment: Deployment
    link: str
    """The preset whose efficiency follows from the first and the last row."""
    control_s: float
    """Likewise."""
    measured_ms: dict[int, float]
    """Tokens -> milliseconds."""


#: Four KV heads on eight cards are held twice: eight heads' worth of bytes move.
_QWEN3_235B_TP8 = Deployment(model_shape("qwen3-235b-a22b"), "H20", tp=8, weight_dtype="fp8")
_QWEN3_8B = Deployment(model_shape("qwen3-8b"), "H800-80G")

SET_UPS = (
    SetUp(
        "vLLM + Mooncake, Qwen3-8B, H800, 8 x 200 Gb/s RoCE",
        "Mooncake documentation, vLLM v1 prefill-decode performance (vLLM 0.11.2)",
        _QWEN3_8B,
        "mooncake_8x200g",
        0.00042,
        {128: 0.54, 1024: 1.50, 4096: 4.75, 8192: 8.84, 16384: 16.43, 32768: 31.65},
    ),
    SetUp(
        "SGLang + Mooncake, Qwen3-235B, H20, 4 x 400 Gb/s",
        "Mooncake documentation, SGLang prefill-decode performance",
        _QWEN3_235B_TP8,
        "mooncake_4x400g",
        0.00178,
        {128: 2.07, 1024: 3.96, 8192: 20.31, 32768: 76.78},
    ),
)


@register("study", "kv_copy_measured")
@dataclass(frozen=True)
class KvCopyMeasured:
    """How well simulated stop-and-copy transfers agree with measured ones."""

    def run(self, context: Context) -> Findings:
        """Simulate every published row."""
        import pandas as pd

        frame = pd.DataFrame(row for set_up in SET_UPS for row in rows_of(set_up, context.seeds[0]))
        notes = [
            f"{name}: largest error {part['error'].abs().max():.1%}; of the rows that nothing was fitted to "
            f"{part.loc[~part['fitted'], 'error'].abs().max():.1%}"
            for name, part in frame.groupby("set_up", sort=False)
        ]
        return Findings(tables={"kv_copy_measured": frame}, figures={"kv_copy_measured": _figure(frame)}, notes=notes)


def rows_of(set_up: SetUp, seed: int) -> list[dict[str, Any]]:
    """One row per published length: measured and simulated milliseconds, and whether the row served to fit."""
    profile = constant_profile(0.01, kv_tokens=1 << 24, max_num_batched_tokens=1 << 16, deployment=set_up.deployment)
    lengths = sorted(set_up.measured_ms)
    rows = []
    for tokens in lengths:
        # The newest token has been sampled but not computed: its KV does not move.
        probe = Probe("kv_copy", "", "", LinkConfig(set_up.link), tokens + 1, control_s=set_up.control_s)
        times = measure_between(profile, profile, probe, seed)
        measured_ms, simulated_ms = set_up.measured_ms[tokens], times.transfer_s * 1e3
        rows.append(
            {
                "set_up": set_up.name,
                "tokens": tokens,
                "bytes": times.copied_bytes,
                "measured_ms": measured_ms,
                "simulated_ms": simulated_ms,
                "error": simulated_ms / measured_ms - 1.0,
                "fitted": tokens in (lengths[0], lengths[-1]),
                "source": set_up.source,
            }
        )
    return rows


def _figure(frame: Any) -> Figure:
    from gsim.study.figure import COLOURS, MARKERS, house_style, new_figure, plain_log_x

    with house_style():
        figure, (axis,) = new_figure(1)
        for i, (name, part) in enumerate(frame.groupby("set_up", sort=False)):
            axis.plot(
                part["tokens"], part["simulated_ms"], "-", color=COLOURS[i], label=f"{name.split(',')[0]}, simulated"
            )
            axis.plot(part["tokens"], part["measured_ms"], MARKERS[i], color=COLOURS[i], markersize=4, label="measured")
        plain_log_x(axis, sorted(set(frame["tokens"])))
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("Context (tokens)")
        axis.set_ylabel("KV transfer (ms)")
        axis.legend(frameon=False)
    return figure
