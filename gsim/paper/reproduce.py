"""Every figure with one command: run the experiments, and write one report."""

from __future__ import annotations

import contextlib
import io
import math
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gsim.core import ConfigError, GsimError, SimulationError, register
from gsim.core.errors import MissingFieldError
from gsim.core.files import write_whole
from gsim.paper.claims import claims
from gsim.paper.report import Report, Section, read_section
from gsim.paper.report_html import html_report
from gsim.paper.report_markdown import write_markdown
from gsim.run.options import RUN_GROUPS
from gsim.run.version import versions
from gsim.study.experiments import Experiment, read_experiments
from gsim.study.literal import literal
from gsim.study.progress import clock, say
from gsim.study.study import Commands, Context, Findings

#: In the order of the paper's figures, then sensitivity and ablation.
ORDER = (
    "latency_vs_batch",
    "routing_strategies",
    "predictor_accuracy",
    "ema_estimation",
    "goodput_vs_rps_paper",
    "goodput_vs_rps",
    "goodput_vs_rps_all",
    "migration_latency",
    "router_scalability",
    "goodput_vs_slo",
    "agentic_goodput",
    "prefix_affinity",
    "capacity",
    "cheapest_pool",
    "optimality_gap",
    "ablation",
    "rectify_ablation",
    "safety_margin",
    "monitor_interval",
    "target_risk",
    "error_injection",
    "predictor_swap",
    "telemetry_staleness",
    "burst",
    "drift",
    "faults",
    "slow_down",
    "migration_crossover",
    "kv_copy_measured",
)

_INTRO = (
    "Scale: {scale}. Every figure, table and sentence comes from the command that stands under it. Bands and ± "
    "are 95 % t-intervals over seeds, brackets are 95 % intervals of paired differences (the same arrivals and lengths "
    "under every policy); a policy is called better only where that interval excludes 0."
)

_ONLY_SMALL = (
    " This is the small scale: few and short runs, which show that everything works; what holds is what the full scale "
    "shows."
)


@dataclass(frozen=True)
class _Planned:
    """One experiment of the reproduction."""

    experiment: Experiment
    words: tuple[str, ...]
    """The command line that its section shows."""
    weight: float
    """About how many requests it simulates: what the time left is judged by."""


@register("study", "reproduce")
@dataclass(frozen=True)
class Reproduce:
    """Run the paper's figures and the ablations, and write one self-contained HTML report."""

    scale: Literal["small", "full"] = "small"
    """``small``: minutes, each experiment with its own ``small`` changes; ``full``: as each experiment says."""
    only: tuple[str, ...] = ()
    """Experiments to run; empty: all of the reproduction that exist here."""
    further: dict[str, list[str]] = field(default_factory=dict)
    """Experiment -> further overrides, for those that need a file: ``{predictor_accuracy: ['train.path=FILE']}``."""
    markdown: str | None = None
    """Also write the verdicts as Markdown to this file, a page per experiment into a folder of its name (without
    ``.md``), and the figures into ``figures`` beside it."""

    def __post_init__(self) -> None:
        if self.scale not in ("small", "full"):
            raise ConfigError(f"scale must be small or full, not '{self.scale}'")

    def run(self, context: Context) -> Findings:
        """One experiment after the other, each as by its own command; one that fails does not stop the rest."""
        planned = self._planned()
        sections, failed = [], []
        for plan in _announced(planned):
            try:
                sections.append(_section(plan, context))
            except MissingFieldError as error:
                sections.append(_absent(plan, _needs_file(error)))
            except GsimError as error:
                failed.append(plan.experiment.name)
                sections.append(_absent(plan, f"failed: {error}"))
        report = self._report(context, sections)
        page = context.out / "report.html"
        write_whole(page, html_report(report))
        if self.markdown is not None:
            write_markdown(report, Path(self.markdown))
        if failed:
            raise SimulationError(f"failed: {', '.join(failed)}; the others are in {page}, what was computed is kept")
        said = [f"{c.verdict.value}: {c.claim} ({c.experiment}): {c.found}" for c in report.claims]
        return Findings(notes=[*said, f"report: {page}"])

    def forecast(self, context: Context) -> str:
        """What is to be computed, experiment by experiment, and about how long sweeps take."""
        lines, total_s = [], 0.0
        for plan in self._planned():
            name = plan.experiment.name
            say(f"--- {name}")
            try:
                found = _commands(context).forecast([*plan.words, f"out='{(context.out / name).resolve()}'"])
            except MissingFieldError as error:
                lines.append(f"  {name}: {_needs_file(error)}")
                continue
            total_s += found.one_core_s if found is not None else 0.0
            said = "a study of its own kind, not estimated" if found is None else f"{found.head}; {found.duration}"
            lines.append(f"  {name}: {said}")
        return "\n".join([*lines, f"sweeps in all: about {total_s:.0f} s on one core"])

    def _planned(self) -> list[_Planned]:
        known = read_experiments({*RUN_GROUPS, "study"})
        unknown = sorted({*self.only, *self.further} - set(known))
        if unknown:
            raise ConfigError(f"only or further: no experiment '{unknown[0]}'; there are: {', '.join(known)}")
        return [self._plan(known[name]) for name in (self.only or ORDER) if name in known]

    def _plan(self, experiment: Experiment) -> _Planned:
        words = [f"experiment={experiment.name}"]
        small = dict(experiment.values.get("small") or {}) if self.scale == "small" else {}
        words += [f"{name}={value if isinstance(value, str) else literal(value)}" for name, value in small.items()]
        words += self.further.get(experiment.name, [])
        return _Planned(experiment, tuple(words), _requests(experiment.values, small))

    def _report(self, context: Context, sections: list[Section]) -> Report:
        footer = "Made with " + ", ".join(f"{name} {version}" for name, version in versions().items()) + "."
        judged = claims({section.name: context.out / section.name for section in sections if section.figures})
        intro = _INTRO.format(scale=self.scale) + (_ONLY_SMALL if self.scale == "small" else "")
        return Report(
            "Reproducing GoodServe", intro, judged if not self.only else _of(judged, self.only), sections, footer
        )


