"""What the gateway tells of itself: decisions, predictions and their errors, moves, goodput."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isfinite
from typing import Any

from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from gsim.core import Job, Status
from gsim.gateway.gateway import Gateway
from gsim.serve.exchange import Exchange

_LATE_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_REQUEST_S = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
#: Counters of the gateway, under their own names.
_COUNTED = (
    *("decisions", "dispatches", "refused_connections", "retries", "migrations"),
    *("moves_back", "moves_refused", "moves_given_up", "moves_ended", "moves_fell_back"),
)


class _Counts(Collector):
    """What the gateway counts anyway, when somebody asks."""

    def __init__(self, gateway: Gateway) -> None:
        self._counters = gateway.counters

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See ``Collector``."""
        for name in _COUNTED:
            yield CounterMetricFamily(f"gsim:{name}", f"The gateway's count of {name}.", self._counters[name])


class ServeMetrics:
    """The metrics of a running gateway."""

    def __init__(self, gateway: Gateway, servers: Sequence[str]) -> None:
        self.registry = registry = CollectorRegistry()
        self._servers = servers

        def gauge(name: str, meaning: str, read: Callable[[], float]) -> None:
            Gauge(f"gsim:{name}", meaning, registry=registry).set_function(read)

        registry.register(_Counts(gateway))
        gauge("requests_under_way", "Requests that have come and not ended.", lambda: len(gateway.active))
        view = gateway.view
        for name, meaning, signal in (
            ("in_flight", "Requests at each server.", view.in_flight),
            ("server_up", "1: requests are sent there.", view.available),
            ("tpot_seconds", "Estimated seconds per output token.", view.tpot_s),
        ):
            family = Gauge(f"gsim:{name}", meaning, ("server",), registry=registry)
            for i, server in enumerate(servers):
                family.labels(server=server).set_function(partial(_at, signal, i))
        self.failures = Counter(
            "gsim:server_failures", "Requests that a server failed.", ("server",), registry=registry
        )
        self.unreadable = Counter(
            "gsim:unreadable_metrics",
            "Scrapes without an answer, or with one that cannot be.",
            ("server",),
            registry=registry,
        )
        self.policy_errors = Counter("gsim:policy_errors", "Errors of policies.", registry=registry)
        self._ended = Counter("gsim:requests", "Requests that ended.", ("status", "server"), registry=registry)
        self._good = Counter("gsim:requests_in_time", "Requests that finished within their SLO.", registry=registry)
        self._whole = Histogram("gsim:e2e_seconds", "Arrival to last token.", registry=registry, buckets=_REQUEST_S)
        self._first = Histogram("gsim:ttft_seconds", "Arrival to first token.", registry=registry, buckets=_REQUEST_S)
        self._ratio = Histogram(
            "gsim:predicted_over_true_tokens", "Errors of predictions.", registry=registry, buckets=_RATIOS
        )
        late = Histogram("gsim:lateness_seconds", "Lateness of timers.", registry=registry, buckets=_LATE_S)
        self.late = late.observe
        """Told of every timer by how many real seconds it was late."""

    def ended(self, job: Job, exchange: Exchange, status: Status, now_s: float) -> None:
        """A request has ended."""
        request, active = job.request, exchange.active
        self._ended.labels(status=status.name.lower(), server=self._server(exchange)).inc()
        if status is not Status.FINISHED or active is None:
            return
        self._whole.observe(now_s - request.arrival_s)
        if isfinite(active.first_token_s):
            self._first.observe(active.first_token_s - request.arrival_s)
        if now_s <= request.deadline_s:
            self._good.inc()
        if isfinite(active.predicted_tokens) and active.generated_before:
            self._ratio.observe(active.predicted_tokens / active.generated_before)

    def _server(self, exchange: Exchange) -> str:
        return self._servers[exchange.instance] if exchange.instance >= 0 else ""

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)


def _at(signal: NDArray[Any], index: int) -> float:
    return float(signal[index])
