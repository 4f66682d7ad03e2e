"""A registered version in, a decision about exactly its digest out."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from ml_lifecycle.core.contracts import Ask, Contract, Decision, ModelVersion, RunRequest
from ml_lifecycle.stages.runner import Tools


class ApprovalJob(Contract):
    """Who is asked what."""

    request: RunRequest
    required: Literal["always", "on_inconclusive", "never"] = "always"
    approvers: tuple[str, ...] = ()
    """User names; empty for anyone who may edit the run."""
    expires_after: timedelta = timedelta(hours=72)
    """Limits the ask, and a decision not yet used."""


class Question(Contract):
    """An ask, with what the approver reads and may answer."""

    ask: Ask
    subject: str
    body: str
    """Markdown."""
    approve: str
    """The option that approves, such as ``Approve 3f9a2c1b``: a stale form names another digest and is refused."""
    reject: str = "Reject"
    requested_by: str | None = None
    """Who asked for the training that made this version, from the ledger."""
    decision: Decision | None = None
    """The decision that already stands: policy's own, or the one that an earlier try of the task received."""


def pose(job: ApprovalJob, tools: Tools) -> Question | None:
    """Write the ask into the ledger and close older ones; ``None`` where this version is the champion already."""
    raise NotImplementedError


def answer(question: Question, option: str, *, by: str, reason: str, tools: Tools) -> Decision:
    """Write the answer into the ledger; the first one stands, and the one that stands is returned."""
    raise NotImplementedError


def candidate_of(request: RunRequest, tools: Tools) -> ModelVersion:
    """The version that a release is about: the request's, else the newest; as the ledger recorded its registration."""
    raise NotImplementedError
