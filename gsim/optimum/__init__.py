"""The integer program: an upper bound that nobody can beat, and a plan to replay."""
