"""Items of a JSON file that is one array, one object, or objects one after the other; read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gsim.core.errors import TraceError
from gsim.workload.report import RowError, RowErrors
from gsim.workload.rows import Row, brief, readable, text_lines

_SPACE = " \t\r\n"
#: More than this for one item is no conversation and no session: the file is broken.
_MAX_ITEM_CHARACTERS = 1 << 30


def json_values(path: str, errors: RowErrors) -> Iterator[tuple[int, Row]]:
    """Objects with their numbers, counted from 1. An item that is no object is a bad row; broken JSON ends the file."""
    decoder = json.JSONDecoder(parse_constant=str)
    text = _Text(path)
    array = text.peek() == "["
    if array:
        text.drop(1)
    item = 0
    while (letter := text.peek()) and not (array and letter == "]"):
        if array and item and letter == ",":
            text.drop(1)
            letter = text.peek()
        item += 1
        errors.report.rows += 1
        try:
            value = text.value(decoder)
            if not isinstance(value, dict):
                raise RowError(f"must be a JSON object, not {brief(value)}")
        except RowError as error:
            errors.bad(item, error)
            continue
        except (ValueError, RecursionError) as error:
            raise TraceError(path, item, f"not JSON: {error}") from None
        yield item, value
    if array and letter != "]":
        raise TraceError(path, item, "the array has no end")


class _Text:
    """A text that is read as far as it is needed."""

    def __init__(self, path: str) -> None:
        self._lines = text_lines(path)
        self._held = ""
        self._at = 0

    def _more(self, characters: int) -> bool:
        parts = [self._held[self._at :]]
        self._at = 0
        size = 0
        for line in self._lines:
            parts.append(line)
            size += len(line)
            if size >= characters:
                break
        self._held = "".join(parts)
        return size > 0

    def peek(self) -> str:
        """The next letter that is no space; empty at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in _SPACE:
                    return self._held[self._at]
                self._at += 1
            if not self._more(1):
                return ""

    def drop(self, letters: int) -> None:
        """Pass over letters."""
        self._at += letters

    def value(self, decoder: json.JSONDecoder) -> object:
        """The next value; reads twice as much as it has until the value is whole, so the work stays linear."""
        while True:
            try:
                value, end = decoder.raw_decode(self._held, self._at)
            except json.JSONDecodeError:
                held = len(self._held) - self._at
                if held > _MAX_ITEM_CHARACTERS or not self._more(max(held, 1)):
                    raise
                continue
            piece = self._held[self._at : end]
            self._at = end
            readable(piece)
            return value
