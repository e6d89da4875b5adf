"""Files: written all or nothing (aside first, then in place under their name); read only where that can be repeated."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gsim.core import InputError

#: What reading a table or a text from a file raises where the file is damaged, packed ones that were cut off included.
UNREADABLE = (OSError, EOFError, ValueError, zlib.error)


def check_regular(path: Path | str) -> None:
    """Raises ``OSError`` for what is there but no file that can be read again: a pipe, a device, a socket.

    A run reads its inputs more than once (its key needs their bytes), and to open a pipe may wait for ever.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a pipe or a device can be read only once; save it to a file, and name that")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; when that is done the file takes its name, on an error it is removed.

    Raises ``InputError`` naming ``path`` where the disk refuses (full, no permission). What is there and no file, as
    /dev/null, is written to as it is: a file in its place would be another thing.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        yield path
        return
    # The ending stays: writers of figures and tables go by it.
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, all or nothing (see ``written``)."""
    with written(path) as aside:
        aside.write_text(text, encoding="utf-8")
