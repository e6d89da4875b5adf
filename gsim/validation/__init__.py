"""Simulations held against recorded reality."""
