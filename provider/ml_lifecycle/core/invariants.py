"""What must hold of a model at every moment, checked over one picture of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ml_lifecycle.core import approval
from ml_lifecycle.core.answers import CLOCKS_DIFFER
from ml_lifecycle.core.contracts import Ask, Contract, Decision, Deployment, Move, Posting, Verdict, Vote
from ml_lifecycle.core.deployment import ALL_TRAFFIC, SANDBOX, denied

Invariant = Literal[
    "one champion",
    "epochs without a gap",
    "valid decision",
    "votes",
    "no release of a denied digest",
    "one move per decision",
    "written ahead",
    "target serves the head",
    "traffic",
    "one audit row per move",
    "audit chain",
    "one run and version per training",
    "no move in a sandbox",
]


class Violation(Contract):
    """One thing that does not hold."""

    invariant: Invariant
    what: str
    """The values that do not fit together."""
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.invariant}: {self.what}"


@dataclass(frozen=True)
class AskRecord:
    """A question with everything that became of it."""

    ask: Ask
    asked_at: datetime
    expires_at: datetime | None = None
    requested_by: str | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)
    blocked: str = ""
    decision: Decision | None = None
    votes: tuple[Vote, ...] = ()
    """Oldest first."""
    postings: tuple[Posting, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """One model in one environment, as the ledger, the target and the tracking server describe it."""

    model: str
    environment: str
    moves: tuple[Move, ...] = ()
    asks: Mapping[str, AskRecord] = field(default_factory=dict)
    """By the ask's id."""
    steps: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """The steps of carrying a move out, by its epoch."""
    deployments: tuple[Deployment, ...] = ()
    """What deployments concluded."""
    audit: tuple[Mapping[str, Any], ...] = ()
    """The rows of this environment, in order."""
    chain: str = ""
    """Why the audit cannot be trusted; empty where it can."""
    observed: Mapping[int, int] | None = None
    """Percent of the traffic by version; ``None`` where nobody looked."""
    reached: int | None = None
    """The largest percent that a step of the open rollout asked for; ``None`` where none is open."""
    runs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of runs by training key."""
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Versions by training key."""

    @property
    def head(self) -> Move | None:
        """The move in force."""
        return max(self.moves, key=lambda move: move.epoch, default=None)

    @property
    def open_moves(self) -> tuple[Move, ...]:
        """Moves whose deployment was begun and not ended."""
        return tuple(move for move in self.moves if is_open(self.steps.get(move.epoch, ())))


def is_open(steps: Sequence[str]) -> bool:
    """Whether a deployment still has to be carried out, or closed."""
    return "done" not in steps and "superseded" not in steps


def violations(snapshot: Snapshot) -> tuple[Violation, ...]:
    """Everything that does not hold; nothing where all is sound."""
    place = f"{snapshot.model} in {snapshot.environment}"
    return tuple(
        Violation(invariant=invariant, what=what, where=f"{place}, {where}" if where else place)
        for invariant, where, what in _broken(snapshot)
    )


Found = tuple[Invariant, str, str]
"""The invariant, its place, and what is wrong."""


def _broken(snapshot: Snapshot) -> Iterator[Found]:
    yield from _epochs(snapshot.moves)
    yield from _sandbox(snapshot)
    yield from _decisions(snapshot)
    yield from _votes(snapshot.asks)
    yield from _denied(snapshot)
    yield from _reused(snapshot.moves)
    yield from _written_ahead(snapshot)
    yield from _served(snapshot)
    yield from _traffic(snapshot)
    yield from _audit(snapshot)
    yield from _trainings(snapshot)


# --- Moves -----------------------------------------------------------------------------------------------------------


def _epochs(moves: Sequence[Move]) -> Iterator[Found]:
    counted = Counter(move.epoch for move in moves)
    for epoch, count in sorted(counted.items()):
        if count > 1:
            versions = ", ".join(str(move.version) for move in moves if move.epoch == epoch)
            yield "one champion", f"epoch {epoch}", f"versions {versions} are all champion"
    for epoch in range(1, max(counted, default=0)):
        if epoch not in counted:
            yield "epochs without a gap", f"epoch {epoch}", f"it is missing, and the head is at {max(counted)}"


