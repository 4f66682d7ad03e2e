"""The ledger in a SQL database: a SQLite file for one machine, PostgreSQL for a real deployment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar, cast

from ml_lifecycle.backends.ledger import chain
from ml_lifecycle.backends.ledger.base import Asked, Conclusion, Ledger, Past
from ml_lifecycle.backends.ledger.database import Database, Row, Transaction
from ml_lifecycle.core import approval, deployment
from ml_lifecycle.core.contracts import Ask, Contract, Decision, ModelVersion, Move, Posting, Vote
from ml_lifecycle.core.errors import (
    ApprovalRefusedError,
    LedgerError,
    NoDecisionError,
    RollbackOutdatedError,
    StaleEpochError,
)

Result = TypeVar("Result")

PIPELINE = "pipeline"
"""The actor of what no person did."""
STATES = ("intent", "observed", "done", "superseded")
"""The steps of carrying a move out, in order; the last one closes what a newer move overtook."""


class SqlLedger(Ledger):
    """Tables that are only ever inserted into; each row is written together with its audit row.

    :param url: ``sqlite:////absolute/path.db`` or ``postgresql+<driver>://user:password@host/name``. The tables are
        made at the first use.
    :raises LedgerError: the URL names another kind of database, or a SQLite file that is not at an absolute path.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def upgrade(self) -> tuple[int | None, int]:
        """Bring the tables to this package's version, as the first use does; returns the versions before and after."""
        return self._database.prepare()

    # --- What was measured -------------------------------------------------------------------------------------------

    def record_result(
        self, environment: str, run: str, stage: str, result: Contract, *, model: str, at: datetime
    ) -> str:
        """Write what a stage of a run concluded; returns the result's digest."""
        key = {"environment": environment, "run": run, "stage": stage, "model": model}
        return self._database.write(lambda tx: _add_result(tx, key, result, at), lock=model)

    def conclude(
        self,
        environment: str,
        run: str,
        stage: str,
        conclude: Callable[[Past], Conclusion],
        *,
        model: str,
        at: datetime,
    ) -> Conclusion:
        """Write what follows from what stands, in the transaction that reads it; returns it."""
        key = {"environment": environment, "run": run, "stage": stage, "model": model}

        def work(tx: Transaction) -> Conclusion:
            result = conclude(_Standing(tx, environment, model))
            _add_result(tx, key, result, at)
            return result

        return self._database.write(work, lock=model)

    def has_result(self, environment: str, digest: str, *, run: str | None = None) -> bool:
        """Whether some stage concluded exactly this; of this run, where one is named."""
        only = {} if run is None else {"run": run}
        found = self._database.read(lambda tx: tx.row("stage_results", environment=environment, digest=digest, **only))
        return found is not None

    def results(
        self,
        environment: str,
        model: str,
        stage: str,
        *,
        run: str | None = None,
        limit: int | None = None,
        **held: str | int,
    ) -> tuple[Mapping[str, Any], ...]:
        """What a stage concluded for a model, oldest first: ``{run, digest, content, at, seq}``."""
        return self._database.read(
            lambda tx: _Standing(tx, environment, model).results(stage, run=run, limit=limit, **held)
        )

    # --- What was asked and decided ----------------------------------------------------------------------------------

    def ask(
        self,
        ask: Ask,
        *,
        requested_by: str | None,
        excluded: Mapping[str, str] = MappingProxyType({}),
        at: datetime,
        expires_at: datetime | None,
    ) -> str:
        """Record that a decision is asked for; returns the ask's id. Asking again extends nothing.

        :raises StaleEpochError: the question was not asked before, and names another epoch than the one in force.
        """

        def work(tx: Transaction) -> str:
            if tx.row("asks", ask_id=ask.ask_id) is not None:
                return ask.ask_id
            if ask.kind == "model":
                _refuse_stale(ask, _head(tx, ask.model, ask.environment))
            row = {
                "ask_id": ask.ask_id,
                "model": ask.model,
                "environment": ask.environment,
                "digest": ask.digest,
                "epoch": ask.epoch,
                "content": _canonical(ask.to_xcom()),
                "requested_by": requested_by,
                "at": chain.text_of(at),
                "expires_at": chain.text_of(expires_at) if expires_at else None,
                "excluded": _canonical(dict(excluded)) if excluded else None,
            }
            _add(tx, "asks", row, by=requested_by or PIPELINE, action="ask", subject=_named(ask), detail=ask.ask_id)
            return ask.ask_id

        return self._database.write(work, lock=ask.model)

    def open_asks(self, model: str, environment: str) -> tuple[Ask, ...]:
        """Asks without a decision that are neither superseded nor blocked, oldest first."""
        return self._database.read(lambda tx: tuple(ask for _, ask in _open(tx, model, environment)))

    def supersede(self, model: str, environment: str, *, newest: Ask, at: datetime) -> tuple[str, ...]:
        """Close every open ask of the same kind but ``newest``; returns their ids.

        :raises LedgerError: ``newest`` was not asked.
        """

        def work(tx: Transaction) -> tuple[str, ...]:
            _asked(tx, newest.ask_id)
            older = {
                ask_id: ask
                for ask_id, ask in _open(tx, model, environment)
                if ask_id != newest.ask_id and ask.kind == newest.kind
            }
            for ask_id, ask in older.items():
                row = {
                    "ask_id": ask_id,
                    "model": model,
                    "environment": environment,
                    "superseded_by": newest.ask_id,
                    "at": chain.text_of(at),
                }
                _add(tx, "superseded_asks", row, by=PIPELINE, action="supersede", subject=_named(ask))
            return tuple(older)

        return self._database.write(work, lock=model)

    def asked(self, ask_id: str) -> Asked | None:
        """How a question was asked, or ``None`` if it was not."""

        def work(tx: Transaction) -> Asked | None:
            row = tx.row("asks", ask_id=ask_id)
            return _asked_of(tx, row) if row else None

        return self._database.read(work)

    def block(self, ask_id: str, *, why: str, at: datetime) -> None:
        """Take every right from an ask and its decision, for ever: its answers contradict each other.

        :raises LedgerError: nobody asked.
        """
        ask = self._known(ask_id)

        def work(tx: Transaction) -> None:
            if tx.row("blocked_asks", ask_id=ask_id) is None:
                row = {**_scope(ask, ask_id), "why": why, "at": chain.text_of(at)}
                _add(tx, "blocked_asks", row, by=PIPELINE, action="block", subject=_named(ask), detail=why)

        self._database.write(work, lock=ask.model)

    # --- What was shown and answered ---------------------------------------------------------------------------------

    def post(self, posting: Posting, *, at: datetime) -> Posting:
        """Record that a question is about to be shown to people; returns it with its number.

        :raises LedgerError: nobody asked, the posting names another model or environment than the question, or a later
            try of the task has shown one.
        """
        ask = self._known(posting.ask_id)
        if (ask.model, ask.environment) != (posting.model, posting.environment):
            raise LedgerError(
                f"the posting is of {posting.model} in {posting.environment}", where=f"the question about {_named(ask)}"
            )

        def work(tx: Transaction) -> Posting:
            place = _place(posting)
            here = tx.newest("postings", "turn", **place, environment=posting.environment)
            if here is not None and _is_waiting(tx, here) and _is_same_showing(posting, _posting(here)):
                return _posting(here)
            if here is not None and approval.is_given_up(posting.ti_id, here["ti_id"]):
                raise LedgerError(
                    "a later try of this task has shown its question: Airflow has given this one up",
                    where=f"{posting.task_id} of {posting.dag_id}/{posting.run_id}",
                    way_out="answer what the later try shows",
                )
            last = tx.newest("postings", "number", ask_id=posting.ask_id)
            # Of whichever environment: turns count on, so that no two rows share one.
            turn = tx.newest("postings", "turn", **place)
            row = {
                **_scope(ask, posting.ask_id),
                **place,
                "number": last["number"] + 1 if last else 1,
                "turn": turn["turn"] + 1 if turn else 1,
                "ti_id": posting.ti_id,
                "author": posting.author,
                "at": chain.text_of(at),
            }
            where = f"posting {row['number']} by {posting.task_id} of {posting.dag_id}/{posting.run_id}"
            _add(tx, "postings", row, by=PIPELINE, action="post", subject=_named(ask), detail=where)
            return _posting(row)

        return self._database.write(work, lock=ask.model)

    def posting_at(self, environment: str, dag_id: str, run_id: str, task_id: str, map_index: int) -> Posting | None:
        """The newest question that a task of this environment's Airflow shows; ``None`` where it shows none of ours."""
        task = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
        place = {"environment": environment, **task}
        row = self._database.read(lambda tx: tx.newest("postings", "turn", **place))
        return _posting(row) if row else None

    def postings(self, ask_id: str) -> tuple[Posting, ...]:
        """Every showing of a question, oldest first."""
        return self._database.read(lambda tx: _postings(tx, ask_id))

    def vote(self, vote: Vote, *, forward: Callable[[], None] | None = None) -> Decision | None:
        """Record one answer; returns the decision where there is one now, ``None`` while others have to answer.

        :param forward: Called with the answer found good and written, and before that lasts; what it raises undoes
            everything.
        :raises ApprovalRefusedError: this answer does not count; the audit holds it with the reason.
        :raises LedgerError: nobody asked.
        """
        ask = self._known(vote.ask_id)

        def work(tx: Transaction) -> Decision | None:
            given = _votes(tx, vote.ask_id)
            if any(_same_answer(vote, other) for other in given):
                return _decision(tx, vote.ask_id)
            asked = _asked_of(tx, _asked(tx, vote.ask_id))
            if why := _why_not(tx, vote, asked, given):
                raise ApprovalRefusedError(why, where=_named(ask))
            _add_vote(tx, vote, ask)
            decision = _concluded(asked, vote, (*given, vote))
            if decision is not None:
                _add_decision(tx, decision, vote.ask_id)
            if forward is not None:
                # Last of all: what the database itself refuses shows before anything is sent on.
                forward()
            return decision

        return self._attempt(work, _Attempt("vote", ask.model, ask.environment, vote.person, _named(ask), vote.at))

    def votes(self, ask_id: str) -> tuple[Vote, ...]:
        """The answers that count, oldest first."""
        return self._database.read(lambda tx: _votes(tx, ask_id))

    def refuse(self, ask_id: str, *, person: str, why: str, at: datetime) -> None:
        """Write into the audit that somebody's answer was not taken.

        :raises LedgerError: nobody asked.
        """
        ask = self._known(ask_id)
        attempt = _Attempt("vote", ask.model, ask.environment, person, _named(ask), at)
        self._database.write(attempt.refused(why), lock=ask.model)

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

    def previous(self, model: str, environment: str) -> Move | None:
        """What a rollback would bring back; ``None`` where there is nothing."""
        return self._database.read(lambda tx: _previous(tx, model, environment))

    def release(
        self,
        version: ModelVersion,
        decision: Decision,
        *,
        moved_by: str,
        at: datetime,
        target: Mapping[str, Any] | None = None,
    ) -> Move:
        """Make a version champion under an approval; the same decision makes one move however often it is used.

        A digest that was rolled back needs a decision that was made after that rollback.

        :param target: Where it will serve and with which options; kept with the move, for a rollback to restore.
        :raises NoDecisionError: the decision is not in the ledger, is a rejection, has expired, is about another
            digest or about data, or its question was blocked.
        :raises StaleEpochError: another move was made since the question was asked.
        """
        named = decision.ask

        def work(tx: Transaction) -> Move:
            standing = _standing(tx, named)
            _refuse_without_right(tx, standing.ask, named.ask_id)
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
                "decision_id": named.ask_id,
                "rollback_key": None,
                "moved_by": moved_by,
                "reason": standing.reason,
                "at": chain.text_of(at),
                "target": _canonical(dict(target)) if target else None,
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
        epoch: int | None = None,
    ) -> Move:
        """Bring back the champion before the present one; the same ``key`` (the run) makes one move.

        Which one that is says :meth:`previous`: rollbacks in a row walk further back.

        :param version: Only if it is this version that comes back.
        :param epoch: Only if this one is in force.
        :raises RollbackOutdatedError: another epoch is in force.
        :raises LedgerError: there is no earlier champion, or it is another version.
        """

        def work(tx: Transaction) -> Move:
            made = tx.row("moves", model=model, environment=environment, rollback_key=key)
            if made is not None:
                return _move(made)
            moves = _moves(tx, model, environment)
            if why := deployment.is_outdated(epoch, moves[-1] if moves else None):
                raise RollbackOutdatedError(why, where=f"{model} in {environment}", way_out="nothing is to be done")
            back = _earlier(tx, model, environment, version)
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
                "at": chain.text_of(at),
                "target": _canonical(back.target) if back.target else None,
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
                row = {**key, "state": state, "detail": _canonical(dict(detail or {})), "at": chain.text_of(at)}
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

    def models(self, environment: str) -> tuple[str, ...]:
        """Every model that the ledger knows in this environment, sorted."""
        return tuple(self._database.read(lambda tx: tx.values("audit", "model", environment=environment)))

    def record_refusal(self, model: str, environment: str, *, action: str, by: str, why: str, at: datetime) -> None:
        """Write into the audit that something was refused: ``action`` becomes ``<action> refused``."""
        attempt = _Attempt(action, model, environment, by, f"{model} in {environment}", at)
        self._database.write(attempt.refused(why), lock=model)

    def verify_audit(self, model: str) -> int:
        """Recompute the hash chain, and hold every row of every table against it; returns the number of audit rows.

        :raises LedgerError: a row was changed, removed or put in.
        """

        def work(tx: Transaction) -> int:
            rows = tx.rows("audit", "seq", model=model)
            recorded = {row["seq"]: row["record"] for row in chain.checked(rows)}
            unseen = {seq for seq, record in recorded.items() if record is not None}
            for table in chain.AUDITED:
                for row in tx.rows(table, "audit_seq", model=model):
                    seq = row.pop("audit_seq")
                    if recorded.get(seq) != chain.record_of(table, row):
                        raise chain.tampered(model, seq, f"its row in {table} was changed or put in")
                    unseen.discard(seq)
            if unseen:
                raise chain.tampered(model, min(unseen), "the row that was written with it was removed")
            return len(rows)

        return self._database.read(work)

    def _known(self, ask_id: str) -> Ask:
        """The question, which never changes once it was asked."""
        row = self._database.read(lambda tx: _asked(tx, ask_id))
        return Ask.model_validate_json(row["content"])

    def _attempt(self, work: Callable[[Transaction], Result], attempt: _Attempt) -> Result:
        """Do the work; a refusal leaves nothing behind but its own audit row."""

        def tried(tx: Transaction) -> tuple[Result | None, LedgerError | None]:
            try:
                with tx.undone_by_an_error():
                    return work(tx), None
            except LedgerError as refusal:
                attempt.refused(str(refusal))(tx)
                return None, refusal

        result, refusal = self._database.write(tried, lock=attempt.model)
        if refusal is not None:
            raise refusal
        return cast("Result", result)


