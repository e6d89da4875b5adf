"""Token ids and texts of a server that has no model: right in number, equal for equal texts, and always the same.

What is "generated" after a token follows from that token alone, as greedy decoding follows from the prompt. So whoever
continues a text by its token ids gets what he would have got without the interruption.
"""

from __future__ import annotations

import re
import zlib
from functools import cache, lru_cache

from gsim.core import ConfigError

#: Ids below stand for nothing here: real vocabularies have their control tokens there.
LOWEST_ID = 256
_SMALLEST, _LARGEST = 1024, 1 << 14
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: A word of ours, or up to four signs with the space before them: English text has about so many tokens.
_PIECE = re.compile(r" [a-z]{3}(?![a-zA-Z])|\s*\S{1,4}|\s+")


class Vocabulary:
    """Words of three letters, each with its id; the next of any token is its successor in one cycle of all of them."""

    def __init__(self, size: int = 32_000) -> None:
        if size < _SMALLEST:
            raise ConfigError(f"vocabulary must be {_SMALLEST} or more, not {size}")
        self.words = min(1 << (size - LOWEST_ID).bit_length() - 1, _LARGEST)
        self.texts = [" " + _letters(i) for i in range(self.words)]
        # Of a prompt's words most have come before, and prompts are long.
        self._id_of = lru_cache(1 << 16)(self._read)

    def next_id(self, token: int) -> int:
        """The token that is generated after ``token``."""
        # A full cycle: an odd addend, and a factor of one more than a multiple of four (Hull and Dobell).
        return LOWEST_ID + ((token - LOWEST_ID) * 1_229 + 3_571) % self.words

    def text_of(self, token: int) -> str:
        """A generated token as text."""
        return self.texts[(token - LOWEST_ID) % self.words]

    def ids_of(self, text: str) -> list[int]:
        """A text as token ids: its own texts come back as they were, others count about as English text does."""
        return list(map(self._id_of, _PIECE.findall(text)))

    def _read(self, piece: str) -> int:
        if len(piece) == 4 and piece[0] == " " and piece[1:].isalpha() and piece.isascii() and piece.islower():
            number = 0
            for letter in piece[1:]:
                number = number * 26 + ord(letter) - 97
            if number < self.words:
                return LOWEST_ID + number
        return LOWEST_ID + zlib.crc32(piece.encode()) % self.words


def _letters(number: int) -> str:
    return _LETTERS[number // 676 % 26] + _LETTERS[number // 26 % 26] + _LETTERS[number % 26]


@cache
def vocabulary(size: int) -> Vocabulary:
    """One vocabulary for all servers of a process."""
    return Vocabulary(size)
