"""The integer program: an upper bound of goodput that no policy can beat, and plans that come near it."""

from gsim.optimum.bound import Bound, BoundConfig, upper_bound
from gsim.optimum.server import Server

__all__ = ["Bound", "BoundConfig", "Server", "upper_bound"]
