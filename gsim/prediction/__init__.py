"""Output-length predictors: what a request will cost, from what its client reveals."""