def _of(judged: list[Any], names: tuple[str, ...]) -> list[Any]:
    return [claim for claim in judged if claim.experiment in names]


def _announced(planned: list[_Planned]) -> Iterator[_Planned]:
    """The experiments, each with a line that says how far the whole is and how long it may take yet."""
    began_s = time.monotonic()
    whole = sum(plan.weight for plan in planned)
    done = 0.0
    for i, plan in enumerate(planned):
        gone_s = time.monotonic() - began_s
        left = f", about {clock(gone_s * (whole - done) / done)} left" if done > 0 else ""
        say(f"--- {i + 1} of {len(planned)}: {plan.experiment.name} ({clock(gone_s)} gone{left})")
        yield plan
        done += plan.weight


def _requests(values: Mapping[str, Any], small: Mapping[str, Any]) -> float:
    """About how many requests an experiment simulates; a study with a way of its own counts as a middling sweep."""
    if "sweep" not in values:
        return 100_000.0
    trace = dict(values.get("trace") or {}) if isinstance(values.get("trace"), Mapping) else {}
    trace |= {key.partition(".")[2]: value for key, value in small.items() if key.startswith("trace.")}
    axes = [small.get(name, entries) for name, entries in values["sweep"].items()]
    cells = math.prod(len(axis) if isinstance(axis, list) else str(axis).count(",") + 1 for axis in axes)
    each = float(trace.get("duration_s", 0)) * 150.0 or float(trace.get("requests", 2000))
    return cells * int(small.get("seeds", values.get("seeds", 5))) * each


def _commands(context: Context) -> Commands:
    if context.commands is None:
        raise ConfigError("reproduce runs other experiments: start it as python -m gsim experiment=reproduce")
    return context.commands


def _needs_file(error: MissingFieldError) -> str:
    return f"not run here: it needs {error.field}=FILE, which does not come with gsim; name it with further={{...}}"


def _absent(plan: _Planned, reason: str) -> Section:
    name = plan.experiment.name
    say(f"{name}: {reason}")
    return Section(name, plan.experiment.question, "", "", _shown(plan), (), (), [reason])


def _shown(plan: _Planned) -> str:
    return f"python -m gsim {shlex.join(plan.words)}"


def _section(plan: _Planned, context: Context) -> Section:
    out = context.out / plan.experiment.name
    # What its own command would print is in the report.
    with contextlib.redirect_stdout(io.StringIO()):
        words = [*plan.words, f"out='{out.resolve()}'", f"hydra.launcher.n_jobs={context.n_jobs}"]
        _commands(context).run(words)
    return read_section(out, _shown(plan))
