"""A router of ours as LiteLLM's routing strategy (LiteLLM 1.108): ``use_in_litellm(router, advisor(...))``."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import litellm
from litellm.integrations.custom_logger import CustomLogger

from gsim.live.bodies import chat_text
from gsim.serve.advisor import Advisor

#: Output tokens that a call may have which does not say.
_OPEN_END = 4096


class LiteLLMStrategy(CustomLogger):  # type: ignore[misc]
    """Chooses among the deployments of a model by their order, and learns of a call's end from LiteLLM's callbacks."""

    def __init__(self, router: litellm.Router, advisor: Advisor) -> None:
        super().__init__()
        self._router, self._advisor = router, advisor

    async def async_get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """LiteLLM asks for a deployment of ``model``."""
        asked = {} if request_kwargs is None else request_kwargs
        # LiteLLM makes an id of its own only later, unless there is one.
        call = asked.setdefault("litellm_call_id", str(uuid4()))
        prompt = chat_text(messages) if messages else str(input or "")
        index = self._advisor.ask(call, prompt, asked.get("max_tokens") or _OPEN_END)
        if index is None:
            raise litellm.ServiceUnavailableError("no deployment takes this request", "gsim", model)
        return [one for one in self._router.model_list if one["model_name"] == model][index]

    def get_available_deployment(self, *_asked: Any, **_named: Any) -> Any:
        """LiteLLM's calls without async; they are not supported."""
        raise NotImplementedError("call LiteLLM's router by its coroutines (acompletion)")

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> Any:
        """The proxy passes streams through here: their first chunk is the first token."""
        async for chunk in response:
            self._advisor.first_token(str(request_data.get("litellm_call_id")))
            yield chunk

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call has ended well; a stream without usage (``stream_options``) teaches no lengths."""
        usage = getattr(response_obj, "usage", None)
        self._advisor.ended(kwargs["litellm_call_id"], getattr(usage, "completion_tokens", None))

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call has failed."""
        self._advisor.ended(kwargs["litellm_call_id"], None)


def use_in_litellm(router: litellm.Router, advisor: Advisor) -> LiteLLMStrategy:
    """Let ``advisor`` choose for ``router``; its servers are the deployments of a model, in their order."""
    strategy = LiteLLMStrategy(router, advisor)
    router.set_custom_routing_strategy(strategy)
    litellm.callbacks.append(strategy)
    return strategy
