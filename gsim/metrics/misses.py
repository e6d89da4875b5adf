"""Why requests were not good: one cause each, by a rule over a request's own row.

A late request has the first cause of this order that is true of it: it was moved; it was preempted; it generated so
many tokens more than was predicted that it would have been in time without them; it waited for its first token for
longer than it was late; else its decoding alone was too slow for the deadline. The rule names what happened to a
request. It does not say that it would have been in time elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsim.core import Status

REFUSED, FAILED, CUT, LIMITS = "refused", "failed", "cut", "other limits"
MOVED, PREEMPTED, LONGER, WAITED, SLOW = "moved", "preempted", "longer than predicted", "waited", "slow card"
#: All causes, in the order in which the first that is true is taken.
CAUSES = (REFUSED, FAILED, CUT, LIMITS, MOVED, PREEMPTED, LONGER, WAITED, SLOW)


def late_s(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """By how many seconds each request missed its end-to-end objective; NaN where it did not finish."""
    return np.asarray(rows["finished_s"] - rows["arrival_s"] - rows["slo_s"], dtype=np.float64)


def causes(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """The cause of each row, all of them requests that were not good (columns as in ``RunResult.requests``)."""
    late = late_s(rows)
    decode_s = rows["finished_s"] - rows["first_token_s"]
    per_token_s = decode_s / np.maximum(rows["generated_tokens"] - 1, 1)
    surplus_s = (rows["generated_tokens"] - rows["predicted_tokens"]) * per_token_s
    status = rows["status"]
    conditions = [
        status == Status.REJECTED,
        status == Status.FAILED,
        status == Status.CUT,
        late <= 0.0,
        rows["migrations"] > 0,
        rows["preemptions"] > 0,
        surplus_s >= late,
        rows["first_token_s"] - rows["arrival_s"] >= late,
    ]
    return np.select(conditions, list(CAUSES[:-1]), default=SLOW).astype(str)
