"""Validations that are studies: ``python -m gsim study=NAME``."""
