"""An approver's answer that comes from outside Airflow, and what has to hold of it before it is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from ml_lifecycle.core.contracts import DIGEST, Ask, Contract

ANSWER_TYPE = "application/vnd.ml-lifecycle.answer+json"
"""What a signed answer's envelope says that it holds."""
PURPOSE: Literal["ml-lifecycle: one person's answer to one ask, version 1"] = (
    "ml-lifecycle: one person's answer to one ask, version 1"
)
"""Stands in every answer, so that no signature made for something else can be taken for one."""
CLOCKS_DIFFER = timedelta(minutes=5)
"""How far the clock of whoever signs may be ahead."""


class OpenAsk(Contract):
    """An ask as a file, for a machine without the ledger; it gives no right to anything."""

    ask_id: str = Field(pattern=DIGEST)
    ask: Ask
    asked_at: AwareDatetime
    expires_at: AwareDatetime | None
    requested_by: str | None = None
    """May reject, and never approve."""
    excluded: tuple[str, ...] = ()
    """Others who may reject, and never approve."""


class Answer(Contract):
    """What an approver signs: the whole question, and what was said to it."""

    purpose: Literal["ml-lifecycle: one person's answer to one ask, version 1"]
    ask_id: str = Field(pattern=DIGEST)
    ask: Ask
    asked_at: AwareDatetime
    expires_at: AwareDatetime | None
    outcome: Literal["approve", "reject"]
    person: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=4000)
    at: AwareDatetime
    """When it was signed, by the clock of whoever signed."""


def answer_to(question: OpenAsk, *, outcome: str, person: str, reason: str, at: datetime) -> Answer:
    """The answer to a question, for its person to sign."""
    return Answer.model_validate(
        {
            "purpose": PURPOSE,
            "ask_id": question.ask_id,
            "ask": question.ask,
            "asked_at": question.asked_at,
            "expires_at": question.expires_at,
            "outcome": outcome,
            "person": person,
            "reason": reason,
            "at": at,
        }
    )


def objection(answer: Answer, at: datetime) -> str:
    """What is wrong with an answer that can be seen from it alone; empty where nothing is.

    :param at: The moment in which it is looked at.
    """
    return next(_objections(answer, at), "")


def _objections(answer: Answer, at: datetime) -> Iterator[str]:
    if answer.ask.ask_id != answer.ask_id:
        yield f"it names the ask {answer.ask_id[:12]}, but shows another one ({answer.ask.ask_id[:12]})"
    if answer.at > at + CLOCKS_DIFFER:
        yield f"it was signed at {answer.at.isoformat()}, which is still to come"
    if answer.at < answer.asked_at - CLOCKS_DIFFER:
        yield f"it was signed at {answer.at.isoformat()}, before the question was asked"
    if answer.expires_at is not None and answer.at > answer.expires_at:
        yield f"it was signed at {answer.at.isoformat()}, after the question expired ({answer.expires_at.isoformat()})"
    if answer.outcome == "reject" and not answer.reason.strip():
        yield "it rejects without a reason"
