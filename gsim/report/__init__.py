"""What results look like: tables, figures, wording; and reading results back (``load``)."""

from gsim.report.loading import Results, load

__all__ = ["Results", "load"]
