"""What gives the right to a release: a decision that stands in the ledger, read anew at each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from ml_lifecycle.backends.signing.answers import verify_signed_votes
from ml_lifecycle.core.approval import Required, option_means
from ml_lifecycle.core.contracts import DIGEST, Ask, Contract, Decision, ModelVersion, RunRequest
from ml_lifecycle.core.deployment import DEFAULT_TARGET, SANDBOX, objection
from ml_lifecycle.core.errors import LifecycleError, NoDecisionError, PassingError, TargetRefusedError
from ml_lifecycle.stages.champion import verified_package
from ml_lifecycle.stages.evidence import registration_of
from ml_lifecycle.stages.runner import Tools


class DeploymentJob(Contract):
    """A decision to carry out, and where."""

    request: RunRequest
    decision: Decision
    """Only names the ask: what counts is what the ledger says about it."""
    target: dict[str, Any] = Field(default_factory=lambda: dict(DEFAULT_TARGET))
    policy_digest: str | None = Field(default=None, pattern=DIGEST)
    """Digest of the gate's rules as the pipeline says them at this moment; ``None`` where no pipeline does."""
    required: Required | None = None
    """When the pipeline asks a person, as it says at this moment; ``None`` where no pipeline does."""


def right_of(job: DeploymentJob, tools: Tools) -> Right | None:
    """The right that the job's decision gives at this moment; ``None`` where the decision was no.

    :raises NoDecisionError: no valid decision stands in the ledger for exactly this version, environment and gate.
    :raises TargetRefusedError: a sandbox deploys nothing.
    """
    refuse_sandbox(job.request, tools)
    _refuse_other(job.decision.ask, job.request, tools)
    decision = _standing(job.decision.ask, tools)
    if decision.outcome == "reject":
        return None
    right = Right(decision, _version_of(decision.ask, tools), job, tools)
    right.check()
    return right


@dataclass(frozen=True)
class Right:
    """What gives the right to a release; it is read anew each time."""

    decision: Decision
    version: ModelVersion
    job: DeploymentJob
    tools: Tools

    def check(self) -> None:
        """Refuse unless the decision gives the right at this moment, to the move or to finishing it."""
        tools, name, job = self.tools, self.version.name, self.job
        decision = unblocked(self.decision.ask.ask_id, name, tools)
        _refuse_contradicted(decision, tools)
        _refuse_unsigned(decision, tools)
        moves = tools.ledger.moves(name, tools.environment)
        is_made = any(move.decision_id == self.decision.ask.ask_id for move in moves)
        at = None if is_made else tools.clock()
        why = objection(
            decision,
            self.version,
            tools.environment,
            moves,
            at,
            policy_digest=job.policy_digest,
            required=job.required,
        )
        if why:
            raise NoDecisionError(
                why,
                where=f"{name} in {tools.environment}",
                way_out="train again or evaluate again where the gate changed, then ask for a new approval",
            )


def check_bytes(uri: str, digest: str, tools: Tools) -> None:
    """Hold a package against its digest.

    :raises DigestMismatchError: its bytes are others.
    """
    with verified_package(uri, digest, tools):
        pass


def refuse_sandbox(request: RunRequest, tools: Tools) -> None:
    """Nothing is ever moved in a sandbox."""
    if tools.environment == SANDBOX:
        raise TargetRefusedError(
            f"the environment {SANDBOX!r} deploys nothing and rolls nothing back",
            where=request.run_id or "command",
            way_out="run it in the deployment whose [ml_lifecycle] environment is the one that serves",
        )


@contextmanager
def refusal_audited(action: str, request: RunRequest, tools: Tools) -> Iterator[None]:
    """Whatever a person would have to mend stands in the model's audit."""
    try:
        yield
    except PassingError:
        raise
    except LifecycleError as refusal:
        tools.ledger.record_refusal(
            request.model,
            tools.environment,
            action=action,
            by=request.requester or request.run_id or "command",
            why=str(refusal),
            at=tools.clock(),
        )
        raise


def unblocked(ask_id: str, model: str, tools: Tools) -> Decision:
    """The decision on an ask, unless every right was taken from it."""
    decision, asked = tools.ledger.decision(ask_id), tools.ledger.asked(ask_id)
    where = f"{model} in {tools.environment}"
    if decision is None or asked is None:
        raise NoDecisionError(f"no decision stands under {ask_id[:12]}", where=where, way_out="ask for an approval")
    if asked.blocked:
        raise NoDecisionError(
            f"the approval by {decision.decided_by} gives no right to anything: {asked.blocked}",
            where=where,
            way_out="ask for a new approval",
        )
    return decision


def _refuse_contradicted(decision: Decision, tools: Tools) -> None:
    """Airflow acknowledges answers that the ledger never saw: a rejection among them takes the approval away."""
    if decision.outcome != "approve":
        return
    ask = decision.ask
    for posting in tools.ledger.postings(ask.ask_id):
        option = tools.answers(posting)
        if option is None or option_means(option, ask.digest) != "reject":
            continue
        why = f"Airflow records {option!r} for showing {posting.number}, and the ledger an approval"
        tools.ledger.block(ask.ask_id, why=why, at=tools.clock())
        raise NoDecisionError(
            why,
            where=f"{posting.dag_id}/{posting.run_id}",
            way_out="ask for a new approval; load the plugin in every API server, so that no answer comes past it",
        )


def _refuse_unsigned(decision: Decision, tools: Tools) -> None:
    """An answer from outside has to be signed, still, by somebody whose signed answers this deployment counts."""
    verify_signed_votes(decision, tools.ledger.votes(decision.ask.ask_id), tools.approver_keys())


def _standing(ask: Ask, tools: Tools) -> Decision:
    decision = tools.ledger.decision(ask.ask_id)
    if decision is None:
        raise NoDecisionError(
            f"no decision about version {ask.version} ({ask.digest[:8]}) of {ask.model} stands in the ledger",
            where=f"the ledger of {tools.environment}",
            way_out=f"run {ask.model}_release, and wait for its answer",
        )
    return decision


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
    version = registration_of(ask, tools)
    if version is not None:
        return version
    raise NoDecisionError(
        f"the ledger holds no registration of version {ask.version} with the digests that were approved",
        where=f"{ask.model} in {tools.environment}",
        way_out=f"run {ask.model}_release again, and approve what is registered",
    )
