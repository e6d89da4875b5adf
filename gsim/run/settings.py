"""One run's configuration as typed values: what Hydra composed ends here, nothing below sees a ``DictConfig``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsim.cluster import Scenario
from gsim.core import ConfigError, Session, Streams
from gsim.latency.load import search_path
from gsim.metrics import Objective
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

    def key(self, seed: int, code: str) -> str:
        """The content address of the run with this seed: configuration, input files, code version."""
        text = json.dumps([self.plain(), _inputs(self.plain()), code, seed], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


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


_DIGESTS: dict[tuple[str, int, int], str] = {}


def _inputs(value: Any) -> dict[str, str]:
    """The digests of all files that the configuration names (profiles included), by the value that names them."""
    found: dict[str, str] = {}
    for text in _texts(value):
        path = _file(text)
        if path is not None:
            found[text] = _digest(path)
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str | Path):
        yield str(value)


def _file(text: str) -> Path | None:
    if not text or len(text) > 500:
        return None
    path = Path(text)
    if path.exists() and ("/" in text or path.suffix):
        return path
    named = [folder / f"{text.lower()}.yaml" for folder in search_path()]
    return next((file for file in named if file.is_file()), None)


def _digest(path: Path) -> str:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        memo = (str(file.resolve()), stat.st_mtime_ns, stat.st_size)
        if memo not in _DIGESTS:
            with file.open("rb") as stream:
                _DIGESTS[memo] = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(_DIGESTS[memo].encode())
    return digest.hexdigest()[:20]
