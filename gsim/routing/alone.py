"""How long a request takes with the best instance to itself."""

from __future__ import annotations

from gsim.core import ClusterView, Request


def alone_s(request: Request, view: ClusterView) -> float:
    """min_i p_i L_in + d_i L_out in seconds, with nominal speeds and the predicted output."""
    static = view.static
    latency_s = static.nominal_prefill_s_per_token * request.prompt_tokens
    latency_s += static.nominal_tpot_s * view.predict(request)
    return float(latency_s.min())
