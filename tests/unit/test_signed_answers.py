from __future__ import annotations

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.ledger.base import Ledger
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.answers import read_answer, submit, verify_signed_votes
from ml_lifecycle.backends.signing.keys import Keys, SigningKey
from ml_lifecycle.core.answers import ANSWER_TYPE
from ml_lifecycle.core.contracts import ApprovalTerms, Decision
from ml_lifecycle.core.errors import ApprovalRefusedError, LedgerError, LifecycleError, RequestError, SignatureError
from tests.fakes.asking import ADA, BOB, EVE, HOUR, KEYS, MINUTE, NOON, OLD, answered, posed, signed


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")


def submitted(
    ledger: Ledger, envelope: str | bytes, *, keys: Keys = KEYS, at: datetime = NOON + 2 * HOUR, to: str = "prod"
) -> Decision | None:
    return submit(envelope, keys=keys, ledger=ledger, environment=to, at=at)


def last_row(ledger: Ledger) -> tuple[str, str, str]:
    row = ledger.audit("flights")[-1]
    return row["action"], row["actor"], row["detail"]


def edited(envelope: str, **changes: Any) -> str:
    """The payload changed, the signature left as it was."""
    content = json.loads(envelope)
    payload = {**json.loads(base64.b64decode(content["payload"])), **changes}
    return json.dumps({**content, "payload": base64.b64encode(json.dumps(payload).encode()).decode()})


def sealed(payload: str | bytes, key: SigningKey = ADA, kind: str = ANSWER_TYPE) -> str:
    return dsse.seal(payload if isinstance(payload, bytes) else payload.encode(), kind, key)


# --- What counts -----------------------------------------------------------------------------------------------------


def test_a_signed_approval_decides(ledger: Ledger) -> None:
    asked = posed(ledger)

    decision = submitted(ledger, signed(asked))

    assert decision is not None
    assert (decision.outcome, decision.decided_by, decision.approved_by) == ("approve", "ada", ("ada",))
    (vote,) = ledger.votes(asked.ask_id)
    assert (vote.channel, vote.person, vote.reason, vote.at) == ("signed", "ada", "seen", NOON + HOUR)
    assert read_answer(vote.signature, KEYS, where="here").answer == answered(asked)
    assert ledger.decision_for("flights", "prod", "a" * 64) == decision


def test_a_signed_rejection_decides(ledger: Ledger) -> None:
    asked = posed(ledger, terms=ApprovalTerms(approvers=("ada", "bob"), count=2))

    decision = submitted(ledger, signed(asked, outcome="reject"))

    assert decision is not None
    assert (decision.outcome, decision.reason) == ("reject", "seen")


def test_two_people_have_to_sign_where_two_have_to_approve(ledger: Ledger) -> None:
    asked = posed(ledger, terms=ApprovalTerms(approvers=("ada", "bob"), count=2))

    assert submitted(ledger, signed(asked)) is None
    decision = submitted(ledger, signed(asked, BOB, "bob"))

    assert decision is not None
    assert decision.approved_by == ("ada", "bob")


def test_any_key_of_a_person_counts(ledger: Ledger) -> None:
    assert submitted(ledger, signed(posed(ledger), OLD)) is not None


def test_the_same_answer_again_changes_nothing(ledger: Ledger) -> None:
    asked = posed(ledger)
    envelope = signed(asked)
    first = submitted(ledger, envelope)
    rows = ledger.audit("flights")

    again = submitted(ledger, envelope, at=NOON + 5 * HOUR)

    assert again == first
    assert ledger.audit("flights") == rows


def test_the_same_answer_in_another_dress_changes_nothing(ledger: Ledger) -> None:
    envelope = signed(posed(ledger))
    first = submitted(ledger, envelope)
    content = json.loads(envelope)
    content["signatures"].insert(0, {"keyid": BOB.public.key_id, "sig": "AAAA"})
    rows = ledger.audit("flights")

    assert submitted(ledger, json.dumps(content, indent=2)) == first
    assert ledger.audit("flights") == rows


# --- What does not ---------------------------------------------------------------------------------------------------


def test_ada_does_not_answer_twice(ledger: Ledger) -> None:
    asked = posed(ledger, terms=ApprovalTerms(approvers=("ada", "bob"), count=2))
    submitted(ledger, signed(asked))

    with pytest.raises(ApprovalRefusedError, match="ada has answered already"):
        submitted(ledger, signed(asked, OLD, at=NOON + HOUR + MINUTE))

    assert ledger.decision(asked.ask_id) is None


def test_whoever_asked_may_reject_and_not_approve(ledger: Ledger) -> None:
    asked = posed(ledger, requested_by="ada")

    with pytest.raises(ApprovalRefusedError, match="ada asked for it"):
        submitted(ledger, signed(asked))

    assert submitted(ledger, signed(asked, outcome="reject")) is not None


