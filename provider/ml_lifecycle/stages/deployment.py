"""A decision in, a moved champion out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import Field

from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.base import DeploymentTarget
from ml_lifecycle.backends.signing.answers import verify_signed_votes
from ml_lifecycle.core.approval import Required, option_means
from ml_lifecycle.core.contracts import (
    DIGEST,
    Ask,
    Contract,
    Decision,
    Deployment,
    DrillReport,
    ModelVersion,
    Move,
    RunRequest,
    Verdict,
)
from ml_lifecycle.core.deployment import (
    ALL_TRAFFIC,
    DEFAULT_TARGET,
    MONITORING,
    SANDBOX,
    is_outdated,
    objection,
)
from ml_lifecycle.core.errors import (
    LifecycleError,
    NoDecisionError,
    PassingError,
    RollbackNotReadyError,
    RollbackOutdatedError,
    ServiceUnavailableError,
    StaleEpochError,
    TargetRefusedError,
)
from ml_lifecycle.stages.champion import load_champion, means_of, verified_package
from ml_lifecycle.stages.evidence import registration_of
from ml_lifecycle.stages.response import is_wanted
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


class RollbackJob(Contract):
    """Bring the previous champion back."""

    request: RunRequest
    target: dict[str, Any] = Field(default_factory=lambda: dict(DEFAULT_TARGET))
    """Where to serve, if the ledger does not say where the previous champion did."""


class DrillJob(Contract):
    """Rehearse bringing the previous champion back."""

    request: RunRequest
    within: timedelta = timedelta(minutes=5)
    """How long it may take."""
    target: dict[str, Any] = Field(default_factory=lambda: dict(DEFAULT_TARGET))
    """Where to serve, if the ledger does not say where the previous champion did."""


def deploy(job: DeploymentJob, tools: Tools) -> Deployment | None:
    """Carry out an approval: bytes checked against the digest, move, intent, target, observation; ``None`` on a reject.

    Before each of these the decision is read again. However often it is called and wherever an earlier call ended, it
    makes one move and ends in the same state. What is refused stands in the audit.

    :raises NoDecisionError: no valid decision stands in the ledger for exactly this version, environment and gate.
    :raises StaleEpochError: another move was made since; nothing is changed.
    :raises DigestMismatchError: the model's bytes are not those that were approved; nothing is changed.
    :raises TargetRefusedError: a sandbox deploys nothing, and nobody deploys where another environment serves.
    """
    request, ask = job.request, job.decision.ask
    with _refusal_audited("release", request, tools):
        _refuse_sandbox(request, tools)
        target = target_from(job.target)
        _refuse_other(ask, request, tools)
        decision = _standing(ask, tools)
        if decision.outcome == "reject":
            return None
        version = _version_of(decision.ask, tools)
        right = _Right(decision.ask.ask_id, version, job, tools)
        right.check()
        _check_bytes(version.uri, version.digest, tools)
        target.status(version.name, means_of(tools))  # what cannot be looked at must not be moved
        right.check()
    # The ledger writes its own refusals down.
    options = target.model_dump(mode="json")
    move = tools.ledger.release(version, decision, moved_by=decision.decided_by, at=tools.clock(), target=options)
    with _refusal_audited("release", request, tools):
        return _carry_out(move, [target], right.check, tools)


def roll_back(job: RollbackJob, tools: Tools) -> Deployment:
    """Make the previous champion serve again, where and how it did; needs no approval.

    The audit names requester and reason. The same run makes one move, however often its task is run. Where the present
    champion serves in another place, that place serves the previous one as well: nothing goes on with what was
    rolled back. Monitoring may ask for a rollback of the champion that it found bad, and of no other one.

    :raises RollbackOutdatedError: the champion that monitoring found bad serves no longer.
    :raises NoDecisionError: the run says that monitoring asked for it, and the ledger does not.
    :raises LedgerError: there is no earlier champion, or it is not the version that the request names.
    :raises DigestMismatchError: the bytes of the previous champion are not those that served; nothing is changed.
    :raises TargetRefusedError: a sandbox moves nothing.
    """
    request, at = job.request, tools.clock()
    # A command has no run that could be repeated: each one is a rollback of its own.
    key = request.run_id or f"command {at.isoformat()}"
    with _refusal_audited("rollback", request, tools):
        _refuse_sandbox(request, tools)
        move = tools.ledger.rolled_back(request.model, tools.environment, key)
        if move is None:
            _refuse_unwanted(request, tools)
        version = request.version if move is not None else _looked_back(job, tools)
    if move is None:
        move = tools.ledger.rollback(
            request.model,
            tools.environment,
            key=key,
            moved_by=request.requester or (MONITORING if request.epoch is not None else "unknown"),
            reason=request.reason.strip() or "no reason given",
            at=at,
            version=version,
            epoch=request.epoch,
        )
    with _refusal_audited("rollback", request, tools):
        return _carry_out(move, _places(move, job.target, tools), _no_objection, tools)


def rehearse_rollback(job: DrillJob, tools: Tools) -> DrillReport:
    """Everything that a rollback does, but the traffic: fetch, hash and load what would come back, and time it."""
    begun = tools.clock()
    head = tools.ledger.head(job.request.model, tools.environment)
    back = tools.ledger.previous(job.request.model, tools.environment)
    within_s = job.within.total_seconds()
    facts = {
        "model": job.request.model,
        "from_version": head.version if head else None,
        "to_version": back.version if back else None,
        "epoch": head.epoch if head else 0,
        "within_s": within_s,
    }
    if back is None:
        nothing = "there is no earlier champion to go back to"
        return DrillReport.model_validate({**facts, "verdict": Verdict.INCONCLUSIVE, "detail": nothing})
    try:
        _rehearse(back, job.target, tools)
    except PassingError:
        raise
    except LifecycleError as error:
        return DrillReport.model_validate({**facts, "verdict": Verdict.FAIL, "detail": str(error)})
    seconds = (tools.clock() - begun).total_seconds()
    slow = "" if seconds <= within_s else f"it took {seconds:.1f} s, and may take {within_s:.1f} s"
    verdict = Verdict.FAIL if slow else Verdict.PASS
    return DrillReport.model_validate({**facts, "verdict": verdict, "seconds": seconds, "detail": slow})


def finish(move: Move, otherwise: Mapping[str, Any], tools: Tools) -> Deployment:
    """Carry out what an earlier run left undone: the move in force, made under a decision that still stands.

    :param otherwise: Where to serve, if the ledger does not say where the move's version does.
    :raises NoDecisionError: the decision behind it is blocked, or is not there.
    """
    places = _places(move, otherwise, tools)
    return _carry_out(move, places, lambda: _refuse_unfounded(move, tools), tools)


def restore(move: Move, target: DeploymentTarget, tools: Tools) -> None:
    """Make the target serve the move in force, whatever it serves or claims.

    :raises NoDecisionError: the decision behind it is blocked, or is not there.
    :raises StaleEpochError: it is in force no longer.
    """
    _refuse_unfounded(move, tools)
    _check_bytes(move.uri, move.digest, tools)
    _refuse_superseded(move, tools)
    target.restore(move, means_of(tools))
    _follow(move, target, tools)


def target_of(move: Move, otherwise: Mapping[str, Any]) -> DeploymentTarget:
    """Where a move's version serves: as the ledger says, else as ``otherwise`` does."""
    return target_from(move.target or otherwise)


