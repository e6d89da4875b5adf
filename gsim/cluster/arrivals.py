"""Sessions in simulated time: who arrives when, and what starts when something else has ended (closed loop)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from math import inf, nan

from gsim.cluster.door import Door
from gsim.cluster.horizon import Horizon
from gsim.cluster.result import SessionLog
from gsim.core import Job, Population, Session, Status, TraceError
from gsim.gateway.clock import Alarm, Clock

Submit = Callable[[Job], None]
Refuse = Callable[[Job, float], None]


class _Open:
    """A session under way."""

    __slots__ = ("blocked", "children", "missed", "ready_s", "session", "unfinished")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.unfinished = len(session.jobs)
        self.missed = 0
        # Per parent, the jobs that wait for it; per job, how many parents are still missing and its earliest start.
        self.children: dict[int, list[Job]] = {}
        self.blocked: dict[int, int] = {}
        self.ready_s: dict[int, float] = {}
        for job in session.jobs:
            if job.after:
                self.blocked[job.request.request_id] = len(job.after)
                for parent in dict.fromkeys(dependency.request_id for dependency in job.after):
                    self.children.setdefault(parent, []).append(job)


class _Dealer:
    """Hands each agent of a population the next one of its sessions, however unlike the agents' speeds are."""

    __slots__ = ("_agents", "_later", "_undealt", "think_s")

    def __init__(self, population: Population) -> None:
        self.think_s = population.think_s
        self._agents = len(population.first)
        self._later = population.later
        self._undealt: list[deque[Session]] = [deque() for _ in population.first]

    def next(self, session_id: int, now_s: float) -> Session:
        """What starts now, after the session of this id."""
        agent = session_id % self._agents
        mine = self._undealt[agent]
        while not mine:
            session = next(self._later)
            self._undealt[session.session_id % self._agents].append(session)
        session = mine.popleft()
        jobs = tuple([job if job.after else job.arriving(now_s) for job in session.jobs])
        return session._replace(arrival_s=now_s, jobs=jobs)


