"""What happens to requests: engine events, and what a gateway observes of a request in the end."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from gsim.core.request import Request


class EventKind(IntEnum):
    """What an engine reports."""

    FIRST_TOKEN = 0
    FINISHED = 1
    PREEMPTED = 2
    REJECTED = 3
    """The request can never run on this instance (it does not fit its KV cache or ``max_model_len``)."""
    PREFILLED = 4
    """A prefill leg is over: its first token is there, and its KV cache stays until it is released."""


class EngineEvent(NamedTuple):
    """One observable event of one request on one engine; engines report them in time order."""

    time_s: float
    kind: EventKind
    request_id: int
    generated_tokens: int = 0
    """Output tokens that exist after the event, on this engine. 0 with FIRST_TOKEN: when it came was not seen."""
    cached_tokens: int = 0
    """With FIRST_TOKEN: prompt tokens that came out of the prefix cache."""
    ticket: object = None
    """What was handed in with the job."""


class Progress(NamedTuple):
    """What an engine knows of a request that is taken from it."""

    generated_tokens: int
    computed_tokens: int
    """Tokens whose KV existed (0 while it waited)."""
    cached_tokens: int = 0
    """Of its prompt, what came out of the prefix cache."""


class StreamCount(NamedTuple):
    """How many tokens a request has streamed on an engine, in a form that stays true while it decodes.

    Where it decodes: ``tokens`` plus the engine's decode clock, its count of decode iterations (``tokens`` may be
    negative: it joined when the clock stood higher). Else, while it waits or is prefilled: ``tokens``. So who follows
    many requests asks each engine for its clock, and reads a request anew only when it begins or ceases to decode.
    """

    request_id: int
    tokens: int
    decoding: bool
    ticket: object = None
    """What was handed in with the job."""


class Gauges(NamedTuple):
    """What an engine shows to a scraper, as vLLM's ``/metrics`` does."""

    running: int
    waiting: int
    kv_usage: float
    """Share of the KV blocks that live requests hold, in [0, 1] (cached, unreferenced blocks count as free)."""


class Completion(NamedTuple):
    """What the gateway has observed of a request when its last token has arrived."""

    request: Request
    instance: int
    dispatched_s: float
    """When it was sent to the instance that finished it."""
    first_token_s: float
    """First token from that instance."""
    finished_s: float
    output_tokens: int
    """Tokens from that instance."""
    cached_tokens: int | None = None
    """Prompt tokens that came out of prefix caches, over all instances that it was on (None: nobody said)."""
