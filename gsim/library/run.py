"""One run, from a call to its tables: ``gsim.simulate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError
from gsim.inspect.explain import tell
from gsim.inspect.missed import missed
from gsim.inspect.run_page import leave_page
from gsim.inspect.story import followed, stories
from gsim.inspect.timeline import sampled, timeline_figure, write_timeline
from gsim.library.extensions import known_extensions
from gsim.library.given import Given
from gsim.report.outcome import Outcome
from gsim.run.cell import Finished, finish
from gsim.run.settings import read_seeds
from gsim.study.grid import single_cell
from gsim.study.results import CellResult, cell_result, instance_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Run:
    """A run that has ended: what was asked, when it was answered, and why. ``print`` it for a summary."""

    finished: Finished

    @property
    def seed(self) -> int:
        """The seed of everything random in it."""
        return self.finished.seed

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration with all defaults, as plain values."""
        return self.finished.settings.plain()

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per request (columns: see the reference of results files)."""
        frame: pd.DataFrame = self.finished.rows.to_pandas()
        return frame

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """One row per session of several requests; ``missed`` counts its requests that were not in time."""
        import pandas as pd

        return pd.DataFrame(self.finished.result.sessions)

    @property
    def summary(self) -> dict[str, float]:
        """The run in numbers, by the names of the columns of ``runs.csv``."""
        return dict(self.finished.summary["metrics"])

    @cached_property
    def instances(self) -> pd.DataFrame:
        """One row per instance: its requests, their share, its utilisation, its preemptions."""
        import pandas as pd

        rows = instance_rows("", [self._result])
        return pd.DataFrame(rows).drop(columns=["experiment", "router", "policy"])

    @cached_property
    def misses(self) -> pd.DataFrame:
        """One row per counted request that was not good: its ``cause`` (``gsim.metrics.misses``), ``late_s``, instance.

        ``run.misses.groupby(["instance", "cause"]).size()`` is the breakdown.
        """
        return missed(self.finished)

    def explain(self, request_id: int) -> str:
        """One request's story: what the router saw and chose, what happened, and why it was late.

        The run is simulated once more with every decision logged, and kept. Raises ``ConfigError`` for an id that
        there is not.
        """
        result, told = self._followed
        if request_id not in told:
            raise ConfigError(f"request {request_id}: there is none; the requests are 0 to {len(told) - 1}")
        return tell(told[request_id], result)

    def timeline(self, path: str | Path | None = None) -> Figure:
        """Batch, waiting requests and KV usage of every instance over time.

        With a ``path`` also a file of every request's phases that opens in Perfetto. Simulated once more, sampled.
        """
        result = sampled(self.finished.settings, self.seed)
        if path is not None:
            write_timeline(result, Path(path))
        return timeline_figure(result)

    def page(self, path: str | Path, title: str | None = None) -> Path:
        """Write the run as one HTML file that opens anywhere: attainment by class, who missed and why, every instance
        over time, the stories of the worst. Simulated once more, logged and sampled.
        """
        settings = self.finished.settings
        router = settings.choices["router"].name
        leave_page(settings, self.seed, title or f"{router}, seed {self.seed}", "", Path(path))
        return Path(path)

    def __str__(self) -> str:
        return str(Outcome({"name": "run"}, [self._result]))

    def __repr__(self) -> str:
        router = self.finished.settings.choices["router"].name
        counted = self.summary
        return (
            f"<Run of {router}, seed {self.seed}: {counted['requests']:.0f} requests, "
            f"{counted['attainment']:.1%} in time, {counted['goodput_rps']:.3g} requests/s good>"
        )

    @cached_property
    def _result(self) -> CellResult:
        cell = single_cell(self.finished.settings, (self.seed,))
        return cell_result(cell, [self.finished.summary])

    @cached_property
    def _followed(self) -> Any:
        result = followed(self.finished.settings, self.seed)
        return result, stories(result)


def simulate(
    values: Mapping[str, Any] | None = None,
    *,
    pool: Any = None,
    trace: Any = None,
    slo: Any = None,
    router: Any = None,
    seed: int = 0,
    **further: Any,
) -> Run:
    """Simulate one run and return it; nothing is printed or written.

    ``pool``, ``trace``, ``slo``, ``router`` and every other group (``predictor``, ``rectifier``, ``engine`` ...) are an
    option's name, a mapping of its fields (``trace={"rate_per_s": 60}``; with ``"name"`` another option), or an object:

    - a policy: any object with the methods of its protocol (``gsim.core``); every run gets a copy;
    - ``pool``: a ``Profile``, or a list of profiles and names of profiles;
    - ``trace``: a DataFrame or a list of mappings (columns ``arrival_s``, ``prompt_tokens``, ``output_tokens`` and, if
      there are such, ``session``, ``task``, ``slo_s``, ``session_slo_s``), or a list of ``Job`` or ``Session``.

    What is None has its default: the paper's pool and trace, 6 s for every request, ``goodserve``. Top-level values
    (``warmup_s``, ``until_s`` ...) are named as on the command line; ``values`` takes any name, also of a single field
    (``{"trace.rate_per_s": 60}``). Policies in ``./extensions`` are known. Equal calls give equal results, and those of
    the command line with this seed. Raises ``ConfigError`` for what cannot be simulated.
    """
    known_extensions()
    groups = {"pool": pool, "trace": trace, "slo": slo, "router": router}
    said = {name: value for name, value in groups.items() if value is not None}
    settings = Given().but(values or {}).but({**said, **further}).settings()
    return Run(finish(settings, read_seeds([seed])[0]))
