"""Fit a profile to raw measurements, and judge it by repeats and points that the fit did not see."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from gsim.calibration.mixed import fit_mixed, predicted_s
from gsim.calibration.plan import Point
from gsim.calibration.raw import Measurement, RawStore
from gsim.calibration.tables import Tables, build_tables
from gsim.core.errors import InputError
from gsim.core.files import write_whole
from gsim.latency import Domain, MixedCost
from gsim.latency.domain import Extent

PROFILE = "profile.yaml"
FIT = "fit.json"


@dataclass(frozen=True)
class RequestOverhead:
    """What the API in front of the engine adds to a request (not to an iteration): HTTP, parsing, sending back.

    Latency profiles are about iterations; who compares a client's clock with a simulated engine adds this.
    """

    fixed_s: float
    per_prompt_token_s: float

    def seconds(self, prompt_tokens: int) -> float:
        """For one request."""
        return self.fixed_s + self.per_prompt_token_s * prompt_tokens


@dataclass(frozen=True)
class Fitted:
    """A fitted profile on disk, and how well it explains what it did not see."""

    profile: Path
    tables: Tables
    mixed: MixedCost
    """What is added to the sum of a chunk and decodes: fitted to the mixed points."""
    errors: pd.DataFrame
    """A row per point: region, held-out seconds, predicted seconds, error in percent, and that of the plain sum."""
    overhead: RequestOverhead
    meta: dict[str, Any]
    measurements: list[Measurement]


def fit_folder(folder: Path, name: str | None = None) -> Fitted:
    """Fit the raw measurements of a folder; writes ``profile.yaml`` and ``fit.json`` beside them.

    The profile uses every repeat that counts. Its errors are those of a fit to every other repeat, judged by the rest,
    and by the points between the grid's; mixed points are halved like the others, their own cost is all that is fitted
    to them. Raises ``InputError`` when the folder holds too little.
    """
    store = RawStore(folder)
    meta = store.meta()
    kept = [m for m in store.read() if not m.dropped]
    if not kept:
        raise InputError(f"{folder} holds no measurement that counts")
    tables = build_tables(kept)
    domain = measured_domain(tables, kept, meta, name or profile_name(meta))
    mixed = fit_mixed(tables.latency(domain), kept)
    errors = held_out_errors(kept, domain)
    overhead = request_overhead(kept)
    path = folder / PROFILE
    write_whole(path, profile_yaml(tables, mixed, domain, meta, kept, errors))
    write_whole(
        folder / FIT,
        json.dumps(
            {
                "request_overhead_s": asdict(overhead),
                "mixed": asdict(mixed),
                "continued_cells": tables.continued,
                "smoothed_cells": tables.smoothed,
                "regions": region_table(errors).to_dict(orient="records"),
            },
            indent=1,
        )
        + "\n",
    )
    return Fitted(path, tables, mixed, errors, overhead, meta, kept)


def read_overhead(folder: Path) -> RequestOverhead:
    """The request overhead that ``fit`` found; raises ``InputError`` when it was not run."""
    path = folder / FIT
    if not path.exists():
        raise InputError(f"{folder} holds no fit (no {FIT}): run measure or fit first")
    return RequestOverhead(**json.loads(path.read_text(encoding="utf-8"))["request_overhead_s"])


def measured_domain(tables: Tables, kept: list[Measurement], meta: dict[str, Any], name: str) -> Domain:
    """From what was measured and is in the grids to what the server takes: between them times are extrapolated."""
    batches, tokens = tables.decode_batches[-1], tables.prefill_tokens[-1]
    longest = max(tables.decode_contexts[-1] + 1, tokens + tables.prefill_contexts[-1])
    measured = Extent(
        sequences=batches,
        batch_tokens=min(max(m.chunk_tokens + m.sequences for m in kept), tokens + batches),
        context_tokens=min(max(m.context_tokens + m.chunk_tokens for m in kept), longest),
    )
    limit = Extent(
        max(meta["max_num_seqs"], measured.sequences),
        max(meta["max_num_batched_tokens"], measured.batch_tokens),
        max(meta["max_model_len"], measured.context_tokens),
    )
    return Domain(measured, limit, name)


def profile_name(meta: dict[str, Any]) -> str:
    """``gpu-model``, in lower case."""
    words = f"{meta['gpu']}-{str(meta['model']).rpartition('/')[2]}".lower().split()
    return "-".join(words)


def region(point: Point) -> str:
    """The part of the domain in which a point's error is reported."""
    if point.kind == "prefill":
        part = "prefill" if point.context_tokens == 0 else "prefill on cached context"
    elif point.kind == "decode":
        part = "decode, batch 1-4" if point.sequences <= 4 else "decode, batch 5 and more"
    else:
        part = "mixed"
    return f"{part}, between grid points" if point.check else part


