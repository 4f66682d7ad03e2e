"""The ledger in a SQL database: a SQLite file for one machine, PostgreSQL for a real deployment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

from ml_lifecycle.backends.ledger.base import Asked, Ledger
from ml_lifecycle.backends.ledger.database import Database, Row, Transaction
from ml_lifecycle.core import deployment
from ml_lifecycle.core.contracts import Ask, Contract, Decision, ModelVersion, Move, digest_of
from ml_lifecycle.core.errors import LedgerError, NoDecisionError, StaleEpochError

Result = TypeVar("Result")

BEGINNING = "0" * 64
"""What the first audit row of a model names as the digest before its own."""
PIPELINE = "pipeline"
"""The actor of what no person did."""
AUDITED = ("stage_results", "asks", "superseded_asks", "decisions", "moves", "deployment_steps")
"""Tables whose rows each have an audit row."""
STATES = ("intent", "observed", "done")
"""The steps of carrying a move out, in order."""


class SqlLedger(Ledger):
    """Tables that are only ever inserted into; each row is written together with its audit row.

    :param url: ``sqlite:////absolute/path.db`` or ``postgresql+<driver>://user:password@host/name``. The tables are
        made at the first use.
    :raises LedgerError: the URL names another kind of database, or a SQLite file that is not at an absolute path.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    # --- What was measured -------------------------------------------------------------------------------------------

    def record_result(
        self, environment: str, run: str, stage: str, result: Contract, *, model: str, at: datetime
    ) -> str:
        """Write what a stage of a run concluded; returns the result's digest."""
        content = result.to_xcom()
        key = {
            "environment": environment,
            "run": run,
            "stage": stage,
            "digest": result.content_digest(),
            "model": model,
        }

        def work(tx: Transaction) -> str:
            if tx.row("stage_results", **key) is None:
                row = {**key, "content": _canonical(content), "at": _text(at)}
                _add(tx, "stage_results", row, by=PIPELINE, action="result", subject=f"{stage} of {run}")
            return key["digest"]

        return self._database.write(work, lock=model)

    def has_result(self, environment: str, digest: str) -> bool:
        """Whether some stage concluded exactly this."""
        found = self._database.read(lambda tx: tx.row("stage_results", environment=environment, digest=digest))
        return found is not None

    def results(self, environment: str, model: str, stage: str) -> tuple[Mapping[str, Any], ...]:
        """What a stage concluded for a model over all runs, oldest first: ``{run, digest, content, at}``."""
        rows = self._database.read(
            lambda tx: tx.rows("stage_results", "audit_seq", environment=environment, model=model, stage=stage)
        )
        return tuple(
            {"run": row["run"], "digest": row["digest"], "content": json.loads(row["content"]), "at": _time(row["at"])}
            for row in rows
        )

    # --- What was asked and decided ----------------------------------------------------------------------------------

    def ask(self, ask: Ask, *, requested_by: str | None, at: datetime, expires_at: datetime | None) -> str:
        """Record that a decision is asked for; returns the ask's id. Asking again extends nothing.

        :raises StaleEpochError: the question was not asked before, and names another epoch than the one in force.
        """

        def work(tx: Transaction) -> str:
            if tx.row("asks", ask_id=ask.ask_id) is not None:
                return ask.ask_id
            _refuse_stale(ask, _head(tx, ask.model, ask.environment))
            row = {
                "ask_id": ask.ask_id,
                "model": ask.model,
                "environment": ask.environment,
                "digest": ask.digest,
                "epoch": ask.epoch,
                "content": _canonical(ask.to_xcom()),
                "requested_by": requested_by,
                "at": _text(at),
                "expires_at": _text(expires_at) if expires_at else None,
            }
            _add(tx, "asks", row, by=requested_by or PIPELINE, action="ask", subject=_named(ask), detail=ask.ask_id)
            return ask.ask_id

        return self._database.write(work, lock=ask.model)

    def open_asks(self, model: str, environment: str) -> tuple[Ask, ...]:
        """Asks without a decision that are not superseded, oldest first."""
        return self._database.read(lambda tx: tuple(ask for _, ask in _open(tx, model, environment)))

    def supersede(self, model: str, environment: str, *, newest: Ask, at: datetime) -> tuple[str, ...]:
        """Close every open ask but ``newest``; returns their ids.

        :raises LedgerError: ``newest`` was not asked.
        """

        def work(tx: Transaction) -> tuple[str, ...]:
            _asked(tx, newest)
            older = {ask_id: ask for ask_id, ask in _open(tx, model, environment) if ask_id != newest.ask_id}
            for ask_id, ask in older.items():
                row = {
                    "ask_id": ask_id,
                    "model": model,
                    "environment": environment,
                    "superseded_by": newest.ask_id,
                    "at": _text(at),
                }
                _add(tx, "superseded_asks", row, by=PIPELINE, action="supersede", subject=_named(ask))
            return tuple(older)

        return self._database.write(work, lock=model)

    def asked(self, ask_id: str) -> Asked | None:
        """How a question was asked, or ``None`` if it was not."""

        def work(tx: Transaction) -> Asked | None:
            row = tx.row("asks", ask_id=ask_id)
            if row is None:
                return None
            return Asked(
                ask=Ask.model_validate_json(row["content"]),
                requested_by=row["requested_by"],
                at=_time(row["at"]),
                expires_at=_time(row["expires_at"]) if row["expires_at"] else None,
                superseded=tx.row("superseded_asks", ask_id=ask_id) is not None,
            )

        return self._database.read(work)

    def decide(self, decision: Decision) -> Decision:
        """Record a decision, unless the ask has one: the decision that stands is returned, the first one written.

        :raises LedgerError: nothing was asked, or the ask was superseded or has expired.
        """
        ask = decision.ask

        def work(tx: Transaction) -> Decision:
            standing = _decision(tx, ask.ask_id)
            if standing is not None:
                return standing
            _refuse_closed(tx, ask, decision.decided_at)
            row = {
                "ask_id": ask.ask_id,
                "model": ask.model,
                "environment": ask.environment,
                "digest": ask.digest,
                "outcome": decision.outcome,
                "decided_by": decision.decided_by,
                "requested_by": decision.requested_by,
                "reason": decision.reason,
                "at": _text(decision.decided_at),
                "expires_at": _text(decision.expires_at) if decision.expires_at else None,
            }
            detail = f"{decision.outcome}: {decision.reason}" if decision.reason else decision.outcome
            _add(tx, "decisions", row, by=decision.decided_by, action="decide", subject=_named(ask), detail=detail)
            return decision

        attempt = _Attempt("decide", ask.model, ask.environment, decision.decided_by, _named(ask), decision.decided_at)
        return self._attempt(work, attempt)

    def decision(self, ask_id: str) -> Decision | None:
        """The decision on an ask, or ``None`` while it is open."""
        return self._database.read(lambda tx: _decision(tx, ask_id))

    def decision_for(self, model: str, environment: str, digest: str) -> Decision | None:
        """The newest decision about a model's digest, whichever ask it answered."""

        def work(tx: Transaction) -> Decision | None:
            row = tx.newest("decisions", "audit_seq", model=model, environment=environment, digest=digest)
            return _decision(tx, row["ask_id"]) if row else None

        return self._database.read(work)

    # --- What was moved ----------------------------------------------------------------------------------------------

    def head(self, model: str, environment: str) -> Move | None:
        """The move in force, or ``None`` at epoch 0."""
        return self._database.read(lambda tx: _head(tx, model, environment))

    def moves(self, model: str, environment: str) -> tuple[Move, ...]:
        """All moves, by epoch."""
        return self._database.read(lambda tx: _moves(tx, model, environment))

    def release(self, version: ModelVersion, decision: Decision, *, moved_by: str, at: datetime) -> Move:
        """Make a version champion under an approval; the same decision makes one move however often it is used.

        A digest that was rolled back needs a decision that was made after that rollback.

        :raises NoDecisionError: the decision is not in the ledger, is a rejection, has expired, or is about another
            digest.
        :raises StaleEpochError: another move was made since the question was asked.
        """
        named = decision.ask

        def work(tx: Transaction) -> Move:
            standing = _standing(tx, named)
            made = tx.row("moves", decision_id=named.ask_id)
            if made is not None and made["digest"] == version.digest:
                return _move(made)
            ask, moves = standing.ask, _moves(tx, version.name, standing.ask.environment)
            if why := deployment.objection(standing, version, named.environment, moves, at):
                raise NoDecisionError(why, where=_named(ask), way_out="ask for a new approval")
            _refuse_stale(ask, moves[-1] if moves else None)
            row = {
                "model": version.name,
                "environment": ask.environment,
                "epoch": ask.epoch + 1,
                "kind": "release",
                "version": version.version,
                "digest": version.digest,
                "uri": version.uri,
                "decision_id": ask.ask_id,
                "rollback_key": None,
                "moved_by": moved_by,
                "reason": standing.reason,
                "at": _text(at),
            }
            return _add_move(tx, row)

        subject = f"{version.name} version {version.version} ({version.digest[:8]}) in {named.environment}"
        return self._attempt(work, _Attempt("release", version.name, named.environment, moved_by, subject, at))

    def rollback(
        self,
        model: str,
        environment: str,
        *,
        key: str,
        moved_by: str,
        reason: str,
        at: datetime,
        version: int | None = None,
    ) -> Move:
        """Bring back the champion before the present one; the same ``key`` (the run) makes one move.

        Rollbacks in a row walk further back, and never return to a digest that was rolled back.

        :param version: Only if it is this version that comes back.
        :raises LedgerError: there is no earlier champion, or it is another version.
        """

        def work(tx: Transaction) -> Move:
            made = tx.row("moves", model=model, environment=environment, rollback_key=key)
            if made is not None:
                return _move(made)
            moves = _moves(tx, model, environment)
            back = _earlier(moves, model, environment, version)
            row = {
                "model": model,
                "environment": environment,
                "epoch": moves[-1].epoch + 1,
                "kind": "rollback",
                "version": back.version,
                "digest": back.digest,
                "uri": back.uri,
                "decision_id": None,
                "rollback_key": key,
                "moved_by": moved_by,
                "reason": reason,
                "at": _text(at),
            }
            return _add_move(tx, row)

        return self._attempt(work, _Attempt("rollback", model, environment, moved_by, f"{model} in {environment}", at))

    def rolled_back(self, model: str, environment: str, key: str) -> Move | None:
        """The move that :meth:`rollback` made under this key, or ``None``."""
        row = self._database.read(lambda tx: tx.row("moves", model=model, environment=environment, rollback_key=key))
        return _move(row) if row else None

    def record_deployment(
        self, move: Move, state: str, *, detail: Mapping[str, Any] | None = None, at: datetime
    ) -> None:
        """Note a step of carrying a move out: ``intent`` before acting, then ``observed`` and ``done``.

        :raises LedgerError: the ledger did not make this move, or knows no such state.
        """
        if state not in STATES:
            raise LedgerError(f"a deployment has no state {state!r}", way_out=f"it has {', '.join(STATES)}")
        key = {"model": move.model, "environment": move.environment, "epoch": move.epoch}

        def work(tx: Transaction) -> None:
            found = tx.row("moves", **key)
            if found is None or _move(found) != move:
                raise LedgerError(
                    f"no such move was made: {move.model} version {move.version} at epoch {move.epoch}",
                    where=f"the ledger of {move.environment}",
                    way_out="carry out only moves that the ledger returned",
                )
            if tx.row("deployment_steps", **key, state=state) is None:
                row = {**key, "state": state, "detail": _canonical(dict(detail or {})), "at": _text(at)}
                subject = f"{move.model} version {move.version} at epoch {move.epoch} in {move.environment}"
                _add(tx, "deployment_steps", row, by=move.moved_by, action="deployment", subject=subject, detail=state)

        self._database.write(work, lock=move.model)

    def deployment_states(self, move: Move) -> tuple[str, ...]:
        """The steps noted so far, in order."""
        key = {"model": move.model, "environment": move.environment, "epoch": move.epoch}
        rows = self._database.read(lambda tx: tx.rows("deployment_steps", "audit_seq", **key))
        return tuple(row["state"] for row in rows)

    # --- The audit ---------------------------------------------------------------------------------------------------

    def audit(self, model: str | None = None) -> tuple[Mapping[str, Any], ...]:
        """The audit rows of a model by ``seq``; of all models, one model after the other."""
        only = {"model": model} if model is not None else {}
        rows = self._database.read(lambda tx: tx.rows("audit", "model", "seq", **only))
        return tuple({**row, "at": _time(row["at"])} for row in rows)

    def verify_audit(self, model: str) -> int:
        """Recompute the hash chain, and hold every row of every table against it; returns the number of audit rows.

        :raises LedgerError: a row was changed, removed or put in.
        """

        def work(tx: Transaction) -> int:
            rows = tx.rows("audit", "seq", model=model)
            recorded = {row["seq"]: row["record"] for row in _checked_chain(rows)}
            unseen = {seq for seq, record in recorded.items() if record is not None}
            for table in AUDITED:
                for row in tx.rows(table, "audit_seq", model=model):
                    seq = row.pop("audit_seq")
                    if recorded.get(seq) != _record(table, row):
                        raise _tampered(model, seq, f"its row in {table} was changed or put in")
                    unseen.discard(seq)
            if unseen:
                raise _tampered(model, min(unseen), "the row that was written with it was removed")
            return len(rows)

        return self._database.read(work)

    def _attempt(self, work: Callable[[Transaction], Result], attempt: _Attempt) -> Result:
        """Do the work; a refusal leaves nothing behind but its own audit row."""
        try:
            return self._database.write(work, lock=attempt.model)
        except LedgerError as refusal:
            self._database.write(attempt.refused(str(refusal)), lock=attempt.model)
            raise


