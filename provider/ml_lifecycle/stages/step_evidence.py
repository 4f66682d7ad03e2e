"""What is known about a step of a rollout: what the versions did, and what their answers were worth."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pydantic import Field

from ml_lifecycle.backends.deployment.base import SplittingTarget
from ml_lifecycle.backends.evaluation.answer_losses import losses_of
from ml_lifecycle.backends.monitoring.logged_answers import Answerer, labelled_answers
from ml_lifecycle.backends.monitoring.prediction_log import FOLDER, Root
from ml_lifecycle.core.contracts import AnalysisPolicy, Contract, Losses, Move, PairedScores, StepEvidence
from ml_lifecycle.core.deployment import DEFAULT_TARGET
from ml_lifecycle.core.errors import DataError
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import target_of
from ml_lifecycle.stages.runner import Tools

_OLD: Final = "old"
_NEW: Final = "new"


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
    losses, notes = _losses(job, tools)
    return StepEvidence(
        percent=job.percent,
        began_at=job.began_at,
        old=seen.get(job.previous.version) if job.previous is not None else None,
        new=seen.get(job.move.version),
        old_losses=losses.get(_OLD),
        new_losses=losses.get(_NEW),
        paired=job.paired,
        fault=target.status(job.model, means).fault,
        notes=notes,
    )


def logs_of(tools: Tools) -> tuple[Root, ...]:
    """Every place where predictions of this deployment are logged: by scoring, and by this machine's servers."""
    beside = () if tools.serving_home is None else (tools.serving_home / FOLDER,)
    return (tools.data.filesystem(FOLDER), *beside)


def _losses(job: EvidenceJob, tools: Tools) -> tuple[dict[str, Losses], tuple[str, ...]]:
    """What both versions' answers since the step began were worth, and what is not known of it.

    A log that cannot be read leaves quality unknown: the other checks go on, and so does the way back.
    """
    quality = job.policy.quality
    if quality is None:
        return {}, ()
    moves = {_NEW: job.move} if job.previous is None else {_NEW: job.move, _OLD: job.previous}
    answerers = {name: Answerer(digest=move.digest, version=move.version) for name, move in moves.items()}
    try:
        answers = labelled_answers(logs_of(tools), job.model, answerers, job.began_at)
    except DataError as error:
        return {}, (f"no label is known: {error}",)
    losses = {name: losses_of(moves[name].version, answers[name], quality) for name in moves}
    unusable = [one for one in losses.values() if one.unusable]
    return losses, tuple(
        f"{one.unusable:,} labelled answers of version {one.version} have no {quality.metric.replace('_', ' ')}"
        for one in unusable
    )
