"""One run's configuration as typed values: what Hydra composed ends here, nothing below sees a ``DictConfig``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gsim.cluster import Scenario
from gsim.core import ConfigError, Session, Streams
from gsim.metrics import Objective
from gsim.run.key import Chosen, code_digest, digest_of, inputs_digest, key_of, resolved
from gsim.run.options import RUN_GROUPS, options
from gsim.run.schema import construct, plain_value

DEFAULT_SEEDS = 5


@dataclass(frozen=True)
class Choice:
    """One chosen option of a group and its fields, as plain values (policies keep state: every run builds its own)."""

    group: str
    name: str
    fields: Mapping[str, Any]

    @classmethod
    def read(cls, group: str, values: Any) -> Choice:
        """From ``{name: ..., **fields}``; raises ``ConfigError`` that lists the options."""
        if not isinstance(values, Mapping) or "name" not in values:
            raise ConfigError(f"{group} must be one of its options, not {values!r}; see python -m gsim --help")
        known = options(group)
        name = str(values["name"])
        if name not in known:
            raise ConfigError(f"unknown {group} '{name}'; there are: {', '.join(known)}")
        return cls(group, name, {key: value for key, value in values.items() if key != "name"})

    def build(self) -> Any:
        """A fresh object (None for an option that is nothing)."""
        option = options(self.group)[self.name]
        if option.config is None:
            return None
        fields = dict(self.fields)
        if any(f.name == "name" for f in dataclasses.fields(option.config)):
            fields["name"] = self.name
        return construct(option.config, fields, self.group)


@dataclass(frozen=True)
class Settings:
    """One run's configuration, its seeds aside."""

    choices: Mapping[str, Choice]
    warmup_s: float = 0.0
    """Requests that arrive before are simulated but not counted."""
    until_s: float | None = None
    """Requests that arrive later are simulated but not counted (closed-loop sessions go on after the last arrival)."""
    goodput: str = ""
    """Further limits in the notation of ``vllm bench serve --goodput`` (``ttft:500 tpot:50 e2el:6000``, ms)."""
    max_hold_s: float = 600.0
    """A request that the router holds for longer is rejected."""

    def __post_init__(self) -> None:
        if not self.warmup_s >= 0:
            raise ConfigError(f"warmup_s must be 0 or more, not {self.warmup_s}")
        if not self.end_s > self.warmup_s:
            raise ConfigError(f"until_s must be later than warmup_s ({self.warmup_s}), or null; not {self.until_s}")
        _ = self.objective

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Settings:
        """From the resolved configuration (plain values); raises ``ConfigError`` on what cannot be simulated."""
        choices = {group: Choice.read(group, values.get(group)) for group in RUN_GROUPS}
        return cls(
            choices,
            warmup_s=_number(values, "warmup_s", 0.0),
            until_s=None if values.get("until_s") is None else _number(values, "until_s", 0.0),
            goodput=str(values.get("goodput") or ""),
            max_hold_s=_number(values, "max_hold_s", 600.0),
        )

    @property
    def end_s(self) -> float:
        """The later cut, infinite where there is none."""
        return math.inf if self.until_s is None else self.until_s

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
            link=made["link"],
            telemetry=made["telemetry"],
            faults=made["faults"],
            max_hold_s=self.max_hold_s,
        )

    def sessions(self, seed: int, trace: Any = None) -> Iterator[Session]:
        """What arrives in the run of this seed (of ``trace``: the configured one, built by who asks for its report)."""
        trace = self.choices["trace"].build() if trace is None else trace
        sessions: Iterator[Session] = trace.sessions(Streams(seed), self.choices["slo"].build())
        dynamics = self.choices["dynamics"].build()
        return sessions if dynamics is None else dynamics.apply(sessions)

    def plain(self) -> dict[str, Any]:
        """The configuration as plain values, in a fixed order (what ``config.yaml`` holds and a run's key hashes)."""
        values: dict[str, Any] = {
            group: {"name": choice.name, **plain_value(choice.fields)} for group, choice in self.choices.items()
        }
        top = {"warmup_s": self.warmup_s, "until_s": self.until_s, "goodput": self.goodput}
        return values | top | {"max_hold_s": self.max_hold_s}

    def replace(self, **values: Any) -> Settings:
        """A copy with other top-level values or groups (``router={"name": "random"}``)."""
        return Settings.read(self.plain() | values)

    def code(self, *starts: str, groups: Iterable[str] = RUN_GROUPS) -> str:
        """The digest of the code of this run (of ``starts`` and these groups' choices, where they are given)."""
        return code_digest(self._chosen(groups), *starts)

    def basis(self, code: str | None = None) -> str:
        """What the keys of all seeds share: configuration, input files, code (None: as it is now).

        Raises ``InputError`` for a named file that cannot be read.
        """
        top = {name: value for name, value in self.plain().items() if name not in self.choices}
        return digest_of(self.told(), top, code or self.code())

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
        return {c.group: (c.name, resolved(c.group, c.name, c.fields)) for c in choices}


def read_seeds(value: Any) -> tuple[int, ...]:
    """``5`` is five seeds 0 to 4, ``[3, 7]`` these two; raises ``ConfigError`` on anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return tuple(range(value))
    if isinstance(value, list | tuple) and value and all(type(v) is int and v >= 0 for v in value):
        if len(set(value)) < len(value):
            raise ConfigError(f"seeds: {list(value)} has a seed twice; runs of equal seeds are equal")
        return tuple(value)
    raise ConfigError(f"seeds must be a count (1 or more) or a list of numbers from 0, not {value!r}")


def _number(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} must be a number, not {value!r}")
    return float(value)
