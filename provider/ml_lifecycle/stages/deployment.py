"""A decision in, a moved champion out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field

from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.base import DeploymentTarget, Serving
from ml_lifecycle.core.contracts import (
    Contract,
    Deployment,
    DrillReport,
    Move,
    RunRequest,
    Verdict,
)
from ml_lifecycle.core.deployment import (
    ALL_TRAFFIC,
    DEFAULT_TARGET,
    MONITORING,
    is_outdated,
    is_rolling_out,
)
from ml_lifecycle.core.errors import (
    LifecycleError,
    NoDecisionError,
    PassingError,
    RollbackNotReadyError,
    RollbackOutdatedError,
    ServiceUnavailableError,
    StaleEpochError,
    StillSettlingError,
    TargetFaultError,
)
from ml_lifecycle.stages.champion import load_champion, means_of
from ml_lifecycle.stages.release_right import (
    DeploymentJob,
    Right,
    check_bytes,
    refusal_audited,
    refuse_sandbox,
    right_of,
    unblocked,
)
from ml_lifecycle.stages.response import is_wanted
from ml_lifecycle.stages.runner import Tools


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
    request = job.request
    with refusal_audited("release", request, tools):
        target = target_from(job.target)
        right = right_of(job, tools)
        if right is None:
            return None
        version, decision = right.version, right.decision
        check_bytes(version.uri, version.digest, tools)
        refuse_second(right, tools)
        target.status(version.name, means_of(tools))  # what cannot be looked at must not be moved
        right.check()
    # The ledger writes its own refusals down.
    options = target.model_dump(mode="json")
    move = tools.ledger.release(version, decision, moved_by=decision.decided_by, at=tools.clock(), target=options)
    with refusal_audited("release", request, tools):
        return carry_out(move, [target], right.check, tools)


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
    with refusal_audited("rollback", request, tools):
        refuse_sandbox(request, tools)
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
    with refusal_audited("rollback", request, tools):
        return carry_out(move, places_of(move, job.target, tools), no_objection, tools)


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
    places = places_of(move, otherwise, tools)
    return carry_out(move, places, lambda: refuse_unfounded(move, tools), tools)


def restore(move: Move, target: DeploymentTarget, tools: Tools) -> None:
    """Make the target serve the move in force, whatever it serves or claims.

    :raises NoDecisionError: the decision behind it is blocked, or is not there.
    :raises StaleEpochError: it is in force no longer.
    """
    refuse_unfounded(move, tools)
    check_bytes(move.uri, move.digest, tools)
    refuse_superseded(move, tools)
    target.restore(move, means_of(tools))
    follow(move, target, tools)


def target_of(move: Move, otherwise: Mapping[str, Any]) -> DeploymentTarget:
    """Where a move's version serves: as the ledger says, else as ``otherwise`` does."""
    return target_from(move.target or otherwise)


# --- Whether it may be done ------------------------------------------------------------------------------------------


def no_objection() -> None:
    """A rollback needs no decision."""


def refuse_unfounded(move: Move, tools: Tools) -> None:
    """A release rests on a decision; what was right when it was made may have been blocked since."""
    if move.decision_id is None:
        return
    decision = unblocked(move.decision_id, move.model, tools)
    if (decision.outcome, decision.ask.digest) != ("approve", move.digest):
        raise NoDecisionError(
            f"no approval of version {move.version} ({move.digest[:8]}) stands behind epoch {move.epoch}",
            where=f"{move.model} in {move.environment}",
            way_out=f"run {move.model}_rollback, and find out who wrote into the ledger",
        )


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


# --- Before the move -------------------------------------------------------------------------------------------------


def _looked_back(job: RollbackJob, tools: Tools) -> int | None:
    """The version that comes back, its bytes and its place looked at; ``None`` where the ledger has to say no."""
    request = job.request
    back = tools.ledger.previous(request.model, tools.environment)
    if back is None:
        return request.version
    check_bytes(back.uri, back.digest, tools)
    target_of(back, job.target).status(request.model, means_of(tools))
    return request.version if request.version is not None else back.version


# --- Carrying a move out ---------------------------------------------------------------------------------------------


