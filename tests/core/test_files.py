"""Files: text with its encoding, whatever the locale."""

from __future__ import annotations

import ast
from pathlib import Path

import gsim

PACKAGE = Path(gsim.__file__).parent


def _without_encoding(file: Path) -> list[str]:
    found = []
    source = file.read_text(encoding="utf-8")
    if "open(" not in source and "_text(" not in source:
        return []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        binary = any(isinstance(a, ast.Constant) and isinstance(a.value, str) and "b" in a.value for a in node.args[:2])
        opens = name in ("read_text", "write_text") or (name == "open" and not binary and _of_a_file(node))
        if opens and not any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            found.append(f"{file}:{node.lineno}")
    return found


def _of_a_file(call: ast.Call) -> bool:
    """``open(path ...)`` and ``path.open("r" ...)``, not a method of that name with other arguments."""
    if isinstance(call.func, ast.Name):
        return True
    return not call.args or isinstance(call.args[0], ast.Constant)


def test_every_text_file_names_its_encoding() -> None:
    assert [place for file in sorted(PACKAGE.rglob("*.py")) for place in _without_encoding(file)] == []
