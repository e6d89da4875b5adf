"""The command line: composing a configuration with Hydra, running it, help and reference."""
