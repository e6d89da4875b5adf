"""One run's configuration as typed values: what Hydra composed ends here, nothing below sees a ``DictConfig``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gsim.cluster import Horizon, Scenario
from gsim.cluster.slot_config import SlotConfig
from gsim.core import ConfigError, Population, Session, Streams
from gsim.core.construct import construct
from gsim.metrics import RULES, Objective, Rule, Window
from gsim.run.choice import Choice
from gsim.run.key import PILOT, PILOT_POLICIES, RUN, Chosen, code_digest, digest_of, inputs_digest, key_of, resolved
from gsim.run.limit import Limit
from gsim.run.options import RUN_GROUPS
from gsim.run.schema import plain_value

#: Results are kept per run: more runs of one cell are a typing error.
MOST_SEEDS = 100_000

#: A time that is chosen from the workload and a first look at the pool (``gsim.run.warmup``).
AUTO: Literal["auto"] = "auto"
Auto = Literal["auto"]


@dataclass(frozen=True)
class Settings:
    """One run's configuration, its seeds aside."""

    choices: Mapping[str, Choice]
    warmup_s: float | Auto = 0.0
    """What comes before (see ``count``) is simulated but not counted."""
    until_s: float | Auto | None = None
    """What comes later is simulated but not counted."""
    count: Rule | Auto = AUTO
    """What must lie in the window: ``by_arrival`` a request's arrival, ``by_session`` its session's beginning,
    ``by_completion`` its end; auto: by session for generated agents, by completion for a closed population, else by
    arrival."""
    drain_s: float | None = None
    """By session: for so long the run goes on after ``until_s`` at most, under load, for the counted sessions to end
    (None: as long as the window is); those that have not are cut, and misses."""
    goodput: str = ""
    """Further limits in the notation of ``vllm bench serve --goodput`` (``ttft:500 tpot:50 e2el:6000``, ms)."""
    max_hold_s: float = 600.0
    """A request that the router holds for longer is rejected."""
    limit: Limit = field(default_factory=Limit)
    """When a run that is still going on is stopped."""

    def __post_init__(self) -> None:
        warmup_s, until_s = self.warmup_s, self.until_s
        if warmup_s != AUTO and not 0 <= warmup_s < math.inf:
            raise ConfigError(f"warmup_s must be 0 or more, or auto; not {warmup_s}")
        least_s = 0.0 if warmup_s == AUTO else warmup_s
        if until_s is not None and until_s != AUTO and not least_s < until_s < math.inf:
            raise ConfigError(f"until_s must be later than warmup_s ({warmup_s}), or null or auto; not {until_s}")
        if self.count != AUTO and self.count not in RULES:
            raise ConfigError(f"count must be auto or one of {', '.join(RULES)}; not {self.count!r}")
        if self.drain_s is not None and not 0 <= self.drain_s < math.inf:
            raise ConfigError(f"drain_s must be 0 or more, or null; not {self.drain_s}")
        _ = self.objective
        self._check_load()

    def _check_load(self) -> None:
        trace, dynamics = self.choices["trace"].name, self.choices["dynamics"].name
        if self.closed and self.until_s is None:
            raise ConfigError(
                f"trace={trace} goes on for ever: say what is counted and when the run stops, "
                "for example warmup_s=100 until_s=300 (or until_s=auto)"
            )
        if self.closed and dynamics != "none":
            raise ConfigError(f"dynamics={dynamics} changes when sessions arrive; in trace={trace} none arrives")
        if self.rule == "by_completion" and self.until_s is None:
            raise ConfigError("count=by_completion needs until_s: without load nothing tells how much gets done")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Settings:
        """From the resolved configuration (plain values); raises ``ConfigError`` on what cannot be simulated."""
        choices = {group: Choice.read(group, values.get(group)) for group in RUN_GROUPS}
        return cls(
            choices,
            warmup_s=_time(values, "warmup_s"),
            until_s=None if values.get("until_s") is None else _time(values, "until_s"),
            count=values.get("count") or AUTO,
            drain_s=None if values.get("drain_s") is None else _number(values, "drain_s", 0.0),
            goodput=str(values.get("goodput") or ""),
            max_hold_s=_number(values, "max_hold_s", 600.0),
            limit=_limit(values.get("limit") or {}),
        )

    @property
    def start_s(self) -> float:
        """The earlier end of the window; raises ``ConfigError`` where it is yet to be chosen."""
        return _known("warmup_s", self.warmup_s)

    @property
    def end_s(self) -> float:
        """The later end of the window, infinite where there is none."""
        return math.inf if self.until_s is None else _known("until_s", self.until_s)

    @property
    def auto(self) -> bool:
        """An end of the window is yet to be chosen."""
        return AUTO in (self.warmup_s, self.until_s)

    @property
    def closed(self) -> bool:
        """The load is a closed population."""
        return self._counting == "by_completion"

    @property
    def _counting(self) -> Rule:
        """How a trace of this kind is counted."""
        rule: Rule = getattr(self.choices["trace"].config, "counting", "by_arrival")
        return rule

    @property
    def rule(self) -> Rule:
        """By what requests are counted."""
        return self._counting if self.count == AUTO else self.count

    @property
    def window(self) -> Window:
        """What is counted."""
        return Window(self.start_s, self.end_s, self.rule)

    @property
    def horizon(self) -> Horizon | None:
        """When the run stops; None: when everything that arrives has ended."""
        if self.until_s is None or not (self.closed or self.rule == "by_session"):
            return None
        if self.rule != "by_session":
            return Horizon(self.end_s, self.end_s)
        drain_s = self.end_s - self.start_s if self.drain_s is None else self.drain_s
        return Horizon(self.end_s, self.end_s + drain_s, self.start_s)

    @property
    def objective(self) -> Objective:
        """The further limits, read."""
        return Objective.parse(self.goodput)

    def scenario(self) -> Scenario:
        """Fresh pool and policies for one run."""
        made = {group: self.choices[group].build() for group in RUN_GROUPS if group not in ("trace", "slo", "dynamics")}
        return Scenario(
            instances=made["pool"].build(made["engine"]),
            router=made["router"],
            predictor=made["predictor"],
            estimator=made["estimator"],
            rectifier=made["rectifier"],
            mechanism=made["mechanism"],
            handover=made["handover"],
            link=made["link"],
            telemetry=made["telemetry"],
            faults=made["faults"],
            max_hold_s=self.max_hold_s,
            scaler=made["scaler"],
            # A pool that a caller has made need not say what starting takes.
            slots=getattr(made["pool"], "slots", SlotConfig()),
        )

    def trace(self) -> Any:
        """The trace. Where the run has a horizon, a generated trace goes on to it, whatever its own limits."""
        trace = self.choices["trace"].build()
        horizon = self.horizon
        if horizon is not None and {"requests", "duration_s"} <= {field.name for field in dataclasses.fields(trace)}:
            trace = dataclasses.replace(trace, requests=None, duration_s=horizon.end_s)
        return trace

    def workload(self) -> str:
        """A name of what arrives: configurations of equal names are under the same load, seed by seed."""
        until = (self.warmup_s, self.until_s, self.count, self.drain_s)
        return digest_of(self.told(("trace", "slo", "dynamics")), until)

    def load(self, seed: int, trace: Any = None) -> Iterator[Session] | Population:
        """What the run of this seed is under: sessions as they arrive, or a closed population."""
        if not self.closed:
            return self.sessions(seed, trace)
        trace = self.trace() if trace is None else trace
        population: Population = trace.population(Streams(seed), self.choices["slo"].build())
        return population

    def sessions(self, seed: int, trace: Any = None) -> Iterator[Session]:
        """What arrives in the run of this seed (of ``trace``: the configured one, built by who asks for its report).

        Raises ``ConfigError`` for a closed population: when its sessions start depends on the pool.
        """
        trace = self.trace() if trace is None else trace
        sessions: Iterator[Session] = trace.sessions(Streams(seed), self.choices["slo"].build())
        dynamics = self.choices["dynamics"].build()
        return sessions if dynamics is None else dynamics.apply(sessions)

    def plain(self) -> dict[str, Any]:
        """The configuration as plain values, in a fixed order (what ``config.yaml`` holds and a run's key hashes)."""
        values: dict[str, Any] = {
            group: {"name": choice.name, **plain_value(choice.fields)} for group, choice in self.choices.items()
        }
        return values | self._top()

    def _top(self) -> dict[str, Any]:
        names = ("warmup_s", "until_s", "count", "drain_s", "goodput", "max_hold_s")
        return {name: getattr(self, name) for name in names} | {"limit": plain_value(self.limit)}

    def replace(self, **values: Any) -> Settings:
        """A copy with other top-level values or groups (``router={"name": "random"}``)."""
        return Settings.read({**self.choices, **self._top(), **values})

    @property
    def own_objects(self) -> list[str]:
        """The groups in which an object was given: such a run has no key, and is not stored."""
        return [group for group, choice in self.choices.items() if choice.given is not None]

    def code(self, *starts: str, groups: Iterable[str] = RUN_GROUPS) -> str:
        """The digest of the code of this run (of ``starts`` and these groups' choices, where they are given)."""
        pilot = (RUN, PILOT, *PILOT_POLICIES) if self.auto and not starts else ()
        return code_digest(self._chosen(groups), *starts, *pilot)

    def basis(self, code: str | None = None) -> str:
        """What the keys of all seeds share: configuration, input files, code (None: as it is now).

        Raises ``InputError`` for a named file that cannot be read.
        """
        if self.own_objects:
            raise ConfigError(f"{self.own_objects[0]} is an object of its own: nothing says what its results depend on")
        return digest_of(self.told(), self._further(), code or self.code())

    def _further(self) -> dict[str, Any]:
        """The top-level values that results depend on."""
        return {name: value for name, value in self._top().items() if name != "limit"}

    def identity(self) -> str:
        """A name of this configuration inside this process, objects of its own included."""
        return digest_of(self.told(), self._further())

    def told(self, groups: Iterable[str] = RUN_GROUPS) -> str:
        """A digest of what is chosen in these groups: options, fields and the files that they name."""
        chosen = self._chosen(groups)
        return digest_of(chosen, inputs_digest(chosen))

    def key(self, seed: int, code: str | None = None) -> str:
        """The content address of the run with this seed (see ``basis``)."""
        return key_of(self.basis(code), seed)

    def _chosen(self, groups: Iterable[str]) -> dict[str, Chosen]:
        """These groups' options by name, and their fields with their defaults."""
        choices = [self.choices[group] for group in groups]
        return {
            c.group: (c.told, c.fields if c.given is not None else resolved(c.group, c.name, c.fields)) for c in choices
        }


