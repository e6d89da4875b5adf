"""Iteration times as sums of measured operators, and the folders that they are read from."""
