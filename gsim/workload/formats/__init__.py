"""Trace formats, one a file: read as plays, sessions written back."""
