"""Bodies of the OpenAI API as vLLM takes and answers them (0.32): what a client asks for, errors in vLLM's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: What vLLM generates where a completion does not say.
DEFAULT_MAX_TOKENS = 16
_BAD = "BadRequestError"


class BodyError(Exception):
    """A request that is answered with an error: its status, its words, and the field that they are about."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, kind: str = _BAD) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status
        self.kind = kind


def error_body(message: str, kind: str, status: int, param: str | None = None) -> dict[str, Any]:
    """An error as vLLM words it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for, read and checked; of other fields this knows nothing."""

    chat: bool
    model: str | None
    prompts: tuple[list[int] | str, ...]
    """Token ids or text; a chat is one text, its messages behind one another."""
    max_tokens: int | None
    min_tokens: int
    ignore_eos: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    stream_interval: int
    priority: int


def read_json(body: bytes) -> dict[str, Any]:
    """A body as a mapping; raises ``BodyError``."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BodyError(f"Invalid JSON: {error}") from None
    if not isinstance(values, dict):
        raise BodyError(f"Input should be a valid dictionary, not {_shown(values)}")
    return values


def read_asked(values: Mapping[str, Any], *, chat: bool) -> Asked:
    """What the body of a completion or a chat asks for; raises ``BodyError`` that names the field."""
    options = _mapping(values, "stream_options")
    stream = _flag(values, "stream")
    if options and not stream:
        raise BodyError("Stream options can only be defined when `stream=True`.", "stream_options")
    limit = "max_completion_tokens" if chat and values.get("max_completion_tokens") is not None else "max_tokens"
    max_tokens = _whole(values, limit, None, 1)
    min_tokens = _whole(values, "min_tokens", 0, 0) or 0
    if max_tokens is None and not chat:
        max_tokens = DEFAULT_MAX_TOKENS
    if max_tokens is not None and min_tokens > max_tokens:
        raise BodyError(
            f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}.", "min_tokens"
        )
    model = values.get("model")
    if model is not None and not isinstance(model, str):
        raise BodyError(f"model: Input should be a valid string, not {_shown(model)}", "model")
    return Asked(
        chat=chat,
        model=model,
        prompts=(_chat_text(values),) if chat else _prompts(values),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ignore_eos=_flag(values, "ignore_eos"),
        stream=stream,
        include_usage=_flag(options, "include_usage"),
        continuous_usage=_flag(options, "continuous_usage_stats"),
        return_token_ids=_flag(values, "return_token_ids"),
        stream_interval=_whole(values, "stream_interval", 1, 1) or 1,
        priority=_whole(values, "priority", 0, None) or 0,
    )


def too_long(prompt_tokens: int, max_tokens: int, longest: int) -> BodyError:
    """The error for a prompt that leaves no room for what is asked."""
    total = prompt_tokens + max_tokens
    return BodyError(
        f"This model's maximum context length is {longest} tokens. However, you requested {max_tokens} output tokens "
        f"and your prompt contains at least {prompt_tokens} input tokens, for a total of at least {total} tokens. "
        "Please reduce the length of the input prompt or the number of requested output tokens.",
        "input_tokens",
    )


def chat_text(messages: list[Any]) -> str:
    """Messages behind one another, each with a head and an end, as chat templates have them."""
    parts = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
        parts.append(f"<|{message.get('role', '')}|> {content or ''} <|end|>\n")
    return "".join(parts) + "<|assistant|>"


def _chat_text(values: Mapping[str, Any]) -> str:
    messages = values.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, Mapping) for m in messages):
        raise BodyError("messages: Input should be a list of messages, at least one", "messages")
    return chat_text(messages)


def _prompts(values: Mapping[str, Any]) -> tuple[list[int] | str, ...]:
    prompt = values.get("prompt")
    if isinstance(prompt, str):
        return (_filled(prompt),)
    if isinstance(prompt, list) and prompt:
        if all(type(token) is int for token in prompt):
            return (_ids(prompt),)
        if all(isinstance(each, str) for each in prompt):
            return tuple(_filled(each) for each in prompt)
        if all(isinstance(each, list) and each and all(type(t) is int for t in each) for each in prompt):
            return tuple(_ids(each) for each in prompt)
    raise BodyError(
        "prompt must be a text, a list of token ids, a list of texts or a list of lists of ids; none of them empty",
        "prompt",
    )


def _filled(prompt: str) -> str:
    if not prompt:
        raise BodyError("The decoder prompt cannot be empty", "prompt")
    return prompt


def _ids(prompt: list[int]) -> list[int]:
    if min(prompt) < 0 or max(prompt) >= 1 << 31:
        raise BodyError("prompt: token ids must be from 0 to 2147483647", "prompt")
    return prompt


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise BodyError(f"{name}: Input should be a valid boolean, not {_shown(value)}", name)


def _whole(values: Mapping[str, Any], name: str, default: int | None, least: int | None) -> int | None:
    value = values.get(name)
    if value is None:
        return default
    if type(value) is not int:
        raise BodyError(f"{name}: Input should be a valid integer, not {_shown(value)}", name)
    if least is not None and value < least:
        raise BodyError(f"{name} must be at least {least}, got {value}.", name)
    return value


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise BodyError(f"{name}: Input should be a valid dictionary, not {_shown(value)}", name)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