@dataclass(frozen=True)
class _Standing(Past):
    """What one transaction sees of a model."""

    tx: Transaction
    environment: str
    model: str

    def results(
        self, stage: str, *, run: str | None = None, limit: int | None = None, **held: str | int
    ) -> tuple[Mapping[str, Any], ...]:
        """What a stage concluded, oldest first."""
        scope = {"environment": self.environment, "model": self.model, "stage": stage}
        scope |= {} if run is None else {"run": run}
        paths = {name.replace("__", "."): value for name, value in held.items()}
        rows = self.tx.newest_rows("stage_results", "audit_seq", limit, paths, **scope)
        return tuple(
            {
                "run": row["run"],
                "digest": row["digest"],
                "content": json.loads(row["content"]),
                "at": _time(row["at"]),
                "seq": row["audit_seq"],
            }
            for row in reversed(rows)
        )

    def moves(self) -> tuple[Move, ...]:
        """All moves, by epoch."""
        return _moves(self.tx, self.model, self.environment)


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
            "at": chain.text_of(self.at),
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
    seq = _chain(tx, {**entry, "subject": subject, "detail": detail, "record": chain.record_of(table, row)})
    tx.add(table, {**row, "audit_seq": seq})


def _add_result(tx: Transaction, key: Row, result: Contract, at: datetime) -> str:
    """Insert what a stage of a run concluded, unless it is there; returns its digest."""
    whole = {**key, "digest": result.content_digest()}
    if tx.row("stage_results", **whole) is None:
        row = {**whole, "content": _canonical(result.to_xcom()), "at": chain.text_of(at)}
        _add(tx, "stage_results", row, by=PIPELINE, action="result", subject=f"{key['stage']} of {key['run']}")
    return str(whole["digest"])


