"""One operator per step of a model's life: each parses its job, calls its stage and returns."""
