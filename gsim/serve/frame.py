"""Events of a stream that differ in nothing but their text and token ids, read without reading the rest again."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

#: What stands for text and ids when it is tried whether a form holds.
_TEXT, _IDS = "probe", [7]


class Told(NamedTuple):
    """Token ids and text of an event."""

    ids: list[int]
    text: str


class Frame:
    """The form of a server's usual event, learned from one that was read in full, and used for those that follow.

    An event is of this form if its first and last bytes are those of the form, and what is between them is a text
    without anything that JSON escapes, then (where there are ids) the same bytes as ever and whole numbers. Such an
    event says what the one that was learned from says, but for text and ids; any other is None here, and is read in
    full.
    """

    __slots__ = ("_between", "_head", "_tail", "known")

    def __init__(self) -> None:
        self.known = False
        self._head = self._between = self._tail = b""

    def learn(self, event: bytes, values: Any, text: str, ids: list[int] | None) -> None:
        """Learn from an event whose content is ``values``, where its form allows it."""
        if not _is_plain(text):
            return
        parts = event.split(f'"{text}"'.encode())
        if len(parts) != 2:
            return
        head, rest = parts[0] + b'"', b'"' + parts[1]
        between, tail = b"", rest
        if ids is not None:
            written = f"[{','.join(map(str, ids))}]".encode()
            found = rest.split(written)
            if len(found) != 2:
                return
            between, tail = found[0] + b"[", b"]" + found[1]
        probe = head + _TEXT.encode() + between + (b"7" if ids is not None else b"") + tail
        try:
            same = json.loads(probe) == _with(values, text, ids)
        except ValueError:
            return
        if same:
            self.known, self._head, self._between, self._tail = True, head, between, tail

    def read(self, event: bytes) -> Told | None:
        """Ids (none where the form has none) and text of an event of this form; None: it is another one."""
        head, tail, between = self._head, self._tail, self._between
        if not (event.startswith(head) and event.endswith(tail)):
            return None
        text, ids = event[len(head) : len(event) - len(tail)], b""
        if between:
            text, found, ids = text.partition(between)
            if not found:
                return None
        if not text.isascii() or b'"' in text or b"\\" in text:
            return None
        said = text.decode("ascii")
        if not said.isprintable():
            return None
        if not between:
            return Told([], said)
        if ids.isdigit():
            return Told([int(ids)], said)
        several = ids.split(b",")
        return Told([int(token) for token in several], said) if all(map(bytes.isdigit, several)) else None


def _is_plain(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _with(values: Any, text: str, ids: list[int] | None) -> Any:
    """The same content with the probe in the place of text and ids."""
    copied = json.loads(json.dumps(values))
    choice = copied["choices"][0]
    place = choice.get("delta", choice)
    name = "content" if "delta" in choice else "text"
    if place.get(name) != text:
        return None
    place[name] = _TEXT
    if ids is not None:
        if choice.get("token_ids") != ids:
            return None
        choice["token_ids"] = _IDS
    return copied
