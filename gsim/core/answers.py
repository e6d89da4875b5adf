"""What policies answered, checked: an answer that cannot be meant ends the run with an error that says whose it was.

The usual answers are told apart where they are asked for, at no cost; here is what becomes of the others.
"""

from __future__ import annotations

import math
from types import FrameType, TracebackType
from typing import Any, Final

import numpy as np

from gsim.core.decision import Drain, Migration, Start
from gsim.core.errors import ConfigError, GsimError, InputError, SimulationError
from gsim.core.registry import name_of
from gsim.core.scheduling import QUANTILES
from gsim.core.slots import Slots, SlotState
from gsim.core.view import ActiveRequests, ClusterView, Floats

# Made once: to join types by ``|`` where they are asked for costs more than the question.
_WHOLE: Final = (int, np.integer)
_NUMBER: Final = (int, float, np.integer, np.floating)

#: What is done at shorter intervals than this keeps a run from getting on.
LEAST_INTERVAL_S: Final = 1e-6


def title(group: str, policy: object) -> str:
    """What errors call a policy: its group and registered name, or its class."""
    name = name_of(group, policy)
    return f"{group} '{name}'" if name else f"{group} {type(policy).__name__}"


def instance_of(answer: object, size: int, policy: str, request_id: int) -> int:
    """A router's answer as the index of an instance (``HOLD`` and ``REJECT`` are told apart before)."""
    if type(answer) is int and 0 <= answer < size:
        return answer
    if isinstance(answer, _WHOLE) and not isinstance(answer, bool) and 0 <= answer < size:
        return int(answer)
    allowed = f"an instance's index (a whole number from 0 to {size - 1}), HOLD or REJECT"
    raise SimulationError(f"{policy} answered {_shown(answer)} for request {request_id}; allowed: {allowed}")


def tokens_of(answer: object, policy: str, request_id: int) -> float:
    """A predictor's answer as a number of tokens."""
    if type(answer) is float and 0.0 < answer < math.inf:
        return answer
    if isinstance(answer, _NUMBER) and not isinstance(answer, bool):
        tokens = float(answer)
        if 0.0 < tokens < math.inf:
            return tokens
    raise SimulationError(
        f"{policy} predicted {_shown(answer)} for request {request_id}; allowed: a finite number of tokens above 0"
    )


def quantiles_of(answer: object, policy: str, request_id: int) -> tuple[float, ...]:
    """An answer of ``predict_quantiles`` as lengths at ``QUANTILES``."""
    given = np.asarray(answer)
    if given.shape == (len(QUANTILES),) and given.dtype.kind in "iuf":
        lengths = given.astype(np.float64)
        if lengths[0] > 0.0 and lengths[-1] < math.inf and bool((np.diff(lengths) >= 0.0).all()):
            return tuple(lengths.tolist())
    raise SimulationError(
        f"{policy} predicted the quantiles {_shown(answer)} for request {request_id}; allowed: {len(QUANTILES)} finite "
        "numbers of tokens above 0 that never fall"
    )


def all_tokens_of(answer: object, request_ids: np.ndarray[Any, Any], predictor: object) -> np.ndarray[Any, Any]:
    """Answers of ``repredict`` as an array of one number per request."""
    given = np.asarray(answer)
    if given.shape != request_ids.shape or given.dtype.kind not in "iuf":
        raise SimulationError(
            f"{title('predictor', predictor)} predicted {_shown(answer)} for {len(request_ids)} requests at once; "
            "allowed: an array of one number per request"
        )
    tokens = given.astype(np.float64, copy=False)
    right = (tokens > 0.0) & (tokens < math.inf)
    if np.count_nonzero(right) < len(right):
        wrong = int(right.argmin())
        tokens_of(float(tokens[wrong]), title("predictor", predictor), int(request_ids[wrong]))
    return tokens


