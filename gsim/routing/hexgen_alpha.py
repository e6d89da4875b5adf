"""HexGen-Flow's dispatch: speed against backlog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gsim.core import ClusterView, ConfigError, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import lowest


@register("router", "hexgen_alpha")
@dataclass
class HexgenAlpha:
    """argmax alpha * t_min / t_i - (1 - alpha) * w_i / w_max; ties: the lowest index.

    t_i = p_i * L_in + d_i * L_out with nominal speeds (this request alone on i), t_min over the pool; w_i = outstanding
    tokens / thr_i (seconds of backlog), w_max over the pool.

    State: in-flight tokens (S1), nominal speeds (S5), the length predictor. Source: HexGen-Flow's workload-balanced
    dispatch, from its mathematics. Simplified: alpha is a constant (upstream re-tunes it by simulating recent load);
    the urgency order inside an engine's queue is left out, engines here serve in order of arrival.
    """

    alpha: float = 0.5
    """Weight of speed against backlog, in [0, 1]."""
    needs: ClassVar[frozenset[str]] = frozenset({"prediction"})

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"router.alpha must be in [0, 1], not {self.alpha}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The best compromise."""
        static = view.static
        alone: Floats = static.nominal_tpot_s * view.predict(request)
        alone += static.nominal_prefill_s_per_token * request.prompt_tokens
        work: Floats = view.in_flight_tokens / static.nominal_tokens_per_s
        work *= (1.0 - self.alpha) / (float(work.max()) or 1.0)
        work -= (self.alpha * float(alone.min())) / alone
        return lowest(work, view.available)
