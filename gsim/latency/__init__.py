"""How long an iteration takes: profiles in, seconds out."""
