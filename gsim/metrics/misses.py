"""Why requests were not good: one cause each, by a rule over a request's own row.

A late request has the first cause of this order that is true of it: its instance crashed and it was sent again; it was
moved; it was preempted; it generated so many tokens more than was predicted that it would have been in time without
them; it waited for its first token for longer than it was late (at the gateway, or in the engine, whichever took
longer); else its decoding alone was too slow for the deadline. The rule names what happened to a request. It does not
say that it would have been in time elsewhere, nor that a request that was moved would have been without the move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsim.core import Status

REFUSED, FAILED, CUT, LIMITS = "refused", "failed", "cut", "other limits"
RETRIED, MOVED, PREEMPTED, LONGER = "crash", "moved", "preempted", "longer than predicted"
HELD, QUEUED, SLOW = "held at the gateway", "queue and prefill", "slow card"

#: Cause -> what it says of a request; in the order in which the first that is true is taken.
CAUSES: Mapping[str, str] = {
    REFUSED: "refused by the router or the engine, or held for longer than max_hold_s",
    FAILED: "lost with its instance, or dependent on a request that was",
    CUT: "still open, or yet to arrive, when the run stopped",
    LIMITS: "within its deadline, but beyond a further limit of `goodput`, or cut short by the engine",
    RETRIED: "its instance crashed, and it was sent again",
    MOVED: "moved to another instance on the way (which may have been the attempt to save it)",
    PREEMPTED: "preempted by its engine at least once",
    LONGER: "in time without the tokens that it generated beyond the prediction, at its own pace",
    HELD: "in time without the wait for its first token, most of it at the gateway",
    QUEUED: "in time without the wait for its first token, most of it in the engine: queue and prefill",
    SLOW: "none of these: its decoding alone was too slow for the deadline",
}


def late_s(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """By how many seconds each request missed its end-to-end objective; NaN where it did not finish."""
    return np.asarray(rows["finished_s"] - rows["arrival_s"] - rows["slo_s"], dtype=np.float64)


def causes(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """The cause of each row, all of them requests that were not good (columns as in ``RunResult.requests``)."""
    late = late_s(rows)
    decode_s = rows["finished_s"] - rows["first_token_s"]
    per_token_s = decode_s / np.maximum(rows["generated_tokens"] - 1, 1)
    surplus_s = (rows["generated_tokens"] - rows["predicted_tokens"]) * per_token_s
    gateway_s = rows["dispatched_s"] - rows["arrival_s"]
    waited_s = rows["first_token_s"] - rows["arrival_s"]
    status = rows["status"]
    conditions = [
        status == Status.REJECTED,
        status == Status.FAILED,
        status == Status.CUT,
        late <= 0.0,
        rows["retries"] > 0,
        rows["migrations"] > 0,
        rows["preemptions"] > 0,
        surplus_s >= late,
        (waited_s >= late) & (gateway_s >= waited_s - gateway_s),
        waited_s >= late,
    ]
    return np.select(conditions, list(CAUSES)[:-1], default=SLOW).astype(str)
