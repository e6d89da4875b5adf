"""Finished runs on disk, one file per run, named by content: what has been computed is never computed again.

Each file has its key and a digest of all its bytes inside: a file that was cut, changed by a bit, or put under another
run's name is no finished run, and that run is computed again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError, InputError
from gsim.core.files import written

if TYPE_CHECKING:
    import pyarrow as pa

_META = "gsim"
_SEAL = "gsim-sha256"
#: Where the digest comes to stand: it is taken with this in its place.
_BLANK = hashlib.sha256(b"here the digest will stand").hexdigest().encode()


def writable(folder: Path) -> Path:
    """Make the folder and prove that it can be written; raises ``ConfigError`` before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"out={folder}: cannot write there ({error.strerror}); choose another with out=DIR") from None
    return folder


@dataclass(frozen=True)
class RunStore:
    """The folder of a study's finished runs: ``KEY.parquet`` holds a row per request, and the summary beside them."""

    folder: Path
    _sound: dict[tuple[str, int, int], bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def path(self, key: str) -> Path:
        """Where the run of this key is, or will be."""
        return self.folder / f"{key}.parquet"

    def has(self, key: str) -> bool:
        """Whether there is a file of this run."""
        return self.path(key).exists()

    def sound(self, key: str) -> bool:
        """Whether the run is stored, whole, as it was written, and under its own name."""
        path = self.path(key)
        try:
            told = path.stat()
            stamp = (key, told.st_mtime_ns, told.st_size)
            if stamp not in self._sound:
                self._sound[stamp] = _is_sealed(path.read_bytes(), key)
        except OSError:
            return False
        return self._sound[stamp]

    def save(self, key: str, rows: pa.Table, summary: Mapping[str, Any], made: Mapping[str, Any] | None = None) -> None:
        """Store a finished run, all or nothing: an interrupted write leaves no file of that name.

        ``made`` says what computed it (see ``version.maker``).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        content = _sealed(rows, {"key": key, "summary": summary, "made": dict(made or {})})
        with written(self.path(key)) as path:
            path.write_bytes(content)

    def summary(self, key: str) -> dict[str, Any]:
        """The summary of a stored run."""
        summary: dict[str, Any] = self._meta(key)["summary"]
        return summary

    def made(self, key: str) -> dict[str, Any]:
        """What computed a stored run."""
        made: dict[str, Any] = self._meta(key)["made"]
        return made

    def rows(self, key: str) -> pa.Table:
        """The rows of a stored run, one per request."""
        import pyarrow.parquet as pq

        self._check(key)
        return pq.read_table(self.path(key).resolve()).replace_schema_metadata(None)

    def _meta(self, key: str) -> dict[str, Any]:
        import pyarrow.parquet as pq

        self._check(key)
        meta: dict[str, Any] = json.loads(pq.read_metadata(self.path(key).resolve()).metadata[_META.encode()])
        return meta

    def _check(self, key: str) -> None:
        if not self.sound(key):
            raise InputError(
                f"{self.path(key)}: no finished run; run the experiment again (were its input files changed meanwhile?)"
            )


def encoding(schema: pa.Schema) -> dict[str, Any]:
    """How a table of requests is written: with dictionaries for columns of few values only.

    Times, ids and token counts differ from row to row: looking each up in a dictionary takes as long as all the rest
    of writing, and makes the file larger.
    """
    import pyarrow as pa

    def few(field: pa.Field) -> bool:
        return not pa.types.is_floating(field.type) and not field.name.endswith(("_id", "_tokens"))

    return {"compression": "zstd", "use_dictionary": [field.name for field in schema if few(field)]}


def _sealed(rows: pa.Table, meta: Mapping[str, Any]) -> bytes:
    """A Parquet file whose metadata hold ``meta`` and the digest of the file itself."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, rows.schema.remove_metadata(), **encoding(rows.schema)) as writer:
        writer.write_table(rows.replace_schema_metadata(None))
        # Into the file's metadata alone: in the schema's they would stand twice, once encoded.
        writer.add_key_value_metadata({_META: json.dumps(meta), _SEAL: _BLANK.decode()})
    content = buffer.getvalue()
    return content.replace(_BLANK, hashlib.sha256(content).hexdigest().encode(), 1)


def _is_sealed(content: bytes, key: str) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(io.BytesIO(content)).metadata or {}
        seal = metadata[_SEAL.encode()]
        at = content.rfind(seal)
        blanked = content[:at] + _BLANK + content[at + len(seal) :]
        if len(seal) != len(_BLANK) or hashlib.sha256(blanked).hexdigest().encode() != seal:
            return False
        return bool(json.loads(metadata[_META.encode()])["key"] == key)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError):
        return False
