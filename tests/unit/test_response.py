from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ml_lifecycle.core.contracts import DataRejection, MonitoringResponse, RunRequest, Verdict, Vote
from ml_lifecycle.core.data_approval import DataPolicy, ask_about
from ml_lifecycle.core.errors import LedgerError, NoDecisionError, RollbackOutdatedError
from ml_lifecycle.stages import runner
from ml_lifecycle.stages.deployment import RollbackJob, roll_back
from ml_lifecycle.stages.response import respond
from ml_lifecycle.stages.runner import Tools
from tests.fakes.alarms import storm, tools_at
from tests.fakes.champions import at, decided, registered
from tests.fakes.watched_model import DAY, MODEL, NOW, WatchedModel, drift, measured, quality


@pytest.fixture
def watched(tools: Tools) -> WatchedModel:
    """Version 1 was trained on January and serves since March."""
    model = WatchedModel(tools, now=NOW - 90 * DAY)
    model.train("2013-01", version=1)
    model.release(1)
    model.now = NOW
    return model


def requests(tools: Tools) -> int:
    return len(tools.ledger.results(tools.environment, MODEL, "respond", action="retrain"))


# --- One request -----------------------------------------------------------------------------------------------------


def test_drift_asks_once_and_a_retry_says_the_same(watched: WatchedModel) -> None:
    first = watched.look(drift(), run="trips_monitor/may")
    retry = watched.look(drift(), run="trips_monitor/may", days=1 / 24)
    other = watched.look(drift())
    later = watched.look(drift(), days=7)

    assert first == retry
    assert [one.action for one in (first, other, later)] == ["retrain", "nothing", "retrain"]
    assert "a retraining was asked for 1 h ago, within the cooldown of 7 d" in other.reason
    assert watched.tools.ledger.verify_audit(MODEL) > 0


def test_each_call_of_the_command_line_is_an_occasion_of_its_own(watched: WatchedModel) -> None:
    first = watched.look(drift(), run="command")
    second = watched.look(drift(), run="command", days=8)

    assert (first.action, second.action, requests(watched.tools)) == ("retrain", "retrain", 2)


def test_an_open_approval_holds_retraining_back_within_the_cooldown(watched: WatchedModel) -> None:
    watched.ask(watched.register(2))

    soon = watched.look(drift(), days=1)
    late = watched.look(drift(), days=7)

    assert (soon.action, soon.held_back) == ("nothing", "version 2 already waits for its approval")
    assert late.action == "retrain"


def test_a_question_that_ran_out_holds_retraining_back_no_longer(watched: WatchedModel) -> None:
    watched.ask(watched.register(2), expires_at=NOW + 3 * DAY)

    open_still = watched.look(drift(), days=3)
    over = watched.look(drift(), days=1 / 1440)

    assert (open_still.action, over.action) == ("nothing", "retrain")


def test_a_training_that_waits_for_the_approval_of_its_data_is_waited_for(watched: WatchedModel) -> None:
    dataset = drift().current
    ask = ask_about(dataset, DataPolicy(), model=MODEL, environment="test")
    watched.tools.ledger.ask(ask, requested_by=None, at=NOW, expires_at=None)

    waiting = watched.look(drift(), days=1)
    later = watched.look(drift(), days=7)

    assert (waiting.action, waiting.held_back) == ("nothing", "a training waits for the approval of its data")
    assert later.action == "retrain"


def test_before_the_first_release_lost_performance_still_asks(tools: Tools) -> None:
    model = WatchedModel(tools)

    response = model.look(measured(Verdict.FAIL))

    assert (response.action, response.version, response.finding) == (
        "retrain",
        None,
        "performance before the first release",
    )


# --- A storm ---------------------------------------------------------------------------------------------------------


def test_three_hundred_alarms_in_an_hour_ask_for_one_retraining(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"

    answers = storm(tmp_path, url)

    assert (len(answers), answers.count("retrain"), answers.count("nothing")) == (300, 1, 299)
    tools = tools_at(tmp_path, url)
    assert requests(tools) == 1
    tools.ledger.verify_audit(MODEL)


def test_of_many_that_alert_at_the_same_moment_one_tells_people(watched: WatchedModel) -> None:
    watched.limits = {"on_drift": "alert"}
    jobs = {run: watched.job(drift(), run=run) for run in (f"trips_monitor/{number}" for number in range(40))}

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda run: respond(jobs[run], watched.at(run)).told, jobs))

    assert sum(told) == 1


