"""Records to tables: goodput, latency, attainment, confidence intervals."""
