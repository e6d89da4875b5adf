"""From a name or a path to a profile."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsim.core.errors import ProfileError
from gsim.core.protocols import LatencyModel
from gsim.latency.constant import ConstantTime
from gsim.latency.deployment import KV_BYTES, MEMORY_UTILISATION, WEIGHT_BYTES, Deployment
from gsim.latency.domain import Domain, Extent
from gsim.latency.fields import Fields, read_yaml
from gsim.latency.grid import IterationGrid
from gsim.latency.mixed import MixedCost
from gsim.latency.models import Experts, ModelShape
from gsim.latency.models.find import model_shape
from gsim.latency.opened import profile_files
from gsim.latency.operators.folder import is_operator_folder, operator_profile
from gsim.latency.profile import Profile, Provenance
from gsim.latency.roofline import SoftRoofline
from gsim.latency.vidur.folder import is_vidur_folder, vidur_profile

_PACKAGE = Path(__file__).resolve().parents[1]


def search_path() -> list[Path]:
    """Folders where profiles are looked up by name: the user's own, the checkout's, the wheel's."""
    folders = (Path("profiles"), _PACKAGE.parent / "profiles", _PACKAGE / "_data" / "profiles")
    return [folder for folder in folders if folder.is_dir()]


def profile_names() -> list[str]:
    """The names of all profiles that can be loaded by name, sorted."""
    return sorted({file.stem for folder in search_path() for file in folder.glob("*.yaml")})


def load_profile(name_or_path: str | Path) -> Profile:
    """The profile of that name, or in that file or folder.

    Names are looked up in ``./profiles`` first. Raises ``ProfileError`` that names the file, field, value and what is
    allowed; an unknown name gets the list of what exists, close matches first. The same files give the same object, so
    instances share its tables.
    """
    path = _locate(name_or_path)
    files = profile_files(path)
    try:
        return _load(path, tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files))
    except ProfileError as error:
        # What is wrong with values together is found where no file is known any more.
        raise error if str(path) in str(error) else ProfileError(f"{path}: {error}") from None


