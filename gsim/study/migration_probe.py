"""One request that is moved once, on a pool of two: what the migration studies measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.cluster import InstanceSpec, Scenario, simulate
from gsim.core import ActiveRequests, ClusterView, Job, Migration, Outcome, Request, Session, Streams, build
from gsim.core.errors import ConfigError
from gsim.engine import EngineConfig
from gsim.latency import Profile, load_profile
from gsim.migration import LinkConfig

#: When the probe arrives: the background load has settled by then.
_PROBE_S = 10.0
_BACKGROUND_PROMPT = 512
_BACKGROUND_OUTPUT = (50, 350)


@dataclass(frozen=True)
class Probe:
    """One migration to be measured."""

    mechanism: str
    source: str
    """Profile of the source."""
    target: str
    link: LinkConfig
    context_tokens: int
    """Prompt and generated tokens when the move is decided."""
    background_rps: float = 0.0
    """Requests per second that each of the two instances serves besides (512 prompt, 50 to 350 output tokens)."""
    control_s: float | None = None
    """Overrides the mechanism's control time."""


@dataclass(frozen=True)
class ProbeTimes:
    """What a migration took; NaN where the mechanism gave up."""

    to_target_s: float
    """From the decision to the first token from the target."""
    stalled_s: float
    """From when the request stopped at the source to that token: what its user sees."""
    transfer_s: float = np.nan
    """From when it stopped to when it was queued at the target: control messages and the last transfer."""
    copied_bytes: float = np.nan
    """What went over the link, all stages together."""


@dataclass
class _MoveOnce:
    """Moves request 0 to instance 1 when it has generated some tokens."""

    after_tokens: int
    interval_s: float = 0.02
    needs: ClassVar[frozenset[str]] = frozenset()

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        mine = (active.request_id == 0) & (active.instance == 0) & ~active.moving & (active.moves == 0)
        ready = mine & (active.generated_tokens >= self.after_tokens)
        return [Migration(0, 1, "probe")] if ready.any() else []


@dataclass
class _ProbeFirst:
    """The probe to instance 0, the others in turn."""

    def route(self, request: Request, view: ClusterView) -> int:
        return 0 if request.request_id == 0 else request.request_id % 2


#: Output tokens of the probe before the move is decided.
_BEFORE_TOKENS = 16


def measure(probe: Probe, seed: int) -> ProbeTimes:
    """Simulate one migration; raises ``ConfigError`` where the pool cannot hold the probe."""
    return measure_between(load_profile(probe.source), load_profile(probe.target), probe, seed)


def measure_between(source: Profile, target: Profile, probe: Probe, seed: int) -> ProbeTimes:
    """The same between two profiles that are at hand (``probe.source`` and ``probe.target`` are not looked up)."""
    for profile in (source, target):
        if probe.context_tokens + 600 > min(profile.max_model_len, profile.kv_tokens):
            raise ConfigError(f"contexts: {probe.context_tokens} tokens do not fit {profile.name}")
    specs = (InstanceSpec("source", source, EngineConfig()), InstanceSpec("target", target, EngineConfig()))
    mechanism = build("mechanism", probe.mechanism)
    if probe.control_s is not None:
        mechanism = dataclasses.replace(mechanism, control_s=probe.control_s)
    scenario = Scenario(
        instances=specs,
        router=_ProbeFirst(),
        predictor=build("predictor", "oracle"),
        estimator=build("estimator", "ema"),
        rectifier=_MoveOnce(_BEFORE_TOKENS),
        mechanism=mechanism,
        link=probe.link,
    )
    result = simulate(scenario, _sessions(probe, Streams(seed)), seed)
    moves = result.moves
    if not len(moves["outcome"]) or moves["outcome"][0] != Outcome.MOVED:
        return ProbeTimes(np.nan, np.nan)
    first = {name: float(values[0]) for name, values in moves.items()}
    return ProbeTimes(
        to_target_s=first["next_token_s"] - first["decided_s"],
        stalled_s=first["next_token_s"] - first["stopped_s"],
        transfer_s=first["submitted_s"] - first["stopped_s"],
        copied_bytes=first["copied_bytes"],
    )


def _sessions(probe: Probe, streams: Streams) -> Iterator[Session]:
    """The probe, among background requests on both sides of it in time."""
    prompt = max(probe.context_tokens - _BEFORE_TOKENS, 1)
    asked = Job(Request(0, _PROBE_S, prompt, 500, 1e6, session_id=0), 500)
    rng = streams.stream("background")
    now_s, request_id = 0.0, 1
    sent = False
    while now_s < 2 * _PROBE_S and probe.background_rps > 0:
        now_s += float(rng.exponential(0.5 / probe.background_rps))
        if not sent and now_s >= _PROBE_S:
            yield Session(0, _PROBE_S, (asked,))
            sent = True
        output = int(rng.integers(_BACKGROUND_OUTPUT[0], _BACKGROUND_OUTPUT[1] + 1))
        request = Request(request_id, now_s, _BACKGROUND_PROMPT, 512, 1e6, session_id=request_id)
        yield Session(request_id, now_s, (Job(request, output),))
        request_id += 1
    if not sent:
        yield Session(0, _PROBE_S, (asked,))
