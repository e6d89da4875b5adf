"""Is the simulator right about a real pool? Its placements replayed, its routers predicted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gsim.core import ConfigError, register
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd

    from gsim.core import Router
    from gsim.validation.pool.replay import PoolModel, PoolReplay
    from gsim.validation.pool.truth import PoolRun, PoolTruth

#: What gateway, HTTP and tokenizer add to a request: fitted with the profile (experiment=pool_fit).
API_S = 0.062
#: KV blocks that no run here fills.
_ENDLESS = 10**7
#: The router that the recorded prefix runs were made with: AIBrix's ``prefix-cache`` with the limit of its Helm chart.
PREFIX = {"imbalance": 16, "blind": True}


class _Part(NamedTuple):
    """One way in which the model can be poorer or otherwise."""

    name: str
    model: PoolModel
    prefix: dict[str, Any]
    shared_heads: bool = True
    steady: bool = False


class _Job(NamedTuple):
    """What a worker simulates: one router's run of one set, under one seed."""

    runs: tuple[PoolRun, ...]
    run: PoolRun
    part: _Part
    as_placed: bool
    seed: int


@register("study", "pool_ground_truth")
@dataclass(frozen=True)
class PoolGroundTruthStudy:
    """Replay the placements of recorded runs of a pool, predict what its routers did, and compare the latencies.

    The profile and ``api_s`` are fitted to the first minute of one timed run (experiment=pool_fit). Of the runs that
    are predicted these are read: the order and lengths of prompts, which of them begin alike (hit columns), how fast
    they came (Little's law), and the placements of routers that gsim has no rule for. No latency is fitted.
    """

    ground_truth: str = "???"
    """Folder with timed-*.csv and SET-ROUTER.csv files (``gsim/validation/pool/truth.py`` has the format)."""
    profile: str = "l20-llama-3.1-8b"
    """Profile of the instances: a name or a file."""
    api_s: float = API_S
    """Seconds that gateway, HTTP and tokenizer add to a request before the engine has it."""
    parts: bool = True
    """Also say what each part of the model is worth: a simulation of every run per part and seed."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.api_s < 10.0:
            raise ConfigError(f"api_s must be between 0 and 10 seconds, not {self.api_s}")

    def run(self, context: Context) -> Findings:
        """Arrivals, and groups that could be another, are drawn anew by every seed."""
        import pandas as pd

        from gsim.engine import EngineConfig
        from gsim.latency import load_profile
        from gsim.validation.pool.figure import figure
        from gsim.validation.pool.replay import PoolModel
        from gsim.validation.pool.tables import ratios
        from gsim.validation.pool.truth import read_pool

        truth = read_pool(self.ground_truth)
        model = PoolModel(load_profile(self.profile), EngineConfig(), self.api_s)
        full = _Part("all", model, PREFIX)
        notes = [*truth.left_out, *_assumed(model)]
        # Nothing in a replay is drawn but groups that could be another.
        replayed = {run: _simulate(_Job((run,), run, full, True, context.seeds[0])) for run in truth.timed}
        predicted = _predict(context, truth, full, context.seeds)
        placed = _predict(context, truth, full, context.seeds, placed_only=True)
        table, extra = _tables(truth, replayed, predicted, placed)
        tables: dict[str, pd.DataFrame] = {"pool_ground_truth": table}
        shared = table[table["set"].isin(list(truth.shared))]
        if truth.shared:
            tables["pool_ratios"] = ratios(shared)
        tables |= extra
        if self.parts and truth.shared:
            parts = [_worth(truth, full, predicted)]
            parts += [_worth(truth, part, _predict(context, truth, part, context.seeds)) for part in _parts(full)]
            tables["pool_parts"] = pd.concat(parts, ignore_index=True)
        notes += _said(truth, tables, context.seeds[0])
        return Findings(tables, {"pool_ground_truth": figure(table, extra["pool_states"])}, notes)


def _simulate(job: _Job) -> PoolReplay:
    """One run; the groups and the arrivals follow from the set's runs and the seed."""
    import numpy as np

    from gsim.core import Streams
    from gsim.validation.pool.arrivals import load_of
    from gsim.validation.pool.groups import recover_groups
    from gsim.validation.pool.replay import placements, replay_pool

    streams = Streams(job.seed)
    groups = recover_groups(job.runs, streams.stream("groups"))
    contents = groups.contents(job.run) if job.part.shared_heads else {}
    if job.run.timed:
        times = job.run.rows["arrival_s"].to_numpy(dtype=np.float64)
    else:
        load = load_of(job.runs)
        load = load.steady() if job.part.steady else load
        times = load.draw(len(job.run.rows), streams.stream("arrivals"))
    router = placements(job.run) if job.as_placed else _router(job.run.router, job.part)
    return replay_pool(job.run, times, contents, router or placements(job.run), job.part.model, job.seed)


