"""Links in simulated time: transfers share bandwidth, and one that starts or ends changes the others' speed."""

from __future__ import annotations

from functools import partial
from math import inf

from gsim.core import SimulationError
from gsim.gateway.clock import Alarm, Clock, Signal, Steps
from gsim.migration import Link

#: A direction of an instance's port, or the one link of the pool: who shares it.
_Port = tuple[str, int]


class _Flow:
    """One transfer under way."""

    __slots__ = ("done", "left_bytes", "ports", "rate_bytes_per_s", "settled_s", "speed")

    def __init__(self, done: Signal, ports: tuple[_Port, ...], left_bytes: float, speed: float) -> None:
        self.done = done
        self.ports = ports
        self.left_bytes = left_bytes
        self.speed = speed
        self.rate_bytes_per_s = 0.0
        self.settled_s = 0.0


class LinkNetwork:
    """The links between the instances of a pool, by processor sharing.

    With ``scope=port`` every instance has a full-duplex port; a transfer gets the smaller of its equal shares of the
    source's outgoing and the target's incoming side. With ``scope=pool`` all transfers share one link equally.
    """

    def __init__(self, clock: Clock, link: Link) -> None:
        self.link = link
        self._clock = clock
        self._link = link
        self._flows: dict[_Port, dict[_Flow, None]] = {}
        """The transfers of each port, in order of their start."""
        self._ends: dict[_Flow, Alarm] = {}
        """When each transfer ends, at its present speed."""
        self._factor = 1.0
        self.carried_bytes = 0.0
        """Bytes of all transfers that began (a cancelled one counts what it had carried)."""

    def __len__(self) -> int:
        """Transfers under way."""
        return len(self._ends)

    def transfer(self, source: int, target: int, size_bytes: float, load: float = 0.0) -> Steps[bool]:
        """Move bytes; a process yields from it. True: all arrived; False: an end went down meanwhile.

        ``load`` in [0, 1] is how busy the busier end is: it scales the transfer's speed down to ``busy_factor``.
        """
        if not 0 <= size_bytes < inf:
            raise SimulationError(f"a transfer of {size_bytes} bytes was asked for")
        if size_bytes > 0:
            speed = 1.0 - (1.0 - self._link.busy_factor) * min(max(load, 0.0), 1.0)
            ports: tuple[_Port, ...] = (("out", source), ("in", target))
            if self._link.scope == "pool":
                ports = (("pool", 0), *ports)
            flow = _Flow(Signal(self._clock), ports, float(size_bytes), speed)
            flow.settled_s = self._clock.now
            for port in ports:
                self._flows.setdefault(port, {})[flow] = None
            self._ends[flow] = Alarm(self._clock, partial(self._end, flow, arrived=True))
            self.carried_bytes += flow.left_bytes
            self._share(ports)
            arrived: bool = yield flow.done
            if not arrived:
                return False
        if self._link.latency_s:
            yield self._link.latency_s
        return True

    def message(self, size_bytes: float) -> Steps[None]:
        """Send some kilobytes (token ids): packets between those of the flows, which neither slow it nor notice it."""
        delay_s = size_bytes / (self._link.rate_bytes_per_s * self._factor) + self._link.latency_s
        self.carried_bytes += size_bytes
        if delay_s > 0:
            yield delay_s

    def degrade(self, factor: float) -> None:
        """From now on every link carries ``factor`` (> 0) of its bandwidth; 1 restores it."""
        if not factor > 0:
            raise SimulationError(f"a link cannot carry {factor} of its bandwidth")
        self._factor = factor
        self._share(tuple(self._flows))

    def cut(self, instance: int) -> None:
        """An instance went down: every transfer from or to it ends, undone."""
        lost = {**self._flows.get(("out", instance), {}), **self._flows.get(("in", instance), {})}
        for flow in lost:
            self._settle(flow)
            self.carried_bytes -= flow.left_bytes
            self._end(flow, arrived=False)

    def _end(self, flow: _Flow, *, arrived: bool) -> None:
        """Take a transfer out; those that shared a port with it get faster."""
        self._ends.pop(flow).move(inf)
        for port in flow.ports:
            del self._flows[port][flow]
        flow.done.succeed(arrived)
        self._share(flow.ports)

    def _settle(self, flow: _Flow) -> None:
        """Account for what was carried since the transfer's speed last changed."""
        now_s = self._clock.now
        flow.left_bytes -= (now_s - flow.settled_s) * flow.rate_bytes_per_s
        flow.settled_s = now_s

    def _share(self, ports: tuple[_Port, ...]) -> None:
        """Give every transfer of these ports its share from now on, and time its end anew."""
        rate = self._link.rate_bytes_per_s * self._factor
        shared = self._link.scope == "port"
        for flow in dict.fromkeys(flow for port in ports for flow in self._flows.get(port, ())):
            rivals = max(len(self._flows[port]) for port in (flow.ports if shared else flow.ports[:1]))
            share = rate * flow.speed / rivals
            if share == flow.rate_bytes_per_s:
                continue
            self._settle(flow)
            flow.rate_bytes_per_s = share
            self._ends[flow].set(max(flow.left_bytes / share, 0.0))
