"""The pool in simulated time: arrivals, instances, telemetry, links, faults, migrations (the only SimPy here)."""
