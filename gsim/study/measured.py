"""What tables, figures and findings are made of: cells with their metrics, wherever they were read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np


class Measured(Protocol):
    """A policy at a grid point, with one value per seed of every metric: what tables and figures are made of."""

    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def point(self) -> Mapping[str, Any]: ...  # noqa: D102
    def metric(self, name: str) -> np.ndarray[Any, Any]: ...  # noqa: D102


M = TypeVar("M", bound=Measured)


def by_point(results: Sequence[M]) -> list[list[M]]:
    """The cells of each grid point, in order."""
    groups: dict[str, list[M]] = {}
    for result in results:
        groups.setdefault(repr(result.point), []).append(result)
    return list(groups.values())
