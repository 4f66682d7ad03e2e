"""A decision in, a moved champion out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.base import DeploymentTarget
from ml_lifecycle.core.contracts import Ask, Contract, Decision, Deployment, ModelVersion, Move, RunRequest
from ml_lifecycle.core.deployment import NAMED, previous_champion
from ml_lifecycle.core.errors import (
    NoDecisionError,
    ServiceUnavailableError,
    StaleEpochError,
)
from ml_lifecycle.stages.approval import registered
from ml_lifecycle.stages.champion import verified_package
from ml_lifecycle.stages.runner import Tools

ALL = 100
"""Percent of the traffic."""


class DeploymentJob(Contract):
    """A decision to carry out, and where."""

    request: RunRequest
    decision: Decision
    """Only names the ask: what counts is what the ledger says about it."""
    target: dict[str, Any] = Field(default_factory=lambda: {"backend": "alias"})


class RollbackJob(Contract):
    """Bring the previous champion back."""

    request: RunRequest
    target: dict[str, Any] = Field(default_factory=lambda: {"backend": "alias"})


def deploy(job: DeploymentJob, tools: Tools) -> Deployment | None:
    """Carry out an approval: bytes checked against the digest, move, intent, target, observation; ``None`` on a reject.

    However often it is called and wherever an earlier call ended, it makes one move and ends in the same state.

    :raises NoDecisionError: no valid decision stands in the ledger for exactly this version and environment.
    :raises StaleEpochError: another move was made since; nothing is changed.
    :raises DigestMismatchError: the model's bytes are not those that were approved; nothing is changed.
    """
    target, ask = target_from(job.target), job.decision.ask
    _refuse_other(ask, job.request, tools)
    decision = tools.ledger.decision(ask.ask_id)
    if decision is None:
        raise NoDecisionError(
            f"no decision about version {ask.version} ({ask.digest[:8]}) of {ask.model} stands in the ledger",
            where=f"the ledger of {tools.environment}",
            way_out=f"run {ask.model}_release, and wait for its answer",
        )
    if decision.outcome == "reject":
        return None
    version = _version_of(decision.ask, tools)
    _check_bytes(version.uri, version.digest, tools)
    target.observe(version.name, tools.registry)  # what cannot be looked at must not be moved
    move = tools.ledger.release(version, decision, moved_by=decision.decided_by, at=tools.clock())
    return _carry_out(move, target, tools)


def roll_back(job: RollbackJob, tools: Tools) -> Deployment:
    """Make the previous champion serve again; needs no approval; the audit names requester and reason.

    The same run makes one move, however often its task is run.

    :raises LedgerError: there is no earlier champion, or it is not the version that the request names.
    :raises DigestMismatchError: the bytes of the previous champion are not those that served; nothing is changed.
    """
    request, target = job.request, target_from(job.target)
    at = tools.clock()
    # A command has no run that could be repeated: each one is a rollback of its own.
    key = request.run_id or f"command {at.isoformat()}"
    move = tools.ledger.rolled_back(request.model, tools.environment, key)
    if move is None:
        version = request.version
        back = previous_champion(tools.ledger.moves(request.model, tools.environment))
        if back is not None:
            _check_bytes(back.uri, back.digest, tools)
            target.observe(request.model, tools.registry)
            version = version if version is not None else back.version
        move = tools.ledger.rollback(
            request.model,
            tools.environment,
            key=key,
            moved_by=request.requester or "unknown",
            reason=request.reason.strip() or "no reason given",
            at=at,
            version=version,
        )
    return _carry_out(move, target, tools)


# --- Before the move -------------------------------------------------------------------------------------------------


def _refuse_other(ask: Ask, request: RunRequest, tools: Tools) -> None:
    asked = {"model": ask.model, "environment": ask.environment, "version": ask.version}
    wanted = {
        "model": request.model,
        "environment": tools.environment,
        "version": ask.version if request.version is None else request.version,
    }
    for name, value in wanted.items():
        if asked[name] != value:
            raise NoDecisionError(
                f"the decision is about {name} {asked[name]!r}, and the run about {value!r}",
                where=request.run_id or "command",
                way_out=f"run {request.model}_release for {name} {value!r}, and wait for its own answer",
            )


def _version_of(ask: Ask, tools: Tools) -> ModelVersion:
    """The registration that the ask is about, as the ledger recorded it."""
    for version in reversed(tuple(registered(ask.model, tools))):
        if version.version == ask.version and all(getattr(version, name) == getattr(ask, name) for name in NAMED):
            return version
    raise NoDecisionError(
        f"the ledger holds no registration of version {ask.version} with the digests that were approved",
        where=f"{ask.model} in {tools.environment}",
        way_out=f"run {ask.model}_release again, and approve what is registered",
    )


def _check_bytes(uri: str, digest: str, tools: Tools) -> None:
    with verified_package(uri, digest, tools):
        pass


# --- Carrying a move out ---------------------------------------------------------------------------------------------


def _carry_out(move: Move, target: DeploymentTarget, tools: Tools) -> Deployment:
    """Level-triggered: whatever an earlier try left, the target serves the move's version at the end."""
    _refuse_superseded(move, tools)
    _note(move, "intent", {"target": target.model_dump(mode="json")}, tools)
    target.deploy(move, tools.registry)
    head = tools.ledger.head(move.model, move.environment)
    if head is not None and head.epoch != move.epoch:
        # A newer move came in between, and this try may have undone what that one did.
        target.deploy(head, tools.registry)
    _refuse_superseded(move, tools)
    traffic = target.observe(move.model, tools.registry)
    _refuse_other_traffic(move, traffic, target)
    shown = {str(version): percent for version, percent in traffic.items()}
    _note(move, "observed", {"traffic": shown}, tools)
    _note(move, "done", {}, tools)
    earlier = [one for one in tools.ledger.moves(move.model, move.environment) if one.epoch < move.epoch]
    return Deployment(champion=move, previous=earlier[-1] if earlier else None, traffic=shown)


def _note(move: Move, state: str, detail: Mapping[str, Any], tools: Tools) -> None:
    tools.ledger.record_deployment(move, state, detail=detail, at=tools.clock())


def _refuse_superseded(move: Move, tools: Tools) -> None:
    head = tools.ledger.head(move.model, move.environment)
    if head is None or head.epoch != move.epoch:
        now = f"version {head.version} at epoch {head.epoch}" if head is not None else "nothing"
        raise StaleEpochError(
            f"version {move.version} was moved at epoch {move.epoch}, but {now} is in force",
            where=f"{move.model} in {move.environment}",
            way_out="run a new release: an old one is not repeated",
        )


def _refuse_other_traffic(move: Move, traffic: Mapping[int, int], target: DeploymentTarget) -> None:
    if dict(traffic) != {move.version: ALL}:
        raise ServiceUnavailableError(
            f"the target serves {dict(traffic) or 'nothing'}, not version {move.version} alone",
            where=f"{move.model} on {target.backend}",
            way_out="the next try sets it again; if it stays, find out who else moves it",
        )
