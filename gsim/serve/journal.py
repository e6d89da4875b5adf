"""What became of requests, one line each, and a trace of them that can be simulated."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from math import inf, isnan
from pathlib import Path
from typing import Any, TextIO

from gsim.core import ConfigError, Job, Request
from gsim.serve.exchange import Exchange
from gsim.workload.formats.writers import hash_ids

REQUESTS, ENDED = "requests.jsonl", "ended.jsonl"
#: So many of the newest rows are learned again at a start.
_LEARNED = 5000


class Journal:
    """Two files in a folder. Rows of finished requests wait for those that arrived before them, so that times rise."""

    def __init__(self, folder: str | None, block_size: int) -> None:
        self._block_size = block_size
        self._began_s = time.time()
        """Rows are stamped by the calendar, so that times rise over restarts."""
        self._files: tuple[TextIO, TextIO] | None = None
        self._due: dict[int, dict[str, Any] | None] = {}
        """Requests in order of arrival; None: it has not ended."""
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._files = tuple(  # type: ignore[assignment]
                    (self.folder / name).open("a", encoding="utf-8") for name in (REQUESTS, ENDED)
                )
            except OSError as error:
                raise ConfigError(f"log={folder}: cannot write there ({error.strerror})") from None

    def arrived(self, request_id: int) -> None:
        """A request has arrived."""
        if self._files is not None:
            self._due[request_id] = None

    def ended(self, job: Job, exchange: Exchange, status: str, instance: str, now_s: float) -> None:
        """It has ended, in this way."""
        if self._files is None:
            return
        row = self._row(job, exchange, instance, now_s)
        request_id = job.request.request_id
        if status == "finished" and row["output_length"]:
            self._due[request_id] = row
        else:
            self._due.pop(request_id, None)
            why = {"why": _said(exchange.error[1])[:300]} if exchange.error is not None else {}
            self._write(1, {"status": status, **row, **why})
        while self._due:
            first = next(iter(self._due))
            ready = self._due[first]
            if ready is None:
                return
            del self._due[first]
            self._write(0, ready)

    def close(self) -> None:
        """Write what still waits for others (they will not end any more)."""
        if self._files is None:
            return
        for row in self._due.values():
            if row is not None:
                self._write(0, row)
        self._due.clear()
        for file in self._files:
            file.close()
        self._files = None

    def learned(self) -> Iterator[tuple[Request, int]]:
        """The newest finished requests of earlier times, with their output tokens."""
        if self.folder is None or not (self.folder / REQUESTS).exists():
            return
        with (self.folder / REQUESTS).open(encoding="utf-8") as lines:
            newest = deque(lines, _LEARNED)
        for number, line in enumerate(newest):
            try:
                row = json.loads(line)
                prompt, output, task = int(row["input_length"]), int(row["output_length"]), str(row["task"])
            except (ValueError, KeyError, TypeError):
                continue
            if prompt > 0 and output > 0:
                yield (
                    Request(-1 - number, 0.0, prompt, max(output, int(row.get("max_tokens", output))), inf, task),
                    output,
                )

    def _row(self, job: Job, exchange: Exchange, instance: str, now_s: float) -> dict[str, Any]:
        request, active = job.request, exchange.active
        tokens = len(exchange.output_ids)
        if active is not None and exchange.stays:
            tokens = active.generated_before
        content = request.content if sum(n for _, n in request.content) == request.prompt_tokens else ()
        row: dict[str, Any] = {
            "timestamp": round((self._began_s + request.arrival_s) * 1e3, 3),
            "input_length": request.prompt_tokens,
            "output_length": tokens,
            "hash_ids": hash_ids(content, request.prompt_tokens, self._block_size, request.request_id),
            "task": request.task,
            "max_tokens": request.max_output_tokens,
            "request": exchange.name,
            "instance": instance,
            "e2e_ms": round((now_s - request.arrival_s) * 1e3, 3),
        }
        if request.slo_s < inf:
            row["slo_ms"] = round(request.slo_s * 1e3, 3)
        if active is not None:
            row["moves"] = active.migrations
            row["tries"] = 1 + active.retries
            if not isnan(active.first_token_s):
                row["ttft_ms"] = round((active.first_token_s - request.arrival_s) * 1e3, 3)
            if math.isfinite(active.predicted_tokens):
                row["predicted_tokens"] = round(active.predicted_tokens, 1)
        return row

    def _write(self, which: int, row: dict[str, Any]) -> None:
        assert self._files is not None
        self._files[which].write(json.dumps(row, separators=(",", ":")) + "\n")
        self._files[which].flush()


def _said(body: Any) -> str:
    """The message of an error's body, or all of it where it has none."""
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return str(message if message else body)
