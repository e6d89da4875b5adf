"""Invariant 12: a run's key changes with any byte that the run depends on, and with no other."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gsim.core import ConfigError, InputError, registry
from gsim.run import cell, closure
from gsim.run.closure import PACKAGE, Sources, imports_by_parser, imports_by_pattern
from gsim.run.extensions import extension_files, load_extensions
from gsim.run.options import RUN_GROUPS, options
from gsim.run.schema import plain_value
from gsim.run.settings import Settings

PROFILE = PACKAGE.parent / "profiles" / "a800-llama-3.1-8b.yaml"
WEKA = {"id": "s", "block_size": 64, "requests": [{"t": 0.0, "in": 10, "out": 3, "type": "s", "hash_ids": []}]}


def settings(**values: Any) -> Settings:
    groups = {g: {"name": name, **plain_value(options(g)[name].values)} for g, name in RUN_GROUPS.items()}
    return Settings.read(groups | {"trace": {"name": "paper", "requests": 20}} | values)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------- input files


def _trace_without_suffix(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "mytrace").write_text('{"timestamp": 0, "input_length": 9, "output_length": 3, "hash_ids": []}\n')
    text = (here / "mytrace").read_text().replace("9", "8")
    return settings(trace={"name": "mooncake", "path": "mytrace"}), lambda: (here / "mytrace").write_text(text)


def _file_in_folder(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "sessions").mkdir()
    file = here / "sessions" / "a.json"
    file.write_text(json.dumps(WEKA))
    return settings(trace={"name": "weka", "path": "sessions"}), lambda: file.write_text(json.dumps(WEKA | {"id": "t"}))


def _name_in_folder(here: Path) -> tuple[Settings, Callable[[], object]]:
    made, _ = _file_in_folder(here)
    return made, lambda: (here / "sessions" / "a.json").rename(here / "sessions" / "b.json")


def _file_further_down(here: Path) -> tuple[Settings, Callable[[], object]]:
    made, _ = _file_in_folder(here)
    (here / "sessions" / "below").mkdir()
    return made, lambda: (here / "sessions" / "below" / "b.json").write_text("{}")


def _profile_by_path(here: Path) -> tuple[Settings, Callable[[], object]]:
    shutil.copy(PROFILE, here / "card.yaml")
    pool = {"name": "paper", "instances": [{"profile": "card.yaml", "count": 1}]}
    return settings(pool=pool), lambda: _slower(here / "card.yaml")


def _profile_by_name(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "profiles").mkdir()
    shutil.copy(PROFILE, here / "profiles" / "card.yaml")
    pool = {"name": "paper", "instances": [{"profile": "card", "count": 1}]}
    return settings(pool=pool), lambda: _slower(here / "profiles" / "card.yaml")


def _profile_that_takes_precedence(here: Path) -> tuple[Settings, Callable[[], object]]:
    def change() -> None:
        (here / "profiles").mkdir()
        shutil.copy(PROFILE, here / "profiles" / PROFILE.name)
        _slower(here / "profiles" / PROFILE.name)

    return settings(), change


def _profile_folder_by_bare_name(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "card").mkdir()
    (here / "card" / "meta.yaml").write_text("gpu: A\n")
    pool = {"name": "paper", "instances": [{"profile": "card", "count": 1}]}
    return settings(pool=pool), lambda: (here / "card" / "meta.yaml").write_text("gpu: B\n")


def _profile_of_the_objective(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "profiles").mkdir()
    shutil.copy(PROFILE, here / "profiles" / "card.yaml")
    return settings(slo={"name": "scaled", "profile": "card"}), lambda: _slower(here / "profiles" / "card.yaml")


def _profile_of_the_objective_by_default(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "profiles").mkdir()
    shutil.copy(PROFILE, here / "profiles" / PROFILE.name)
    pool = {"name": "paper", "instances": [{"profile": "h800-llama-3.1-8b", "count": 1}]}
    return settings(slo={"name": "scaled"}, pool=pool), lambda: _slower(here / "profiles" / PROFILE.name)


def _rate_curve(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "curve").write_text("0 1\n")
    trace = {"name": "paper", "requests": 20, "arrivals": {"name": "poisson", "curve_path": "curve"}}
    return settings(trace=trace), lambda: (here / "curve").write_text("0 2\n")


CONFIG = {
    **{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
    **{"num_key_value_heads": 8, "vocab_size": 128256, "intermediate_size": 14336, "max_position_embeddings": 131072},
}


def _changed_model(config: Path) -> None:
    config.write_text(json.dumps(CONFIG | {"num_hidden_layers": 31}))


def _model_of_a_profile(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "cards" / "mine").mkdir(parents=True)
    (here / "cards" / "mine" / "config.json").write_text(json.dumps(CONFIG))
    text = PROFILE.read_text().replace("model: llama-3.1-8b", "model: mine")
    assert "model: mine" in text
    (here / "cards" / "card.yaml").write_text(text)
    pool = {"name": "paper", "instances": [{"profile": "cards/card.yaml", "count": 1}]}
    return settings(pool=pool), lambda: _changed_model(here / "cards" / "mine" / "config.json")


def _model_of_the_objectives_profile(here: Path) -> tuple[Settings, Callable[[], object]]:
    _model_of_a_profile(here)
    (here / "cards").rename(here / "profiles")
    slo = {"name": "scaled", "profile": "card"}
    return settings(slo=slo), lambda: _changed_model(here / "profiles" / "mine" / "config.json")


def _model_of_an_operator_folder(here: Path) -> tuple[Settings, Callable[[], object]]:
    (here / "tables").mkdir()
    (here / "tables" / "dense.csv").write_text("")
    (here / "tables" / "meta.yaml").write_text("model: ../mine.json\n")
    (here / "mine.json").write_text(json.dumps(CONFIG))
    pool = {"name": "paper", "instances": [{"profile": "tables", "count": 1}]}
    return settings(pool=pool), lambda: _changed_model(here / "mine.json")


def _model_that_takes_precedence(here: Path) -> tuple[Settings, Callable[[], object]]:
    # A folder of the name counts before the catalogue, and is there only later.
    def change() -> None:
        (here / "llama-3.1-8b").mkdir()
        _changed_model(here / "llama-3.1-8b" / "config.json")

    return settings(), change


def _linked_folder(here: Path) -> tuple[Settings, Callable[[], object]]:
    made, _ = _file_in_folder(here)
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "b.json").write_text("{}")
    (here / "elsewhere" / "back").symlink_to(here / "sessions")
    (here / "sessions" / "below").symlink_to(here / "elsewhere")
    return made, lambda: (here / "elsewhere" / "b.json").write_text("[]")


def _slower(profile: Path) -> None:
    text = profile.read_text()
    profile.write_text(text.replace("overhead_ms: ", "overhead_ms: 1"))
    assert profile.read_text() != text


@pytest.mark.parametrize(
    "prepare",
    [
        _trace_without_suffix,
        _file_in_folder,
        _name_in_folder,
        _file_further_down,
        _profile_by_path,
        _profile_by_name,
        _profile_that_takes_precedence,
        _profile_folder_by_bare_name,
        _profile_of_the_objective,
        _profile_of_the_objective_by_default,
        _rate_curve,
        _model_of_a_profile,
        _model_of_the_objectives_profile,
        _model_of_an_operator_folder,
        _model_that_takes_precedence,
        _linked_folder,
    ],
    ids=lambda prepare: prepare.__name__.strip("_"),
)
def test_an_input_file_changes_the_key(here: Path, prepare: Callable[[Path], Any]) -> None:
    made, change = prepare(here)
    before = made.key(0)
    assert made.key(0) == before
    assert made.key(1) != before
    change()
    assert made.key(0) != before


@pytest.mark.parametrize(
    "values",
    [
        {"trace": {"name": "mooncake", "path": "pipe"}},
        {"pool": {"name": "paper", "instances": [{"profile": "./pipe", "count": 1}]}},
        {"slo": {"name": "scaled", "profile": "./pipe"}},
    ],
    ids=["trace", "pool", "slo"],
)
def test_a_pipe_is_refused_without_being_opened(here: Path, values: dict[str, Any]) -> None:
    os.mkfifo(here / "pipe")
    made = settings(**values)
    with pytest.raises(InputError, match="pipe: cannot be read: a pipe or a device can be read only once"):
        made.key(0)
    with pytest.raises((InputError, ConfigError), match="can be read only once"):
        cell.run(made, 0)


def test_a_file_that_no_field_names_changes_nothing(here: Path) -> None:
    # Folders that are named like an option or like a word of the configuration are no input.
    made = settings()
    before = made.key(0)
    for name in ("goodserve", "paper", "poisson", "results", "error"):
        (here / name).mkdir()
        (here / name / "file").write_text("x")
    (here / "other.yaml").write_text("x")
    assert made.key(0) == before


def test_a_default_that_is_written_out_is_the_same_run(here: Path) -> None:
    spelt = settings(slo={"name": "fixed", "seconds": 6.0})
    assert spelt.key(0) == settings(slo={"name": "fixed"}).key(0)
    assert spelt.key(0) != settings(slo={"name": "fixed", "seconds": 7.0}).key(0)


# ---------------------------------------------------------------- code


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("copied") / "gsim"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    return copy


@contextmanager
def _a_byte_more(file: Path) -> Iterator[None]:
    text = file.read_bytes()
    file.write_bytes(text + b"\n# a byte more\n")
    yield
    file.write_bytes(text)


def _code(package: Path, monkeypatch: pytest.MonkeyPatch, **values: Any) -> str:
    fresh = Sources(package)
    # As in a new process, whose modules are those of the copy.
    monkeypatch.setattr(fresh, "_bytes", lambda module: module.file.read_bytes())
    monkeypatch.setattr("gsim.run.key.sources", lambda: fresh)
    return settings(**values).code()


@pytest.mark.parametrize(
    "file",
    [
        "engine/decode_clock.py",
        "engine/kv/kv_pool.py",
        "metrics/run.py",
        "metrics/objective.py",
        "routing/goodserve.py",
        "routing/choice.py",  # what a router imports
        "estimation/ema.py",
        "migration/risk_monitor.py",
        "prediction/noisy.py",
        "workload/generate/paper.py",
        "workload/arrivals.py",
        "latency/grid.py",
        "gateway/gateway.py",
        "core/view.py",
        "run/cell.py",
        "run/migration_metrics.py",
    ],
)
def test_source_that_a_run_uses_changes_its_key(copied: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    before = _code(copied, monkeypatch)
    with _a_byte_more(copied / file):
        assert _code(copied, monkeypatch) != before


@pytest.mark.parametrize(
    "file",
    [
        "routing/least_load.py",
        "optimum/ilp_plan.py",
        "optimum/solver.py",
        "prediction/moe.py",
        "workload/formats/weka.py",
        "migration/llumnix.py",
        "paper/report_html.py",
        "report/report_run.py",
        "study/results.py",
        "study/figure.py",
        "report/wording.py",
        "cli/entry.py",
        "study/questions/capacity.py",
        "calibration/fit.py",
        "__init__.py",
    ],
)
def test_source_that_a_run_does_not_use_changes_nothing(
    copied: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    before = _code(copied, monkeypatch)
    with _a_byte_more(copied / file):
        assert _code(copied, monkeypatch) == before


def test_a_router_named_in_a_field_is_used(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"name": "ilp_plan", "starts": ["least_load"]}
    before = _code(copied, monkeypatch, router=plan)
    for file, changes in (("routing/least_load.py", True), ("run/planning.py", True), ("routing/preble.py", False)):
        with _a_byte_more(copied / file):
            assert (_code(copied, monkeypatch, router=plan) != before) is changes, file


def _own(found: list[closure.Import]) -> set[tuple[str, tuple[str, str]]]:
    return {(i.module, n) for i in found for n in i.names or (("", ""),) if i.module.split(".")[0] == "gsim"}


def test_the_pattern_reads_the_imports_that_the_parser_reads() -> None:
    for file in PACKAGE.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        parsed = _own(imports_by_parser(source))
        # The pattern may read one in a docstring: a run then depends on more than it uses, never on less.
        dotted = {found for found in parsed if found[1] == ("", "")}
        assert _own(imports_by_pattern(source)) >= parsed - dotted, file
        assert len(_own(imports_by_pattern(source)) - parsed) <= 3, file


RUNS: list[dict[str, Any]] = [
    {},
    {"router": {"name": "llumnix_freeness"}, "rectifier": {"name": "llumnix"}, "mechanism": {"name": "live_kv_copy"}},
    {"router": {"name": "cache_aware"}, "trace": {"name": "mix", "duration_s": 1.0}, "engine": {"name": "stepwise"}},
    {"router": {"name": "ilp_plan", "evaluations": 2}, "rectifier": {"name": "none"}, "slo": {"name": "scaled"}},
    {"dynamics": {"name": "load_step"}, "faults": {"name": "injected", "crash_every_s": 5.0}},
    {"predictor": {"name": "class_mean"}, "slo": {"name": "drawn"}, "router": {"name": "slo_pack"}},
]


@pytest.mark.parametrize("values", RUNS, ids=lambda values: "-".join(g["name"] for g in values.values()) or "default")
def test_every_line_that_runs_is_in_the_closure(values: dict[str, Any]) -> None:
    made = settings(**values)
    ran: set[str] = set()

    def see(frame: FrameType, event: str, arg: object) -> None:
        ran.add(frame.f_code.co_filename)

    made.scenario()  # imports registered classes, all of them
    sys.setprofile(see)
    try:
        result = cell.run(made, 0)
        cell.summary_of(made, result, 0.0)
        cell.request_rows(result, made)
    finally:
        sys.setprofile(None)
    followed = Sources()
    starts: list[str] = []
    original = Sources.digest
    try:
        Sources.digest = lambda self, names: starts.extend(names) or ""  # type: ignore[method-assign]
        made.code()
    finally:
        Sources.digest = original  # type: ignore[method-assign]
    files = {str(module.file) for module in followed.closure(starts)}
    # The registry finds what is named; which of the files it imports on the way count is what is tested here.
    missed = {file for file in ran if file.startswith(str(PACKAGE))} - files
    assert not {file for file in missed if not file.endswith("__init__.py")}


# ---------------------------------------------------------------- extensions

ROUTER = '''
"""A router of one's own."""
from dataclasses import dataclass
from typing import ClassVar
from gsim.core import register
import {helper}


