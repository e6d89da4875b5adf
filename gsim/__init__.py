"""gsim: a discrete-event simulator and benchmark suite for LLM serving on pools of unlike GPUs."""

from gsim import _build

__version__ = "0.1.0"

compiled, compiled_why = _build.choose()
"""Whether the hot modules run compiled (the results are the same, byte by byte), and why or why not."""
