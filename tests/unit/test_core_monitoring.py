from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ml_lifecycle.core.contracts import (
    ColumnDrift,
    Columns,
    DatasetRef,
    DriftReport,
    Metric,
    PerformanceReport,
    Verdict,
)
from ml_lifecycle.core.monitoring import Action, History, drifted_share, judge_drift, judge_performance, respond

NOW = datetime(2013, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
DATASET = DatasetRef(
    uri="snapshots/m/1", rows=1, fingerprint="0" * 64, columns=Columns(key="k"), partitions=("2013-01",)
)


def column(distance: float | None, name: str = "x") -> ColumnDrift:
    drifted = distance is not None and distance >= 0.1
    return ColumnDrift(column=name, method="wasserstein", distance=distance, threshold=0.1, drifted=drifted)


def drift(*distances: float | None, verdict: Verdict = Verdict.FAIL) -> DriftReport:
    columns = tuple(column(distance, name) for distance, name in zip(distances, "abcdefgh", strict=False))
    return DriftReport(
        model="m",
        version=1,
        partition="2013-05",
        verdict=verdict,
        drifted_share=drifted_share(columns),
        columns=columns,
        reference=DATASET,
        current=DATASET,
    )


def performance(value: float | None, verdict: Verdict, detail: str = "") -> PerformanceReport:
    return PerformanceReport(
        model="m",
        version=1,
        partition="2013-05",
        verdict=verdict,
        metrics={"roc_auc": Metric(value=value, rows=1000)},
        labelled_rows=1000,
        detail=detail,
    )


def answer(
    report: DriftReport | None = None,
    measured: PerformanceReport | None = None,
    *,
    on_drift: Action = "retrain",
    **history: Any,
) -> tuple[str, str]:
    return respond(
        report, measured, on_drift=on_drift, history=History(**history), now=NOW, cooldown=7 * DAY, stop_after=3
    )


@pytest.mark.parametrize(
    ("distances", "verdict"),
    [
        ([0.0, 0.0, 0.0, 0.0], Verdict.PASS),
        ([0.5, 0.0, 0.0, 0.0], Verdict.PASS),
        ([0.5, 0.1, 0.0, 0.0], Verdict.FAIL),
        ([0.5, None, 0.0, 0.0], Verdict.INCONCLUSIVE),
        ([0.0, None, 0.0, 0.0], Verdict.PASS),
        ([0.5, 0.5, None, None], Verdict.FAIL),
        ([None, None], Verdict.INCONCLUSIVE),
        ([], Verdict.INCONCLUSIVE),
    ],
)
def test_data_has_drifted_when_half_of_its_columns_have(distances: list[float | None], verdict: Verdict) -> None:
    assert judge_drift([column(distance) for distance in distances], share=0.5) is verdict


def test_the_drifted_share_counts_measured_columns_only() -> None:
    assert drifted_share([column(0.5), column(0.0), column(None)]) == 0.5
    assert drifted_share([column(None)]) is None
    assert drifted_share([]) is None


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "verdict"),
    [
        (0.58, 0.58, None, Verdict.PASS),
        (0.579, 0.58, None, Verdict.FAIL),
        (0.3, None, 0.3, Verdict.PASS),
        (0.301, None, 0.3, Verdict.FAIL),
        (0.5, 0.4, 0.6, Verdict.PASS),
        (0.7, 0.4, 0.6, Verdict.FAIL),
        (None, 0.58, None, Verdict.INCONCLUSIVE),
        (float("nan"), 0.58, None, Verdict.INCONCLUSIVE),
        (float("inf"), 0.58, None, Verdict.INCONCLUSIVE),
        (0.9, None, None, Verdict.INCONCLUSIVE),
    ],
)
def test_performance_is_held_to_its_limits(
    value: float | None, at_least: float | None, at_most: float | None, verdict: Verdict
) -> None:
    assert judge_performance(value, at_least=at_least, at_most=at_most) is verdict


def test_drift_asks_for_a_retraining_and_says_what_moved() -> None:
    action, reason = answer(drift(0.12, 0.42, 0.0, 0.3, 0.2))

    assert action == "retrain"
    assert reason == (
        "drift on 2013-05: 4 of 5 features moved (b 0.42, d 0.30, e 0.20, ...) against the training data of version 1"
    )


def test_lost_performance_asks_for_a_retraining_too() -> None:
    action, reason = answer(drift(0.0, verdict=Verdict.PASS), performance(0.5712, Verdict.FAIL))

    assert action == "retrain"
    assert "no drift on 2013-05" in reason
    assert "roc_auc 0.571 is out of its limits on 2013-05 (1,000 labelled rows, version 1)" in reason


@pytest.mark.parametrize("on_drift", ["alert", "nothing"])
def test_a_pipeline_may_ask_for_less(on_drift: Action) -> None:
    assert answer(drift(0.5), on_drift=on_drift)[0] == on_drift


def test_what_is_unknown_asks_for_nothing_and_is_said() -> None:
    action, reason = answer(
        drift(None, verdict=Verdict.INCONCLUSIVE), performance(None, Verdict.INCONCLUSIVE, "no labels yet")
    )

    assert action == "nothing"
    assert "unclear drift" in reason
    assert "roc_auc unmeasured is unknown" in reason
    assert "no labels yet" in reason


def test_nothing_measured_asks_for_nothing() -> None:
    assert answer() == ("nothing", "nothing was measured")


def test_a_second_request_waits_for_the_cooldown() -> None:
    within = answer(drift(0.5), requested_at=(NOW - 6 * DAY,), last_request=NOW - 6 * DAY)
    after = answer(drift(0.5), requested_at=(NOW - 7 * DAY,), last_request=NOW - 7 * DAY)

    assert within[0] == "nothing"
    assert "a retraining was asked for 6 d ago, within the cooldown of 7 d" in within[1]
    assert after[0] == "retrain"


def test_a_version_that_waits_for_approval_holds_retraining_back() -> None:
    action, reason = answer(drift(0.5), waiting_version=2)

    assert action == "nothing"
    assert "version 2 already waits for its approval" in reason


def test_retraining_stops_when_it_brings_no_release() -> None:
    old = NOW - 30 * DAY

    assert answer(drift(0.5), requested_at=(old, old), last_request=old)[0] == "retrain"
    action, reason = answer(drift(0.5), requested_at=(old, old, old), last_request=old)
    assert action == "alert"
    assert "3 retrainings brought no release" in reason
