"""Profiles from the tables of Vidur, read in place."""
