"""Finding a model's shape: in the catalogue by name, or in the ``config.json`` that is published with it."""

from __future__ import annotations

import difflib
from pathlib import Path

from gsim.core.errors import ProfileError
from gsim.latency.models.catalogue import CATALOGUE
from gsim.latency.models.hf_config import shape_of_config
from gsim.latency.models.shape import ModelShape, catalogue_key


def config_file(name: str, near: Path | None = None) -> Path | None:
    """The ``config.json`` that ``model_shape`` reads for this name; None where it reads no file."""
    for base in (near, Path()) if near is not None else (Path(),):
        file = base / name if name.endswith(".json") else base / name / "config.json"
        if file.is_file():
            return file
    return None


def model_shape(name: str, near: Path | None = None) -> ModelShape:
    """The shape for a catalogue name (``llama-3.1-8b``, ``meta-llama/Llama-3.1-8B-Instruct``) or a ``config.json``.

    A path ends in ``.json`` or is a folder that holds ``config.json``; relative to ``near`` where that has it. Raises
    ``ProfileError`` that lists what there is.
    """
    file = config_file(name, near)
    if file is not None:
        return shape_of_config(file)
    if name.endswith(".json"):
        raise ProfileError(f"model '{name}': there is no such file")
    key = catalogue_key(name)
    if key not in CATALOGUE:
        close = difflib.get_close_matches(key, CATALOGUE, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ProfileError(
            f"unknown model '{name}'{hint}; the catalogue has: {', '.join(sorted(CATALOGUE))}; any other by the path "
            "of its config.json"
        )
    return CATALOGUE[key]
