"""Measure a live server, fit a profile, judge it on held-out load."""
