"""Typed reading of a profile's YAML fields: every error names the file, the field, the value and what is allowed."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gsim.core.errors import InputError, ProfileError
from gsim.core.files import check_regular
from gsim.core.numbers import number_of
from gsim.core.plain_yaml import PlainLoader, check_size


class Fields:
    """The fields of one mapping in a YAML file; each is read once, by type, and what nobody reads is refused."""

    def __init__(self, path: Path, values: Mapping[str, Any], where: str = "") -> None:
        self.path = path
        self.where = where
        self._values = dict(values)
        self._read: set[str] = set()
        self._known: set[str] = set()

    def error(self, key: str, reason: str) -> ProfileError:
        """A ``ProfileError`` about one field."""
        return ProfileError(f"{self.path}: {self.where}{key}: {reason}")

    def __contains__(self, key: str) -> bool:
        return not self._left_out(key)

    def is_mapping(self, key: str) -> bool:
        """True where the field holds fields of its own."""
        return isinstance(self._values.get(key), Mapping)

    def _left_out(self, key: str) -> bool:
        """Whether a field that need not be given is not; it is allowed all the same."""
        self._known.add(key)
        return key not in self._values

    def _take(self, key: str) -> Any:
        if key not in self._values:
            raise self.error(key, f"is missing (there are: {', '.join(map(str, self._values)) or 'no fields'})")
        self._read.add(key)
        return self._values[key]

    def number(self, key: str, default: float | None = None, *, low: float = 0.0, above: bool = False) -> float:
        """A finite number of at least ``low`` (``above``: greater than ``low``)."""
        if default is not None and self._left_out(key):
            return default
        return self._number(key, self._take(key), low, above)

    def _number(self, key: str, value: Any, low: float, above: bool) -> float:
        allowed = f"a finite number {'above' if above else 'of at least'} {low:g}"
        try:
            # YAML 1.1 reads 1e-5 as text; whoever writes it means a number.
            known = math.nan if isinstance(value, bool) else value
            number = number_of(known) if isinstance(known, str) else float(known)
        except (TypeError, ValueError, OverflowError):
            raise self.error(key, f"must be {allowed}, not {value!r}") from None
        if not math.isfinite(number) or number < low or (above and number == low):
            raise self.error(key, f"must be {allowed}, not {value!r}")
        return number

    def integer(self, key: str, default: int | None = None, *, low: int = 1) -> int:
        """A whole number of at least ``low``."""
        if default is not None and self._left_out(key):
            return default
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.error(key, f"must be a whole number of at least {low}, not {value!r}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        if self._left_out(key):
            return default
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {value!r}")
        return value

    def text(self, key: str, default: str | None = None, allowed: tuple[str, ...] = ()) -> str:
        """Text, not empty; one of ``allowed`` where that is given."""
        if default is not None and self._left_out(key):
            return default
        value = self._take(key)
        text = value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else ""
        if not text.strip() or (allowed and text not in allowed):
            what = f"one of {', '.join(allowed)}" if allowed else "text"
            raise self.error(key, f"must be {what}, not {value!r}")
        return text.strip()

    def integers(self, key: str, *, low: int = 1) -> list[int]:
        """A list of whole numbers of at least ``low``."""
        value = self._take(key)
        if not isinstance(value, list) or not value:
            raise self.error(key, f"must be a list of whole numbers, not {value!r}")
        for i, item in enumerate(value):
            if isinstance(item, bool) or not isinstance(item, int) or item < low:
                raise self.error(f"{key}[{i}]", f"must be a whole number of at least {low}, not {item!r}")
        return value

    def rows(self, key: str, *, low: float = 0.0, above: bool = True) -> list[list[float]]:
        """A list of lists of finite numbers; a hole is named by its position."""
        value = self._take(key)
        if not isinstance(value, list) or not value or not all(isinstance(row, list) for row in value):
            raise self.error(key, f"must be a list of rows of numbers, not {value!r}")
        return [
            [self._number(f"{key}[{i}][{j}]", item, low, above) for j, item in enumerate(row)]
            for i, row in enumerate(value)
        ]

    def mapping(self, key: str) -> Fields:
        """A nested mapping."""
        value = self._take(key)
        if not isinstance(value, Mapping):
            raise self.error(key, f"must be a mapping of fields, not {value!r}")
        return Fields(self.path, value, f"{self.where}{key}.")

    def done(self) -> None:
        """Refuse fields that nobody read: a misspelt field must not be ignored."""
        unknown = [str(key) for key in self._values if key not in self._read]
        if unknown:
            allowed = ", ".join(sorted(self._known | self._read))
            raise self.error(unknown[0], f"is not a field of a profile here; the fields are: {allowed}")


def read_yaml(path: Path) -> Fields:
    """The top-level fields of a YAML file; raises ``ProfileError`` with the line on a syntax error."""
    try:
        check_regular(path)
        told = path.stat()
        values = _content(path, told.st_mtime_ns, told.st_size, told.st_ino)
    except InputError as error:
        raise ProfileError(f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ProfileError(f"{path}: not valid YAML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: cannot be read: {error}") from None
    if not isinstance(values, Mapping):
        raise ProfileError(f"{path}: must hold a mapping of fields, not {type(values).__name__}")
    try:
        check_size(path, values)
    except InputError as error:
        raise ProfileError(str(error)) from None
    return Fields(path, values)


@functools.lru_cache(maxsize=64)
def _content(path: Path, *_stamp: int) -> Any:
    """Read once: a run's key asks for a profile's model before the profile is loaded."""
    with path.open(encoding="utf-8") as file:
        return yaml.load(file, Loader=PlainLoader)
