"""Partitions, snapshots and published results."""