# --- Clocks ----------------------------------------------------------------------------------------------------------


def test_a_clock_that_was_a_century_ahead_holds_nothing_back_for_a_century(watched: WatchedModel) -> None:
    watched.now = NOW + 36_500 * DAY
    ahead = watched.look(drift())
    watched.now = NOW

    corrected = watched.look(drift())
    waiting = watched.look(drift(), days=6)
    over = watched.look(drift(), days=1)

    assert [one.action for one in (ahead, corrected, waiting, over)] == ["retrain", "nothing", "nothing", "retrain"]
    assert "a retraining was asked for 0 s ago" in corrected.held_back
    assert "a retraining was asked for 6 d ago" in waiting.held_back


def test_machines_in_different_time_zones_keep_one_cooldown(watched: WatchedModel) -> None:
    auckland, york = ZoneInfo("Pacific/Auckland"), ZoneInfo("America/New_York")
    watched.limits = {"cooldown": timedelta(hours=3)}
    # New York's clocks went from 02:00 to 03:00 on 10 March 2013, at 07:00 UTC.
    watched.now = datetime(2013, 3, 10, 1, 30, tzinfo=york)
    first = watched.look(drift())
    watched.train("2013-02", version=2)
    watched.now = datetime(2013, 3, 10, 5, 29, tzinfo=york)
    second = watched.look(drift())
    watched.now = datetime(2013, 3, 10, 9, 30, tzinfo=timezone.utc).astimezone(auckland)
    third = watched.look(drift())

    assert [one.action for one in (first, second, third)] == ["retrain", "nothing", "retrain"]
    assert "asked for 2.98 h ago" in second.held_back


# --- New labelled data -----------------------------------------------------------------------------------------------


@pytest.fixture
def reading(watched: WatchedModel) -> WatchedModel:
    """The same model, whose files are looked at."""
    watched.reads_data = True
    watched.limits = {"window": 2, "new_rows": 10}
    watched.land("2013-01")
    return watched


def test_without_new_data_a_retraining_is_held_back_and_people_are_told(reading: WatchedModel) -> None:
    response = reading.look(drift())

    assert (response.action, response.told, response.new_rows) == ("alert", True, 0)
    assert "would see 0 new labelled rows, and 10 are needed" in response.held_back


def test_labels_that_come_late_are_waited_for(reading: WatchedModel) -> None:
    reading.land("2013-02", labels=None)
    without = reading.look(drift())
    reading.land("2013-02", labels=9)
    some = reading.look(drift(), days=1)
    reading.land("2013-02", labels=10)
    all_there = reading.look(drift(), days=1)

    assert [(one.action, one.new_rows) for one in (without, some, all_there)] == [
        ("alert", 0),
        ("alert", 9),
        ("retrain", 10),
    ]
    # One alert per episode: that labels still miss is nothing new.
    assert [without.told, some.told] == [True, False]


def test_what_a_later_training_has_seen_is_not_new(reading: WatchedModel) -> None:
    reading.land("2013-02")
    reading.train("2013-01", "2013-02", version=2)

    again = reading.look(drift())
    reading.land("2013-03", rows=30, labels=30)
    newer = reading.look(drift(), days=1)

    assert (again.action, again.new_rows) == ("alert", 0)
    assert (newer.action, newer.new_rows) == ("retrain", 30)


def test_a_partition_that_the_training_would_not_read_is_not_counted(reading: WatchedModel) -> None:
    for partition in ("2013-02", "2013-03", "2013-04"):
        reading.land(partition)

    # The window is two partitions.
    assert reading.look(drift()).new_rows == 20


def test_a_partition_that_cannot_be_read_brings_no_rows(reading: WatchedModel) -> None:
    reading.land("2013-02")
    (reading.tools.data.root / "outcomes/2013-02.parquet").write_bytes(b"PAR1 and no more")  # type: ignore[attr-defined]

    assert (reading.look(drift()).action, reading.look(drift()).new_rows) == ("alert", 0)


def test_files_are_looked_at_only_where_a_retraining_is_called_for(reading: WatchedModel) -> None:
    assert reading.look(drift(Verdict.PASS)).new_rows is None


# --- Data that was refused -------------------------------------------------------------------------------------------


def test_a_partition_that_fails_its_suite_is_left_out_of_the_window_which_reaches_further_back(
    reading: WatchedModel,
) -> None:
    for partition in ("2013-02", "2013-03"):
        reading.land(partition)
    bad = drift().current.model_copy(update={"partitions": ("2013-03",)})

    response = reading.look(drift(), quality(Verdict.FAIL, bad))

    assert (response.action, response.excluded, response.new_rows) == ("retrain", ("2013-03",), 10)
    assert "it leaves out 2013-03 (its data failed its suite)" in response.reason


