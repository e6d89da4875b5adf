"""Simulated engines behind the API of real servers, in real time: ``python -m gsim.emulate``."""
