"""A sweep's results that nobody asked to keep: in memory, with the same tables as a results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError
from gsim.report.loading import Results
from gsim.report.outcome import Outcome
from gsim.study.grid import Grid
from gsim.study.results import instance_rows, paired_rows, request_runs, run_rows, with_head

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class ResultsInMemory(Results):
    """The results of a sweep."""

    outcome: Outcome
    made: Grid
    rows: Sequence[pa.Table]
    """The requests of every run, cell by cell and seed by seed."""

    @property
    def config(self) -> dict[str, Any]:
        """See ``Results``."""
        values: Mapping[str, Any] = self.outcome.values
        first = self.made.cells[0]
        return {**first.settings.plain(), **values, "seeds": list(first.seeds), "sweep": self.made.described()}

    @cached_property
    def runs(self) -> pd.DataFrame:
        """See ``Results``."""
        return _frame(run_rows(self.outcome.name, self.outcome.results))

    @cached_property
    def requests(self) -> pd.DataFrame:
        """See ``Results``."""
        import pyarrow as pa

        runs = zip(request_runs(self.outcome.results), self.rows, strict=True)
        frame: pd.DataFrame = pa.concat_tables([with_head(rows, head) for head, rows in runs]).to_pandas()
        return frame

    @cached_property
    def instances(self) -> pd.DataFrame:
        """See ``Results``."""
        return _frame(instance_rows(self.outcome.name, self.outcome.results))

    @cached_property
    def paired(self) -> pd.DataFrame:
        """See ``Results``; raises ``ConfigError`` where there is one policy at one point."""
        if self.outcome.single:
            raise ConfigError("nothing is compared here: a sweep of two policies is")
        return _frame(paired_rows(self.outcome.name, self.outcome.comparisons))

    @property
    def findings(self) -> list[str]:
        """See ``Results``."""
        return list(self.outcome.findings)

    def __str__(self) -> str:
        return str(self.outcome)


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
