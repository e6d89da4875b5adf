"""The median length of a request's task class."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsim.core import Request, register
from gsim.prediction.length_window import LengthWindow
from gsim.prediction.options import check_counts
from gsim.prediction.overrun import overrun
from gsim.prediction.spread import certain


@register("predictor", "class_median")
@dataclass
class ClassMedian:
    """The median of recent requests of the same task class: what a predictor of absolute errors has to beat.

    With tokens generated, the median of those that were longer. Before anything was observed: the prior.
    """

    prior_tokens: float = 256.0
    """The prediction before anything of the class was observed."""
    window: int = 4000
    """How many lengths per class are remembered."""
    _windows: dict[str, LengthWindow] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_counts(self, "prior_tokens", "window")

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """The class's median among what is still possible."""
        window = self._windows.get(request.task)
        found = window.quantile_above(generated_tokens, 0.5) if window is not None else None
        return found if found is not None else overrun(self.prior_tokens, generated_tokens)

    def predict_quantiles(self, request: Request, generated_tokens: int = 0) -> list[float]:
        """The class's lengths beyond what was generated."""
        window = self._windows.get(request.task)
        found = window.quantiles_above(generated_tokens) if window is not None else []
        return found or certain(overrun(self.prior_tokens, generated_tokens))

    def observe(self, request: Request, output_tokens: int) -> None:
        """Remember a length."""
        if request.task not in self._windows:
            self._windows[request.task] = LengthWindow(self.window)
        self._windows[request.task].add(output_tokens)
