"""What every ledger holds to, whichever database it is kept in."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
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

from ml_lifecycle.backends.ledger import database
from ml_lifecycle.backends.ledger.base import Ledger
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import Ask, Decision, ModelVersion, Move, RunRequest, Verdict, digest_of
from ml_lifecycle.core.errors import LedgerError, NoDecisionError, ServiceUnavailableError, StaleEpochError

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
BACKENDS: dict[str, Callable[[Path], str]] = {"sqlite": lambda folder: f"sqlite:///{folder / 'ledger.db'}"}


@pytest.fixture(params=sorted(BACKENDS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of every kind."""
    return BACKENDS[request.param](tmp_path)


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


def question(version: ModelVersion, epoch: int = 0, environment: str = "test", renewal: int = 0) -> Ask:
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
    )


def answered(ask: Ask, outcome: str = "approve", by: str = "ada", at: datetime = NOON, hours: int = 72) -> Decision:
    return Decision.model_validate(
        {"ask": ask, "outcome": outcome, "decided_by": by, "decided_at": at, "expires_at": at + hours * HOUR}
    )


def approved(ledger: Ledger, version: ModelVersion, at: datetime = NOON) -> Decision:
    head = ledger.head(version.name, "test")
    ask = question(version, epoch=head.epoch if head else 0)
    ledger.ask(ask, requested_by="bob", at=at, expires_at=at + 72 * HOUR)
    return ledger.decide(answered(ask, at=at))


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
    with pytest.raises(LedgerError, match="nobody asked"):
        ledger.decide(answered(ask))


def test_a_rejection_stands_when_an_approval_follows(ledger: Ledger) -> None:
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    ledger.decide(answered(ask, "reject", by="ada"))

    standing = ledger.decide(answered(ask, "approve", by="eve"))

    assert (standing.outcome, standing.decided_by) == ("reject", "ada")
    assert ledger.decision(ask.ask_id) == standing
    assert actions(ledger) == ["ask", "decide"]


def test_a_decision_at_the_last_moment_counts_and_one_after_it_does_not(ledger: Ledger) -> None:
    on_time, late = question(registered(1)), question(registered(2))
    for ask in (on_time, late):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=NOON + HOUR)

    ledger.decide(answered(on_time, at=NOON + HOUR))
    with pytest.raises(LedgerError, match="expired"):
        ledger.decide(answered(late, at=NOON + HOUR + timedelta(microseconds=1)))

    assert ledger.decision(late.ask_id) is None
    assert actions(ledger) == ["ask", "ask", "decide", "decide refused"]


def test_a_newer_candidate_closes_older_questions(ledger: Ledger) -> None:
    older, newer = question(registered(1)), question(registered(2))
    for ask in (older, newer):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)

    closed = ledger.supersede("flights", "test", newest=newer, at=NOON)

    assert closed == (older.ask_id,)
    assert ledger.open_asks("flights", "test") == (newer,)
    assert ledger.supersede("flights", "test", newest=newer, at=NOON) == ()
    with pytest.raises(LedgerError, match="superseded"):
        ledger.decide(answered(older))


def test_the_newest_decision_about_a_digest_is_found_whichever_question_it_answered(ledger: Ledger) -> None:
    version = registered(1)
    first, second = question(version), question(version, renewal=1)
    for ask, outcome in ((first, "reject"), (second, "approve")):
        ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
        ledger.decide(answered(ask, outcome))

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


def test_the_same_decision_makes_one_move_even_after_it_expired(ledger: Ledger) -> None:
    version = registered(1)
    decision = approved(ledger, version)
    first = ledger.release(version, decision, moved_by="ada", at=NOON)

    again = ledger.release(version, decision, moved_by="eve", at=NOON + 1000 * HOUR)

    assert again == first
    assert actions(ledger) == ["ask", "decide", "release"]


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
    assert actions(ledger) == ["ask", "decide", "release refused"]


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
    ledger.decide(answered(ask, "reject"))

    with pytest.raises(NoDecisionError, match="ada rejected it"):
        ledger.release(version, answered(ask, "approve"), moved_by="ada", at=NOON)


def test_a_forged_decision_gives_no_move_and_leaves_a_trace(ledger: Ledger) -> None:
    forged = answered(question(registered(1)))

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
    decision = ledger.decide(answered(elsewhere))

    ledger.release(version, decision, moved_by="ada", at=NOON)
    with pytest.raises(NoDecisionError):
        ledger.release(version, answered(question(version)), moved_by="ada", at=NOON)

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


