"""The truth about what was measured, asked, decided and moved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ml_lifecycle.core.contracts import Ask, Contract, Decision, ModelVersion, Move


@dataclass(frozen=True)
class Asked:
    """A question as it stands in the ledger."""

    ask: Ask
    requested_by: str | None
    at: datetime
    expires_at: datetime | None
    superseded: bool


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
    def has_result(self, environment: str, digest: str) -> bool:
        """Whether some stage concluded exactly this."""

    @abstractmethod
    def results(self, environment: str, model: str, stage: str) -> tuple[Mapping[str, Any], ...]:
        """What a stage concluded for a model over all runs, oldest first: ``{run, digest, content, at}``."""

    @abstractmethod
    def head(self, model: str, environment: str) -> Move | None:
        """The move in force, or ``None`` at epoch 0."""

    @abstractmethod
    def moves(self, model: str, environment: str) -> tuple[Move, ...]:
        """All moves, by epoch."""

    @abstractmethod
    def ask(self, ask: Ask, *, requested_by: str | None, at: datetime, expires_at: datetime | None) -> str:
        """Record that a decision is asked for; returns the ask's id. Asking again extends nothing."""

    @abstractmethod
    def asked(self, ask_id: str) -> Asked | None:
        """How a question was asked, or ``None`` if it was not."""

    @abstractmethod
    def open_asks(self, model: str, environment: str) -> tuple[Ask, ...]:
        """Asks without a decision that are not superseded, oldest first."""

    @abstractmethod
    def supersede(self, model: str, environment: str, *, newest: Ask, at: datetime) -> tuple[str, ...]:
        """Close every open ask but ``newest``; returns their ids."""

    @abstractmethod
    def decide(self, decision: Decision) -> Decision:
        """Record a decision, unless the ask has one: the decision that stands is returned, the first one written.

        :raises LedgerError: nothing was asked, or the ask was superseded or has expired.
        """

    @abstractmethod
    def decision(self, ask_id: str) -> Decision | None:
        """The decision on an ask, or ``None`` while it is open."""

    @abstractmethod
    def decision_for(self, model: str, environment: str, digest: str) -> Decision | None:
        """The newest decision about a model's digest, whichever ask it answered."""

    @abstractmethod
    def release(self, version: ModelVersion, decision: Decision, *, moved_by: str, at: datetime) -> Move:
        """Make a version champion under an approval; the same decision makes one move however often it is used.

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
    ) -> Move:
        """Bring back the champion before the present one; the same ``key`` (the run) makes one move.

        Rollbacks in a row walk further back, and never return to a digest that was rolled back.

        :param version: Only if it is this version that comes back.
        :raises LedgerError: there is no earlier champion, or it is another version.
        """

    @abstractmethod
    def rolled_back(self, model: str, environment: str, key: str) -> Move | None:
        """The move that :meth:`rollback` made under this key, or ``None``."""

    @abstractmethod
    def record_deployment(
        self, move: Move, state: str, *, detail: Mapping[str, Any] | None = None, at: datetime
    ) -> None:
        """Note a step of carrying a move out: ``intent`` before acting, then ``observed`` and ``done``."""

    @abstractmethod
    def deployment_states(self, move: Move) -> tuple[str, ...]:
        """The steps noted so far, in order."""

    @abstractmethod
    def audit(self, model: str | None = None) -> tuple[Mapping[str, Any], ...]:
        """The audit rows in order: ``{model, seq, environment, at, actor, action, subject, detail, previous, digest}``.

        ``action`` is ``result``, ``ask``, ``supersede``, ``decide``, ``release``, ``rollback`` or ``deployment``; a
        refusal adds its word, such as ``release refused``.
        """

    @abstractmethod
    def verify_audit(self, model: str) -> int:
        """Recompute the hash chain; returns the number of rows.

        :raises LedgerError: a row was changed, removed or put in.
        """