def test_data_that_blocked_a_training_is_left_out_until_its_file_is_another_one(reading: WatchedModel) -> None:
    for partition in ("2013-02", "2013-03"):
        reading.land(partition)
    reading.train(version=2, dataset=reading.snapshot("2013-01", "2013-02"))
    blocked = DataRejection(model=MODEL, dataset=reading.snapshot("2013-02", "2013-03"), reason="3 are unmet")
    runner.record("reject_data", blocked, reading.tools, model=MODEL)

    held = reading.look(drift())
    reading.land("2013-03", miles=2.0)
    mended = reading.look(drift(), days=1)

    # February was trained on before: March is to blame.
    assert (held.action, held.new_rows) == ("alert", 0)
    assert "without 2013-03 (its data failed its suite)" in held.held_back
    assert (mended.action, mended.excluded, mended.new_rows) == ("retrain", (), 10)


def test_data_that_people_rejected_is_left_out_until_they_approve_it(reading: WatchedModel) -> None:
    for partition in ("2013-02", "2013-03"):
        reading.land(partition)
    reading.train(version=2, dataset=reading.snapshot("2013-01", "2013-02"))
    taken = reading.snapshot("2013-02", "2013-03")

    def decide(outcome: str, renewal: int) -> None:
        ask = ask_about(taken, DataPolicy(), model=MODEL, environment="test", renewal=renewal)
        reading.tools.ledger.ask(ask, requested_by=None, at=NOW, expires_at=None)
        vote = {"outcome": outcome, "person": "ada", "channel": "signed", "reason": "odd", "at": NOW}
        reading.tools.ledger.vote(Vote(ask_id=ask.ask_id, **vote))

    decide("reject", 0)
    rejected = reading.look(drift())
    decide("approve", 1)
    approved = reading.look(drift(), days=1)

    assert rejected.action == "alert"
    assert "without 2013-03 (ada rejected its data)" in rejected.held_back
    assert approved.action == "retrain"


def test_a_dataset_that_cannot_be_found_any_more_stays_refused(reading: WatchedModel) -> None:
    reading.land("2013-02")
    gone = drift().current.model_copy(update={"partitions": ("2013-02",), "uri": "snapshots/trips/gone"})
    runner.record("reject_data", DataRejection(model=MODEL, dataset=gone, reason="bad"), reading.tools, model=MODEL)

    assert "without 2013-02" in reading.look(drift()).held_back


# --- Rollback --------------------------------------------------------------------------------------------------------


def test_a_rollback_names_the_epoch_that_was_found_bad_and_is_asked_for_once(watched: WatchedModel) -> None:
    watched.release(2)
    watched.limits = {"on_performance": "rollback"}

    first = watched.look(measured(Verdict.FAIL, version=2))
    again = watched.look(measured(Verdict.FAIL, version=2), days=1)

    assert (first.action, first.version, first.epoch, first.back_to) == ("rollback", 2, 2, 1)
    assert again.action == "alert"
    assert "it was asked for 1 d ago" in again.reason


def test_an_earlier_champion_that_was_bad_too_is_not_brought_back(watched: WatchedModel) -> None:
    lost = measured(Verdict.FAIL, partition="2013-03")
    unlabelled = measured(Verdict.INCONCLUSIVE, partition="2013-04")
    for run, report in (("march", lost), ("april", unlabelled)):
        runner.record("measure_performance", report, watched.at(f"trips_monitor/{run}"), model=MODEL)
    watched.release(2)
    watched.limits = {"on_performance": "rollback"}

    response = watched.look(measured(Verdict.FAIL, version=2))

    assert response.action == "alert"
    assert "version 1 was out of its limits too, on 2013-03" in response.reason


# --- While a version is being rolled out -----------------------------------------------------------------------------

STEPS = {"backend": "local", "steps": [10, 50, 100]}


def test_the_champion_is_watched_while_another_version_is_being_rolled_out(watched: WatchedModel) -> None:
    watched.release(2, target=STEPS)
    watched.limits = {"on_performance": "alert"}

    response = watched.look(measured(Verdict.FAIL))

    assert (response.version, response.epoch, response.healthy, response.action) == (1, 1, False, "alert")
    assert "no longer serves" not in response.reason