def test_a_rollback_to_a_named_version_is_refused_where_another_one_comes_back(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        released(ledger, number)

    with pytest.raises(LedgerError, match="brings back version 2, not 1"):
        ledger.rollback("flights", "test", key="a", moved_by="olga", reason="", at=NOON, version=1)

    assert len(ledger.moves("flights", "test")) == 3


def test_a_digest_that_was_rolled_back_needs_a_new_approval(ledger: Ledger) -> None:
    released(ledger, 1)
    used = approved(ledger, registered(2))
    ledger.release(registered(2), used, moved_by="ada", at=NOON)
    back(ledger, "a")

    repeated = ledger.release(registered(2), used, moved_by="ada", at=NOON + 2 * HOUR)
    backdated = approved(ledger, registered(2), at=NOON)
    with pytest.raises(NoDecisionError, match="was rolled back at epoch 3"):
        ledger.release(registered(2), backdated, moved_by="ada", at=NOON + 2 * HOUR)

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


def test_of_two_who_race_for_the_next_epoch_exactly_one_wins(url: str) -> None:
    ledgers = (SqlLedger(url), SqlLedger(url))
    races = 200
    starts = [threading.Barrier(2) for _ in range(races)]

    def race(runner: int) -> int:
        ledger, won = ledgers[runner], 0
        for number, start in enumerate(starts):
            version = registered(2 * number + runner + 1)
            start.wait(60)
            decision = _approved_at(ledger, version, number)
            start.wait(60)
            try:
                ledger.release(version, decision, moved_by=f"runner {runner}", at=NOON)
                won += 1
            except StaleEpochError:
                continue
            finally:
                start.wait(60)
        return won

    with ThreadPoolExecutor(2) as pool:
        wins = list(pool.map(race, (0, 1)))

    assert sum(wins) == races
    assert [move.epoch for move in ledgers[0].moves("flights", "test")] == list(range(1, races + 1))
    # Each race: two asks, two decisions, one move, one refusal.
    assert ledgers[0].verify_audit("flights") == 6 * races


def _approved_at(ledger: Ledger, version: ModelVersion, epoch: int) -> Decision:
    ask = question(version, epoch=epoch)
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    return ledger.decide(answered(ask))


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


def test_of_contradictory_answers_one_is_written_and_all_hear_the_same(url: str) -> None:
    ledger = SqlLedger(url)
    ask = question(registered(1))
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    outcomes = ["approve", "reject"] * 8

    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda outcome: SqlLedger(url).decide(answered(ask, outcome)), outcomes))

    assert {decision.outcome for decision in heard} == {heard[0].outcome}
    assert actions(ledger) == ["ask", "decide"]


# --- The audit -------------------------------------------------------------------------------------------------------


def test_the_audit_says_who_did_what_when_and_why(ledger: Ledger) -> None:
    for number in (1, 2):
        released(ledger, number)
    back(ledger, "a")

    last = ledger.audit("flights")[-1]

    assert (last["actor"], last["action"], last["at"]) == ("olga", "rollback", NOON + HOUR)
    assert last["detail"] == "late flights"
    assert "version 1" in last["subject"]
    assert ledger.verify_audit("flights") == 7


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
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 3", "row 3 .* it was changed"),
        ("DELETE FROM audit WHERE seq = 2", "row 2 .* it was removed"),
        ("DELETE FROM audit WHERE seq = 6", "row 6 .* changed or put in"),
        ("UPDATE audit SET seq = seq + 100 WHERE seq = 4", "row 4 .* removed"),
        (
            (
                "INSERT INTO audit SELECT model, 7, environment, at, actor, action, subject, detail, record, digest, "
                "'x' FROM audit WHERE seq = 6"
            ),
            "row 7 .* it was changed",
        ),
        ("UPDATE moves SET version = 9 WHERE epoch = 2", "row 6 .* moves was changed"),
        ("UPDATE decisions SET outcome = 'reject'", "row 2 .* decisions was changed"),
        ("UPDATE asks SET requested_by = NULL", "row 1 .* asks was changed"),
        ("DELETE FROM moves WHERE epoch = 1", "row 3 .* was removed"),
        (
            (
                "INSERT INTO moves SELECT model, environment, 3, 'rollback', version, digest, uri, NULL, 'k', "
                "moved_by, reason, at, 1 FROM moves WHERE epoch = 1"
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

    with sqlite3.connect(file) as tampered:
        tampered.execute(tampering)
    tampered.close()

    with pytest.raises(LedgerError, match=found):
        ledger.verify_audit("flights")


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


def test_a_ledger_of_another_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    SqlLedger(f"sqlite:///{file}").head("flights", "test")
    with sqlite3.connect(file) as newer:
        newer.execute("INSERT INTO schema_version VALUES (7)")
    newer.close()

    with pytest.raises(LedgerError, match="has schema version 7, this package knows 1"):
        SqlLedger(f"sqlite:///{file}").head("flights", "test")


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


# --- Any sequence ----------------------------------------------------------------------------------------------------


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


class AnySequence(RuleBasedStateMachine):
    """Random asks, answers, releases and rollbacks; what DESIGN calls invariants holds after each."""

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

    @rule(number=st.integers(1, 4), renewal=st.integers(0, 1), patience=st.sampled_from([1, 5, 100]))
    def ask(self, number: int, renewal: int, patience: int) -> None:
        at, head = self.tick(), self.ledger.head("flights", "test")
        ask = question(registered(number), epoch=head.epoch if head else 0, renewal=renewal)
        self.ledger.ask(ask, requested_by=None, at=at, expires_at=at + patience * HOUR)
        self.asks.append(ask)

    @precondition(lambda self: bool(self.asks))
    @rule(data=st.data(), outcome=st.sampled_from(["approve", "approve", "reject"]), hours=st.sampled_from([1, 100]))
    def decide(self, data: st.DataObject, outcome: str, hours: int) -> None:
        ask = data.draw(st.sampled_from(self.asks))
        before = self.ledger.decision(ask.ask_id)
        try:
            after = self.ledger.decide(answered(ask, outcome, at=self.tick(), hours=hours))
        except LedgerError:
            assert self.ledger.decision(ask.ask_id) is None
        else:
            assert before in (None, after)

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
            move = self.ledger.release(registered(ask.version), answered(ask), moved_by="ada", at=at)
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
