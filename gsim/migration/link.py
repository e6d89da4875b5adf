"""Links: what state moves over. A preset by name, any of whose numbers can be overridden.

Line rates are the standards' own. Efficiencies: 0.8 of the line for RDMA and 0.35 for TCP are common planning
figures; PCIe 3/4/5 x16 reach about 12/24/48 GB/s, three quarters of their line rate. The two ``mooncake`` presets are
the fabrics of published prefill-decode transfer tables (Mooncake's own documentation): their efficiency follows from
the first and the last row of each table, and the rows in between test it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import ConfigError

_GBIT = 1e9 / 8


@dataclass(frozen=True)
class Link:
    """A link with every number known."""

    name: str
    bandwidth_bytes_per_s: float
    """Line rate of one instance's port, in each direction."""
    efficiency: float
    """Share of the line rate that a bulk copy reaches on idle hosts."""
    latency_s: float
    """One way, added once to each transfer."""
    busy_factor: float = 0.4
    """What is left of the bandwidth when an end's KV cache is in full use (copies compete with attention for memory and
    with the engine for the host); between idle and full it falls linearly. Measured on one H20 with one network card:
    10 GB/s idle, 3 to 4 GB/s busy."""
    scope: str = "port"
    """``port``: every instance has a port, full duplex, shared by its transfers; ``pool``: all share one link."""

    @property
    def rate_bytes_per_s(self) -> float:
        """What one transfer alone gets between idle hosts."""
        return self.bandwidth_bytes_per_s * self.efficiency


LINKS: dict[str, Link] = {
    link.name: link
    for link in (
        Link("tcp_10g", 10 * _GBIT, 0.35, 50e-6),
        Link("tcp_25g", 25 * _GBIT, 0.35, 50e-6),
        Link("tcp_100g", 100 * _GBIT, 0.35, 50e-6),
        Link("rdma_10g", 10 * _GBIT, 0.8, 5e-6),
        Link("rdma_25g", 25 * _GBIT, 0.8, 5e-6),
        Link("rdma_64g", 64 * _GBIT, 0.8, 5e-6),
        Link("rdma_100g", 100 * _GBIT, 0.8, 5e-6),
        Link("rdma_200g", 200 * _GBIT, 0.8, 5e-6),
        Link("rdma_400g", 400 * _GBIT, 0.8, 5e-6),
        Link("pcie3", 16e9, 0.75, 1e-6),
        Link("pcie4", 32e9, 0.75, 1e-6),
        Link("pcie5", 64e9, 0.75, 1e-6),
        Link("mooncake_8x200g", 200e9, 0.773, 5e-6),
        Link("mooncake_4x400g", 200e9, 0.841, 5e-6),
    )
}
_SCOPES = ("port", "pool")


@dataclass(frozen=True)
class LinkConfig:
    """The link between instances: a preset, and what differs from it."""

    name: str = "rdma_100g"
    """A preset: tcp_10g, tcp_25g, tcp_100g, rdma_10g, rdma_25g, rdma_64g, rdma_100g, rdma_200g, rdma_400g, pcie3,
    pcie4, pcie5, mooncake_8x200g, mooncake_4x400g."""
    bandwidth_bytes_per_s: float | None = None
    """Line rate of a port; None: the preset's."""
    efficiency: float | None = None
    """Share of the line rate that a copy reaches, in (0, 1]; None: the preset's."""
    latency_s: float | None = None
    """One way; None: the preset's."""
    busy_factor: float | None = None
    """Bandwidth left when an end's KV cache is full, in (0, 1]; None: the preset's."""
    scope: str | None = None
    """``port`` (each instance has a port of its own) or ``pool`` (all share one link); None: the preset's."""

    def __post_init__(self) -> None:
        self.resolve()

    def resolve(self) -> Link:
        """The link with every number known; raises ``ConfigError`` that names the field."""
        if self.name not in LINKS:
            raise ConfigError(f"link.name '{self.name}' is unknown; there are: {', '.join(LINKS)}")
        preset = LINKS[self.name]
        link = Link(
            name=self.name,
            bandwidth_bytes_per_s=_first(self.bandwidth_bytes_per_s, preset.bandwidth_bytes_per_s),
            efficiency=_first(self.efficiency, preset.efficiency),
            latency_s=_first(self.latency_s, preset.latency_s),
            busy_factor=_first(self.busy_factor, preset.busy_factor),
            scope=self.scope if self.scope is not None else preset.scope,
        )
        if not 0 < link.bandwidth_bytes_per_s < float("inf"):
            raise ConfigError(f"link.bandwidth_bytes_per_s must be greater than 0, not {link.bandwidth_bytes_per_s}")
        for field in ("efficiency", "busy_factor"):
            if not 0 < getattr(link, field) <= 1:
                raise ConfigError(f"link.{field} must be in (0, 1], not {getattr(link, field)}")
        if not 0 <= link.latency_s < float("inf"):
            raise ConfigError(f"link.latency_s must be 0 or more, not {link.latency_s}")
        if link.scope not in _SCOPES:
            raise ConfigError(f"link.scope '{link.scope}' is unknown; allowed: {', '.join(_SCOPES)}")
        return link


def _first(value: float | None, default: float) -> float:
    return default if value is None else value
