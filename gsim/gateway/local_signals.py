"""What a gateway counts itself of every instance: the view's local signals, exact and fresh."""

from __future__ import annotations

from math import isnan
from typing import final

from gsim.core import ClusterView
from gsim.core.view import float_cells, int_cells
from gsim.gateway.active import Active


@final
class LocalSignals:
    """The only writer of requests and tokens in flight; between scrapes it also corrects the scraped queues."""

    def __init__(self, view: ClusterView, tokens: bool, queues: bool) -> None:
        """``tokens``: count tokens in flight, as predicted; ``queues``: count into ``running`` and ``waiting``."""
        self._tokens = tokens
        self._queues = queues
        self._in_flight = int_cells(view.in_flight)
        self._prefill_tokens = int_cells(view.in_flight_prefill_tokens)
        self._in_flight_tokens = float_cells(view.in_flight_tokens)
        self._running, self._waiting = int_cells(view.running), int_cells(view.waiting)

    def sent(self, active: Active) -> None:
        """A request is sent to its instance (whoever counts tokens has asked for its prediction)."""
        instance = active.instance
        self._in_flight[instance] += 1
        self._prefill_tokens[instance] += active.prompt_tokens
        if self._tokens:
            active.charged_tokens = active.origin.request.prompt_tokens + active.predicted_tokens
            self._in_flight_tokens[instance] += active.charged_tokens
        if self._queues:
            self._waiting[instance] += 1

    def first_token(self, active: Active) -> None:
        """Its prompt has been computed there."""
        self._prefill_tokens[active.instance] -= active.prompt_tokens

    def left(self, active: Active) -> None:
        """It is no longer on its instance."""
        instance = active.instance
        self._in_flight[instance] -= 1
        if isnan(active.instance_first_token_s):
            self._prefill_tokens[instance] -= active.prompt_tokens
        if self._tokens:
            self._in_flight_tokens[instance] -= active.charged_tokens
        if self._queues:
            # A finished request was running; one that never ran was waiting.
            gauge = self._waiting if isnan(active.instance_first_token_s) else self._running
            if gauge[instance] > 0:
                gauge[instance] -= 1
