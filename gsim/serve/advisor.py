"""A router of ours for somebody else's gateway: it says where a request goes, and is told what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count
from math import inf, isnan

from gsim.core import (
    ClusterView,
    ConfigError,
    EngineEvent,
    EventKind,
    Gauges,
    Job,
    Progress,
    Request,
    Status,
    StreamCount,
    Streams,
    build,
)
from gsim.gateway.active import Active
from gsim.gateway.assemble import Plant, assemble
from gsim.gateway.backend import Backend, Report
from gsim.gateway.clock import Clock
from gsim.gateway.ends import Ends
from gsim.gateway.policies import Policies
from gsim.gateway.request_log import RequestLog
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.latency import load_profile
from gsim.live.contents import Contents
from gsim.live.vocabulary import vocabulary
from gsim.migration import LINKS
from gsim.serve.discover import ServerFacts, static_view
from gsim.serve.service import check_live

_KEPT_ROWS = 10_000


def advisor(router: str, profiles: Sequence[str], predictor: str = "history", estimator: str = "ema") -> Advisor:
    """An advisor for one server per profile, with policies by their names and default fields."""
    servers = []
    for index, name in enumerate(profiles):
        known = load_profile(name)
        model = known.model.name
        servers.append(ServerFacts("", f"{name}-{index}", model, known.max_model_len, known.kv_tokens, 16, known))
    return Advisor(
        Policies(build("router", router), build("predictor", predictor), build("estimator", estimator)), servers
    )


class Advisor:
    """The gateway's books without its connections: who uses it sends the requests, by the number of a server.

    Signals of which it is not told are none, so a policy that needs gauges is refused, and one that reviews (moves) is.
    Calls come from one thread. ``clock_s``: seconds that rise.
    """

    def __init__(
        self, policies: Policies, servers: Sequence[ServerFacts], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        check_live(policies)
        if policies.reviews or "scrape" in policies.needs:
            raise ConfigError("inside another gateway nothing is moved and no gauges are read: choose another policy")
        self._clock = Clock()
        self._clock_s = clock_s
        self._began_s = clock_s()
        self._numbers = count()
        self._calls: dict[str, int] = {}
        self._sent: dict[int, tuple[Report, int, Active]] = {}
        self._words = vocabulary(32_000)
        self._contents = Contents(len(servers) << 20)
        n = len(servers)
        self.gateway = assemble(
            self._clock,
            ClusterView.of(static_view(list(servers))),
            policies,
            lambda index, report: _Elsewhere(index, report, self._sent),
            Plant([1] * n, [server.max_model_len for server in servers], LINKS["rdma_400g"]),
            Streams(0),
            Ends(lambda job, now_s: None, self._ended),
            telemetry=TelemetryConfig(),
            scrape_interval_s=inf,
        ).gateway
        """The books, to be read."""

    def ask(self, call: str, prompt: str, max_tokens: int, slo_s: float = inf, task: str = "default") -> int | None:
        """The server that a call goes to, from 0 on; None: no one takes it."""
        self._come_up()
        number, ids = next(self._numbers), self._words.ids_of(prompt) or [0]
        content = self._contents.pieces(ids)
        request = Request(number, self._clock.now, len(ids), max_tokens, slo_s, task=task, content=content, text=prompt)
        self._calls[call] = number
        self.gateway.submit(Job(request, max_tokens, self._contents.new_segment()))
        if number not in self._sent:
            # Whoever holds a request would send it later: here nobody would.
            active = self.gateway.active.get(number)
            if active is not None:
                self.gateway.withdraw(active)
            self._calls.pop(call, None)
            return None
        return self._sent[number][1]

    def first_token(self, call: str) -> None:
        """A call's first token has come; told again, nothing happens."""
        self._first(call, seen=True)

    def _first(self, call: str, *, seen: bool) -> None:
        self._come_up()
        sent = self._sent.get(self._calls.get(call, -1))
        if sent is not None and isnan(sent[2].first_token_s):
            self._tell(sent, EventKind.FIRST_TOKEN, int(seen))

    def ended(self, call: str, output_tokens: int | None) -> None:
        """A call is over, with so many tokens; None: it failed, or nobody counted them, so nothing is learned."""
        # Who was not told of a first token cannot say when it came.
        self._first(call, seen=False)
        sent = self._sent.get(self._calls.pop(call, -1))
        if sent is None:
            return
        if output_tokens:
            self._tell(sent, EventKind.FINISHED, output_tokens)
        else:
            self.gateway.withdraw(sent[2])

    def _tell(self, sent: tuple[Report, int, Active], kind: EventKind, tokens: int) -> None:
        report, index, active = sent
        report(index, EngineEvent(self._clock.now, kind, active.request_id, tokens, 0, active))

    def _come_up(self) -> None:
        self._clock.run_to(self._clock_s() - self._began_s)

    def _ended(self, job: Job, status: Status, now_s: float) -> None:
        self._sent.pop(job.request.request_id, None)
        if len(self.gateway.log) >= _KEPT_ROWS:
            self.gateway.log = RequestLog()


class _Elsewhere(Backend):
    """A server to which somebody else sends."""

    def __init__(self, index: int, report: Report, sent: dict[int, tuple[Report, int, Active]]) -> None:
        self._index, self._report, self._sent = index, report, sent

    def send(self, job: Job, now_s: float, kv_tokens: int, ticket: object) -> None:
        assert isinstance(ticket, Active)
        self._sent[job.request.request_id] = (self._report, self._index, ticket)

    def abort(self, request_id: int, now_s: float) -> Progress:
        self._sent.pop(request_id, None)
        return Progress(0, 0)

    def sync(self, now_s: float) -> None:
        """Everything is told when it happens."""

    def forget(self, now_s: float) -> None:
        """Nothing is kept."""

    def gauges(self, now_s: float) -> Gauges | None:
        return None

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        return [], []

    def streams(self, now_s: float) -> tuple[int, list[StreamCount]]:
        return 0, []

    def tells_cached(self) -> bool:
        return False
