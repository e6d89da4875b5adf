"""The upper bound of a run's goodput, and bounds that were computed before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gsim.cluster import Scenario
from gsim.core import ConfigError
from gsim.optimum import Bound, BoundConfig, upper_bound
from gsim.run.cell import with_window
from gsim.run.key import digest_of
from gsim.run.planning import jobs_of, servers_of
from gsim.run.settings import Settings
from gsim.study.kept import Kept

#: More moves than any request makes: where the number of retries is not known, every token may come from elsewhere.
_ANY_NUMBER = 1 << 20
#: What the bound of a run depends on, beside the number of moves.
_GROUPS = ("pool", "trace", "slo", "engine", "dynamics")


def most_moves(scenario: Scenario) -> int:
    """How often a request of this scenario may go on elsewhere with the tokens it has."""
    moves = 0
    if scenario.rectifier is not None and scenario.rectifier.interval_s < float("inf"):
        moves = int(getattr(scenario.rectifier, "max_moves", _ANY_NUMBER))
    faults = scenario.faults
    if faults is not None and faults.active and faults.on_crash == "retry":
        crashes = faults.crash_every_s is not None or any(fault.kind == "crash" for fault in faults.planned)
        moves = _ANY_NUMBER if crashes else moves
    return moves


def bound_of(settings: Settings, seed: int, config: BoundConfig | None = None) -> Bound:
    """The upper bound of one run: no router with this configuration's rectifier and faults makes more requests good."""
    if settings.rule != "by_arrival":
        reason = f"this configuration counts {settings.rule}; choose count=by_arrival"
        raise ConfigError(f"bound: it bounds what arrives inside the window, and {reason}")
    settings = with_window(settings)
    scenario = settings.scenario()
    # Requests that arrive after the counted window only take room: leaving them out is a relaxation. (A later turn's
    # arrival depends on the schedule, so it stays.)
    jobs = [job for job in jobs_of(settings, seed) if job.after or job.request.arrival_s <= settings.end_s]
    return upper_bound(
        jobs,
        servers_of(scenario),
        config,
        max_moves=most_moves(scenario),
        since_s=settings.start_s,
    )


@dataclasses.dataclass
class Bounds:
    """Bounds by content: equal pools, traces, SLOs and moves share one, whatever the router."""

    folder: Path | None
    config: BoundConfig
    known: dict[str, int] = dataclasses.field(default_factory=dict)

    def requests(self, settings: Settings, seed: int) -> int:
        """The bound of one run, computed where it is neither known nor on disk."""
        moves = most_moves(settings.scenario())
        values = [settings.told(_GROUPS), settings.code(__name__, groups=_GROUPS), settings.warmup_s, settings.until_s]
        values += [settings.rule, settings.drain_s]
        key = digest_of(values, moves, seed, dataclasses.asdict(self.config))
        if key not in self.known:
            self.known[key] = self._requests(key, settings, seed)
        return self.known[key]

    def _requests(self, key: str, settings: Settings, seed: int) -> int:
        kept = Kept(self.folder, "bound")
        found = kept.get(key)
        if found is None:
            bound = bound_of(settings, seed, self.config)
            found = {name: value for name, value in dataclasses.asdict(bound).items() if name != "share"}
            kept.put(key, found)
        return int(found["goodput_requests"])
