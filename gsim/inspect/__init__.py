"""One run looked at closely: a request's story in words, a timeline."""
