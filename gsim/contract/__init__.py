"""What every policy keeps to, as checks that say in words what does not hold: ``python -m gsim check NAME``."""