@dataclass(frozen=True)
class _Attempt:
    """Who tried what, for the audit of a refusal."""

    action: str
    model: str
    environment: str
    by: str
    subject: str
    at: datetime

    def refused(self, why: str) -> Callable[[Transaction], None]:
        row = {
            "model": self.model,
            "environment": self.environment,
            "at": _text(self.at),
            "actor": self.by,
            "action": f"{self.action} refused",
            "subject": self.subject,
            "detail": why,
            "record": None,
        }

        def work(tx: Transaction) -> None:
            _chain(tx, row)

        return work


# --- Rows ------------------------------------------------------------------------------------------------------------


def _add(tx: Transaction, table: str, row: Row, *, by: str, action: str, subject: str, detail: str = "") -> None:
    """Insert a row together with its audit row."""
    entry = {"model": row["model"], "environment": row["environment"], "at": row["at"], "actor": by, "action": action}
    seq = _chain(tx, {**entry, "subject": subject, "detail": detail, "record": _record(table, row)})
    tx.add(table, {**row, "audit_seq": seq})


def _add_move(tx: Transaction, row: Row) -> Move:
    subject = f"{row['model']} version {row['version']} ({row['digest'][:8]}) at epoch {row['epoch']}"
    where = f"{subject} in {row['environment']}"
    _add(tx, "moves", row, by=row["moved_by"], action=row["kind"], subject=where, detail=row["reason"])
    return _move(row)


