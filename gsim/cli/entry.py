"""The entry: compose the configuration, run what it asks for, say where the results are."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gsim.cli.cells import grid
from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.cli.listing import group_help, listing, option_help
from gsim.cli.sweep import dismiss_workers, sweep
from gsim.cli.words import as_given, unknown_key
from gsim.core import ConfigError, GsimError, lookup
from gsim.core.errors import MissingFieldError
from gsim.report.report_run import check_fields, publish, without_internal
from gsim.run.cell import compute
from gsim.run.extensions import extension_files, load_those_that_work
from gsim.run.key import RUN
from gsim.run.settings import Settings, read_seeds
from gsim.run.store import RunStore, writable
from gsim.run.version import maker, provenance
from gsim.study import knee
from gsim.study.dry_run import Forecast, forecast
from gsim.study.experiments import Experiment
from gsim.study.folder import claimed, describe, published
from gsim.study.grid import Cell, Grid, single
from gsim.study.missing import RUNS, cleared, missing_runs
from gsim.study.progress import say, watching
from gsim.study.study import Context, Findings, options_of
from gsim.study.workers import Stopped, stopping

_HYDRA_FLAGS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc", "--version")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 an error that was said, 130 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _say_anything()
    try:
        with stopping():
            status = run_command(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Who reads has read enough (``| head``); what was to be written is written before anything is printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        say("interrupted: finished runs are kept; the same command continues where this one stopped")
        return 128 + int(stop.args[0]) if isinstance(stop, Stopped) else 130
    except (GsimError, HydraException, OmegaConfBaseException) as error:
        say(f"error: {message_of(error)}")
        return 1


def _say_anything() -> None:
    """What a terminal's or a file's encoding has no letter for is printed as a question mark, not as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def message_of(error: Exception) -> str:
    """An error in words, with its cause where only that says what is wrong."""
    cause = error.__cause__
    text = str(error)
    said = unknown_key(f"{text}\n{cause or ''}")
    if said is not None:
        return said
    if cause is not None and isinstance(cause, OmegaConfBaseException) and str(cause) not in text:
        text = f"{text}\n{cause}"
    return text.strip()


def run_command(words: list[str], *, more_to_come: bool = False) -> int:
    """Run a command line; raises what goes wrong. ``more_to_come``: its workers are kept for the next command."""
    if words and words[0] == "compare":
        return _compare(words[1:])
    experiments = register_schema()
    if words and words[0] == "check":
        return _check(words[1:])
    if words and words[0] == "reference":
        print(_reference(words[1:], experiments), end="")  # noqa: T201
        return 0
    if any(word in ("--help", "-h") for word in words):
        named = [word for word in words if not word.startswith("-")]
        if len(named) == 2:
            print(option_help(*named))  # noqa: T201
        else:
            print(group_help(named[0], experiments) if named else listing(experiments))  # noqa: T201
        return 0
    if any(word.split("=")[0] in _HYDRA_FLAGS for word in words):
        return _hydra_itself(words)
    if words and words[0] in ("explain", "timeline"):
        return _look(words[0], words[1:])
    dry = "--dry-run" in words
    overrides = as_given([word for word in words if word not in ("--dry-run", "-m", "--multirun")])
    with hydra_session() as hydra:
        config, multirun = compose(hydra, overrides)
        if config.study is None:
            if multirun:
                _place_rates(config, overrides, dry)
            made = grid(hydra, config, overrides) if multirun else single(plain(config))
            return _cells(hydra, config, made, words, multirun, dry, more_to_come)
    return _study(config, words, dry)


def _look(what: str, words: Sequence[str]) -> int:
    """``explain`` and ``timeline``: one run looked at, of one policy at one grid point and of one seed."""
    own = {word.partition("=")[0]: word.partition("=")[2] for word in words if _of_one_run(word)}
    overrides = as_given([word for word in words if not _of_one_run(word)])
    with hydra_session() as hydra:
        config, multirun = compose(hydra, overrides)
        if multirun:
            _place_rates(config, overrides, dry=True)
        made = grid(hydra, config, overrides) if multirun else single(plain(config))
        values = plain(config, missing_ok=multirun)
    cell = made.chosen(own.get("policy"))
    seed = cell.seeds[0] if "seed" not in own else read_seeds([_whole(own["seed"])])[0]
    if what == "explain":
        from gsim.inspect.explain import explain_command

        print(explain_command(cell.settings, seed, own.get("request")))  # noqa: T201
        return 0
    out = writable(results_folder(values))
    _timeline(cell, out, seed)
    print(f"{cell.label}, seed {seed}: {shlex.quote(str(out / 'timeline.json'))} (opens in Perfetto), timeline.png")  # noqa: T201
    return 0


