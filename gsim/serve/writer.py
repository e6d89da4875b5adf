"""One answer as the client sees it: under one name, whatever servers it came from."""

from __future__ import annotations

import json
from typing import Any

from gsim.serve.exchange import Exchange, Piece

#: A text as JSON, by the encoder in C that json.dumps comes to in the end.
_quoted = json.encoder.encode_basestring_ascii


def _compact(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))


class Writer:
    """Writes a request's answer in OpenAI's form, from what servers have generated."""

    def __init__(self, exchange: Exchange, name: str, created: int, model: str) -> None:
        self._exchange = exchange
        asked = exchange.asked
        self._chat, self._with_ids = asked.chat, asked.return_token_ids
        self._kind = "chat.completion" if self._chat else "text_completion"
        self._common = {"id": name, "created": created, "model": model}
        chunk = f"{self._kind}.chunk" if self._chat else self._kind
        self._head = f'data: {{"id":{_compact(name)},"object":"{chunk}","created":{created},"model":{_compact(model)},'
        self._continuous = asked.include_usage and asked.continuous_usage
        self._sent = 0
        self._opened = False
        # What a usual event has before and behind its text.
        said = '"delta":{"content":' if self._chat else '"text":'
        self._before = f'{self._head}"choices":[{{"index":0,{said}'.encode()
        self._behind = b',"logprobs":null,"finish_reason":null,"stop_reason":null}]}\n\n'
        if self._chat:
            self._behind = b"}" + self._behind

    def pieces(self, pieces: list[Piece], *, last: bool) -> bytes:
        """What was generated since the last call, as one event (and a chat's role before the first)."""
        exchange = self._exchange
        if len(pieces) == 1 and self._opened and not (last or self._with_ids or self._continuous):
            self._sent += len(pieces[0].ids)
            return b"%b%b%b" % (self._before, _quoted(pieces[0].text).encode(), self._behind)
        if len(pieces) == 1:
            ids, text = pieces[0].ids, pieces[0].text
        else:
            ids = [token for piece in pieces for token in piece.ids]
            text = "".join([piece.text for piece in pieces])
        reason = _compact(exchange.reason) if last else "null"
        self._sent += len(ids)
        told = f',"token_ids":{_compact(ids)}' if self._with_ids else ""
        opening, prompt = "", ""
        if not self._opened:
            self._opened = True
            if self._with_ids:
                prompt = f',"prompt_token_ids":{_compact(exchange.prompt_ids)}'
            if self._chat:
                role = '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
                opening = f'{self._head}"choices":[{role}]{prompt}{self._usage()}}}\n\n'
                prompt = ""
        said = f'"delta":{{"content":{_quoted(text)}}}' if self._chat else f'"text":{_quoted(text)}'
        choice = f'{{"index":0,{said},"logprobs":null,"finish_reason":{reason},"stop_reason":null{told}{prompt}}}'
        return f'{opening}{self._head}"choices":[{choice}]{self._usage()}}}\n\n'.encode()

    def closing(self) -> bytes:
        """The end of a stream."""
        if not self._exchange.asked.include_usage:
            return b"data: [DONE]\n\n"
        return f'{self._head}"choices":[],"usage":{_compact(self._tokens())}}}\n\ndata: [DONE]\n\n'.encode()

    def whole(self, pieces: list[Piece]) -> dict[str, Any]:
        """The answer in one piece."""
        exchange = self._exchange
        text = "".join([piece.text for piece in pieces])
        self._sent = len(exchange.output_ids)
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": exchange.reason, "stop_reason": None}
        choice["token_ids"] = exchange.output_ids if self._with_ids else None
        prompt = exchange.prompt_ids if self._with_ids else None
        if self._chat:
            choice["message"] = {"role": "assistant", "content": text}
            more = {"prompt_token_ids": prompt}
        else:
            choice |= {"text": text, "prompt_token_ids": prompt}
            more = {}
        return {**self._common, "object": self._kind, "choices": [choice], "usage": self._tokens(), **more}

    def _tokens(self) -> dict[str, int]:
        exchange = self._exchange
        prompt = len(exchange.prompt_ids) if exchange.prompt_ids is not None else exchange.prompt_tokens
        return {"prompt_tokens": prompt, "total_tokens": prompt + self._sent, "completion_tokens": self._sent}

    def _usage(self) -> str:
        return f',"usage":{_compact(self._tokens())}' if self._continuous else ""
