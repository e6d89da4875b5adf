"""What Markdown shows is the text, whatever it spells: read back by a CommonMark parser."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gsim.core.markdown import code, plain, row, target

markdown_it = pytest.importorskip("markdown_it")
HOSTILE = "ab1 _*`[]()<>|~#-+.\\!&$\n"


def shown(markdown: str) -> list[tuple[str, str]]:
    """The inline pieces of a document: type and content, text joined."""
    pieces: list[tuple[str, str]] = []
    for token in markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        for child in token.children or []:
            kind = "text" if child.type in ("text", "text_special") else child.type
            if pieces and kind == "text" == pieces[-1][0]:
                pieces[-1] = (kind, pieces[-1][1] + child.content)
            else:
                pieces.append((kind, child.content))
    return pieces


@given(st.text(HOSTILE, min_size=1, max_size=30).filter(lambda text: text.strip()))
@example("--")
@example("- - -")
@example("## a")
@example("1. a")
@example("12) a")
def test_text_is_shown_as_it_is(text: str) -> None:
    line = " ".join(text.split())
    assert shown(f"found: {plain(text)}.") == [("text", f"found: {line}.")]
    assert shown(f"- {plain(text)}") == [("text", line)]


@given(st.text(HOSTILE, min_size=1, max_size=30).filter(lambda text: text.strip()))
def test_a_cell_stays_in_its_cell(text: str) -> None:
    line = " ".join(text.split())
    page = "\n".join([row(("a", "b")), "|---|---|", row((text, "2"))])
    assert shown(page) == [("text", "a"), ("text", "b"), ("text", line), ("text", "2")] or shown(page) == [
        ("text", f"ab{line}2")
    ]


@given(st.text(HOSTILE, min_size=1, max_size=30).filter(lambda text: text.strip()))
def test_code_is_code(text: str) -> None:
    line = " ".join(text.split())
    assert shown(f"by {code(text)}.")[1] == ("code_inline", line)


def test_a_path_is_one_target() -> None:
    assert target("../figures/a b(1).png") == "../figures/a%20b%281%29.png"