def test_a_registered_person_who_is_no_approver_of_this_model_is_refused(ledger: Ledger) -> None:
    asked = posed(ledger, terms=ApprovalTerms(approvers=("bob",)))

    with pytest.raises(ApprovalRefusedError, match="ada may not answer this question, only bob"):
        submitted(ledger, signed(asked))

    assert last_row(ledger)[:2] == ("vote refused", "ada")


def test_a_person_without_a_registered_key_is_refused(ledger: Ledger) -> None:
    asked = posed(ledger)

    with pytest.raises(SignatureError, match="'eve' has no registered key"):
        submitted(ledger, signed(asked, EVE, "eve"))

    assert last_row(ledger) == ("vote refused", "eve", "'eve' has no registered key")


@pytest.mark.parametrize("person", ["Ada", "ada ", "\uff41da", "policy"])
def test_a_name_in_another_spelling_has_no_key(ledger: Ledger, person: str) -> None:
    with pytest.raises(SignatureError, match="has no registered key"):
        submitted(ledger, signed(posed(ledger), person=person))


def test_a_registered_person_cannot_sign_as_another(ledger: Ledger) -> None:
    asked = posed(ledger)

    with pytest.raises(SignatureError, match="none of its signatures"):
        submitted(ledger, signed(asked, BOB, "ada"))

    assert ledger.votes(asked.ask_id) == ()
    assert last_row(ledger)[:2] == ("vote refused", "ada")


def test_the_key_id_of_ada_on_bobs_signature_does_not_make_it_adas(ledger: Ledger) -> None:
    envelope = signed(posed(ledger), BOB, "ada").replace(BOB.public.key_id, ADA.public.key_id)

    with pytest.raises(SignatureError, match="none of its signatures"):
        submitted(ledger, envelope)


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "reject"},
        {"reason": "other"},
        {"person": "bob"},
        {"at": "2026-03-01T13:00:01Z"},
        {"expires_at": None},
        {"ask_id": "b" * 64},
    ],
)
def test_an_answer_that_was_changed_after_it_was_signed_is_refused(ledger: Ledger, change: dict[str, Any]) -> None:
    asked = posed(ledger)

    with pytest.raises(SignatureError, match="none of its signatures"):
        submitted(ledger, edited(signed(asked), **change))

    assert ledger.votes(asked.ask_id) == ()


def test_a_question_that_was_changed_before_it_was_signed_is_refused(ledger: Ledger) -> None:
    asked = posed(ledger)
    other = asked.ask.model_copy(update={"digest": "b" * 64})

    with pytest.raises(SignatureError, match="shows another one"):
        submitted(ledger, signed(asked, ask=other))


def test_an_answer_to_another_question_does_not_count_here(ledger: Ledger, tmp_path: Path) -> None:
    elsewhere = SqlLedger(f"sqlite:///{tmp_path / 'other.db'}")
    posed(ledger)

    with pytest.raises(LedgerError, match="nobody asked this here"):
        submitted(ledger, signed(posed(elsewhere, version=3)))


def test_an_answer_to_the_same_question_in_another_ledger_does_not_count_here(ledger: Ledger, tmp_path: Path) -> None:
    elsewhere = SqlLedger(f"sqlite:///{tmp_path / 'other.db'}")
    asked = posed(ledger)

    with pytest.raises(ApprovalRefusedError, match="a question of another time"):
        submitted(ledger, signed(posed(elsewhere, at=NOON + MINUTE)))

    assert ledger.votes(asked.ask_id) == ()


def test_an_answer_for_the_sandbox_does_not_count_in_production(ledger: Ledger) -> None:
    sandbox = posed(ledger, environment="sandbox")
    production = posed(ledger)
    envelope = signed(sandbox)

    with pytest.raises(ApprovalRefusedError, match="for the environment 'sandbox', not 'prod'"):
        submitted(ledger, envelope)
    submitted(ledger, envelope, to="sandbox")

    assert ledger.decision(production.ask_id) is None
    assert ledger.decision(sandbox.ask_id) is not None


def test_an_answer_to_the_question_before_does_not_count_for_its_renewal(ledger: Ledger) -> None:
    before, renewed = posed(ledger), posed(ledger, renewal=1)

    submitted(ledger, signed(before))

    assert ledger.decision(renewed.ask_id) is None


@pytest.mark.parametrize(
    ("signed_at", "looked_at", "why"),
    [
        (NOON + 2 * HOUR + 6 * MINUTE, NOON + 2 * HOUR, "still to come"),
        (NOON - 6 * MINUTE, NOON + 2 * HOUR, "before the question was asked"),
        (NOON + 73 * HOUR, NOON + 74 * HOUR, "after the question expired"),
        (NOON + HOUR, NOON + 73 * HOUR, "the question expired at"),
    ],
)
def test_time_travel_is_refused(ledger: Ledger, signed_at: datetime, looked_at: datetime, why: str) -> None:
    asked = posed(ledger)

    with pytest.raises(LifecycleError, match=why):
        submitted(ledger, signed(asked, at=signed_at), at=looked_at)

    assert ledger.votes(asked.ask_id) == ()
    assert last_row(ledger)[:2] == ("vote refused", "ada")


