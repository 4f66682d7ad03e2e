"""What is known about a step of a rollout: what the versions did, and what their answers were worth."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from ml_lifecycle.backends.deployment.base import SplittingTarget
from ml_lifecycle.core.contracts import AnalysisPolicy, Contract, Move, PairedScores, StepEvidence
from ml_lifecycle.core.deployment import DEFAULT_TARGET
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import target_of
from ml_lifecycle.stages.runner import Tools


class EvidenceJob(Contract):
    """Which step of which rollout."""

    model: str
    move: Move
    """The release that is being rolled out."""
    previous: Move | None = None
    """What served before; ``None`` for a first release."""
    percent: int = Field(ge=0, le=100)
    """Of the traffic that the new version gets."""
    began_at: datetime
    """When the step's split was set."""
    policy: AnalysisPolicy = AnalysisPolicy()
    target: dict[str, Any] = Field(default_factory=lambda: dict(DEFAULT_TARGET))
    """Where it serves, if the ledger does not say so."""
    paired: PairedScores | None = None
    """What the shadow found, where there was one."""


def gather(job: EvidenceJob, tools: Tools) -> StepEvidence:
    """Everything that is known about the step at this moment; nothing is changed, however often one looks."""
    target, means = target_of(job.move, job.target), means_of(tools)
    seen = target.observe(job.model, job.began_at, means) if isinstance(target, SplittingTarget) else {}
    return StepEvidence(
        percent=job.percent,
        began_at=job.began_at,
        old=seen.get(job.previous.version) if job.previous is not None else None,
        new=seen.get(job.move.version),
        paired=job.paired,
        fault=target.status(job.model, means).fault,
    )
