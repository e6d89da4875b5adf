"""Which files a profile is read from: its own, and the ``config.json`` that it names as its model.

The loader reads a profile anew when one of them changes, and a run's key has their bytes.
"""

from __future__ import annotations

from pathlib import Path

from gsim.core.errors import ProfileError
from gsim.latency.fields import read_yaml
from gsim.latency.models.find import config_file
from gsim.latency.operators.folder import is_operator_folder
from gsim.latency.vidur.folder import is_vidur_folder, model_name


def profile_files(path: Path) -> tuple[Path, ...]:
    """Every file that loading the profile at ``path`` (a file or a folder, links resolved) may open."""
    own = tuple(sorted(path.iterdir())) if path.is_dir() else (path,)
    config = model_file(path)
    return own if config is None else (*own, config)


def model_file(path: Path) -> Path | None:
    """The ``config.json`` that the profile at ``path`` takes its model from.

    None where it takes it from the catalogue, states it itself, or cannot be read (which its loader says).
    """
    if is_vidur_folder(path):
        return config_file(model_name(path))
    folder = is_operator_folder(path)
    if not folder and path.suffix not in (".yaml", ".yml"):
        return None
    try:
        fields = read_yaml(path / "meta.yaml" if folder else path)
        return config_file(fields.text("model"), path if folder else path.parent)
    except (ProfileError, OSError, ValueError):
        return None
