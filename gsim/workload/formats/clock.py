"""Recorded times: in order, and apart where a coarse clock has lumped them."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import numpy as np

from gsim.core import ConfigError
from gsim.workload.play import Play
from gsim.workload.report import RowErrors

EQUAL_TIMES = ("refuse", "allow", "spread")


def check_equal_times(equal_times: str, window_s: float) -> None:
    """``ConfigError`` unless the option is one of ``EQUAL_TIMES`` and the window is positive."""
    if equal_times not in EQUAL_TIMES:
        raise ConfigError(f"trace.equal_times must be one of {', '.join(EQUAL_TIMES)}; not '{equal_times}'")
    if not 0 < window_s < inf:
        raise ConfigError(f"trace.window_s must be a positive number of seconds, not {window_s}")


def runs_back(at_s: float, last_s: float, where: str = "") -> str:
    """That time runs back, and by how much: of times since 1970 the last digits tell."""
    return f"time runs back{where} by {last_s - at_s:.3g} s: {at_s:.16g} s after {last_s:.16g} s"


def in_order(plays: Iterator[Play], errors: RowErrors, *, equal: bool = True) -> Iterator[Play]:
    """Plays whose times never run back (nor stand still, unless ``equal``); others are reported as bad rows."""
    last_s = -inf
    for play in plays:
        if play.arrival_s < last_s:
            errors.bad(play.row, f"{runs_back(play.arrival_s, last_s)}; sort the file by time")
        elif play.arrival_s == last_s and not equal:
            errors.bad(play.row, f"the same time twice: {last_s:.16g} s (trace.equal_times=allow accepts it)")
        else:
            last_s = play.arrival_s
            yield play


def spread(plays: Iterator[Play], window_s: float, rng: np.random.Generator) -> Iterator[Play]:
    """Plays of equal time spread uniformly over ``window_s`` (or up to the next time, if that comes sooner).

    A lone play stays at its time.
    """
    batch: list[Play] = []
    for play in plays:
        if batch and play.arrival_s != batch[0].arrival_s:
            yield from _apart(batch, min(window_s, play.arrival_s - batch[0].arrival_s), rng)
            batch = []
        batch.append(play)
    yield from _apart(batch, window_s, rng)


def _apart(batch: list[Play], window_s: float, rng: np.random.Generator) -> Iterator[Play]:
    if len(batch) < 2:
        yield from batch
        return
    for play, place in zip(batch, np.sort(rng.random(len(batch))).tolist(), strict=True):
        yield play._replace(arrival_s=play.arrival_s + window_s * place)


def ordered(
    plays: Iterator[Play], errors: RowErrors, equal_times: str, window_s: float, rng: np.random.Generator
) -> Iterator[Play]:
    """``in_order``, with equal times refused, allowed or spread."""
    checked = in_order(plays, errors, equal=equal_times != "refuse")
    return spread(checked, window_s, rng) if equal_times == "spread" else checked
