"""Dynamo's conditional disaggregation: what is short or cached stays where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gsim.core import ClusterView, ConfigError, Decision, Request, register
from gsim.handover.least_kv import emptiest
from gsim.handover.transfer import Transfer


@register("handover", "dynamo")
@dataclass(frozen=True)
class Dynamo(Transfer):
    """On an instance of role ``both``, hands over only who has more than so many prompt tokens to compute there.

    Tokens that the gateway's own index takes for cached there do not count. Where a request goes on: as ``least_kv``.
    Source: NVIDIA Dynamo's disaggregated router, whose example sets 1,000 tokens; its limit on the prefill queue has no
    counterpart here, since the router has chosen the instance already.
    """

    max_local_prefill_tokens: int = 1000
    """Up to so many tokens a prompt is computed where its output is generated."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "prefix"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_local_prefill_tokens < 0:
            raise ConfigError(
                f"handover.max_local_prefill_tokens must be 0 or more, not {self.max_local_prefill_tokens}"
            )

    def splits(self, request: Request, instance: int, view: ClusterView) -> bool:
        """Whether there is much to compute."""
        cached = int(view.prefix_tokens(request)[instance])
        return request.prompt_tokens - cached > self.max_local_prefill_tokens

    def next(self, request: Request, source: int, view: ClusterView) -> Decision:
        """The emptiest instance."""
        return emptiest(view)
