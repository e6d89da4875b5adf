"""A gateway in front of live servers, with the policies of the simulation: ``python -m gsim.serve``."""
