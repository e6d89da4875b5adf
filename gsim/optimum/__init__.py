"""The integer program: an upper bound of goodput that no policy can beat, and plans that come near it."""

from gsim.optimum.bound import Bound, BoundConfig, upper_bound
from gsim.optimum.judge import Assignment, EngineJudge, Judge
from gsim.optimum.plans import Plan, PlanConfig, plan
from gsim.optimum.server import Server

__all__ = [
    "Assignment",
    "Bound",
    "BoundConfig",
    "EngineJudge",
    "Judge",
    "Plan",
    "PlanConfig",
    "Server",
    "plan",
    "upper_bound",
]
