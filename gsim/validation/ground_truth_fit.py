"""What a real run is asked for: an iteration's time beside the sum of its operators, fitted to the run's beginning.

That time belongs to a card *and* an engine (kernels launched back to back, fused, or in a CUDA graph save some; the
engine's loop adds some), so no folder of operator tables can hold it. It is fitted anew to every run by one rule: on
what happened until the first requests had finished, and nothing later. Whatever started after that judges it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsim.latency import OperatorModel, Profile
from gsim.latency.communication import LARGE_FROM
from gsim.validation.correction import Correction
from gsim.validation.early_part import EarlyPart, times_of
from gsim.validation.ground_truth import GroundTruth
from gsim.validation.least_distance import Found, Several, least_distance, least_distance_of, spread

Floats = NDArray[np.float64]

#: The early part ends when so large a share of the requests has finished ...
EARLY_SHARE = 0.05
#: ... or, where more than an overhead is to be found, so large a one ...
EARLY_SHARE_OF_SEVERAL = 0.15
#: ... and at least so many: fewer say too little about decoding.
LEAST_FINISHED = 10
#: ... but at most this share: a fit to most of a run judges nothing.
MOST_FINISHED = 0.34
#: What started later judges; where that is less than this share of the requests, what finished later.
LEAST_LATE = 0.25
#: The overhead is looked for within this share of a plain iteration to either side: what lies beyond is no overhead.
WIDEST_OVERHEAD = 0.25
#: The attention factor is looked for within this of 1.
WIDEST_ATTENTION = 0.2
#: A second number must take away so large a share of the error that the first one leaves.
WORTH_ATTENTION = 0.2


@dataclass(frozen=True)
class Fit:
    """What was fitted, on what, and how well it holds there."""

    correction: Correction
    """None at all where ``refused``."""
    until_s: float
    """End of the early part: nothing that happened later was looked at."""
    finished: int
    """Requests that had finished by then."""
    times: int
    """Times compared: starts, first and last tokens by then."""
    plain_error_s: float = math.nan
    """Mean distance of those times from the replay's, with the plain sum, a common lag taken off."""
    overhead_error_s: float = math.nan
    """The same with the best overhead alone."""
    error_s: float = math.nan
    """The same with ``correction``."""
    refused: str = ""
    """Why nothing was fitted; empty where something was."""

    def __str__(self) -> str:
        if self.refused:
            return f"nothing fitted, the plain sum of the operators is used: {self.refused}"
        said = f"fitted: {1e3 * self.correction.overhead_s:+.2f} ms per iteration beside the sum of its operators"
        if self.correction.token_s or self.correction.large_token_s:
            said += (
                f", {1e6 * self.correction.token_s:.3f} us per token in each all-reduce, beyond {LARGE_FROM} tokens "
                f"{1e6 * self.correction.large_token_s:.3f} us (the tables hold none)"
            )
        if self.correction.share is not None:
            said += (
                f", experts activated: {self.correction.share:.2f} of what independent choice with preference "
                f"{self.correction.preference:.2f} would add to those of one token"
            )
        if self.correction.attention != 1.0:
            said += f", and attention x{self.correction.attention:.3f}"
        said += (
            f", on {self.times} times (starts, first and last tokens) of the first {self.until_s:.1f} s, when "
            f"{self.finished} requests had finished; mean difference there {1e3 * self.error_s:.0f} ms, "
            f"{1e3 * self.plain_error_s:.0f} ms with the plain sum"
        )
        if self.correction.attention != 1.0:
            said += f", {1e3 * self.overhead_error_s:.0f} ms without the factor on attention"
        return said

    def held_out(self, truth: GroundTruth) -> NDArray[np.bool_]:
        """Requests that judge: those of which nothing was looked at, or if too few, those whose end was not."""
        late: NDArray[np.bool_] = _starts(truth) > self.until_s
        return late if late.mean() >= LEAST_LATE else times_of(truth, "last_token_s") > self.until_s


def fit_correction(truth: GroundTruth, profile: Profile) -> Fit:
    """Fit operator tables to the early part of a run.

    An overhead per iteration; with a factor on attention beside it where that takes away much of the error that the
    overhead alone leaves.
    """
    last = np.sort(times_of(truth, "last_token_s"))
    if not isinstance(profile.latency, OperatorModel):
        return _refuse("iterations of this profile were measured whole")
    unknown = _unknown(profile.latency)
    finished = max(LEAST_FINISHED, math.ceil((EARLY_SHARE_OF_SEVERAL if unknown else EARLY_SHARE) * len(last)))
    # A microsecond, so that rounding does not part what ended together.
    until_s = float(last[min(finished, len(last)) - 1]) + 1e-6
    finished = int((last <= until_s).sum())
    if finished > MOST_FINISHED * len(last):
        return _refuse(f"{finished} of {len(last)} requests are too many to fit, and fewer say too little")
    early = EarlyPart(truth, profile, until_s)
    return _fit_several(early, finished, unknown) if unknown else _fit(early, finished)


def _unknown(latency: OperatorModel) -> list[str]:
    """What the tables do not hold and the profile does not state."""
    unknown = []
    if latency.communication.messages and not (latency.communication.message_s or latency.communication.token_s):
        unknown += ["token_s", "large_token_s"]
    activation = latency.activation
    if activation is not None and not activation.curve and (activation.share, activation.preference) == (1.0, 0.0):
        unknown += ["share", "preference"]
    return unknown