def held_out_errors(kept: list[Measurement], domain: Domain) -> pd.DataFrame:
    """Errors of a fit to the even repeats, by the odd ones; points between the grid's count with all their repeats."""
    by_point: dict[Point, list[Measurement]] = defaultdict(list)
    for m in sorted(kept, key=lambda m: m.repeat):
        by_point[m.point].append(m)
    seen = [m for ms in by_point.values() for m in ms[::2]]
    plain = build_tables(seen).latency(domain)
    latency = replace(plain, mixed=fit_mixed(plain, seen))
    rows = []
    for point, ms in sorted(by_point.items()):
        judges = ms if point.check else ms[1::2]
        if not judges:
            continue
        held_out_s = float(np.median([m.iteration_s for m in judges]))
        context = float(np.median([m.actual_context_tokens for m in judges]))
        predicted, summed = predicted_s(latency, point, context), predicted_s(plain, point, context)
        rows.append(
            {
                "region": region(point),
                "point": point.key,
                "sequences": point.sequences,
                "context_tokens": point.context_tokens,
                "chunk_tokens": point.chunk_tokens,
                "repeats": len(judges),
                "held_out_s": held_out_s,
                "predicted_s": predicted,
                "error_percent": 100.0 * (predicted / held_out_s - 1.0),
                "plain_sum_percent": 100.0 * (summed / held_out_s - 1.0),
            }
        )
    if not rows:
        raise InputError("no point has two repeats that count: nothing to judge the fit by")
    return pd.DataFrame(rows)


def region_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Per region: points, mean error, median and largest size of it, and its mean without a mixed cost (percent)."""
    sizes = errors.assign(size=errors["error_percent"].abs())
    table = sizes.groupby("region").agg(
        points=("point", "size"),
        mean_percent=("error_percent", "mean"),
        median_size_percent=("size", "median"),
        largest_percent=("size", "max"),
        plain_sum_mean_percent=("plain_sum_percent", "mean"),
    )
    return table.reset_index()


def request_overhead(kept: list[Measurement]) -> RequestOverhead:
    """The client's time to the first token less the engine's, against prompt length (Theil-Sen line).

    Zero where the server has no histogram of its own: prefills were then timed by the client and hold it already.
    """
    timed = [m for m in kept if m.basis == "server"]
    tokens = np.array([m.chunk_tokens + m.context_tokens for m in timed], dtype=float)
    seconds = np.array([m.client_s - m.server_s for m in timed])
    apart = tokens[:, None] > tokens[None, :]
    if not apart.any():
        return RequestOverhead(0.0, 0.0)
    slopes = (seconds[:, None] - seconds[None, :])[apart] / (tokens[:, None] - tokens[None, :])[apart]
    slope = max(0.0, float(np.median(slopes)))
    return RequestOverhead(max(0.0, float(np.median(seconds - slope * tokens))), slope)


class LinesOfLists(yaml.SafeDumper):
    """Lists on one line: a table stays readable."""


LinesOfLists.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


def profile_yaml(
    tables: Tables,
    mixed: MixedCost,
    domain: Domain,
    meta: dict[str, Any],
    kept: list[Measurement],
    errors: pd.DataFrame,
) -> str:
    """The profile as YAML, provenance and domain included."""
    sizes = errors["error_percent"].abs()
    days = sorted({m.at[:10] for m in kept})
    flags = meta["options"].get("flags") or "not stated"
    clock = (
        "the engine's histogram" if any(m.basis == "server" for m in kept) else "the client (the API's time included)"
    )
    profile = {
        "name": domain.profile,
        "gpu": meta["gpu"],
        "model": meta["shape"],
        "deployment": {"weight_dtype": meta.get("weight_dtype", "fp16")},
        "layout": f"{meta['model']}/{meta['cache_dtype']}/block{meta['block_size']}",
        "kv_tokens": (meta["kv_blocks"] - 1) * meta["block_size"],
        "engine": {k: meta[k] for k in ("max_num_batched_tokens", "max_num_seqs", "max_model_len")},
        "price": {"usd_per_hour": meta["options"]["price_per_hour"], "source": "as stated when it was measured"},
        "latency": {
            "kind": "iteration",
            "overhead_ms": 0,
            "square_token_ms": _rounded(tables.square_token_s * 1e3),
            **_mixed_fields(mixed),
            "decode": {
                "batch": list(tables.decode_batches),
                "context": list(tables.decode_contexts),
                "ms": [[_rounded(1e3 * value) for value in row] for row in tables.decode_s],
            },
            "prefill": {
                "tokens": list(tables.prefill_tokens),
                "context": list(tables.prefill_contexts),
                "ms": [[_rounded(1e3 * value) for value in row] for row in tables.prefill_s],
            },
        },
        "domain": {"measured": asdict(domain.measured), "extrapolate": "linear", "limit": asdict(domain.limit)},
        "provenance": {
            "source": f"measured on {meta['gpu']} through the server's public API by gsim.calibration",
            "basis": f"measured: whole iterations; decodes by token arrivals, prefills by {clock}; "
            f"{len(kept)} repeats, {tables.continued} grid cells continued from their neighbours, "
            f"{tables.smoothed} levelled; server flags: {flags}",
            "engine_version": f"vLLM {meta['version']}",
            "date": days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
            "licence": "Apache-2.0",
            "uncertainty": f"error on repeats and points that the fit did not see: median {sizes.median():.1f} %, "
            f"95th percentile {sizes.quantile(0.95):.1f} %",
        },
    }
    return yaml.dump(profile, Dumper=LinesOfLists, sort_keys=False, width=120, allow_unicode=True)


def _mixed_fields(mixed: MixedCost) -> dict[str, dict[str, float]]:
    """Of the profile; nothing where parts add up."""
    if not mixed:
        return {}
    return {"mixed": {"kv_factor": _rounded(mixed.kv_factor), "iteration_ms": _rounded(1e3 * mixed.iteration_s)}}


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
