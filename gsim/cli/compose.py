"""Composing the configuration with Hydra: groups from the registry, experiments from flat files, one main config."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from gsim.core import ConfigError, InputError, registry
from gsim.run.extensions import extension_files, load_those_that_work
from gsim.run.limit import Limit
from gsim.run.options import RUN_GROUPS, options
from gsim.run.schema import node, plain_value, tree
from gsim.study.experiments import Experiment, read_experiments
from gsim.study.grid import COMPARED
from gsim.study.knee import Knee
from gsim.study.literal import escaped
from gsim.study.progress import say

MAIN = "config"
#: Set for the jobs of a multirun, and told by no page.
_INTERNAL = ("extensions", "job", "cwd", "pid")

#: The top-level values beside the groups: name -> (default, what it says).
TOP_LEVEL: Mapping[str, tuple[Any, str]] = {
    "seeds": (5, "how many seeds (5 means 0 to 4), or a list of them"),
    "warmup_s": (0.0, "what comes before is simulated but not counted (seconds, or auto)"),
    "until_s": (None, "what comes later is not counted either (seconds, or auto); agents go on arriving until then"),
    "count": ("auto", "what must lie between the two: by_arrival, by_session, by_completion; auto: by the trace"),
    "drain_s": (None, "by_session: how long the run goes on after until_s at most (null: as long as the window is)"),
    "goodput": ("", "further limits, as vllm bench serve --goodput: 'ttft:500 tpot:50 e2el:6000' (ms)"),
    "max_hold_s": (600.0, "a request that the router holds for longer is rejected"),
    "limit": (
        plain_value(Limit()),
        "simulated_s, wall_s: a run that is still going on then is stopped with an error that says what it waits for",
    ),
    "out": (None, "results folder (default: results/NAME)"),
    "name": ("default", "the experiment's name"),
    "question": ("", "what the experiment asks (shown by --help and in reports)"),
    "paper": ("", "what the paper says about it (shown in reports)"),
    "small": ({}, "field -> value: what a quick version of the experiment changes (reproduce scale=small, tests)"),
    "compare": (list(COMPARED), "the fields that make a line of the figure and are compared in pairs"),
    "figure": ({"x": None, "y": None}, "x: swept field of the horizontal axis; y: metrics, one panel each"),
    "sweep": (None, "field or group -> list of values: every combination is a cell"),
    "knee": (
        plain_value(Knee()),
        "at=[0.5,1,1.3]: sweep trace.rate_per_s at these multiples of the knee, which is found",
    ),
    "bound": (False, "compute every run's upper bound: a line in the figure, regret to it in the tables"),
    "timeline": (False, "also write a Perfetto trace of the run (single runs)"),
}


def groups() -> tuple[str, ...]:
    """All configuration groups."""
    return (*RUN_GROUPS, "study")


class _Shared(dict[str, Any]):
    """Hydra copies its whole store of nodes for every configuration that it composes, and each node again when it
    loads it. The second copy is enough: sharing the store halves the time of composing."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def register_schema() -> dict[str, Experiment]:
    """Fill Hydra's config store from the registry and the experiment files; returns the experiments by name.

    Imports the user's ``./extensions`` first. A file of the user that is broken is warned of on standard error: what
    it registers is not there, and only who asks for it fails. Raises ``ConfigError`` on what cannot be composed.
    """
    loaded, problems = load_those_that_work(extension_files())
    for problem in problems:
        say(f"warning: {problem}; what this file registers is not there")
    store = ConfigStore.instance()
    if not isinstance(store.repo, _Shared):
        store.repo = _Shared(store.repo)
    for group in RUN_GROUPS:
        for option in options(group).values():
            made = OmegaConf.structured(node(option.name, option.config, option.values))
            store.store(group=group, name=option.name, node=_open_mappings(made))
    studies = registry.entries("study")
    for name, entry in studies.items():
        store.store(group="study", name=name, node=_study_node(name, entry.config), package="_global_")
    experiments = {name: _checked(experiment, studies) for name, experiment in read_experiments(set(groups())).items()}
    for experiment in experiments.values():
        if experiment.problem:
            say(f"warning: {experiment.problem}; experiment={experiment.name} is not there")
        else:
            store.store(group="experiment", name=experiment.name, node=experiment.node(), package="_global_")
    store.store(name=MAIN, node=_main(loaded))
    return experiments


def _open_mappings(made: DictConfig) -> DictConfig:
    """Fields that are free mappings take new keys on the command line (without Hydra's ``+``)."""
    for key in made:
        child = made._get_node(key)
        if isinstance(child, DictConfig) and child._metadata.object_type is dict:
            child._set_flag("struct", False)
    return made


def _study_node(name: str, config: type) -> DictConfig:
    made = _open_mappings(OmegaConf.structured(tree(config)))
    taken = sorted({str(key) for key in made} & {*TOP_LEVEL, *groups(), "extensions", "job", "cwd", "pid", "hydra"})
    if taken:
        raise ConfigError(f"study '{name}': field '{taken[0]}' is named like a standard key; choose another name")
    # An untyped mapping of typed nodes: it is merged into the root, which has other keys too.
    open_root = OmegaConf.create({"study": name})
    for key in made:
        open_root._set_item_impl(key, made._get_node(key))
    return open_root


