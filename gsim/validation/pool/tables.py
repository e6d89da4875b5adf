"""Recorded and simulated runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsim.validation.pool.truth import Floats, PoolRun

METRICS = ("TTFT", "TPOT", "E2E")
PERCENTILES = (50, 90, 95, 99)
_COLUMNS = ["set", "router", "metric", "statistic", "real", "simulated", "diff_percent", "low", "high"]
_RATIO_COLUMNS = ["set", "router", "over", "metric", "real_ratio", "simulated_ratio", "diff_percent"]


def latencies(rows: pd.DataFrame) -> dict[str, Floats]:
    """TTFT, TPOT and E2E in milliseconds; NaN where they were not recorded.

    Recorded TPOT is in whole milliseconds; it follows to a hundredth from the two others and the number of tokens.
    """
    ttft, e2e = (rows[name].to_numpy(dtype=np.float64) for name in ("ttft_ms", "e2e_ms"))
    tokens = rows["output_tokens"].to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(tokens > 1, (e2e - ttft) / (tokens - 1), np.nan)
    return {"TTFT": ttft, "TPOT": tpot, "E2E": e2e}


def statistics(values: Floats) -> dict[str, float]:
    """The mean and the percentiles (linear) of what was recorded."""
    values = values[np.isfinite(values)]
    table = {"mean": float(values.mean())}
    return table | {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}


def compared(run: PoolRun, simulated: Sequence[pd.DataFrame], keep: NDArray[np.bool_] | None = None) -> pd.DataFrame:
    """Milliseconds; ``simulated`` is the mean over seeds, ``low`` and ``high`` the least and the most of any seed.

    ``keep`` says which of the run's rows count; those without a recorded latency never do.
    """
    real = latencies(run.rows)
    rows = []
    for metric in METRICS:
        counted = np.isfinite(real[metric]) & (True if keep is None else keep)
        if not counted.any():
            continue
        ours = [statistics(latencies(frame)[metric][counted]) for frame in simulated]
        for name, value in statistics(real[metric][counted]).items():
            each = [one[name] for one in ours]
            mean = float(np.mean(each))
            percent = 100.0 * (mean / value - 1.0)
            rows.append((run.set_name, run.router, metric, name, value, mean, percent, min(each), max(each)))
    return pd.DataFrame(rows, columns=_COLUMNS)


def by_instance(run: PoolRun, simulated: pd.DataFrame) -> pd.DataFrame:
    """The same means for every instance of a replayed run."""
    tables = []
    for instance in range(run.instances):
        keep = run.placed == instance
        table = compared(run, [simulated], keep)
        table.insert(2, "instance", instance)
        table.insert(3, "requests", int(keep.sum()))
        tables.append(table[table["statistic"].isin(["mean", "p90"])])
    return pd.concat(tables, ignore_index=True).drop(columns=["low", "high"])


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """What a router's mean is of another's, real and simulated, for every pair of routers of a set."""
    means = table[table["statistic"] == "mean"]
    rows = []
    for set_name, part in means.groupby("set", sort=False):
        routers = list(dict.fromkeys(part["router"]))
        keys = zip(part["router"].tolist(), part["metric"].tolist(), strict=True)
        values = zip(part["real"].tolist(), part["simulated"].tolist(), strict=True)
        found = dict(zip(keys, values, strict=True))
        pairs = [(a, b) for i, b in enumerate(routers) for a in routers[i + 1 :]]
        for router, over in pairs:
            for metric in METRICS:
                (real, ours), (real_over, ours_over) = found[router, metric], found[over, metric]
                one, other = real / real_over, ours / ours_over
                rows.append((set_name, router, over, metric, one, other, 100.0 * (other / one - 1.0)))
    return pd.DataFrame(rows, columns=_RATIO_COLUMNS)


def states_by_tenths(run: PoolRun, simulated: pd.DataFrame, states: pd.DataFrame) -> pd.DataFrame:
    """Over ten equal shares of the requests: what the gateway's index said of the chosen instance, what the simulated
    engines really had cached, and the mean and highest KV usage of the instances, real and simulated."""
    n = len(run.rows)
    usage, hits = run.state("kv_usage"), run.state("hit_percent")
    tokens = run.rows["input_tokens"].to_numpy(dtype=np.float64)
    index_hit = hits[np.arange(n), run.placed] / 100.0 * tokens
    # Samples lie on whole seconds of every instance: a row per second.
    samples = states.pivot(index="time_s", columns="instance", values="kv_usage")
    at = samples.index.to_numpy().searchsorted(simulated["arrival_s"].to_numpy(), side="right") - 1
    ours = samples.to_numpy()[np.maximum(at, 0)]
    rows = []
    for tenth, part in enumerate(np.array_split(np.arange(n), 10)):
        rows.append(
            {
                "set": run.set_name,
                "router": run.router,
                "tenth": tenth + 1,
                "index_hit_percent": 100.0 * index_hit[part].sum() / tokens[part].sum(),
                "simulated_cached_percent": 100.0
                * simulated["cached_tokens"].to_numpy()[part].sum()
                / tokens[part].sum(),
                "kv_usage": float(np.nanmean(usage[part])) if np.isfinite(usage[part]).any() else np.nan,
                "simulated_kv_usage": float(ours[part].mean()),
                "kv_usage_highest": float(np.nanmax(usage[part])) if np.isfinite(usage[part]).any() else np.nan,
                "simulated_kv_usage_highest": float(ours[part].max()),
            }
        )
    return pd.DataFrame(rows)
