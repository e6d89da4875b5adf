"""Small results that are kept by content (knees, bounds): what is torn, or is another's, is computed again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsim.core.files import written
from gsim.run.key import digest_of


@dataclass(frozen=True)
class Kept:
    """A folder of ``KIND-KEY.json``, each with its key and a digest of its values (None: nothing is kept)."""

    folder: Path | None
    kind: str

    def get(self, key: str) -> dict[str, Any] | None:
        """The values of this key; None where there are none, or the file is not as it was written."""
        if self.folder is None:
            return None
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
            values: dict[str, Any] = found["values"]
            sound = found["key"] == key and found["digest"] == digest_of(key, values)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        return values if sound else None

    def put(self, key: str, values: dict[str, Any]) -> None:
        """Keep the values (all or nothing)."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"key": key, "values": values, "digest": digest_of(key, values)}
        with written(self._path(key)) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _path(self, key: str) -> Path:
        return Path(self.folder or ".") / f"{self.kind}-{key}.json"
