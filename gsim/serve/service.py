"""The gateway in real time: requests in, the same policies as in simulation, servers as backends."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from itertools import count
from typing import Any

import aiohttp

from gsim.core import ClusterView, ConfigError, EventKind, GsimError, Job, Oracle, Request, Status, Streams
from gsim.core.answers import failure_of
from gsim.gateway.active import Active
from gsim.gateway.assemble import Assembly, Plant, assemble
from gsim.gateway.backend import Backend, Report
from gsim.gateway.clock import Clock
from gsim.gateway.ends import Ends
from gsim.gateway.policies import Policies, needs_of
from gsim.gateway.request_log import RequestLog
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.live.bodies import Asked, error_body
from gsim.live.contents import Contents
from gsim.live.pace import Pace
from gsim.live.vocabulary import vocabulary
from gsim.migration import LINKS
from gsim.serve.config import ServeConfig
from gsim.serve.discover import ServerFacts, static_view
from gsim.serve.exchange import PARSED, Exchange
from gsim.serve.journal import Journal
from gsim.serve.leg import Leg, ServerFailureError
from gsim.serve.mechanism import AtOnce
from gsim.serve.metrics import ServeMetrics
from gsim.serve.server_backend import ServerBackend
from gsim.serve.watch import Watch

_log = logging.getLogger("gsim.serve")

#: Rows that are kept in memory: the files of ``log`` keep all of them.
_KEPT_ROWS = 10_000
#: Token ids of prompts that are remembered, per server.
_REMEMBERED = 1 << 20
#: Output tokens that a chat may have which does not say.
_OPEN_END = 1 << 16


class Service:
    """Follows every request from its client to its end. All of it happens in one event loop."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        servers: list[ServerFacts],
        policies: Policies,
        telemetry: TelemetryConfig,
        config: ServeConfig,
        scrape_interval_s: float,
    ) -> None:
        check_live(policies)
        self.servers = servers
        self.config = config
        self.policies = policies
        self.exchanges: dict[int, Exchange] = {}
        self.parsed = False
        """A server was seen to answer chats with more than text (reasoning, calls of tools): chats stay."""
        self.on_end: Callable[[Job, Exchange, Status], None] | None = None
        """Told of every request that has ended."""
        self._numbers = count()
        self._contents = Contents(_REMEMBERED * len(servers))
        self._words = vocabulary(32_000)
        self.pace = Pace(Clock(), config.speed, self._due_failed)
        self.journal = Journal(config.log, config.log_block_size)
        self.backends: list[ServerBackend] = []
        self.parts = parts = self._assembled(telemetry, scrape_interval_s)
        self.gateway = parts.gateway
        self.metrics = ServeMetrics(self.gateway, [server.name for server in servers])
        self.pace.late = self.metrics.late
        self.learned = 0
        for request, tokens in self.journal.learned():
            policies.predictor.observe(request, tokens)
            self.learned += 1
        self._watch = Watch(http, servers, self.gateway, self.backends, config)
        self._watch.down = lambda index: self._guarded(self._down, index)
        self._watch.back = lambda index: self._guarded(self.gateway.restart, index)
        self._watch.lost = lambda number: self.withdraw(number, 500, "the request was lost when a policy failed")
        self._watch.unreadable = lambda index: self.metrics.unreadable.labels(server=servers[index].name).inc()
        self._watch.start(self._scrapes_every_s(scrape_interval_s), self.pace.now_s)
        for index, server in enumerate(servers):
            if not server.answers:
                self._guarded(self._down, index)
        self.pace.do(lambda: None)

    def _assembled(self, telemetry: TelemetryConfig, scrape_interval_s: float) -> Assembly:
        policies = self.policies
        if policies.mechanism is not None and policies.reviews:
            rectifier, mechanism = policies.rectifier, AtOnce(policies.mechanism)
            policies = Policies(policies.router, policies.predictor, policies.estimator, rectifier, mechanism)
        n = len(self.servers)
        return assemble(
            self.pace.clock,
            ClusterView.of(static_view(self.servers)),
            policies,
            self._backend,
            Plant([1] * n, [server.max_model_len for server in self.servers], _instant()),
            Streams(self.config.seed),
            Ends(lambda job, now_s: None, self._ended),
            telemetry=telemetry,
            scrape_interval_s=scrape_interval_s,
            max_hold_s=self.config.max_hold_s,
        )

    def _scrapes_every_s(self, interval_s: float) -> float | None:
        """Seconds between two looks at a server's gauges; None: nobody wants to know."""
        policies = self.policies
        if "scrape" not in policies.needs:
            return None
        if policies.rectifier is not None and "scrape" not in needs_of("router", policies.router):
            # Nobody looks between two reviews.
            return max(interval_s, policies.rectifier.interval_s)
        return interval_s

    def _backend(self, index: int, report: Report) -> Backend:
        backend = ServerBackend(
            index,
            self.servers[index].url,
            self.servers[index].max_model_len,
            self.pace,
            report,
            self.exchanges,
            self.failed,
            self._policy_failed,
            self.config.silence_s,
        )
        self.backends.append(backend)
        return backend

    async def close(self) -> None:
        """Stop; whoever still waits gets an end."""
        await self._watch.close()
        for number in list(self.exchanges):
            self.withdraw(number, 503, "the gateway is shutting down")
        for backend in self.backends:
            backend.close()
        self.pace.close()
        self.journal.close()

    # --------------------------------------------------------------------------------------------------- requests in
    def submit(self, exchange: Exchange, slo_s: float, task: str, session: str) -> int:
        """A request has come; its number. Its end is told by its exchange."""
        return self.pace.do(self._submit, exchange, slo_s, task, session)

    def _submit(self, exchange: Exchange, slo_s: float, task: str, session: str) -> int:
        number = next(self._numbers)
        job = self._job(number, exchange.asked, slo_s, task, session)
        self.exchanges[number] = exchange
        self.journal.arrived(number)
        try:
            self.gateway.submit(job)
        except Exception as error:  # a policy's: this request has no answer, the others go on
            told = self._told(error)
            _log.error("%s", told)
            self._end_now(number, exchange, 500, told)
        return number

    def _job(self, number: int, asked: Asked, slo_s: float, task: str, session: str) -> Job:
        prompt = asked.prompts[0]
        text = prompt if isinstance(prompt, str) else None
        # Of a text there are no token ids yet: pieces of it stand for them, about as many as there will be.
        ids = prompt if isinstance(prompt, list) else self._words.ids_of(prompt) or [0]
        most = asked.max_tokens or _OPEN_END
        request = Request(
            number,
            self.pace.clock.now,
            len(ids),
            most,
            slo_s,
            task=task,
            session_id=zlib.crc32(session.encode()) if session else -1,
            content=self._contents.pieces(ids),
            text=text,
            priority=asked.priority,
        )
        return Job(request, most, self._contents.new_segment())

    def withdraw(self, number: int, status: int = 499, why: str = "the client has gone") -> None:
        """A request ends, if it has not, before its answer is whole, wherever it is."""
        exchange = self.exchanges.get(number)
        if exchange is not None:
            self.pace.do(self._end_now, number, exchange, status, why)

    def _end_now(self, number: int, exchange: Exchange, status: int, why: str) -> None:
        exchange.fail(status, error_body(why, "InternalServerError" if status >= 500 else "Cancelled", status))
        active = self.gateway.active.get(number)
        if active is not None:
            self.gateway.withdraw(active)
        else:
            self.exchanges.pop(number, None)

    # ----------------------------------------------------------------------------------------------------- what fails
    def failed(self, leg: Leg, failure: ServerFailureError) -> None:
        """A server has not answered one request: it is sent again, or ends."""
        exchange, active = leg.exchange, leg.ticket
        self.parsed = self.parsed or exchange.stays == PARSED
        self.metrics.failures.labels(server=self.servers[leg.index].name).inc()
        _log.warning("%s: request %s: %s", self.servers[leg.index].url, exchange.name, str(failure))
        if self.gateway.detach(active) is None:
            return
        if failure.gone:
            self._down(leg.index)
        exchange.failures += 1
        if exchange.failures > self.config.retries or (exchange.told and not exchange.movable):
            exchange.fail(*_answer_of(failure))
            self.gateway.end(active, Status.FAILED, self.pace.clock.now)
            return
        self.gateway.counters["retries"] += 1
        active.retries += 1
        self._place(active, exchange)

    def _place(self, active: Active, exchange: Exchange) -> None:
        try:
            self.gateway.place(active)
        except Exception as error:
            told = self._told(error)
            _log.error("%s", told)
            self._end_now(active.request_id, exchange, 500, told)

    def _down(self, index: int) -> None:
        """Nothing is sent to this server until it answers again; what is there is sent elsewhere."""
        view = self.gateway.view
        if not view.available[index]:
            return
        view.available[index] = False
        if self.gateway.prefix_index is not None:
            self.gateway.prefix_index.clear(index)
        _log.warning("%s is down", self.servers[index].url)
        for leg in self.backends[index].legs():
            if not leg.closed:
                self.failed(leg, ServerFailureError("the server is down"))

    def _policy_failed(self, leg: Leg, kind: EventKind, error: Exception) -> None:
        """A policy failed when it was told of something."""
        _log.error("%s", self._told(error))
        self.metrics.policy_errors.inc()
        active = leg.ticket
        if kind is not EventKind.FIRST_TOKEN and self.gateway.active.get(active.request_id) is active:
            # It has left its instance already: all that is missing is its row.
            self.gateway.end(active, Status.FINISHED, self.pace.clock.now)

    def _due_failed(self, error: Exception) -> None:
        """A policy failed when it was asked in between; what repeats goes on."""
        _log.error("%s", self._told(error))
        self.metrics.policy_errors.inc()
        if self.parts.monitor is not None:
            self.parts.monitor.start()
        if "scrape" in self.policies.needs:
            self.parts.scraper.start()
        if self.parts.observer is not None:
            self.parts.observer.start()

    def _told(self, error: Exception) -> str:
        told = failure_of(error, self.policies.by_group)
        if told is None and not isinstance(error, GsimError):
            _log.exception("an error of the gateway itself")
        return str(told or error)

    # -------------------------------------------------------------------------------------------------------- the end
    def _why_rejected(self) -> str:
        if not self.gateway.view.available.any():
            return "no server is up"
        return f"no server was given this request: the router refused it, or held it for {self.config.max_hold_s:g} s"

    def _ended(self, job: Job, status: Status, now_s: float) -> None:
        number = job.request.request_id
        exchange = self.exchanges.pop(number, None)
        if exchange is None:
            return
        if status is Status.FINISHED:
            exchange.end()
        elif exchange.error is None:
            exchange.fail(503, error_body(self._why_rejected(), "ServiceUnavailableError", 503))
        if exchange.prompt_ids is not None and exchange.output_ids:
            self._contents.generated(exchange.prompt_ids, exchange.output_ids, job.output_segment)
        instance = self.servers[exchange.instance].name if exchange.instance >= 0 else ""
        self.journal.ended(job, exchange, status.name.lower(), instance, now_s)
        self.metrics.ended(job, exchange, status, now_s)
        if self.on_end is not None:
            self.on_end(job, exchange, status)
        if len(self.gateway.log) >= _KEPT_ROWS:
            self.gateway.log = RequestLog()
        moves = self.parts.moves
        if moves is not None and len(moves.log) >= _KEPT_ROWS:
            del moves.log[: _KEPT_ROWS // 2]

    def _guarded(self, act: Callable[..., Any], *args: Any) -> None:
        try:
            self.pace.do(act, *args)
        except Exception as error:  # a policy's, asked because something changed
            self._due_failed(error)


def _answer_of(failure: ServerFailureError) -> tuple[int, Any]:
    """Status and body that tell a client how its request failed."""
    if failure.busy:
        kind = "RateLimitError" if failure.busy == 429 else "ServiceUnavailableError"
        return failure.busy, error_body(f"the servers take no more requests for now: {failure}", kind, failure.busy)
    return 502, error_body(f"the server failed: {failure}", "BadGatewayError", 502)


def check_live(policies: Policies) -> None:
    """Raise ``ConfigError`` for a policy that cannot be asked live: it knows what nobody knows."""
    for group, policy in policies.by_group.items():
        if isinstance(policy, Oracle):
            raise ConfigError(
                f"{group} {type(policy).__name__} is an oracle: it is shown true output lengths, which live nobody "
                "knows; choose another (predictor=history)"
            )
        if getattr(policy, "offline", False):
            raise ConfigError(f"{group} {type(policy).__name__} replays a plan that is made before the run")


def _instant() -> Any:
    """The link between servers: it carries nothing that is waited for."""
    return LINKS["rdma_400g"]
