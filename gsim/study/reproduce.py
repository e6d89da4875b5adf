"""Every figure with one command: run the experiments, and write one report."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gsim.core import ConfigError, SimulationError, register
from gsim.study.experiments import read_experiments
from gsim.study.options import RUN_GROUPS
from gsim.study.progress import say
from gsim.study.report import Section, html_report, markdown_report, read_section
from gsim.study.study import Context, Findings
from gsim.study.version import versions

#: In the order of the paper's figures, then sensitivity and ablation.
ORDER = (
    "latency_vs_batch",
    "routing_strategies",
    "predictor_accuracy",
    "ema_estimation",
    "goodput_vs_rps",
    "goodput_vs_rps_paper",
    "goodput_vs_slo",
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
    "agentic_goodput",
    "prefix_affinity",
    "migration_latency",
    "migration_crossover",
    "kv_copy_measured",
    "optimality_gap",
    "capacity",
    "router_scalability",
)


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
    """Also write the report as Markdown to this file, its figures into ``figures`` beside it."""

    def __post_init__(self) -> None:
        if self.scale not in ("small", "full"):
            raise ConfigError(f"scale must be small or full, not '{self.scale}'")

    def run(self, context: Context) -> Findings:
        """One process per experiment: each is the command that its section of the report shows."""
        known = read_experiments({*RUN_GROUPS, "study"})
        unknown = sorted(set(self.only) - set(known))
        if unknown:
            raise ConfigError(f"only: no experiment '{unknown[0]}'; there are: {', '.join(known)}")
        names = [name for name in (self.only or ORDER) if name in known]
        sections = []
        for name in names:
            words = [f"experiment={name}"]
            if self.scale == "small":
                words += [f"{field}={value}" for field, value in _small(known[name].values).items()]
            words += self.further.get(name, [])
            reason = _refused(words) if "study" in known[name].groups else ""
            if reason:
                sections.append(_absent(name, known[name].question, words, reason))
            else:
                sections.append(_section(name, words, context))
        title = "Reproducing GoodServe"
        intro = (
            f"Scale: {self.scale}. Every figure, table and sentence below comes from the command that stands under it. "
            "Bands and ± are 95 % t-intervals over seeds; a policy is called better only where the paired interval of "
            "the difference excludes 0."
        )
        footer = "Made with " + ", ".join(f"{name} {version}" for name, version in versions().items()) + "."
        page = context.out / "report.html"
        page.write_text(html_report(title, intro, sections, footer))
        if self.markdown is not None:
            _write_markdown(Path(self.markdown), markdown_report(title, intro, sections, footer, "figures"), sections)
        return Findings(notes=[f"{s.name}: {line}" for s in sections for line in s.findings] + [f"report: {page}"])


def _small(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(values.get("small") or {})


def _refused(words: list[str]) -> str:
    """Why an experiment cannot run here (a file that it needs was not named); empty: it can."""
    command = [sys.executable, "-m", "gsim", *words, "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else " ".join(done.stderr.split())


def _absent(name: str, question: str, words: list[str], reason: str) -> Section:
    say(f"--- {name}: not run ({reason})")
    command = " ".join(["python -m gsim", *words])
    return Section(name, question, "", "", command, (), (), [f"Not run here: {reason}"])


def _section(name: str, words: list[str], context: Context) -> Section:
    say(f"--- {name}")
    out = context.out / name
    command = [
        sys.executable,
        "-m",
        "gsim",
        *words,
        f"out='{out.resolve()}'",
        f"hydra.launcher.n_jobs={context.n_jobs}",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SimulationError(f"experiment {name} ended with status {done.returncode}; what was computed is kept")
    return read_section(out, " ".join(["python -m gsim", *words]))


def _write_markdown(path: Path, text: str, sections: list[Section]) -> None:
    figures = path.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for figure in section.figures:
            shutil.copyfile(figure, figures / f"{section.name}-{figure.name}")
    path.write_text(text)
