from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_lifecycle.core.contracts import (
    ColumnDrift,
    Columns,
    DatasetRef,
    DriftReport,
    ExpectationResult,
    Metric,
    MonitoringResponse,
    Move,
    PerformanceReport,
    Rate,
    ValidationReport,
    Verdict,
)
from ml_lifecycle.core.response import (
    Circumstances,
    FreshData,
    History,
    Plan,
    Reports,
    Request,
    allowance,
    respond,
)

NOW = datetime(2013, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
DATASET = DatasetRef(
    uri="snapshots/m/1", rows=1, fingerprint="0" * 64, columns=Columns(key="k"), partitions=("2013-05",)
)


def column(name: str, distance: float | None, **more: Any) -> ColumnDrift:
    drifted = distance is not None and distance >= 0.1
    return ColumnDrift(column=name, method="ks", distance=distance, threshold=0.1, drifted=drifted, **more)


def drift(*distances: float | None, verdict: Verdict = Verdict.FAIL, version: int = 1, **more: Any) -> DriftReport:
    columns = tuple(column(name, distance) for name, distance in zip("abcdefgh", distances, strict=False))
    return DriftReport(
        model="m",
        version=version,
        partition="2013-05",
        verdict=verdict,
        drifted_share=None,
        reference=DATASET,
        current=DATASET,
        **{"columns": columns, "report_uri": "reports/drift/m/1/index.html", **more},
    )


def measured(value: float | None, verdict: Verdict, version: int | None = 1, detail: str = "") -> PerformanceReport:
    return PerformanceReport(
        model="m",
        version=version,
        partition="2013-05",
        verdict=verdict,
        metrics={"roc_auc": Metric(value=value, rows=1000)},
        labelled_rows=1000,
        detail=detail,
    )


def quality(verdict: Verdict) -> ValidationReport:
    unmet = ExpectationResult(
        expectation="expect_column_values_to_be_between",
        column="distance",
        severity="critical",
        verdict=verdict,
        unexpected_rows=3,
    )
    found = () if verdict is Verdict.PASS else (unmet,)
    return ValidationReport(dataset=DATASET, verdict=verdict, expectations=1, unmet=found)


def move(epoch: int, version: int, *, kind: str = "release", by: str = "policy", at: datetime = NOW - 90 * DAY) -> Move:
    return Move(
        model="m",
        environment="test",
        epoch=epoch,
        kind=kind,
        version=version,
        digest=str(version) * 64,
        uri=f"models/{version}",
        moved_by=by,
        moved_at=at,
    )


FIRST, SECOND = move(1, 1), move(2, 2)
LOST = measured(0.51, Verdict.FAIL)
GOOD = measured(0.71, Verdict.PASS)


def asked(*days_ago: float, epoch: int | None = 1) -> tuple[Request, ...]:
    """Requests that many days ago, oldest first; the ledger counts them 10, 20, 30, ..."""
    return tuple(Request(NOW - days * DAY, 10 * place, epoch) for place, days in enumerate(days_ago, start=1))


def answer(
    *reports: Any,
    plan: Plan | None = None,
    history: History | None = None,
    facts: Circumstances | None = None,
    now: datetime = NOW,
) -> MonitoringResponse:
    kinds: dict[Any, str] = {DriftReport: "drift", PerformanceReport: "performance", ValidationReport: "quality"}
    return respond(
        Reports(**{kinds[type(report)]: report for report in reports}),
        plan or Plan(),
        history or History(moves=(FIRST,)),
        facts or Circumstances(begun_seq=10_000),
        model="m",
        partition="2013-05",
        now=now,
    )


# --- What is found ---------------------------------------------------------------------------------------------------


def test_drift_asks_for_a_retraining_and_says_what_moved() -> None:
    response = answer(drift(0.12, 0.42, 0.0, 0.3, 0.2))

    assert response.action == "retrain"
    assert response.reason == (
        "drift on 2013-05: 4 of 5 columns moved (b 0.42, d 0.30, e 0.20, ...) against the training data of version 1"
    )
    assert response.evidence == ("reports/drift/m/1/index.html",)
    assert response.prepared == "trigger m_train to train on the newest data"


def test_the_report_s_own_counts_are_told_and_a_column_of_two_windows_once() -> None:
    columns = (column("x", 0.2), column("x", 0.4, window=7), column("y", 0.1))

    response = answer(drift(columns=columns, drifted=2, compared=300))

    assert "2 of 300 columns moved (x 0.40, y 0.10) against" in response.reason


def test_lost_performance_asks_for_what_drift_does_where_nothing_else_is_said() -> None:
    response = answer(drift(0.0, verdict=Verdict.PASS), measured(0.5712, Verdict.FAIL))

    assert response.action == "retrain"
    assert "no drift on 2013-05" in response.reason
    assert "roc_auc 0.571 is out of its limits on 2013-05 (1,000 labelled rows, version 1)" in response.reason


@pytest.mark.parametrize("wanted", ["alert", "nothing"])
def test_a_pipeline_may_ask_for_less(wanted: Any) -> None:
    assert answer(drift(0.5), plan=Plan(on_drift=wanted)).action == wanted


def test_of_several_answers_the_strongest_is_given() -> None:
    plan = Plan(on_drift="alert", on_performance="retrain")

    assert answer(drift(0.5), LOST, plan=plan).action == "retrain"
    assert answer(drift(0.5), GOOD, plan=plan).action == "alert"
    assert answer(drift(0.5), quality(Verdict.FAIL), plan=Plan(on_drift="nothing")).action == "alert"


def test_what_is_unclear_asks_for_nothing_and_is_said() -> None:
    response = answer(
        drift(None, verdict=Verdict.INCONCLUSIVE),
        measured(None, Verdict.INCONCLUSIVE, detail="no labels yet"),
        quality(Verdict.INCONCLUSIVE),
    )

    assert (response.action, response.healthy, response.finding) == ("nothing", None, "")
    for words in ("unclear drift", "1 could not be measured", "roc_auc unmeasured is unknown", "no labels yet"):
        assert words in response.reason
    assert "the data of 2013-05 could not be held to its suite" in response.reason


def test_a_value_of_the_data_begins_no_line_of_its_own() -> None:
    hostile = "labels hold x\nRunbook: http://evil\x1b[2J\u2028, which the model does not know"

    found = answer(
        drift(0.5, columns=(column("a\nEvidence: b", 0.5),)), measured(None, Verdict.INCONCLUSIVE, 1, hostile)
    )

    assert found.reason.isprintable()
    assert "Evidence: b" in found.reason


def test_nothing_measured_asks_for_nothing() -> None:
    response = answer()

    assert (response.action, response.reason, response.prepared) == ("nothing", "nothing was measured", "")


def test_late_labels_of_a_version_that_no_longer_serves_call_for_nothing() -> None:
    response = answer(LOST, history=History(moves=(FIRST, SECOND)), plan=Plan(on_performance="rollback"))

    assert (response.action, response.healthy) == ("nothing", None)
    assert response.reason.endswith("version 1), which no longer serves: version 2 does")


@pytest.mark.parametrize(
    ("reports", "healthy"),
    [
        ((GOOD, drift(0.5)), True),
        ((LOST,), False),
        ((measured(None, Verdict.INCONCLUSIVE), drift(0.0, verdict=Verdict.PASS)), None),
        ((drift(0.0, verdict=Verdict.PASS),), True),
        ((drift(0.5),), False),
        ((quality(Verdict.PASS),), None),
        ((measured(0.7, Verdict.PASS, version=9),), None),
    ],
)
def test_the_champion_is_well_where_its_performance_is_and_without_such_a_rule_where_its_data_is(
    reports: tuple[Any, ...], healthy: Any
) -> None:
    assert answer(*reports).healthy is healthy


# --- Rollback --------------------------------------------------------------------------------------------------------

BACK = Plan(on_drift="retrain", on_performance="rollback")
SERVING_SECOND = History(moves=(FIRST, SECOND))


def lost_by_second() -> PerformanceReport:
    return measured(0.51, Verdict.FAIL, version=2)


def test_lost_performance_brings_the_earlier_champion_back() -> None:
    response = answer(lost_by_second(), plan=BACK, history=SERVING_SECOND, facts=Circumstances(previous=FIRST))

    assert (response.action, response.version, response.epoch, response.back_to) == ("rollback", 2, 2, 1)
    assert response.told
    assert 'trigger m_rollback with {"version": 1} to go back to version 1' in response.prepared


@pytest.mark.parametrize(
    ("moves", "facts", "why"),
    [
        ((), Circumstances(), "no version was released yet"),
        ((SECOND,), Circumstances(), "there is no earlier champion to go back to"),
        (
            (FIRST, move(2, 3), move(3, 2, kind="rollback", by="olga")),
            Circumstances(previous=FIRST),
            "version 2 is what was gone back to already",
        ),
        (
            (FIRST, SECOND),
            Circumstances(previous=FIRST, previous_failed="2013-03"),
            "version 1 was out of its limits too, on 2013-03",
        ),
    ],
)
def test_where_a_rollback_cannot_help_an_alert_says_why(
    moves: tuple[Move, ...], facts: Circumstances, why: str
) -> None:
    response = answer(lost_by_second(), plan=BACK, history=History(moves=moves), facts=facts)

    assert (response.action, response.back_to) == ("alert", None)
    assert response.reason.endswith(f"no rollback: {why}")


def test_drift_alone_rolls_nothing_back() -> None:
    response = answer(
        drift(0.5, version=2),
        plan=Plan(on_drift="rollback"),
        history=SERVING_SECOND,
        facts=Circumstances(previous=FIRST),
    )

    assert response.action == "alert"
    assert "drift alone does not say that an earlier version would do better" in response.reason


def test_data_that_fails_its_suite_is_not_the_version_s_fault() -> None:
    response = answer(
        lost_by_second(),
        quality(Verdict.FAIL),
        plan=BACK,
        history=SERVING_SECOND,
        facts=Circumstances(previous=FIRST),
    )

    assert response.action == "alert"
    assert "the loss may not be the version's" in response.reason


def test_where_a_rollback_is_impossible_a_retraining_that_drift_calls_for_is_asked_for() -> None:
    response = answer(drift(0.5), LOST, plan=BACK)

    assert response.action == "retrain"
    assert "no rollback: there is no earlier champion" in response.reason


def test_a_rollback_that_was_asked_for_is_not_asked_for_again() -> None:
    history = History(moves=(FIRST, SECOND), rollback_asked_at=NOW - DAY)

    response = answer(lost_by_second(), plan=BACK, history=history, facts=Circumstances(previous=FIRST))

    assert response.action == "alert"
    assert "it was asked for 1 d ago, and version 2 still serves" in response.reason


# --- When retraining waits -------------------------------------------------------------------------------------------


def test_a_second_request_waits_for_the_cooldown() -> None:
    within = answer(drift(0.5), history=History(moves=(FIRST,), requests=asked(6.99)))
    after = answer(drift(0.5), history=History(moves=(FIRST,), requests=asked(7)))

    assert within.action == "nothing"
    assert within.held_back == "a retraining was asked for 6.99 d ago, within the cooldown of 7 d"
    assert within.reason.endswith(within.held_back)
    assert after.action == "retrain"


@pytest.mark.parametrize(("hours", "action"), [(1, "nothing"), (23.9, "nothing"), (24, "retrain")])
def test_without_a_cooldown_a_training_that_has_not_begun_is_waited_for_a_day(hours: float, action: str) -> None:
    plan, history = Plan(cooldown=timedelta(0)), History(moves=(FIRST,), requests=asked(hours / 24))

    waiting = answer(drift(0.5), plan=plan, history=history, facts=Circumstances(begun_seq=9))
    begun = answer(drift(0.5), plan=plan, history=history, facts=Circumstances(begun_seq=11))

    assert waiting.action == action
    assert begun.action == "retrain"


def test_a_version_that_waits_for_its_approval_holds_retraining_back() -> None:
    response = answer(drift(0.5), facts=Circumstances(waiting_version=2))

    assert (response.action, response.held_back) == ("nothing", "version 2 already waits for its approval")
    assert response.prepared == "answer the question of m_release about version 2"


def test_an_alert_is_given_beside_a_retraining_that_waits() -> None:
    history = History(moves=(FIRST,), requests=asked(1))

    response = answer(drift(0.5), quality(Verdict.FAIL), history=history)

    assert response.action == "alert"
    assert "within the cooldown" in response.held_back
    assert "distance: expect_column_values_to_be_between (3 rows)" in response.reason


def test_a_clock_that_was_set_back_holds_retraining_back_as_if_it_was_just_asked_for() -> None:
    response = answer(drift(0.5), history=History(moves=(FIRST,), requests=asked(-2)))

    assert response.held_back == "a retraining was asked for 0 s ago, within the cooldown of 7 d"


def test_the_hour_that_a_time_zone_skips_does_not_shorten_the_cooldown() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    # Clocks went from 02:00 to 03:00 on 31 March 2013: one hour lies between these two.
    before, after = datetime(2013, 3, 31, 1, 30, tzinfo=berlin), datetime(2013, 3, 31, 3, 30, tzinfo=berlin)
    plan = Plan(cooldown=timedelta(minutes=90))
    history = History(moves=(FIRST,), requests=(Request(before.astimezone(timezone.utc), 1, 1),))

    response = answer(drift(0.5), plan=plan, history=history, now=after)

    assert response.held_back == "a retraining was asked for 1 h ago, within the cooldown of 1.5 h"


# --- Budget ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "per", "most", "days"),
    [(4, "quarter", 4, 365.25 / 4), (1, "day", 1, 1), (0.5, "quarter", 1, 365.25 / 2), (1.5, "week", 2, 7 * 2 / 1.5)],
)
def test_a_budget_is_a_whole_number_in_a_sliding_window(count: float, per: Any, most: int, days: float) -> None:
    number, window = allowance(Rate(count=count, per=per))

    assert number == most
    assert window / DAY == pytest.approx(days)


