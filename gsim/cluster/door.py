"""The door: every session is looked at as it comes in, so that no run waits for what can never happen.

Traces from files were checked as they were read; a trace of one's own, or sessions made in a notebook, come here first.
"""

from __future__ import annotations

from math import inf
from typing import Final

from gsim.core import Dependency, Job, Session, TraceError

_WHOLE = (
    *("request_id", "prompt_tokens", "max_output_tokens", "session_id", "turn", "priority"),
    *("output_tokens", "output_segment"),
)
#: Ids and counts are kept in 64 bits, and sums of counts too.
_MOST: Final = 2**62
_MOST_TOKENS: Final = 2**40
#: Smaller numbers are compared at once, without asking for their length.
_USUAL: Final = 2**60


class Seen:
    """Whole numbers that have come by: those in one run as its two ends, the others one by one."""

    __slots__ = ("_end", "_first", "_others")

    def __init__(self) -> None:
        self._first = 0
        self._end = 0
        self._others: set[int] = set()

    def add(self, number: int) -> bool:
        """Whether the number is new."""
        if number == self._end:
            self._end += 1
            return not self._others or number not in self._others
        if self._first <= number < self._end or number in self._others:
            return False
        if self._first == self._end:
            # The first one of all need not be 0.
            self._first, self._end = number, number + 1
        else:
            self._others.add(number)
        return True


class Door:
    """Refuses, with a ``TraceError`` that names session and request, what could not be simulated to an end."""

    __slots__ = ("_requests", "_sessions")

    def __init__(self) -> None:
        self._requests = Seen()
        self._sessions = Seen()

    def check(self, session: Session) -> None:
        """Look at a session that has come, or is the next to come."""
        if not _is_usual_session(session):
            _check_session(session)
        jobs = session.jobs
        if not jobs:
            raise _refused(session, "has no request")
        if not self._sessions.add(session.session_id):
            raise _refused(session, "comes a second time: every session has an id of its own")
        alone = len(jobs) == 1 and session.slo_s == inf
        waiting = False
        for job in jobs:
            self._check_job(session, job, alone)
            if job.after:
                waiting = True
        if waiting:
            _check_order(session)

    def _check_job(self, session: Session, job: Job, alone: bool) -> None:
        usual = _is_usual(session, job, alone)
        if not usual:
            _check_types(session, job)
        if not self._requests.add(job.request.request_id):
            raise _refused(session, "comes a second time: every request has an id of its own", job)
        if not usual:
            _check_values(session, job, alone)
        if job.request.content:
            _check_content(session, job)


def _check_session(session: Session) -> None:
    """Raise for what is wrong with a session itself; return if nothing is."""
    # As objects: read by name they would be taken for integers, and fail without saying whose.
    row: tuple[object, ...] = session
    if type(row[0]) is not int:
        raise TraceError("trace", None, f"session {row[0]}: session_id must be an int, not {row[0]!r}")
    if not -_MOST < session.session_id < _MOST:
        raise TraceError("trace", None, f"session {row[0]}: session_id must be between -2^62 and 2^62")
    if not isinstance(row[1], (float, int)):
        raise _refused(session, f"arrival_s must be a number, not {row[1]!r}")
    if not 0.0 <= session.arrival_s < inf:
        raise _refused(session, f"arrives at {session.arrival_s} s; it must be a time from 0 on")
    if not isinstance(row[3], (float, int)):
        raise _refused(session, f"slo_s must be a number, not {row[3]!r}")
    if not session.slo_s > 0.0:
        raise _refused(session, f"slo_s must be greater than 0, not {session.slo_s}")


def _is_usual_session(session: Session) -> bool:
    """Whether ``_check_session`` would find nothing, at a glance."""
    row: tuple[object, ...] = session
    number, arrival_s, slo_s = row[0], row[1], row[3]
    if type(number) is int and type(arrival_s) is float and type(slo_s) is float:
        return -_USUAL < number < _USUAL and 0.0 <= arrival_s < inf and slo_s > 0.0
    return False


def _is_usual(session: Session, job: Job, alone: bool) -> bool:
    """Whether ``_check_types`` and ``_check_values`` would find nothing, as is seen at a glance of nearly every job.

    It is asked of every request: values are taken out by their place in the tuples, which costs a tenth of by name.
    """
    own: tuple[object, ...] = job
    row: tuple[object, ...] = job.request
    output, segment, after = own[1], own[2], own[3]
    number, arrival_s, prompt, cap = row[0], row[1], row[2], row[3]
    slo_s, task, owner, turn, priority = row[4], row[5], row[6], row[7], row[10]
    if not (type(number) is int and type(prompt) is int and type(cap) is int and type(owner) is int):
        return False
    if not (type(turn) is int and type(priority) is int and type(output) is int and type(segment) is int):
        return False
    if not (type(arrival_s) is float and type(slo_s) is float and type(task) is str):
        return False
    ids = -_USUAL < number < _USUAL and -_USUAL < segment < _USUAL and -_USUAL < owner < _USUAL
    ranks = -_USUAL < turn < _USUAL and -_USUAL < priority < _USUAL
    counts = 0 < prompt <= _MOST_TOKENS and 0 < output <= _MOST_TOKENS and 0 < cap < _USUAL
    in_place = (alone or owner == session.session_id) and (bool(after) or arrival_s == session.arrival_s)
    return ids and ranks and counts and slo_s > 0.0 and in_place