def key_of(answer: object, policy: str, request_id: int) -> float:
    """A router's ``queue_key`` as a number."""
    if isinstance(answer, _NUMBER) and not math.isnan(answer):
        return float(answer)
    raise SimulationError(
        f"{policy} gave the queue key {_shown(answer)} to request {request_id}; allowed: a number, and not NaN"
    )


def migrations_of(answer: object, size: int, policy: str) -> list[Migration]:
    """A rectifier's answer as migrations."""
    try:
        moves = list(answer)  # type: ignore[call-overload]
    except TypeError:
        raise SimulationError(
            f"{policy} answered {_shown(answer)} to a review; allowed: a sequence of Migration (empty: nobody moves)"
        ) from None
    return [_migration(move, size, policy) for move in moves]


def require_allowed(moves: list[Migration], active: ActiveRequests, policy: str) -> None:
    """Every migration is of a request that was in the ``active`` of the review, to another instance than its own.

    ``SimulationError`` else: what a rectifier could know is its fault. What changed since is not (a move is refused).
    """
    if not moves:
        return
    instance_of_request = dict(zip(active.request_id.tolist(), active.instance.tolist(), strict=True))
    for move in moves:
        at = instance_of_request.get(move.request_id)
        if at is None or at == move.target:
            what = f"{policy} moves request {move.request_id} to instance {move.target}"
            if at is None:
                raise SimulationError(f"{what}; allowed: a request of the {len(active)} in the active of this review")
            raise SimulationError(f"{what}, where it is; allowed: another instance")


def _migration(move: object, size: int, policy: str) -> Migration:
    if not isinstance(move, Migration):
        raise SimulationError(f"{policy} answered {_shown(move)} to a review; allowed: Migration(request_id, target)")
    whole = [isinstance(n, _WHOLE) and not isinstance(n, bool) for n in (move.request_id, move.target)]
    if not all(whole) or not 0 <= move.target < size:
        raise SimulationError(
            f"{policy} moves request {_shown(move.request_id)} to instance {_shown(move.target)}; "
            f"allowed: the id of a request in flight, and an instance from 0 to {size - 1}"
        )
    return Migration(int(move.request_id), int(move.target), move.reason)


def require_learned(view: ClusterView, policy: str) -> None:
    """What an estimator has written is finite, a queue 0 or more, a speed above 0; ``SimulationError`` else."""
    queue_s, prefill_s, tpot_s = view.queue_s, view.prefill_s_per_token, view.tpot_s
    if _are_times(queue_s, or_zero=True) and _are_times(prefill_s) and _are_times(tpot_s):
        return
    for name, signal in (("queue_s", queue_s), ("prefill_s_per_token", prefill_s), ("tpot_s", tpot_s)):
        right = (signal >= 0.0 if name == "queue_s" else signal > 0.0) & (signal < math.inf)
        if not right.all():
            wrong = int(right.argmin())
            allowed = "0 or more" if name == "queue_s" else "above 0"
            raise SimulationError(
                f"{policy} says {name} = {float(signal[wrong])} for instance {wrong}; "
                f"allowed: a finite number of seconds {allowed}"
            )


def scalings_of(answer: object, slots: Slots, view: ClusterView, policy: str) -> list[Start | Drain]:
    """A scaler's answer: what is off starts, what is up or booting stops, and something that can be sent to is left.

    ``SimulationError`` else.
    """
    try:
        asked = list(answer)  # type: ignore[call-overload]
    except TypeError:
        raise SimulationError(
            f"{policy} answered {_shown(answer)} to a review; allowed: a sequence of Start and Drain (empty: no change)"
        ) from None
    found: dict[int, Start | Drain] = {}
    for one in asked:
        if isinstance(one, (Start, Drain)) and one.slot in found:
            raise SimulationError(f"{policy} names slot {one.slot} twice in one review; allowed: once")
        made = _scaling(one, slots, policy)
        found[made.slot] = made
    drained = [one.slot for one in found.values() if isinstance(one, Drain)]
    left = np.array(view.available, dtype=np.bool_)
    left[drained] = False
    if bool(view.available[drained].any()) and not bool(left.any()):
        raise SimulationError(
            f"{policy} drains every instance that can be sent to (slots {drained}); allowed: at least one is left"
        )
    return list(found.values())