def test_a_clock_that_is_five_minutes_ahead_is_forgiven(ledger: Ledger) -> None:
    assert submitted(ledger, signed(posed(ledger), at=NOON + 5 * MINUTE), at=NOON) is not None


def test_a_rejection_without_a_reason_is_refused(ledger: Ledger) -> None:
    with pytest.raises(SignatureError, match="rejects without a reason"):
        submitted(ledger, signed(posed(ledger), outcome="reject", reason=" "))


def test_a_superseded_question_takes_no_answer(ledger: Ledger) -> None:
    asked = posed(ledger)
    newer = posed(ledger, version=3)
    ledger.supersede("flights", "prod", newest=newer.ask, at=NOON)

    with pytest.raises(LedgerError, match="superseded"):
        submitted(ledger, signed(asked))


# --- What is no answer -----------------------------------------------------------------------------------------------


def test_something_else_under_the_same_key_is_no_answer(ledger: Ledger) -> None:
    payload = answered(posed(ledger)).model_dump_json()

    with pytest.raises(RequestError, match=r"holds 'application/vnd\.in-toto"):
        submitted(ledger, sealed(payload, kind="application/vnd.in-toto+json"))


@pytest.mark.parametrize(
    "change",
    [{"purpose": "anything"}, {"outcome": "maybe"}, {"at": "2026-03-01T13:00:00"}, {"extra": 1}, {"ask": {}}],
)
def test_a_signed_text_of_another_form_is_no_answer(ledger: Ledger, change: dict[str, Any]) -> None:
    content = answered(posed(ledger)).model_dump(mode="json")

    with pytest.raises(RequestError, match="this is no answer"):
        submitted(ledger, sealed(json.dumps({**content, **change})))


def test_an_answer_that_says_one_thing_twice_is_refused(ledger: Ledger) -> None:
    text = answered(posed(ledger)).model_dump_json()

    with pytest.raises(RequestError, match="'outcome' stands twice"):
        submitted(ledger, sealed(text[:-1] + ',"outcome":"reject"}'))


def test_a_huge_answer_is_refused(ledger: Ledger) -> None:
    with pytest.raises(RequestError, match="larger than"):
        submitted(ledger, signed(posed(ledger), reason="x" * 300_000))


@pytest.mark.parametrize("envelope", ["", "{}", b"\xff", "null"])
def test_garbage_is_refused(ledger: Ledger, envelope: str | bytes) -> None:
    with pytest.raises(RequestError):
        submitted(ledger, envelope)


# --- What stands in the ledger ---------------------------------------------------------------------------------------


def decided(ledger: Ledger) -> Decision:
    decision = submitted(ledger, signed(posed(ledger)))
    assert decision is not None
    return decision


def test_stored_answers_are_verified_again(ledger: Ledger) -> None:
    decision = decided(ledger)

    verify_signed_votes(decision, ledger.votes(decision.ask.ask_id), KEYS)


def test_a_stored_answer_of_somebody_whose_key_was_taken_away_does_not_hold(ledger: Ledger) -> None:
    decision = decided(ledger)

    with pytest.raises(SignatureError, match="'ada' has no registered key"):
        verify_signed_votes(decision, ledger.votes(decision.ask.ask_id), {"bob": (BOB.public,)})


@pytest.mark.parametrize(
    "change",
    [
        {"signature": ""},
        {"signature": "{}"},
        {"person": "bob"},
        {"outcome": "reject"},
        {"reason": "other"},
        {"at": NOON},
        {"ask_id": "b" * 64},
    ],
)
def test_a_stored_answer_that_was_not_signed_so_does_not_hold(ledger: Ledger, change: dict[str, Any]) -> None:
    decision = decided(ledger)
    (vote,) = ledger.votes(decision.ask.ask_id)

    with pytest.raises(SignatureError):
        verify_signed_votes(decision, [vote.model_copy(update=change)], KEYS)


def test_an_answer_that_was_copied_to_another_question_does_not_hold(ledger: Ledger) -> None:
    decision = decided(ledger)
    (vote,) = ledger.votes(decision.ask.ask_id)
    other = decision.model_copy(update={"ask": decision.ask.model_copy(update={"digest": "b" * 64})})

    with pytest.raises(SignatureError, match="something else than was signed"):
        verify_signed_votes(other, [vote], KEYS)


def test_answers_that_came_through_airflow_need_no_signature(ledger: Ledger) -> None:
    decision = decided(ledger)
    (vote,) = ledger.votes(decision.ask.ask_id)

    verify_signed_votes(decision, [vote.model_copy(update={"channel": "airflow", "signature": ""})], KEYS)
