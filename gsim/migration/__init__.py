"""Migration: who moves and when (rectifiers), how state moves and at what cost (mechanisms), over what (links)."""

from gsim.migration.link import LINKS, Link, LinkConfig
from gsim.migration.mechanism import Mechanism, Quote, Step
from gsim.migration.move_costs import MoveCosts

__all__ = ["LINKS", "Link", "LinkConfig", "Mechanism", "MoveCosts", "Quote", "Step"]