def _of_one_run(word: str) -> bool:
    return word.startswith(("request=", "policy=", "seed="))


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"seed={text}: must be a whole number from 0")
    return int(text)


def _reference(words: list[str], experiments: Mapping[str, Experiment]) -> str:
    """The pages that are made from the code: every option, every seam, every column."""
    from gsim.cli.reference_page import reference_page
    from gsim.cli.results_page import results_page
    from gsim.cli.seams_page import seams_page

    pages = {"options": lambda: reference_page(experiments), "seams": seams_page, "results": results_page}
    name = words[0] if words else "options"
    if len(words) > 1 or name not in pages:
        raise ConfigError(f"reference PAGE: one of {', '.join(pages)}; not '{' '.join(words)}'")
    return pages[name]()


def _check(words: list[str]) -> int:
    """Policies are held to what every one of their group keeps to; 1 where one does not."""
    from gsim.contract.check import groups_of, report, verdicts

    if len(words) != 1:
        raise ConfigError("check NAME (a router, predictor, estimator or rectifier), or check GROUP=NAME")
    name = words[0].partition("=")[2] or words[0]
    broken = False
    for group in groups_of(words[0]):
        found = verdicts(group, name)
        broken = broken or any(verdict.broken for verdict in found)
        print(report(group, name, found))  # noqa: T201
    return int(broken)


def _compare(words: list[str]) -> int:
    """Two results folders are compared as they are; two routers are run first, on the same seeds."""
    from gsim.report.comparing import as_sweep, compare_command

    load_those_that_work(extension_files())
    prepared = as_sweep(words)
    if prepared is not None:
        overrides, words = prepared
        status = run_command(overrides)
        if status != 0 or "--dry-run" in overrides:
            return status
    print(compare_command(words))  # noqa: T201
    return 0


def _hydra_itself(words: list[str]) -> int:
    """Hydra's own flags (``--cfg``, ``--info`` ...) are answered by Hydra."""
    import hydra

    @hydra.main(version_base="1.3", config_path=None, config_name="config")
    def shown(_config: DictConfig) -> None:
        """Never runs: the flags only show."""

    sys.argv = [sys.argv[0], *words]
    shown()
    return 0


def results_folder(values: Mapping[str, Any]) -> Path:
    """``out``, or ``results/NAME``."""
    out = values.get("out")
    return Path(str(out)) if out else Path("results") / str(values["name"])


def _cells(
    hydra: Hydra,
    config: DictConfig,
    made: Grid,
    words: Sequence[str],
    multirun: bool,
    dry: bool,
    more_to_come: bool,
) -> int:
    cells = made.cells
    values = plain(config, missing_ok=multirun)
    out = results_folder(values)
    for cell in cells:
        cell.settings.scenario()  # every policy and profile is built once before anything runs
    check_fields(values, cells)
    if values["timeline"] and len(cells) > 1:
        raise ConfigError(f"timeline=true draws one run: {made.ask()}")
    if dry:
        print(forecast(cells, RunStore(out / RUNS)))  # noqa: T201
        return 0
    with claimed(writable(out), words):
        if multirun:
            computed = sweep(hydra, config, cells, out)
            if not more_to_come:
                dismiss_workers(config)
        else:
            computed = _one(cells[0], out, str(values["name"]))
        total = sum(len(cell.seeds) for cell in cells)
        say(f"{computed} runs computed, {total - computed} were there already")
        further = [lambda stage: _timeline(cells[0], stage, cells[0].seeds[0])] if values["timeline"] else []
        shown = publish(values, made, out, words, *further)
    # Everything is on disk before anything is printed: whoever stops reading loses nothing.
    print(shown)  # noqa: T201
    _where(out)
    return 0


def _timeline(cell: Cell, out: Path, seed: int) -> None:
    from gsim.inspect.timeline import leave_timeline

    leave_timeline(cell.settings, seed, out)


