"""Writing files all or nothing: aside first, then in place under their name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gsim.core import InputError


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; when that is done the file takes its name, on an error it is removed.

    Raises ``InputError`` naming ``path`` where the disk refuses (full, no permission).
    """
    # The ending stays: writers of figures and tables go by it.
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
