"""The view as one policy gets it: the signals that it declared, and none of them to be written.

A signal that nobody needs is not maintained, so a policy that reads one without saying so would read silent zeros. Here
it gets an error that names the signal and the policy; reading what was declared costs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gsim.core.errors import SimulationError
from gsim.core.view import Bools, ClusterView, StaticView

#: Class of costly signals, as a policy declares it in ``needs`` -> the signals of the view that belong to it.
SIGNALS: Mapping[str, tuple[str, ...]] = {
    "scrape": ("running", "waiting", "kv_usage", "scraped_s"),
    "estimates": ("queue_s", "prefill_s_per_token", "tpot_s"),
    "prediction": ("predict", "in_flight_tokens"),
    "prefix": ("prefix_tokens",),
    "requests": ("observed",),
}
_NEED_OF = {signal: need for need, signals in SIGNALS.items() for signal in signals}


class PolicyView(ClusterView):
    """A ``ClusterView`` on the memory of another, for one policy.

    It is what the policy is handed, at every call. ``now_s`` is its own: who asks the policy sets it.
    """

    __slots__ = ()

    @classmethod
    def on(cls, view: ClusterView, policy: str, needs: Collection[str], available: Bools | None = None) -> PolicyView:
        """A view for ``policy`` (its name in errors) with the signals of the classes in ``needs``.

        ``available``: in the place of the view's own, where roles leave it less to choose from.
        """
        # A class of its own, in which reading an undeclared signal is an error. (With ``__getattr__``, which is asked
        # for what is missing, reading what is there would cost three times as much.)
        undeclared = {name: _undeclared(name, need, policy) for name, need in _NEED_OF.items() if need not in needs}
        made: PolicyView = object.__new__(type(cls.__name__, (cls,), {"__slots__": (), **undeclared}))
        for field in dataclasses.fields(ClusterView):
            if field.name not in undeclared:
                setattr(made, field.name, _unwritable(getattr(view, field.name)))
        if available is not None:
            made.available = _unwritable(available)
        return made


def _undeclared(name: str, need: str, policy: str) -> property:
    """A signal that a policy did not declare to need."""

    def refuse(_: PolicyView) -> Any:
        raise SimulationError(
            f"{policy} reads view.{name} without declaring it: add '{need}' to its needs "
            f'(needs: ClassVar[frozenset[str]] = frozenset({{"{need}"}}))'
        )

    return property(refuse)


def _unwritable(signal: Any) -> Any:
    if isinstance(signal, np.ndarray):
        signal = signal.view()
        signal.flags.writeable = False
    elif isinstance(signal, StaticView):
        fields = {f.name: _unwritable(getattr(signal, f.name)) for f in dataclasses.fields(signal)}
        return StaticView(**fields)
    return signal