def read_seeds(value: Any) -> tuple[int, ...]:
    """``5`` is five seeds 0 to 4, ``[3, 7]`` these two; raises ``ConfigError`` on anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SEEDS:
        return tuple(range(value))
    if isinstance(value, list | tuple) and value and all(type(v) is int and 0 <= v < 1 << 63 for v in value):
        if len(set(value)) < len(value):
            raise ConfigError(f"seeds: {list(value)} has a seed twice; runs of equal seeds are equal")
        return tuple(value)
    raise ConfigError(
        f"seeds must be a count (1 to {MOST_SEEDS}) or a list of numbers from 0 to 2^63 - 1, not {str(value)[:80]}"
    )


def _limit(values: Any) -> Limit:
    if not isinstance(values, Mapping):
        raise ConfigError(f"limit must be a mapping with simulated_s or wall_s, not {values!r}")
    limit: Limit = construct(Limit, values, "limit")
    return limit


def _number(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} must be a number, not {value!r}")
    return float(value)


def _time(values: Mapping[str, Any], name: str) -> float | Auto:
    return AUTO if values.get(name) == AUTO else _number(values, name, 0.0)


def _known(name: str, value: float | Auto) -> float:
    if value == AUTO:
        raise ConfigError(f"{name}=auto: here it must be given in seconds")
    return value
