"""Questions in a real ledger, and answers to them under keys of their own, for tests of what comes from outside."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from ml_lifecycle.backends.ledger.base import Ledger
from ml_lifecycle.backends.signing.answers import sign_answer
from ml_lifecycle.backends.signing.keys import Keys, SigningKey, generated
from ml_lifecycle.core.answers import Answer, OpenAsk, answer_to
from ml_lifecycle.core.contracts import ApprovalTerms, Ask, Verdict

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ADA, BOB, EVE, OLD = (generated() for _ in range(4))
KEYS: Keys = {"ada": (OLD.public, ADA.public), "bob": (BOB.public,)}
"""Ada and Bob are registered, Ada with two keys; Eve is not."""


def question(**changes: Any) -> Ask:
    """About version 2 of ``flights`` in ``prod``, for Ada and Bob."""
    asked = {
        "model": "flights",
        "environment": "prod",
        "version": 2,
        "digest": "a" * 64,
        "dataset_fingerprint": "d" * 64,
        "metrics_digest": "e" * 64,
        "gate_verdict": Verdict.PASS,
        "policy_digest": "f" * 64,
        "epoch": 0,
        "terms": ApprovalTerms(approvers=("ada", "bob", "eve")),
    }
    return Ask.model_validate({**asked, **changes})


def posed(
    ledger: Ledger,
    *,
    at: datetime = NOON,
    expires_at: datetime | None = NOON + 72 * HOUR,
    requested_by: str | None = "carol",
    **changes: Any,
) -> OpenAsk:
    """A question in the ledger, as it is exported."""
    ask = question(**changes)
    ledger.ask(ask, requested_by=requested_by, at=at, expires_at=expires_at)
    return OpenAsk(ask_id=ask.ask_id, ask=ask, asked_at=at, expires_at=expires_at, requested_by=requested_by)


def answered(asked: OpenAsk, person: str = "ada", outcome: str = "approve", **changes: Any) -> Answer:
    """An answer one hour after the question."""
    answer = answer_to(asked, outcome=outcome, person=person, reason="seen", at=NOON + HOUR)
    return answer.model_copy(update=changes)


def signed(asked: OpenAsk, key: SigningKey = ADA, person: str = "ada", outcome: str = "approve", **changes: Any) -> str:
    """An answer in its envelope."""
    return sign_answer(answered(asked, person, outcome, **changes), key)
