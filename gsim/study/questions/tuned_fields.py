"""The fields of a policy that can be searched, and where: what ``tune`` tries is read from the policy's own types."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gsim.core import ConfigError
from gsim.run.choice import Choice
from gsim.run.key import resolved


class Trial(Protocol):
    """What is asked for values (Optuna's trial)."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...  # noqa: D102
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...  # noqa: D102
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Tuned:
    """One field, and the values that are tried."""

    name: str
    default: Any
    """As it is configured."""
    choices: tuple[Any, ...] = ()
    """Of a field with a list of values; else:"""
    low: float = 0.0
    high: float = 0.0

    def ask(self, trial: Trial) -> Any:
        """A value to try."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if isinstance(self.default, int):
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.low > 0)
        return trial.suggest_float(self.name, self.low, self.high, log=self.low > 0)

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name} one of {', '.join(map(str, self.choices))}"
        return f"{self.name} from {self.low:g} to {self.high:g}"


def tuned_fields(choice: Choice, names: Sequence[str], ranges: Mapping[str, Any], span: float) -> list[Tuned]:
    """The fields to search: those named, or all that can be.

    A number is searched between its value / ``span`` and its value x ``span``, on a logarithmic scale; truth values and
    fields of a few words over all of them. ``ranges`` says otherwise for single fields: [low, high] of a number, or a
    list of values. Raises ``ConfigError`` for a field that there is not, or that has no range.
    """
    hints = {} if choice.config is None else typing.get_type_hints(choice.config)
    values = resolved(choice.group, choice.name, choice.fields)
    own = [f.name for f in dataclasses.fields(choice.config) if f.init] if choice.config is not None else []
    where = f"{choice.group}={choice.name}"
    for name in (*names, *ranges):
        if name not in own:
            raise ConfigError(f"{where} has no field '{name}' to tune; its fields are: {', '.join(own) or 'none'}")
    found = []
    for name in dict.fromkeys(names or own):
        one = _tuned(name, hints[name], values[name], ranges.get(name), span)
        if one is not None:
            found.append(one)
        elif names:
            raise ConfigError(
                f"{where}: nothing says where to search {name}={values[name]}; add ranges.{name}=[LOW,HIGH]"
            )
    if not found:
        raise ConfigError(f"{where} has no field that can be searched; say where with ranges.FIELD=[LOW,HIGH]")
    return found


def _tuned(name: str, hint: Any, value: Any, given: Any, span: float) -> Tuned | None:
    if given is not None:
        return _given(name, value, given)
    if isinstance(value, bool):
        return Tuned(name, value, (False, True))
    if typing.get_origin(hint) is typing.Literal:
        return Tuned(name, value, typing.get_args(hint))
    if isinstance(value, int | float) and 0 < value < math.inf:
        low, high = value / span, value * span
        return (
            Tuned(name, value, low=max(round(low), 1), high=round(high))
            if isinstance(value, int)
            else Tuned(name, value, low=low, high=high)
        )
    return None


def _given(name: str, value: Any, given: Any) -> Tuned:
    if not isinstance(given, list | tuple) or len(given) < 2:
        raise ConfigError(f"ranges.{name} must be [LOW, HIGH] or a list of values, not {given!r}")
    numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in given)
    if not numbers or not isinstance(value, int | float) or isinstance(value, bool) or len(given) > 2:
        return Tuned(name, value, tuple(given))
    low, high = given
    if not low < high:
        raise ConfigError(f"ranges.{name}: {low} must be less than {high}")
    return Tuned(name, value, low=low, high=high)
