"""Measured tables between their points, and carried on beyond them: there times never fall."""

from __future__ import annotations

import numpy as np

from gsim.latency.row import end_slope


def continued(axis: tuple[int, ...], table: np.ndarray, along: int, end: int) -> tuple[tuple[int, ...], np.ndarray]:
    """An axis and its table with one point more, at ``end``: there times are carried on, and have not fallen."""
    if end <= axis[-1] or len(axis) == 1:
        return axis, table
    lines = np.moveaxis(table, along, -1)
    slopes = np.array([end_slope(axis, line) for line in lines.reshape(-1, len(axis)).tolist()])
    last = lines[..., -1:] + slopes.reshape(*lines.shape[:-1], 1) * (end - axis[-1])
    return (*axis, end), np.concatenate([table, np.moveaxis(last, -1, along)], axis=along)


def line_at(axis: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Linear between points and beyond the last two; constant below the first."""
    inside = np.interp(x, axis, values)
    slope = max((values[-1] - values[-2]) / (axis[-1] - axis[-2]), 0.0) if len(axis) > 1 else 0.0
    result: np.ndarray = inside + np.maximum(x - axis[-1], 0.0) * slope
    return result
