"""The policies of a gateway, and what follows from which ones they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsim.core import ConfigError, Estimator, Predictor, Rectifier, Router
from gsim.core.answers import interval_of, title
from gsim.core.policy_view import SIGNALS
from gsim.migration import Mechanism


@dataclass(frozen=True)
class Policies:
    """Who decides. They keep what they learn, so they are for one run (or one server's life)."""

    router: Router
    predictor: Predictor
    estimator: Estimator
    rectifier: Rectifier | None = None
    mechanism: Mechanism | None = None

    @property
    def by_group(self) -> dict[str, object]:
        """The policies that there are, by the group that each was chosen from."""
        groups = ("router", "predictor", "estimator", "rectifier", "mechanism")
        return {group: getattr(self, group) for group in groups if getattr(self, group) is not None}

    @property
    def needs(self) -> frozenset[str]:
        """The costly classes of signals that the router or the rectifier declares to use."""
        return needs_of(self.router) | needs_of(self.rectifier)

    @property
    def reviews(self) -> bool:
        """Whether somebody reviews the requests in flight."""
        if self.rectifier is None:
            return False
        return interval_of(self.rectifier, title("rectifier", self.rectifier)) < math.inf


def needs_of(policy: object) -> frozenset[str]:
    """The classes of costly signals that a policy declares; ``ConfigError`` where one of them is unknown."""
    known = SIGNALS.keys()
    asked = frozenset(getattr(policy, "needs", frozenset()))
    if asked - known:
        raise ConfigError(f"{type(policy).__name__}.needs: {sorted(asked - known)} unknown; allowed: {sorted(known)}")
    return asked