@register("router", "{name}")
@dataclass
class Mine:
    """Chooses the first."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def route(self, request, view):
        """The first."""
        from {late} import answer
        return {helper}.answer()
'''
READER = '''
"""A router that reads files."""
import importlib
from dataclasses import dataclass
from typing import ClassVar
from gsim.core import register
helper = importlib.import_module("rb_dynamic")


@register("router", "rb_reader")
@dataclass
class Reader:
    """Reads."""

    needs: ClassVar[frozenset[str]] = frozenset()
    inputs: ClassVar[tuple[str, ...]] = {inputs}
    tables: str = "weights"
'''


@pytest.fixture
def open_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the test registers and imports is gone after it."""
    monkeypatch.setattr(registry, "_ENTRIES", {name: dict(known) for name, known in registry._ENTRIES.items()})
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("gsim_extension_", "rb_")):
            del sys.modules[name]


@pytest.mark.usefixtures("open_registry")
def test_an_extension_and_what_it_imports_change_the_key_of_who_uses_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(here))
    settings()  # all of gsim's own are registered
    (here / "extensions").mkdir()
    (here / "extensions" / "mine.py").write_text(ROUTER.format(helper="rb_helper", late="rb_late", name="rb_mine"))
    (here / "extensions" / "other.py").write_text(ROUTER.format(helper="rb_other", late="rb_other", name="rb_other"))
    (here / "rb_helper.py").write_text("from rb_package import deep\ndef answer():\n    return deep.VALUE\n")
    (here / "rb_late.py").write_text("def answer():\n    return 0\n")
    (here / "rb_other.py").write_text("def answer():\n    return 0\n")
    (here / "rb_package").mkdir()
    (here / "rb_package" / "__init__.py").write_text("")
    (here / "rb_package" / "deep.py").write_text("VALUE = 0\n")
    load_extensions(extension_files())

    def key(router: str) -> str:
        fresh = Sources()  # as in a new process
        monkeypatch.setattr("gsim.run.key.sources", lambda: fresh)
        return settings(router={"name": router}).key(0)

    before, builtin = key("rb_mine"), key("least_load")
    for file, changes in (
        ("extensions/mine.py", True),
        ("rb_helper.py", True),
        ("rb_late.py", True),  # imported when it is called first
        ("rb_package/deep.py", True),
        ("rb_package/__init__.py", True),
        ("rb_other.py", False),
        ("extensions/other.py", False),
    ):
        with _a_byte_more(here / file):
            assert (key("rb_mine") != before) is changes, file
            assert key("least_load") == builtin, file
    (here / "extensions" / "silent.py").write_text("VALUE = 0\n")  # registers nothing: it may do anything to every run
    load_extensions(extension_files())
    assert key("least_load") != builtin


