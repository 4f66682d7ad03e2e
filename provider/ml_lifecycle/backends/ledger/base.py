"""The truth about what was measured, asked, decided and moved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from ml_lifecycle.core.contracts import Ask, Contract, Decision, ModelVersion, Move, Posting, Vote

Conclusion = TypeVar("Conclusion", bound=Contract)


@dataclass(frozen=True)
class Asked:
    """A question as it stands in the ledger."""

    ask: Ask
    requested_by: str | None
    """Who asked for what is asked about; may reject, and never approve."""
    excluded: Mapping[str, str]
    """Others who may reject, and never approve, each with why."""
    at: datetime
    expires_at: datetime | None
    superseded: bool
    blocked: str
    """Why no decision on it gives a right to anything; empty where it may."""


class Past(ABC):
    """What stands in the ledger about one model at one moment."""

    @abstractmethod
    def results(
        self, stage: str, *, run: str | None = None, limit: int | None = None, **held: str | int
    ) -> tuple[Mapping[str, Any], ...]:
        """As :meth:`Ledger.results`."""

    @abstractmethod
    def moves(self) -> tuple[Move, ...]:
        """All moves, by epoch."""


class Ledger(ABC):
    """Insert-only records of one deployment, with a hash-chained audit per model.

    Every writing method writes its audit row in the same transaction, and does nothing when called again with the same
    values. ``at`` is always handed in: the ledger has no clock.
    """

    @abstractmethod
    def record_result(
        self, environment: str, run: str, stage: str, result: Contract, *, model: str, at: datetime
    ) -> str:
        """Write what a stage of a run (``dag_id/run_id``) concluded; returns the result's digest.

        A stage that runs again and concludes the same adds nothing; where it concludes something else, both stand.
        """

    @abstractmethod
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
        """Write what follows from what stands, and return it.

        Of many that conclude at the same moment, each sees what those before it concluded: nothing about the model is
        written in between.

        :param conclude: Decides from what stands; it may be called again, and neither reads nor writes this ledger
            otherwise.
        """

    @abstractmethod
    def has_result(self, environment: str, digest: str, *, run: str | None = None) -> bool:
        """Whether some stage concluded exactly this.

        :param run: Only if a stage of this run did.
        """

    @abstractmethod
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
        """What a stage concluded for a model, oldest first: ``{run, digest, content, at, seq}``.

        ``seq`` counts what was written about the model: unlike ``at``, it never goes back.

        :param run: Only what it concluded in this run.
        :param limit: Only the newest ones, this many.
        :param held: Only what holds these values in the content's fields; ``dataset__fingerprint`` is the
            ``fingerprint`` of its ``dataset``. The database looks for them, so that the others need not be read.
        """

    @abstractmethod
    def head(self, model: str, environment: str) -> Move | None:
        """The move in force, or ``None`` at epoch 0."""

    @abstractmethod
    def moves(self, model: str, environment: str) -> tuple[Move, ...]:
        """All moves, by epoch."""

    @abstractmethod
    def previous(self, model: str, environment: str) -> Move | None:
        """What a rollback would bring back; ``None`` where there is nothing.

        Neither what was rolled back nor what was released under a decision that was blocked since comes back.
        """

    @abstractmethod
    def ask(
        self,
        ask: Ask,
        *,
        requested_by: str | None,
        excluded: Mapping[str, str] = MappingProxyType({}),
        at: datetime,
        expires_at: datetime | None,
    ) -> str:
        """Record that a decision is asked for; returns the ask's id. Asking again changes nothing.

        :param excluded: Who may reject and never approve beside ``requested_by``, each with why.
        """

    @abstractmethod
    def post(self, posting: Posting, *, at: datetime) -> Posting:
        """Record that a question is about to be shown to people; returns it with its number.

        The same try that shows it again, with no answer in between, gets the number it had.

        :raises LedgerError: a later try of the task has shown a question, or nobody asked.
        """

    @abstractmethod
    def posting_at(self, environment: str, dag_id: str, run_id: str, task_id: str, map_index: int) -> Posting | None:
        """The newest question that a task of this environment's Airflow shows; ``None`` where it shows none of ours.

        Deployments that share a ledger may name their DAGs, runs and tasks alike.
        """

    @abstractmethod
    def postings(self, ask_id: str) -> tuple[Posting, ...]:
        """Every showing of a question, oldest first."""

    @abstractmethod
    def vote(self, vote: Vote, *, forward: Callable[[], None] | None = None) -> Decision | None:
        """Record one answer; returns the decision where there is one now, ``None`` while others have to answer.

        Who may answer is decided here, within the transaction, by :func:`ml_lifecycle.core.approval.refusal`; of
        contradictory answers given at the same time, one is taken. The same vote again changes nothing.

        :param forward: Called once the vote is found good and before it is written, while no other vote on any ask of
            the model can be written; what it raises undoes everything.
        :raises ApprovalRefusedError: this answer does not count; the audit holds it with the reason.
        :raises LedgerError: nobody asked.
        """

    @abstractmethod
    def votes(self, ask_id: str) -> tuple[Vote, ...]:
        """The answers that count, oldest first."""

    @abstractmethod
    def refuse(self, ask_id: str, *, person: str, why: str, at: datetime) -> None:
        """Write into the audit that somebody's answer was not taken."""

    @abstractmethod
    def block(self, ask_id: str, *, why: str, at: datetime) -> None:
        """Take every right from an ask and its decision, for ever: its answers contradict each other."""

    @abstractmethod
    def asked(self, ask_id: str) -> Asked | None:
        """How a question was asked, or ``None`` if it was not."""

    @abstractmethod
    def open_asks(self, model: str, environment: str) -> tuple[Ask, ...]:
        """Asks without a decision that are neither superseded nor blocked, oldest first."""

    @abstractmethod
    def supersede(self, model: str, environment: str, *, newest: Ask, at: datetime) -> tuple[str, ...]:
        """Close every open ask of the same kind but ``newest``; returns their ids."""

    @abstractmethod
    def decision(self, ask_id: str) -> Decision | None:
        """The decision on an ask, or ``None`` while it is open."""

    @abstractmethod
    def decision_for(self, model: str, environment: str, digest: str) -> Decision | None:
        """The newest decision about a model's digest, whichever ask it answered."""

    @abstractmethod
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

        :param target: Where it will serve and with which options; kept with the move, for a rollback to restore.

        :raises NoDecisionError: the decision is not in the ledger, is a rejection, has expired, or is about another
            digest.
        :raises StaleEpochError: another move was made since the question was asked.
        """

    @abstractmethod
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

    @abstractmethod
    def rolled_back(self, model: str, environment: str, key: str) -> Move | None:
        """The move that :meth:`rollback` made under this key, or ``None``."""

    @abstractmethod
    def record_deployment(
        self, move: Move, state: str, *, detail: Mapping[str, Any] | None = None, at: datetime
    ) -> None:
        """Note a step of carrying a move out: ``intent`` before acting, then ``observed`` and ``done``.

        ``superseded`` closes one that a newer move overtook before it was done.
        """

    @abstractmethod
    def deployment_states(self, move: Move) -> tuple[str, ...]:
        """The steps noted so far, in order."""

    @abstractmethod
    def audit(self, model: str | None = None) -> tuple[Mapping[str, Any], ...]:
        """The audit rows in order: ``{model, seq, environment, at, actor, action, subject, detail, previous, digest}``.

        ``action`` is ``result``, ``ask``, ``post``, ``vote``, ``decide``, ``block``, ``supersede``, ``release``,
        ``rollback`` or ``deployment``; a refusal adds its word, such as ``release refused``.
        """

    @abstractmethod
    def models(self, environment: str) -> tuple[str, ...]:
        """Every model that the ledger knows in this environment, sorted."""

    @abstractmethod
    def record_refusal(self, model: str, environment: str, *, action: str, by: str, why: str, at: datetime) -> None:
        """Write into the audit that something was refused: ``action`` becomes ``<action> refused``."""

    @abstractmethod
    def verify_audit(self, model: str) -> int:
        """Recompute the hash chain; returns the number of rows.

        :raises LedgerError: a row was changed, removed or put in.
        """
