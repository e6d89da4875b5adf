"""``warmup_s=auto`` and ``until_s=auto``: a window that is chosen once per workload and pool, whatever the policy.

If every policy chose its own, they would be compared over different sessions. So a pilot run decides: the workload and
pool of the cell under ``least_load`` without migration, followed for twice as long until its open sessions have settled
(MSER-5, ``gsim.metrics.choose_warmup``) and it is several times as long as sessions last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from gsim.cluster import Horizon, simulate
from gsim.core import ConfigError
from gsim.metrics import Window, choose_warmup, over_time, stay_s
from gsim.run.settings import AUTO, Settings

#: Seconds of the first pilot, and at most.
SHORTEST_S, LONGEST_S = 60.0, 960.0
#: The pilot is at least so many times as long as sessions last (``stay_s``), and so is a window that is chosen.
STAYS = 3.0
_SEED = 0

#: What replaces the policies of a configuration: a router that learns and predicts nothing (``key.PILOT_POLICIES``).
_PLAIN = {"router": {"name": "least_load"}, "predictor": {"name": "constant"}, "estimator": {"name": "nominal"}}
_STILL = {"rectifier": {"name": "none"}, "faults": {"name": "none"}}


def chosen(settings: Settings) -> Settings:
    """The configuration with both ends of its window in seconds (as given, else from a pilot run).

    The warm-up is where the pilot has settled, and never shorter than sessions last (``gsim.metrics.stay_s``). A window
    that is chosen too is ``STAYS`` times as long as that, and at least ``SHORTEST_S``. Raises ``ConfigError`` where the
    warm-up found is not before the ``until_s`` given.
    """
    still = settings.replace(**_PLAIN, **_STILL, warmup_s=0.0, until_s=LONGEST_S, drain_s=0.0, goodput="")
    # By session, so that generated load goes on for as long as the pilot.
    still = still.replace(count=AUTO if settings.closed else "by_session")
    settled_s, lasting_s = _pilot(_Asked(still.identity(), still))
    # An agent that thinks for long seldom asks: it has settled when it has been through a session and a pause.
    if settings.closed:
        lasting_s += still.trace().think_s
    warmup_s = settings.warmup_s
    if warmup_s == AUTO:
        warmup_s = float(math.ceil(max(settled_s, lasting_s)))
    until_s = settings.until_s
    if until_s == AUTO:
        until_s = float(math.ceil(warmup_s + max(STAYS * lasting_s, SHORTEST_S)))
    if until_s is not None and not warmup_s < until_s:
        raise ConfigError(f"warmup_s=auto: it takes {warmup_s:g} s, and until_s is {until_s:g}; choose a later one")
    return settings.replace(warmup_s=warmup_s, until_s=until_s)


@dataclass(frozen=True)
class _Asked:
    """A pilot's configuration, known by its name."""

    identity: str
    settings: Settings = field(compare=False)


@lru_cache(maxsize=64)
def _pilot(asked: _Asked) -> tuple[float, float]:
    """When the pilot has settled (0: it does not, within ``LONGEST_S``), and how long sessions last."""
    settings = asked.settings
    length_s = SHORTEST_S
    while True:
        settled_s, lasting_s, over = _followed(settings, length_s)
        enough = over or (math.isfinite(settled_s) and length_s >= STAYS * lasting_s)
        if enough or length_s >= LONGEST_S:
            return (settled_s if math.isfinite(settled_s) else 0.0), lasting_s
        length_s *= 2


def _followed(settings: Settings, length_s: float) -> tuple[float, float, bool]:
    """When a pilot of this length has settled, how long its sessions last, and whether its load was over before."""
    result = simulate(settings.scenario(), settings.load(_SEED), _SEED, Horizon(length_s, length_s))
    requests = result.requests
    latest_s = float(np.nanmax(requests["arrival_s"], initial=0.0))
    # A recorded trace may end before: an empty pool is not a settled one.
    over = not settings.closed and 0.0 < latest_s < 0.9 * length_s
    length_s = latest_s if over else length_s
    followed = over_time(requests, Window(0.0, length_s, "by_session"), np.zeros(len(requests["status"]), dtype=bool))
    settled_s = choose_warmup(followed["time_s"][:-1], followed["sessions"])
    return settled_s, _stay_s(requests, result.sessions, length_s), over


def _stay_s(requests: Any, sessions: Any, length_s: float) -> float:
    """How long sessions last (without sessions, requests), of those that began in the first half of the pilot.

    What is still open has lasted that long at least.
    """
    rows, jobs = (sessions, sessions["jobs"]) if len(sessions["jobs"]) else (requests, np.ones(len(requests["status"])))
    begun = rows["arrival_s"] <= 0.5 * length_s
    ended_s = np.where(np.isnan(rows["finished_s"]), length_s, rows["finished_s"])[begun]
    return stay_s(ended_s - rows["arrival_s"][begun], jobs[begun]) if begun.any() else 0.0
