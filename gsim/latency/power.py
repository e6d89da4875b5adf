"""What cards draw: while an instance is up and computes nothing, and while it computes.

Two numbers a card, so an iteration draws the same whatever its batch. Measured, a batch of one draws half of what a
full one does (ML.ENERGY Benchmark v3.0 on an H100 SXM: 300 W at batch 1, 600 W at 128), so the energy of a lightly
loaded instance is overstated, by up to twice. Hosts, cooling and networks are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core.errors import ProfileError
from gsim.latency.cards import card


@dataclass(frozen=True, slots=True)
class Power:
    """What one card draws, in watts."""

    idle_w: float
    """With a CUDA context and weights in memory, computing nothing."""
    busy_w: float
    """While iterations are computed."""
    source: str


#: Share of its board power that a card draws at a full batch: 600 of an H100's 700 W (ML.ENERGY Benchmark v3.0).
BUSY_SHARE = 600 / 700
#: Share of its board power that a card draws idle, where nobody has measured it: between those of H100 (0.17) and
#: L40S (0.29), which arXiv 2605.23918 measured.
IDLE_SHARE = 0.2

_IDLE_SOURCE = "idle: arXiv 2605.23918 (with a CUDA context, whatever memory holds)"
_BUSY_SOURCE = "busy: 600/700 of the board power, as ML.ENERGY Benchmark v3.0 has it for H100"
#: Board power by NVIDIA's and AMD's data sheets (A10G: the limit that ``nvidia-smi`` shows), W.
_BOARD_W = {
    "V100-32G": 300,
    "T4": 70,
    "L4": 72,
    "A10G": 300,
    "A30": 165,
    "A40": 300,
    "A100-80G": 400,
    "A800-80G": 400,
    "L20": 275,
    "L40S": 350,
    "H100-80G": 700,
    "H800-80G": 700,
    "H200-141G": 700,
    "B200-180G": 1000,
    "RTX4090": 450,
    "RTXPRO6000": 600,
    "RTXA6000": 300,
    "MI300X": 750,
}
#: Measured, W. An A800 is an A100, an H800 an H100, but for their links.
_IDLE_W = {"H100-80G": 121.7, "H800-80G": 121.7, "A100-80G": 80.0, "A800-80G": 80.0, "L40S": 102.0}


def power(name: str) -> Power | None:
    """What the card of that name draws (as ``card`` finds it); None for one that is not known."""
    try:
        known = card(name).name
    except ProfileError:
        return None
    board_w = _BOARD_W[known]
    idle_w = _IDLE_W.get(known)
    source = _IDLE_SOURCE if idle_w is not None else f"idle: assumed, {IDLE_SHARE:.0%} of the board power"
    idle_w = IDLE_SHARE * board_w if idle_w is None else idle_w
    return Power(idle_w, BUSY_SHARE * board_w, f"{source}; {_BUSY_SOURCE}")
