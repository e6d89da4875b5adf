"""Public kernel tables, read in place: what one operator takes on one card, by shape.

The tables are those of ``aiconfigurator-core`` 0.12.0 (NVIDIA, Apache-2.0; ``pip install gsim[tables]``, or ``tables=``
an unpacked wheel). They are found without importing the package: only its parquet files are read. Two rules clean them,
because some cells are warm-up or another kernel: a larger problem bounds a smaller one, and quantised weights are never
slower than 16-bit ones.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsim.core.errors import ProfileError
from gsim.latency.cards import Card
from gsim.latency.deployment import Deployment

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

PACKAGE = "aiconfigurator_core"
#: Card -> the folder of its tables, and whose silicon it really is where no card of that name was timed.
SYSTEMS = {
    "A100-80G": ("a100_sxm", ""),
    "A800-80G": ("a100_sxm", "A100-80G"),
    "H100-80G": ("h100_sxm", ""),
    "H800-80G": ("h100_sxm", "H100-80G"),
    "H200-141G": ("h200_sxm", ""),
    "B200-180G": ("b200_sxm", ""),
    "L40S": ("l40s", ""),
    "RTXPRO6000": ("rtx_pro_6000_server", ""),
}
_GEMM = {"fp16": "bfloat16", "bf16": "bfloat16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4"}
_MOE = {**_GEMM, "int4": "int4_wo", "mxfp4": "w4a16_mxfp4"}


def tables_root(folder: str | None = None) -> Path:
    """The folder ``systems`` of the tables; raises ``ProfileError`` that says what to install."""
    if folder is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ProfileError(
                "the public kernel tables are not installed: pip install 'gsim[tables]' (82 MB), or give "
                "tables=FOLDER with an unpacked aiconfigurator-core wheel"
            )
        return Path(next(iter(spec.submodule_search_locations))) / "systems"
    for root in (Path(folder), Path(folder) / "systems", Path(folder) / PACKAGE / "systems"):
        if (root / "data").is_dir():
            return root
    raise ProfileError(f"tables: {folder} holds no {PACKAGE}/systems/data")


@dataclass
class KernelTables:
    """The operators of one card, milliseconds in the files, seconds here."""

    card: Card
    root: Path
    substitutions: list[str] = field(default_factory=list)
    """What stands for what, for the provenance."""
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.card.name not in SYSTEMS:
            raise ProfileError(
                f"there are no kernel tables for {self.card.name}; there are some for: {', '.join(SYSTEMS)}; "
                "kind=roofline estimates from the card's data sheet"
            )
        system, silicon = SYSTEMS[self.card.name]
        self.folder = self.root / "data" / system
        if not self.folder.is_dir():
            raise ProfileError(f"tables: {self.folder}: no such folder")
        if silicon:
            self.substitutions.append(f"kernels of the {silicon}, the same silicon but for NVLink")
        self._gemms: dict[str, tuple[tuple[Floats, Floats, Floats], Floats]] = {}

    def frame(self, operator: str, source: str, file: str) -> pd.DataFrame:
        """The rows of the newest version of a file."""
        import pandas as pd

        found = sorted((self.folder / operator / source).glob(f"*/{file}"), key=lambda path: _version(path.parent.name))
        if not found:
            raise ProfileError(f"tables: {self.folder.name} has no {operator}/{source}/*/{file}")
        self.versions[f"{operator}/{source}"] = found[-1].parent.name
        return pd.read_parquet(found[-1])

    # ------------------------------------------------------------------------------------------------------ linear
    def gemm_s(self, tokens: Floats, outputs: int, inputs: int, dtype: str) -> Floats:
        """A matrix product of ``tokens`` rows: log-log between the shapes that were timed."""
        axes, table = self._gemm(_GEMM.get(dtype, dtype))
        at = [np.log(tokens), np.full(len(tokens), np.log(outputs)), np.full(len(tokens), np.log(inputs))]
        time_s: Floats = np.exp(_interpolate(axes, table, at))
        return time_s

    def _gemm(self, dtype: str) -> tuple[tuple[Floats, Floats, Floats], Floats]:
        if dtype not in self._gemms:
            frame = self.frame("gemm", "vllm", "gemm_perf.parquet")
            known = sorted(set(frame.gemm_dtype))
            if dtype not in known:
                raise ProfileError(
                    f"tables: {self.folder.name} has no matrix products in {dtype}; there are: {', '.join(known)}"
                )
            axes, table = _cube(frame[frame.gemm_dtype == dtype])
            if dtype != "bfloat16":
                others, wide = self._gemm("bfloat16")
                points = np.meshgrid(*axes, indexing="ij")
                table = np.minimum(table, _interpolate(others, wide, [p.ravel() for p in points]).reshape(table.shape))
            self._gemms[dtype] = axes, table
        return self._gemms[dtype]

    # --------------------------------------------------------------------------------------------------- attention
    def decode_attention_s(self, deployment: Deployment, batches: Floats, contexts: Floats, window: int) -> Floats:
        """One layer's decode attention: [batches, contexts]."""
        kv_heads = deployment.kv_heads_per_card
        frame = self._attention(deployment, "generation_attention_perf.parquet", kv_heads, window)
        frame = frame.assign(context=frame.step + 1)
        return self._by_heads(frame, deployment, kv_heads, ("batch_size", "context"), (batches, contexts))

    def prefill_attention_s(self, deployment: Deployment, tokens: Floats, window: int) -> Floats:
        """One layer's attention of a whole prompt."""
        kv_heads = deployment.kv_heads_per_card
        frame = self._attention(deployment, "context_attention_perf.parquet", kv_heads, window)
        frame = frame[frame.batch_size == 1]
        one = np.ones(1)
        whole: Floats = self._by_heads(frame, deployment, kv_heads, ("batch_size", "isl"), (one, tokens))[0]
        return whole

    def _attention(self, deployment: Deployment, file: str, kv_heads: int, window: int) -> pd.DataFrame:
        frame = self.frame("attention", "vllm", file)
        dtype = "fp8" if deployment.kv_dtype == "fp8" else "bfloat16"
        frame = frame[(frame.head_dim == deployment.model.head_dim) & (frame.kv_cache_dtype == dtype)]
        frame = frame[frame.num_key_value_heads == kv_heads]
        if "window_size" in frame.columns:
            frame = frame[frame.window_size == window]
        elif window:
            frame = frame[:0]
        if frame.empty:
            what = f"head size {deployment.model.head_dim}, {kv_heads} KV heads, {dtype} cache, window {window}"
            raise ProfileError(f"tables: {self.folder.name}/{file}: no attention with {what}")
        return frame

    def _by_heads(
        self, frame: pd.DataFrame, deployment: Deployment, kv_heads: int, by: tuple[str, str], at: tuple[Floats, Floats]
    ) -> Floats:
        """Interpolated in the two sizes for the neighbouring numbers of heads, then between those."""
        heads = deployment.model.heads // deployment.tp
        known = np.array(sorted(h for h in frame.num_heads.unique() if h >= kv_heads))
        if not len(known) or not known[0] <= heads <= known[-1]:
            raise ProfileError(
                f"tables: {self.folder.name}: no attention with {heads} heads; there are {known.tolist()}"
            )
        j = min(int(np.searchsorted(known, heads)), len(known) - 1)
        pair = [known[j]] if known[j] == heads else [known[j - 1], known[j]]
        if len(pair) > 1:
            self.substitutions.append(f"attention of {heads} heads between {pair[0]} and {pair[1]}")
        tables = []
        for number in pair:
            grid = frame[frame.num_heads == number].pivot_table(index=by[0], columns=by[1], values="latency")
            axes = tuple(np.log(axis.to_numpy(dtype=np.float64)) for axis in (grid.index, grid.columns))
            filled = np.log(_filled(grid.to_numpy() * 1e-3, axes))
            points = np.meshgrid(np.log(at[0]), np.log(at[1]), indexing="ij")
            tables.append(np.exp(_interpolate(axes, filled, [p.ravel() for p in points])).reshape(points[0].shape))
        if len(pair) == 1:
            alone: Floats = tables[0]
            return alone
        part = (heads - pair[0]) / (pair[1] - pair[0])
        between: Floats = (1.0 - part) * tables[0] + part * tables[1]
        return between

    # ----------------------------------------------------------------------------------------- experts, all-reduce
    def experts_s(self, deployment: Deployment, tokens: Floats) -> Floats:
        """One layer of routed experts, drawn by the tables' power law (or alike, where only that was timed)."""
        experts, model = deployment.model.experts, deployment.model
        assert experts is not None
        frame = self.frame("moe", "vllm", "moe_perf.parquet")
        dtype = _MOE.get(deployment.moe_dtype, deployment.moe_dtype)
        shapes = frame[["hidden_size", "inter_size", "topk", "num_experts", "moe_dtype"]].drop_duplicates()
        rows = frame[
            (frame.hidden_size == model.hidden)
            & (frame.inter_size == experts.width)
            & (frame.topk == experts.active)
            & (frame.num_experts == experts.count)
            & (frame.moe_dtype == dtype)
            & (frame.moe_tp_size == deployment.tp)
            & (frame.moe_ep_size == 1)
        ]
        if rows.empty:
            same = shapes[(shapes.hidden_size == model.hidden) & (shapes.num_experts == experts.count)]
            known = same.to_dict("records") or sorted(set(shapes.num_experts))
            raise ProfileError(
                f"tables: {self.folder.name} has no experts of hidden {model.hidden}, width {experts.width}, "
                f"{experts.active} of {experts.count}, {dtype}, tp {deployment.tp}; near it: {known}"
            )
        laws = [law for law in ("power_law_1.01", "power_law_1.2", "balanced") if law in set(rows.distribution)]
        table = rows[rows.distribution == laws[0]].groupby("num_tokens").latency.min()
        self.substitutions.append(f"experts drawn by {laws[0]}")
        seconds = np.minimum.accumulate(table.to_numpy()[::-1])[::-1] * 1e-3
        return _line(table.index.to_numpy(dtype=np.float64), seconds, tokens)

    def all_reduce_s(self, deployment: Deployment, tokens: Floats) -> Floats:
        """One all-reduce of hidden states: the faster of vLLM's own and NCCL's; sizes in the files count elements."""
        own = self.frame("comm", "vllm", "custom_allreduce_perf.parquet")
        own = own[(own.num_gpus == deployment.tp) & own.kernel_source.str.contains("graph")]
        nccl = self.frame("comm", "nccl", "nccl_perf.parquet")
        nccl = nccl[(nccl.num_gpus == deployment.tp) & (nccl.op_name == "all_reduce") & (nccl.nccl_dtype == "half")]
        size = tokens * deployment.model.hidden
        times = []
        for rows in (own, nccl):
            if len(rows):
                table = rows.groupby("message_size").latency.min()
                times.append(_line(table.index.to_numpy(dtype=np.float64), table.to_numpy() * 1e-3, size))
        if not times:
            raise ProfileError(f"tables: {self.folder.name} has no all-reduce of {deployment.tp} cards")
        time_s: Floats = np.minimum.reduce(times)
        silicon = SYSTEMS[self.card.name][1]
        if silicon:
            from gsim.latency.cards import CARDS

            ratio = CARDS[silicon].link_gb_per_s / self.card.link_gb_per_s
            self.substitutions.append(f"what an all-reduce takes beyond its latency times {ratio:g} (NVLink)")
            least = float(min(t.min() for t in times))
            time_s = least + (time_s - least) * ratio
        return time_s


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in text.split("."))