def _add_move(tx: Transaction, row: Row) -> Move:
    subject = f"{row['model']} version {row['version']} ({row['digest'][:8]}) at epoch {row['epoch']}"
    where = f"{subject} in {row['environment']}"
    _add(tx, "moves", row, by=row["moved_by"], action=row["kind"], subject=where, detail=row["reason"])
    return _move(row)


def _chain(tx: Transaction, entry: Row) -> int:
    """Append to the model's audit; returns the new row's number."""
    row = chain.follow(tx.newest("audit", "seq", model=entry["model"]), entry)
    tx.add("audit", row)
    return int(row["seq"])


def _asked(tx: Transaction, ask_id: str) -> Row:
    row = tx.row("asks", ask_id=ask_id)
    if row is None:
        raise LedgerError(
            f"nobody asked the question {ask_id[:12]}", where="the ledger", way_out="ask before answering"
        )
    return row


def _asked_of(tx: Transaction, row: Row) -> Asked:
    blocked = tx.row("blocked_asks", ask_id=row["ask_id"])
    return Asked(
        ask=Ask.model_validate_json(row["content"]),
        requested_by=row["requested_by"],
        excluded=_excluded(row["excluded"]),
        at=_time(row["at"]),
        expires_at=_time(row["expires_at"]) if row["expires_at"] else None,
        superseded=tx.row("superseded_asks", ask_id=row["ask_id"]) is not None,
        blocked=blocked["why"] if blocked else "",
    )


