"""Case studies: what was read out of one recorded run."""
