"""Online quantiles of recent lengths, by task class and prompt length."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsim.core import ConfigError, Request, register
from gsim.prediction.length_window import LengthWindow
from gsim.prediction.options import MOST_TOKENS
from gsim.prediction.overrun import overrun
from gsim.prediction.spread import certain

_Key = tuple[str, int]


@register("predictor", "history")
@dataclass
class History:
    """A quantile of the last lengths of the same task class and prompt-length bucket (powers of two).

    With tokens generated, the quantile of those lengths that were longer: what a request that has come this far turned
    out to need. Never more than its client allows. A bucket with fewer than ``min_samples`` asks its class, a class the
    whole; before that, the prior.
    """

    quantile: float = 0.5
    """Which quantile (0.5: the median)."""
    window: int = 512
    """How many lengths per bucket are remembered."""
    min_samples: int = 8
    """With fewer lengths a bucket is not asked."""
    prior_tokens: float = 256.0
    """The prediction before anything was observed."""
    _windows: dict[_Key, LengthWindow] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1:
            raise ConfigError(f"predictor.quantile must be in [0, 1], not {self.quantile}")
        for name in ("window", "min_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"predictor.{name} must be 1 or more, not {getattr(self, name)}")
        if not 1 <= self.prior_tokens <= MOST_TOKENS:
            raise ConfigError(f"predictor.prior_tokens must be from 1 to {MOST_TOKENS}, not {self.prior_tokens}")

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """The quantile of the narrowest bucket that knows enough."""
        most = _most(request, generated_tokens)
        for key in _keys(request):
            window = self._windows.get(key)
            if window is not None and len(window.ordered) >= self.min_samples:
                found = window.quantile_above(generated_tokens, self.quantile)
                if found is not None:
                    return min(found, most)
                break
        return min(overrun(self.prior_tokens, generated_tokens), most)

    def predict_quantiles(self, request: Request, generated_tokens: int = 0) -> list[float]:
        """The narrowest bucket's lengths beyond what was generated."""
        most = _most(request, generated_tokens)
        for key in _keys(request):
            window = self._windows.get(key)
            if window is not None and len(window.ordered) >= self.min_samples:
                found = window.quantiles_above(generated_tokens)
                if found:
                    return [min(tokens, most) for tokens in found]
                break
        return certain(min(overrun(self.prior_tokens, generated_tokens), most))

    def observe(self, request: Request, output_tokens: int) -> None:
        """Remember a length in its bucket, its class and the whole."""
        for key in _keys(request):
            if key not in self._windows:
                self._windows[key] = LengthWindow(self.window)
            self._windows[key].add(output_tokens)


def _most(request: Request, generated_tokens: int) -> float:
    """What its client allows; more than there is, for whoever goes on beyond that."""
    return float(max(request.max_output_tokens, generated_tokens + 1))


def _keys(request: Request) -> tuple[_Key, _Key, _Key]:
    return (request.task, request.prompt_tokens.bit_length()), (request.task, -1), ("", -1)
