"""A partition in, the champion's predictions for it out, published once."""

from __future__ import annotations

from ml_lifecycle.core.contracts import Columns, Contract, RunRequest, ScoredPartition, Source
from ml_lifecycle.stages.runner import Tools


class ScoringJob(Contract):
    """What is scored, and where the predictions go."""

    request: RunRequest
    source: Source
    related: dict[str, Source] = {}
    columns: Columns
    output: Source
    """Folder below the data root, such as ``scored/{{ partition }}``."""


def score(job: ScoringJob, tools: Tools) -> ScoredPartition:
    """Score the partition by the champion; a partition that is published already stays as it is."""
    raise NotImplementedError
