"""Studies: grids of runs, storage and resume, provenance, figures, reports; and reading results back (``load``)."""

from gsim.study.loading import Results, load

__all__ = ["Results", "load"]
