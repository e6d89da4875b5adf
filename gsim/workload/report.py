"""What reading a trace found: rows read, rows refused and why, what was cut or left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsim.core.errors import ConfigError, TraceError

#: How many reasons a report keeps word for word.
_KEPT_REASONS = 10


class RowError(ValueError):
    """A row that cannot be used; the reason is the message. Readers turn it into a ``TraceError`` or a skipped row."""


@dataclass
class Report:
    """Counts of one pass over a trace; complete when the trace has been read to its end."""

    rows: int = 0
    """Rows read, bad ones included."""
    skipped: int = 0
    """Bad rows that were left out (``on_error=skip``)."""
    failed: int = 0
    """Rows whose request failed when it was recorded (left out: nobody knows what it would have cost)."""
    truncated: int = 0
    """Outputs longer than ``max_output_tokens``, cut to it as a server cuts them."""
    too_long: int = 0
    """Requests left out because they exceed ``max_context_tokens`` (and those of their session that depend on them)."""
    reasons: list[str] = field(default_factory=list)
    """Why rows were skipped (the first ten)."""

    def clear(self) -> None:
        """Start counting afresh."""
        self.rows = self.skipped = self.failed = self.truncated = self.too_long = 0
        self.reasons.clear()

    def __str__(self) -> str:
        parts = [f"{self.rows} rows"]
        for name in ("skipped", "failed", "truncated", "too_long"):
            count = getattr(self, name)
            if count:
                parts.append(f"{count} {name.replace('_', ' ')}")
        return ", ".join([*parts, *self.reasons])


@dataclass
class RowErrors:
    """What to do with bad rows of one file: refuse the trace at the first, or count and go on."""

    path: str
    skip: bool
    report: Report

    @classmethod
    def of(cls, path: str, on_error: str, report: Report) -> RowErrors:
        """``on_error`` is ``error`` or ``skip``; anything else raises ``ConfigError``."""
        if on_error not in ("error", "skip"):
            raise ConfigError(f"trace.on_error must be error or skip, not '{on_error}'")
        return cls(path, on_error == "skip", report)

    def at(self, path: str) -> RowErrors:
        """The same treatment for another file of the trace."""
        return RowErrors(path, self.skip, self.report)

    def quiet(self) -> RowErrors:
        """For a look ahead at the same file: bad rows are left out, nothing is counted."""
        return RowErrors(self.path, True, Report())

    def bad(self, row: int, reason: object) -> None:
        """Row ``row`` (counted from 1, as an editor counts lines) cannot be used."""
        error = TraceError(self.path, row, str(reason))
        if not self.skip:
            raise error from None
        self.report.skipped += 1
        if len(self.report.reasons) < _KEPT_REASONS:
            self.report.reasons.append(str(error))
