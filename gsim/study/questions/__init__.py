"""Studies that are no sweep: questions that have their own way to an answer."""
