"""Metrics on rows, their bounds, and what gates are held against."""
