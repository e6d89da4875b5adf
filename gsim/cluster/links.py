"""Links in simulated time: transfers share bandwidth, and one that starts or ends changes the others' speed."""

from __future__ import annotations

from collections.abc import Generator
from math import inf
from typing import Any

import simpy

from gsim.core import SimulationError
from gsim.migration import Link

# A transfer with less than this share of a byte left is over: what rounding leaves of it.
_EPSILON_BYTES = 1e-6


class _Flow:
    """One transfer under way."""

    __slots__ = ("done", "left_bytes", "rate_bytes_per_s", "source", "speed", "target")

    def __init__(self, done: simpy.Event, source: int, target: int, left_bytes: float, speed: float) -> None:
        self.done = done
        self.source = source
        self.target = target
        self.left_bytes = left_bytes
        self.speed = speed
        self.rate_bytes_per_s = 0.0


class LinkNetwork:
    """The links between the instances of a pool, by processor sharing.

    With ``scope=port`` every instance has a full-duplex port; a transfer gets the smaller of its equal shares of the
    source's outgoing and the target's incoming side. With ``scope=pool`` all transfers share one link equally.
    """

    def __init__(self, env: simpy.Environment, link: Link) -> None:
        self._env = env
        self._link = link
        self._flows: list[_Flow] = []
        self._factor = 1.0
        self._updated_s = env.now
        self._timer: simpy.Event | None = None
        self.carried_bytes = 0.0
        """Bytes of all transfers that began (a cancelled one counts what it had carried)."""

    def __len__(self) -> int:
        """Transfers under way."""
        return len(self._flows)

    def transfer(
        self, source: int, target: int, size_bytes: float, load: float = 0.0
    ) -> Generator[simpy.Event, Any, bool]:
        """Move bytes; a SimPy process yields from it. True: all arrived; False: an end went down meanwhile.

        ``load`` in [0, 1] is how busy the busier end is: it scales the transfer's speed down to ``busy_factor``.
        """
        if not 0 <= size_bytes < inf:
            raise SimulationError(f"a transfer of {size_bytes} bytes was asked for")
        if size_bytes > 0:
            speed = 1.0 - (1.0 - self._link.busy_factor) * min(max(load, 0.0), 1.0)
            flow = _Flow(self._env.event(), source, target, float(size_bytes), speed)
            self._settle()
            self._flows.append(flow)
            self.carried_bytes += flow.left_bytes
            self._share()
            arrived = yield flow.done
            if not arrived:
                return False
        if self._link.latency_s:
            yield self._env.timeout(self._link.latency_s)
        return True

    def message(self, size_bytes: float) -> Generator[simpy.Event, Any, None]:
        """Send some kilobytes (token ids): packets between those of the flows, which neither slow it nor notice it."""
        delay_s = size_bytes / (self._link.rate_bytes_per_s * self._factor) + self._link.latency_s
        self.carried_bytes += size_bytes
        if delay_s > 0:
            yield self._env.timeout(delay_s)

    def degrade(self, factor: float) -> None:
        """From now on every link carries ``factor`` (> 0) of its bandwidth; 1 restores it."""
        if not factor > 0:
            raise SimulationError(f"a link cannot carry {factor} of its bandwidth")
        self._settle()
        self._factor = factor
        self._share()

    def cut(self, instance: int) -> None:
        """An instance went down: every transfer from or to it ends, undone."""
        self._settle()
        lost = [flow for flow in self._flows if instance in (flow.source, flow.target)]
        self._flows = [flow for flow in self._flows if instance not in (flow.source, flow.target)]
        for flow in lost:
            self.carried_bytes -= flow.left_bytes
            flow.done.succeed(False)
        self._share()

    def _settle(self) -> None:
        """Account for what was carried since the last change."""
        span_s = self._env.now - self._updated_s
        self._updated_s = self._env.now
        if span_s > 0:
            for flow in self._flows:
                flow.left_bytes -= span_s * flow.rate_bytes_per_s

    def _share(self) -> None:
        """Give every transfer its share, and wake up when the first of them ends."""
        if not self._flows:
            self._timer = None
            return
        rate = self._link.rate_bytes_per_s * self._factor
        if self._link.scope == "pool":
            for flow in self._flows:
                flow.rate_bytes_per_s = rate * flow.speed / len(self._flows)
        else:
            out: dict[int, int] = {}
            into: dict[int, int] = {}
            for flow in self._flows:
                out[flow.source] = out.get(flow.source, 0) + 1
                into[flow.target] = into.get(flow.target, 0) + 1
            for flow in self._flows:
                flow.rate_bytes_per_s = rate * flow.speed / max(out[flow.source], into[flow.target])
        first_s = min(flow.left_bytes / flow.rate_bytes_per_s for flow in self._flows)
        timer = simpy.Timeout(self._env, max(first_s, 0.0))
        timer.callbacks.append(self._wake)
        self._timer = timer

    def _wake(self, timer: simpy.Event) -> None:
        if timer is not self._timer:
            return
        self._settle()
        # The timer's own transfer ends even if rounding left a little of it (a clock far from 0 has coarse steps).
        least = min(flow.left_bytes for flow in self._flows)
        over = max(_EPSILON_BYTES, least)
        done = [flow for flow in self._flows if flow.left_bytes <= over]
        self._flows = [flow for flow in self._flows if flow.left_bytes > over]
        for flow in done:
            flow.done.succeed(True)
        self._share()
