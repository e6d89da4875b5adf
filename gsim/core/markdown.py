"""Text of unknown origin in Markdown: shown as it is, whatever it spells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

#: Underscores inside words are no emphasis.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])")
#: Where a line would begin a heading, an item of a list or a rule of dashes: up to the sign that says so.
_LEADING = re.compile(r"^\d{0,9}(?=([.)]|#{1,6}|[+-])(\s|$))|^(?=-[-\s]*$)")


def plain(text: str) -> str:
    """Text on one line, with what Markdown would take for markup escaped."""
    line = " ".join(text.split())
    return _LEADING.sub(r"\g<0>\\", _SPECIAL.sub(r"\\\g<0>", line), count=1)


def code(text: str) -> str:
    """Text as code on one line: in more backticks than it has in a row."""
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", line)), default=0))
    space = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{space}{line}{space}{fence}"


def target(path: str) -> str:
    """Where a link leads, relative."""
    return quote(path, safe="/#")


def row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"
