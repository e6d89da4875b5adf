"""gsim: a discrete-event simulator and benchmark suite for LLM serving on pools of unlike GPUs.

As a library: ``gsim.simulate(...)`` is one run, ``gsim.sweep({...})`` many with their comparison, ``gsim.load(folder)``
reads results back. What these need is imported when they are asked for: ``python -m gsim --help`` does without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gsim import _build

if TYPE_CHECKING:
    from gsim.library import Results, Run, load, simulate, sweep

__version__ = "0.1.0"

compiled, compiled_why = _build.choose()
"""Whether the hot modules run compiled (the results are the same, byte by byte), and why or why not."""

_LIBRARY = ("Results", "Run", "load", "simulate", "sweep")
__all__ = ["Results", "Run", "__version__", "compiled", "compiled_why", "load", "simulate", "sweep"]


def __getattr__(name: str) -> Any:
    if name not in _LIBRARY:
        raise AttributeError(f"module 'gsim' has no attribute '{name}'")
    return getattr(importlib.import_module("gsim.library"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LIBRARY})