def _checked(experiment: Experiment, studies: Mapping[str, registry.Entry]) -> Experiment:
    """The experiment, with its problem where it has a key that there is not."""
    known = {*TOP_LEVEL, *groups(), "hydra"}
    study = experiment.groups.get("study")
    if study is not None and study in studies:
        known |= {f.name for f in dataclasses.fields(studies[study].config)}
    unknown = sorted(set(experiment.values) - known)
    if unknown and not experiment.problem:
        problem = f"{experiment.path}: unknown key '{unknown[0]}'; allowed: {', '.join(sorted(known))}"
        return dataclasses.replace(experiment, problem=problem)
    return experiment


def _main(extensions: Sequence[str]) -> dict[str, Any]:
    here = "."
    return {
        # _self_ first: what comes later (an experiment above all) must win over this file.
        "defaults": [
            "_self_",
            *({group: default} for group, default in RUN_GROUPS.items()),
            {"study": None},
            {"experiment": None},
            {"override hydra/launcher": "joblib"},
            {"override hydra/job_logging": "none"},
            {"override hydra/hydra_logging": "none"},
        ],
        **{name: default for name, (default, _) in TOP_LEVEL.items()},
        "study": None,
        "extensions": [escaped(file) for file in extensions],
        # One job of a multirun: the file of all cells (their configurations, and the digests of their code as the
        # parent saw it), and its runs as pairs of a cell's place in that file and a seed.
        "job": {"cells": "", "runs": []},
        # Where the parent stands: its ./profiles and other relative paths are meant, in every worker.
        "cwd": escaped(os.getcwd()),
        # The process whose workers jobs run in: they end with it.
        "pid": os.getpid(),
        # Results are written by gsim; Hydra itself leaves nothing behind.
        "hydra": {
            "run": {"dir": here},
            "sweep": {"dir": here, "subdir": here},
            "output_subdir": None,
        },
    }


@contextmanager
def hydra_session() -> Iterator[Hydra]:
    """Hydra, initialised for composing (and cleaned up after)."""
    with initialize(version_base="1.3", config_path=None, job_name="gsim"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        yield hydra


def compose(hydra: Hydra, overrides: Sequence[str]) -> tuple[DictConfig, bool]:
    """The composed configuration, and whether it is a multirun (a sweep, or lists on the command line)."""
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(overrides))
    swept = any(override.is_sweep_override() for override in parsed)
    _keep_fields_of_chosen_options({o.get_key_element(): o.value() for o in parsed if not o.is_sweep_override()})
    _refuse_broken({o.get_key_element(): o.value() for o in parsed if not o.is_sweep_override()}.get("experiment"))
    config = hydra.compose_config(
        MAIN, list(overrides), run_mode=RunMode.MULTIRUN, with_log_configuration=False, validate_sweep_overrides=False
    )
    _check_top_level(config)
    multirun = swept or config.hydra.mode == RunMode.MULTIRUN or config.sweep is not None
    multirun = multirun or len(config.knee.at) > 0
    return config, multirun


def _refuse_broken(name: Any) -> None:
    """Say what is wrong with the experiment that is asked for, not that there is none."""
    studies = registry.entries("study")
    experiment = None if name is None else read_experiments(set(groups())).get(str(name))
    if experiment is not None and (problem := _checked(experiment, studies).problem):
        raise InputError(problem)


def _check_top_level(config: DictConfig) -> None:
    """What ``+`` adds to the configuration must be something that gsim reads."""
    known = {*TOP_LEVEL, *groups(), *_INTERNAL, "hydra"}
    if config.study is not None:
        known |= {f.name for f in dataclasses.fields(registry.lookup("study", str(config.study)).config)}
    unknown = sorted({str(key) for key in config} - known)
    if unknown:
        raise ConfigError(f"unknown key '{unknown[0]}'; allowed: {', '.join(sorted(known - {*_INTERNAL, 'hydra'}))}")
    if OmegaConf.select(config, "hydra.launcher.n_jobs") == 0:
        raise ConfigError("hydra.launcher.n_jobs must be a number of processes (-1: one per processor), not 0")
    for key in ("knee", "figure", "limit"):
        if config[key] is not None and not isinstance(config[key], DictConfig):
            raise ConfigError(f"{key} must be a mapping of fields, not {config[key]}")
    if not isinstance(config.knee.at, ListConfig):
        raise ConfigError(f"knee.at must be a list of multiples of the knee, not {config.knee.at}")
    name = str(config.name)
    if name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        raise ConfigError(f"name={name}: a name is a folder inside results; for another place give out=DIR")


def _keep_fields_of_chosen_options(given: Mapping[str, Any]) -> None:
    """Where the command line chooses another option than the experiment, the experiment's fields for it go with it."""
    if "experiment" not in given:
        return
    experiment = read_experiments(set(groups())).get(str(given["experiment"]))
    if experiment is None:
        return
    defaults = {**RUN_GROUPS, **experiment.groups}
    gone = {group for group in RUN_GROUPS if group in given and given[group] != defaults[group]}
    values = {key: value for key, value in experiment.values.items() if key not in gone}
    kept = dataclasses.replace(experiment, values=values)
    ConfigStore.instance().store(group="experiment", name=experiment.name, node=kept.node(), package="_global_")


def plain(config: DictConfig, *, missing_ok: bool = False) -> dict[str, Any]:
    """The configuration as plain values, Hydra's own part left out.

    A missing value raises Hydra's own error; with ``missing_ok`` (a sweep sets it cell by cell) it is ``"???"``.
    """
    keys = [str(key) for key in config if key != "hydra"]
    shown = OmegaConf.masked_copy(config, keys)
    values = OmegaConf.to_container(shown, resolve=True, throw_on_missing=not missing_ok)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
