"""Control: never learns."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import ClusterView, Completion, Request, register


@register("estimator", "nominal")
@dataclass
class Nominal:
    """Control: nominal speeds and no queue, for ever; shows what feedback is worth."""

    def attach(self, view: ClusterView) -> None:
        """Write the nominal speeds once."""
        view.queue_s[:] = 0.0
        view.prefill_s_per_token[:] = view.static.nominal_prefill_s_per_token
        view.tpot_s[:] = view.static.nominal_tpot_s

    def dispatched(self, instance: int, request: Request, now_s: float) -> None:
        """Nothing to learn."""

    def first_token(
        self, instance: int, request: Request, dispatched_s: float, now_s: float, cached_tokens: int = 0
    ) -> None:
        """Nothing to learn."""

    def streamed(self, instance: int, tokens: int, span_s: float, now_s: float) -> None:
        """Nothing to learn."""

    def finished(self, completion: Completion) -> None:
        """Nothing to learn."""

    def refresh(self, now_s: float) -> None:
        """Nothing to forget."""
