from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.files import write_parquet
from ml_lifecycle.core.contracts import Columns, DropRule, RunRequest, Scalar, ScoredPartition, Source, Verdict
from ml_lifecycle.core.errors import DigestMismatchError
from ml_lifecycle.stages import runner
from ml_lifecycle.stages.performance import PerformanceJob, measure_performance
from ml_lifecycle.stages.runner import Tools

COLUMNS = Columns(key="trip", time="leaves", target="late")
LABELS = Source(uri="outcomes/{{ partition }}.parquet")


def request(partition: str = "2013-02") -> RunRequest:
    return RunRequest(model="trips", stream="monitor", partition=partition, partitions=(partition,))


def score(
    tools: Tools,
    scores: list[float],
    *,
    keys: str = "abcd",
    partition: str = "2013-02",
    classes: tuple[Scalar, ...] = (False, True),
    probabilities: dict[str, list[float]] | None = None,
) -> ScoredPartition:
    """Predictions as scoring publishes them."""
    uri = f"scored/{partition}"
    labels = [value >= 0.5 for value in scores]
    table = pd.DataFrame({"trip": list(keys), "score": scores, "label": labels, **(probabilities or {})})
    fingerprint = tools.data.publish(uri, lambda folder: write_parquet(table, folder / "predictions.parquet"))
    scored = ScoredPartition(
        model="trips",
        partition=partition,
        uri=uri,
        rows=len(table),
        version=3,
        digest="1" * 64,
        fingerprint=fingerprint,
        dataset_fingerprint="2" * 64,
        classes=classes,
    )
    runner.record("score", scored, tools, model="trips")
    return scored


def outcomes(tmp_path: Path, **columns: Any) -> None:
    (tmp_path / "data/outcomes").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_parquet(tmp_path / "data/outcomes/2013-02.parquet")


def performance_job(**changes: Any) -> PerformanceJob:
    values: dict[str, Any] = {
        "request": request(),
        "scored": Source(uri="scored/{{ partition }}"),
        "labels": LABELS,
        "columns": COLUMNS,
        "metric": "accuracy",
        "at_least": 0.75,
        "min_rows": 4,
        **changes,
    }
    return PerformanceJob(**values)


SCORES = [0.9, 0.8, 0.3, 0.1]


@pytest.mark.parametrize(
    ("late", "value", "verdict"),
    [([True, True, False, True], 0.75, Verdict.PASS), ([True, False, False, True], 0.5, Verdict.FAIL)],
)
def test_predictions_are_held_against_their_labels(
    late: list[bool], value: float, verdict: Verdict, tools: Tools, tmp_path: Path
) -> None:
    score(tools, SCORES)
    outcomes(tmp_path, trip=list("dcba"), late=late[::-1])

    report = measure_performance(performance_job(), tools)

    assert report.verdict is verdict
    assert report.metrics["accuracy"].value == pytest.approx(value)
    assert (report.version, report.labelled_rows, report.partition) == (3, 4, "2013-02")


def test_rows_without_a_label_and_rows_that_a_rule_drops_do_not_count(tools: Tools, tmp_path: Path) -> None:
    score(tools, SCORES)
    late = pd.array([True, False, None], dtype="boolean")
    outcomes(tmp_path, trip=list("abc"), late=late, minutes=[20.0, None, 1.0])
    rule = DropRule(column="minutes", because="never arrived")

    report = measure_performance(performance_job(drop=(rule,)), tools)

    assert (report.labelled_rows, report.metrics["accuracy"].value) == (1, 1.0)


@pytest.mark.parametrize("late", [["no", "yes"] * 2, [1, 2] * 2, [0.0, 1.0] * 2, [False, True] * 2])
def test_a_target_may_be_text_or_number(late: list[Any], tools: Tools, tmp_path: Path) -> None:
    score(tools, [0.1, 0.9, 0.2, 0.8], classes=tuple(late[:2]))
    outcomes(tmp_path, trip=list("abcd"), late=late)

    report = measure_performance(performance_job(metric="roc_auc"), tools)

    assert report.metrics["roc_auc"].value == 1.0


@pytest.mark.parametrize(
    ("classes", "late"),
    [
        (("no", "yes"), ["no"] * 4),
        ((1, 2), [1] * 4),
        ((False, True), [False, False, False, None]),
        ((False, True), [0.0] * 4),
    ],
)
def test_a_month_of_one_class_is_measured_against_the_class_that_the_scores_are_about(
    classes: tuple[Scalar, ...], late: list[Any], tools: Tools, tmp_path: Path
) -> None:
    score(tools, [0.1, 0.2, 0.3, 0.1], classes=classes)
    outcomes(tmp_path, trip=list("abcd"), late=late)

    report = measure_performance(performance_job(), tools)

    assert report.metrics["accuracy"].value == 1.0


