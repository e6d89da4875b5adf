"""Rectifiers (who moves, when) and mechanisms (how state moves, at what cost)."""
