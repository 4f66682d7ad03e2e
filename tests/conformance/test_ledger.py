"""What every ledger holds to, whichever database it is kept in."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ml_lifecycle.backends.ledger import database, schema
from ml_lifecycle.backends.ledger.base import Ledger, Past
from ml_lifecycle.backends.ledger.chain import AUDITED
from ml_lifecycle.backends.ledger.migrations import insert_only
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import (
    ApprovalTerms,
    Ask,
    Decision,
    ModelVersion,
    MonitoringResponse,
    Move,
    Posting,
    RunRequest,
    Verdict,
    Vote,
    digest_of,
)
from ml_lifecycle.core.errors import (
    ApprovalRefusedError,
    LedgerError,
    NoDecisionError,
    RollbackOutdatedError,
    ServiceUnavailableError,
    StaleEpochError,
)
from private_postgresql import Server
from race_ledger import race_for_decisions, race_for_epochs

HERE = Path(__file__).parent
PROVIDER = HERE.parent.parent / "provider"
NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)]


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of every kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: Server = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def ledger(url: str) -> Ledger:
    return SqlLedger(url)


def registered(number: int, model: str = "flights") -> ModelVersion:
    return ModelVersion(
        name=model,
        version=number,
        digest=digest_of(["model", number]),
        training_key=digest_of(["key", number]),
        uri=f"runs:/{number}/model",
        run_id=str(number),
        dataset_fingerprint=digest_of("data"),
        metrics_digest=digest_of(["metrics", number]),
        gate_verdict=Verdict.PASS,
        policy_digest=digest_of("policy"),
    )


def question(
    version: ModelVersion, epoch: int = 0, environment: str = "test", renewal: int = 0, **terms: object
) -> Ask:
    return Ask(
        model=version.name,
        environment=environment,
        version=version.version,
        digest=version.digest,
        dataset_fingerprint=version.dataset_fingerprint,
        metrics_digest=version.metrics_digest,
        gate_verdict=version.gate_verdict,
        policy_digest=version.policy_digest,
        epoch=epoch,
        renewal=renewal,
        terms=ApprovalTerms.model_validate(terms),
    )


def answer(
    ask: Ask, outcome: str = "approve", by: str = "ada", at: datetime = NOON, posting: int | None = None
) -> Vote:
    channel = "signed" if posting is None else "airflow"
    fields = {"ask_id": ask.ask_id, "outcome": outcome, "person": by, "channel": channel, "posting": posting}
    return Vote.model_validate({**fields, "at": at, "reason": "too risky" if outcome == "reject" else ""})


def shown(ask: Ask, ti_id: str = "first try", author: str | None = None, run: str = "release/1") -> Posting:
    return Posting(
        ask_id=ask.ask_id,
        model=ask.model,
        environment=ask.environment,
        dag_id="flights_release",
        run_id=run,
        task_id="approve",
        ti_id=ti_id,
        author=author,
    )


def decided(ledger: Ledger, ask: Ask, outcome: str = "approve", by: str = "ada", at: datetime = NOON) -> Decision:
    decision = ledger.vote(answer(ask, outcome, by, at))
    assert decision is not None
    return decision


def carried(ask: Ask, outcome: str = "approve", at: datetime = NOON) -> Decision:
    """What a caller claims was decided."""
    return Decision.model_validate({"ask": ask, "outcome": outcome, "decided_by": "ada", "decided_at": at})


def approved(ledger: Ledger, version: ModelVersion, at: datetime = NOON) -> Decision:
    head = ledger.head(version.name, "test")
    ask = question(version, epoch=head.epoch if head else 0)
    ledger.ask(ask, requested_by="bob", at=at, expires_at=at + 72 * HOUR)
    return decided(ledger, ask, at=at)


def released(ledger: Ledger, number: int, at: datetime = NOON) -> Move:
    version = registered(number)
    return ledger.release(version, approved(ledger, version, at), moved_by="ada", at=at)


def back(ledger: Ledger, key: str, at: datetime = NOON + HOUR) -> Move:
    return ledger.rollback("flights", "test", key=key, moved_by="olga", reason="late flights", at=at)


def actions(ledger: Ledger) -> list[str]:
    return [row["action"] for row in ledger.audit("flights")]


# --- Results ---------------------------------------------------------------------------------------------------------


def test_the_same_conclusion_of_a_run_is_written_once(ledger: Ledger) -> None:
    result = RunRequest(model="flights", reason="new data")

    first = ledger.record_result("test", "train/1", "resolve", result, model="flights", at=NOON)
    again = ledger.record_result("test", "train/1", "resolve", result, model="flights", at=NOON + HOUR)

    assert first == again == result.content_digest()
    assert [row["at"] for row in ledger.results("test", "flights", "resolve")] == [NOON]
    assert len(ledger.audit("flights")) == 1


def test_another_conclusion_of_the_same_run_stands_beside_the_first(ledger: Ledger) -> None:
    for reason in ("b", "a"):
        ledger.record_result(
            "test", "train/1", "resolve", RunRequest(model="flights", reason=reason), model="flights", at=NOON
        )

    found = ledger.results("test", "flights", "resolve")

    assert [row["content"]["reason"] for row in found] == ["b", "a"]


def test_the_newest_results_are_found_without_the_others(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        ledger.record_result("test", f"train/{number}", "register", registered(number), model="flights", at=NOON)

    newest = ledger.results("test", "flights", "register", limit=2)

    assert [result["run"] for result in newest] == ["train/2", "train/3"]
    assert len(ledger.results("test", "flights", "register", limit=9)) == 3


def test_a_result_is_found_by_what_it_holds(ledger: Ledger) -> None:
    for run, number in (("train/1", 1), ("train/2", 2), ("train/3", 1)):
        ledger.record_result("test", run, "register", registered(number), model="flights", at=NOON)

    def runs(**wanted: str | int) -> list[str]:
        found = ledger.results("test", "flights", "register", **wanted)  # type: ignore[arg-type]  # as results says
        return [result["run"] for result in found]

    assert runs(digest=registered(1).digest) == ["train/1", "train/3"]
    assert runs(version=1, limit=1) == ["train/3"]
    assert runs(version=2, digest=registered(2).digest) == ["train/2"]
    assert runs(run="train/1", version=1) == ["train/1"]
    assert runs(version=3) == runs(nothing__there="x") == runs(version=2, digest=registered(1).digest) == []


def test_a_result_is_found_by_a_value_within_a_value(ledger: Ledger) -> None:
    for depth in (3, 4):
        request = RunRequest(model="flights", hyperparameters={"depth": depth})
        ledger.record_result("test", f"train/{depth}", "resolve", request, model="flights", at=NOON)

    found = ledger.results("test", "flights", "resolve", hyperparameters__depth=3)

    assert [result["run"] for result in found] == ["train/3"]


def test_a_result_of_another_environment_is_not_known(ledger: Ledger) -> None:
    digest = ledger.record_result("sandbox", "r", "train", RunRequest(model="flights"), model="flights", at=NOON)

    assert ledger.has_result("sandbox", digest)
    assert not ledger.has_result("test", digest)
    assert ledger.results("test", "flights", "train") == ()


def test_a_time_without_a_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="names no time zone"):
        ledger.record_result(
            "test", "r", "train", RunRequest(model="flights"), model="flights", at=NOON.replace(tzinfo=None)
        )


def test_times_come_back_as_the_moments_that_went_in(ledger: Ledger) -> None:
    tokyo = NOON.astimezone(timezone(9 * HOUR))
    ask = question(registered(1))

    ledger.ask(ask, requested_by=None, at=tokyo, expires_at=tokyo + HOUR)
    asked = ledger.asked(ask.ask_id)

    assert asked is not None
    assert (asked.at, asked.expires_at) == (NOON, NOON + HOUR)
    assert asked.at.tzinfo is not None


def test_a_result_is_found_by_whether_it_holds_true_or_false(ledger: Ledger) -> None:
    for run, healthy in (("monitor/1", True), ("monitor/2", False), ("monitor/3", None)):
        response = MonitoringResponse(
            model="flights", partition="2026-02", action="nothing", reason="", healthy=healthy
        )
        ledger.record_result("test", run, "respond", response, model="flights", at=NOON)

    well, unwell = (ledger.results("test", "flights", "respond", healthy=value) for value in (True, False))

    assert [result["run"] for result in well] == ["monitor/1"]
    assert [result["run"] for result in unwell] == ["monitor/2"]


def test_results_are_counted_in_the_order_in_which_they_came_whatever_the_clock_said(ledger: Ledger) -> None:
    for run, at in (("train/1", NOON), ("train/2", NOON - HOUR), ("train/3", NOON + HOUR)):
        ledger.record_result("test", run, "resolve", RunRequest(model="flights"), model="flights", at=at)

    found = ledger.results("test", "flights", "resolve")

    assert [result["run"] for result in found] == ["train/1", "train/2", "train/3"]
    assert [later["seq"] > earlier["seq"] for earlier, later in pairwise(found)] == [True, True]


# --- Conclusions from what stands ------------------------------------------------------------------------------------


def number_after(past: Past) -> RunRequest:
    """One more than the newest result holds."""
    last = past.results("count", limit=1)
    return RunRequest(model="flights", version=(last[-1]["content"]["version"] if last else 0) + 1)


def test_a_conclusion_sees_what_stands_and_is_written(ledger: Ledger) -> None:
    first = released(ledger, 1)

    def conclude(past: Past) -> RunRequest:
        assert past.moves() == (first,)
        assert past.results("count") == ()
        return number_after(past)

    concluded = ledger.conclude("test", "monitor/1", "count", conclude, model="flights", at=NOON)

    assert concluded.version == 1
    assert ledger.has_result("test", concluded.content_digest(), run="monitor/1")
    assert [row["action"] for row in ledger.audit("flights")][-1] == "result"


def test_a_conclusion_sees_neither_another_model_nor_another_environment(ledger: Ledger) -> None:
    for environment, model in (("prod", "flights"), ("test", "trains")):
        ledger.record_result(environment, "r/1", "count", RunRequest(model=model, version=9), model=model, at=NOON)

    concluded = ledger.conclude("test", "monitor/1", "count", number_after, model="flights", at=NOON)

    assert concluded.version == 1


def test_a_conclusion_that_fails_writes_nothing(ledger: Ledger) -> None:
    def fail(_: Past) -> RunRequest:
        raise LedgerError("the reports contradict each other")

    with pytest.raises(LedgerError, match="contradict"):
        ledger.conclude("test", "monitor/1", "count", fail, model="flights", at=NOON)

    assert ledger.audit("flights") == ()


def test_of_many_that_conclude_at_the_same_moment_each_sees_those_before_it(url: str) -> None:
    def count(number: int) -> int | None:
        own = SqlLedger(url)
        return own.conclude("test", f"monitor/{number}", "count", number_after, model="flights", at=NOON).version

    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(count, range(40)))

    assert sorted(number or 0 for number in counted) == list(range(1, 41))
    assert SqlLedger(url).verify_audit("flights") == 40


# --- Asks and decisions ----------------------------------------------------------------------------------------------


def test_asking_again_extends_nothing(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by="bob", at=NOON, expires_at=NOON + HOUR)

    ledger.ask(ask, requested_by="eve", at=NOON + HOUR, expires_at=NOON + 9 * HOUR)

    asked = ledger.asked(ask.ask_id)
    assert asked is not None
    assert (asked.requested_by, asked.expires_at) == ("bob", NOON + HOUR)
    assert ledger.open_asks("flights", "test") == (ask,)
    assert actions(ledger) == ["ask"]


def test_nobody_is_asked_about_an_epoch_that_is_not_in_force(ledger: Ledger) -> None:
    with pytest.raises(StaleEpochError, match="names epoch 3, but 0 is in force"):
        ledger.ask(question(registered(1), epoch=3), requested_by=None, at=NOON, expires_at=None)


def test_nothing_is_known_of_a_question_that_nobody_asked(ledger: Ledger) -> None:
    ask = question(registered(1))

    assert ledger.asked(ask.ask_id) is None
    assert ledger.decision(ask.ask_id) is None
    for write in (
        lambda: ledger.vote(answer(ask)),
        lambda: ledger.post(shown(ask), at=NOON),
        lambda: ledger.block(ask.ask_id, why="", at=NOON),
        lambda: ledger.refuse(ask.ask_id, person="eve", why="", at=NOON),
    ):
        with pytest.raises(LedgerError, match="nobody asked"):
            write()
    assert actions(ledger) == []


def test_a_question_about_data_needs_no_epoch_and_closes_no_question_about_a_version(ledger: Ledger) -> None:
    released(ledger, 1)
    candidate = question(registered(2), epoch=1)
    data = question(registered(3)).model_copy(update={"kind": "dataset", "version": 0})
    for ask in (candidate, data):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    closed = ledger.supersede("flights", "test", newest=data, at=NOON)

    assert closed == ()
    assert ledger.open_asks("flights", "test") == (candidate, data)


def test_a_rejection_stands_when_an_approval_follows(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    rejected = decided(ledger, ask, "reject", by="ada")

    with pytest.raises(ApprovalRefusedError, match="is decided: reject by ada"):
        ledger.vote(answer(ask, "approve", by="eve"))

    assert ledger.decision(ask.ask_id) == rejected
    assert (rejected.outcome, rejected.approved_by, rejected.reason) == ("reject", (), "too risky")
    assert actions(ledger) == ["ask", "vote", "decide", "vote refused"]


def test_an_answer_at_the_last_moment_counts_and_one_after_it_does_not(ledger: Ledger) -> None:
    on_time, late = question(registered(1)), question(registered(2))
    for ask in (on_time, late):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=NOON + HOUR)

    ledger.vote(answer(on_time, at=NOON + HOUR))
    with pytest.raises(ApprovalRefusedError, match="expired"):
        ledger.vote(answer(late, at=NOON + HOUR + timedelta(microseconds=1)))

    assert ledger.decision(late.ask_id) is None
    assert actions(ledger) == ["ask", "ask", "vote", "decide", "vote refused"]


def test_a_decision_is_good_for_as_long_as_its_question_was(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by="bob", at=NOON, expires_at=NOON + 5 * HOUR)

    decision = decided(ledger, ask, at=NOON + 2 * HOUR)

    assert (decision.decided_at, decision.expires_at) == (NOON + 2 * HOUR, NOON + 7 * HOUR)
    assert (decision.requested_by, decision.decided_by, decision.approved_by) == ("bob", "ada", ("ada",))
    assert ledger.decision(ask.ask_id) == decision


def test_two_who_have_to_approve_are_two_different_people(ledger: Ledger) -> None:
    ask = question(registered(1), count=2)
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    first = ledger.vote(answer(ask, by="ada"))
    with pytest.raises(ApprovalRefusedError, match="ADA has answered already"):
        ledger.vote(answer(ask, by="ADA"))
    second = ledger.vote(answer(ask, by="eve"))

    assert first is None
    assert second is not None
    assert (second.outcome, second.decided_by, second.approved_by) == ("approve", "eve", ("ada", "eve"))
    assert [vote.person for vote in ledger.votes(ask.ask_id)] == ["ada", "eve"]
    assert actions(ledger) == ["ask", "vote", "vote refused", "vote", "decide"]


def test_one_rejection_is_enough_where_two_have_to_approve(ledger: Ledger) -> None:
    ask = question(registered(1), count=2)
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    ledger.vote(answer(ask, by="ada"))

    decision = decided(ledger, ask, "reject", by="eve")

    assert (decision.outcome, decision.approved_by) == ("reject", ("ada",))


@pytest.mark.parametrize("person", ["bob", "Carla", "dan"])
def test_who_has_a_hand_in_the_candidate_may_reject_and_never_approve(ledger: Ledger, person: str) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by="Bob", excluded={"carla": "asked for it, too"}, at=NOON, expires_at=None)
    posting = ledger.post(shown(ask, author="DAN"), at=NOON)

    with pytest.raises(ApprovalRefusedError, match=f"{person} .* somebody else has to approve"):
        ledger.vote(answer(ask, by=person, posting=posting.number))
    decision = decided(ledger, ask, "reject", by=person)

    assert decision.decided_by == person
    assert actions(ledger) == ["ask", "post", "vote refused", "vote", "decide"]


def test_who_is_excluded_is_kept_with_why(ledger: Ledger) -> None:
    ask = question(registered(1))
    excluded = {"carla": "asked for it, too", "dan": "committed the pipeline file last"}
    ledger.ask(ask, requested_by="bob", excluded=excluded, at=NOON, expires_at=None)

    asked = ledger.asked(ask.ask_id)

    assert asked is not None
    assert asked.excluded == excluded
    with pytest.raises(ApprovalRefusedError, match="carla asked for it, too, so somebody else has to approve it"):
        ledger.vote(answer(ask, by="carla"))


def test_a_list_of_committers_that_an_earlier_version_wrote_still_excludes_them(tmp_path: Path) -> None:
    ledger, ask = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}"), question(registered(1))
    ledger.ask(ask, requested_by="bob", excluded={"carla": "committed"}, at=NOON, expires_at=None)
    with sqlite3.connect(tmp_path / "ledger.db") as written:
        for (trigger,) in written.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            written.execute(f'DROP TRIGGER "{trigger}"')
        written.execute("UPDATE asks SET excluded = '[\"carla\"]'")
    written.close()

    asked = ledger.asked(ask.ask_id)

    assert asked is not None
    assert asked.excluded == {"carla": "committed the pipeline file last"}


def test_the_same_answer_again_changes_nothing_and_is_not_sent_on_again(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    posting = ledger.post(shown(ask), at=NOON)
    sent: list[int] = []

    first = ledger.vote(answer(ask, posting=posting.number), forward=lambda: sent.append(1))
    again = ledger.vote(answer(ask, posting=posting.number, at=NOON + HOUR), forward=lambda: sent.append(2))

    assert first == again
    assert sent == [1]
    assert actions(ledger) == ["ask", "post", "vote", "decide"]


def test_an_answer_that_cannot_be_sent_on_leaves_nothing_behind(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    def fail() -> None:
        raise ServiceUnavailableError("Airflow said 500")

    with pytest.raises(ServiceUnavailableError, match="Airflow said 500"):
        ledger.vote(answer(ask), forward=fail)

    assert ledger.votes(ask.ask_id) == ()
    assert ledger.decision(ask.ask_id) is None
    assert actions(ledger) == ["ask"]
    assert decided(ledger, ask).outcome == "approve"


def test_an_answer_that_is_refused_is_not_sent_on(ledger: Ledger) -> None:
    ask = question(registered(1), approvers=("ada",))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    sent: list[int] = []

    with pytest.raises(ApprovalRefusedError, match="eve may not answer"):
        ledger.vote(answer(ask, by="eve"), forward=lambda: sent.append(1))

    assert sent == []
    (refused,) = [row for row in ledger.audit("flights") if row["action"] == "vote refused"]
    assert refused["actor"] == "eve"
    assert "eve may not answer this question, only ada" in refused["detail"]


def test_an_answer_that_was_not_taken_elsewhere_is_in_the_audit(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    ledger.refuse(ask.ask_id, person="eve", why="it came past the guard", at=NOON)

    row = ledger.audit("flights")[-1]
    assert (row["actor"], row["action"], row["detail"]) == ("eve", "vote refused", "it came past the guard")


def test_policy_decides_a_question_that_passed_and_no_other(ledger: Ledger) -> None:
    passed = question(registered(1))
    unclear = passed.model_copy(update={"gate_verdict": Verdict.INCONCLUSIVE})
    for ask in (passed, unclear):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    votes = [
        Vote(ask_id=ask.ask_id, outcome="approve", person="policy", channel="policy", at=NOON)
        for ask in (passed, unclear)
    ]

    decision = ledger.vote(votes[0])
    with pytest.raises(ApprovalRefusedError, match="only what passed"):
        ledger.vote(votes[1])

    assert decision is not None
    assert decision.decided_by == "policy"


# --- Postings --------------------------------------------------------------------------------------------------------


def test_the_same_try_that_shows_a_question_again_keeps_its_number(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    first = ledger.post(shown(ask), at=NOON)
    again = ledger.post(shown(ask), at=NOON + HOUR)
    next_try = ledger.post(shown(ask, "second try"), at=NOON + HOUR)

    assert first == again
    assert (first.number, next_try.number) == (1, 2)
    assert ledger.postings(ask.ask_id) == (first, next_try)
    assert ledger.posting_at("test", "flights_release", "release/1", "approve", -1) == next_try
    assert actions(ledger) == ["ask", "post", "post"]


def test_a_try_that_airflow_has_given_up_shows_nothing_behind_the_next_ones_back(ledger: Ledger) -> None:
    earlier, later = "01a1fec7-4ad2-7f7f-b47d-879cb5f57797", "01a1fec7-dafe-7f55-8a71-fa21785aa864"
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    posting = ledger.post(shown(ask, later), at=NOON)

    with pytest.raises(LedgerError, match="a later try of this task has shown its question"):
        ledger.post(shown(ask, earlier), at=NOON + HOUR)

    assert ledger.posting_at("test", "flights_release", "release/1", "approve", -1) == posting
    assert ledger.vote(answer(ask, posting=posting.number)) is not None


def test_each_showing_takes_one_answer(ledger: Ledger) -> None:
    ask = question(registered(1), count=2)
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    first = ledger.post(shown(ask), at=NOON)
    ledger.vote(answer(ask, by="ada", posting=first.number))

    with pytest.raises(ApprovalRefusedError, match="has been answered"):
        ledger.vote(answer(ask, by="eve", posting=first.number))
    second = ledger.post(shown(ask), at=NOON)
    decision = ledger.vote(answer(ask, by="eve", posting=second.number))

    assert second.number == 2
    assert decision is not None


def test_an_answer_to_an_older_showing_of_a_task_does_not_count(ledger: Ledger) -> None:
    old, new = question(registered(1)), question(registered(2))
    for ask in (old, new):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    stale = ledger.post(shown(old), at=NOON)
    ledger.post(shown(new, "second try"), at=NOON)

    with pytest.raises(ApprovalRefusedError, match="shown a question anew"):
        ledger.vote(answer(old, posting=stale.number))

    assert ledger.decision(old.ask_id) is None


def test_two_runs_that_show_one_question_can_both_be_answered(ledger: Ledger) -> None:
    ask = question(registered(1), count=2)
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    one, two = (ledger.post(shown(ask, run=run), at=NOON) for run in ("release/1", "release/2"))

    votes = [
        ledger.vote(answer(ask, by="ada", posting=one.number)),
        ledger.vote(answer(ask, by="eve", posting=two.number)),
    ]

    assert (one.number, two.number) == (1, 2)
    assert votes[0] is None
    assert votes[1] is not None


@pytest.mark.parametrize("number", [0, 2])
def test_an_answer_to_a_showing_that_never_was_does_not_count(ledger: Ledger, number: int) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    ledger.post(shown(ask), at=NOON)

    with pytest.raises(ApprovalRefusedError, match=f"never shown as posting {number}"):
        ledger.vote(answer(ask, posting=number))


def test_an_answer_from_airflow_has_to_say_which_showing_it_answers(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    with pytest.raises(ApprovalRefusedError, match="not said which showing"):
        ledger.vote(answer(ask).model_copy(update={"channel": "airflow"}))


def test_a_task_that_shows_none_of_our_questions_has_no_posting(ledger: Ledger) -> None:
    assert ledger.posting_at("test", "other", "run", "task", -1) is None


def test_environments_that_share_a_ledger_show_their_questions_without_each_other(ledger: Ledger) -> None:
    here, there = (question(registered(1), environment=name) for name in ("prod", "staging"))
    for ask in (here, there):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    ours, theirs = (ledger.post(shown(ask, ti_id=ask.environment), at=NOON) for ask in (here, there))

    again = ledger.post(shown(here, ti_id="prod"), at=NOON + HOUR)
    decision = ledger.vote(answer(here, posting=ours.number))

    assert ledger.posting_at("prod", "flights_release", "release/1", "approve", -1) == ours == again
    assert ledger.posting_at("staging", "flights_release", "release/1", "approve", -1) == theirs
    assert ledger.posting_at("dev", "flights_release", "release/1", "approve", -1) is None
    assert decision is not None
    assert ledger.vote(answer(there, posting=theirs.number)) is not None


def test_a_posting_names_the_model_of_its_question(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    with pytest.raises(LedgerError, match="the posting is of trains in test"):
        ledger.post(shown(ask).model_copy(update={"model": "trains"}), at=NOON)


# --- Blocks ----------------------------------------------------------------------------------------------------------


def test_a_blocked_question_takes_no_answer_and_is_not_open(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    for why in ("Airflow says Reject", "said again"):
        ledger.block(ask.ask_id, why=why, at=NOON)
    with pytest.raises(ApprovalRefusedError, match="blocked: Airflow says Reject"):
        ledger.vote(answer(ask))

    asked = ledger.asked(ask.ask_id)
    assert asked is not None
    assert asked.blocked == "Airflow says Reject"
    assert ledger.open_asks("flights", "test") == ()
    assert actions(ledger) == ["ask", "block", "vote refused"]


def test_a_rollback_passes_over_what_a_blocked_decision_released(ledger: Ledger) -> None:
    first, second, third = (released(ledger, number) for number in (1, 2, 3))
    assert ledger.previous("flights", "test") == second
    ledger.block(second.decision_id or "", why="Airflow says Reject", at=NOON)

    brought_back = ledger.previous("flights", "test")
    with pytest.raises(LedgerError, match="brings back version 1, not 2"):
        ledger.rollback("flights", "test", key="a", moved_by="olga", reason="late", at=NOON, version=2)
    move = back(ledger, "b")

    assert brought_back == first
    assert (third.epoch, move.epoch, move.digest) == (3, 4, first.digest)
    assert ledger.previous("flights", "test") is None


def test_a_decision_whose_question_was_blocked_gives_no_move_even_where_it_gave_one(ledger: Ledger) -> None:
    version = registered(1)
    decision = approved(ledger, version)
    ledger.release(version, decision, moved_by="ada", at=NOON)
    ledger.block(decision.ask.ask_id, why="Airflow says Reject", at=NOON)

    with pytest.raises(NoDecisionError, match="blocked: Airflow says Reject"):
        ledger.release(version, decision, moved_by="ada", at=NOON)

    assert len(ledger.moves("flights", "test")) == 1
    assert actions(ledger)[-2:] == ["block", "release refused"]


def test_a_newer_candidate_closes_older_questions(ledger: Ledger) -> None:
    older, newer = question(registered(1)), question(registered(2))
    for ask in (older, newer):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    closed = ledger.supersede("flights", "test", newest=newer, at=NOON)

    assert closed == (older.ask_id,)
    assert ledger.open_asks("flights", "test") == (newer,)
    assert ledger.supersede("flights", "test", newest=newer, at=NOON) == ()
    with pytest.raises(ApprovalRefusedError, match="superseded"):
        ledger.vote(answer(older))


def test_the_newest_decision_about_a_digest_is_found_whichever_question_it_answered(ledger: Ledger) -> None:
    version = registered(1)
    first, second = question(version), question(version, renewal=1)
    for ask, outcome in ((first, "reject"), (second, "approve")):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
        decided(ledger, ask, outcome)

    found = ledger.decision_for("flights", "test", version.digest)

    assert found is not None
    assert (found.ask, found.outcome) == (second, "approve")
    assert ledger.decision_for("flights", "prod", version.digest) is None


# --- Moves -----------------------------------------------------------------------------------------------------------


def test_before_the_first_release_there_is_no_head(ledger: Ledger) -> None:
    assert ledger.head("flights", "test") is None
    assert ledger.moves("flights", "test") == ()


def test_a_release_names_its_decision_and_follows_the_head(ledger: Ledger) -> None:
    first, second = released(ledger, 1), released(ledger, 2)

    assert (first.epoch, first.version, first.kind) == (1, 1, "release")
    assert (second.epoch, second.version, second.digest) == (2, 2, registered(2).digest)
    assert second.decision_id == question(registered(2), epoch=1).ask_id
    assert ledger.head("flights", "test") == second
    assert ledger.moves("flights", "test") == (first, second)


def test_an_approval_of_data_moves_no_model(ledger: Ledger) -> None:
    version = registered(1)
    ask = question(version).model_copy(update={"kind": "dataset"})
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    with pytest.raises(NoDecisionError, match="the approval is about a dataset"):
        ledger.release(version, decided(ledger, ask), moved_by="ada", at=NOON)

    assert ledger.head("flights", "test") is None


def test_a_rollback_brings_back_where_and_how_the_earlier_champion_served(ledger: Ledger) -> None:
    for number, target in ((1, {"backend": "local", "steps": [10, 100]}), (2, {"backend": "alias"})):
        version = registered(number)
        ledger.release(version, approved(ledger, version), moved_by="ada", at=NOON, target=target)

    move = back(ledger, "a")

    assert move.target == {"backend": "local", "steps": [10, 100]}
    assert ledger.head("flights", "test") == move


def test_the_same_decision_makes_one_move_even_after_it_expired(ledger: Ledger) -> None:
    version = registered(1)
    decision = approved(ledger, version)
    first = ledger.release(version, decision, moved_by="ada", at=NOON)

    again = ledger.release(version, decision, moved_by="eve", at=NOON + 1000 * HOUR)

    assert again == first
    assert actions(ledger) == ["ask", "vote", "decide", "release"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"digest": digest_of("swapped")}, "about the digest"),
        ({"metrics_digest": digest_of("edited")}, "about the metrics digest"),
        ({"policy_digest": digest_of("loosened")}, "about the policy digest"),
        ({"dataset_fingerprint": digest_of("other")}, "about the data fingerprint"),
        ({"version": 2}, "about flights version 1, not flights version 2"),
    ],
)
def test_an_approval_of_something_else_gives_no_move(ledger: Ledger, change: dict[str, object], why: str) -> None:
    decision = approved(ledger, registered(1))

    with pytest.raises(NoDecisionError, match=why):
        ledger.release(registered(1).model_copy(update=change), decision, moved_by="ada", at=NOON)

    assert ledger.head("flights", "test") is None
    assert actions(ledger) == ["ask", "vote", "decide", "release refused"]


def test_a_used_approval_gives_no_second_move_to_another_digest(ledger: Ledger) -> None:
    decision = approved(ledger, registered(1))
    ledger.release(registered(1), decision, moved_by="ada", at=NOON)

    with pytest.raises(NoDecisionError):
        ledger.release(registered(1).model_copy(update={"digest": digest_of("x")}), decision, moved_by="ada", at=NOON)

    assert len(ledger.moves("flights", "test")) == 1


def test_a_rejection_gives_no_move_whatever_the_caller_carries(ledger: Ledger) -> None:
    version = registered(1)
    ask = question(version)
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    decided(ledger, ask, "reject")

    with pytest.raises(NoDecisionError, match="ada rejected it"):
        ledger.release(version, carried(ask, "approve"), moved_by="ada", at=NOON)


def test_a_forged_decision_gives_no_move_and_leaves_a_trace(ledger: Ledger) -> None:
    forged = carried(question(registered(1)))

    with pytest.raises(NoDecisionError, match="no decision about"):
        ledger.release(registered(1), forged, moved_by="mallory", at=NOON)

    (row,) = ledger.audit("flights")
    assert (row["actor"], row["action"]) == ("mallory", "release refused")
    assert "no decision about flights version 1" in row["detail"]


def test_an_approval_is_good_until_its_last_moment(ledger: Ledger) -> None:
    version = registered(1)
    decision = approved(ledger, version)

    with pytest.raises(NoDecisionError, match="expired"):
        ledger.release(version, decision, moved_by="ada", at=NOON + 72 * HOUR + timedelta(microseconds=1))
    move = ledger.release(version, decision, moved_by="ada", at=NOON + 72 * HOUR)

    assert move.epoch == 1


def test_an_approval_of_an_older_epoch_is_stale(ledger: Ledger) -> None:
    waiting = approved(ledger, registered(1))
    released(ledger, 2)

    with pytest.raises(StaleEpochError, match="names epoch 0, but 1 is in force"):
        ledger.release(registered(1), waiting, moved_by="ada", at=NOON)

    head = ledger.head("flights", "test")
    assert head is not None
    assert head.version == 2


def test_an_approval_for_one_environment_moves_nothing_in_another(ledger: Ledger) -> None:
    version = registered(1)
    elsewhere = question(version, environment="sandbox")
    ledger.ask(elsewhere, requested_by=None, at=NOON, expires_at=None)
    decision = decided(ledger, elsewhere)

    ledger.release(version, decision, moved_by="ada", at=NOON)
    with pytest.raises(NoDecisionError):
        ledger.release(version, carried(question(version)), moved_by="ada", at=NOON)

    assert ledger.head("flights", "test") is None


# --- Rollbacks -------------------------------------------------------------------------------------------------------


def test_rollbacks_in_a_row_walk_back_and_never_forth(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        released(ledger, number)

    walked = [back(ledger, "a").version, back(ledger, "b").version]
    with pytest.raises(LedgerError, match="no earlier champion"):
        back(ledger, "c")

    assert walked == [2, 1]
    assert [move.epoch for move in ledger.moves("flights", "test")] == [1, 2, 3, 4, 5]


def test_the_same_rollback_is_made_once(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        released(ledger, number)

    first, again = back(ledger, "run 7"), back(ledger, "run 7", at=NOON + 5 * HOUR)

    assert first == again == ledger.rolled_back("flights", "test", "run 7")
    assert first.reason == "late flights"
    assert len(ledger.moves("flights", "test")) == 4


def test_after_a_rollback_and_a_release_a_rollback_returns_to_what_served_between(ledger: Ledger) -> None:
    for number in (1, 2):
        released(ledger, number)
    back(ledger, "a")
    released(ledger, 3, at=NOON + 2 * HOUR)

    move = back(ledger, "b", at=NOON + 3 * HOUR)

    assert move.version == 1


@pytest.mark.parametrize("releases", [0, 1])
def test_without_an_earlier_champion_there_is_nothing_to_roll_back_to(ledger: Ledger, releases: int) -> None:
    for number in range(1, releases + 1):
        released(ledger, number)

    with pytest.raises(LedgerError, match="no earlier champion"):
        back(ledger, "a")

    assert actions(ledger)[-1] == "rollback refused"


def test_a_rollback_of_an_epoch_that_is_no_longer_in_force_is_refused(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        released(ledger, number)

    def roll_back(key: str, epoch: int) -> Move:
        return ledger.rollback("flights", "test", key=key, moved_by="olga", reason="", at=NOON, epoch=epoch)

    with pytest.raises(RollbackOutdatedError, match="asked for at epoch 2, and version 3 at epoch 3 is in force"):
        roll_back("a", 2)
    move = roll_back("b", 3)

    assert (move.epoch, move.version) == (4, 2)
    assert roll_back("b", 3) == move
    with pytest.raises(RollbackOutdatedError, match="and version 2 at epoch 4 is in force"):
        roll_back("c", 3)
    assert actions(ledger)[-1] == "rollback refused"


def test_a_rollback_to_a_named_version_is_refused_where_another_one_comes_back(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        released(ledger, number)

    with pytest.raises(LedgerError, match="brings back version 2, not 1"):
        ledger.rollback("flights", "test", key="a", moved_by="olga", reason="", at=NOON, version=1)

    assert len(ledger.moves("flights", "test")) == 3


def test_a_digest_that_was_rolled_back_needs_a_new_approval(ledger: Ledger) -> None:
    released(ledger, 1)
    used = approved(ledger, registered(2))
    asked_before = question(registered(2), epoch=1, renewal=1)
    ledger.ask(asked_before, requested_by="bob", at=NOON, expires_at=None)
    ledger.release(registered(2), used, moved_by="ada", at=NOON)
    back(ledger, "a")

    repeated = ledger.release(registered(2), used, moved_by="ada", at=NOON + 2 * HOUR)
    late = decided(ledger, asked_before, at=NOON + 2 * HOUR)
    with pytest.raises(NoDecisionError, match="was rolled back at epoch 3"):
        ledger.release(registered(2), late, moved_by="ada", at=NOON + 2 * HOUR)

    assert repeated.epoch == 2
    assert len(ledger.moves("flights", "test")) == 3


def test_a_digest_that_was_rolled_back_returns_under_a_new_approval(ledger: Ledger) -> None:
    for number in (1, 2):
        released(ledger, number)
    back(ledger, "a")

    move = released(ledger, 2, at=NOON + 2 * HOUR)

    assert (move.epoch, move.version) == (4, 2)


# --- Deployments -----------------------------------------------------------------------------------------------------


def test_the_steps_of_a_deployment_are_noted_once_and_in_order(ledger: Ledger) -> None:
    move = released(ledger, 1)

    for state in ("intent", "intent", "observed", "done", "intent"):
        ledger.record_deployment(move, state, detail={"traffic": {"1": 100}}, at=NOON)

    assert ledger.deployment_states(move) == ("intent", "observed", "done")


def test_a_move_that_the_ledger_did_not_make_cannot_be_carried_out(ledger: Ledger) -> None:
    move = released(ledger, 1)

    with pytest.raises(LedgerError, match="no such move"):
        ledger.record_deployment(move.model_copy(update={"version": 9}), "intent", at=NOON)
    with pytest.raises(LedgerError, match="no state 'finished'"):
        ledger.record_deployment(move, "finished", at=NOON)


# --- Races -----------------------------------------------------------------------------------------------------------


def test_of_those_who_race_for_the_next_epoch_exactly_one_wins(url: str) -> None:
    found = race_for_epochs(url, races=100)

    assert (found.races, found.wins, found.double_wins, found.gaps) == (100, 100, 0, 0)


def test_of_contradictory_answers_at_once_exactly_one_is_taken_and_sent_on(url: str) -> None:
    found = race_for_decisions(url, races=100)

    assert (found.races, found.wins, found.double_wins, found.gaps) == (100, 100, 0, 0)
    assert found.sent_on == 100


def _approved_at(ledger: Ledger, version: ModelVersion, epoch: int) -> Decision:
    ask = question(version, epoch=epoch)
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    return decided(ledger, ask)


def test_processes_that_race_leave_no_gap_and_one_winner_each(url: str) -> None:
    rounds, racers = 5, 4

    with ProcessPoolExecutor(racers, mp_context=get_context("spawn")) as pool:
        wins = [sum(pool.map(_race_once, [(url, epoch, racer) for racer in range(racers)])) for epoch in range(rounds)]

    ledger = SqlLedger(url)
    assert wins == [1] * rounds
    assert [move.epoch for move in ledger.moves("flights", "test")] == [1, 2, 3, 4, 5]
    assert ledger.verify_audit("flights") > 0


def _race_once(start: tuple[str, int, int]) -> int:
    url, epoch, racer = start
    ledger = SqlLedger(url)
    version = registered(10 * epoch + racer + 1)
    try:
        ledger.release(version, _approved_at(ledger, version, epoch), moved_by=str(racer), at=NOON)
    except StaleEpochError:
        return 0
    return 1


# --- The audit -------------------------------------------------------------------------------------------------------


def test_the_audit_says_who_did_what_when_and_why(ledger: Ledger) -> None:
    for number in (1, 2):
        released(ledger, number)
    back(ledger, "a")

    last = ledger.audit("flights")[-1]

    assert (last["actor"], last["action"], last["at"]) == ("olga", "rollback", NOON + HOUR)
    assert last["detail"] == "late flights"
    assert "version 1" in last["subject"]
    assert ledger.verify_audit("flights") == 9


def test_the_models_of_an_environment_are_those_of_its_audit(ledger: Ledger) -> None:
    for environment, model in (("test", "trains"), ("test", "flights"), ("sandbox", "boats")):
        ledger.record_result(environment, "r", "resolve", RunRequest(model=model), model=model, at=NOON)

    assert ledger.models("test") == ("flights", "trains")
    assert ledger.models("prod") == ()


def test_what_was_refused_elsewhere_is_in_the_audit_under_its_name(ledger: Ledger) -> None:
    ledger.record_refusal("flights", "test", action="deploy", by="mallory", why="the bytes differ", at=NOON)

    (row,) = ledger.audit("flights")
    assert (row["actor"], row["action"], row["detail"]) == ("mallory", "deploy refused", "the bytes differ")
    assert ledger.verify_audit("flights") == 1


def test_each_model_has_a_chain_of_its_own(ledger: Ledger) -> None:
    for model in ("flights", "trains"):
        ledger.record_result("test", "r", "resolve", RunRequest(model=model), model=model, at=NOON)

    rows = ledger.audit()

    assert [(row["model"], row["seq"]) for row in rows] == [("flights", 1), ("trains", 1)]
    assert ledger.verify_audit("flights") == ledger.verify_audit("trains") == 1
    assert ledger.verify_audit("planes") == 0


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 4", "row 4 .* it was changed"),
        ("DELETE FROM audit WHERE seq = 2", "row 2 .* it was removed"),
        ("DELETE FROM audit WHERE seq = 8", "row 8 .* changed or put in"),
        ("UPDATE audit SET seq = seq + 100 WHERE seq = 4", "row 4 .* removed"),
        (
            (
                "INSERT INTO audit SELECT model, 9, environment, at, actor, action, subject, detail, record, digest, "
                "'x' FROM audit WHERE seq = 8"
            ),
            "row 9 .* it was changed",
        ),
        ("UPDATE moves SET version = 9 WHERE epoch = 2", "row 8 .* moves was changed"),
        ("UPDATE moves SET target = '{}' WHERE epoch = 1", "row 4 .* moves was changed"),
        ("UPDATE decisions SET outcome = 'reject'", "row 3 .* decisions was changed"),
        ("UPDATE decisions SET approved_by = NULL", "row 3 .* decisions was changed"),
        ("UPDATE votes SET person = 'eve'", "row 2 .* votes was changed"),
        ("UPDATE asks SET requested_by = NULL", "row 1 .* asks was changed"),
        ("UPDATE asks SET excluded = '[\"ada\"]'", "row 1 .* asks was changed"),
        ("DELETE FROM moves WHERE epoch = 1", "row 4 .* was removed"),
        ("DELETE FROM votes", "row 2 .* was removed"),
        (
            (
                "INSERT INTO moves SELECT model, environment, 3, 'rollback', version, digest, uri, NULL, 'k', "
                "moved_by, reason, at, 1, target FROM moves WHERE epoch = 1"
            ),
            "row 1 .* moves was changed or put in",
        ),
    ],
)
def test_an_audit_that_was_tampered_with_is_found_out(tmp_path: Path, tampering: str, found: str) -> None:
    file = tmp_path / "ledger.db"
    ledger = SqlLedger(f"sqlite:///{file}")
    for number in (1, 2):
        released(ledger, number)

    tamper(file, tampering)

    with pytest.raises(LedgerError, match=found):
        ledger.verify_audit("flights")


def tamper(file: Path, statement: str) -> None:
    """What somebody may do who owns the file: the triggers go first."""
    with sqlite3.connect(file) as owned:
        for (name,) in owned.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            owned.execute(f"DROP TRIGGER {name}")
        owned.execute(statement)
    owned.close()


# --- Insert-only -----------------------------------------------------------------------------------------------------


def filled(url: str) -> Ledger:
    """A ledger with at least one row in every table."""
    ledger = SqlLedger(url)
    ledger.record_result("test", "r", "resolve", RunRequest(model="flights"), model="flights", at=NOON)
    ledger.record_deployment(released(ledger, 1), "intent", at=NOON)
    older, newer = question(registered(2), epoch=1), question(registered(3), epoch=1)
    for ask in (older, newer):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    ledger.supersede("flights", "test", newest=newer, at=NOON)
    ledger.post(shown(newer), at=NOON)
    ledger.block(newer.ask_id, why="contradicted", at=NOON)
    return ledger


@pytest.mark.parametrize("table", ["audit", *AUDITED])
def test_the_database_itself_refuses_to_change_or_remove_a_row(url: str, table: str) -> None:
    ledger = filled(url)
    engine = create_engine(url, poolclass=NullPool)

    for statement in (f"UPDATE {table} SET model = 'trains'", f"DELETE FROM {table}"):  # noqa: S608  # our own names
        with pytest.raises(DBAPIError, match="insert-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)

    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT 1 FROM {table}").first() is not None  # noqa: S608  # as above
    assert ledger.verify_audit("flights") > 0


@pytest.mark.parametrize("table", ["audit", *AUDITED])
def test_a_sqlite_row_cannot_be_replaced_by_inserting_it_again(tmp_path: Path, table: str) -> None:
    file = tmp_path / "ledger.db"
    filled(f"sqlite:///{file}")

    with sqlite3.connect(file) as owned, pytest.raises(sqlite3.IntegrityError, match="has this row already"):
        owned.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")  # noqa: S608  # our own names
    owned.close()


# --- The database ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///ledger.db", "'ledger.db' is not an absolute path"),
        ("sqlite://", "':memory:' is not an absolute path"),
        ("sqlite:///:memory:", "':memory:' is not an absolute path"),
        ("mysql://root:secret@db/ledger", "cannot be kept in 'mysql'"),
        ("nonsense", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_url_that_is_no_ledger_is_refused_at_once(url: str, why: str) -> None:
    with pytest.raises(LedgerError, match=why) as refused:
        SqlLedger(url)

    assert "secret" not in str(refused.value)


def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'a' / 'b' / 'ledger.db'}")

    ledger.head("flights", "test")

    assert (tmp_path / "a" / "b" / "ledger.db").is_file()


def test_a_ledger_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    SqlLedger(f"sqlite:///{file}").head("flights", "test")
    with sqlite3.connect(file) as newer:
        newer.execute("INSERT INTO schema_version VALUES (7)")
    newer.close()

    with pytest.raises(LedgerError, match="has schema version 7, this package knows 2"):
        SqlLedger(f"sqlite:///{file}").head("flights", "test")


def test_the_migrations_make_what_the_package_reads(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    SqlLedger(url).head("flights", "test")

    with create_engine(url, poolclass=NullPool).connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    assert differences == []


def test_a_ledger_of_the_first_schema_is_upgraded_and_still_verifies(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with sqlite3.connect(file) as old:
        old.executescript((HERE / "ledger_of_schema_1.sql").read_text())
    old.close()

    ledger = SqlLedger(f"sqlite:///{file}")
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: SqlLedger(f"sqlite:///{file}").verify_audit("flights"), range(8)))

    assert rows == [15] * 8
    assert [(move.epoch, move.kind, move.version, move.target) for move in ledger.moves("flights", "test")] == [
        (1, "release", 1, {}),
        (2, "release", 2, {}),
        (3, "rollback", 1, {}),
    ]
    (waiting,) = ledger.open_asks("flights", "test")
    asked = ledger.asked(waiting.ask_id)
    assert asked is not None
    assert (asked.requested_by, asked.excluded, asked.blocked) == ("bob", {}, "")
    assert waiting == question(registered(4), epoch=3)
    assert decided(ledger, waiting).outcome == "approve"
    assert released(ledger, 5).epoch == 4
    assert ledger.verify_audit("flights") > 15


def test_a_current_ledger_is_used_without_the_tool_that_upgrades(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    SqlLedger(url).head("flights", "test")
    use = (
        "import sys; from ml_lifecycle.backends.ledger.sql import SqlLedger; "
        f"SqlLedger({url!r}).head('flights', 'test'); sys.exit('alembic' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", use], timeout=60, check=False, env={"PYTHONPATH": str(PROVIDER)})

    assert done.returncode == 0


def test_an_upgrade_that_breaks_off_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ledger.db"
    with sqlite3.connect(file) as old:
        old.executescript((HERE / "ledger_of_schema_1.sql").read_text())
        before = list(old.iterdump())

    with monkeypatch.context() as broken:
        broken.setattr(
            insert_only, "_on_sqlite", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk full"))
        )
        with pytest.raises(ServiceUnavailableError, match="disk full"):
            SqlLedger(f"sqlite:///{file}").head("flights", "test")

    assert list(old.iterdump()) == before
    old.close()
    assert SqlLedger(f"sqlite:///{file}").verify_audit("flights") == 15


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.write_text("this is no database, and it is long enough to be read as one" * 20)

    with pytest.raises(LedgerError, match="file is not a database"):
        SqlLedger(f"sqlite:///{file}").head("flights", "test")


def test_a_database_that_another_writer_holds_is_said_to_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_lifecycle.backends.ledger.database.WAIT_S", 0.1)
    file = tmp_path / "ledger.db"
    ledger = SqlLedger(f"sqlite:///{file}")
    ledger.head("flights", "test")
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(ServiceUnavailableError, match="locked"):
        ledger.record_result("test", "r", "resolve", RunRequest(model="flights"), model="flights", at=NOON)
    holder.close()

    assert ledger.audit("flights") == ()


def test_many_processes_may_be_the_first_to_use_it(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(lambda _: SqlLedger(url).head("flights", "test"), range(16)))

    assert heads == [None] * 16


def test_a_message_names_the_database_and_neither_user_nor_password_nor_options() -> None:
    ledger = SqlLedger("postgresql+nodriver://anna:secret@db.example.com:5433/gov?sslmode=require")

    with pytest.raises(LedgerError) as refused:
        ledger.head("flights", "test")

    assert "postgresql+nodriver://db.example.com:5433/gov" in str(refused.value)
    assert not any(word in str(refused.value) for word in ("anna", "secret", "sslmode"))


@pytest.mark.parametrize("installed", ["psycopg", "psycopg2"])
def test_a_connection_without_a_driver_uses_the_one_that_is_installed(
    installed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "find_spec", lambda name: name == installed or None)

    ledger = database.Database("postgresql://anna@db.example.com/gov")

    assert ledger.where == f"postgresql+{installed}://db.example.com/gov"


# --- Any sequence ----------------------------------------------------------------------------------------------------


class AnySequence(RuleBasedStateMachine):
    """Random asks, showings, answers, blocks, releases and rollbacks; nothing that may never happen holds after any."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.ledger: Ledger = SqlLedger(f"sqlite:///{self.folder.name}/ledger.db")
        self.asks: list[Ask] = []
        self.clock = NOON
        self.keys = 0

    def tick(self) -> datetime:
        self.clock += HOUR
        return self.clock

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(
        number=st.integers(1, 4),
        renewal=st.integers(0, 1),
        patience=st.sampled_from([1, 5, 100]),
        count=st.integers(1, 2),
    )
    def ask(self, number: int, renewal: int, patience: int, count: int) -> None:
        at, head = self.tick(), self.ledger.head("flights", "test")
        ask = question(registered(number), epoch=head.epoch if head else 0, renewal=renewal, count=count)
        self.ledger.ask(ask, requested_by="bob", at=at, expires_at=at + patience * HOUR)
        self.asks.append(ask)

    @precondition(lambda self: bool(self.asks))
    @rule(data=st.data(), run=st.sampled_from(["a", "b"]), again=st.booleans())
    def post(self, data: st.DataObject, run: str, again: bool) -> None:  # noqa: FBT001  # hypothesis calls it
        ask = data.draw(st.sampled_from(self.asks))
        self.keys += not again
        before = self.ledger.postings(ask.ask_id)
        posting = self.ledger.post(shown(ask, ti_id=str(self.keys), run=run), at=self.tick())
        assert posting in before or posting.number == len(before) + 1
        assert self.ledger.posting_at("test", "flights_release", run, "approve", -1) == posting

    @precondition(lambda self: bool(self.asks))
    @rule(
        data=st.data(),
        person=st.sampled_from(["ada", "eve", "Bob"]),
        outcome=st.sampled_from(["approve", "approve", "approve", "reject"]),
        by_form=st.booleans(),
    )
    def vote(self, data: st.DataObject, person: str, outcome: str, by_form: bool) -> None:  # noqa: FBT001  # as above
        ask = data.draw(st.sampled_from(self.asks))
        postings = self.ledger.postings(ask.ask_id)
        posting = data.draw(st.sampled_from(postings)).number if by_form and postings else None
        before, given = self.ledger.decision(ask.ask_id), self.ledger.votes(ask.ask_id)
        try:
            after = self.ledger.vote(answer(ask, outcome, person, at=self.tick(), posting=posting))
        except ApprovalRefusedError:
            assert self.ledger.votes(ask.ask_id) == given
            assert self.ledger.decision(ask.ask_id) == before
        else:
            assert after == self.ledger.decision(ask.ask_id)
            assert before in (None, after)

    @precondition(lambda self: bool(self.asks))
    @rule(data=st.data(), sure=st.sampled_from([False, False, True]))
    def block(self, data: st.DataObject, sure: bool) -> None:  # noqa: FBT001  # as above
        if sure:
            ask = data.draw(st.sampled_from(self.asks))
            self.ledger.block(ask.ask_id, why="contradicted", at=self.tick())
            assert ask not in self.ledger.open_asks("flights", "test")

    @precondition(lambda self: bool(self.asks))
    @rule(data=st.data())
    def supersede(self, data: st.DataObject) -> None:
        newest = data.draw(st.sampled_from(self.asks))
        self.ledger.supersede("flights", "test", newest=newest, at=self.tick())
        assert set(self.ledger.open_asks("flights", "test")) <= {newest}

    @precondition(lambda self: bool(self.asks))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        ask, at = data.draw(st.sampled_from(self.asks)), self.tick()
        before = self.ledger.moves("flights", "test")
        try:
            move = self.ledger.release(registered(ask.version), carried(ask), moved_by="ada", at=at)
        except LedgerError:
            assert self.ledger.moves("flights", "test") == before
            return
        if move in before:
            assert self.ledger.moves("flights", "test") == before
            return
        decision = self.ledger.decision(ask.ask_id)
        assert decision is not None
        assert decision.outcome == "approve"
        assert decision.expires_at is not None
        assert decision.expires_at >= at
        asked = self.ledger.asked(ask.ask_id)
        assert asked is not None
        assert asked.blocked == ""
        assert move.epoch == ask.epoch + 1 == len(before) + 1

    @rule(again=st.booleans())
    def rollback(self, again: bool) -> None:  # noqa: FBT001  # hypothesis calls it
        self.keys += 0 if again and self.keys else 1
        before = self.ledger.moves("flights", "test")
        try:
            move = back(self.ledger, str(self.keys), at=self.tick())
        except LedgerError:
            assert self.ledger.moves("flights", "test") == before
            return
        if move in before:
            return
        assert move.digest != before[-1].digest
        assert move.digest in {earlier.digest for earlier in before}

    @invariant()
    def epochs_have_no_gap(self) -> None:
        moves = self.ledger.moves("flights", "test")
        assert [move.epoch for move in moves] == list(range(1, len(moves) + 1))
        assert self.ledger.head("flights", "test") == (moves[-1] if moves else None)

    @invariant()
    def a_decision_is_what_its_answers_come_to(self) -> None:
        for ask in self.asks:
            votes, decision = self.ledger.votes(ask.ask_id), self.ledger.decision(ask.ask_id)
            approvers = {vote.person for vote in votes if vote.outcome == "approve"}
            rejected = any(vote.outcome == "reject" for vote in votes)
            assert "Bob" not in approvers
            assert len({vote.person for vote in votes}) == len(votes)
            answered = [vote.posting for vote in votes if vote.posting is not None]
            assert len(set(answered)) == len(answered)
            enough = rejected or len(approvers) >= ask.terms.count
            assert (decision is not None) == enough
            if decision is not None:
                assert decision.outcome == ("reject" if rejected else "approve")
                assert decision.decided_by == votes[-1].person
                assert set(decision.approved_by) == approvers

    @invariant()
    def every_move_has_one_audit_row_and_one_decision_makes_one_move(self) -> None:
        moves = self.ledger.moves("flights", "test")
        assert [action for action in actions(self.ledger) if action in ("release", "rollback")] == [
            move.kind for move in moves
        ]
        used = [move.decision_id for move in moves if move.kind == "release"]
        assert len(used) == len(set(used))

    @invariant()
    def the_audit_verifies(self) -> None:
        self.ledger.verify_audit("flights")

    @invariant()
    def a_rolled_back_digest_serves_only_under_a_later_approval(self) -> None:
        moves = self.ledger.moves("flights", "test")
        for left, rollback in pairwise(moves):
            if rollback.kind != "rollback":
                continue
            later = next((move for move in moves[rollback.epoch :] if move.digest == left.digest), None)
            if later is not None:
                assert later.kind == "release"
                decision = self.ledger.decision(later.decision_id or "")
                assert decision is not None
                assert decision.decided_at > rollback.moved_at


AnySequence.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


class TestAnySequence(AnySequence.TestCase):  # type: ignore[misc,valid-type]  # made by hypothesis
    """Runs the state machine."""
