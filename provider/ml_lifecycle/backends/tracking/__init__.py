"""Runs and versions."""
