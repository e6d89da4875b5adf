"""Measure a live server, fit a profile, judge it.

    python -m gsim.calibration measure  url=http://HOST:PORT gpu=NAME [out=DIR ...]   measure, then fit
    python -m gsim.calibration fit      [out=DIR]                                     offline, from the raw files
    python -m gsim.calibration report   [out=DIR]                                     offline, from the raw files
    python -m gsim.calibration validate url=http://HOST:PORT [out=DIR ...]            unseen load, live and simulated
    python -m gsim.calibration judge    [out=DIR name=LOAD ...]                       offline, by recorded replays
    python -m gsim.calibration scale    profile=FILE [speeds=[1,2,4]]                 unlike instances from one
    python -m gsim.calibration COMMAND --help                                         its options

Results go to stdout, talk to stderr. Ctrl-C keeps what was measured; the same command goes on from there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from gsim.calibration.fit import fit_folder
from gsim.calibration.measure import measure
from gsim.calibration.options import FitOptions, JudgeOptions, MeasureOptions, ScaleOptions, ValidateOptions
from gsim.calibration.raw import RawStore
from gsim.calibration.report import report_folder
from gsim.calibration.scale import scale_profile
from gsim.core.errors import ConfigError, GsimError
from gsim.core.options import option_help, parse_options
from gsim.validation.validate import judge, validate


def run_measure(arguments: list[str]) -> str:
    """Measure, then fit and report."""
    options = parse_options(MeasureOptions, arguments)
    try:
        summary = asyncio.run(measure(options))
    except KeyboardInterrupt:
        kept = len(RawStore(Path(options.out)).read())
        print(
            f"interrupted: {kept} measurements are kept in {options.out}; the same command goes on from there",
            file=sys.stderr,
        )
        raise
    print(summary, file=sys.stderr)
    return run_report([f"out={options.out}"])


def run_fit(arguments: list[str]) -> str:
    """Fit a folder's raw measurements."""
    options = parse_options(FitOptions, arguments)
    return str(fit_folder(Path(options.out), options.name).profile)


def run_report(arguments: list[str]) -> str:
    """Fit and report."""
    options = parse_options(FitOptions, arguments)
    return report_folder(Path(options.out), options.name)


def run_validate(arguments: list[str]) -> str:
    """Replay an unseen load."""
    return asyncio.run(validate(parse_options(ValidateOptions, arguments)))


def run_judge(arguments: list[str]) -> str:
    """Judge a profile by recorded replays."""
    return judge(parse_options(JudgeOptions, arguments))


def run_scale(arguments: list[str]) -> str:
    """Write scaled copies of a profile."""
    return "\n".join(str(path) for path in scale_profile(parse_options(ScaleOptions, arguments)))


COMMANDS: dict[str, tuple[Callable[[list[str]], str], type]] = {
    "measure": (run_measure, MeasureOptions),
    "fit": (run_fit, FitOptions),
    "report": (run_report, FitOptions),
    "validate": (run_validate, ValidateOptions),
    "judge": (run_judge, JudgeOptions),
    "scale": (run_scale, ScaleOptions),
}


def main(arguments: list[str]) -> int:
    """Run one command; the exit status is 0, 2 (it cannot be done, and why) or 130 (Ctrl-C)."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    try:
        if arguments[0] not in COMMANDS:
            raise ConfigError(f"unknown command '{arguments[0]}'; there are: {', '.join(COMMANDS)}")
        run, schema = COMMANDS[arguments[0]]
        if any(argument in ("-h", "--help") for argument in arguments[1:]):
            print(option_help(schema))
            return 0
        print(run(arguments[1:]))
    except GsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
