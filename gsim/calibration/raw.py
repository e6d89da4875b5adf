"""Raw measurements on disk: one line per measurement as it is taken, one Parquet file in the end.

A run that is interrupted loses at most the measurement that was under way; the next run in the same folder goes on.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gsim.calibration.plan import Kind, Point
from gsim.core.errors import InputError
from gsim.core.files import write_whole, written

JOURNAL = "measurements.jsonl"
META = "meta.json"
PARQUET = "raw.parquet"


@dataclass(frozen=True)
class Measurement:
    """One repeat of one point."""

    kind: Kind
    sequences: int
    context_tokens: int
    chunk_tokens: int
    check: bool
    repeat: int
    iteration_s: float
    """Seconds of one iteration (NaN where the repeat was dropped)."""
    basis: str
    """Whose clock: ``server`` (its own histogram) or ``client`` (token arrivals)."""
    actual_context_tokens: float
    """Mean context of the decodes (or the chunk's) that was really timed."""
    client_s: float
    """Prefill: from sending to the first token, as the client saw it; otherwise as ``iteration_s``."""
    server_s: float
    """Prefill: what the server's histogram says (NaN without one)."""
    samples_s: list[float] = field(default_factory=list)
    """Single iterations that ``iteration_s`` is the mean or median of."""
    dropped: str = ""
    """Why the repeat does not count (empty: it counts)."""
    at: str = ""
    """When it was taken (UTC)."""
    plain_s: float = math.nan
    """Mixed: the median iteration of the same batch without a chunk, in the same seconds (NaN elsewhere)."""
    held_s: float = math.nan
    """Mixed: how much longer than their median the plain iterations took in all, from the sending of the prompt to the
    iteration that prefilled it: what its arrival held the engine up (NaN elsewhere, and where none was seen)."""

    @property
    def point(self) -> Point:
        """The point that was measured."""
        return Point(self.kind, self.sequences, self.context_tokens, self.chunk_tokens, self.check)


class RawStore:
    """The measurements of one server in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def journal(self) -> Path:
        """The file that grows with every measurement."""
        return self.folder / JOURNAL

    def open(self, meta: dict[str, Any], fixed: tuple[str, ...]) -> list[Measurement]:
        """Start or go on: what the folder holds already.

        Raises ``InputError`` when it holds measurements of something else (``fixed`` fields of ``meta`` differ).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / META
        if path.exists():
            known = self.meta()
            for name in fixed:
                if known.get(name) != meta[name]:
                    raise InputError(
                        f"{self.folder} holds measurements with {name} = {known.get(name)!r}, the server now has "
                        f"{meta[name]!r}: give another out=..."
                    )
        write_whole(path, json.dumps(meta, indent=1, sort_keys=True) + "\n")
        return self.read()

    def append(self, measurement: Measurement) -> None:
        """Keep one measurement; it is on disk when this returns."""
        # A line that a crash cut short stays apart from the next one.
        torn = self.journal.exists() and self.journal.stat().st_size > 0 and not self._ends_well()
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + json.dumps(asdict(measurement)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _ends_well(self) -> bool:
        with self.journal.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def read(self) -> list[Measurement]:
        """All measurements: from the journal, or from the Parquet file where only that was kept."""
        if self.journal.exists():
            found = []
            for line in self.journal.read_text(encoding="utf-8").splitlines():
                try:
                    found.append(Measurement(**json.loads(line)))
                except (json.JSONDecodeError, TypeError):
                    continue  # cut short by a crash while it was written
            return found
        path = self.folder / PARQUET
        if path.exists():
            table = pd.read_parquet(path)
            rows: list[dict[str, Any]] = table.to_dict(orient="records")  # type: ignore[assignment]
            return [Measurement(**{**row, "samples_s": list(row["samples_s"])}) for row in rows]
        return []

    def meta(self) -> dict[str, Any]:
        """What was known of the server; raises ``InputError`` when the folder holds no measurements."""
        path = self.folder / META
        try:
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{self.folder} holds no measurements (no {META}): run measure first") from None
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: not JSON ({error})") from None
        return loaded

    def consolidate(self) -> Path:
        """Write the Parquet file from the journal."""
        path = self.folder / PARQUET
        rows = [asdict(measurement) for measurement in self.read()]
        if rows:
            with written(path) as aside:
                pd.DataFrame(rows).to_parquet(aside.resolve(), index=False)
        return path