class Arrivals:
    """Submits every session's jobs when they are due, and knows when there is nothing more to come."""

    def __init__(
        self,
        clock: Clock,
        sessions: Iterator[Session] | Population,
        submit: Submit,
        refuse: Refuse,
        on_finished: Callable[[], None],
        horizon: Horizon | None = None,
    ) -> None:
        self.clock = clock
        self._on_finished = on_finished
        self.log = SessionLog()
        self.finished = False
        """All sessions have arrived (their later turns may still be to come)."""
        self._dealer: _Dealer | None = None
        if isinstance(sessions, Population):
            self._dealer = _Dealer(sessions)
            self._sessions = iter(sessions.first)
        else:
            self._sessions = sessions
        self._horizon = horizon
        self._door = Door()
        self._submit = submit
        self._refuse = refuse
        self._next: Session | None = None
        self._alarm = Alarm(clock, self._arrive)
        self._open: dict[int, _Open] = {}
        self._lost: list[tuple[_Open, Job]] = []
        """Jobs that were lost or refused, while those that depend on them are being refused."""
        self.waiting = 0
        """Jobs that wait for another job of their session, or for their tool gap."""
        self.awaited = 0
        """Open sessions that the run waits for (see ``Horizon``)."""

    @property
    def next_s(self) -> float:
        """When the next session arrives, as far as that is known (inf: none is waited for)."""
        return inf if self._next is None or self.finished else self._next.arrival_s

    def start(self) -> None:
        """Let the first session arrive when it is due, and each one its successor."""
        self._alarm.set(0.0)

    def _arrive(self) -> None:
        """Start the session that was waited for, and all that are due by now; wait for the next."""
        clock = self.clock
        if self._next is not None:
            self._start(self._next)
        for session in self._sessions:
            self._door.check(session)
            delay_s = session.arrival_s - clock.now
            if delay_s > 0:
                self._next = session
                self._alarm.set(delay_s)
                return
            if delay_s < -1e-9 * max(1.0, clock.now):
                reason = f"session {session.session_id} arrives at {session.arrival_s} s, before its predecessor"
                raise TraceError("trace", None, reason)
            self._start(session)
        # A population goes on for ever.
        if self._dealer is None:
            self.finished = True
            self._on_finished()

    def _start(self, session: Session) -> None:
        if self._awaits(session.arrival_s):
            self.awaited += 1
        if len(session.jobs) == 1 and session.slo_s == inf and not session.jobs[0].after:
            self._submit(session.jobs[0])
            return
        opened = _Open(session)
        self._open[session.session_id] = opened
        self.waiting += len(opened.blocked)
        for job in session.jobs:
            if not job.after:
                self._submit(job)

    def _awaits(self, began_s: float) -> bool:
        return self._horizon is not None and self._horizon.awaits(began_s)

    def dispatched(self, job: Job, now_s: float) -> None:
        """A job was sent to an instance: children that wait for its dispatch may start."""
        self._met(job, now_s, on_completion=False)

    def ended(self, job: Job, status: Status, now_s: float) -> None:
        """A job ended: its children may start; where it was lost or refused they never will."""
        opened = self._open.get(job.request.session_id)
        if opened is None:
            self._over(job.request.session_id, job.request.arrival_s)
            return
        opened.unfinished -= 1
        if status is not Status.FINISHED or now_s > job.request.deadline_s:
            opened.missed += 1
        if status is Status.FINISHED:
            self._met(job, now_s, on_completion=True)
        else:
            self._abandon(opened, job, now_s)
        if opened.unfinished == 0 and self._open.pop(job.request.session_id, None) is not None:
            session = opened.session
            row = (session.session_id, len(session.jobs), session.arrival_s, now_s, session.slo_s, opened.missed)
            self.log.add(row)
            self._over(session.session_id, session.arrival_s)

    def _over(self, session_id: int, began_s: float) -> None:
        """A session has ended: nobody waits for it any more, and its agent thinks about the next one."""
        if self._awaits(began_s):
            self.awaited -= 1
        dealer = self._dealer
        if dealer is not None:
            self.clock.after(dealer.think_s, lambda: self._deal(dealer, session_id))

    def _deal(self, dealer: _Dealer, session_id: int) -> None:
        session = dealer.next(session_id, self.clock.now)
        self._door.check(session)
        self._start(session)

    def cut(self) -> list[Session]:
        """The run stops here: open sessions are logged as they are; those that the run still waited for."""
        cut = []
        for opened in self._open.values():
            session, missed = opened.session, opened.missed + opened.unfinished
            self.log.add((session.session_id, len(session.jobs), session.arrival_s, nan, session.slo_s, missed))
            if self._awaits(session.arrival_s):
                cut.append(session)
        return cut

    def _met(self, parent: Job, now_s: float, *, on_completion: bool) -> None:
        opened = self._open.get(parent.request.session_id)
        if opened is None:
            return
        parent_id = parent.request.request_id
        for job in opened.children.get(parent_id, ()):
            job_id = job.request.request_id
            for dependency in job.after:
                if dependency.request_id != parent_id or dependency.on_completion is not on_completion:
                    continue
                if job_id not in opened.blocked:
                    continue
                opened.blocked[job_id] -= 1
                due_s = max(opened.ready_s.get(job_id, 0.0), now_s + dependency.delay_s)
                opened.ready_s[job_id] = due_s
                if opened.blocked[job_id] == 0:
                    del opened.blocked[job_id]
                    self._submit_at(job, due_s)

    def _submit_at(self, job: Job, due_s: float) -> None:
        self.clock.after(max(due_s - self.clock.now, 0.0), lambda: self._submit_now(job))

    def _submit_now(self, job: Job) -> None:
        self.waiting -= 1
        self._submit(job.arriving(self.clock.now))

    def _abandon(self, opened: _Open, parent: Job, now_s: float) -> None:
        """Every descendant that has not started fails with its parent: an agent whose call is lost stops there."""
        self._lost.append((opened, parent))
        if len(self._lost) > 1:
            # Each refusal comes back here as an end: one loop works them all off, however long the session.
            return
        for opened, parent in self._lost:
            for job in opened.children.get(parent.request.request_id, ()):
                job_id = job.request.request_id
                if job_id in opened.blocked:
                    del opened.blocked[job_id]
                    self.waiting -= 1
                    # It never arrived: its row says so, and it counts as missed when the gateway reports its end.
                    self._refuse(job._replace(request=job.request._replace(arrival_s=nan)), now_s)
        self._lost = []