@given(st.floats(0.01, 1000), st.sampled_from(["day", "week", "month", "quarter", "year"]))
def test_a_budget_s_window_keeps_its_rate(count: float, per: Any) -> None:
    number, window = allowance(Rate(count=count, per=per))
    days = {"day": 1, "week": 7, "month": 365.25 / 12, "quarter": 365.25 / 4, "year": 365.25}[per]

    assert number >= 1
    assert number / (window / DAY) == pytest.approx(count / days)


@pytest.mark.parametrize(("oldest", "action"), [(6.999, "alert"), (7.0, "retrain")])
def test_the_budget_is_spent_until_the_oldest_request_is_a_period_old(oldest: float, action: str) -> None:
    plan = Plan(cooldown=DAY, budget=Rate(count=2, per="week"), stop_after=9)
    history = History(moves=(FIRST,), requests=asked(30, oldest, 2))

    response = answer(drift(0.5), plan=plan, history=history)

    assert response.action == action
    if action == "alert":
        assert response.held_back == "the budget of 2 per week is spent: 2 in the last 7 d"


# --- New data --------------------------------------------------------------------------------------------------------


def with_data(fresh: FreshData, new_rows: int = 100) -> MonitoringResponse:
    return answer(drift(0.5), plan=Plan(new_rows=new_rows), facts=Circumstances(fresh=fresh))


