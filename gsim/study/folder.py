"""A results folder: one command at a time is at work there, its outputs come all at once, and only its own stay."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from gsim.core import ConfigError, InputError
from gsim.core.plain_yaml import BoundedLoader

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
_LOCK = ".lock"
_STAGE = ".writing"
#: What a folder holds whose provenance does not list its outputs (written before they were listed).
_USUAL = ("results.csv", "runs.csv", "instances.csv", "paired.csv", "requests.parquet", "findings.txt", CONFIG)
_TIMELINE = ("timeline.json", "timeline.png", "timeline.pdf")


@contextmanager
def claimed(out: Path, words: Sequence[str]) -> Iterator[None]:
    """The folder belongs to this command alone, until it ends in whatever way.

    Raises ``ConfigError`` that names the command at work there. (On a system without ``flock`` nothing is claimed.)
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = (out / _LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"out={out}: {_LOCK} cannot be written ({error.strerror}); choose another with out=DIR"
        ) from None
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise ConfigError(
                f"out={out}: another command is at work there ({lock.read().strip() or 'just started'}); "
                "wait until it has ended, or choose another folder with out=DIR"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}: gsim {shlex.join(words)}\n")
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


@contextmanager
def published(out: Path) -> Iterator[Path]:
    """A folder to write a command's outputs to; when all are there, they replace what an earlier command left.

    Files that no command wrote stay. On an error the earlier outputs stay as they were. Raises ``InputError`` where the
    disk refuses. The folder must be claimed.
    """
    stage = out / _STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        stage.mkdir()
        yield stage
        _replace(out, stage)
    except OSError as error:
        raise InputError(f"{out}: results cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def describe(values: Mapping[str, Any], stage: Path, story: Mapping[str, Any]) -> None:
    """Say what made the outputs: the configuration, and the provenance with the outputs' names (to be called last)."""
    text = yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None)
    (stage / CONFIG).write_text(text, encoding="utf-8")
    outputs = sorted([path.name for path in stage.iterdir()] + [PROVENANCE])
    told = json.dumps({**story, "outputs": outputs}, indent=2)
    (stage / PROVENANCE).write_text(told + "\n", encoding="utf-8")


def _replace(out: Path, stage: Path) -> None:
    made = sorted(path.name for path in stage.iterdir())
    former = _former(out)
    # Whoever is stopped in between leaves a folder that does not say that it is whole.
    (out / PROVENANCE).unlink(missing_ok=True)
    for name in former - set(made):
        (out / name).unlink(missing_ok=True)
    for name in sorted(made, key=lambda name: name == PROVENANCE):
        os.replace(stage / name, out / name)


def _former(out: Path) -> set[str]:
    """The names of what an earlier command left here."""
    try:
        listed = json.loads((out / PROVENANCE).read_text(encoding="utf-8"))["outputs"]
        # Only names: whatever the file says, nothing outside the folder is touched.
        return {name for name in listed if isinstance(name, str) and name == Path(name).name and name not in ("", "..")}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    try:
        name = str(yaml.load((out / CONFIG).read_text(encoding="utf-8"), Loader=BoundedLoader)["name"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError, yaml.YAMLError, InputError):
        return set()
    return {*_USUAL, *_TIMELINE, f"{Path(name).name}.png", f"{Path(name).name}.pdf"}
