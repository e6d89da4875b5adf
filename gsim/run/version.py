"""What a result depends on besides its configuration: the code, and the versions of what it stands on."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gsim
from gsim.run.key import digest_of

_PACKAGE = Path(gsim.__file__).resolve().parent
_LIBRARIES = ("numpy", "scipy", "pandas", "pyarrow", "hydra-core", "scikit-learn", "pulp", "highspy")


def versions() -> dict[str, str]:
    """Versions of gsim, Python and the libraries that results depend on."""
    found = {"gsim": gsim.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


@functools.cache
def maker() -> dict[str, Any]:
    """What computes in this process: commit if any, versions, compiled or not, platform."""
    return {
        "commit": _commit(),
        "versions": versions(),
        "compiled": gsim.compiled,
        "platform": platform.platform(),
    }


def provenance(words: Sequence[str], seeds: tuple[int, ...], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where a result comes from: command, seeds, and what made its runs (``code`` and ``maker``, one per run).

    Runs that were there already keep what made them. Where they differ, the results have the most frequent one's
    versions at the top and all of them, with their numbers of runs, under ``made_by``.
    """
    makers = Counter(json.dumps({**run, "code": None}, sort_keys=True) for run in runs).most_common()
    first: dict[str, Any] = json.loads(makers[0][0])
    found = {
        "command": ["python", "-m", "gsim", *words],
        "seeds": list(seeds),
        **first,
        "code": digest_of(sorted({str(run["code"]) for run in runs})),
    }
    if len(makers) > 1:
        found["made_by"] = [{"runs": count, **_without_code(json.loads(text))} for text, count in makers]
    return found


def _without_code(made: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made.items() if name != "code"}


def _commit() -> str | None:
    git = shutil.which("git")
    if git is None or not (_PACKAGE.parent / ".git").exists():
        return None
    ask = [git, "-C", str(_PACKAGE.parent)]
    commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode != 0:
        return None
    changed = subprocess.run(
        [*ask, "status", "--porcelain", "-uno", "--", "gsim", "profiles"], capture_output=True, text=True, check=False
    )
    return commit.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