def _router(name: str, part: _Part) -> Router | None:
    """gsim's rule of that name; None: there is none, and the recorded placements stand for it."""
    from gsim.routing.prefix_then_load import PrefixThenLoad
    from gsim.routing.random import Random

    if name == "prefix":
        return PrefixThenLoad(**part.prefix)
    return Random() if name == "random" else None


def _predict(
    context: Context, truth: PoolTruth, part: _Part, seeds: tuple[int, ...], placed_only: bool = False
) -> dict[tuple[str, str], list[PoolReplay]]:
    """Every router of every set, under every seed. ``placed_only``: those that gsim has rules for, as recorded."""
    jobs = [
        _Job(runs, run, part, placed_only, seed)
        for runs in truth.shared.values()
        for run in runs
        if not placed_only or _router(run.router, part) is not None
        for seed in seeds
    ]
    made: dict[tuple[str, str], list[PoolReplay]] = {}
    what = "as placed" if placed_only else part.name
    for job, replay in zip(jobs, context.map(_simulate, jobs, f"pool: {what}"), strict=True):
        made.setdefault((job.run.set_name, job.run.router), []).append(replay)
    return made


def _tables(
    truth: PoolTruth,
    replayed: dict[PoolRun, PoolReplay],
    predicted: dict[tuple[str, str], list[PoolReplay]],
    placed: dict[tuple[str, str], list[PoolReplay]],
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    import pandas as pd

    from gsim.validation.pool.fit import FIT_S
    from gsim.validation.pool.rules import decisions
    from gsim.validation.pool.tables import by_instance, compared, states_by_tenths

    table, instances, states, rules, as_placed = [], [], [], [], []
    for run, replay in replayed.items():
        ours = _with_tokens(run, replay)
        table.append(compared(run, [ours]))
        unseen = (run.rows["arrival_s"] >= FIT_S).to_numpy()
        later = compared(replace(run, set_name=f"{run.set_name} from {FIT_S:g} s"), [ours], unseen)
        table.append(later)
        instances.append(by_instance(run, ours))
        states.append(states_by_tenths(run, ours, replay.states))
    for runs in truth.shared.values():
        for run in runs:
            found = predicted[run.set_name, run.router]
            frames = [_with_tokens(run, replay) for replay in found]
            table.append(compared(run, frames))
            states.append(states_by_tenths(run, frames[0], found[0].states))
            rules.append(decisions(run))
            if (run.set_name, run.router) in placed:
                again = [_with_tokens(run, replay) for replay in placed[run.set_name, run.router]]
                as_placed.append(compared(run, again))
    extra = {"pool_states": pd.concat(states, ignore_index=True)}
    for name, made in (("pool_instances", instances), ("pool_rules", rules), ("pool_as_placed", as_placed)):
        if made:
            extra[name] = pd.concat(made, ignore_index=True)
    return pd.concat(table, ignore_index=True), extra


def _with_tokens(run: PoolRun, replay: PoolReplay) -> pd.DataFrame:
    return replay.rows.assign(output_tokens=run.rows["output_tokens"].to_numpy())


def _parts(full: _Part) -> list[_Part]:
    """The model with one thing otherwise."""
    from gsim.latency.roofline import SoftRoofline

    model = full.model

    def engine(**values: Any) -> PoolModel:
        return replace(model, engine=replace(model.engine, **values))

    parts = [
        full._replace(name="KV cache never full (no evictions, no waiting)", model=engine(kv_blocks=_ENDLESS)),
        full._replace(name="no prompt shares a head", shared_heads=False),
        full._replace(name="index of the cache's size, so that it forgets", model=replace(model, index_capacity=1.0)),
        full._replace(name="512 batched tokens", model=engine(max_num_batched_tokens=512)),
        full._replace(name="8,192 batched tokens", model=engine(max_num_batched_tokens=8192)),
        full._replace(name="one rate of arrival throughout", steady=True),
        full._replace(name="nothing added by gateway and server", model=replace(model, api_s=0.0)),
        full._replace(name="AIBrix's rule by default (8, 1 sd)", prefix={"imbalance": 8, "sigmas": 1.0}),
        full._replace(name="AIBrix's rule of its chart (16, 2 sd)", prefix={"imbalance": 16, "sigmas": 2.0}),
    ]
    latency = model.profile.latency
    if isinstance(latency, SoftRoofline):
        flat = replace(latency, sequence_s=0.0, context_token_s=0.0)
        constant = replace(model, profile=replace(model.profile, latency=flat))
        parts.append(full._replace(name="decoding costs the same at any load", model=constant))
    return parts


def _worth(truth: PoolTruth, part: _Part, replays: dict[tuple[str, str], list[PoolReplay]]) -> pd.DataFrame:
    """Mean E2E with this part, and its ratio over that of the prefix router: over the seeds, and of each alone."""
    import numpy as np
    import pandas as pd

    rows = []
    for (name, router), found in replays.items():
        real = {run.router: float(run.e2e_s.mean()) for run in truth.shared[name]}
        ours = np.array([replay.rows["e2e_ms"].mean() / 1e3 for replay in found])
        row = {"part": part.name, "set": name, "router": router, "real_e2e_s": real[router], "e2e_s": ours.mean()}
        if "prefix" in real:
            other = np.array([replay.rows["e2e_ms"].mean() / 1e3 for replay in replays[name, "prefix"]])
            one, two = real[router] / real["prefix"], float(ours.mean() / other.mean())
            row |= {"real_ratio": one, "ratio": two, "ratio_diff_percent": 100.0 * (two / one - 1.0)}
            row |= {"ratio_low": (ours / other).min(), "ratio_high": (ours / other).max()}
        rows.append(row)
    return pd.DataFrame(rows)


def _assumed(model: PoolModel) -> list[str]:
    limits = model.engine.resolve(model.profile)
    return [
        f"instances: profile '{model.profile.name}', {limits.kv_blocks * limits.block_size:,} KV tokens, "
        f"{limits.max_num_batched_tokens} batched tokens, {limits.max_num_seqs} sequences; "
        f"{1e3 * model.api_s:g} ms a request for gateway and server",
        "router prefix is prefix_then_load(imbalance=16, blind=true): to the least loaded where loads differ by more "
        "than 16 (the value of AIBrix's chart), else any holder of the prompt's head, else any instance; the decisions "
        "recorded under it say so (pool_rules.csv)",
    ]


def _said(truth: PoolTruth, tables: dict[str, pd.DataFrame], seed: int) -> list[str]:
    from gsim.core import Streams
    from gsim.validation.pool.arrivals import load_of
    from gsim.validation.pool.groups import recover_groups

    notes = []
    for name, runs in truth.shared.items():
        notes.append(f"{name}: {recover_groups(runs, Streams(seed).stream('groups'))}; {load_of(runs)}")
    means = tables["pool_ground_truth"]
    means = means[means["statistic"] == "mean"]
    e2e = means[means["metric"] == "E2E"].to_dict("records")
    notes += [
        f"{row['set']}, {row['router']}: mean E2E {row['real'] / 1e3:.2f} s real, {row['simulated'] / 1e3:.2f} s "
        f"simulated ({row['diff_percent']:+.1f} %)"
        for row in e2e
    ]
    within = int((means["diff_percent"].abs() <= 15.0).sum())
    notes.append(f"means of TTFT, TPOT and E2E within 15 %: {within} of {len(means)}")
    if "pool_ratios" in tables:
        found = tables["pool_ratios"]
        found = found[found["metric"] == "E2E"]
        near = int((found["diff_percent"].abs() <= 10.0).sum())
        same = int(((found["real_ratio"] > 1) == (found["simulated_ratio"] > 1)).sum())
        notes.append(f"ratios of mean E2E within 10 %: {near} of {len(found)}; the better router is the same in {same}")
    return notes
