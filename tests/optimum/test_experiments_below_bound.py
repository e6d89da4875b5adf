"""No run of any experiment scores above its bound: small versions of all of them, and of them with less time."""

from __future__ import annotations

import json

import pytest

from gsim.cli.cells import grid
from gsim.cli.compose import compose, hydra_session, register_schema
from gsim.cluster import RunResult
from gsim.metrics import summarise
from gsim.run.cell import run
from gsim.study.bounds import bound_of, most_moves
from gsim.study.grid import Cell

EXPERIMENTS = register_schema()
#: What a closed population asks for depends on the policy: nothing bounds it.
SWEEPS = sorted(
    name
    for name, experiment in EXPERIMENTS.items()
    if "sweep" in experiment.values and experiment.groups.get("trace") != "agents"
)
#: A deadline that most pools miss for many: there the bound is put to the test.
TIGHT = "slo.seconds=3.0"


def cells_of(name: str, *more: str) -> list[Cell]:
    """A few of an experiment's policies at the last values of its axes, with few requests."""
    values = EXPERIMENTS[name].values
    words = [f"experiment={name}", "seeds=1", "warmup_s=0", "figure.x=null", *more]
    if "requests" in values.get("trace", {}):
        words.append("trace.requests=80")
    elif EXPERIMENTS[name].groups.get("trace") == "mix":
        # A bound is of what arrives, so a load that goes on is made one that ends.
        words += ["trace.requests=80", "until_s=null", "count=by_arrival", "drain_s=null"]
    for field, entries in values["sweep"].items():
        if field == "router":
            words.append("router=goodserve,least_latency,ilp_rolling")
        elif not isinstance(entries[0], dict):
            # Pools whose instances have roles have no bound; the first of a list has none.
            words.append(f"{field}={entries[0 if field == 'pool' else -1]}")
    with hydra_session() as hydra:
        config, _ = compose(hydra, words)
        return list(grid(hydra, config, words).cells)


def good(cell: Cell, result: RunResult) -> int:
    metrics = summarise(result.requests, result.sessions, cell.settings.window, cell.settings.objective)
    return int(metrics["good"])


@pytest.fixture(scope="module")
def bounds():
    return {}


def most(bounds: dict[str, int], cell: Cell) -> int:
    """The cell's bound; equal pools, loads and moves are computed once for all experiments."""
    plain = cell.settings.plain()
    asked = [plain[group] for group in ("pool", "trace", "slo", "engine", "dynamics")]
    key = json.dumps([asked, most_moves(cell.settings.scenario())], sort_keys=True, default=str)
    if key not in bounds:
        bounds[key] = bound_of(cell.settings, 0).goodput_requests
    return bounds[key]


@pytest.mark.parametrize("name", SWEEPS)
def test_no_run_is_above_its_bound(name, bounds):
    for cell in cells_of(name):
        assert good(cell, run(cell.settings, 0)) <= most(bounds, cell), cell.overrides


@pytest.mark.parametrize("name", ["routing_strategies", "rectify_ablation"])
def test_no_run_is_above_its_bound_where_many_miss(name, bounds):
    binding = 0
    for cell in cells_of(name, TIGHT):
        result = run(cell.settings, 0)
        assert good(cell, result) <= most(bounds, cell), cell.overrides
        binding += most(bounds, cell) < len(result.requests["request_id"])
    assert binding > 0
