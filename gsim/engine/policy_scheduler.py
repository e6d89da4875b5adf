"""The reference scheduler with a policy that decides in every iteration: admission, preemption, pauses, speed.

Whatever a policy says, an engine with work is never idle: where nobody runs, the head of the queue starts; where all
who run are to pause and nobody starts, nobody pauses.
"""

from __future__ import annotations

from gsim.core.answers import title
from gsim.core.protocols import LatencyModel
from gsim.core.scheduling import AdmissionControl, EngineView, IterationPlanner, Plan, ServiceLearner
from gsim.engine.config import BUILT_IN, EngineLimits
from gsim.engine.kv.kv_pool import KvPool
from gsim.engine.ordering import Ordering, card_of, decides_each_iteration, policy_of, seen, told
from gsim.engine.plan_answer import iterations_of, plan_of
from gsim.engine.scheduler import Scheduler, Step
from gsim.engine.sequence import Sequence
from gsim.engine.waiting import KeyedQueue


class PolicyScheduler(Scheduler):
    """Asks its policy before it does what the reference does."""

    def __init__(self, limits: EngineLimits, pool: KvPool, ordering: Ordering) -> None:
        super().__init__(limits, pool, ordering)
        policy = ordering.policy
        self._card = ordering.card
        self._title = title("scheduler", policy)
        self._admission: AdmissionControl | None = policy if isinstance(policy, AdmissionControl) else None
        self._planner: IterationPlanner | None = policy if isinstance(policy, IterationPlanner) else None
        self._learner: ServiceLearner | None = policy if isinstance(policy, ServiceLearner) else None
        self._plan = Plan()
        self._plan_in = 0
        """Steps until the policy is asked for the next plan."""
        self._paused: set[Sequence] = set()
        self._on_host: dict[Sequence, int] = {}
        """Who is kept off the card, and how many of its tokens."""

    def schedule(self) -> Step:
        """Decide the next iteration."""
        step = Step()
        if self._planner is not None:
            self._ask_plan(self._planner, step)
        put_off = len(step.preempted)
        threshold = self.prefill_threshold()
        budget = self.schedule_running(step, threshold)
        if len(step.preempted) == put_off and not step.rejected:
            self.schedule_waiting(step, budget, threshold)
        if not step.scheduled and not step.preempted and not step.rejected:
            self._paused.clear()
            self.schedule_running(step, threshold)
        self._bring_back(step)
        step.speed, step.power = self._plan.speed, self._plan.power
        return step

    def due(self) -> tuple[Sequence, ...]:
        """Who runs and does not pause."""
        paused = self._paused
        return tuple([sequence for sequence in self.running if sequence not in paused])

    def may_start(self, sequence: Sequence) -> bool:
        """What the policy says of the head of the queue; without anybody who runs it starts in any case."""
        if self._admission is None or not self.running:
            return True
        request, view = seen(sequence), self._view()
        try:
            return bool(self._admission.admits(request, view))
        except Exception as error:
            raise told(error, self._admission) from error

    def finish(self, sequence: Sequence) -> None:
        """Take a running sequence out, finished or aborted."""
        whole = not sequence.aborted and not sequence.keep and sequence.generated == sequence.stop
        if self._learner is not None and whole:
            self._learner.finished(seen(sequence))
        self._paused.discard(sequence)
        super().finish(sequence)

    def withdraw(self, sequence: Sequence) -> None:
        """Take a waiting sequence out."""
        self._on_host.pop(sequence, None)
        super().withdraw(sequence)

    def _view(self) -> EngineView:
        running = [seen(sequence) for sequence in self.running]
        waiting = [seen(sequence) for sequence in self.waiting]
        return EngineView(self.now_s, self._card, running, waiting, self.pool.free)

    def _ask_plan(self, planner: IterationPlanner, step: Step) -> None:
        self._plan_in -= 1
        if self._plan_in > 0:
            return
        self._plan_in = iterations_of(planner, self._title)
        view = self._view()
        try:
            answer: object = planner.plan(view)
        except Exception as error:
            raise told(error, planner) from error
        running = {sequence.request_id: sequence for sequence in self.running}
        waiting = {sequence.request_id: sequence for sequence in self.waiting}
        self._plan = plan = plan_of(answer, self._title, running, waiting)
        self.max_running = min(plan.max_running or self.limits.max_num_seqs, self.limits.max_num_seqs)
        self._paused = {running[request_id] for request_id in plan.pause}
        for request_id in plan.preempt:
            self.put_off(running[request_id], step)
        moved_out = 0
        for request_id in plan.rotate:
            moved_out += self._rotate(running[request_id], step)
        step.stall_s = moved_out * plan.host_s_per_token
        if isinstance(self.waiting, KeyedQueue):
            self.waiting.arrange([waiting[request_id] for request_id in plan.order])

    def _rotate(self, victim: Sequence, step: Step) -> int:
        """Put ``victim`` back into the queue, its KV on the host; the tokens that go there."""
        tokens = victim.computed
        self.put_off(victim, step)
        victim.kv_tokens = tokens
        self._on_host[victim] = tokens
        return tokens

    def _bring_back(self, step: Step) -> None:
        """Who came back from the host in this step brings its KV with it; both ways of the link work at once."""
        if not self._on_host:
            return
        back = [sequence for sequence in self._on_host if sequence in self.running]
        moved_in = sum([self._on_host.pop(sequence) for sequence in back])
        step.stall_s = max(step.stall_s, moved_in * self._plan.host_s_per_token)


def make_scheduler(latency: LatencyModel, limits: EngineLimits, pool: KvPool) -> Scheduler:
    """The reference scheduler with the configured policy."""
    if limits.policy in BUILT_IN:
        return Scheduler(limits, pool)
    policy = policy_of(limits)
    ordering = Ordering(policy, card_of(latency, limits))
    return (
        PolicyScheduler(limits, pool, ordering) if decides_each_iteration(policy) else Scheduler(limits, pool, ordering)
    )
