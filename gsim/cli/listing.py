"""``python -m gsim --help``: what there is to choose, in one screen per group."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from gsim.cli.compose import TOP_LEVEL
from gsim.cli.field_docs import fields_of
from gsim.core import registry
from gsim.run.options import RUN_GROUPS, options
from gsim.study.experiments import Experiment

_WIDTH = 100
_USAGE = """\
gsim: simulate LLM serving on pools of unlike GPUs, and compare routers by goodput.

  python -m gsim                                   one configuration, all its seeds
  python -m gsim experiment=goodput_vs_rps         a study: its grid, its figure, its tables
  python -m gsim router=random,goodserve trace.rate_per_s=40,80     a grid of your own
  python -m gsim --dry-run experiment=NAME         what would run, and about how long
  python -m gsim compare ROUTER ROUTER [...]       two routers on the same seeds, in pairs
  python -m gsim compare DIR[:POLICY] DIR[:POLICY] two results folders, or two policies of them
  python -m gsim explain request=ID [...]          one request's story in words
  python -m gsim reference                         every option and field on one page (Markdown)
  python -m gsim --cfg job [...]                   the composed configuration

Every field is GROUP.FIELD=VALUE (router.margin_s=0.5); a list of values a,b,c sweeps it. Own files are
found first in ./experiments, ./profiles and ./extensions (Python files that register policies).
"""


def listing(experiments: Mapping[str, Experiment]) -> str:
    """The text of ``--help``."""
    parts = [_USAGE]
    for group, default in RUN_GROUPS.items():
        parts.append(f"{group}=NAME")
        for option in options(group).values():
            mark = "*" if option.name == default else " "
            parts.append(_line(f" {mark} {option.name}", option.summary))
    parts.append("hydra/launcher=NAME")
    parts.append(_line(" * joblib", "processes on this machine (hydra.launcher.n_jobs=N)"))
    parts.append(_line("   ray", "a Ray cluster (needs the extra: pip install 'gsim[ray]')"))
    parts.append("experiment=NAME")
    parts += [_line(f"   {experiment.name}", experiment.question) for experiment in experiments.values()]
    parts.append("top-level fields")
    for name, (value, meaning) in TOP_LEVEL.items():
        if name not in ("name", "question", "paper", "sweep", "figure", "small"):
            parts.append(_line(f"   {name}={value}", meaning))
    parts.append("(* marks the default; python -m gsim --help GROUP NAME shows the fields of an option)")
    return "\n".join(parts)


def option_help(group: str, name: str) -> str:
    """The fields of one option, with types, defaults and what they mean."""
    entries = registry.entries("study") if group == "study" else options(group)
    if name not in entries:
        return f"unknown {group} '{name}'; there are: {', '.join(entries)}"
    option = entries[name]
    lines = [f"{group}={name}: {option.summary}"]
    values = {} if group == "study" else options(group)[name].values
    prefix = "" if group == "study" else f"{group}."
    for field in fields_of(option.config, values):
        lines.append(f"  {prefix}{field.name}: {field.kind} = {field.default}")
        lines += textwrap.wrap(field.meaning, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _line(head: str, text: str) -> str:
    column = 26
    wrapped = textwrap.wrap(text, _WIDTH - column) or [""]
    first = f"{head:<{column - 1}} {wrapped[0]}" if len(head) < column else f"{head}\n{'':<{column}}{wrapped[0]}"
    return "\n".join([first, *(" " * column + line for line in wrapped[1:])]).rstrip()