def _refuse(why: str) -> Fit:
    return Fit(Correction(), 0.0, 0, 0, refused=why)


def _fit(early: EarlyPart, finished: int) -> Fit:
    widest_s = WIDEST_OVERHEAD * early.iteration_s()

    def best(attention: float, start_s: float) -> Found:
        return least_distance(lambda x: early.lags_s(Correction(x, attention)), start_s, widest_s)

    plain_error_s = spread(early.lags_s(Correction()))
    one = best(1.0, 0.0)
    if abs(one.number) > 0.98 * widest_s:
        why = (
            f"the best overhead lies beyond {1e3 * widest_s:.1f} ms, a quarter of an iteration: not this run's profile"
        )
        return _refuse(why)
    attention, both = _scan_attention(best, one)
    inside = abs(attention - 1.0) < WIDEST_ATTENTION - 1e-6 and abs(both.number) < 0.98 * widest_s
    if not inside or both.distance > (1.0 - WORTH_ATTENTION) * one.distance:
        attention, both = 1.0, one
    correction = Correction(both.number, attention)
    return Fit(correction, early.until_s, finished, len(early.times), plain_error_s, one.distance, both.distance)


def _fit_several(early: EarlyPart, finished: int, unknown: list[str]) -> Fit:
    """An overhead together with what the tables do not hold: communication, activated experts; and attention.

    All numbers at once. An all-reduce looks like an overhead, and whom a queue admits changes when anything does, so
    the distance between times has many bottoms. How long each request decoded and prefilled depends little on when it
    was admitted: those durations lead, from several starts, to where the times are compared.
    """
    # An all-reduce has a time of its own however small it is, which looks like an overhead: so the range is wider.
    widest_s = 2.0 * WIDEST_OVERHEAD * early.iteration_s()
    latency = early.profile.latency
    assert isinstance(latency, OperatorModel)
    # Less than nothing is no time: of the shortest iteration a fifth is left.
    ranges = {
        "overhead_s": (-min(widest_s, 0.8 * latency.least_s), widest_s),
        # From nothing to the bus of a slow PCIe host: 4 GB/s.
        "token_s": (0.0, 2 * early.profile.model.hidden / 4e9),
        "large_token_s": (0.0, 2 * early.profile.model.hidden / 4e9),
        "share": (0.0, 1.0),
        "preference": (0.0, 3.0),
        "attention": (1.0 - WIDEST_ATTENTION, 1.0 + WIDEST_ATTENTION),
    }
    names = ["overhead_s", *unknown, "attention"]
    low, high = np.array([ranges[name] for name in names]).T

    def by_durations(start: Floats) -> Several:
        return least_distance_of(lambda x: early.stretches_s(_correction(names, x)), start, low, high)

    def by_times(start: Floats) -> Several:
        return least_distance_of(lambda x: early.lags_s(_correction(names, x)), start, low, high)

    places = [[(1.0 - part) * ranges[name][0] + part * ranges[name][1] for part in _STARTS[name]] for name in unknown]
    starts = (np.array([0.0, *start, 1.0]) for start in itertools.product(*places))
    begun = min((by_durations(start) for start in starts), key=lambda found: found.distance)
    best = by_times(begun.numbers)
    for _ in range(_TURNS):
        again = by_times(by_durations(best.numbers).numbers)
        if again.distance >= best.distance:
            break
        best = again
    if abs(best.numbers[0]) > 0.98 * widest_s:
        why = f"the best overhead lies beyond {1e3 * widest_s:.1f} ms, half an iteration: not this profile's run"
        return _refuse(why)
    plain_error_s = spread(early.lags_s(Correction()))
    without_s = spread(early.lags_s(_correction(names[:-1], best.numbers[:-1])))
    correction = _correction(names, best.numbers)
    return Fit(correction, early.until_s, finished, len(early.times), plain_error_s, without_s, best.distance)


#: So often durations and times take turns at most.
_TURNS = 3
#: Where the search for a number begins, as shares of its range.
_STARTS = {"token_s": (0.05, 0.1, 0.35), "large_token_s": (0.05, 0.15), "share": (0.4, 0.95), "preference": (0.05, 0.4)}


def _correction(names: list[str], numbers: Floats) -> Correction:
    return Correction(**dict(zip(names, numbers.tolist(), strict=True)))


def _scan_attention(best: Callable[[float, float], Found], one: Found) -> tuple[float, Found]:
    """The factor on attention with the least distance, in steps of a quarter of the range, an eighth, a sixteenth."""
    known = {0: one}
    for stride in (4, 2, 1):
        while True:
            here = min(known, key=lambda k: (known[k].distance, abs(k)))
            tries = [k for k in (here - stride, here + stride) if abs(k) <= 16 and k not in known]
            if not tries:
                break
            for k in tries:
                known[k] = best(1.0 + WIDEST_ATTENTION * k / 16, known[here].number)
    here = min(known, key=lambda k: (known[k].distance, abs(k)))
    return 1.0 + WIDEST_ATTENTION * here / 16, known[here]


def _starts(truth: GroundTruth) -> Floats:
    return times_of(truth, "first_token_s" if truth.from_client else "scheduled_s")