# --- Whether it may be done ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Right:
    """What gives the right to a release; it is read anew each time."""

    ask_id: str
    version: ModelVersion
    job: DeploymentJob
    tools: Tools

    def check(self) -> None:
        """Refuse unless the decision gives the right at this moment, to the move or to finishing it."""
        tools, name, job = self.tools, self.version.name, self.job
        decision = _unblocked(self.ask_id, name, tools)
        _refuse_contradicted(decision, tools)
        _refuse_unsigned(decision, tools)
        moves = tools.ledger.moves(name, tools.environment)
        is_made = any(move.decision_id == self.ask_id for move in moves)
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


def _no_objection() -> None:
    """A rollback needs no decision."""


def _refuse_unfounded(move: Move, tools: Tools) -> None:
    """A release rests on a decision; what was right when it was made may have been blocked since."""
    if move.decision_id is None:
        return
    decision = _unblocked(move.decision_id, move.model, tools)
    if (decision.outcome, decision.ask.digest) != ("approve", move.digest):
        raise NoDecisionError(
            f"no approval of version {move.version} ({move.digest[:8]}) stands behind epoch {move.epoch}",
            where=f"{move.model} in {move.environment}",
            way_out=f"run {move.model}_rollback, and find out who wrote into the ledger",
        )


def _unblocked(ask_id: str, model: str, tools: Tools) -> Decision:
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


def _refuse_unwanted(request: RunRequest, tools: Tools) -> None:
    """An event that anybody may write starts no rollback: monitoring's own answer has to stand in the ledger."""
    if request.epoch is not None and not is_wanted(request.model, request.epoch, tools):
        raise NoDecisionError(
            f"monitoring asked for no rollback of epoch {request.epoch}",
            where=f"{request.model} in {tools.environment}",
            way_out=f"trigger {request.model}_rollback by hand to go back",
        )
    if why := is_outdated(request.epoch, tools.ledger.head(request.model, tools.environment)):
        raise RollbackOutdatedError(
            why, where=f"{request.model} in {tools.environment}", way_out="nothing is to be done"
        )


