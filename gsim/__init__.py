"""gsim: a discrete-event simulator and benchmark suite for LLM serving on pools of unlike GPUs."""

__version__ = "0.1.0"
