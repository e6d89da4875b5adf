"""What a real run is asked for: an iteration's time beside the sum of its operators, fitted to the run's beginning.

That time belongs to a card *and* an engine (kernels launched back to back, fused, or in a CUDA graph save some; the
engine's loop adds some), so no folder of operator tables can hold it. It is fitted anew to every run by one rule: on
what happened until the first requests had finished, and nothing later. Whatever started after that judges it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsim.latency import OperatorModel, Profile
from gsim.latency.communication import LARGE_FROM
from gsim.validation.ground_truth import GroundTruth, replay_truth
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
class Correction:
    """What is changed of the operators' sum."""

    overhead_s: float = 0.0
    """Seconds per iteration beside the sum; below 0: less than the sum."""
    attention: float = 1.0
    """Factor on measured attention."""
    token_s: float = 0.0
    """Seconds of one all-reduce per token in it, where several cards share the layers and none is stated ..."""
    large_token_s: float = 0.0
    """... and per token beyond those of a small message."""
    share: float | None = None
    """Share of independent choice in the experts that a batch activates; None: as the profile has it."""
    preference: float | None = None
    """Exponent of the preference for some experts; None: as the profile has it."""

    def applied(self, profile: Profile) -> Profile:
        """The profile with this correction; one that is not made of operators as it is."""
        latency = profile.latency
        if not isinstance(latency, OperatorModel):
            return profile
        tables = latency.tables
        if self.attention != 1.0:
            decode_s, mixed_s = tables.decode_s * self.attention, tables.mixed_s * self.attention
            tables = dataclasses.replace(tables, decode_s=decode_s, mixed_s=mixed_s)
        communication, activation = latency.communication, latency.activation
        if self.token_s or self.large_token_s:
            communication = dataclasses.replace(communication, token_s=self.token_s, large_token_s=self.large_token_s)
        if self.share is not None and activation is not None:
            activation = dataclasses.replace(activation, share=self.share, preference=self.preference or 0.0)
        corrected = dataclasses.replace(
            latency,
            tables=tables,
            overhead_s=latency.overhead_s + self.overhead_s,
            communication=communication,
            activation=activation,
        )
        return dataclasses.replace(profile, latency=corrected)


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
        return late if late.mean() >= LEAST_LATE else _times(truth, "last_token_s") > self.until_s


def fit_correction(truth: GroundTruth, profile: Profile) -> Fit:
    """Fit operator tables to the early part of a run.

    An overhead per iteration; with a factor on attention beside it where that takes away much of the error that the
    overhead alone leaves.
    """
    last = np.sort(_times(truth, "last_token_s"))
    if not isinstance(profile.latency, OperatorModel):
        return _refuse("iterations of this profile were measured whole")
    unknown = _unknown(profile.latency)
    finished = max(LEAST_FINISHED, math.ceil((EARLY_SHARE_OF_SEVERAL if unknown else EARLY_SHARE) * len(last)))
    # A microsecond, so that rounding does not part what ended together.
    until_s = float(last[min(finished, len(last)) - 1]) + 1e-6
    finished = int((last <= until_s).sum())
    if finished > MOST_FINISHED * len(last):
        return _refuse(f"{finished} of {len(last)} requests are too many to fit, and fewer say too little")
    early = _Early(truth, profile, until_s)
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


def _fit(early: _Early, finished: int) -> Fit:
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


def _fit_several(early: _Early, finished: int, unknown: list[str]) -> Fit:
    """An overhead together with what the tables do not hold: communication, activated experts; attention as elsewhere.

    All numbers at once, from several starts: an all-reduce looks like an overhead and a queue admits whom it admits, so
    the distance has many bottoms; and how many experts a batch meets is no straight line.
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

    def search(names: list[str], start: list[float]) -> Several:
        low, high = np.array([ranges[name] for name in names]).T
        return least_distance_of(lambda x: early.lags_s(_correction(names, x)), np.array(start), low, high)

    names = ["overhead_s", *unknown]
    places = [[(1.0 - part) * ranges[name][0] + part * ranges[name][1] for part in _STARTS[name]] for name in unknown]
    one = min((search(names, [0.0, *start]) for start in itertools.product(*places)), key=lambda found: found.distance)
    if abs(one.numbers[0]) > 0.98 * widest_s:
        why = f"the best overhead lies beyond {1e3 * widest_s:.1f} ms, half an iteration: not this profile's run"
        return _refuse(why)
    both = search([*names, "attention"], [*one.numbers, 1.0])
    inside = abs(both.numbers[-1] - 1.0) < WIDEST_ATTENTION - 1e-6 and abs(both.numbers[0]) < 0.98 * widest_s
    if not inside or both.distance > (1.0 - WORTH_ATTENTION) * one.distance:
        correction, error_s = _correction(names, one.numbers), one.distance
    else:
        correction, error_s = _correction([*names, "attention"], both.numbers), both.distance
    plain_error_s = spread(early.lags_s(Correction()))
    return Fit(correction, early.until_s, finished, len(early.times), plain_error_s, one.distance, error_s)


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


class _Early:
    """The early part of a run, and how far replays of it are from what happened."""

    def __init__(self, truth: GroundTruth, profile: Profile, until_s: float) -> None:
        self.truth = truth
        self.profile = profile
        self.until_s = until_s
        # A client's clock does not see when a request starts.
        self._names = (
            ("first_token_s", "last_token_s") if truth.from_client else ("scheduled_s", "first_token_s", "last_token_s")
        )
        self._real = [_times(truth, name) for name in self._names]
        self.times = np.concatenate([times[times <= until_s] for times in self._real])
        # A replay that is late gets the time to show how much.
        self._replayed_s = 1.25 * until_s + 1.0

    def iteration_s(self) -> float:
        """Mean time of an iteration with the plain sum."""
        replayed = replay_truth(self.truth, self.profile, self.until_s).iterations
        return float(np.mean([iteration.end_s - iteration.start_s for iteration in replayed]))

    def lags_s(self, correction: Correction) -> Floats:
        """How much later than in the run each time of the early part comes in the replay."""
        ours = replay_truth(self.truth, correction.applied(self.profile), self._replayed_s)
        replayed = (np.nan_to_num(getattr(ours, name), nan=self._replayed_s) for name in self._names)
        simulated = np.concatenate([x[real <= self.until_s] for x, real in zip(replayed, self._real, strict=True)])
        lags: Floats = simulated - self.times
        return lags


def _times(truth: GroundTruth, name: str) -> Floats:
    return truth.requests[name].to_numpy(dtype=np.float64)


def _starts(truth: GroundTruth) -> Floats:
    return _times(truth, "first_token_s" if truth.from_client else "scheduled_s")