def places_of(move: Move, otherwise: Mapping[str, Any], tools: Tools) -> list[DeploymentTarget]:
    """Where the move's version has to serve: its own place, and for a rollback the one that it leaves."""
    places = [target_of(move, otherwise)]
    if move.kind == "rollback":
        before = [one for one in tools.ledger.moves(move.model, move.environment) if one.epoch < move.epoch]
        places += [target_of(before[-1], otherwise)] if before else []
    return list(dict.fromkeys(places))


def carry_out(move: Move, places: Sequence[DeploymentTarget], check: Callable[[], None], tools: Tools) -> Deployment:
    """Level-triggered: whatever an earlier try left, the places serve the move's version at the end.

    :param check: Raises where the move may no longer be carried out.
    """

    def refuse() -> None:
        check()
        refuse_superseded(move, tools)

    refuse()
    note(move, "intent", {"targets": [place.model_dump(mode="json") for place in places]}, tools)
    seen = [_serve(move, place, refuse, tools) for place in places]
    shown = {str(version): percent for version, percent in seen[0].items()}
    note(move, "observed", {"traffic": shown}, tools)
    refuse()
    note(move, "done", {}, tools)
    earlier = [one for one in tools.ledger.moves(move.model, move.environment) if one.epoch < move.epoch]
    return Deployment(champion=move, previous=earlier[-1] if earlier else None, traffic=shown)


def _serve(move: Move, target: DeploymentTarget, refuse: Callable[[], None], tools: Tools) -> Mapping[int, int]:
    check_bytes(move.uri, move.digest, tools)
    refuse()
    target.promote(move, means_of(tools))
    follow(move, target, tools)
    traffic = settled(move, target, tools).traffic
    _refuse_other_traffic(move, traffic, target)
    return traffic


def follow(move: Move, target: DeploymentTarget, tools: Tools) -> None:
    """Call it after each write to a target: a newer move may have come in between, and this try may have undone it.

    :raises StaleEpochError: it has; the target serves the newer one again.
    """
    head = tools.ledger.head(move.model, move.environment)
    if head is not None and head.epoch > move.epoch:
        check_bytes(head.uri, head.digest, tools)
        target.restore(head, means_of(tools))
    refuse_superseded(move, tools)


def settled(move: Move, target: DeploymentTarget, tools: Tools) -> Serving:
    """What serves, once the target is where it was asked to be.

    :raises StillSettlingError: it is on its way.
    :raises TargetFaultError: it will not get there.
    """
    serving = target.status(move.model, means_of(tools))
    where = f"{move.model} on {target.backend}"
    if serving.fault:
        raise TargetFaultError(serving.fault, where=where, way_out="mend it, then release again")
    if not serving.settled:
        raise StillSettlingError(
            serving.detail or "it is on its way to what was asked of it", where=where, way_out="wait, then look again"
        )
    return serving


def note(move: Move, state: str, detail: Mapping[str, Any], tools: Tools) -> None:
    """Note a step of carrying a move out."""
    tools.ledger.record_deployment(move, state, detail=detail, at=tools.clock())


def refuse_superseded(move: Move, tools: Tools) -> None:
    """Only the move in force is carried out.

    :raises StaleEpochError: another one is.
    """
    head = tools.ledger.head(move.model, move.environment)
    if head is None or head.epoch != move.epoch:
        now = f"version {head.version} at epoch {head.epoch}" if head is not None else "nothing"
        raise StaleEpochError(
            f"version {move.version} was moved at epoch {move.epoch}, but {now} is in force",
            where=f"{move.model} in {move.environment}",
            way_out="run a new release: an old one is not repeated",
        )


def refuse_second(right: Right, tools: Tools) -> None:
    """Nothing is released while another version is being rolled out.

    :raises StaleEpochError: one is.
    """
    head = tools.ledger.head(right.version.name, tools.environment)
    if head is None or head.decision_id == right.decision.ask.ask_id:
        return
    if is_rolling_out(head, tools.ledger.deployment_states(head)):
        raise StaleEpochError(
            f"version {head.version} is being rolled out at epoch {head.epoch}: two at a time could not be told apart",
            where=f"{head.model} in {head.environment}",
            way_out="wait for its end, then run the release again",
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
