"""What the predictor says of the requests in flight: asked once for each, and remembered until it ends."""

from __future__ import annotations

from math import isnan
from typing import Any, final

from gsim.core import Job, Oracle, Predictor, QuantilePredictor, Request
from gsim.core.answers import quantiles_of, title, tokens_of
from gsim.core.scheduling import Forecast
from gsim.gateway.active import Active


@final
class Predictions:
    """The predictor's answers, checked, for the requests in ``active`` (by id)."""

    def __init__(self, predictor: Predictor, active: dict[int, Active]) -> None:
        self._predictor: Any = predictor
        self._title = title("predictor", predictor)
        self._observe = predictor.observe
        self._oracle = predictor if isinstance(predictor, Oracle) else None
        self._spread = predictor if isinstance(predictor, QuantilePredictor) else None
        self._active = active

    def arrived(self, job: Job) -> None:
        """A request has arrived: an oracle is told the truth."""
        if self._oracle is not None:
            self._oracle.reveal(job)

    def ask(self, active: Active) -> None:
        """See to it that there is a prediction of a request."""
        if isnan(active.predicted_tokens):
            predicted: object = self._predictor.predict(active.origin.request)
            active.predicted_tokens = tokens_of(predicted, self._title, active.request_id)

    def of(self, request: Request) -> float:
        """The view's ``predict``: output tokens of a request that has not ended."""
        active = self._active[request.request_id]
        self.ask(active)
        # A resumed request's prompt holds what it generated: what is left is what the instance will generate.
        return max(active.predicted_tokens - active.generated_before, 1.0)

    def sent_along(self, active: Active, *, spread: bool) -> Job:
        """The job with what is predicted of it, for an engine that asks; ``spread``: with the distribution, if any."""
        self.ask(active)
        before = active.generated_before
        quantiles: tuple[float, ...] = ()
        if spread and self._spread is not None:
            answer: object = self._spread.predict_quantiles(active.origin.request, before)
            totals = quantiles_of(answer, self._title, active.request_id)
            quantiles = tuple([max(total - before, 1.0) for total in totals])
        forecast = Forecast(max(active.predicted_tokens - before, 1.0), quantiles)
        return active.job._replace(forecast=forecast)

    def finished(self, active: Active) -> None:
        """The predictor learns how long the request became."""
        self._observe(active.origin.request, active.generated_before)