def _check_types(session: Session, job: Job) -> None:
    """Raise for the first value that is not what it should be; return if all are (numbers of other types)."""
    row: tuple[object, ...] = job.request
    own: tuple[object, ...] = job
    for name, count in zip(_WHOLE, (row[0], row[2], row[3], row[6], row[7], row[10], own[1], own[2])):
        if type(count) is not int:
            kind = type(count).__name__
            raise _refused(session, f"request {row[0]}: {name} must be an int, not {count!r} ({kind})")
        if not -_MOST < count < _MOST:
            raise _refused(session, f"request {row[0]}: {name} must be between -2^62 and 2^62, not {count}")
    for name, number in (("arrival_s", row[1]), ("slo_s", row[4])):
        if not isinstance(number, (float, int)):
            raise _refused(session, f"request {row[0]}: {name} must be a number, not {number!r}")
    if not isinstance(row[5], str):
        raise _refused(session, f"request {row[0]}: task must be text, not {row[5]!r}")


def _check_values(session: Session, job: Job, alone: bool) -> None:
    """Raise for the first value that cannot be served; return if all can."""
    request = job.request
    if request.prompt_tokens < 1:
        raise _refused(session, f"prompt_tokens must be 1 or more, not {request.prompt_tokens}", job)
    if job.output_tokens < 1:
        raise _refused(session, f"output_tokens must be 1 or more, not {job.output_tokens}", job)
    if request.prompt_tokens > _MOST_TOKENS or job.output_tokens > _MOST_TOKENS:
        most = max(request.prompt_tokens, job.output_tokens)
        raise _refused(session, f"has {most} tokens; prompts and outputs may have 2^40 each", job)
    if request.max_output_tokens < 1:
        raise _refused(session, f"max_output_tokens must be 1 or more, not {request.max_output_tokens}", job)
    if not request.slo_s > 0.0:
        raise _refused(session, f"slo_s must be greater than 0, not {request.slo_s}", job)
    if not job.after and not 0.0 <= request.arrival_s < inf:
        raise _refused(session, f"arrives at {request.arrival_s} s; it must be a time from 0 on", job)
    if not job.after and request.arrival_s != session.arrival_s:
        reason = f"arrives at {request.arrival_s} s, its session at {session.arrival_s} s; without `after` they are one"
        raise _refused(session, reason, job)
    if not alone and request.session_id != session.session_id:
        raise _refused(session, f"says that it belongs to session {request.session_id}", job)


def _check_content(session: Session, job: Job) -> None:
    """The pieces of a prompt are whole, not negative, and make up the prompt."""
    total = 0
    pieces: tuple[object, ...] = job.request.content
    for piece in pieces:
        if not isinstance(piece, tuple) or len(piece) != 2 or type(piece[0]) is not int or type(piece[1]) is not int:
            raise _refused(session, f"content must be pairs of ints (segment, tokens), not {piece!r}", job)
        tokens: int = piece[1]
        if tokens < 0:
            raise _refused(session, f"a piece of content has {tokens} tokens; it must be 0 or more", job)
        total += tokens
    if total != job.request.prompt_tokens:
        raise _refused(session, f"its content has {total} tokens, and its prompt {job.request.prompt_tokens}", job)


def _check_order(session: Session) -> None:
    """Everything that a request waits for is in its session, and can happen before it."""
    before: set[int] = set()
    in_order = True
    for job in session.jobs:
        for dependency in job.after:
            link: tuple[object, ...] = dependency
            if type(link[0]) is not int or not isinstance(link[1], (float, int)):
                raise _refused(session, f"waits for {link[0]!r} and {link[1]!r}: an id and a number of seconds", job)
            if not 0.0 <= dependency.delay_s < inf:
                raise _refused(session, f"waits for {dependency.delay_s} s; it must be a time from 0 on", job)
            if dependency.request_id not in before:
                in_order = False
        before.add(job.request.request_id)
    if in_order:
        return
    waiting: dict[int, list[Dependency]] = {}
    for job in session.jobs:
        waiting[job.request.request_id] = list(job.after)
        unknown = [dependency.request_id for dependency in job.after if dependency.request_id not in before]
        if unknown:
            raise _refused(session, f"waits for request {unknown[0]}, which is not in its session", job)
    while True:
        free = [name for name in waiting if all(d.request_id not in waiting for d in waiting[name])]
        for name in free:
            del waiting[name]
        if not waiting:
            return
        if not free:
            names = ", ".join(str(name) for name in list(waiting)[:8])
            raise _refused(session, f"requests {names} wait for one another; none can ever start")


def _refused(session: Session, reason: str, job: Job | None = None) -> TraceError:
    who = f"session {session.session_id}" + ("" if job is None else f", request {job.request.request_id}")
    return TraceError("trace", None, f"{who}: {reason}")
