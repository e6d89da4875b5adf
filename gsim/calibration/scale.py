"""A pool of unlike instances from one measured profile: copies whose every iteration is faster or slower.

A stand-in for cards that nobody has measured: it keeps the shape of the measured engine (its floor, its chunking, its
limits) and changes its speed alone. Each copy says in its provenance that it is derived.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gsim.calibration.fit import LinesOfLists
from gsim.calibration.options import ScaleOptions
from gsim.core.errors import InputError
from gsim.core.files import write_whole
from gsim.latency import load_profile


def scale_profile(options: ScaleOptions) -> list[Path]:
    """Write a copy of the profile per speed into ``options.to``; returns their paths.

    Raises ``InputError`` when the profile is missing or not of the iteration kind.
    """
    source = Path(options.profile)
    profile = load_profile(source)
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    if content["latency"]["kind"] != "iteration":
        raise InputError(f"{source}: only a profile of kind iteration can be scaled, not {content['latency']['kind']}")
    folder = Path(options.to)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for speed in options.speeds:
        copy = _faster(content, speed)
        copy["name"] = f"{profile.name}-x{speed:g}"
        copy["gpu"] = f"{profile.gpu}-x{speed:g}"
        path = folder / f"{copy['name']}.yaml"
        write_whole(path, yaml.dump(copy, Dumper=LinesOfLists, sort_keys=False, width=120, allow_unicode=True))
        load_profile(path)
        written.append(path)
    return written


def _faster(content: dict[str, Any], speed: float) -> dict[str, Any]:
    # The profile was loaded: each of these is a number, though YAML takes 1e-2 for text.
    latency, provenance = content["latency"], content["provenance"]
    mixed = latency.get("mixed", {})
    if "iteration_ms" in mixed:
        latency = {**latency, "mixed": {**mixed, "iteration_ms": float(mixed["iteration_ms"]) / speed}}
    return {
        **content,
        "latency": {
            **latency,
            "overhead_ms": float(latency["overhead_ms"]) / speed,
            "square_token_ms": float(latency["square_token_ms"]) / speed,
            **{part: {**latency[part], "ms": _divided(latency[part]["ms"], speed)} for part in ("decode", "prefill")},
        },
        "price": {
            "usd_per_hour": float(content["price"]["usd_per_hour"]) * speed,
            "source": f"derived: in proportion to speed ({content['price']['source']})",
        },
        "provenance": {
            **provenance,
            "basis": f"derived: every time of {content['name']} divided by {speed:g}; {provenance['basis']}",
            "uncertainty": f"no such card was measured; of the original: {provenance['uncertainty']}",
        },
    }


def _divided(rows: list[list[float]], speed: float) -> list[list[float]]:
    return [[float(f"{float(value) / speed:.5g}") for value in row] for row in rows]