def _excluded(text: str | None) -> dict[str, str]:
    """Names with why; a list without it names committers."""
    held = json.loads(text) if text else {}
    return approval.also_excluded(committers=held) if isinstance(held, list) else held


def _open(tx: Transaction, model: str, environment: str) -> Iterator[tuple[str, Ask]]:
    """Ids and contents, oldest first. An id is the row's: what a question was asked under stays what it is."""
    scope = {"model": model, "environment": environment}
    closings = ("decisions", "superseded_asks", "blocked_asks")
    closed = {ask_id for table in closings for ask_id in tx.values(table, "ask_id", **scope)}
    for row in tx.rows("asks", "audit_seq", **scope):
        if row["ask_id"] not in closed:
            yield row["ask_id"], Ask.model_validate_json(row["content"])


# --- Answers ---------------------------------------------------------------------------------------------------------


def _why_not(tx: Transaction, vote: Vote, asked: Asked, given: Sequence[Vote]) -> str | None:
    """Why the answer does not count, in a sentence for whoever gave it."""
    shown = _postings(tx, vote.ask_id)
    barred = approval.cannot_approve(
        requested_by=asked.requested_by, authors=[posting.author for posting in shown], excluded=asked.excluded
    )
    return next(_closings(tx, vote, asked), None) or approval.refusal(
        vote, ask=asked.ask, asked_at=asked.at, expires_at=asked.expires_at, excluded=barred, votes=given
    )