def _sandbox(snapshot: Snapshot) -> Iterator[Found]:
    if snapshot.environment == SANDBOX and snapshot.moves:
        yield "no move in a sandbox", f"epoch {snapshot.moves[-1].epoch}", "a sandbox has a champion"


def _reused(moves: Sequence[Move]) -> Iterator[Found]:
    for decision_id, count in Counter(move.decision_id for move in moves if move.decision_id).items():
        if count > 1:
            yield "one move per decision", f"decision {decision_id[:12]}", f"it made {count} moves"


def _denied(snapshot: Snapshot) -> Iterator[Found]:
    moves = sorted(snapshot.moves, key=lambda move: move.epoch)
    for place, move in enumerate(moves):
        rollback = denied(moves[:place]).get(move.digest)
        if rollback is None:
            continue
        record = snapshot.asks.get(move.decision_id or "")
        decision = record.decision if record else None
        if (
            decision is None
            or decision.decided_at <= rollback.moved_at - CLOCKS_DIFFER
            or decision.decided_by == approval.POLICY
        ):
            what = f"version {move.version} was rolled back at epoch {rollback.epoch}, and nobody approved it since"
            yield "no release of a denied digest", f"epoch {move.epoch}", what


# --- Decisions -------------------------------------------------------------------------------------------------------


def _decisions(snapshot: Snapshot) -> Iterator[Found]:
    for move in snapshot.moves:
        if move.kind == "rollback":
            continue
        record = snapshot.asks.get(move.decision_id or "")
        if record is None or record.decision is None:
            yield "valid decision", f"epoch {move.epoch}", f"no decision stands behind version {move.version}"
            continue
        for why in _flaws(move, record, record.decision, is_head=move == snapshot.head):
            yield "valid decision", f"epoch {move.epoch}", why


def _flaws(move: Move, record: AskRecord, decision: Decision, *, is_head: bool) -> Iterator[str]:
    ask = record.ask
    if decision.outcome != "approve":
        yield f"{decision.decided_by} rejected version {move.version}"
    named = (ask.kind, ask.model, ask.environment, ask.version, ask.digest)
    if named != ("model", move.model, move.environment, move.version, move.digest):
        yield (
            f"the decision is about {ask.kind} {ask.model} version {ask.version} ({ask.digest[:8]}) in "
            f"{ask.environment}, and the move about {move.model} version {move.version} ({move.digest[:8]}) in "
            f"{move.environment}"
        )
    if ask.epoch + 1 != move.epoch:
        yield f"the question was asked at epoch {ask.epoch}, so it gives no right to epoch {move.epoch}"
    if ask.gate_verdict is Verdict.FAIL:
        yield "the gate failed it"
    if move.moved_at < decision.decided_at - CLOCKS_DIFFER:
        yield f"it was moved at {move.moved_at.isoformat()}, before it was decided at {decision.decided_at.isoformat()}"
    if decision.expires_at is not None and move.moved_at > decision.expires_at:
        yield f"it was moved at {move.moved_at.isoformat()}, and the decision expired {decision.expires_at.isoformat()}"
    if record.blocked and is_head:
        yield f"the decision is blocked: {record.blocked}"


def _votes(asks: Mapping[str, AskRecord]) -> Iterator[Found]:
    for ask_id, record in asks.items():
        where = f"ask {ask_id[:12]}"
        for index, vote in enumerate(record.votes):
            if why := _refusal(vote, record, record.votes[:index]):
                yield "votes", where, f"the vote of {vote.person} should not count: {why}"
        for number, count in Counter(vote.posting for vote in record.votes if vote.posting is not None).items():
            if count > 1:
                yield "votes", where, f"showing {number} has {count} answers"
        if not record.votes and record.decision is not None and not record.decision.approved_by:
            continue  # decided before the ledger kept votes
        outcome = approval.outcome_of(record.ask, record.votes) if record.votes else None
        decided = record.decision.outcome if record.decision else None
        if decided != outcome:
            yield "votes", where, f"the votes come to {outcome or 'nothing'}, and the decision is {decided or 'open'}"


def _refusal(vote: Vote, record: AskRecord, earlier: Sequence[Vote]) -> str | None:
    # A showing that came after the vote excluded nobody yet.
    authors = (shown.author for shown in record.postings if vote.posting is not None and shown.number <= vote.posting)
    return approval.refusal(
        vote,
        ask=record.ask,
        asked_at=record.asked_at,
        expires_at=record.expires_at,
        excluded=approval.cannot_approve(requested_by=record.requested_by, authors=authors, excluded=record.excluded),
        votes=earlier,
    )