@pytest.mark.parametrize(("metric", "value"), [("accuracy", 0.75), ("log_loss", -math.log(0.8 * 0.7 * 0.6 * 0.1) / 4)])
def test_several_classes_are_measured_by_their_probabilities(
    metric: str, value: float, tools: Tools, tmp_path: Path
) -> None:
    columns = {"score_1": [0.8, 0.2, 0.1, 0.7], "score_2": [0.1, 0.7, 0.3, 0.2], "score_3": [0.1, 0.1, 0.6, 0.1]}
    score(tools, [0.8, 0.7, 0.6, 0.7], classes=(1, 2, 3), probabilities=columns)
    outcomes(tmp_path, trip=list("abcd"), late=[1, 2, 3, 3])

    report = measure_performance(performance_job(metric=metric), tools)

    assert report.metrics[metric].value == pytest.approx(value)


def test_a_class_that_the_model_does_not_know_leaves_it_inconclusive(tools: Tools, tmp_path: Path) -> None:
    columns = {f"score_{label}": [0.4, 0.3, 0.3, 0.2] for label in (1, 2, 3)}
    score(tools, SCORES, classes=(1, 2, 3), probabilities=columns)
    outcomes(tmp_path, trip=list("abcd"), late=[1, 2, 3, 4])

    report = measure_performance(performance_job(), tools)

    assert (report.verdict, report.detail) == (Verdict.INCONCLUSIVE, "accuracy is undefined on these rows")


def test_predictions_that_name_no_classes_are_about_the_label_that_sorts_last(tools: Tools, tmp_path: Path) -> None:
    score(tools, [0.1, 0.9, 0.2, 0.8], classes=())
    outcomes(tmp_path, trip=list("abcd"), late=["no", "yes"] * 2)

    report = measure_performance(performance_job(metric="roc_auc"), tools)

    assert report.metrics["roc_auc"].value == 1.0


def test_no_predictions_is_inconclusive(tools: Tools) -> None:
    report = measure_performance(performance_job(), tools)

    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.detail == "no predictions are published at scored/2013-02"
    assert (report.version, report.labelled_rows) == (None, 0)


@pytest.mark.parametrize(
    ("labels", "detail"),
    [
        (None, "the labels are not there yet"),
        (
            {"trip": list("abcd"), "late": pd.array([None] * 4, dtype="boolean")},
            "none of the 4 predictions has a label",
        ),
        ({"trip": list("wxyz"), "late": [True] * 4}, "none of the 4 predictions has a label"),
        ({"trip": list("aacd"), "late": [True] * 4}, "the labels cannot be joined"),
        ({"trip": list("abcd"), "lately": [True] * 4}, "did you mean 'lately'"),
        ({"trip": [1, 2, 3, 4], "late": [True] * 4}, "the labels cannot be joined"),
    ],
)
def test_labels_that_are_not_there_are_inconclusive_and_never_a_crash(
    labels: dict[str, Any] | None, detail: str, tools: Tools, tmp_path: Path
) -> None:
    score(tools, SCORES)
    if labels is not None:
        outcomes(tmp_path, **labels)

    report = measure_performance(performance_job(), tools)

    assert report.verdict is Verdict.INCONCLUSIVE
    assert detail in report.detail
    assert report.version == 3


@pytest.mark.parametrize(
    ("changes", "detail"),
    [({"metric": "roc_auc"}, "roc_auc is undefined on these rows"), ({"at_least": None}, "no limit was set")],
)
def test_an_undefined_metric_or_no_limit_is_inconclusive(
    changes: dict[str, Any], detail: str, tools: Tools, tmp_path: Path
) -> None:
    score(tools, SCORES)
    outcomes(tmp_path, trip=list("abcd"), late=[True] * 4)

    report = measure_performance(performance_job(**changes), tools)

    assert (report.verdict, report.detail) == (Verdict.INCONCLUSIVE, detail)


def test_a_handful_of_labels_says_nothing(tools: Tools, tmp_path: Path) -> None:
    score(tools, SCORES)
    outcomes(tmp_path, trip=list("abcd"), late=[False] * 4)

    report = measure_performance(performance_job(min_rows=5), tools)

    assert (report.verdict, report.detail) == (Verdict.INCONCLUSIVE, "only 4 rows have labels, 5 are needed")


def test_predictions_that_were_changed_are_refused(tools: Tools, tmp_path: Path) -> None:
    score(tools, SCORES)
    outcomes(tmp_path, trip=list("abcd"), late=[True] * 4)
    table = pd.DataFrame({"trip": list("abcd"), "score": [1.0] * 4})
    table.to_parquet(tmp_path / "data/scored/2013-02/predictions.parquet")

    with pytest.raises(DigestMismatchError, match="the published predictions"):
        measure_performance(performance_job(), tools)


def test_predictions_that_no_stage_made_are_not_measured(tools: Tools, tmp_path: Path) -> None:
    table = pd.DataFrame({"trip": list("abcd"), "score": [1.0] * 4})
    tools.data.publish("scored/2013-02", lambda folder: write_parquet(table, folder / "predictions.parquet"))

    report = measure_performance(performance_job(), tools)

    assert report.verdict is Verdict.INCONCLUSIVE
    assert "the ledger knows of no scoring" in report.detail
