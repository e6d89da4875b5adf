"""Every shipped profile against every public measurement that is known of its card and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsim.core import Batch, Chunk, ProfileError, register
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd

    from gsim.latency import Profile

MEASUREMENTS = Path(__file__).resolve().parents[1] / "silicon" / "public_measurements.csv"
#: Silicon that differs in NVLink alone: on one card what holds for the one holds for the other.
_SAME = {"h800": "h100", "a800": "a100"}
#: Sample rows of one card that are not vLLM's: engine, card as the tables name it, model.
_BENCHED = ("trtllm", "h100_sxm", "meta-llama/Llama-3.1-8B-Instruct", "h100-llama-3.1-8b")


@register("study", "shipped_profiles")
@dataclass(frozen=True)
class ShippedProfilesStudy:
    """Iterations of the shipped profiles beside measured ones; a profile that nothing was measured of says so.

    Points are cited with engine and source; where a source states no context, an assumption stands beside it. Forty-two
    rows of TensorRT-LLM on one H100 come with the kernel tables and are replayed where these are installed.
    """

    tables: str | None = None
    """Folder of the tables; null: the installed package, if there is one."""

    def run(self, context: Context) -> Findings:
        """One row per point, then one per profile and source."""
        import pandas as pd

        from gsim.latency import load_profile
        from gsim.latency.load import profile_names

        points = pd.read_csv(MEASUREMENTS)
        benched, notes = self._benched(context.seeds[0])
        rows = []
        for name in profile_names():
            profile = load_profile(name)
            known = points[points.profile == _measured_name(profile)]
            for point in known.to_dict("records"):
                ours = 1e3 * _iteration_s(profile, point)
                percent = 100.0 * (ours / point["ms"] - 1.0)
                rows.append({**point, "profile": name, "simulated_ms": ours, "percent": percent})
            if benched is not None and _measured_name(profile) == _BENCHED[3]:
                rows += benched.assign(profile=name).to_dict("records")
        table = pd.DataFrame(rows)
        return Findings({"shipped_profiles": _by_profile(table, profile_names()), "shipped_points": table}, notes=notes)

    def _benched(self, seed: int) -> tuple[pd.DataFrame | None, list[str]]:
        """TPOT of TensorRT-LLM's rows, replayed in a closed loop."""
        import pandas as pd

        from gsim.latency import load_profile
        from gsim.latency.kernel_tables import tables_root
        from gsim.validation.silicon.closed_loop import closed_loop

        try:
            sample = pd.read_csv(tables_root(self.tables) / "silicon_sample.csv")
        except (ProfileError, OSError) as error:
            return None, [f"rows of TensorRT-LLM left out: {error}"]
        engine, system, model, name = _BENCHED
        kept = sample[(sample.backend == engine) & (sample.system == system) & (sample.model_path == model)]
        kept = kept[(kept.tp_size == 1) & (kept["mode"] == "agg")]
        profile = load_profile(name)
        rows = []
        for row in kept.to_dict("records"):
            _, tpot_s = closed_loop(profile, int(row["batch_size"]), int(row["isl"]), int(row["osl"]), seed)
            rows.append(
                {
                    "kind": "closed loop",
                    "batch": int(row["batch_size"]),
                    "tokens": int(row["isl"]),
                    "ms": row["silicon_tpot_ms"],
                    "engine": "TensorRT-LLM",
                    "source": "aiconfigurator-core, silicon_sample.csv: TPOT",
                    "simulated_ms": 1e3 * tpot_s,
                    "percent": 100.0 * (1e3 * tpot_s / row["silicon_tpot_ms"] - 1.0),
                }
            )
        return pd.DataFrame(rows), []


def _measured_name(profile: Profile) -> str:
    """The profile that a measurement of this card and model would be cited for."""
    card, _, model = profile.name.partition("-")
    return f"{_SAME.get(card, card)}-{model}" if profile.deployment.cards == 1 else profile.name


def _iteration_s(profile: Profile, point: Mapping[Any, Any]) -> float:
    batch, tokens = int(point["batch"]), int(point["tokens"])
    if point["kind"] == "prefill":
        return profile.latency.iteration_s(Batch((Chunk(tokens, 0),), 0, 0, 0))
    return profile.latency.iteration_s(Batch((), batch, batch * tokens, tokens))


def _by_profile(points: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Median error, median and largest absolute error by profile, engine and kind; ``unvalidated`` where none is."""
    import pandas as pd

    from gsim.latency import load_profile

    rows: list[dict[str, Any]] = []
    for name in names:
        mine = points[points.profile == name]
        stated = load_profile(name).provenance.uncertainty
        if mine.empty:
            rows.append({"profile": name, "engine": "unvalidated", "points": 0, "stated": stated})
        for (engine, kind), part in mine.groupby(["engine", "kind"], sort=False):
            size = part.percent.abs()
            rows.append(
                {
                    "profile": name,
                    "engine": engine,
                    "kind": kind,
                    "points": len(part),
                    "bias_percent": part.percent.median(),
                    "median_percent": size.median(),
                    "worst_percent": part.percent.iloc[int(size.argmax())],
                    "stated": stated,
                }
            )
    return pd.DataFrame(rows)
