"""Making profiles: composed from public kernel tables, or estimated from a data sheet (``python -m gsim.profile``)."""

from gsim.profile.build import BuildOptions, build_profile

__all__ = ["BuildOptions", "build_profile"]
