"""One run: its settings, its pool, its key, computing it and keeping what it leaves."""
