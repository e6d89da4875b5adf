"""A policy under the checks of its group."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsim.contract import estimators, handovers, predictors, rectifiers, routers, scalers, schedulers
from gsim.contract.cases import BrokenError
from gsim.core import ConfigError, GsimError, Randomised, build, lookup
from gsim.core.answers import failure_of
from gsim.core.registry import entries
from gsim.gateway.policies import require_complete

Check = Callable[[Callable[[], Any]], None]

#: By group, what its policies are held to: a function per promise, whose docstring says the promise.
CHECKS: Mapping[str, Sequence[Check]] = {
    "router": routers.CHECKS,
    "predictor": predictors.CHECKS,
    "estimator": estimators.CHECKS,
    "rectifier": rectifiers.CHECKS,
    "scheduler": schedulers.CHECKS,
    "scaler": scalers.CHECKS,
    "handover": handovers.CHECKS,
}
_SEED = 7


@dataclass(frozen=True)
class Verdict:
    """One promise, and what broke it (empty: it holds)."""

    promise: str
    broken: str = ""


def groups_of(name: str) -> list[str]:
    """The groups that have a policy of this name; raises ``ConfigError`` where none has."""
    group, sign, inner = name.partition("=")
    if sign:
        if group not in CHECKS:
            raise ConfigError(f"check: {group} is no group of policies; there are: {', '.join(CHECKS)}")
        lookup(group, inner)
        return [group]
    found = [group for group in CHECKS if name in entries(group)]
    if not found:
        known = "; ".join(f"{group}: {', '.join(entries(group))}" for group in CHECKS)
        close = difflib.get_close_matches(name, [known for group in CHECKS for known in entries(group)], 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(f"check: there is no policy '{name}'{hint}. {known}")
    return found


def verdicts(group: str, name: str, /, **fields: Any) -> list[Verdict]:
    """Hold a policy to its group's promises, each on fresh objects; raises ``ConfigError`` if it cannot be made."""
    if getattr(lookup(group, name).cls, "offline", False):
        raise ConfigError(
            f"check: {group} '{name}' decides before the run, with all knowledge: there is nothing to check"
        )
    made: list[object] = []

    def make() -> Any:
        policy = build(group, name, **fields)
        if isinstance(policy, Randomised):
            policy.seed(np.random.default_rng(_SEED))
        require_complete(group, policy)
        made[:] = [policy]
        return policy

    make()
    return [_verdict(check, make, group, made) for check in CHECKS[group]]


def _verdict(
    check: Callable[[Callable[[], Any]], None], make: Callable[[], Any], group: str, made: list[object]
) -> Verdict:
    promise = " ".join((check.__doc__ or "").split()).rstrip(".")
    try:
        check(make)
    except BrokenError as error:
        return Verdict(promise, str(error))
    except (Exception, SystemExit) as error:
        told = failure_of(error, {group: made[0]})
        if told is None and not isinstance(error, GsimError):
            return Verdict(promise, f"{type(error).__name__}: {error}")
        return Verdict(promise, str(told or error))
    return Verdict(promise)


def report(group: str, name: str, found: Sequence[Verdict]) -> str:
    """The verdicts in words, a line each, and what broke the ones that do not hold (what breaks several: once)."""
    lines = [f"{group} '{name}'"]
    told: set[str] = set()
    for verdict in found:
        lines.append(f"  {'holds ' if not verdict.broken else 'BROKEN'}  {verdict.promise}")
        if verdict.broken:
            lines.append(f"          {'same fault' if verdict.broken in told else verdict.broken}")
            told.add(verdict.broken)
    good = sum(not verdict.broken for verdict in found)
    lines.append(f"  {good} of {len(found)} promises hold")
    return "\n".join(lines)
