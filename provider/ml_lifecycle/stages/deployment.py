"""A decision in, a moved champion out."""

from __future__ import annotations

from typing import Any

from ml_lifecycle.core.contracts import Contract, Decision, Deployment, RunRequest
from ml_lifecycle.stages.runner import Tools


class DeploymentJob(Contract):
    """A decision to carry out, and where."""

    request: RunRequest
    decision: Decision
    """Only names the ask: what counts is what the ledger says about it."""
    target: dict[str, Any] = {"backend": "alias"}


class RollbackJob(Contract):
    """Bring the previous champion back."""

    request: RunRequest
    target: dict[str, Any] = {"backend": "alias"}


def deploy(job: DeploymentJob, tools: Tools) -> Deployment | None:
    """Carry out an approval: intent, bytes checked against the digest, move, target, observation; ``None`` on a reject."""
    raise NotImplementedError


def roll_back(job: RollbackJob, tools: Tools) -> Deployment:
    """Make the previous champion serve again; needs no approval, only a requester and a reason."""
    raise NotImplementedError