def test_no_retraining_is_asked_for_while_a_version_is_being_rolled_out(watched: WatchedModel) -> None:
    move = watched.release(2, target=STEPS)

    during = watched.look(drift())
    watched.tools.ledger.record_deployment(move, "done", at=watched.now)
    after = watched.look(drift(version=2), days=1)

    assert (during.action, during.held_back) == ("nothing", "version 2 is being rolled out")
    assert "look at the steps of trips_release, which gives version 2 the traffic" in during.prepared
    assert (after.action, after.version) == ("retrain", 2)


def test_no_champion_is_rolled_back_while_its_successor_is_being_rolled_out(watched: WatchedModel) -> None:
    watched.release(2)
    watched.release(3, target=STEPS)
    watched.limits = {"on_performance": "rollback"}

    response = watched.look(measured(Verdict.FAIL, version=2))

    assert (response.action, response.back_to) == ("alert", None)
    assert "no rollback: version 3 is being rolled out, and its steps say which one is better" in response.reason


def wanted(epoch: int | None, run: str = "flights_rollback/1", version: int | None = None) -> RollbackJob:
    """What an event of monitoring asks of the rollback."""
    asked = {"model": "flights", "stream": "rollback", "trigger": "asset", "run_id": run, "reason": "roc_auc 0.5"}
    return RollbackJob(request=RunRequest.model_validate({**asked, "epoch": epoch, "version": version}))


@pytest.fixture
def serving(tools: Tools, tmp_path: Path) -> Tools:
    """Version 2 of a model with real packages serves, 1 did before, and monitoring found 2 bad."""
    noon = at(tools, 0)
    for number in (1, 2):
        version = registered(noon, tmp_path, number)
        noon.ledger.release(version, decided(noon, version).decision, moved_by="ada", at=noon.clock())
    answer = MonitoringResponse(
        model="flights", partition="2026-02", action="rollback", reason="roc_auc 0.5", version=2, epoch=2, back_to=1
    )
    runner.record("respond", answer, noon, model="flights")
    return noon


def test_monitoring_s_rollback_is_carried_out_and_names_who_asked(serving: Tools) -> None:
    back = roll_back(wanted(2, version=1), serving)

    assert (back.champion.version, back.champion.kind, back.champion.moved_by) == (1, "rollback", "monitoring")
    assert back.champion.reason == "roc_auc 0.5"
    assert back.traffic == {"1": 100}


def test_a_repeated_event_rolls_nothing_back_twice(serving: Tools, tmp_path: Path) -> None:
    third = registered(serving, tmp_path, 3)
    serving.ledger.release(third, decided(serving, third).decision, moved_by="ada", at=serving.clock())
    answer = MonitoringResponse(model="flights", partition="2026-03", action="rollback", reason="bad", epoch=3)
    runner.record("respond", answer, serving, model="flights")
    roll_back(wanted(3), serving)

    with pytest.raises(RollbackOutdatedError, match="asked for at epoch 3, and version 2 at epoch 4 is in force"):
        roll_back(wanted(3, run="flights_rollback/2"), serving)

    assert [move.version for move in serving.ledger.moves("flights", "test")] == [1, 2, 3, 2]
    assert roll_back(wanted(3), serving).champion.epoch == 4


def test_a_newer_champion_is_not_rolled_back(serving: Tools, tmp_path: Path) -> None:
    third = registered(serving, tmp_path, 3)
    serving.ledger.release(third, decided(serving, third).decision, moved_by="ada", at=serving.clock())

    with pytest.raises(RollbackOutdatedError, match="asked for at epoch 2, and version 3 at epoch 3 is in force"):
        roll_back(wanted(2), serving)

    head = serving.ledger.head("flights", "test")
    assert head is not None
    assert head.version == 3
    assert serving.ledger.audit("flights")[-1]["action"] == "rollback refused"


def test_an_event_that_monitoring_did_not_make_rolls_nothing_back(serving: Tools) -> None:
    with pytest.raises(NoDecisionError, match="monitoring asked for no rollback of epoch 1"):
        roll_back(wanted(1), serving)

    assert len(serving.ledger.moves("flights", "test")) == 2


def test_a_champion_that_changes_at_the_last_moment_is_not_rolled_back(serving: Tools) -> None:
    with pytest.raises(LedgerError, match="asked for at epoch 1"):
        serving.ledger.rollback(
            "flights", "test", key="x", moved_by="monitoring", reason="bad", at=serving.clock(), epoch=1
        )