def _chain(tx: Transaction, entry: Row) -> int:
    """Append to the model's audit; returns the new row's number."""
    last = tx.newest("audit", "seq", model=entry["model"])
    row = {**entry, "seq": last["seq"] + 1 if last else 1, "previous": last["digest"] if last else BEGINNING}
    tx.add("audit", {**row, "digest": digest_of(row)})
    return int(row["seq"])


def _record(table: str, row: Row) -> str:
    return digest_of({"table": table, **row})


def _checked_chain(rows: Sequence[Row]) -> Iterator[Row]:
    previous = BEGINNING
    for number, row in enumerate(rows, start=1):
        if row["seq"] != number:
            raise _tampered(row["model"], number, "it was removed")
        if row["previous"] != previous:
            raise _tampered(row["model"], number, "it does not follow the row before it")
        previous = digest_of({name: value for name, value in row.items() if name != "digest"})
        if row["digest"] != previous:
            raise _tampered(row["model"], number, "it was changed")
        yield row


def _tampered(model: str, seq: int, what: str) -> LedgerError:
    return LedgerError(
        f"row {seq} cannot be trusted: {what}",
        where=f"the audit of {model}",
        way_out="compare it with a backup, and find out who may write to the ledger's database",
    )


def _asked(tx: Transaction, ask: Ask) -> Row:
    row = tx.row("asks", ask_id=ask.ask_id)
    if row is None:
        raise LedgerError(f"nobody asked about {_named(ask)}", where="the ledger", way_out="ask before deciding")
    return row


