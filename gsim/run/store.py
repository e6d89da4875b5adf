"""Finished runs on disk, one file per run, named by content: what has been computed is never computed again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError, InputError

if TYPE_CHECKING:
    import pyarrow as pa

_META = b"gsim"


def writable(folder: Path) -> Path:
    """Make the folder and prove that it can be written; raises ``ConfigError`` before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"out={folder}: cannot write there ({error.strerror}); choose another with out=DIR") from None
    return folder


@dataclass(frozen=True)
class RunStore:
    """The folder of a study's finished runs: ``KEY.parquet`` holds a row per request, and the summary beside them."""

    folder: Path

    def path(self, key: str) -> Path:
        """Where the run of this key is, or will be."""
        return self.folder / f"{key}.parquet"

    def has(self, key: str) -> bool:
        """Whether the run is finished and stored."""
        return self.path(key).exists()

    def save(self, key: str, rows: pa.Table, summary: Mapping[str, Any]) -> None:
        """Store a finished run, all or nothing: an interrupted write leaves no file of that name."""
        import pyarrow.parquet as pq

        self.folder.mkdir(parents=True, exist_ok=True)
        table = rows.replace_schema_metadata({_META: json.dumps(summary).encode()})
        temporary = self.path(key).with_suffix(f".{os.getpid()}.tmp")
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(self.path(key))

    def summary(self, key: str) -> dict[str, Any]:
        """The summary of a stored run."""
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_schema(self.path(key)).metadata or {}
            summary: dict[str, Any] = json.loads(metadata[_META])
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{self.path(key)}: not a finished run ({error}); delete the file to recompute") from None
        return summary

    def rows(self, key: str) -> pa.Table:
        """The rows of a stored run, one per request."""
        import pyarrow.parquet as pq

        return pq.read_table(self.path(key)).replace_schema_metadata(None)