@pytest.mark.parametrize(("rows", "action"), [(99, "alert"), (100, "retrain")])
def test_a_retraining_needs_enough_labelled_rows_that_none_has_seen(rows: int, action: str) -> None:
    response = with_data(FreshData(partitions=("2013-04", "2013-05"), unseen=("2013-05",), rows=rows))

    assert (response.action, response.new_rows) == (action, rows)
    if action == "alert":
        assert response.held_back == (
            "a retraining on 2013-04, 2013-05 would see 99 new labelled rows, and 100 are needed"
        )


def test_what_was_refused_is_left_out_and_said() -> None:
    refused = {"2013-05": "its data failed its suite"}

    response = with_data(FreshData(partitions=("2013-04",), unseen=("2013-04",), rows=500, refused=refused))

    assert (response.action, response.excluded) == ("retrain", ("2013-05",))
    assert response.reason.endswith("it leaves out 2013-05 (its data failed its suite)")


def test_where_everything_was_refused_there_is_nothing_to_train_on() -> None:
    response = with_data(FreshData(refused={"2013-05": "ada rejected its data"}))

    assert response.action == "alert"
    assert response.held_back == "there is nothing to train on without 2013-05 (ada rejected its data)"


def test_a_pipeline_may_want_no_new_rows() -> None:
    assert with_data(FreshData(partitions=("2013-05",)), new_rows=0).action == "retrain"


