"""A page as its reader meets it: files to write, snippets to run and commands to type, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Step(NamedTuple):
    """What the page has its reader do next."""

    kind: str
    """``write`` (a file), ``run`` (Python) or ``type`` (a command)."""
    text: str
    file: str = ""
    comment: str = ""

    @property
    def words(self):
        return shlex.split(self.text)[3:]

    @property
    def minutes(self):
        """The page says itself that it takes long."""
        return self.comment.startswith("minutes")

    @property
    def placeholder(self):
        """The reader is to put something of their own in."""
        return re.search(r"\b(FILE|NAME|DIR|ID)\b", self.text) is not None


_PART = re.compile(r"^```(\w+)\n(.*?)^```|^    (python -m gsim(?: [^\n]*)?)$", re.MULTILINE | re.DOTALL)


def steps(page):
    """The steps of a page (its path from the root of the repository)."""
    found = []
    for kind, text, command in _PART.findall((ROOT / page).read_text(encoding="utf-8")):
        if command:
            words, _, comment = re.sub(r"\s+# ", "\0", command, count=1).partition("\0")
            found.append(Step("type", words.strip(), comment=comment))
        elif named := re.match(r"# ([\w-]+/[\w-]+\.\w+)\n", text):
            found.append(Step("write", text, named[1]))
        elif kind == "python":
            found.append(Step("run", text))
    return found


def write(step, folder):
    (folder / step.file).parent.mkdir(exist_ok=True)
    (folder / step.file).write_text(step.text, encoding="utf-8")
