"""What the ledger says, made true: targets set right, deployments that were left ended, everything checked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.base import DeploymentTarget
from ml_lifecycle.core.approval import is_escalated
from ml_lifecycle.core.contracts import Ask, Contract, Deployment, EscalationNotice, Move
from ml_lifecycle.core.deployment import ALL_TRAFFIC, DEFAULT_TARGET, SANDBOX, is_rolling_out
from ml_lifecycle.core.errors import LedgerError, LifecycleError, NoDecisionError, PassingError, StaleEpochError
from ml_lifecycle.core.invariants import AskRecord, Snapshot, Violation, is_open, violations
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import finish, refuse_unfounded, restore, target_of
from ml_lifecycle.stages.rollout import largest_share, splitting, take_back
from ml_lifecycle.stages.runner import Tools, record

BY_HAND = "move by hand"
"""What the audit calls a target that serves something else than the ledger says."""
UNKNOWN = "unknown"


class ReconciliationJob(Contract):
    """Whose state is made true."""

    model: str
    target: dict[str, Any] = Field(default_factory=lambda: dict(DEFAULT_TARGET))
    """Where it serves, if the ledger does not say."""


class Reconciliation(Contract):
    """What was found, and done about it."""

    model: str
    epoch: int = 0
    """The head; 0 before the first release."""
    version: int | None = None
    finished: tuple[int, ...] = ()
    """Epochs whose deployment an earlier run left, and this one carried out."""
    closed: tuple[int, ...] = ()
    """Epochs whose deployment a newer move overtook."""
    repaired: tuple[str, ...] = ()
    """Where the target said something else than the ledger, and was set right."""
    unrepaired: tuple[str, ...] = ()
    """What could not be set right, with why."""
    violations: tuple[Violation, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """What somebody has to mend; empty where all is sound."""
        return (*(f"{self.model}: {why}" for why in self.unrepaired), *map(str, self.violations))


def reconcile(job: ReconciliationJob, tools: Tools) -> Reconciliation:
    """Make one model's target what the ledger says it is, and check every invariant; doing it again does nothing.

    A sandbox is only checked.
    """
    done: dict[str, Any] = {}
    if tools.environment != SANDBOX:
        try:
            done = _repaired(job, tools)
        except PassingError:
            raise
        except LifecycleError as error:
            done = {"unrepaired": (str(error),)}
    head = tools.ledger.head(job.model, tools.environment)
    facts = {"epoch": head.epoch, "version": head.version} if head else {}
    found = violations(snapshot(job.model, tools, target=job.target))
    if found:
        # The first picture may hold half of what was just being written.
        found = violations(snapshot(job.model, tools, target=job.target))
    return Reconciliation(model=job.model, violations=found, **facts, **done)


def due_escalations(model: str, tools: Tools) -> tuple[Ask, ...]:
    """Open questions that have waited long enough for a second list of people, who were not told yet."""
    at = tools.clock()
    told = {row["content"]["ask_id"] for row in tools.ledger.results(tools.environment, model, "escalate")}
    return tuple(ask for ask in tools.ledger.open_asks(model, tools.environment) if _is_due(ask, told, at, tools))


def note_escalation(ask: Ask, tools: Tools) -> None:
    """Write down that the second list of people was told, so that nobody tells them again."""
    notice = EscalationNotice(model=ask.model, ask_id=ask.ask_id, told=ask.terms.escalate_to)
    record("escalate", notice, tools, model=ask.model)


def snapshot(
    model: str, tools: Tools, *, target: Mapping[str, Any] | None = None, look: bool = True, runs: bool = False
) -> Snapshot:
    """One picture of a model for the checker of invariants.

    :param target: Where it serves, if the ledger does not say.
    :param look: Whether the target and the registry are asked; else only the ledger is.
    :param runs: Whether the tracking server is asked for the runs of each training, one call each.
    """
    ledger, environment = tools.ledger, tools.environment
    # The target first: a release between the two readings must not look like a target that fell behind.
    head = ledger.head(model, environment)
    observed = dict(_place(head, target or DEFAULT_TARGET).status(model, means_of(tools)).traffic) if look else None
    moves = ledger.moves(model, environment)
    if (moves[-1] if moves else None) != head:
        observed = None
    audit = tuple(row for row in ledger.audit(model) if row["environment"] == environment)
    asks = (row["detail"] for row in audit if row["action"] == "ask")
    return Snapshot(
        model=model,
        environment=environment,
        moves=moves,
        asks={ask_id: found for ask_id in asks if (found := _ask_record(ask_id, tools)) is not None},
        steps={move.epoch: steps for move in moves if (steps := ledger.deployment_states(move))},
        deployments=tuple(_deployments(model, tools)),
        audit=audit,
        chain=_chain(model, tools),
        observed=observed,
        reached=_reached(head, tools),
        runs=_runs(model, tools, ask=runs),
        versions=_versions(model, tools, ask=look),
    )


# --- Setting right ---------------------------------------------------------------------------------------------------


def _repaired(job: ReconciliationJob, tools: Tools) -> dict[str, Any]:
    moves = tools.ledger.moves(job.model, tools.environment)
    if not moves:
        return {}
    *earlier, head = moves
    done: dict[str, Any] = {"closed": tuple(_closed(earlier, head, tools))}
    try:
        states = tools.ledger.deployment_states(head)
        if is_rolling_out(head, states):
            done |= _looked_after(head, tools)
        elif is_open(states):
            finish(head, job.target, tools)
            done["finished"] = (head.epoch,)
        elif strange := _strange(head, job.target, tools):
            _restore(head, strange, job.target, tools)
            done["repaired"] = (strange,)
    except StaleEpochError:
        # A move that is being made at this moment: the next run finds it done.
        if (now := tools.ledger.head(job.model, tools.environment)) is None or now.epoch == head.epoch:
            raise
    except PassingError:
        raise
    except LifecycleError as error:
        done["unrepaired"] = (str(error),)
    return done


def _closed(earlier: Sequence[Move], head: Move, tools: Tools) -> list[int]:
    """Epochs whose deployment was open, and which the head overtook."""
    overtaken = [move for move in earlier if is_open(tools.ledger.deployment_states(move))]
    for move in overtaken:
        tools.ledger.record_deployment(move, "superseded", detail={"by": head.epoch}, at=tools.clock())
    return [move.epoch for move in overtaken]


def _reached(head: Move | None, tools: Tools) -> int | None:
    if head is None or not is_rolling_out(head, tools.ledger.deployment_states(head)):
        return None
    return largest_share(head, tools)


def _looked_after(head: Move, tools: Tools) -> dict[str, Any]:
    """A rollout is left to its release, unless the new version does not work, or has lost its right to go on.

    Traffic that no step gave is taken back, too: evidence would be about another split than it says.
    """
    serving = splitting(head.target).status(head.model, means_of(tools))
    if why := serving.fault or _unfounded(head, tools):
        take_back(head, why, tools)
        return {"repaired": (f"the rollout of version {head.version} was taken back: {why}",)}
    # Read after the target: a step writes down what it gives before it gives it.
    share, reached = serving.traffic.get(head.version, 0), largest_share(head, tools)
    if share <= reached:
        return {}
    strange = f"the target gives version {head.version} {share}%, and no step more than {reached}%"
    _note_by_hand(head, strange, tools)
    splitting(head.target).set_split(head, reached, means_of(tools))
    return {"repaired": (strange,)}


def _unfounded(head: Move, tools: Tools) -> str:
    """Why no decision stands behind a release; empty where one does."""
    try:
        refuse_unfounded(head, tools)
    except NoDecisionError as why:
        return why.what
    return ""


def _strange(head: Move, otherwise: Mapping[str, Any], tools: Tools) -> str:
    """How the target differs from the head; empty where it does not, or where a newer move was made meanwhile."""
    target = target_of(head, otherwise)
    serving = target.status(head.model, means_of(tools))
    seen = dict(serving.traffic)
    epoch = serving.epoch if serving.environment == head.environment else 0
    # Read again after the target: what a newer move has just set is not strange.
    now = tools.ledger.head(head.model, head.environment)
    is_right = seen == {head.version: ALL_TRAFFIC} and epoch in (0, head.epoch)
    if now is None or now.epoch != head.epoch or is_right:
        return ""
    serves = ", ".join(f"version {version} with {share}%" for version, share in sorted(seen.items())) or "nothing"
    claims = "" if epoch in (0, head.epoch) else f" and claims epoch {epoch}"
    return f"the target serves {serves}{claims}; version {head.version} at epoch {head.epoch} is in force"


def _restore(head: Move, strange: str, otherwise: Mapping[str, Any], tools: Tools) -> None:
    _note_by_hand(head, strange, tools)
    restore(head, target_of(head, otherwise), tools)


def _note_by_hand(head: Move, strange: str, tools: Tools) -> None:
    """Before it is set back: an undone move without its row would be one that nobody hears of."""
    tools.ledger.record_refusal(
        head.model, head.environment, action=BY_HAND, by=UNKNOWN, why=f"{strange}; it is set back", at=tools.clock()
    )


def _is_due(ask: Ask, told: set[str], at: datetime, tools: Tools) -> bool:
    asked = tools.ledger.asked(ask.ask_id)
    if asked is None or ask.ask_id in told or (asked.expires_at is not None and at > asked.expires_at):
        return False
    return is_escalated(ask.terms, asked_at=asked.at, at=at)


# --- The picture -----------------------------------------------------------------------------------------------------


def _place(head: Move | None, otherwise: Mapping[str, Any]) -> DeploymentTarget:
    return target_of(head, otherwise) if head is not None else target_from(otherwise)


def _ask_record(ask_id: str, tools: Tools) -> AskRecord | None:
    asked = tools.ledger.asked(ask_id)
    if asked is None:
        return None
    return AskRecord(
        ask=asked.ask,
        asked_at=asked.at,
        expires_at=asked.expires_at,
        requested_by=asked.requested_by,
        excluded=asked.excluded,
        blocked=asked.blocked,
        decision=tools.ledger.decision(ask_id),
        votes=tools.ledger.votes(ask_id),
        postings=tools.ledger.postings(ask_id),
    )


def _deployments(model: str, tools: Tools) -> Iterator[Deployment]:
    for stage in ("deploy", "roll_back", "promote", "retire"):
        for row in tools.ledger.results(tools.environment, model, stage):
            yield Deployment.model_validate(row["content"])


def _chain(model: str, tools: Tools) -> str:
    try:
        tools.ledger.verify_audit(model)
    except LedgerError as error:
        return str(error)
    return ""


def _runs(model: str, tools: Tools, *, ask: bool) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in tools.ledger.results(tools.environment, model, "train"):
        found[row["content"]["training_key"]].append(row["content"]["run_id"])
    if ask:
        for key, known in found.items():
            known.extend(tools.tracking.runs_of(model, key))
    return {key: tuple(dict.fromkeys(known)) for key, known in found.items()}


def _versions(model: str, tools: Tools, *, ask: bool) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row in tools.ledger.results(tools.environment, model, "register"):
        found[row["content"]["training_key"]].append(row["content"]["version"])
    if ask:
        for version in tools.registry.versions(model):
            if version.training_key:
                found[version.training_key].append(version.version)
    return {key: tuple(dict.fromkeys(known)) for key, known in found.items()}
