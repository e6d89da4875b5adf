"""The build step of ``pip install``: compiles the hot modules with mypyc, from the same source that also runs as it is.

What it makes is one folder, ``_gsim_compiled``, installed beside gsim (also for an editable install, so nothing appears
in the checkout): the shared libraries, and a manifest with a digest of every source file that the compiler read.
``gsim/_build.py`` decides at import whether to use it. Where nothing can be compiled the manifest says why, and gsim
runs from source. ``GSIM_PURE=1`` at installation: do not compile; ``GSIM_COMPILED=1``: fail rather than not compile.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# The modules to compile: where the time of a run goes. They are linked as one group, so that calls among them are C
# calls. What a module must keep to be listed: docs/design.md, "Compiled build".
COMPILED = (
    "gsim.cluster.arrivals",
    "gsim.cluster.door",
    "gsim.cluster.instance",
    "gsim.cluster.result",  # derives from a class in records, which only a compiled class can
    "gsim.cluster.simulation",
    "gsim.core.answers",
    "gsim.core.lru",
    "gsim.core.prefix_tree",
    "gsim.engine.kv.block_pool",
    "gsim.engine.books",
    "gsim.engine.clocked",
    "gsim.engine.decode_clock",
    "gsim.engine.decode_set",
    "gsim.engine.kv.host_blocks",
    "gsim.engine.kv.host_runs",
    "gsim.engine.kv.host_tier",
    "gsim.engine.kv.kv_pool",
    "gsim.engine.policy_scheduler",
    "gsim.engine.kv.run_pool",
    "gsim.engine.scheduler",
    "gsim.engine.sequence",
    "gsim.engine.stepwise",
    "gsim.engine.waiting",
    "gsim.estimation.decode",
    "gsim.estimation.ema",
    "gsim.estimation.prefill",
    "gsim.gateway.active",
    "gsim.gateway.active_table",
    "gsim.gateway.backend",
    "gsim.gateway.clock",
    "gsim.gateway.gateway",
    "gsim.gateway.held",
    "gsim.gateway.local_signals",
    "gsim.gateway.loops",
    "gsim.gateway.monitor",
    "gsim.gateway.moves",
    "gsim.gateway.predictions",
    "gsim.gateway.prefix_index",
    "gsim.gateway.records",
    "gsim.gateway.request_log",
    "gsim.gateway.telemetry",
    "gsim.latency.grid",
    "gsim.latency.roofline",
    "gsim.latency.row",
    "gsim.migration.rescue",
    "gsim.routing.latency",
    "gsim.workload.generate.agent",
    "gsim.workload.generate.draws",
    "gsim.workload.replay",
)

# What compiling needs (numpy for its types); fetched only where something can be compiled.
NEEDS = ["mypy[mypyc]~=2.4", "setuptools>=65", "numpy>=2.0"]

FOLDER = "_gsim_compiled"

# Run as a program of its own: setuptools and mypyc print, exit and patch as they like.
_SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
options = ["--config-file=", "--cache-dir=/dev/null", "--ignore-missing-imports", "--follow-imports=silent"]
extensions = mypycify([*options, *sys.argv[1:]], opt_level="3", debug_level="0", group_name="gsim", target_dir="c")
setup(name="gsim", ext_modules=extensions, script_args=["-q", "build_ext", "--build-lib", "lib", "--build-temp", "o"])
"""


class NotCompiledError(Exception):
    """Why there is no compiled build."""


class CompiledBuild(BuildHookInterface):
    """Adds the compiled modules to a wheel, editable or not."""

    def dependencies(self) -> list[str]:
        """What the installer provides for the build."""
        return [] if _obstacle() else NEEDS

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a temporary folder that lives until the wheel is written."""
        root = Path(self.root)
        self._work = tempfile.TemporaryDirectory(prefix="gsim-build-")
        folder = Path(self._work.name, FOLDER)
        folder.mkdir()
        try:
            manifest = _compile(root, Path(self._work.name), folder)
            if version != "editable":
                build_data.update(pure_python=False, infer_tag=True)
        except NotCompiledError as why:
            if _asked("GSIM_COMPILED"):
                raise RuntimeError(f"GSIM_COMPILED is set, but {why}") from why
            manifest = {"why": f"{why}; pip install again compiles, given a C compiler and Python's headers"}
            self.app.display_warning(f"gsim will run from source: {manifest['why']}")
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        key = "force_include_editable" if version == "editable" else "force_include"
        build_data[key].update({str(path): f"{FOLDER}/{path.name}" for path in folder.iterdir()})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Forget the temporary folder."""
        self._work.cleanup()


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


def _obstacle() -> str:
    """Why compiling cannot even begin; empty where it can."""
    if _asked("GSIM_PURE"):
        return "GSIM_PURE was set at installation"
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "only the usual CPython is compiled for"
    if os.name == "nt":
        return ""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there was no C compiler ({compiler}) at installation"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers (Python.h) were missing at installation"
    return ""


def _compile(root: Path, work: Path, folder: Path) -> dict[str, Any]:
    """Compile into ``folder``; the manifest. Raises ``NotCompiledError``."""
    if _obstacle():
        raise NotCompiledError(_obstacle())
    sources = [str(_source(root, name)) for name in COMPILED]
    command = [sys.executable, "-c", _SETUP, *sources]
    done = subprocess.run(
        command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    # "Unsupported" is mypyc's word for code that it would compile into something else.
    said = [line for line in done.stdout.splitlines() if "error:" in line or "Unsupported" in line]
    if done.returncode or said:
        first = said[0] if said else f"exit status {done.returncode}"
        raise NotCompiledError(f"compiling failed ({first.strip()})")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    modules = {}
    for path in sorted((work / "lib").rglob(f"*{suffix}")):
        file = ".".join(path.relative_to(work / "lib").parts)
        modules[file.removesuffix(suffix)] = file
        shutil.copy(path, folder / file)
    return {"modules": modules, "sources": _digests(root)}


def _digests(root: Path) -> dict[str, str]:
    """Digests of what the compiler read: constants and types of imported modules are compiled in as well."""
    found: dict[str, str] = {}
    pending = list(COMPILED)
    while pending:
        name = pending.pop()
        path = _source(root, name)
        where = path.relative_to(root).as_posix()
        if path.is_file() and where not in found:
            content = path.read_bytes()
            found[where] = hashlib.sha256(content).hexdigest()
            pending += _imports(ast.parse(content))
    return dict(sorted(found.items()))


def _imports(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for part in ast.walk(tree):
        if isinstance(part, ast.Import):
            names += [alias.name for alias in part.names]
        elif isinstance(part, ast.ImportFrom) and part.module:
            names += [part.module, *(f"{part.module}.{alias.name}" for alias in part.names)]
    return [name for name in names if name.startswith("gsim.")]


def _source(root: Path, module: str) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
