"""What a request of a study costs beside its event loop: ``python -m benchmarks.outside [requests=20000] [repeats=5]``.

The default mix at 20 requests/s under round robin, one run: drawing it, its metrics, its rows and their file, and its
share of the table of all requests. CPU microseconds per request, least of the repeats. The last line is one JSON
object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.options import read_options
from gsim.run.cell import request_rows, run, summary_of
from gsim.run.options import RUN_GROUPS, options
from gsim.run.settings import Settings
from gsim.run.store import RunStore, encoding
from gsim.study.results import _run_table

T = TypeVar("T")


def settings_of(requests: int) -> Settings:
    """One run of the mix, to the end of its last request."""
    chosen = {**RUN_GROUPS, "router": "round_robin", "rectifier": "none", "trace": "mix", "slo": "per_class"}
    values = {group: {"name": name, **options(group)[name].values} for group, name in chosen.items()}
    values["trace"] = {"name": "mix", "rate_per_s": 20.0, "requests": requests}
    return Settings.read(values)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    asked = read_options(arguments, requests="20000", repeats="5")
    settings, repeats = settings_of(int(asked["requests"])), int(asked["repeats"])
    sessions = list(settings.sessions(0))
    result = run(settings, 0, iter(sessions))
    requests = len(result.requests["status"])
    figures: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        least_s = float("inf")
        for _ in range(repeats):
            begin_s = time.process_time()
            made = work()
            least_s = min(least_s, time.process_time() - begin_s)
        figures[name] = 1e6 * least_s / requests
        print(f"{name:34}{figures[name]:>8.2f}")
        return made

    def drawn() -> None:
        for _ in settings.sessions(0):
            pass

    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        timed("drawing sessions", drawn)
        summary = timed("metrics", lambda: summary_of(settings, result, 1.0))
        rows = timed("rows", lambda: request_rows(result, settings))
        timed("their file", lambda: store.save("run", rows, summary))
        head = {"trace.rate_per_s": (20.0, pa.float64()), "router": ("round_robin", pa.string())}
        table = timed("read again for the one table", lambda: _run_table(store, "run", head, 0))

        def written() -> None:
            with pq.ParquetWriter(Path(folder) / "all.parquet", table.schema, **encoding(table.schema)) as writer:
                writer.write_table(table)

        timed("written to the one table", written)
        figures["bytes_per_row"] = store.path("run").stat().st_size / requests
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
