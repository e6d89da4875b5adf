"""The errors that gsim raises on purpose, as one tree.

    GsimError
    +-- ConfigError      a configuration that cannot be simulated (names the field, the value, what is allowed)
    +-- InputError       a file or row that cannot be read (names the file, the row or field, the value)
    |   +-- TraceError   a trace row that is refused
    |   +-- ProfileError a latency profile that is refused, or asked outside its domain
    +-- SimulationError  an invariant broke while the clock ran: a bug in gsim or in a policy

Anything else that escapes is a bug. Messages are written for the person who typed the command.
"""

from __future__ import annotations


class GsimError(Exception):
    """The root: catch it to catch everything that gsim raises on purpose."""


class ConfigError(GsimError):
    """A configuration that cannot be simulated."""


class MissingFieldError(ConfigError):
    """A mandatory field of a configuration that has no value."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field} is mandatory: give it as {self.field}=VALUE"


class InputError(GsimError):
    """A file, row or field that cannot be read."""


class TraceError(InputError):
    """A trace that is refused, with file, row and reason."""

    def __init__(self, path: object, row: int | None, reason: str) -> None:
        # The arguments are kept as they came: the error must survive pickling (workers) and re-raising (SimPy).
        super().__init__(path, row, reason)
        self.path = str(path)
        self.row = row
        self.reason = reason

    def __str__(self) -> str:
        where = self.path if self.row is None else f"{self.path}, row {self.row}"
        return f"{where}: {self.reason}"


class ProfileError(InputError):
    """A latency profile that is refused, or that was asked outside its domain."""


class SimulationError(GsimError):
    """An invariant broke while the clock ran (a bug in gsim or in a policy, never in the input)."""
