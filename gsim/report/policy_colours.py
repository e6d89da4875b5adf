"""Which colour a policy has: by its name, so that it is the same in every figure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gsim.study.figure import COLOURS

#: The place of a colour for those that are compared most; two of one place are seldom in one figure.
_OWN = {
    "goodserve": 0,
    "fastest": 1,
    "least_load": 2,
    "least_request": 3,
    "cache_aware": 4,
    "random": 5,
    "marginal": 5,
    "prefix_then_load": 6,
    "round_robin": 6,
    "ilp_plan": 7,
    "power_of_two": 7,
}


def colour_places(labels: Sequence[str]) -> dict[str, int]:
    """Label -> its place among ``COLOURS`` (beyond them: the second round, and so on); no place is given twice.

    A known policy has its own place, the first label of it where there are several; the others have the places that are
    left, in their order.
    """
    found: dict[str, int] = {}
    for label in labels:
        own = _OWN.get(_router(label))
        if own is not None and own not in found.values():
            found[label] = own
    free = (i for i in range(len(COLOURS) + len(labels)) if i not in set(found.values()))
    return {label: found[label] if label in found else next(free) for label in labels}


def _router(label: str) -> str:
    """``GoodServe + risk_monitor`` is ``goodserve``, ``Least load`` is ``least_load``."""
    return re.sub(r"[ -]", "_", label.partition(" + ")[0].strip().lower())
