"""Answers from outside Airflow: signed by an approver's own key, checked before they reach the ledger and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from ml_lifecycle.backends.ledger.base import Ledger
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.keys import Keys, SigningKey, parse_json
from ml_lifecycle.core.answers import ANSWER_TYPE, Answer, objection
from ml_lifecycle.core.contracts import Decision, Vote, canonical_json, first_mistake
from ml_lifecycle.core.errors import ApprovalRefusedError, LedgerError, RequestError, SignatureError

MOST_BYTES = 256 * 1024
"""Of a signed answer."""
_SHOWN = 200


@dataclass(frozen=True)
class Signed:
    """An answer whose signature was checked."""

    answer: Answer
    envelope: str
    """The proof: the answer with the one signature that counts, always in the same form."""

    @property
    def vote(self) -> Vote:
        """The answer as the ledger takes it."""
        answer = self.answer
        return Vote(
            ask_id=answer.ask_id,
            outcome=answer.outcome,
            person=answer.person,
            channel="signed",
            reason=answer.reason,
            at=answer.at,
            signature=self.envelope,
        )


def sign_answer(answer: Answer, key: SigningKey) -> str:
    """The answer in an envelope, signed."""
    return dsse.seal(canonical_json(answer.to_xcom()).encode(), ANSWER_TYPE, key)


def read_answer(envelope: str | bytes, keys: Keys, *, where: str) -> Signed:
    """An answer that was signed by a key of the very person that it names.

    :raises RequestError: this is no signed answer.
    :raises SignatureError: that person has no key here, or somebody else signed it, or it was changed.
    """
    claimed = _answer(dsse.unverified_payload(_bounded(envelope, where), ANSWER_TYPE, where=where), where)
    held = keys.get(claimed.person)
    if not held:
        raise SignatureError(
            f"{claimed.person!r} has no registered key", where=where, way_out="let the platform's admin register one"
        )
    payload, proof = dsse.unseal(envelope, ANSWER_TYPE, held, where=where)
    return Signed(answer=_answer(payload, where), envelope=proof)


def check_answer(signed: Signed, at: datetime, *, where: str) -> None:
    """Refuse an answer that contradicts itself or the clock.

    :raises SignatureError: with the reason.
    """
    if why := objection(signed.answer, at):
        raise SignatureError(why, where=where, way_out="export the question again, and sign a new answer")


def submit(envelope: str | bytes, *, keys: Keys, ledger: Ledger, environment: str, at: datetime) -> Decision | None:
    """Write a signed answer into the ledger; returns the decision where there is one now.

    It counts as any other answer does, under the same rules. The same answer again changes nothing. What is refused
    leaves its reason in the audit of the question that it names.

    :param environment: Whose questions may be answered here.
    :raises RequestError: this is no signed answer.
    :raises SignatureError: it is not from whom it says, or does not hold.
    :raises ApprovalRefusedError: this person's answer does not count.
    :raises LedgerError: nobody asked that, or it cannot be answered any more.
    """
    where = "the signed answer"
    try:
        signed = read_answer(envelope, keys, where=where)
        check_answer(signed, at, where=where)
        _check_question(signed, ledger, environment, at)
    except (SignatureError, ApprovalRefusedError) as refused:
        _note(envelope, refused.what, ledger, at)
        raise
    return ledger.vote(signed.vote)


def verify_signed_votes(decision: Decision, votes: Iterable[Vote], keys: Keys | None) -> None:
    """Refuse a decision which holds an answer from outside that its person did not sign.

    :param votes: All answers to the decision's question; those that came through Airflow or from policy are passed
        over.
    :param keys: Whose signed answers count; ``None`` where the deployment does not say, so that none does.
    :raises SignatureError: a signature is missing, is not that person's, or is about something else.
    """
    for vote in votes:
        if vote.channel == "signed":
            where = f"the answer of {vote.person} to {decision.ask.model} version {decision.ask.version}"
            if keys is None:
                raise SignatureError(
                    "this deployment does not say whose signed answers count",
                    where=where,
                    way_out="name the approvers' public keys in [ml_lifecycle] approver_keys",
                )
            _verify_vote(vote, decision, keys, where)


def _verify_vote(vote: Vote, decision: Decision, keys: Keys, where: str) -> None:
    try:
        signed = read_answer(vote.signature, keys, where=where)
    except RequestError as error:
        raise SignatureError(error.what, where=where, way_out="find out who wrote it into the ledger") from None
    check_answer(signed, vote.at, where=where)
    if signed.answer.ask != decision.ask or signed.vote != vote:
        raise SignatureError(
            "the ledger holds something else than was signed",
            where=where,
            way_out="find out who may write to the ledger's database",
        )


def _check_question(signed: Signed, ledger: Ledger, environment: str, at: datetime) -> None:
    answer = signed.answer
    asked = ledger.asked(answer.ask_id)
    where = f"{answer.ask.model} version {answer.ask.version} in {answer.ask.environment}"
    if asked is None:
        raise LedgerError(
            "nobody asked this here", where=where, way_out="submit it to the ledger whose question it answers"
        )
    if answer.ask.environment != environment:
        raise ApprovalRefusedError(
            f"the answer is for the environment {answer.ask.environment!r}, not {environment!r}",
            where=where,
            way_out="submit it there",
        )
    if (asked.ask, asked.at, asked.expires_at) != (answer.ask, answer.asked_at, answer.expires_at):
        raise ApprovalRefusedError(
            "the answer is about a question of another time",
            where=where,
            way_out="export the question again, and sign a new answer",
        )
    if asked.expires_at is not None and at > asked.expires_at:
        raise ApprovalRefusedError(
            f"the question expired at {asked.expires_at.isoformat()}",
            where=where,
            way_out=f"run {answer.ask.model}_release again",
        )


def _note(envelope: str | bytes, why: str, ledger: Ledger, at: datetime) -> None:
    """Leave a trace with the question that the refused answer names, where there is one."""
    try:
        claimed = _answer(dsse.unverified_payload(envelope, ANSWER_TYPE, where=""), "")
    except RequestError:
        return
    if ledger.asked(claimed.ask_id) is not None:
        ledger.refuse(claimed.ask_id, person=claimed.person[:_SHOWN], why=why, at=at)


def _answer(payload: bytes, where: str) -> Answer:
    content: Any = parse_json(payload, where=where)
    try:
        return Answer.model_validate(content)
    except ValidationError as error:
        raise RequestError(
            f"this is no answer ({first_mistake(error)})", where=where, way_out="sign one with `ml-lifecycle decide`"
        ) from None


def _bounded(envelope: str | bytes, where: str) -> str | bytes:
    if len(envelope) > MOST_BYTES:
        raise RequestError(f"it is larger than {MOST_BYTES:,} bytes", where=where, way_out="hand in another file")
    return envelope
