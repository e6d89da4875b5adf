"""The policies of a gateway, and what follows from which ones they are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gsim.core import ConfigError, Estimator, Handover, Predictor, Rectifier, Router, Scaler
from gsim.core.answers import interval_of, title
from gsim.core.policy_view import SIGNALS
from gsim.core.scheduling import EnginePolicy
from gsim.migration import Mechanism

#: What the policies of a group have.
PROTOCOLS: Mapping[str, type] = {
    "router": Router,
    "predictor": Predictor,
    "estimator": Estimator,
    "rectifier": Rectifier,
    "mechanism": Mechanism,
    "scaler": Scaler,
    "handover": Handover,
}


@dataclass(frozen=True)
class Policies:
    """Who decides. They keep what they learn, so they are for one run (or one server's life).

    ``ConfigError`` where one of them lacks what its protocol has.
    """

    router: Router
    predictor: Predictor
    estimator: Estimator
    rectifier: Rectifier | None = None
    mechanism: Mechanism | None = None
    scaler: Scaler | None = None
    handover: Handover | None = None
    """In a pool with roles; elsewhere nobody asks it."""

    def __post_init__(self) -> None:
        for group, policy in self.by_group.items():
            require_complete(group, policy)

    @property
    def by_group(self) -> dict[str, object]:
        """The policies that there are, by the group that each was chosen from."""
        return {group: getattr(self, group) for group in PROTOCOLS if getattr(self, group) is not None}

    @property
    def needs(self) -> frozenset[str]:
        """The costly classes of signals that the router, the rectifier, the scaler or the handovers declare to use."""
        deciding = needs_of("router", self.router) | needs_of("rectifier", self.rectifier)
        return deciding | needs_of("scaler", self.scaler) | needs_of("handover", self.handover)

    @property
    def reviews(self) -> bool:
        """Whether somebody reviews the requests in flight."""
        if self.rectifier is None:
            return False
        return interval_of(self.rectifier, title("rectifier", self.rectifier)) < math.inf

    @property
    def scales(self) -> bool:
        """Whether somebody reviews how many instances are up."""
        if self.scaler is None:
            return False
        return interval_of(self.scaler, title("scaler", self.scaler)) < math.inf


def require_complete(group: str, policy: object) -> None:
    """``ConfigError`` that names the method or attribute which a policy (of an engine's queue too) lacks."""
    for name, member in vars(PROTOCOLS.get(group, EnginePolicy)).items():
        if isinstance(member, property):
            if not hasattr(policy, name):
                raise ConfigError(f"{title(group, policy)} has no attribute {name}")
        elif not name.startswith("_"):
            taken = list(inspect.signature(member).parameters)[1:]
            method = getattr(policy, name, None)
            if not callable(method):
                raise ConfigError(f"{title(group, policy)} has no method {name}({', '.join(taken)})")
            if not _takes(method, len(taken)):
                raise ConfigError(f"{title(group, policy)}: {name} must take ({', '.join(taken)})")


def _takes(method: Callable[..., object], arguments: int) -> bool:
    """Whether a method can be called with so many arguments in their places; true where that cannot be told."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True


def needs_of(group: str, policy: object) -> frozenset[str]:
    """The classes of costly signals that a policy of a group declares; ``ConfigError`` where one of them is none."""
    asked: object = getattr(policy, "needs", frozenset())
    if not isinstance(asked, Collection) or isinstance(asked, str | bytes):
        raise ConfigError(
            f"{title(group, policy)} has needs = {asked!r}; allowed: a set of {sorted(SIGNALS)}, "
            "as in needs: ClassVar[frozenset[str]] = frozenset({'estimates'})"
        )
    unknown = [need for need in asked if not isinstance(need, str) or need not in SIGNALS]
    if unknown:
        named = ", ".join(map(repr, unknown))
        raise ConfigError(f"{title(group, policy)} declares unknown needs: {named}; allowed: {sorted(SIGNALS)}")
    return frozenset(asked)