def _open(tx: Transaction, model: str, environment: str) -> Iterator[tuple[str, Ask]]:
    """Ids and contents, oldest first. An id is the row's: what a question was asked under stays what it is."""
    scope = {"model": model, "environment": environment}
    closed = {row["ask_id"] for table in ("decisions", "superseded_asks") for row in tx.rows(table, **scope)}
    for row in tx.rows("asks", "audit_seq", **scope):
        if row["ask_id"] not in closed:
            yield row["ask_id"], Ask.model_validate_json(row["content"])


def _refuse_closed(tx: Transaction, ask: Ask, at: datetime) -> None:
    row = _asked(tx, ask)
    if tx.row("superseded_asks", ask_id=ask.ask_id) is not None:
        raise LedgerError(
            f"the question about {_named(ask)} was superseded by a newer one", way_out="answer the newest question"
        )
    if row["expires_at"] is not None and _text(at) > row["expires_at"]:
        raise LedgerError(
            f"the question about {_named(ask)} expired at {row['expires_at']}",
            way_out=f"run {ask.model}_release again with version {ask.version}",
        )


def _refuse_stale(ask: Ask, head: Move | None) -> None:
    if deployment.is_stale(ask, head):
        raise StaleEpochError(
            f"the question about {_named(ask)} names epoch {ask.epoch}, but {deployment.epoch_of(head)} is in force",
            where=f"the ledger of {ask.environment}",
            way_out="ask again: another move was made",
        )