# --- When retraining stops -------------------------------------------------------------------------------------------


def test_three_retrainings_without_a_release_end_in_an_alert_that_says_so() -> None:
    two = answer(drift(0.5), history=History(moves=(FIRST,), requests=asked(60, 40)))
    three = answer(drift(0.5), history=History(moves=(FIRST,), requests=asked(60, 40, 20)))

    assert (two.action, two.attempts) == ("retrain", 2)
    assert (three.action, three.attempts) == ("alert", 3)
    assert three.held_back == (
        "3 retrainings did not help: the champion was not found well since; no more are asked for until it is, or "
        "until a person releases a version"
    )


def test_releases_by_policy_that_help_nothing_count_on() -> None:
    moves = tuple(move(epoch, epoch) for epoch in (1, 2, 3, 4))
    requests = tuple(Request(NOW - (50 - 10 * epoch) * DAY, epoch, epoch) for epoch in (1, 2, 3))

    response = answer(drift(0.5, version=4), history=History(moves=moves, requests=requests))

    assert (response.action, response.attempts) == ("alert", 3)


def test_a_release_by_a_person_starts_anew() -> None:
    moves = (FIRST, move(2, 2, by="ada"))

    response = answer(drift(0.5, version=2), history=History(moves=moves, requests=asked(60, 40, 20, epoch=1)))

    assert (response.action, response.attempts) == ("retrain", 0)


