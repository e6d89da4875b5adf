"""gsim as a library: what ``import gsim`` passes on, for notebooks and programs.

Nothing here changes the working directory, prints, or writes a folder that was not asked for, and all of it works in
any thread: configurations are typed without Hydra, whose state is one per process.
"""

from gsim.library.run import Run, simulate
from gsim.library.sweeps import sweep
from gsim.report.loading import Results, load

__all__ = ["Results", "Run", "load", "simulate", "sweep"]
