"""When a decision gives the right to a move, and which champion a rollback brings back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from ml_lifecycle.core.approval import POLICY, Required, policy_decides
from ml_lifecycle.core.contracts import Ask, Decision, ModelVersion, Move, Verdict

NAMED = {
    "digest": "digest",
    "dataset_fingerprint": "data fingerprint",
    "metrics_digest": "metrics digest",
    "gate_verdict": "gate verdict",
    "policy_digest": "policy digest",
}
"""What a decision is about beside model, version and environment, and what a person calls it."""

DEFAULT_TARGET: Mapping[str, Any] = {"backend": "alias"}
"""Where a model serves that says nothing else."""
ALL_TRAFFIC = 100
"""Percent."""
ANALYSIS = "analysis"
"""Who took a rollout back whose step failed."""
MONITORING = "monitoring"
"""Who moved a champion that monitoring asked to roll back."""
SANDBOX = "sandbox"
"""The environment in which nothing is ever moved."""


def objection(
    decision: Decision,
    version: ModelVersion,
    environment: str,
    moves: Sequence[Move],
    at: datetime | None,
    *,
    policy_digest: str | None = None,
    required: Required | None = None,
) -> str:
    """Why the decision does not let the version become champion; empty where it does.

    Whether another move came in between is not looked at: see :func:`is_stale`.

    :param moves: All moves of the model in this environment, by epoch.
    :param at: This moment, while the move is still to be made; ``None`` once it was made in time.
    :param policy_digest: Digest of the gate's rules as they are at this moment, where they are known.
    :param required: When the pipeline asks a person, as it says at this moment, where that is known.
    """
    found = _objections(decision, version, environment, moves, at=at, policy_digest=policy_digest, required=required)
    return next(found, "")


def is_stale(ask: Ask, head: Move | None) -> bool:
    """Whether another move was made since the question was asked."""
    return ask.epoch != epoch_of(head)


def epoch_of(head: Move | None) -> int:
    """The epoch in force: 0 before the first release."""
    return head.epoch if head else 0


def is_rolling_out(move: Move, states: Collection[str]) -> bool:
    """Whether a move's version is still being given traffic step by step.

    :param states: The steps of carrying the move out, as the ledger has them.
    """
    steps = [step for step in move.target.get("steps", ()) if step != ALL_TRAFFIC]
    return bool(steps) and move.kind == "release" and move.epoch > 1 and not {"done", "superseded"} & set(states)


def is_outdated(epoch: int | None, head: Move | None) -> str:
    """Why a rollback that was asked for at an epoch is no longer called for; empty where it is.

    :param epoch: ``None`` where whoever asked named none.
    """
    if epoch is None or epoch == epoch_of(head):
        return ""
    now = f"version {head.version} at epoch {head.epoch}" if head else "nothing"
    return f"the rollback was asked for at epoch {epoch}, and {now} is in force"


def denied(moves: Sequence[Move]) -> dict[str, Move]:
    """Digests that were rolled back away from and not released again since, each with the rollback that did it."""
    found: dict[str, Move] = {}
    for before, move in pairwise(moves):
        if move.kind == "rollback":
            found[before.digest] = move
        else:
            found.pop(move.digest, None)
    return found


def previous_champion(moves: Sequence[Move], *, blocked: Collection[str]) -> Move | None:
    """What a rollback brings back: the newest champion of another digest that was not rolled back away from.

    Rollbacks in a row walk further back, and never return to what they left. ``None`` where there is nothing earlier.

    :param blocked: Decisions that give no right to anything: what they released does not come back.
    """
    if not moves:
        return None
    head, refused = moves[-1], denied(moves)
    earlier = (
        move
        for move in reversed(moves)
        if move.digest != head.digest and move.digest not in refused and _decision_behind(move, moves) not in blocked
    )
    return next(earlier, None)


def _decision_behind(move: Move, moves: Sequence[Move]) -> str | None:
    """The decision that a champion rests on; that of a rollback is the one under which its digest was released."""
    earlier = (one for one in reversed(moves) if one.epoch <= move.epoch and one.digest == move.digest)
    return next((one.decision_id for one in earlier if one.kind == "release"), None)


def _objections(
    decision: Decision,
    version: ModelVersion,
    environment: str,
    moves: Sequence[Move],
    *,
    at: datetime | None,
    policy_digest: str | None,
    required: Required | None,
) -> Iterator[str]:
    ask = decision.ask
    if decision.outcome != "approve":
        yield f"{decision.decided_by} rejected it"
    if at is not None and decision.expires_at is not None and at > decision.expires_at:
        yield f"the approval by {decision.decided_by} expired at {decision.expires_at.isoformat()}"
    if ask.environment != environment:
        yield f"the approval is for the environment {ask.environment!r}, not {environment!r}"
    if (ask.model, ask.version) != (version.name, version.version):
        yield f"the approval is about {ask.model} version {ask.version}, not {version.name} version {version.version}"
    for field, name in NAMED.items():
        if getattr(ask, field) != getattr(version, field):
            yield f"the approval is about the {name} {_brief(ask, field)}, not {_brief(version, field)}"
    if ask.gate_verdict is Verdict.FAIL:
        yield "the gate failed it"
    if policy_digest is not None and policy_digest != ask.policy_digest:
        yield (
            f"the gate was changed after it was approved: the policy digest is {policy_digest[:8]}, "
            f"and the approval is about {ask.policy_digest[:8]}"
        )
    if required is not None and decision.decided_by == POLICY and not policy_decides(required, ask.gate_verdict):
        yield "policy approved it, and the pipeline wants a person to"
    yield from _objections_after_rollback(decision, moves)


def _objections_after_rollback(decision: Decision, moves: Sequence[Move]) -> Iterator[str]:
    rollback = denied(moves).get(decision.ask.digest)
    # By epoch, which no clock can set wrong: an ask names the one in force.
    if rollback is not None and decision.ask.epoch < rollback.epoch:
        yield (
            f"the digest was rolled back at epoch {rollback.epoch} ({rollback.moved_at.isoformat()}), "
            f"after it was approved at {decision.decided_at.isoformat()}"
        )
    elif rollback is not None and decision.decided_by == POLICY:
        yield f"the digest was rolled back at epoch {rollback.epoch}, and only a person brings it back, not policy"


def _brief(value: Ask | ModelVersion, field: str) -> str:
    held = getattr(value, field)
    return str(held.value) if isinstance(held, Verdict) else str(held)[:8]
