"""``python -m gsim reference``: every group, option, field, experiment and study on one page of Markdown.

It is made from the registry, the dataclasses and the strings under their fields: what it says is what is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gsim.cli.compose import TOP_LEVEL
from gsim.cli.field_docs import fields_of
from gsim.core import registry
from gsim.run.options import FIELD_GROUPS, RUN_GROUPS, options
from gsim.study.experiments import Experiment
from gsim.study.literal import literal

_NOT_SHOWN = ("name", "question", "paper")
_HEAD = """\
# Reference

Made by `python -m gsim reference`; do not edit. `GROUP=NAME` chooses an option, `GROUP.FIELD=VALUE` sets a field of it,
a list of values `a,b,c` sweeps it. `python -m gsim --help GROUP NAME` says the same of one option."""


def reference_page(experiments: Mapping[str, Experiment]) -> str:
    """The page."""
    lines = [_HEAD, "", *_top_level()]
    for group, default in RUN_GROUPS.items():
        lines += [f"## {group}", "", f"Default: `{group}={default}`.", ""]
        for option in options(group).values():
            lines += _option(f"{group}={option.name}", option.summary, group, option.config, option.values)
    for group, place in FIELD_GROUPS.items():
        fields = f"`'{place}={{name: NAME, FIELD: VALUE}}'`"
        lines += [f"## {group}", "", f"Chosen in a field: `{place}=NAME`, or with fields of its own, {fields}.", ""]
        for option in options(group).values():
            lines += _option(f"{place}={option.name}", option.summary, "", option.config, option.values)
    lines += ["## Studies", "", "Their fields are top-level keys. Chosen by an experiment (`study: NAME`).", ""]
    for name, entry in registry.entries("study").items():
        lines += _option(f"study={name}", entry.summary, "", entry.config, {})
    lines += ["## Experiments", "", "| `experiment=` | question |", "| --- | --- |"]
    lines += [f"| `{name}` | {experiment.question} |" for name, experiment in experiments.items()]
    return "\n".join(lines) + "\n"


def _top_level() -> Iterator[str]:
    yield from ("## Top-level keys", "", "| key | default | meaning |", "| --- | --- | --- |")
    for name, (default, meaning) in TOP_LEVEL.items():
        if name not in _NOT_SHOWN:
            yield f"| `{name}` | `{literal(default).replace(',', ', ')}` | {_cell(meaning)} |"
    yield ""


def _option(head: str, summary: str, group: str, config: type | None, values: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {head}", "", summary, "")
    fields = fields_of(config, values)
    if fields:
        yield from ("| field | type | default | meaning |", "| --- | --- | --- | --- |")
        prefix = f"{group}." if group else ""
        for field in fields:
            kind, default, meaning = map(_cell, field[1:])
            yield f"| `{prefix}{field.name}` | {kind} | `{default}` | {meaning} |"
        yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