def test_a_champion_that_was_found_well_starts_anew_after_a_release() -> None:
    moves = (FIRST, SECOND)
    requests = asked(60, 40, 20, epoch=1)

    unwell = answer(drift(0.5, version=2), history=History(moves=moves, requests=requests))
    well = answer(drift(0.5, version=2), history=History(moves=moves, requests=requests, well_seq=31))

    assert unwell.action == "alert"
    assert (well.action, well.attempts) == ("retrain", 0)


def test_a_good_look_in_between_hides_no_retrainings_that_never_brought_a_release() -> None:
    response = answer(LOST, history=History(moves=(FIRST,), requests=asked(60, 40, 20), well_seq=25))

    assert (response.action, response.attempts) == ("alert", 3)
    assert response.held_back == "3 retrainings brought no release; no more are asked for until there is one"


def test_a_request_that_names_no_epoch_counts_by_its_time() -> None:
    moves = (FIRST, move(2, 2, by="ada", at=NOW - 30 * DAY))

    response = answer(drift(0.5, version=2), history=History(moves=moves, requests=asked(60, 31, 29, epoch=None)))

    assert response.attempts == 1


# --- Telling people --------------------------------------------------------------------------------------------------

ALERT = Plan(on_drift="alert")


def look_again(before: MonitoringResponse, *reports: Any, days: float, **changes: Any) -> MonitoringResponse:
    history = History(moves=(FIRST,), finding=before.finding, told_at=before.told_at)
    return answer(*reports, history=history, now=NOW + days * DAY, **{"plan": ALERT, **changes})


