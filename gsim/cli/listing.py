"""``python -m gsim --help``: what there is to choose: one screen that leads on to one per group."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from gsim.cli.compose import TOP_LEVEL
from gsim.cli.field_docs import fields_of
from gsim.cli.words import close_to
from gsim.core import ConfigError, registry
from gsim.run.options import FIELD_GROUPS, RUN_GROUPS, options
from gsim.study.experiments import Experiment

_WIDTH = 100
_USAGE = """\
gsim: simulate LLM serving on pools of unlike GPUs, and compare routers by goodput.
  python -m gsim experiment=goodput_vs_rps                          a study: grid, figure, tables
  python -m gsim router=random,goodserve trace.rate_per_s=40,80     a grid of your own
  python -m gsim compare ROUTER ROUTER [...]                        two routers on the same seeds
  python -m gsim explain request=ID [...]                           one request's story
  python -m gsim page [...]                                         one run as a page: who was late
  python -m gsim tune router=NAME [...]                             search a policy's fields
  python -m gsim report DIR                                         a results folder as a page
  ... --dry-run                                                     what would run, how long
  python -m gsim check NAME                                         does a policy keep its promises

GROUP=NAME chooses, GROUP.FIELD=VALUE sets a field, a,b,c sweeps. The groups (default; how many):
"""
_MORE = """\

python -m gsim --help GROUP          what there is to choose      (--help router)
python -m gsim --help GROUP NAME     the fields of a choice       (--help router goodserve)
python -m gsim --help experiment     the experiments and what each of them asks
python -m gsim --help fields         seeds, warmup_s, out ...: fields beside the groups
python -m gsim reference             all of it on one page        (also docs/reference.md)
python -m gsim.emulate, gsim.serve, gsim.calibration: servers, a gateway, measuring (see --help)
Own files: ./extensions/*.py (imported by every command), ./experiments/*.yaml, ./profiles/*.yaml"""
_ONE_RUN = (
    "policy=LABEL and values of the grid choose one cell of a sweep, seed=N one of its runs (else the first seed);\n"
    "GROUP=NAME and GROUP.FIELD=VALUE are as in any other command"
)
#: Command -> its usage, and what it does.
COMMANDS = {
    "explain": f"""explain request=ID [policy=LABEL] [seed=N] [...]
one request's story: what the router saw and chose, what happened, why it was late
{_ONE_RUN}""",
    "page": f"""page [policy=LABEL] [seed=N] [file=NAME] [...]
one run as an HTML file (run.html in the results folder): who missed and why, every instance over time, stories
{_ONE_RUN}""",
    "timeline": f"""timeline [policy=LABEL] [seed=N] [...]
one run as timeline.json, for Perfetto, and as a figure
{_ONE_RUN}""",
    "compare": """compare DIR[:POLICY] DIR[:POLICY] [METRIC ...]
two results, paired by seed; with two routers (ROUTER[+RECTIFIER]) in place of folders, both are run first""",
    "tune": """tune router=NAME [fields=[FIELD,...]] [trials=N] [train_loads=[...]] [test_loads=[...]] [...]
search a policy's fields on some loads and seeds, and judge the best once on others (needs 'gsim[tune]');
all its fields: python -m gsim --help study tune""",
    "report": """report DIR
a results folder as one HTML file (report.html in it): figure, tables, findings, and the runs of every point""",
    "check": """check NAME, or check GROUP=NAME
whether a policy keeps to what every policy of its group must""",
    "reference": """reference [options|seams|results]
a page of the documentation, made from the code""",
}
_HIDDEN = ("name", "question", "paper", "sweep", "figure", "small")


def listing(experiments: Mapping[str, Experiment]) -> str:
    """The text of ``--help``: one screen, and where to go on."""
    lines = [_USAGE]
    names = list(RUN_GROUPS.items())
    half = -(-len(names) // 2)
    for i in range(half):
        pair = [names[i], *names[i + half : i + half + 1]]
        lines.append("  " + "".join(f"{_group(group, default):<48}" for group, default in pair).rstrip())
    inner = "".join(f", {group} ({len(options(group))}: {field}=NAME)" for group, field in FIELD_GROUPS.items())
    lines.append(f"  experiment ({len(experiments)}), study ({len(registry.entries('study'))}){inner}")
    return "\n".join([*lines, _MORE])


def _group(group: str, default: str) -> str:
    return f"{group:<11} {default} ({len(options(group))})"


def group_help(group: str, experiments: Mapping[str, Experiment]) -> str:
    """What there is to choose in one group; the experiments; or the fields beside the groups.

    Raises ``ConfigError`` for a group that there is not, as ``option_help`` does.
    """
    if group == "experiment":
        asked = [_line(f"   {e.name}", e.problem or e.question) for e in experiments.values()]
        return "\n".join(["experiment=NAME", *asked])
    if group == "fields":
        told = [_line(f"   {name}={value}", text) for name, (value, text) in TOP_LEVEL.items() if name not in _HIDDEN]
        launcher = [
            _line("   hydra.launcher.n_jobs=N", "worker processes on this machine (-1: one per processor)"),
            _line("   hydra/launcher=ray", "a Ray cluster (needs the extra: pip install 'gsim[ray]')"),
        ]
        return "\n".join(["FIELD=VALUE", *told, *launcher])
    if group == "study":
        return "\n".join(
            ["study=NAME", *(_line(f"   {e.name}", e.summary) for e in registry.entries("study").values())]
        )
    defaults = {**RUN_GROUPS, "scheduler": "fcfs"}
    if group not in defaults:
        there = ", ".join([*defaults, "experiment", "study", "fields"])
        choices = {other: options(other) for other in defaults} | {"study": registry.entries("study")}
        inside = [f"--help {other} {group}" for other, names in choices.items() if group in names]
        inside += [f"--help experiment {group}"] * (group in experiments)
        known = f"; see {' or '.join(inside)}" if inside else close_to(group, defaults)
        raise ConfigError(f"unknown group '{group}'{known}; there are: {there}")
    found = options(group).values()
    lines = [_line(f" {'*' if o.name == defaults[group] else ' '} {o.name}", o.summary) for o in found]
    return "\n".join(
        [
            f"{FIELD_GROUPS.get(group, group)}=NAME",
            *lines,
            f"(* the default; python -m gsim --help {group} NAME shows fields)",
        ]
    )


def option_help(group: str, name: str) -> str:
    """The fields of one option, with types, defaults and what they mean."""
    entries = registry.entries("study") if group == "study" else options(group)
    if not entries:
        group_help(group, {})
    if name not in entries:
        raise ConfigError(f"unknown {group} '{name}'{close_to(name, entries)}; there are: {', '.join(entries)}")
    option = entries[name]
    lines = [f"{FIELD_GROUPS.get(group, group)}={name}: {option.summary}"]
    values = {} if group == "study" else options(group)[name].values
    prefix = "" if group in ("study", *FIELD_GROUPS) else f"{group}."
    for field in fields_of(option.config, values):
        lines.append(f"  {prefix}{field.name}: {field.kind} = {field.default}")
        lines += textwrap.wrap(field.meaning, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _line(head: str, text: str) -> str:
    column = 26
    wrapped = textwrap.wrap(text, _WIDTH - column) or [""]
    first = f"{head:<{column - 1}} {wrapped[0]}" if len(head) < column else f"{head}\n{'':<{column}}{wrapped[0]}"
    return "\n".join([first, *(" " * column + line for line in wrapped[1:])]).rstrip()
