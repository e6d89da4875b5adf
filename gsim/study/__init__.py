"""Many runs: grids, sweeps, rates around the knee, bounds; and questions with their own way to an answer."""