def _line(axis: Floats, values: Floats, at: Floats) -> Floats:
    """Log-log interpolation on one axis, with the last slope beyond it."""
    time_s: Floats = np.exp(_interpolate((np.log(axis),), np.log(values), [np.log(at)]))
    return time_s


def _cube(frame: pd.DataFrame) -> tuple[tuple[Floats, Floats, Floats], Floats]:
    """Logarithm of seconds over those of m, n and k, with holes filled and larger problems bounding smaller."""
    table = frame.groupby(["m", "n", "k"]).latency.min()
    axes = [np.array(sorted(set(table.index.get_level_values(i))), dtype=np.float64) for i in range(3)]
    cube = np.full([len(axis) for axis in axes], np.nan)
    places = tuple(np.searchsorted(axis, table.index.get_level_values(i)) for i, axis in enumerate(axes))
    cube[places] = table.to_numpy() * 1e-3
    for axis in range(3):
        cube = np.apply_along_axis(_fill_line, axis, cube, np.log(axes[axis]))
    for axis in (0, 1, 2):
        cube = np.flip(np.minimum.accumulate(np.flip(cube, axis), axis), axis)
    m, n, k = (np.log(axis) for axis in axes)
    return (m, n, k), np.log(cube)


def _fill_line(line: Floats, axis: Floats) -> Floats:
    """Holes between what was timed in log-log; beyond it in proportion to the axis, before it constant."""
    known = np.flatnonzero(~np.isnan(line))
    if len(known) < 2 or len(known) == len(line):
        return line
    filled: Floats = np.exp(np.interp(axis, axis[known], np.log(line[known])) + np.maximum(axis - axis[known[-1]], 0.0))
    return filled


def _filled(grid: Floats, axes: tuple[Floats, ...]) -> Floats:
    """A grid whose holes (what did not fit the card's memory) are filled line by line."""
    for axis in (1, 0):
        grid = np.apply_along_axis(_fill_line, axis, grid, axes[axis])
    return grid


def _interpolate(axes: tuple[Any, ...], table: Floats, at: list[Floats]) -> Floats:
    """Linear on a grid (of logarithms), linear beyond it too."""
    from scipy.interpolate import RegularGridInterpolator

    if any(len(axis) == 1 for axis in axes):
        keep = [i for i, axis in enumerate(axes) if len(axis) > 1]
        return _interpolate(tuple(axes[i] for i in keep), table.squeeze(), [at[i] for i in keep])
    found = RegularGridInterpolator(axes, table, bounds_error=False, fill_value=None)(np.stack(at, axis=-1))
    result: Floats = np.asarray(found, dtype=np.float64)
    return result
