"""Experiment files: ``experiments/NAME.yaml`` is ``experiment=NAME``, without any header.

A file says what differs from the default configuration, in plain YAML::

    question: Which router serves most requests in time as the load grows?
    router: least_load                      # another option of a group ...
    trace: {name: paper, requests: 2000}    # ... with fields; without name: fields of the default option
    warmup_s: 5                             # a top-level value
    sweep:                                  # makes it a multirun: every combination is a cell
      trace.rate_per_s: [10, 60, 80]
      router:
        - random
        - {router: goodserve, rectifier: risk_monitor, label: GoodServe}   # overrides that go together, and their name
    knee: {at: [0.5, 0.8, 1, 1.2]}          # instead of rates: multiples of the knee, which is searched for
    figure: {x: trace.rate_per_s, y: [goodput_rps]}
    study: ground_truth                     # or: not a sweep, but a study with its own fields

Files are looked up in ``./experiments`` first, then in the checkout, then in the installed package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsim.core import InputError
from gsim.core.plain_yaml import read_plain_yaml
from gsim.study.literal import escaped

_PACKAGE = Path(__file__).resolve().parents[1]
_SWEEP_AXIS = "a field such as trace.rate_per_s, or a group, with a list of values"


@dataclass(frozen=True)
class Experiment:
    """One experiment file, read: the overrides of groups, and the values that are merged after them."""

    name: str
    path: Path
    question: str
    groups: Mapping[str, str]
    """Group -> option."""
    values: Mapping[str, Any]
    """Everything else, as it is merged into the configuration."""
    problem: str = ""
    """What is wrong with the file; it is said to whoever asks for this experiment."""

    def node(self) -> dict[str, Any]:
        """The configuration node: Hydra's ``defaults`` with ``override`` entries, then the values."""
        overrides = [{f"override /{group}": option} for group, option in self.groups.items()]
        node: dict[str, Any] = {"defaults": [*overrides, "_self_"], **self.values}
        node["name"] = self.name
        if "sweep" in self.values:
            node["hydra"] = {"mode": "MULTIRUN"}
        return node


def search_path() -> list[Path]:
    """Folders of experiment files: the user's own, the checkout's, the wheel's."""
    folders = (Path("experiments"), _PACKAGE.parent / "experiments", _PACKAGE / "_data" / "experiments")
    return [folder for folder in folders if folder.is_dir()]


def read_experiments(groups: set[str]) -> dict[str, Experiment]:
    """All experiments by name, sorted; of equal names the first folder's. One that cannot be read has a ``problem``."""
    found: dict[str, Experiment] = {}
    for folder in search_path():
        for path in sorted(folder.glob("*.yaml")):
            if path.stem not in found:
                try:
                    found[path.stem] = read_experiment(path, groups)
                except InputError as error:
                    found[path.stem] = Experiment(path.stem, path, "", {}, {}, str(error))
    return dict(sorted(found.items()))


def read_experiment(path: Path, groups: set[str]) -> Experiment:
    """One file; raises ``InputError`` naming the file and what is wrong with it."""
    content = read_plain_yaml(path) or {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path}: must be a mapping of names to values")
    _check_secrets(path, content)
    chosen: dict[str, str] = {}
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key == "launcher":
            chosen["hydra/launcher"] = str(value)
        elif key not in groups:
            values[key] = value
        elif isinstance(value, str):
            chosen[key] = value
        elif isinstance(value, dict):
            fields = dict(value)
            if "name" in fields:
                chosen[key] = str(fields.pop("name"))
            if fields:
                values[key] = fields
        else:
            raise InputError(f"{path}: {key} must be an option's name or a mapping of fields, not {value!r}")
    _check_sweep(path, content.get("sweep"))
    if "sweep" in values:
        values["sweep"] = {axis: [_named(entry) for entry in entries] for axis, entries in values["sweep"].items()}
    question = " ".join(str(content.get("question", "")).split())
    return Experiment(path.stem, path, question, chosen, values)


def _check_secrets(path: Path, content: Any) -> None:
    """Variables of the environment may be secrets, and what an experiment says stands in its results."""
    # A resolver whose name is put together ("oc.${x}") may be that one too.
    if isinstance(content, str) and re.search(r"\$\{[^}]*\boc\.env\b|\$\{[^:}]*\$\{[^}]*\}[^:}]*:", content):
        raise InputError(
            f"{path}: {content!r} would write a variable of the environment into config.yaml, tables and reports; "
            "give the value on the command line"
        )
    if isinstance(content, dict | list):
        for value in [*content, *content.values()] if isinstance(content, dict) else content:
            _check_secrets(path, value)


def _named(entry: Any) -> Any:
    """An entry whose label is a name and nothing else: no number, nothing to interpolate."""
    if not isinstance(entry, dict) or entry.get("label") is None:
        return entry
    return {**entry, "label": escaped(str(entry["label"]))}


def _check_sweep(path: Path, sweep: Any) -> None:
    if sweep is None:
        return
    if not isinstance(sweep, dict) or not sweep:
        raise InputError(f"{path}: sweep must be a mapping; each entry is {_SWEEP_AXIS}")
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{path}: sweep.{key} must be {_SWEEP_AXIS}, not {values!r}")
