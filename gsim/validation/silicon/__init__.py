"""Composed profiles held against the measured rows that come with the public kernel tables."""
