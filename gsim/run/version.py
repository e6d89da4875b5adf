"""What a result depends on besides its configuration: the code, and the versions of what it stands on."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gsim

_PACKAGE = Path(gsim.__file__).resolve().parent
# What decides no run: a change of a figure's colours must not recompute anything.
_ABOVE = ("study", "report", "inspect", "paper", "cli", "calibration", "validation", "_data")
_LIBRARIES = ("simpy", "numpy", "scipy", "pandas", "pyarrow", "hydra-core", "scikit-learn", "pulp", "highspy")


@functools.cache
def code_digest(extensions: tuple[str, ...] = ()) -> str:
    """A digest of the simulator's source and of the user's extension files: equal code, equal digest."""
    files = [path for path in sorted(_PACKAGE.rglob("*.py")) if path.relative_to(_PACKAGE).parts[0] not in _ABOVE]
    files += [Path(name) for name in extensions]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def versions() -> dict[str, str]:
    """Versions of gsim, Python and the libraries that results depend on."""
    found = {"gsim": gsim.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def provenance(words: Sequence[str], seeds: tuple[int, ...], extensions: tuple[str, ...] = ()) -> dict[str, Any]:
    """Where a result comes from: command, seeds, code, versions, compiled or not, commit if any, platform."""
    return {
        "command": ["python", "-m", "gsim", *words],
        "seeds": list(seeds),
        "code": code_digest(extensions),
        "commit": _commit(),
        "versions": versions(),
        "compiled": gsim.compiled,
        "platform": platform.platform(),
    }


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
