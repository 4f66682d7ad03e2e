"""The shadow: what was asked before is asked of a new version, and no user sees its answers."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from ml_lifecycle.core.contracts import Contract, ModelVersion, Move, PairedScores
from ml_lifecycle.core.values import StoredDuration
from ml_lifecycle.stages.runner import Tools


class ShadowJob(Contract):
    """Which versions are compared, and on how many requests."""

    model: str
    candidate: Move | ModelVersion
    previous: Move | None
    """What serves; ``None`` for a first release, which nothing can be compared with."""
    requests: int = Field(default=2000, ge=1, le=100_000)
    """The newest ones that the serving version answered."""
    window: StoredDuration = timedelta(days=30)
    """How far back requests are looked for."""
    tolerance: float = Field(default=1e-6, ge=0)
    """How far the serving version's answers may lie from those that the log holds, relative for those beyond 1."""


def replay(job: ShadowJob, tools: Tools) -> PairedScores:
    """Have the candidate answer the newest requests that the serving version answered, and compare.

    What cannot be compared is an answer, too: without numbers, and with the reason.
    """
    raise NotImplementedError
