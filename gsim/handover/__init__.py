"""Handovers: where requests go on whose prompts were computed on another instance (disaggregated prefill, decode)."""
