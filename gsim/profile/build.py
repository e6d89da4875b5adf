"""A deployment's profile as an ordinary YAML file, with provenance, domain and stated uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from gsim.core.errors import ProfileError
from gsim.latency import Deployment, model_shape, shape_fields
from gsim.latency.cards import Card, card
from gsim.latency.compose import Composed, compose
from gsim.latency.kernel_tables import KernelTables, tables_root
from gsim.latency.models import ModelShape
from gsim.latency.models.catalogue import CATALOGUE
from gsim.profile.data_sheet import Estimate, estimate
from gsim.profile.engines import EngineTime, engine_time
from gsim.profile.flow import Flow

#: USD per hour of one card, order of magnitude of on-demand rentals in 2025, as in the shipped profiles.
PRICES = {
    "V100-32G": 0.5, "T4": 0.2, "L4": 0.45, "A10G": 0.6, "A30": 0.6, "A40": 0.4, "A100-80G": 1.5, "A800-80G": 1.5,
    "L20": 0.6, "L40S": 0.8, "H100-80G": 2.7, "H800-80G": 2.7, "H200-141G": 3.6, "B200-180G": 6.0, "RTX4090": 0.4,
    "RTXPRO6000": 1.8, "RTXA6000": 0.5, "MI300X": 3.0,
}  # fmt: skip
_SHORT = {"fp16": "", "bf16": ""}


@dataclass(frozen=True)
class BuildOptions:
    """What ``python -m gsim.profile build`` takes."""

    model: str
    """Catalogue name, or the path of a ``config.json``."""
    gpu: str
    tp: int = 1
    pp: int = 1
    ep: int = 1
    dtype: str = "bf16"
    """Of the weights."""
    kv_dtype: str = ""
    moe_dtype: str = ""
    kind: str = "tables"
    """``tables`` (public kernel tables) or ``roofline`` (the card's data sheet)."""
    engine: str = "vllm-0.21"
    """What the engine's loop adds to its kernels: ``vllm-0.21`` (0.2 ms), ``vllm-0.6`` (1 ms and 0.03 ms a sequence) or
    ``kernels`` (nothing)."""
    tables: str | None = None
    """Folder of the tables; None: the installed package."""
    name: str = ""
    price_per_hour: float | None = None
    """USD per hour of one card; None: an assumption by card."""


def build_profile(options: BuildOptions) -> tuple[str, str]:
    """Name and YAML of the profile; raises ``ProfileError`` that says what there is where there are no tables."""
    return profile_text(model_shape(options.model), options)


def profile_text(shape: ModelShape, options: BuildOptions) -> tuple[str, str]:
    """The same of a model by its shape, whatever ``options.model`` says."""
    sheet = card(options.gpu)
    deployment = Deployment(
        shape,
        sheet.name,
        tp=options.tp,
        pp=options.pp,
        ep=options.ep,
        weight_dtype=options.dtype,
        kv_dtype=options.kv_dtype,
        moe_dtype=options.moe_dtype,
        engine_version=options.engine,
    )
    kv_tokens = deployment.kv_tokens(sheet.memory_gb)
    if kv_tokens < 1:
        raise ProfileError(deployment.too_large(sheet.memory_gb))
    loop = engine_time(options.engine)
    name = options.name or default_name(deployment)
    longest = shape.max_position
    if options.kind == "tables":
        tables = KernelTables(sheet, tables_root(options.tables))
        latency, domain, provenance = _composed(tables, compose(tables, deployment, longest), deployment, loop)
    elif options.kind == "roofline":
        latency, domain, provenance = _estimated(estimate(deployment, sheet, loop), longest)
    else:
        raise ProfileError(f"kind must be tables or roofline, not '{options.kind}'")
    price = PRICES[sheet.name] if options.price_per_hour is None else options.price_per_hour
    said = "assumption: order of magnitude of on-demand single-card rentals in 2025"
    values = {
        "name": name,
        "gpu": sheet.name,
        "model": shape.name if CATALOGUE.get(shape.name) == shape else shape_fields(shape),
        "deployment": _spread(deployment),
        "memory_gb": sheet.memory_gb,
        "engine": _engine(sheet, domain["limit"]["sequences"]),
        "price": {"usd_per_hour": price, "source": said if options.price_per_hour is None else "as stated"},
        "latency": latency,
        "domain": domain,
        "provenance": {**provenance, "date": str(datetime.now(UTC).date())},
    }
    return name, yaml.dump(values, Dumper=Flow, sort_keys=False, width=120, allow_unicode=True)


def default_name(deployment: Deployment) -> str:
    """``h100-llama-3.1-70b-tp4-fp8``."""
    parts = [deployment.card.split("-")[0].lower(), deployment.model.name]
    if deployment.cards > 1:
        parts.append(f"tp{deployment.tp}")
    dtype = deployment.weight_dtype
    parts += [dtype] if dtype not in _SHORT else []
    parts += [deployment.moe_dtype] if deployment.moe_dtype != dtype else []
    return "-".join(parts)


def _spread(deployment: Deployment) -> dict[str, Any]:
    values: dict[str, Any] = {"tp": deployment.tp, "weight_dtype": deployment.weight_dtype}
    values["kv_dtype"] = deployment.kv_dtype
    values["engine_version"] = deployment.engine_version
    if deployment.moe_dtype != deployment.weight_dtype:
        values["moe_dtype"] = deployment.moe_dtype
    return values


def _engine(sheet: Card, sequences: int) -> dict[str, int]:
    return {
        "max_num_batched_tokens": sheet.max_num_batched_tokens,
        "max_num_seqs": min(sheet.max_num_seqs, sequences),
    }


def _composed(
    tables: KernelTables, found: Composed, deployment: Deployment, loop: EngineTime
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    latency = {
        "kind": "iteration",
        "overhead_ms": loop.overhead_s * 1e3,
        "square_token_ms": _rounded(found.square_token_s * 1e3),
        "decode": {
            "batch": list(found.batches),
            "context": list(found.contexts),
            "ms": [
                [_rounded(1e3 * (float(x) + n * loop.sequence_s)) for x in row]
                for n, row in zip(found.batches, found.decode_s, strict=True)
            ],
        },
        "prefill": {
            "tokens": list(found.tokens),
            "context": [0],
            "ms": [[_rounded(1e3 * float(x))] for x in found.prefill_s],
        },
    }
    measured = {"sequences": found.batches[-1], "batch_tokens": found.tokens[-1], "context_tokens": found.contexts[-1]}
    limit = {**measured, "sequences": 1024, "context_tokens": max(found.contexts[-1], deployment.model.max_position)}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(tables.versions.items()))
    substitutions = "; ".join(dict.fromkeys(tables.substitutions))
    provenance = {
        "source": "aiconfigurator-core 0.12.0 (NVIDIA), kernel tables",
        "basis": "derived: sum of measured kernels, log-log interpolation; a larger problem bounds a smaller one, "
        "quantised is never slower than 16 bit; element-wise kernels by bandwidth; "
        f"{loop.overhead_s * 1e3:g} ms per iteration and {loop.sequence_s * 1e3:g} ms per sequence of engine overhead "
        f"added ({loop.evidence})" + (f"; substituted: {substitutions}" if substitutions else ""),
        "engine_version": f"vLLM kernels ({versions})",
        "licence": "Apache-2.0",
        "uncertainty": uncertainty(deployment, tables.card),
    }
    return latency, {"measured": measured, "extrapolate": "linear", "limit": limit}, provenance


def uncertainty(deployment: Deployment, sheet: Card) -> str:
    """Median and 90th percentile of |TPOT error| that are aimed at by class; docs/profiles.md has what was found."""
    if deployment.cards > 1 and not sheet.link_gb_per_s:
        return "no claim without measured points: an all-reduce over PCIe depends on the host (3.6 times between two)"
    dtype = deployment.moe_dtype
    if deployment.model.experts is not None:
        if dtype == "fp8_block":
            return "TPOT 30 % median, 55 % p90: indicative; after three measured points 10-15 % and 30 %"
        if dtype in ("mxfp4", "nvfp4", "int4"):
            return "TPOT 15 % median, 40 % p90; after three measured points 10 % and 30 %"
        return "no claim without measured points: experts in 16 bit or fp8 have none"
    if dtype in ("nvfp4", "mxfp4", "int4"):
        return "TPOT 10 % median, 20 % p90; after three measured points 7 % and 18 %"
    return "TPOT 10 % median, 25 % p90; after three measured points 5-7 % and 17 %"


def _estimated(found: Estimate, longest: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    latency = {"kind": "parametric", **{key: _rounded(value) for key, value in found.coefficients_ms.items()}}
    measured = {"sequences": 256, "batch_tokens": 8192, "context_tokens": min(8192, longest)}
    limit = {"sequences": 1024, "batch_tokens": 16384, "context_tokens": longest}
    provenance = {
        "source": "data sheet of the card",
        "basis": f"estimated: roofline; {found.basis}",
        "engine_version": "none: no kernel was timed for this profile",
        "licence": "Apache-2.0",
        "uncertainty": found.uncertainty,
    }
    return latency, {"measured": measured, "extrapolate": "linear", "limit": limit}, provenance


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
