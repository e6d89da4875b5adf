"""Rows of trace files, plain or compressed, one at a time: every failure names the file, the row and the reason."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from gsim.core.errors import TraceError
from gsim.core.files import check_regular
from gsim.core.numbers import number_of
from gsim.workload.report import RowError, RowErrors

T = TypeVar("T")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "xz": b"\xfd7zXZ", "bzip2": b"BZh"}
Row = Mapping[str, Any]

#: Nobody asks for more tokens in one request: a larger number is a wrong unit or a broken file.
MAX_TOKENS = 10_000_000
#: Longer times and gaps than this (about 30 years) are a wrong unit.
MAX_SECONDS = 1e9
#: Moments may be counted from 1970 (the first arrival becomes 0): up to the year 2286, which milliseconds exceed.
MAX_CLOCK_SECONDS = 1e10


def text_lines(path: str) -> Iterator[str]:
    """Lines of a text file, unpacked (gzip, zstd) where its first bytes say so; a file that breaks is a ``TraceError``.

    Bytes that are no UTF-8 come as surrogates: ``readable`` refuses them where a row is used.
    """
    row = -1
    try:
        check_regular(path)
        packing = _packing(path)
        row = 0
        with _opened(path, packing) as lines:
            for line in lines:
                row += 1
                yield str(line).removeprefix("\ufeff") if row == 1 else str(line)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TraceError(path, row + 1 if row >= 0 else None, f"cannot be read: {reason}") from None


def _packing(path: str) -> str:
    """How the file is compressed, by its first bytes; what is not read here is refused by name."""
    with open(path, "rb") as raw:
        head = raw.read(6)
    found = next((name for name, magic in _MAGIC.items() if head.startswith(magic)), "")
    if found in ("xz", "bzip2"):
        raise TraceError(
            path, None, f"is compressed with {found}; unpack it first (gzip and zstd are read as they are)"
        )
    if head.startswith(_UTF_16):
        raise TraceError(path, 1, "not UTF-8 text but UTF-16, as spreadsheets write it; save it as UTF-8")
    return found


def _opened(path: str, packing: str) -> IO[str]:
    if packing == "zstd":
        import pyarrow as pa

        raw = pa.input_stream(path, compression="zstd")
        return io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
    if packing == "gzip":
        return gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape", newline="")
    return open(path, encoding="utf-8", errors="surrogateescape", newline="")


def readable(line: str) -> str:
    """The line, refused if it is not UTF-8."""
    if not line.isascii() and any("\ud800" <= letter <= "\udfff" for letter in line):
        raise RowError("not UTF-8 text")
    return line


def from_json(text: str) -> Any:
    """A JSON value; NaN and Infinity, which are no JSON, become texts that no number field accepts."""
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON: {error}") from None


def json_rows(path: str, errors: RowErrors) -> Iterator[tuple[int, Row]]:
    """Objects of a JSON-lines file with their line numbers; blank lines are passed over."""
    for number, line in enumerate(text_lines(path), start=1):
        if line.isspace():
            continue
        errors.report.rows += 1
        try:
            value = from_json(readable(line))
            if not isinstance(value, dict):
                raise RowError(f"must be a JSON object, not {brief(value)}")
        except RowError as error:
            errors.bad(number, error)
            continue
        yield number, value


def csv_rows(path: str, errors: RowErrors, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with a header that holds at least ``columns`` (in any order)."""
    reader = csv.reader(text_lines(path))
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            raise TraceError(path, 1, f"the header has no column {missing[0]!r}; it must have: {', '.join(columns)}")
        if len(set(header)) < len(header):
            raise TraceError(path, 1, "the header names a column twice")
        width = len(header)
        for values in reader:
            if not values:
                continue
            errors.report.rows += 1
            if len(values) != width:
                errors.bad(reader.line_num, f"{len(values)} fields where the header has {width}")
                continue
            yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise TraceError(path, reader.line_num, f"not CSV: {error}") from None


def parsed(
    rows: Iterator[tuple[int, Row]], errors: RowErrors, parse: Callable[[int, Row], T | None]
) -> Iterator[tuple[int, T]]:
    """``parse`` applied to every row: a row that it refuses is reported, one for which it says None is left out."""
    for number, row in rows:
        try:
            value = parse(number, row)
        except RowError as error:
            errors.bad(number, error)
            continue
        if value is not None:
            yield number, value


def brief(value: object) -> str:
    """A value as an error message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def present(row: Row, name: str) -> Any:
    """The field's value; it must be there."""
    if name not in row:
        raise RowError(f"no field {name!r}")
    return row[name]


def number(row: Row, name: str, *, low: float = 0.0, high: float = MAX_SECONDS) -> float:
    """A finite number in [low, high], from a JSON number or a CSV text."""
    value = present(row, name)
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        result = number_of(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        raise RowError(f"{name} must be a number, not {brief(value)}") from None
    if not math.isfinite(result):
        raise RowError(f"{name} must be a finite number, not {brief(value)}")
    if not low <= result <= high:
        raise RowError(f"{name} must be in [{low:g}, {high:g}], not {brief(value)}")
    return result


def moment(row: Row, name: str, per_second: float = 1.0) -> float:
    """When something happened, in seconds, counted from any beginning (``per_second``: the field's unit)."""
    return number(row, name, high=MAX_CLOCK_SECONDS * per_second) / per_second


def whole(row: Row, name: str, *, low: int = 1, high: int = MAX_TOKENS) -> int:
    """A whole number in [low, high] (tokens, by default), from a JSON number or a CSV text."""
    value = row.get(name)
    if type(value) is int and low <= value <= high:
        return value
    result = number(row, name, low=-math.inf, high=math.inf)
    if result != int(result):
        raise RowError(f"{name} must be a whole number, not {brief(value)}")
    if not low <= result <= high:
        raise RowError(f"{name} must be in [{low}, {high}], not {brief(value)}")
    return int(result)


def text(row: Row, name: str) -> str:
    """A text, or a whole number that stands for one (ids come as either)."""
    value = present(row, name)
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise RowError(f"{name} must be a text or a whole number, not {brief(value)}")


def wholes(row: Row, name: str) -> tuple[int, ...]:
    """A list of whole numbers (block ids)."""
    value = present(row, name)
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise RowError(f"{name} must be a list of whole numbers, not {brief(value)}")
    return tuple(value)


def folder_or_file(path: str, pattern: str) -> list[str]:
    """The file itself, or the files of a folder that match, sorted by name."""
    place = Path(path)
    if not place.is_dir():
        return [path]
    files = sorted(str(file) for file in place.glob(pattern) if file.is_file())
    if not files:
        raise TraceError(path, None, f"the folder has no file {pattern}")
    return files
