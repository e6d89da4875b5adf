"""What a trace is like: statistics, reuse, a figure."""