def _refuse_sandbox(request: RunRequest, tools: Tools) -> None:
    if tools.environment == SANDBOX:
        raise TargetRefusedError(
            f"the environment {SANDBOX!r} deploys nothing and rolls nothing back",
            where=request.run_id or "command",
            way_out="run it in the deployment whose [ml_lifecycle] environment is the one that serves",
        )


@contextmanager
def _refusal_audited(action: str, request: RunRequest, tools: Tools) -> Iterator[None]:
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


# --- Before the move -------------------------------------------------------------------------------------------------


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


def _looked_back(job: RollbackJob, tools: Tools) -> int | None:
    """The version that comes back, its bytes and its place looked at; ``None`` where the ledger has to say no."""
    request = job.request
    back = tools.ledger.previous(request.model, tools.environment)
    if back is None:
        return request.version
    _check_bytes(back.uri, back.digest, tools)
    target_of(back, job.target).status(request.model, means_of(tools))
    return request.version if request.version is not None else back.version


def _check_bytes(uri: str, digest: str, tools: Tools) -> None:
    with verified_package(uri, digest, tools):
        pass


# --- Carrying a move out ---------------------------------------------------------------------------------------------


def _places(move: Move, otherwise: Mapping[str, Any], tools: Tools) -> list[DeploymentTarget]:
    """Where the move's version has to serve: its own place, and for a rollback the one that it leaves."""
    places = [target_of(move, otherwise)]
    if move.kind == "rollback":
        before = [one for one in tools.ledger.moves(move.model, move.environment) if one.epoch < move.epoch]
        places += [target_of(before[-1], otherwise)] if before else []
    return list(dict.fromkeys(places))


def _carry_out(move: Move, places: Sequence[DeploymentTarget], check: Callable[[], None], tools: Tools) -> Deployment:
    """Level-triggered: whatever an earlier try left, the places serve the move's version at the end."""

    def refuse() -> None:
        check()
        _refuse_superseded(move, tools)

    refuse()
    _note(move, "intent", {"targets": [place.model_dump(mode="json") for place in places]}, tools)
    seen = [_serve(move, place, refuse, tools) for place in places]
    shown = {str(version): percent for version, percent in seen[0].items()}
    _note(move, "observed", {"traffic": shown}, tools)
    refuse()
    _note(move, "done", {}, tools)
    earlier = [one for one in tools.ledger.moves(move.model, move.environment) if one.epoch < move.epoch]
    return Deployment(champion=move, previous=earlier[-1] if earlier else None, traffic=shown)


def _serve(move: Move, target: DeploymentTarget, refuse: Callable[[], None], tools: Tools) -> Mapping[int, int]:
    _check_bytes(move.uri, move.digest, tools)
    refuse()
    target.promote(move, means_of(tools))
    _follow(move, target, tools)
    traffic = target.status(move.model, means_of(tools)).traffic
    _refuse_other_traffic(move, traffic, target)
    return traffic


def _follow(move: Move, target: DeploymentTarget, tools: Tools) -> None:
    """A newer move may have come in between, and this try may have undone what that one did.

    :raises StaleEpochError: it has; the target serves the newer one again.
    """
    head = tools.ledger.head(move.model, move.environment)
    if head is not None and head.epoch > move.epoch:
        _check_bytes(head.uri, head.digest, tools)
        target.restore(head, means_of(tools))
    _refuse_superseded(move, tools)


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
    if dict(traffic) != {move.version: ALL_TRAFFIC}:
        raise ServiceUnavailableError(
            f"the target serves {dict(traffic) or 'nothing'}, not version {move.version} alone",
            where=f"{move.model} on {target.backend}",
            way_out="the next try sets it again; if it stays, find out who else moves it",
        )


# --- Rehearsing ------------------------------------------------------------------------------------------------------


def _rehearse(back: Move, otherwise: Mapping[str, Any], tools: Tools) -> None:
    target = target_of(back, otherwise)
    load_champion(back, tools)
    traffic = target.rehearse(back, means_of(tools))
    if dict(traffic) != {back.version: ALL_TRAFFIC}:
        raise RollbackNotReadyError(
            f"the rehearsal served {dict(traffic) or 'nothing'}, not version {back.version} alone",
            where=f"{back.model} on {target.backend}",
            way_out="find out who else moves it",
        )
