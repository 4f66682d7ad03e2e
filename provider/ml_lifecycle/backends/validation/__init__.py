"""Expectation suites."""
