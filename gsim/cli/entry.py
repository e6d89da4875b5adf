"""The entry: the commands of ``python -m gsim``, and what becomes of errors."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gsim.cli.cells import grid
from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.cli.launch import launch_cells, launch_study, place_rates, results_folder
from gsim.cli.listing import COMMANDS, group_help, listing, option_help
from gsim.cli.look import look
from gsim.cli.words import as_given, close_to, not_a_list, not_fields, unknown_key, unknown_option
from gsim.core import ConfigError, GsimError
from gsim.core.errors import MissingFieldError
from gsim.run.extensions import extension_files, load_those_that_work
from gsim.run.store import RunStore
from gsim.study.dry_run import Forecast, forecast
from gsim.study.experiments import Experiment
from gsim.study.grid import single
from gsim.study.missing import RUNS
from gsim.study.progress import say
from gsim.study.workers import Stopped, stopping

_HYDRA_FLAGS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc", "--version")


#: What disks, file systems and limits refuse, wherever it happens.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 done, 1 an error that was said, 130 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _say_anything()
    try:
        _check_words(words)
        with stopping():
            status = run_command(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Who reads has read enough (``| head``); what was to be written is written before anything is printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        say("interrupted: finished runs are kept, where a study stores any; the same command goes on from them")
        return 128 + int(stop.args[0]) if isinstance(stop, Stopped) else 130
    except (GsimError, HydraException, OmegaConfBaseException) as error:
        say(f"error: {message_of(error)}")
        return 1
    except OSError as error:
        if error.errno not in _DISK:
            raise
        say(f"error: {error.filename or 'a file'}: {error.strerror}; finished runs are kept")
        return 1


def _check_words(words: Sequence[str]) -> None:
    """Raises ``ConfigError`` for what is no text (it could be written into no file), and where there is no folder to
    work in."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the working folder is gone; change to another one") from None
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise ConfigError(
                f"{word!a} is no text in this system's encoding ({sys.getfilesystemencoding()}); "
                "with LC_ALL=C.UTF-8 it may be one"
            )


def _say_anything() -> None:
    """What a terminal's or a file's encoding has no letter for is printed as a question mark, not as a traceback.

    What whoever started this has closed says nothing; else the next file that is opened would take its place.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


#: A sweep as it is written on the command line.
RANGE = "trace.rate_per_s=range(10,50,10)"


def message_of(error: Exception) -> str:
    """An error in words, with its cause where only that says what is wrong."""
    cause = error.__cause__
    text = str(error)
    for told in (unknown_key, unknown_option, not_fields, not_a_list):
        said = told(f"{text}\n{cause or ''}")
        if said is not None:
            return said
    inside = re.search(r"Error merging override (\S+=.*)", text)
    if inside and "object_type=" in f"{text}{cause}" and "Sweep" in f"{text}{cause}":
        return f"{inside[1]}: a range, choice or glob stands alone ({RANGE}); inside braces give a list of values"
    if cause is not None and isinstance(cause, OmegaConfBaseException) and str(cause) not in text:
        text = f"{text}\n{cause}"
    return text.strip()


def run_command(words: list[str], *, more_to_come: bool = False) -> int:
    """Run a command line; raises what goes wrong. ``more_to_come``: its workers are kept for the next command."""
    for help_word, command in (words[1::-1], words[:2]) if len(words) > 1 else ():
        if help_word in ("--help", "-h") and command in COMMANDS:
            print(f"python -m gsim {COMMANDS[command]}")  # noqa: T201
            return 0
    if words and words[0] == "compare":
        return _compare(words[1:])
    if words and words[0] == "tune":
        words = ["experiment=tune", *words[1:]]
    if words and words[0] == "report":
        print(_report(words[1:]))  # noqa: T201
        return 0
    experiments = register_schema()
    if words and words[0] == "check":
        return _check(words[1:])
    if words and words[0] == "reference":
        print(_reference(words[1:], experiments), end="")  # noqa: T201
        return 0
    if any(word in ("--help", "-h") for word in words):
        print(_help([word for word in words if not word.startswith("-") and "=" not in word], experiments))  # noqa: T201
        return 0
    if any(word.split("=")[0] in _HYDRA_FLAGS for word in words):
        return _hydra_itself(words)
    if words and words[0] in ("explain", "timeline", "page"):
        return look(words[0], words[1:], _Commands())
    commands, dry = _Commands(), "--dry-run" in words
    overrides = as_given([word for word in words if word not in ("--dry-run", "-m", "--multirun")])
    with hydra_session() as hydra:
        config, multirun = compose(hydra, overrides)
        if config.study is None:
            if multirun:
                place_rates(config, overrides, commands, dry)
            made = grid(hydra, config, overrides) if multirun else single(plain(config))
            return launch_cells(hydra, config, made, words, multirun, dry, more_to_come)
    return launch_study(config, words, commands, dry)


def _help(names: list[str], experiments: Mapping[str, Experiment]) -> str:
    """One screen of all there is, of a group, or of one choice of it."""
    if len(names) > 2:
        raise ConfigError(f"--help, --help GROUP or --help GROUP NAME; not --help {' '.join(names)}")
    if not names:
        return listing(experiments)
    if names[0] == "experiment" and len(names) == 2:
        if names[1] not in experiments:
            raise ConfigError(
                f"unknown experiment '{names[1]}'{close_to(names[1], experiments)}; see --help experiment"
            )
        study = experiments[names[1]].groups.get("study")
        fields = f"\n(its fields: python -m gsim --help study {study})" if study else ""
        return group_help("experiment", {names[1]: experiments[names[1]]}) + fields
    return option_help(*names) if len(names) == 2 else group_help(names[0], experiments)


def _report(words: list[str]) -> str:
    from gsim.cli.folder_report import report_command

    return f"{report_command(words)}: figure, tables, findings, and the runs of every point"


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
        known = "router, predictor, estimator, rectifier, scheduler or scaler"
        raise ConfigError(f"check NAME (a {known}), or check GROUP=NAME")
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


def forecast_of(words: Sequence[str]) -> Forecast | None:
    """What the runs of a command line would take; None for a study that is no grid of runs."""
    register_schema()
    with hydra_session() as hydra:
        config, multirun = compose(hydra, words)
        values = plain(config, missing_ok=multirun)
        if values["study"] is not None:
            return None
        if multirun:
            place_rates(config, words, _Commands(), dry=True)
        cells = (grid(hydra, config, words) if multirun else single(values)).cells
        return forecast(cells, RunStore(results_folder(values) / RUNS))


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