def _closings(tx: Transaction, vote: Vote, asked: Asked) -> Iterator[str]:
    """Why nobody's answer counts any more, or not one to this showing."""
    if asked.blocked:
        yield f"the question was blocked: {asked.blocked}"
    decision = _decision(tx, vote.ask_id)
    if decision is not None:
        at = decision.decided_at.isoformat(timespec="seconds")
        yield f"the question is decided: {decision.outcome} by {decision.decided_by} at {at}"
    if asked.superseded:
        yield "the question was superseded by a newer one: answer the newest"
    if vote.posting is not None:
        yield from _outdated(tx, vote.ask_id, vote.posting)
    elif vote.channel == "airflow":
        yield "it is not said which showing of the question was answered"


def _outdated(tx: Transaction, ask_id: str, number: int) -> Iterator[str]:
    posting = tx.row("postings", ask_id=ask_id, number=number)
    if posting is None:
        yield f"the question was never shown as posting {number}"
        return
    if not _is_waiting(tx, posting):
        yield "this showing of the question has been answered: wait until it is shown anew"
    newest = tx.newest("postings", "turn", **_place(_posting(posting)), environment=posting["environment"])
    if newest is not None and newest["turn"] != posting["turn"]:
        yield "the task has shown a question anew since: open it again and answer that one"


def _add_vote(tx: Transaction, vote: Vote, ask: Ask) -> None:
    row = {
        **_scope(ask, vote.ask_id),
        "voter": approval.same_name(vote.person),
        "outcome": vote.outcome,
        "person": vote.person,
        "channel": vote.channel,
        "posting": vote.posting,
        "reason": vote.reason,
        "signature": vote.signature,
        "at": chain.text_of(vote.at),
    }
    detail = f"{_said(vote.outcome, vote.reason)} ({vote.channel})"
    _add(tx, "votes", row, by=vote.person, action="vote", subject=_named(ask), detail=detail)


