"""A gateway put together: its parts made in the order in which each needs the others, then started.

Simulation and live serving differ in the clock's pace and in what makes the backends, and in nothing here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gsim.core import ClusterView, Randomised, Streams
from gsim.gateway.active_table import ActiveTable
from gsim.gateway.autoscaler import Autoscaler
from gsim.gateway.backend import MakeBackend
from gsim.gateway.clock import Clock
from gsim.gateway.ends import Ends
from gsim.gateway.fleet import BootTime, Fleet
from gsim.gateway.gateway import Gateway
from gsim.gateway.monitor import Monitor
from gsim.gateway.moves import Moves
from gsim.gateway.moving.handovers import Carrier
from gsim.gateway.moving.links import LinkNetwork
from gsim.gateway.policies import Policies, needs_of
from gsim.gateway.telemetry import Sampler, Scraper, StreamObserver
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.migration import Link, MoveCosts


@dataclass(frozen=True)
class Plant:
    """What a gateway must know of its instances beyond the view, to move requests between them."""

    kv_bytes_per_token: Sequence[int]
    longest_tokens: Sequence[int]
    """Prompt and output tokens that a request may have at most, per instance."""
    link: Link
    layers: Sequence[int] = ()
    """Of each instance's model (asked for only in a pool with roles)."""
    up: Sequence[bool] | None = None
    """Which slots have an instance from the beginning; None: all, for good (nobody scales)."""
    boot_s: BootTime | None = None
    """How long an instance takes from its start until it serves; there is one where ``up`` is given."""
    drains_move: bool = False
    """What drains sends on what it has, instead of finishing it."""


@dataclass(frozen=True)
class Assembly:
    """A gateway and what works beside it. Of what nobody asked for there is none."""

    gateway: Gateway
    scraper: Scraper
    observer: StreamObserver | None
    sampler: Sampler | None
    network: LinkNetwork | None
    moves: Moves | None
    monitor: Monitor | None
    fleet: Fleet | None = None
    autoscaler: Autoscaler | None = None


def assemble(
    clock: Clock,
    view: ClusterView,
    policies: Policies,
    make_backend: MakeBackend,
    plant: Plant,
    streams: Streams,
    ends: Ends,
    *,
    telemetry: TelemetryConfig,
    scrape_interval_s: float,
    scrapes_for_reviews_only: bool = False,
    max_hold_s: float = 600.0,
    forecasts: Collection[str] = (),
) -> Assembly:
    """Make and start a gateway on ``view``.

    ``scrapes_for_reviews_only``: nobody but the rectifier reads gauges, so a scrape that is replaced before the next
    review may be left out. At equal times what was scheduled first happens first: at time 0 the scraper, the observer
    of streams, the sampler, the monitor and the scaler, in this order, before whatever the caller starts afterwards.
    ``forecasts``: what the engines want to be sent along with requests, ``prediction`` and ``quantiles``.
    """
    for name, policy in policies.by_group.items():
        if isinstance(policy, Randomised):
            policy.seed(streams.stream(name))
    policies.estimator.attach(view)
    needs, moving = policies.needs, policies.reviews
    if moving:
        assert policies.mechanism is not None, "who reviews has a mechanism"
        kv_bytes = np.array(plant.kv_bytes_per_token, dtype=np.float64)
        MoveCosts(policies.mechanism, plant.link, kv_bytes).attach(view)
    observes = "estimates" in needs or "requests" in needs
    table = ActiveTable() if observes or moving else None
    if table is not None and "requests" in needs:
        asked = policies.predictor if "prediction" in needs else None
        view.observed = partial(table.last, asked)
    carrier = network = moves = monitor = None
    if moving or policies.handover is not None:
        network = LinkNetwork(clock, plant.link)
    if policies.handover is not None:
        assert network is not None
        carrier = Carrier(policies.handover, network, plant.kv_bytes_per_token, plant.longest_tokens, plant.layers)
    gateway = Gateway(clock, view, policies, make_backend, ends, table, telemetry, max_hold_s, forecasts, carrier)
    if moving:
        assert policies.mechanism is not None
        assert policies.rectifier is not None
        assert network is not None
        moves = Moves(gateway, policies.mechanism, network, plant.kv_bytes_per_token, plant.longest_tokens)
        predictor = policies.predictor if "prediction" in needs_of("rectifier", policies.rectifier) else None
        monitor = Monitor(gateway, policies.rectifier, predictor, moves)
    scraper = Scraper(gateway, scrape_interval_s, monitor if scrapes_for_reviews_only else None)
    if "scrape" in needs:
        clock.at_once(scraper.start)
    observer = None
    if observes:
        assert table is not None
        observer = StreamObserver(gateway, table, policies.estimator, telemetry.stream_interval_s)
        clock.at_once(observer.start)
    sampler = None
    if telemetry.sample_interval_s is not None:
        sampler = Sampler(gateway, telemetry.sample_interval_s)
        gateway.loops.sleepless = True
        clock.at_once(sampler.start)
    if monitor is not None:
        clock.at_once(monitor.start)
    fleet = autoscaler = None
    if plant.up is not None:
        assert plant.boot_s is not None, "who has slots that are off says how long they boot"
        fleet = Fleet(gateway, plant.up, plant.boot_s, move=plant.drains_move)
        if policies.scales:
            assert policies.scaler is not None
            autoscaler = Autoscaler(gateway, policies.scaler, fleet)
            clock.at_once(autoscaler.start)
    return Assembly(gateway, scraper, observer, sampler, network, moves, monitor, fleet, autoscaler)
