"""Scheduling inside engines: who is served next, who is admitted, who is put off. One policy a file."""
