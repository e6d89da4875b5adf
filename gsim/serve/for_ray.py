"""A router of ours as a request router of Ray Serve (Ray 2.5x, an alpha API of theirs).

    RequestRouterConfig(request_router_class="gsim.serve.for_ray:RayRouter",
                        request_router_kwargs={"router": "least_request", "profiles": ["h800-llama-3.1-8b"] * 4})

Ray tells a router neither first tokens nor how many tokens there were: policies that only count requests are at home
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from gsim.live.bodies import chat_text
from gsim.serve.advisor import advisor

_OPEN_END = 4096


class RayRouter(RequestRouter):  # type: ignore[misc]
    """Ranks one replica first, the one that the policy chooses among all, in the order of their names."""

    def initialize_state(self, router: str, profiles: Sequence[str], **more: Any) -> None:
        """What ``request_router_kwargs`` say: a router and a profile for each replica that there may be."""
        self._advisor = advisor(router, profiles, **more)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The policy's choice alone; all candidates where there is nothing to ask for."""
        candidates = sorted(candidate_replicas, key=lambda replica: str(replica.replica_id))
        self._advisor.gateway.view.available[:] = [
            i < len(candidates) for i in range(len(self._advisor.gateway.backends))
        ]
        if pending_request is None:
            return [candidates]
        call = pending_request.metadata.internal_request_id
        # Asked again, because the replica was full: what was chosen before has not begun.
        self._advisor.ended(call, None)
        body = pending_request.args[0] if pending_request.args else None
        messages, prompt = getattr(body, "messages", None), getattr(body, "prompt", None)
        text = chat_text(messages) if messages else str(prompt or "")
        index = self._advisor.ask(call, text, getattr(body, "max_tokens", None) or _OPEN_END)
        return [candidates] if index is None else [[candidates[index]]]

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """A call is over."""
        self._advisor.ended(internal_request_id, None)
