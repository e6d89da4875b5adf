"""Which instances are up, and which legs of a request each of them takes."""

from __future__ import annotations

import numpy as np

from gsim.core import DECODE, PREFILL, ClusterView
from gsim.core.view import Bools


class Legs:
    """The instances that may be sent requests, by the kind of leg; without roles both are the view's ``available``."""

    def __init__(self, view: ClusterView, *, with_roles: bool) -> None:
        self._view = view
        self._roles = view.static.role if with_roles else ()
        self.first = self._taking(other=DECODE)
        """Which are up and may be sent requests."""
        self.decode = self._taking(other=PREFILL)
        """Which are up and may go on with requests whose prompt was computed elsewhere."""

    def _taking(self, other: str) -> Bools:
        """Who is up and does not have the ``other`` role."""
        if not self._roles:
            return self._view.available
        takes: Bools = self._view.available & np.array([role != other for role in self._roles])
        return takes

    def set_up(self, instance: int, *, up: bool) -> None:
        """An instance is up, or is not any more."""
        self._view.available[instance] = up
        if self._roles:
            role = self._roles[instance]
            self.first[instance] = up and role != DECODE
            self.decode[instance] = up and role != PREFILL
