"""Grid x seeds: storage, resume, provenance, progress, figures, report."""