def _concluded(asked: Asked, last: Vote, votes: Sequence[Vote]) -> Decision | None:
    outcome = approval.outcome_of(asked.ask, votes)
    if outcome is None:
        return None
    patience = asked.expires_at - asked.at if asked.expires_at is not None else None
    return Decision(
        ask=asked.ask,
        outcome=outcome,
        decided_by=last.person,
        approved_by=tuple(vote.person for vote in votes if vote.outcome == "approve"),
        requested_by=asked.requested_by,
        reason=last.reason,
        decided_at=last.at,
        expires_at=last.at + patience if patience is not None else None,
    )


def _add_decision(tx: Transaction, decision: Decision, ask_id: str) -> None:
    ask = decision.ask
    row = {
        **_scope(ask, ask_id),
        "digest": ask.digest,
        "outcome": decision.outcome,
        "decided_by": decision.decided_by,
        "requested_by": decision.requested_by,
        "reason": decision.reason,
        "at": chain.text_of(decision.decided_at),
        "expires_at": chain.text_of(decision.expires_at) if decision.expires_at else None,
        "approved_by": _canonical(decision.approved_by) if decision.approved_by else None,
    }
    detail = _said(decision.outcome, decision.reason)
    _add(tx, "decisions", row, by=decision.decided_by, action="decide", subject=_named(ask), detail=detail)


def _votes(tx: Transaction, ask_id: str) -> tuple[Vote, ...]:
    return tuple(_vote(row) for row in tx.rows("votes", "audit_seq", ask_id=ask_id))


def _same_answer(one: Vote, other: Vote) -> bool:
    """A repeated request has another time, and is no second answer."""
    return one.model_copy(update={"at": other.at}) == other


def _postings(tx: Transaction, ask_id: str) -> tuple[Posting, ...]:
    return tuple(_posting(row) for row in tx.rows("postings", "number", ask_id=ask_id))


def _is_waiting(tx: Transaction, posting: Row) -> bool:
    return tx.row("votes", ask_id=posting["ask_id"], posting=posting["number"]) is None


def _is_same_showing(one: Posting, other: Posting) -> bool:
    return one.model_copy(update={"number": other.number}) == other


def _place(posting: Posting) -> Row:
    names = ("dag_id", "run_id", "task_id", "map_index")
    return {name: getattr(posting, name) for name in names}


# --- Decisions and moves ---------------------------------------------------------------------------------------------


def _refuse_without_right(tx: Transaction, ask: Ask, ask_id: str) -> None:
    """A decision that stands gives no right to a move where its question was blocked, or was about data."""
    blocked = tx.row("blocked_asks", ask_id=ask_id)
    if blocked is not None:
        raise NoDecisionError(
            f"the question was blocked: {blocked['why']}", where=_named(ask), way_out="ask for a new approval"
        )
    if ask.kind != "model":
        raise NoDecisionError(
            f"the approval is about a {ask.kind}", where=_named(ask), way_out="ask for an approval of the version"
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
        approved_by=tuple(json.loads(row["approved_by"])) if row["approved_by"] else (),
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


def _previous(tx: Transaction, model: str, environment: str) -> Move | None:
    blocked = tx.values("blocked_asks", "ask_id", model=model, environment=environment)
    return deployment.previous_champion(_moves(tx, model, environment), blocked=blocked)


def _earlier(tx: Transaction, model: str, environment: str, version: int | None) -> Move:
    back = _previous(tx, model, environment)
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
    target = json.loads(row["target"]) if row["target"] else {}
    return Move.model_validate({**fields, "target": target, "moved_at": _time(row["at"])})


def _vote(row: Row) -> Vote:
    return Vote.model_validate({**{name: row[name] for name in Vote.model_fields}, "at": _time(row["at"])})


def _posting(row: Row) -> Posting:
    return Posting.model_validate({name: row[name] for name in Posting.model_fields})


def _scope(ask: Ask, ask_id: str) -> Row:
    return {"ask_id": ask_id, "model": ask.model, "environment": ask.environment}


def _said(outcome: str, reason: str) -> str:
    return f"{outcome}: {reason}" if reason else outcome


def _named(ask: Ask) -> str:
    if ask.kind == "dataset":
        return f"{ask.model} dataset ({ask.digest[:8]}) in {ask.environment}"
    return f"{ask.model} version {ask.version} ({ask.digest[:8]}) at epoch {ask.epoch} in {ask.environment}"


# --- Values ----------------------------------------------------------------------------------------------------------


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
