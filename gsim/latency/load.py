"""From a name or a path to a profile."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from pathlib import Path

from gsim.core.errors import ProfileError
from gsim.core.protocols import LatencyModel
from gsim.latency.constant import ConstantTime
from gsim.latency.domain import Domain, Extent
from gsim.latency.fields import Fields, read_yaml
from gsim.latency.grid import IterationGrid
from gsim.latency.models import ModelShape, model_shape
from gsim.latency.operator_folder import is_operator_folder, operator_profile
from gsim.latency.profile import Profile, Provenance
from gsim.latency.roofline import SoftRoofline
from gsim.latency.vidur import is_vidur_folder, vidur_profile

_PACKAGE = Path(__file__).resolve().parents[1]
#: What vLLM leaves to KV, by default, of a card's memory that the weights do not take (gpu_memory_utilization).
_MEMORY_UTILISATION = 0.9
#: Activations, CUDA graphs and context: what the reference tables of KV capacity leave free beside the weights.
_RESERVED_BYTES = 0.44e9


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
    allowed; an unknown name gets the list of what exists, close matches first. The same file gives the same object, so
    instances share its tables.
    """
    path = _locate(name_or_path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return _load(path, tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


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
    model = _model(fields)
    domain = _domain(fields, name)
    layout = fields.text("layout", f"{model.name}/fp16/block16/tp1")
    engine = fields.mapping("engine")
    price = fields.mapping("price")
    kv_tokens = _kv_tokens(fields, model)
    profile = Profile(
        name=name,
        gpu=fields.text("gpu"),
        model=model,
        latency=_latency(fields.mapping("latency"), domain),
        kv_tokens=kv_tokens,
        max_num_batched_tokens=engine.integer("max_num_batched_tokens"),
        max_num_seqs=engine.integer("max_num_seqs"),
        max_model_len=engine.integer("max_model_len", min(model.max_position, kv_tokens, domain.limit.context_tokens)),
        price_per_hour=price.number("usd_per_hour"),
        price_source=price.text("source"),
        layout=layout,
        provenance=_provenance(fields.mapping("provenance")),
        domain=domain,
    )
    for read in (engine, price, fields):
        read.done()
    return profile


def _model(fields: Fields) -> ModelShape:
    """A model of the catalogue by name, or a shape of its own that states its numbers."""
    if fields.is_mapping("model"):
        own = fields.mapping("model")
        shape = ModelShape(
            name=own.text("name"),
            bytes_per_value=own.integer("bytes_per_value", 2),
            **{
                key: own.integer(key)
                for key in ("layers", "hidden", "heads", "kv_heads", "head_dim", "parameters", "max_position")
            },
        )
        own.done()
        return shape
    try:
        return model_shape(fields.text("model"))
    except ProfileError as error:
        raise fields.error("model", str(error)) from None


def _kv_tokens(fields: Fields, model: ModelShape) -> int:
    """KV capacity: as stated, checked against the card's memory, or what the weights leave of it.

    A server that was measured says its capacity itself: then the card's memory need not be stated.
    """
    if "memory_gb" not in fields and "kv_tokens" in fields:
        return fields.integer("kv_tokens")
    memory_bytes = fields.number("memory_gb", above=True) * 1e9
    room_bytes = _MEMORY_UTILISATION * memory_bytes - model.weight_bytes - _RESERVED_BYTES
    room_tokens = int(room_bytes // model.kv_bytes_per_token)
    if room_tokens < 1:
        raise fields.error(
            "memory_gb",
            f"{model.name} does not fit: its weights take {model.weight_bytes / 1e9:.1f} GB of the card's "
            f"{memory_bytes / 1e9:g} GB, of which {_MEMORY_UTILISATION:.0%} may be used",
        )
    kv_tokens = fields.integer("kv_tokens", room_tokens)
    most = int((memory_bytes - model.weight_bytes) // model.kv_bytes_per_token)
    if kv_tokens > most:
        raise fields.error(
            "kv_tokens",
            f"{kv_tokens} tokens of KV do not fit beside the weights; at most {most} on {memory_bytes / 1e9:g} GB",
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
    )
    decode.done()
    prefill.done()
    return latency


def _seconds(fields: Fields) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(value / 1e3 for value in row) for row in fields.rows("ms"))


_KINDS: dict[str, Callable[[Fields, Domain], LatencyModel]] = {
    "constant": _constant,
    "parametric": _parametric,
    "iteration": _iteration,
}
