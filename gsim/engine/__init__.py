"""One vLLM-like engine: KV blocks, prefix cache, scheduler; the stepwise reference and the decode clock."""

from gsim.engine.config import EngineConfig, EngineLimits
from gsim.engine.factory import make_engine

__all__ = ["EngineConfig", "EngineLimits", "make_engine"]
