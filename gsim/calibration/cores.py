"""Whether a server on this machine got the cores it asked for: what its busiest thread waited, from ``/proc``.

Another program on the same cores slows a server without leaving a trace in its metrics. Linux counts, per thread, the
time that it was ready to run and did not (``schedstat``). Only of use where the server runs on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gsim.core.errors import ConfigError

_PROC = Path("/proc")


@dataclass
class CoreWatch:
    """Watches the threads of a process and of its children."""

    pid: int
    _pids: list[int] = field(default_factory=list)
    _before: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pids = self._family()
        if not self.threads():
            raise ConfigError(f"server_pid: there is no process {self.pid} here whose threads can be read")

    def start(self) -> None:
        """Begin a span."""
        self._before = self.threads()

    def waited(self) -> float:
        """Share of its time that the thread that computed most was kept waiting for a core, since ``start``."""
        spans = []
        for thread, (run, wait) in self.threads().items():
            run_before, wait_before = self._before.get(thread, (0, 0))
            spans.append((run - run_before, wait - wait_before))
        run, wait = max(spans, default=(0, 0))
        return wait / (run + wait) if run + wait else 0.0

    def threads(self) -> dict[str, tuple[int, int]]:
        """Nanoseconds run and waited, per thread."""
        found = {}
        for pid in self._pids:
            for task in (_PROC / str(pid) / "task").glob("*"):
                try:
                    run, wait, _ = (task / "schedstat").read_text(encoding="utf-8").split()
                except OSError:
                    continue  # the thread ended meanwhile
                found[task.name] = (int(run), int(wait))
        return found

    def _family(self) -> list[int]:
        """The process and all that it started, directly or not."""
        children: dict[int, list[int]] = {}
        for stat in _PROC.glob("[0-9]*/stat"):
            try:
                # The name in brackets may hold anything; the parent is the second field behind it.
                parent = int(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(stat.parent.name))
        family, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            family.append(pid)
            queue += children.get(pid, [])
        return family
