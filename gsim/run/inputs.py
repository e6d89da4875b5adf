"""The files that a configuration names, by content: what a loader would open, under the names that it would see."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gsim.core import InputError
from gsim.core.files import check_regular
from gsim.latency.load import search_path
from gsim.latency.opened import model_file
from gsim.workload.arrivals import curve_file

#: A field whose name has one of these words may name a folder; any other field only a file (or a profile by name).
_PLACES = ("path", "file", "folder", "dir", "profile", "trace", "corpus")
_DIGESTS: dict[tuple[str, int, int, int], str] = {}


def input_digests(
    values: Mapping[str, Any], extensions: Collection[str] = (), stated: Iterable[str] = ()
) -> dict[str, str]:
    """The digest of each file and folder that the values name, by the value that names it.

    A folder's digest has the names of its files in it. Profiles and rate curves are found by name as they are loaded,
    and profiles count with the model's ``config.json`` that they name. What the fields of an extension mean is not
    known: for those top-level names of ``values`` a folder counts in any field. ``stated`` are further files and
    folders, which must exist. Raises ``InputError`` for what is not there or cannot be read twice (a pipe, a device).
    """
    found: dict[str, str] = {}
    profiles = [str(folder) for folder in search_path()]
    for group, fields in values.items():
        for field, text in _texts(fields, group):
            digests = [_digest(place) for place in _named("folder" if group in extensions else field, text, profiles)]
            if digests:
                found[text] = " ".join(digests)
    return found | {place: _digest(place) for place in stated}


def _texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a configuration, with the field that holds it."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, field)
    elif isinstance(value, str | os.PathLike):
        yield field, os.fspath(value)


def _named(field: str, text: str, profiles: list[str]) -> Iterator[str]:
    if not text or len(text) > 500 or "\0" in text or "\n" in text:
        return
    try:
        mode = os.stat(text).st_mode
    except OSError:
        mode = 0
    if stat.S_ISDIR(mode):
        if any(word in field.lower() for word in _PLACES):
            yield from _with_model(text)
    elif mode:
        yield from _with_model(text)
    if "/" not in text:
        named = (os.path.join(folder, f"{text.lower()}.yaml") for folder in profiles)
        first = next((file for file in named if os.path.isfile(file)), None)
        if first is not None:
            yield from _with_model(first)
        curve = curve_file(text)
        if curve != text:
            yield curve


def _with_model(place: str) -> Iterator[str]:
    """A file or folder, and the model's ``config.json`` where it is a profile that names one."""
    yield place
    # Of any other file not a byte is looked at: it may be a pipe.
    model = model_file(Path(place).resolve())
    if model is not None:
        yield str(model)


def _digest(place: str) -> str:
    if not os.path.isdir(place):
        return _file_digest(place)
    digest = hashlib.sha256()
    for file in _files_below(place):
        digest.update(f"{os.path.relpath(file, place)}\0{_file_digest(file)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def _files_below(folder: str, above: tuple[Path, ...] = ()) -> Iterator[str]:
    """A folder's files and those of its folders, linked ones too; a link back to where it came from leads nowhere."""
    real = Path(folder).resolve()
    if any(place.is_relative_to(real) for place in above):
        return
    try:
        paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    except OSError:
        return  # what a loader cannot list either
    yield from (path for path in paths if os.path.isfile(path))
    for path in paths:
        if os.path.isdir(path):
            yield from _files_below(path, (*above, real))


def _file_digest(file: str) -> str:
    try:
        check_regular(file)
        told = os.stat(file)
        memo = (str(Path(file).resolve()), told.st_mtime_ns, told.st_size, told.st_ino)
        if memo not in _DIGESTS:
            with open(file, "rb") as stream:
                _DIGESTS[memo] = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    return _DIGESTS[memo]
