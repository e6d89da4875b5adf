"""The early part of a recorded run: all that a fit looks at."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from gsim.latency import Profile
from gsim.validation.correction import Correction
from gsim.validation.ground_truth import GroundTruth, replay_truth

Floats = NDArray[np.float64]


class EarlyPart:
    """The early part of a run, and how far replays of it are from what happened."""

    def __init__(self, truth: GroundTruth, profile: Profile, until_s: float) -> None:
        self.truth = truth
        self.profile = profile
        self.until_s = until_s
        # A client's clock does not see when a request starts.
        self._names = (
            ("first_token_s", "last_token_s") if truth.from_client else ("scheduled_s", "first_token_s", "last_token_s")
        )
        self._real = [times_of(truth, name) for name in self._names]
        self.times = np.concatenate([times[times <= until_s] for times in self._real])
        # A replay that is late gets the time to show how much.
        self._replayed_s = 1.25 * until_s + 1.0

    def iteration_s(self) -> float:
        """Mean time of an iteration with the plain sum."""
        replayed = replay_truth(self.truth, self.profile, self.until_s).iterations
        return float(np.mean([iteration.end_s - iteration.start_s for iteration in replayed]))

    def lags_s(self, correction: Correction) -> Floats:
        """How much later than in the run each time of the early part comes in the replay."""
        replayed = self._replay(correction)
        simulated = np.concatenate(
            [replayed[name][real <= self.until_s] for name, real in zip(self._names, self._real, strict=True)]
        )
        lags: Floats = simulated - self.times
        return lags

    def stretches_s(self, correction: Correction) -> Floats:
        """How much longer than in the run the replay takes from each time of a request to its next, of those whose next
        is in the early part; and the same shortened, so that nothing can be a lag that all have in common."""
        replayed = self._replay(correction)
        longer = []
        for (begin, began), (end, ended) in itertools.pairwise(zip(self._names, self._real, strict=True)):
            seen = ended <= self.until_s
            longer.append(((replayed[end] - replayed[begin]) - (ended - began))[seen])
        stretches = np.concatenate(longer)
        return np.concatenate([stretches, -stretches])

    def _replay(self, correction: Correction) -> dict[str, Floats]:
        ours = replay_truth(self.truth, correction.applied(self.profile), self._replayed_s)
        return {name: np.nan_to_num(getattr(ours, name), nan=self._replayed_s) for name in self._names}


def times_of(truth: GroundTruth, name: str) -> Floats:
    """One of a run's times, of every request, in seconds."""
    return truth.requests[name].to_numpy(dtype=np.float64)
