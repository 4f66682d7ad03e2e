"""Waiting, without a worker, for what the stages need."""