# --- Deployments -----------------------------------------------------------------------------------------------------

_ORDER = ("intent", "observed", "done")


def _written_ahead(snapshot: Snapshot) -> Iterator[Found]:
    epochs = {move.epoch for move in snapshot.moves}
    head = snapshot.head
    for epoch, steps in sorted(snapshot.steps.items()):
        where, carried = f"epoch {epoch}", tuple(step for step in steps if step != "superseded")
        if epoch not in epochs:
            yield "written ahead", where, f"it has the steps {', '.join(steps)}, and no move"
        elif carried != _ORDER[: len(carried)]:
            yield "written ahead", where, f"its steps are {', '.join(steps)}, and not {', '.join(_ORDER)}"
        elif "superseded" in steps and head is not None and head.epoch == epoch:
            yield "written ahead", where, "it is in force, and was closed as superseded"


def _served(snapshot: Snapshot) -> Iterator[Found]:
    """What serves is the head, or is named in an open deployment; with none open, it is the head alone."""
    head, seen = snapshot.head, snapshot.observed
    if seen is None or (head is None and not seen):
        return
    if head is None:
        yield "target serves the head", "target", f"it serves {_shown(seen)}, and nothing was ever released"
        return
    opened = {move.epoch for move in snapshot.open_moves}
    before = [move.version for move in snapshot.moves if move.epoch + 1 in opened]
    named = {head.version, *(move.version for move in snapshot.moves if move.epoch in opened), *before}
    strange = sorted(set(seen) - named)
    if strange or (not opened and dict(seen) != {head.version: ALL_TRAFFIC}):
        yield (
            "target serves the head",
            "target",
            f"it serves {_shown(seen)}, and version {head.version} is in force at epoch {head.epoch}",
        )


def _traffic(snapshot: Snapshot) -> Iterator[Found]:
    """Whole numbers that sum to 100; what ended gave all to one, what goes on no more than its steps did."""
    head, seen, reached = snapshot.head, snapshot.observed, snapshot.reached
    if seen and sum(seen.values()) != ALL_TRAFFIC:
        yield "traffic", "target", f"{_shown(seen)} do not sum to {ALL_TRAFFIC}"
    if seen and head is not None and reached is not None and seen.get(head.version, 0) > reached:
        yield "traffic", "target", f"{_shown(seen)}, and no step gave version {head.version} more than {reached}%"
    for one in snapshot.deployments:
        shares = sorted(share for share in one.traffic.values() if share)
        if shares != [ALL_TRAFFIC]:
            yield "traffic", f"epoch {one.champion.epoch}", f"the deployment ended with {dict(one.traffic)}"


def _shown(traffic: Mapping[int, int]) -> str:
    return ", ".join(f"version {version}: {share}%" for version, share in sorted(traffic.items())) or "nothing"


# --- What was written down -------------------------------------------------------------------------------------------


def _audit(snapshot: Snapshot) -> Iterator[Found]:
    if snapshot.chain:
        yield "audit chain", "audit", snapshot.chain
    rows = [row for row in snapshot.audit if row["action"] in ("release", "rollback")]
    for move in snapshot.moves:
        count = sum(_tells(row, move) for row in rows)
        if count != 1:
            yield "one audit row per move", f"epoch {move.epoch}", f"the {move.kind} has {count} audit rows"
    for row in rows:
        if not any(_tells(row, move) for move in snapshot.moves):
            yield "one audit row per move", f"row {row['seq']}", f"it tells of a {row['action']} that was never made"


def _tells(row: Mapping[str, Any], move: Move) -> bool:
    named = f"{move.model} version {move.version} ({move.digest[:8]}) at epoch {move.epoch} in "
    return row["action"] == move.kind and str(row["subject"]).startswith(named)


def _trainings(snapshot: Snapshot) -> Iterator[Found]:
    for what, found in (("runs", snapshot.runs), ("versions", snapshot.versions)):
        for key, made in sorted(found.items()):
            if len(set(made)) > 1:
                several = ", ".join(map(str, _unique(made)))
                yield "one run and version per training", f"training {key[:12]}", f"it has the {what} {several}"


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
