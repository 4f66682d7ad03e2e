"""Partitions in, one immutable snapshot out."""

from __future__ import annotations

from ml_lifecycle.core.contracts import Columns, Contract, DatasetRef, DropRule, Source
from ml_lifecycle.stages.runner import Tools


class SnapshotJob(Contract):
    """What a snapshot is made of."""

    model: str
    partitions: tuple[str, ...]
    """Oldest first."""
    source: Source
    labels: Source | None = None
    """Where the target lives when it arrives later than the rows: joined by key."""
    related: dict[str, Source] = {}
    """Tables that the features need beside the rows, such as weather; handed to the features by these names."""
    columns: Columns
    drop: tuple[DropRule, ...] = ()
    labelled: bool = True
    """Whether the target is needed: join the labels, apply the drop rules, refuse a dataset without a target."""


class ReadinessJob(Contract):
    """Which files of a partition have to be there, whole, and no longer growing."""

    partition: str
    sources: tuple[Source, ...]
    settle_seconds: float = 5.0
    """How long a file must have kept its size and modification time."""


def snapshot(job: SnapshotJob, tools: Tools) -> DatasetRef:
    """Copy the partitions into an immutable dataset, joined with their labels and cleared by the drop rules."""
    raise NotImplementedError


def readiness(job: ReadinessJob, tools: Tools) -> str | None:
    """Why the partition is not ready yet, or ``None`` when it is."""
    raise NotImplementedError