@pytest.mark.usefixtures("open_registry")
def test_an_extension_that_is_loaded_keeps_the_code_that_runs(here: Path) -> None:
    # In one process (a notebook) an edited file is not imported again: the key stays that of the code that runs.
    file = here / "rb_kept.py"
    file.write_text(ROUTER.format(helper="math", late="math", name="rb_kept"))
    load_extensions([str(file)])
    before = settings(router={"name": "rb_kept"}).key(0)
    file.write_text(file.read_text() + "# edited\n")
    assert settings(router={"name": "rb_kept"}).key(0) == before
    del sys.modules["gsim_extension_rb_kept"]
    load_extensions([str(file)])
    assert settings(router={"name": "rb_kept"}).key(0) != before


@pytest.mark.usefixtures("open_registry")
def test_what_an_extension_reads_and_imports_by_a_literal_name_changes_its_key(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(here))
    for folder in ("weights", "more"):
        (here / folder).mkdir()
        (here / folder / "a.txt").write_text("0")
    (here / "rb_dynamic.py").write_text("__import__('rb_deeper', fromlist=['x'])\n")
    (here / "rb_deeper.py").write_text("VALUE = 0\n")
    (here / "rb_reader.py").write_text(READER.format(inputs='("more", "stated.txt")'))
    (here / "stated.txt").write_text("0")
    load_extensions([str(here / "rb_reader.py")])

    def key(router: str = "rb_reader") -> str:
        monkeypatch.setattr("gsim.run.key.sources", Sources)  # as in a new process
        return settings(router={"name": router}).key(0)

    before, builtin = key(), key("least_load")
    for file in ("rb_dynamic.py", "rb_deeper.py", "weights/a.txt", "more/a.txt", "stated.txt"):
        with _a_byte_more(here / file):
            assert key() != before, file
            assert key("least_load") == builtin, file
    assert key() == before
    (here / "stated.txt").unlink()
    with pytest.raises(ConfigError, match=r"router 'rb_reader': inputs: there is no file or folder stated.txt"):
        key()


@pytest.mark.usefixtures("open_registry")
def test_inputs_of_an_extension_are_a_tuple(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(here))
    (here / "rb_dynamic.py").write_text("")
    (here / "rb_reader.py").write_text(READER.format(inputs='"stated.txt"'))
    load_extensions([str(here / "rb_reader.py")])
    with pytest.raises(ConfigError, match="inputs must be a tuple of paths, not 'stated.txt'"):
        settings(router={"name": "rb_reader"}).key(0)