def _scaling(one: object, slots: Slots, policy: str) -> Start | Drain:
    if not isinstance(one, (Start, Drain)):
        raise SimulationError(f"{policy} answered {_shown(one)} to a review; allowed: Start(slot) or Drain(slot)")
    what = f"{policy} answered {type(one).__name__}({one.slot!r})"
    if not isinstance(one.slot, _WHOLE) or isinstance(one.slot, bool) or not 0 <= one.slot < len(slots):
        raise SimulationError(f"{what}; allowed: a slot, a whole number from 0 to {len(slots) - 1}")
    state = SlotState(int(slots.state[one.slot]))
    starts = isinstance(one, Start)
    allowed = (SlotState.OFF,) if starts else (SlotState.UP, SlotState.BOOTING)
    if state not in allowed:
        names = " or ".join(known.name.lower() for known in allowed)
        raise SimulationError(f"{what}, which is {state.name.lower()}; allowed: a slot that is {names}")
    return Start(int(one.slot)) if starts else Drain(int(one.slot))


def _are_times(seconds: Floats, or_zero: bool = False) -> bool:
    """Whether all are finite and above 0 (or 0)."""
    # One by one: asking NumPy for the least and the largest of a few numbers costs thousands of instructions.
    each: list[float] = seconds.tolist()
    return all(0.0 < one < math.inf or (or_zero and one == 0.0) for one in each)


def interval_of(policy_object: Any, policy: str) -> float:
    """Seconds between two reviews of a rectifier or a scaler (``inf``: none)."""
    interval_s = policy_object.interval_s
    if isinstance(interval_s, _NUMBER) and interval_s >= LEAST_INTERVAL_S:
        return float(interval_s)
    allowed = f"{LEAST_INTERVAL_S:g} seconds or more (inf: no reviews)"
    raise SimulationError(f"{policy} has interval_s = {_shown(interval_s)}; allowed: {allowed}")


def failure_of(error: BaseException, policies: dict[str, object]) -> GsimError | None:
    """An error that came out of a policy (group -> policy), told as one; None where it came from somewhere else.

    An error that gsim raises on purpose keeps its words; None where they begin with whose it is already.

    The policy is found in the traceback: asking for it at every call would cost every call.
    """
    if isinstance(error, KeyboardInterrupt):
        return None
    meant = isinstance(error, GsimError)
    if meant and str(error).startswith(tuple(title(group, policy) for group, policy in policies.items())):
        return None
    found = None
    cause: BaseException | None = error
    while cause is not None and found is None:
        # It may have been raised anew on its way, from the original.
        found = _innermost(cause.__traceback__, policies)
        cause = cause.__cause__
    if found is None:
        return None
    group, frame, line = found
    request = frame.f_locals.get("request")
    of = "" if request is None else f" for request {getattr(request, 'request_id', request)}"
    if meant:
        kind = next((known for known in (ConfigError, InputError) if isinstance(error, known)), SimulationError)
        return kind(f"{title(group, policies[group])} in {frame.f_code.co_name}(){of}: {error}")
    said = str(error) or "without a word"
    where = f"{frame.f_code.co_filename}:{line}"
    what = f"{type(error).__name__}: {said}"
    return SimulationError(f"{title(group, policies[group])} failed in {frame.f_code.co_name}(){of}: {what} ({where})")


def _innermost(trace: TracebackType | None, policies: dict[str, object]) -> tuple[str, FrameType, int] | None:
    found = None
    while trace is not None:
        # Whatever a method calls its own object, it comes first.
        code = trace.tb_frame.f_code
        owner = trace.tb_frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        for group, policy in policies.items():
            if owner is not None and owner is policy:
                found = group, trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next
    return found


def _shown(answer: object) -> str:
    text = repr(answer)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(answer).__name__})"
