"""A few numbers of each run, kept by content: a study that is stopped goes on where it was, and once a policy has been
edited only its runs are simulated again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsim.run.cell import Finished, finish
from gsim.run.key import digest_of, key_of
from gsim.run.settings import Settings
from gsim.run.shelf import Shelf
from gsim.study.kept import Kept

#: What begins the name of one task class's attainment.
OF_CLASS = "attainment of "


@dataclass(frozen=True)
class RunNumbers:
    """Numbers of runs: from ``folder`` where they are there (None: nothing is kept), else simulated.

    ``attainment``, ``goodput_rps``, ``session_attainment`` as everywhere; of the requests that count:
    ``attainment of CLASS`` and the worst of these, median and longest latency, and the share that was not served.
    """

    folder: Path | None

    def of(self, settings: Settings, seed: int, shelf: Shelf | None = None) -> dict[str, float]:
        """Those of one run; ``shelf`` is where runs of other policies find the same sessions."""
        kept = Kept(self.folder, "run")
        key = digest_of(key_of(settings.basis(), seed), settings.code(__name__))
        found = kept.get(key)
        if found is None:
            found = _numbers(finish(settings, seed, shelf))
            kept.put(key, found)
        return found


def _numbers(done: Finished) -> dict[str, float]:
    told = done.summary["metrics"]
    rows = done.rows.to_pandas()
    rows = rows[rows["counted"]]
    classes = rows.groupby("task", observed=True)["good"].mean()
    return {
        "attainment": told["attainment"],
        "goodput_rps": told["goodput_rps"],
        "session_attainment": told.get("session_attainment", float("nan")),
        "worst_class_attainment": float(classes.min()),
        "p50_e2e_s": float(rows["e2e_s"].median()),
        "longest_e2e_s": float(rows["e2e_s"].max()),
        "not_served": float((rows["status"] != "finished").mean()),
    } | {f"{OF_CLASS}{task}": float(share) for task, share in classes.items()}
