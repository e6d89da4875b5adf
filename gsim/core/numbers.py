"""Numbers as people and files write them."""

from __future__ import annotations


def number_of(text: str) -> float:
    """The number that a text spells; ``ValueError`` where it spells none.

    Python also takes underscores and the digits of all scripts: ``1_02`` would be 102.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is no number")
    return float(text)


def whole_of(text: str) -> int:
    """The whole number that a text spells; ``ValueError`` where it spells none."""
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is no whole number")
    return int(text)
