"""What routers are compared on in ``frontier``: loads, pools, objectives and errors, as changes of a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gsim.core import ConfigError, entries
from gsim.run.settings import Settings

#: Group -> option (``name``) and fields, or fields of the option that is configured; top-level values by name.
Changes = Mapping[str, Any]

#: Deadlines at which every class of agents can be served by the stronger cards and no class by every card.
_SECONDS: Mapping[str, float] = {"code_agent_light": 8.0, "sql_agent": 2.5, "math_agent": 6.0, "tool_agent": 4.0}
_UNLIKE: Mapping[str, float] = {"code_agent_light": 20.0, "sql_agent": 1.5, "math_agent": 12.0, "tool_agent": 2.5}


def _scaled(factor: float) -> dict[str, float]:
    return {task: factor * seconds for task, seconds in _SECONDS.items()}


def _agents(agents: int, seconds: Mapping[str, float] = _SECONDS, **others: Any) -> Changes:
    trace = {"name": "agents", "agents": agents}
    slo = {"name": "per_class", "seconds": dict(seconds), "other_s": 6.0}
    return {"trace": trace, "slo": slo, "warmup_s": 120.0, "until_s": 240.0, **others}


def _singles(rate_per_s: float, seconds: float = 6.0, **others: Any) -> Changes:
    trace = {"name": "paper", "rate_per_s": rate_per_s, "requests": None, "duration_s": 40.0}
    return {"trace": trace, "slo": {"name": "fixed", "seconds": seconds}, "warmup_s": 10.0, "until_s": None, **others}


def _pool(**counts: int) -> Changes:
    instances = [{"profile": f"{card}-llama-3.1-8b", "count": count} for card, count in counts.items()]
    return {"pool": {"instances": instances}}


_HEAVY: Changes = {
    "trace": {"name": "agents", "agents": 60, "classes": ["code_agent"], "max_context_tokens": 32768},
    "slo": {"name": "scaled", "scale": 3.0, "profile": "a800-llama-3.1-8b"},
    # Half of the sessions take more than 150 s, one in ten more than 280 s.
    "warmup_s": 300.0,
    "until_s": 900.0,
}

CASES: Mapping[str, Changes] = {
    **{f"{agents} agents": _agents(agents) for agents in (40, 90, 130, 170, 260)},
    **{f"singles {rate}/s": _singles(float(rate)) for rate in (48, 68, 88, 110, 136)},
    "code agents of 32k": _HEAVY,
    "six V100, one H800": _agents(120, **_pool(v100=6, h800=1)),
    "two A40, two A800": _agents(90, **_pool(a40=2, a800=2)),
    "tight objectives": _agents(90, _scaled(0.75)),
    "loose objectives": _agents(170, _scaled(1.5)),
    "unlike objectives": _agents(100, _UNLIKE),
    "no prefix cache": _agents(60, engine={"prefix_caching": False}),
    "agents, true lengths": _agents(130, predictor={"name": "oracle"}),
    "agents, error 60 %": _agents(130, predictor={"name": "noisy", "error": 0.6}),
    "agents, class means": _agents(130, predictor={"name": "class_mean"}),
    "singles, true lengths": _singles(88.0, predictor={"name": "oracle"}),
    "singles, error 60 %": _singles(88.0, predictor={"name": "noisy", "error": 0.6}),
    "singles, class means": _singles(88.0, predictor={"name": "class_mean"}),
    "agents, streams every 5 s": _agents(130, telemetry={"stream_interval_s": 5.0, "interval_s": 5.0}),
    "a crash": _singles(
        55.0, faults={"name": "injected", "planned": [{"kind": "crash", "instance": 3, "at_s": 20.0, "for_s": 10.0}]}
    ),
    "a slow-down": _agents(
        90,
        faults={
            "name": "injected",
            "planned": [{"kind": "slow", "instance": 3, "at_s": 140.0, "for_s": 40.0, "factor": 0.5}],
        },
    ),
}

#: Policies that are more than the default of a router: name -> what is chosen.
VARIANTS: Mapping[str, Changes] = {
    "GoodServe": {"router": {"name": "goodserve"}, "rectifier": {"name": "risk_monitor"}},
    "sacrifice": {"router": {"name": "goodserve", "infeasible": "sacrifice"}},
    "sacrifice, hope 0": {"router": {"name": "goodserve", "infeasible": "sacrifice", "hope": 0.0}},
    # Both count what is cached themselves, so a computed token is to take its own time.
    "marginal": {"router": {"name": "marginal"}, "estimator": {"prefill_of": "computed"}},
    "marginal, marginal moves": {
        "router": {"name": "marginal"},
        "estimator": {"prefill_of": "computed"},
        "rectifier": {"name": "marginal"},
    },
    "marginal, risk_monitor": {
        "router": {"name": "marginal"},
        "estimator": {"prefill_of": "computed"},
        "rectifier": {"name": "risk_monitor"},
    },
    "goodserve, marginal moves": {"router": {"name": "goodserve"}, "rectifier": {"name": "marginal"}},
    "goodserve_prefix, computed": {"router": {"name": "goodserve_prefix"}, "estimator": {"prefill_of": "computed"}},
}


def check_policies(names: Sequence[str]) -> None:
    """Raises ``ConfigError`` where one of them is neither a variant nor a router."""
    allowed = (*VARIANTS, *entries("router"))
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise ConfigError(f"policies: '{unknown[0]}' is unknown; allowed: {in_quotes(allowed)}")


def in_quotes(names: Iterable[str]) -> str:
    """Names one after the other; those with a comma or a blank in quotes, as a list on the command line wants them."""
    return ", ".join(name if name.isidentifier() else f'"{name}"' for name in names)


def changed(settings: Settings, changes: Changes) -> Settings:
    """The configuration with some groups or top-level values changed; raises ``ConfigError`` on what cannot be."""
    plain = settings.plain()
    for key, value in changes.items():
        if isinstance(value, Mapping) and "name" not in value:
            plain[key] = {**plain[key], **value}
        else:
            plain[key] = dict(value) if isinstance(value, Mapping) else value
    return Settings.read(plain)


def with_policy_named(settings: Settings, policy: str) -> Settings:
    """The configuration under a variant, or a router by its name; without rectifier unless the variant has one."""
    chosen = VARIANTS.get(policy, {"router": {"name": policy}})
    return changed(settings, {"rectifier": {"name": "none"}, **chosen})
