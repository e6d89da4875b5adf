"""One client's request: what it asks for, what servers have answered so far, and whether it may go on elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gsim.gateway.active import Active
from gsim.live.bodies import Asked
from gsim.live.waiter import Waiter

#: Fields that keep a request where it began, with the value that asks for nothing: its state is more than its tokens.
_STAYS = {
    **dict.fromkeys(("n", "best_of"), 1),
    **dict.fromkeys(("echo", "use_beam_search"), False),
    **dict.fromkeys(("logprobs", "prompt_logprobs", "seed", "logit_bias", "suffix", "stop"), None),
    **dict.fromkeys(("stop_token_ids", "tools", "tool_choice", "response_format", "structured_outputs"), None),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structural_tag"), None),
    **dict.fromkeys(("functions", "function_call", "bad_words", "allowed_token_ids", "prompt_embeds"), None),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "top_logprobs"), 0),
    "repetition_penalty": 1,
}
#: Fields of a chat or of the gateway that mean nothing where the same text goes on as a completion.
_NOT_RESUMED = (
    *("messages", "max_completion_tokens", "stream_options", "add_generation_prompt", "chat_template", "request_id"),
    *("chat_template_kwargs", "documents", "include_reasoning", "parallel_tool_calls", "continue_final_message"),
)
_OWN = ("slo_ms", "task", "session_id")
#: Why a chat stays whose answer is more than its text.
PARSED = "the server parses reasoning or tools"


def why_it_stays(asked: Asked, values: Mapping[str, Any], moves: str) -> str:
    """Why a request cannot be moved by its token ids; empty where it can."""
    if moves == "none":
        return "moves are off"
    if len(asked.prompts) > 1:
        return "several prompts"
    for name, nothing in _STAYS.items():
        value = values.get(name)
        # A seed of 0 is a seed, though it equals False.
        if not (value is None or value is False or value == [] or (nothing is not None and value == nothing)):
            return name
    if moves == "greedy" and values.get("temperature") != 0:
        return "temperature"
    return ""


class Piece(NamedTuple):
    """Some of an answer, as it came from a server."""

    ids: list[int]
    text: str


class Exchange:
    """A request between its client and the servers that it is sent to, one after another."""

    def __init__(
        self, asked: Asked, values: dict[str, Any], headers: dict[str, str], name: str, moves: str, parsed: bool = False
    ) -> None:
        self.asked = asked
        self.values = {key: value for key, value in values.items() if key not in _OWN}
        self.headers = headers
        """What is passed on to servers."""
        self.name = name
        self.stays = why_it_stays(asked, values, moves) or (PARSED if parsed and asked.chat else "")
        """Why it cannot be moved; empty: it can."""
        self.waiter = Waiter()
        self.news: Callable[[], None] = self.waiter.wake
        """Called when there is more of the answer: it wakes who waits, or sends it on at once."""
        self.prompt_ids: list[int] | None = asked.prompts[0] if isinstance(asked.prompts[0], list) else None
        self.output_ids: list[int] = []
        """Generated, and given to the client with their text."""
        self.pieces: list[Piece] = []
        """What the client's side has not taken yet."""
        self.raw: list[bytes] = []
        """The same of a request that stays: events as they came."""
        self.whole: Any = None
        """The answer in one piece, of a request that stays and is not streamed."""
        self.reason: str | None = None
        self.done = False
        self.error: tuple[int, Any] | None = None
        """Status and body of an answer that is none."""
        self.told = False
        """The client has got something."""
        self.failures = 0
        self.instance = -1
        self.active: Active | None = None
        self.prompt_tokens = 0
        """As the servers count it, once they have."""
        self.verdict = ""

    @property
    def movable(self) -> bool:
        """It can go on elsewhere now: nothing was generated, or its token ids say all of it."""
        return not self.stays and (not self.output_ids or self.prompt_ids is not None)

    def leg(self, longest: int) -> tuple[str, dict[str, Any]]:
        """Path and body of what is sent to the next server, which takes ``longest`` tokens at most."""
        path = "/v1/chat/completions" if self.asked.chat else "/v1/completions"
        if self.stays:
            return path, self.values
        common = {"stream": True, "return_token_ids": True, "stream_options": {"include_usage": True}}
        if not self.output_ids:
            return path, {**self.values, **common}
        assert self.prompt_ids is not None
        generated = len(self.output_ids)
        body = {key: value for key, value in self.values.items() if key not in _NOT_RESUMED}
        most = self.asked.max_tokens
        left = (most if most is not None else longest - len(self.prompt_ids)) - generated
        body |= {"prompt": self.prompt_ids + self.output_ids, "max_tokens": left, **common}
        if self.asked.min_tokens:
            body["min_tokens"] = max(self.asked.min_tokens - generated, 0)
        return "/v1/completions", body

    def begin_anew(self) -> None:
        """Forget what was answered, if the client has got nothing of it."""
        if not self.told:
            self.output_ids, self.pieces, self.raw = [], [], []

    def add(self, ids: list[int], text: str, *, last: bool) -> None:
        """A server has generated this. The last of an answer is not told: its end will be, which is sent with it."""
        self.output_ids += ids
        self.pieces.append(Piece(ids, text))
        if not last:
            self.news()

    def end(self, reason: str | None = None) -> None:
        """The answer is whole."""
        if self.done:
            return
        self.reason = self.reason or reason
        self.done = True
        self.waiter.wake()

    def fail(self, status: int, body: Any) -> None:
        """There will be no (more) answer."""
        if self.done:
            return
        self.error = (status, body)
        self.done = True
        self.waiter.wake()
