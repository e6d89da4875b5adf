"""Black-box estimates of queueing, prefill and decode speed, from what passes through a gateway."""