def _locate(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or "/" in text or path.is_dir():
        if not path.exists():
            raise ProfileError(f"no profile at {text}: no such file or folder")
        return path.resolve()
    for folder in search_path():
        file = folder / f"{text.lower()}.yaml"
        if file.is_file():
            return file.resolve()
    names = profile_names()
    near = difflib.get_close_matches(text.lower(), names, n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise ProfileError(f"unknown profile '{text}'{hint} There are: {', '.join(names) or 'none'}")


@functools.lru_cache(maxsize=256)
def _load(path: Path, _stamps: tuple[tuple[str, int, int], ...]) -> Profile:
    if path.is_dir():
        if is_vidur_folder(path):
            return vidur_profile(path)
        if not is_operator_folder(path):
            found = ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"
            raise ProfileError(
                f"{path}: a profile folder holds meta.yaml, dense.csv and attention.csv, or Vidur's "
                f"mlp.csv and attention.csv; it holds {found}"
            )
        return operator_profile(path)
    return _profile_file(path)


def _profile_file(path: Path) -> Profile:
    fields = read_yaml(path)
    name = fields.text("name", path.stem)
    deployment = _deployment(fields)
    domain = _domain(fields, name)
    engine = fields.mapping("engine")
    price = fields.mapping("price")
    kv_tokens = _kv_tokens(fields, deployment)
    longest = min(deployment.model.max_position, kv_tokens, domain.limit.context_tokens)
    profile = Profile(
        name=name,
        deployment=deployment,
        latency=_latency(fields.mapping("latency"), domain),
        kv_tokens=kv_tokens,
        max_num_batched_tokens=engine.integer("max_num_batched_tokens"),
        max_num_seqs=engine.integer("max_num_seqs"),
        max_model_len=engine.integer("max_model_len", longest),
        price_per_hour=price.number("usd_per_hour") * deployment.cards,
        price_source=price.text("source"),
        layout=fields.text("layout") if "layout" in fields else "",
        provenance=_provenance(fields.mapping("provenance")),
        domain=domain,
    )
    for read in (engine, price, fields):
        read.done()
    return profile


def _deployment(fields: Fields) -> Deployment:
    """Card, model and how it is spread: one card and 16 bit where nothing is said."""
    model, dtype = _model(fields)
    spread = fields.mapping("deployment") if "deployment" in fields else Fields(fields.path, {}, "deployment.")
    try:
        deployment = Deployment(
            model,
            fields.text("gpu"),
            **{key: spread.integer(key, 1) for key in ("tp", "pp", "ep")},
            weight_dtype=spread.text("weight_dtype", dtype, tuple(WEIGHT_BYTES)),
            kv_dtype=spread.text("kv_dtype", "fp16", tuple(KV_BYTES)) if "kv_dtype" in spread else "",
            moe_dtype=spread.text("moe_dtype", "fp16", tuple(WEIGHT_BYTES)) if "moe_dtype" in spread else "",
            engine_version=spread.text("engine_version", "-") if "engine_version" in spread else "",
        )
    except ProfileError as error:
        if str(fields.path) in str(error):
            raise
        raise fields.error("deployment", str(error)) from None
    spread.done()
    return deployment


def _model(fields: Fields) -> tuple[ModelShape, str]:
    """A model by name, by the path of its config.json, or a shape that states its numbers; and its weights' dtype."""
    try:
        if fields.is_mapping("model"):
            return _own_shape(fields.mapping("model"))
        return model_shape(fields.text("model"), fields.path.parent), "fp16"
    except ProfileError as error:
        if str(fields.path) in str(error):
            raise
        raise fields.error("model", str(error)) from None


def _own_shape(own: Fields) -> tuple[ModelShape, str]:
    needed = ("layers", "hidden", "heads", "kv_heads", "head_dim", "max_position")
    optional = ("intermediate", "vocabulary", "window", "windowed_layers")
    # What measured profiles said before weights had a dtype of their own.
    dtypes = {1: "fp8", 2: "fp16", 4: "fp32"}
    width = own.integer("bytes_per_value", 2)
    if width not in dtypes:
        raise own.error("bytes_per_value", f"must be 1, 2 or 4, not {width}")
    values: dict[str, Any] = {key: own.integer(key) for key in needed}
    values.update({key: own.integer(key, 0, low=0) for key in optional})
    values.update({key: own.flag(key) for key in ("tied", "qk_norm", "qkv_bias", "output_bias")})
    if "experts" in own:
        given = own.mapping("experts")
        counts: dict[str, Any] = {key: given.integer(key) for key in ("count", "active", "width")}
        counts.update({key: given.integer(key, 0, low=0) for key in ("shared_width", "dense_layers")})
        values["experts"] = Experts(**counts, biased=given.flag("biased"))
        given.done()
    parameters = own.integer("parameters", 0, low=0)
    shape = ModelShape(name=own.text("name"), norms=own.integer("norms", 2), stated_parameters=parameters, **values)
    own.done()
    return shape, dtypes[width]


def _kv_tokens(fields: Fields, deployment: Deployment) -> int:
    """KV capacity: as stated, checked against the cards' memory, or what the weights leave of it.

    A server that was measured says its capacity itself: then the card's memory need not be stated.
    """
    if "memory_gb" not in fields and "kv_tokens" in fields:
        return fields.integer("kv_tokens")
    memory_gb = fields.number("memory_gb", above=True)
    utilisation = fields.number("memory_utilisation", MEMORY_UTILISATION, above=True)
    if utilisation > 1.0:
        raise fields.error("memory_utilisation", f"must be a share of the memory, at most 1, not {utilisation:g}")
    reserved_gb = fields.number("reserved_gb") if "reserved_gb" in fields else None
    room_tokens = deployment.kv_tokens(memory_gb, utilisation, reserved_gb)
    if room_tokens < 1:
        raise fields.error("memory_gb", deployment.too_large(memory_gb, utilisation))
    kv_tokens = fields.integer("kv_tokens", room_tokens)
    most = deployment.most_kv_tokens(memory_gb)
    if kv_tokens > most:
        raise fields.error(
            "kv_tokens", f"{kv_tokens} tokens of KV do not fit beside the weights; at most {most} on {memory_gb:g} GB"
        )
    return kv_tokens


def _extent(fields: Fields, default: Extent | None = None) -> Extent:
    extent = Extent(
        fields.integer("sequences", default.sequences if default else None),
        fields.integer("batch_tokens", default.batch_tokens if default else None),
        fields.integer("context_tokens", default.context_tokens if default else None),
    )
    fields.done()
    return extent


def _domain(fields: Fields, name: str) -> Domain:
    domain = fields.mapping("domain")
    measured = _extent(domain.mapping("measured"))
    kind = domain.text("extrapolate", "none", ("none", "linear"))
    if kind == "none" and "limit" in domain:
        raise domain.error("limit", "needs extrapolate: linear")
    limit = _extent(domain.mapping("limit"), measured) if kind == "linear" else measured
    domain.done()
    return Domain(measured, limit, name)


def _provenance(fields: Fields) -> Provenance:
    provenance = Provenance(
        **{key: fields.text(key) for key in ("source", "basis", "engine_version", "date", "licence", "uncertainty")}
    )
    fields.done()
    return provenance


def _latency(fields: Fields, domain: Domain) -> LatencyModel:
    kind = fields.text("kind", allowed=("parametric", "iteration", "constant"))
    try:
        latency = _KINDS[kind](fields, domain)
    except ProfileError as error:
        if str(fields.path) in str(error):
            raise
        raise ProfileError(f"{fields.path}: {error}") from None
    fields.done()
    return latency


def _constant(fields: Fields, _domain: Domain) -> LatencyModel:
    return ConstantTime(fields.number("iteration_ms", above=True) / 1e3)


def _mixed(fields: Fields) -> MixedCost:
    if "mixed" not in fields:
        return MixedCost()
    given = fields.mapping("mixed")
    cost = MixedCost(given.number("kv_factor", 1.0, low=1.0), given.number("iteration_ms", 0.0) / 1e3)
    given.done()
    return cost


def _parametric(fields: Fields, domain: Domain) -> LatencyModel:
    return SoftRoofline(
        domain=domain,
        weights_s=fields.number("weights_ms", above=True) / 1e3,
        token_s=fields.number("token_ms") / 1e3,
        sharpness=fields.number("sharpness", low=1.0),
        sequence_s=fields.number("sequence_ms") / 1e3,
        context_token_s=fields.number("context_token_ms") / 1e3,
        square_token_s=fields.number("square_token_ms") / 1e3,
        overhead_s=fields.number("overhead_ms") / 1e3,
        mixed=_mixed(fields),
    )


def _iteration(fields: Fields, domain: Domain) -> LatencyModel:
    decode, prefill = fields.mapping("decode"), fields.mapping("prefill")
    latency = IterationGrid(
        domain=domain,
        decode_batches=tuple(decode.integers("batch")),
        decode_contexts=tuple(decode.integers("context", low=0)),
        decode_s=_seconds(decode),
        prefill_tokens=tuple(prefill.integers("tokens")),
        prefill_contexts=tuple(prefill.integers("context", low=0)),
        prefill_s=_seconds(prefill),
        square_token_s=fields.number("square_token_ms") / 1e3,
        overhead_s=fields.number("overhead_ms") / 1e3,
        mixed=_mixed(fields),
    )
    decode.done()
    prefill.done()
    covered = latency.extent
    for name in ("sequences", "batch_tokens", "context_tokens"):
        stated, most = getattr(domain.measured, name), getattr(covered, name)
        if stated > most:
            raise ProfileError(
                f"domain.measured.{name} is {stated}, but the latency grid ends at {most}: give what was measured, and "
                f"how far to extrapolate as domain.limit.{name}"
            )
    return latency


def _seconds(fields: Fields) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(value / 1e3 for value in row) for row in fields.rows("ms"))


_KINDS: dict[str, Callable[[Fields, Domain], LatencyModel]] = {
    "constant": _constant,
    "parametric": _parametric,
    "iteration": _iteration,
}
