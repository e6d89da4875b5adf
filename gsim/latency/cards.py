"""Facts about cards, as their makers publish them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from gsim.core.errors import ProfileError


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU."""

    name: str
    memory_gb: float
    """As sold (10^9 bytes)."""
    bandwidth_gb_per_s: float
    """Memory bandwidth."""
    tflops: float
    """Dense 16-bit matrix operations, without sparsity."""
    fp8_tflops: float = 0.0
    """Dense 8-bit floating point; 0: the card has none."""
    multiprocessors: int = 0
    """Streaming multiprocessors; 0: not known."""
    link_gb_per_s: float = 0.0
    """NVLink, all links, both directions; 0: cards talk over PCIe."""
    max_num_batched_tokens: int = 2048
    """vLLM's default for an API server: tokens computed in one iteration."""
    max_num_seqs: int = 256
    """vLLM's default for an API server: sequences in a batch."""


#: What vLLM (``arg_utils.py``) does by default on cards of 70 GiB and more that are not called A100.
_LARGE = (8192, 1024)

#: Data sheets of NVIDIA and AMD.
CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card("V100-32G", 32, 900, 125, 0, 80, 300),
        Card("T4", 16, 320, 65, 0, 40),
        Card("L4", 24, 300, 121, 242, 58),
        Card("A10G", 24, 600, 125, 0, 80),
        Card("A30", 24, 933, 165, 0, 56, 200),
        Card("A40", 48, 696, 149.7, 0, 84, 112.5),
        Card("A100-80G", 80, 2039, 312, 0, 108, 600),
        Card("A800-80G", 80, 2039, 312, 0, 108, 400, *_LARGE),
        Card("L20", 48, 864, 119.5, 239, 92),
        Card("L40S", 48, 864, 362, 733, 142),
        Card("H100-80G", 80, 3350, 989, 1979, 132, 900, *_LARGE),
        Card("H800-80G", 80, 3350, 989, 1979, 132, 400, *_LARGE),
        Card("H200-141G", 141, 4800, 989, 1979, 132, 900, *_LARGE),
        Card("B200-180G", 180, 8000, 2250, 4500, 148, 1800, 16384, 1024),
        Card("RTX4090", 24, 1008, 165.2, 330, 128),
        Card("RTXPRO6000", 96, 1792, 504, 1008, 188, 0, *_LARGE),
        Card("RTXA6000", 48, 768, 155, 0, 84, 112.5),
        Card("MI300X", 192, 5300, 1307, 2615, 304, 896, *_LARGE),
    )
}

_OTHER_NAMES = {
    "V100": "V100-32G",
    "A100": "A100-80G",
    "A800": "A800-80G",
    "H100": "H100-80G",
    "H100-SXM-80G": "H100-80G",
    "H800": "H800-80G",
    "H200": "H200-141G",
    "B200": "B200-180G",
    "RTX-PRO-6000": "RTXPRO6000",
    "RTX-PRO-6000-96G": "RTXPRO6000",
    "A6000": "RTXA6000",
}


def card(name: str) -> Card:
    """The card of that name (``h100``, ``H100-80G`` ...); raises ``ProfileError`` that lists what there is."""
    key = name.upper().replace("_", "-").removesuffix("-SXM").removesuffix("-SERVER")
    key = _OTHER_NAMES.get(key, key)
    if key not in CARDS:
        near = difflib.get_close_matches(key, CARDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ProfileError(f"card '{name}' is not known{hint}; there are: {', '.join(CARDS)}")
    return CARDS[key]
