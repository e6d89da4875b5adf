"""A number is what everybody reads as one: no underscores, no octals, no minutes, no digits of other scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsim.calibration.options import ValidateOptions
from gsim.calibration.sweep import SweepError
from gsim.calibration.sweep import read_options as sweep_options
from gsim.core import ConfigError, InputError, TraceError
from gsim.core.numbers import number_of, whole_of
from gsim.core.options import read_options
from gsim.core.plain_yaml import read_plain_yaml
from gsim.latency.fields import read_yaml
from gsim.metrics import Objective
from gsim.workload.rows import RowError, number, whole

STRANGE = ["1_02", "1_0.5", "١٢", "１２", "", "1 2", "0x1g"]


@pytest.mark.parametrize("text", STRANGE)
def test_texts_that_are_no_numbers(text: str) -> None:
    for read in (number_of, whole_of):
        with pytest.raises(ValueError):
            read(text)
    for read_row in (number, whole):
        with pytest.raises(RowError, match="tokens must be a number, not"):
            read_row({"tokens": text}, "tokens")
    with pytest.raises(ConfigError, match=r"is not a number of milliseconds|unknown metric"):
        Objective.parse(f"ttft:{text}")


def test_options_of_other_commands() -> None:
    with pytest.raises(ConfigError, match="requests must be a whole number, not '1_02'"):
        read_options(ValidateOptions, ["url=http://x", "requests=1_02"])
    with pytest.raises(SweepError, match="must be int, not '1_02'"):
        sweep_options(["repeats=1_02"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1_02", "'1_02' is no number; write 102"),
        ("1_0.5", "'1_0.5' is no number; write 10.5"),
        ("010", "'010' is no number; write 10"),
        ("1:30", "'1:30' is no number; write a decimal number"),
        ("0b11", "'0b11' is no number; write a decimal number"),
        ("9" * 400, "9{18}... has 400 digits; allowed: 18"),
        ("9" * 5000, "9{18}... has 5000 digits; allowed: 18"),
        ("2026-13-45", r"'2026-13-45' is no date \(month must be in 1..12\); quote it as text"),
    ],
)
def test_yaml_reads_numbers_that_are_written_as_such(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"a: 1\nb: {text}\n")
    for read in (read_plain_yaml, read_yaml):
        with pytest.raises((InputError, TraceError), match=f"a.yaml: line 2: {told}"):
            read(file)
    file.write_text(f"b: '{text}'\n")
    assert read_plain_yaml(file) == {"b": text}


def test_numbers_are_still_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("[0, -3, +4, 0x1F, 1.5, .5, 1., 1.0e-3, 1.e+3, .inf, -0.0]")
    read = read_plain_yaml(file)
    assert read == [0, -3, 4, 31, 1.5, 0.5, 1.0, 0.001, 1000.0, float("inf"), 0.0]