def test_the_same_finding_is_told_once_and_again_after_a_week() -> None:
    first = answer(drift(0.5), plan=ALERT)
    soon = look_again(first, drift(0.3, 0.2), days=6.9)
    later = look_again(soon, drift(0.5), days=7)

    assert [one.told for one in (first, soon, later)] == [True, False, True]
    assert {one.finding for one in (first, soon, later)} == {"drift of version 1"}
    assert [one.told_at for one in (first, soon, later)] == [NOW, NOW, NOW + 7 * DAY]


def test_another_finding_is_told_at_once() -> None:
    first = answer(drift(0.5), plan=ALERT)
    worse = look_again(first, drift(0.5), LOST, days=1)
    after = look_again(worse, drift(0.5), measured(None, Verdict.INCONCLUSIVE), days=2)

    assert worse.told
    assert worse.finding == "performance, drift of version 1"
    # Labels that are missing do not end what was found before.
    assert (after.told, after.finding) == (False, worse.finding)


def test_what_passed_in_between_is_told_anew_and_what_was_unclear_is_not() -> None:
    first = answer(drift(0.5), plan=ALERT)
    passed = look_again(first, drift(0.0, verdict=Verdict.PASS), days=1)
    unclear = look_again(first, drift(None, verdict=Verdict.INCONCLUSIVE), days=1)

    assert (passed.finding, unclear.finding) == ("", "drift of version 1")
    assert look_again(passed, drift(0.5), days=2).told
    assert not look_again(unclear, drift(0.5), days=2).told


def test_that_retraining_stops_is_told_though_the_same_thing_is_wrong() -> None:
    before = answer(drift(0.5), plan=ALERT)
    history = History(moves=(FIRST,), requests=asked(60, 40, 20), finding=before.finding, told_at=NOW - DAY)

    stopped = answer(drift(0.5), history=history)

    assert (stopped.action, stopped.told, stopped.finding) == ("alert", True, "drift of version 1: stopped")


def test_a_clock_that_was_ahead_does_not_silence_reminders() -> None:
    history = History(moves=(FIRST,), finding="drift of version 1", told_at=NOW + 1000 * DAY)

    silent = answer(drift(0.5), plan=ALERT, history=history)
    again = look_again(silent, drift(0.5), days=7)

    assert (silent.told, silent.told_at) == (False, NOW)
    assert again.told


def test_a_retraining_is_asked_for_and_not_told() -> None:
    response = answer(drift(0.5))

    assert (response.told, response.told_at, response.finding) == (False, None, "drift of version 1")


# --- Whatever happens ------------------------------------------------------------------------------------------------

LOOKS = st.lists(
    st.tuples(
        st.floats(0, 20),
        st.sampled_from([Verdict.FAIL, Verdict.FAIL, Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE]),
    ),
    max_size=60,
)


@given(LOOKS, st.integers(1, 4), st.floats(0, 15), st.integers(1, 3))
def test_whatever_is_found_the_limits_hold(
    looks: list[tuple[float, Verdict]], stop_after: int, cooldown: float, count: int
) -> None:
    plan = Plan(stop_after=stop_after, cooldown=cooldown * DAY, budget=Rate(count=count, per="month"))
    now, requests, well_seq, since_well = NOW, list[Request](), 0, 0

    for seq, (days, verdict) in enumerate(looks, start=1):
        now += days * DAY
        history = History(moves=(FIRST,), requests=tuple(requests), well_seq=well_seq)
        response = answer(measured(0.6, verdict), plan=plan, history=history, now=now)
        if response.healthy:
            well_seq, since_well = seq, 0
        if response.action == "retrain":
            assert verdict is Verdict.FAIL
            assert since_well < stop_after
            assert len(requests) < stop_after
            assert all(now - one.at >= cooldown * DAY for one in requests)
            assert sum(now - one.at < 365.25 / 12 * DAY for one in requests) < count
            requests.append(Request(now, seq, 1))
            since_well += 1