def _decision(tx: Transaction, ask_id: str) -> Decision | None:
    row = tx.row("decisions", ask_id=ask_id)
    asked = tx.row("asks", ask_id=ask_id) if row else None
    if row is None or asked is None:
        return None
    return Decision(
        ask=Ask.model_validate_json(asked["content"]),
        outcome=row["outcome"],
        decided_by=row["decided_by"],
        requested_by=row["requested_by"],
        reason=row["reason"],
        decided_at=_time(row["at"]),
        expires_at=_time(row["expires_at"]) if row["expires_at"] else None,
    )


def _standing(tx: Transaction, ask: Ask) -> Decision:
    """What the ledger says about the ask; what the caller carries of a decision only names it."""
    found = _decision(tx, ask.ask_id)
    if found is None:
        raise NoDecisionError(
            f"no decision about {_named(ask)} stands in the ledger", way_out="ask for an approval, and wait for it"
        )
    return found


def _earlier(moves: Sequence[Move], model: str, environment: str, version: int | None) -> Move:
    back = deployment.previous_champion(moves)
    where = f"{model} in {environment}"
    if back is None:
        raise LedgerError(
            "there is no earlier champion to bring back", where=where, way_out="train and release another version"
        )
    if version is not None and back.version != version:
        raise LedgerError(
            f"a rollback brings back version {back.version}, not {version}",
            where=where,
            way_out=f"leave the version out, or release version {version} under a new approval",
        )
    return back


def _head(tx: Transaction, model: str, environment: str) -> Move | None:
    row = tx.newest("moves", "epoch", model=model, environment=environment)
    return _move(row) if row else None


def _moves(tx: Transaction, model: str, environment: str) -> tuple[Move, ...]:
    return tuple(_move(row) for row in tx.rows("moves", "epoch", model=model, environment=environment))


def _move(row: Row) -> Move:
    fields = {name: row[name] for name in Move.model_fields if name in row}
    return Move.model_validate({**fields, "moved_at": _time(row["at"])})


def _named(ask: Ask) -> str:
    return f"{ask.model} version {ask.version} ({ask.digest[:8]}) at epoch {ask.epoch} in {ask.environment}"


# --- Values ----------------------------------------------------------------------------------------------------------


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _text(at: datetime) -> str:
    """UTC in a form of fixed width, so that later is greater."""
    if at.tzinfo is None:
        raise LedgerError(f"the time {at.isoformat()} names no time zone", way_out="hand in an aware datetime")
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
