"""A profile file with a factor on all of its times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gsim.core.errors import ProfileError
from gsim.latency.load import search_path
from gsim.profile.flow import Flow


def profile_file(name_or_path: str) -> Path:
    """The YAML file of a profile; raises ``ProfileError`` where it is a folder of tables or does not exist."""
    path = Path(name_or_path)
    found = [path, *(folder / f"{name_or_path.lower()}.yaml" for folder in search_path())]
    for file in found:
        if file.is_file():
            return file
    what = "a folder of tables, which is read in place" if path.is_dir() else "no profile"
    raise ProfileError(f"{name_or_path} is {what}: only a profile's YAML file can be written with a factor")


def with_factor(file: Path, factor: float, name: str, why: str) -> str:
    """The profile's YAML with every time of its latency times ``factor``, and that said in its provenance."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["name"] = name
    content["latency"] = _times(content["latency"], factor)
    provenance = content["provenance"]
    provenance["basis"] += f"; all times x{factor:.4g}, {why}"
    return yaml.dump(content, Dumper=Flow, sort_keys=False, width=120, allow_unicode=True)


def _times(values: dict[str, Any], factor: float) -> dict[str, Any]:
    """Fields in milliseconds are multiplied, the others are kept."""
    made = {}
    for key, value in values.items():
        if isinstance(value, dict):
            made[key] = _times(value, factor)
        else:
            made[key] = _multiplied(value, factor) if key == "ms" or key.endswith("_ms") else value
    return made


def _multiplied(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_multiplied(item, factor) for item in value]
    return float(f"{value * factor:.6g}")
