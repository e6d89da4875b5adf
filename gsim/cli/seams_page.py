"""``python -m gsim reference seams``: what a policy sees, is asked and may be told, from the docstrings of the code."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gsim.core.view

_CORE = Path(gsim.core.view.__file__).parent
_HEAD = """\
# Seams and hooks

Made by `python -m gsim reference seams` from the docstrings; do not edit. A policy is a dataclass with the methods of
its protocol; those of the optional hooks are called where it has them. `needs`, a class attribute with a set of names,
says which costly signals it reads (`prediction`, `estimates`, `scrape`, `prefix`); one that it did not declare is an
error that names policy and signal. `python -m gsim check NAME` holds a policy to all of it.
"""


class _Part(NamedTuple):
    title: str
    file: str
    names: tuple[str, ...]


_PARTS = (
    _Part("What a policy sees", "view.py", ("ClusterView", "StaticView", "ActiveRequests")),
    _Part(
        "What is asked, and what came of it", "request.py", ("Request", "Job", "Dependency", "Session", "Population")
    ),
    _Part("What is told when a request has ended", "events.py", ("Completion",)),
    _Part("What a scaler sees of the pool's slots", "slots.py", ("SlotState", "Slots")),
    _Part("What a policy decides", "decision.py", ("Migration", "Verdict", "Start", "Drain")),
    _Part(
        "What a policy of an engine's queue sees",
        "scheduling.py",
        ("EngineRequest", "Forecast", "EngineCard", "EngineView"),
    ),
    _Part("What it decides", "scheduling.py", ("Plan",)),
    _Part(
        "The protocols of engine policies",
        "scheduling.py",
        ("EnginePolicy", "AdmissionControl", "IterationPlanner", "ServiceLearner"),
    ),
    _Part(
        "The protocols",
        "protocols.py",
        ("Router", "Predictor", "Estimator", "Rectifier", "Handover", "Scaler", "LatencyModel", "Engine"),
    ),
    _Part(
        "The optional hooks",
        "protocols.py",
        (
            *("Randomised", "Learner", "Placed", "ArrivalObserver", "QueueOrder", "Splitting", "BatchPredictor"),
            *("QuantilePredictor", "Oracle", "Resting", "PoolChecker"),
        ),
    ),
)


def seams_page() -> str:
    """The page."""
    lines = [_HEAD]
    for part in _PARTS:
        tree = ast.parse((_CORE / part.file).read_text(encoding="utf-8"))
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        lines += [f"## {part.title}", ""]
        for name in part.names:
            if name in classes:
                lines += [
                    f"### {name}",
                    "",
                    _said(classes[name]),
                    "",
                    *_fields(classes[name]),
                    *_methods(classes[name]),
                ]
    return "\n".join(lines).rstrip() + "\n"


def _said(node: ast.ClassDef | ast.FunctionDef) -> str:
    return _code(inspect.cleandoc(ast.get_docstring(node) or ""))


def _code(text: str) -> str:
    return text.replace("``", "`")


def _fields(node: ast.ClassDef) -> Iterator[str]:
    rows = []
    for i, statement in enumerate(node.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            following = node.body[i + 1] if i + 1 < len(node.body) else None
            value = following.value if isinstance(following, ast.Expr) else None
            said = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
            kind = ast.unparse(statement.annotation).replace("|", "\\|")
            rows.append(f"| `{statement.target.id}` | {kind} | {_code(' '.join(said.split()))} |")
    if rows:
        yield from ("| field | type | meaning |", "| --- | --- | --- |", *rows, "")


def _methods(node: ast.ClassDef) -> Iterator[str]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            returned = f" -> {ast.unparse(method.returns)}" if method.returns is not None else ""
            arguments = ast.unparse(method.args).removeprefix("self, ").removeprefix("self")
            yield f"- `{method.name}({arguments}){returned}`" + (f": {_said(method)}" if _said(method) else "")
    yield ""