def _one(cell: Cell, out: Path, name: str) -> int:
    store = RunStore(out / RUNS)
    keys = [key for _, absent in missing_runs([cell], store) for key in absent]
    if not keys:
        return 0
    cleared(store, keys)
    with watching(name, len(keys), lambda: sum(store.has(key) for key in keys)):
        return compute(cell.settings, cell.seeds, store.folder, cell.code)


def forecast_of(words: Sequence[str]) -> Forecast | None:
    """What the runs of a command line would take; None for a study that is no grid of runs."""
    register_schema()
    with hydra_session() as hydra:
        config, multirun = compose(hydra, words)
        values = plain(config, missing_ok=multirun)
        if values["study"] is not None:
            return None
        if multirun:
            _place_rates(config, words, dry=True)
        cells = (grid(hydra, config, words) if multirun else single(values)).cells
        return forecast(cells, RunStore(results_folder(values) / RUNS))


def _context(config: DictConfig) -> Context:
    """What a study (or the search for the knee) is given of a composed configuration."""
    values = plain(config)
    return Context(
        name=str(values["name"]),
        out=results_folder(values),
        seeds=read_seeds(values["seeds"]),
        settings=Settings.read(values),
        n_jobs=int(config.hydra.launcher.get("n_jobs", 1)),
        extensions=tuple(values["extensions"]),
        commands=_Commands(),
    )


class _Commands:
    """The command line as a study gets it: Hydra's errors in gsim's words."""

    def run(self, words: Sequence[str]) -> None:
        with _in_our_words():
            run_command(list(words), more_to_come=True)

    def forecast(self, words: Sequence[str]) -> Forecast | None:
        with _in_our_words():
            return forecast_of(words)


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except MissingMandatoryValue as error:
        raise MissingFieldError(str(error.full_key)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(message_of(error)) from error


def _place_rates(config: DictConfig, overrides: Sequence[str], dry: bool) -> None:
    """Where ``knee.at`` is given, the sweep's rates are multiples of the knee (unless the command line has rates)."""
    values = plain(config, missing_ok=True)
    wanted = knee.asked(values)
    if not wanted.at or any(word.startswith(f"{knee.RATE}=") for word in overrides):
        return
    context = _context(config)
    folder = None if dry else context.out / "knees"
    found_rps = knee.find(wanted, values, folder, context)
    OmegaConf.update(config, "sweep", knee.placed(values["sweep"] or {}, wanted, found_rps), merge=False)
    OmegaConf.update(config, "knee.rps", found_rps)


def _study(config: DictConfig, words: Sequence[str], dry: bool) -> int:
    values, context = plain(config), _context(config)
    entry = lookup("study", str(values["study"]))
    study = options_of(entry.config, values)
    out = context.out
    if dry:
        told = getattr(study, "forecast", None)
        said = "" if told is None else f"\n{told(context)}"
        print(f"{values['name']}: would run study '{entry.name}' into {out}{said}")  # noqa: T201
        return 0
    with claimed(writable(out), words):
        findings: Findings = study.run(context)
        with published(out) as stage:
            shown = write_findings(findings, stage)
            made = {"code": context.settings.code(entry.cls.__module__, RUN), **maker()}
            describe(without_internal(values), stage, provenance(words, context.seeds, [made]))
    print(shown)  # noqa: T201
    _where(out)
    return 0


def write_findings(findings: Findings, out: Path) -> str:
    """Write a study's tables, figures and notes; returns what is printed."""
    from gsim.report.table import frame_table
    from gsim.study.figure import save

    shown = []
    for name, frame in findings.tables.items():
        frame.to_csv(out / f"{name}.csv", index=False, float_format="%.9g", lineterminator="\n")
        shown.append(frame_table(name, frame))
    for name, figure in findings.figures.items():
        save(figure, out / name)
    (out / "findings.txt").write_text("".join(f"{note}\n" for note in findings.notes), encoding="utf-8")
    return "\n\n".join([*shown, "\n".join(findings.notes)]).strip()


def _where(out: Path) -> None:
    files = sorted(path.name for path in out.iterdir() if path.is_file() and not path.name.startswith("."))
    print(f"\nresults in {shlex.quote(str(out))}: {', '.join(files)}")  # noqa: T201
