from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.files import write_parquet
from ml_lifecycle.backends.monitoring.prediction_log import read_labels
from ml_lifecycle.core.contracts import (
    Columns,
    DropRule,
    MeasurementSpec,
    RunRequest,
    Scalar,
    ScoredPartition,
    Source,
    Verdict,
)
from ml_lifecycle.core.errors import DigestMismatchError, PassingError, UnknownMetricError
from ml_lifecycle.stages import runner
from ml_lifecycle.stages.evaluation import EvaluationJob, evaluate
from ml_lifecycle.stages.performance import PerformanceJob, measure_performance
from ml_lifecycle.stages.runner import Tools
from tests.fakes.small_model import trained, with_project

COLUMNS = Columns(key="trip", time="leaves", target="late")
LABELS = Source(uri="outcomes/{{ partition }}.parquet")


def request(partition: str = "2013-02", *, model: str = "trips") -> RunRequest:
    return RunRequest(model=model, stream="monitor", partition=partition, partitions=(partition,))


def publish(
    tools: Tools,
    table: pd.DataFrame,
    *,
    model: str = "trips",
    classes: tuple[Scalar, ...] = (False, True),
    digest: str = "1" * 64,
    seen: pd.DataFrame | None = None,
) -> ScoredPartition:
    """Predictions as scoring publishes them."""
    uri = "scored/2013-02"

    def write(folder: Path) -> None:
        write_parquet(table, folder / "predictions.parquet")
        if seen is not None:
            write_parquet(seen, folder / "inputs.parquet")

    fingerprint = tools.data.publish(uri, write)
    scored = ScoredPartition(
        model=model,
        partition="2013-02",
        uri=uri,
        rows=len(table),
        version=3,
        digest=digest,
        fingerprint=fingerprint,
        dataset_fingerprint="2" * 64,
        classes=classes,
    )
    runner.record("score", scored, tools, model=model)
    return scored


def score(
    tools: Tools,
    scores: list[float],
    *,
    keys: str = "abcd",
    classes: tuple[Scalar, ...] = (False, True),
    probabilities: dict[str, list[float]] | None = None,
) -> ScoredPartition:
    """A few rows with these scores."""
    labels = [value >= 0.5 for value in scores]
    table = pd.DataFrame({"trip": list(keys), "score": scores, "label": labels, **(probabilities or {})})
    return publish(tools, table, classes=classes)


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
        # Four rows show nothing: what is said of them is the estimate's.
        "confidence": 0.5,
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

    assert (report.verdict, report.detail) == (
        Verdict.INCONCLUSIVE,
        "the labels hold 4, which the model does not know",
    )


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
    [
        ({"metric": "roc_auc"}, "roc_auc is undefined on these rows: the rows hold one class only"),
        ({"at_least": None}, "no limit was set"),
    ],
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


# --- What labels are enough for --------------------------------------------------------------------------------------


def many(tools: Tools, tmp_path: Path, *, right: int, rows: int = 400, labelled: int | None = None) -> None:
    """So many rows, of which the first ``right`` ones turn out as predicted."""
    keys = [f"t{place}" for place in range(rows)]
    table = pd.DataFrame(
        {"trip": keys, "score": [0.9] * rows, "leaves": pd.date_range("2013-02-01", periods=rows, freq="h")}
    )
    publish(tools, table)
    late = [place < right for place in range(rows)]
    outcomes(tmp_path, trip=keys[:labelled], late=late[:labelled])


def accuracy_job(**changes: Any) -> PerformanceJob:
    return performance_job(**{"at_least": 0.8, "confidence": 0.95, "min_rows": 30, **changes})


@pytest.mark.parametrize(
    ("right", "verdict"),
    # Wilson's one-sided 95% bounds are 0.810 and up, 0.799 to 0.861, 0.765 to 0.831, and 0.799 at most.
    [(337, Verdict.PASS), (333, Verdict.INCONCLUSIVE), (320, Verdict.INCONCLUSIVE), (306, Verdict.FAIL)],
)
def test_a_limit_is_held_or_broken_where_the_bound_says_so(
    right: int, verdict: Verdict, tools: Tools, tmp_path: Path
) -> None:
    many(tools, tmp_path, right=right)

    report = measure_performance(accuracy_job(), tools)

    assert report.verdict is verdict
    assert report.metrics["accuracy"].value == right / 400
    assert (report.predictions, report.labelled_rows, report.unlabelled_rows) == (400, 400, 0)


def test_the_bounds_say_what_is_missing(tools: Tools, tmp_path: Path) -> None:
    many(tools, tmp_path, right=333)
    unclear = measure_performance(accuracy_job(), tools).detail
    broken = measure_performance(accuracy_job(at_least=0.95), tools).detail

    assert re.fullmatch(
        r"0\.79\d+ to 0\.86\d+ neither meets nor breaks accuracy at least 0\.8 \(about [\d,]+ more rows .+\)",
        unclear,
    )
    assert broken == "0.8325, at most 0.861 at 95% confidence, breaks accuracy at least 0.95"


def test_two_limits_both_have_to_hold(tools: Tools, tmp_path: Path) -> None:
    many(tools, tmp_path, right=360)

    inside = measure_performance(accuracy_job(at_most=0.99), tools)
    above = measure_performance(accuracy_job(at_most=0.85), tools)

    assert (inside.verdict, above.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert "at least 0.87" in above.detail


def test_rows_of_one_day_count_for_less_where_they_are_alike(tools: Tools, tmp_path: Path) -> None:
    many(tools, tmp_path, right=337)

    alone = measure_performance(accuracy_job(), tools).metrics["accuracy"]
    by_day = measure_performance(accuracy_job(spec=MeasurementSpec(cluster="day")), tools)

    wide = by_day.metrics["accuracy"]
    assert alone.low is not None
    assert wide.low is not None
    assert wide.low < alone.low
    assert by_day.verdict is Verdict.INCONCLUSIVE


def test_rows_that_cannot_be_clustered_as_asked_are_not_judged(tools: Tools, tmp_path: Path) -> None:
    many(tools, tmp_path, right=400)

    report = measure_performance(accuracy_job(spec=MeasurementSpec(cluster="airport")), tools)

    assert report.verdict is Verdict.INCONCLUSIVE
    assert "'airport' is not among the columns of the labels" in report.detail


def test_a_few_early_labels_are_not_judged_where_more_are_asked_for(tools: Tools, tmp_path: Path) -> None:
    many(tools, tmp_path, right=400, labelled=100)

    plain = measure_performance(accuracy_job(), tools)
    asked = measure_performance(accuracy_job(min_coverage=0.5), tools)

    assert (plain.verdict, plain.unlabelled_rows) == (Verdict.PASS, 300)
    assert asked.verdict is Verdict.INCONCLUSIVE
    assert asked.detail.startswith("only 25.0% of the predictions have a label, 50.0% are needed: ")


def test_every_label_is_accounted_for(tools: Tools, tmp_path: Path) -> None:
    score(tools, [0.9] * 6, keys="abcdef")
    outcomes(
        tmp_path,
        trip=[*"aabbcdzd", None],
        late=pd.array([True, True, True, False, False, None, True, None, True], dtype="boolean"),
    )
    rule = DropRule(column="late", because="never arrived")

    report = measure_performance(performance_job(drop=(rule,), min_rows=1), tools)

    # a twice, b contradicted, c once, d dropped (and said twice), e and f without a label; z was not predicted.
    assert (report.predictions, report.labelled_rows, report.dropped_rows, report.unlabelled_rows) == (6, 2, 1, 3)
    assert (report.duplicate_labels, report.conflicting_labels) == (2, 1)
    assert report.metrics["accuracy"].value == 0.5
    assert "1 labels are of rows that were not predicted; 1 labels have no key" in report.detail
    assert report.labels_digest == tools.data.file_digest("outcomes/2013-02.parquet")


def test_labels_that_all_contradict_each_other_are_counted(tools: Tools, tmp_path: Path) -> None:
    score(tools, [0.9, 0.1], keys="ab")
    outcomes(tmp_path, trip=list("aabb"), late=[True, False, True, False])

    report = measure_performance(performance_job(), tools)

    assert report.verdict is Verdict.INCONCLUSIVE
    assert (report.conflicting_labels, report.unlabelled_rows, report.labelled_rows) == (2, 2, 0)
    assert report.detail == "none of the 2 predictions has a label in outcomes/2013-02.parquet"


def test_the_log_takes_back_labels_that_were_contradicted_since(tools: Tools, tmp_path: Path) -> None:
    score(tools, [0.9, 0.1], keys="ab")
    outcomes(tmp_path, trip=list("ab"), late=[True, False], told=["2013-02-03", "2013-02-04"])
    job = performance_job(labelled_at="told")
    runner.record("measure_performance", measure_performance(job, tools), tools, model="trips")
    before = read_labels(tmp_path / "data" / "log", "trips")
    outcomes(tmp_path, trip=list("aabb"), late=[True, False] * 2, told=["2013-02-03"] * 4)

    measure_performance(job, tools)

    assert before.set_index("key")["label"].to_dict() == {"a": "True", "b": "False"}
    assert before.set_index("key")["labelled_at"].dt.day.to_dict() == {"a": 3, "b": 4}
    assert len(read_labels(tmp_path / "data" / "log", "trips")) == 0


def test_the_lag_of_labels_is_told_and_clocks_that_run_backwards_too(tools: Tools, tmp_path: Path) -> None:
    leaves = pd.to_datetime(["2013-02-01T23:59:59.999Z"] * 3, utc=True)
    publish(tools, pd.DataFrame({"trip": list("abc"), "leaves": leaves, "score": [0.9] * 3}))
    told = ["2013-02-02T00:59:59.999+01:00", "2013-02-02T00:00:59.999", "2013-02-01T12:00:00Z"]
    outcomes(tmp_path, trip=list("abc"), late=[True] * 3, told=told)

    report = measure_performance(performance_job(labelled_at="told", min_rows=1), tools)

    # The first label came at once, the second after a minute, the third before its row.
    assert report.lag_s == 30.0
    assert "1 labels are older than their rows" in report.detail


def test_numbers_are_held_to_their_limits(tools: Tools, tmp_path: Path) -> None:
    score(tools, [1.0, 2.0, 3.0, 4.0], classes=())
    outcomes(tmp_path, trip=list("abcd"), late=[1.5, 2.5, 2.0, 4.0])

    report = measure_performance(performance_job(metric="mae", at_least=None, at_most=0.6), tools)

    assert report.metrics["mae"].value == pytest.approx(0.5)
    assert report.verdict is Verdict.PASS


def test_labels_that_change_while_they_are_read_are_read_again_later(tools: Tools, tmp_path: Path) -> None:
    class Changing(LocalStore):
        def read_table(self, uri: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
            table = super().read_table(uri, columns)
            outcomes(tmp_path, trip=list("abcd"), late=[False] * 4, more=[1] * 4)
            return table

    score(tools, SCORES)
    outcomes(tmp_path, trip=list("abcd"), late=[True] * 4)

    with pytest.raises(PassingError, match="the labels changed while they were read"):
        measure_performance(performance_job(), dataclasses.replace(tools, data=Changing(tmp_path / "data")))


def test_a_metric_that_does_not_fit_is_refused_before_labels_are_there(tools: Tools) -> None:
    score(tools, SCORES)

    with pytest.raises(UnknownMetricError, match="'acuracy' is not a metric of a binary model"):
        measure_performance(performance_job(metric="acuracy"), tools)


def test_a_team_s_own_metric_is_measured_on_labels(tools: Tools, tmp_path: Path) -> None:
    module = tmp_path / "project" / "include" / "hits.py"
    module.parent.mkdir(parents=True)
    module.write_text("def share(truth, score):\n    return float(((score > 0.5) == truth).mean())\n")
    tools = dataclasses.replace(tools, project=tmp_path / "project")
    many(tools, tmp_path, right=360)

    report = measure_performance(accuracy_job(metric="include.hits:share"), tools)

    assert report.metrics["include.hits:share"].value == 0.9
    assert report.verdict is Verdict.PASS


# --- Before labels are there -----------------------------------------------------------------------------------------


def test_before_labels_are_there_the_performance_is_estimated(tools: Tools) -> None:
    score(tools, SCORES)

    report = measure_performance(performance_job(), tools)

    # Decided right in 0.9, 0.8, 0.7 and 0.9 of such rows.
    assert report.estimate is not None
    assert report.estimate.value == pytest.approx((0.9 + 0.8 + 0.7 + 0.9) / 4)
    assert not report.estimate.valid
    assert (report.verdict, report.unlabelled_rows) == (Verdict.INCONCLUSIVE, 4)
    assert report.detail.startswith("the labels are not there yet")


def test_the_estimate_stays_beside_the_measured_value(tools: Tools, tmp_path: Path) -> None:
    many(tools, tmp_path, right=337)

    report = measure_performance(accuracy_job(), tools)

    assert report.estimate is not None
    assert report.estimate.value == pytest.approx(0.9)


def test_a_regression_says_why_it_is_not_estimated(tools: Tools) -> None:
    score(tools, [1.0, 2.0, 3.0, 4.0], classes=())

    report = measure_performance(performance_job(metric="mae"), tools)

    assert report.estimate is not None
    assert report.estimate.value is None
    assert "a regression" in report.estimate.condition


def test_rows_that_only_labels_can_cluster_are_not_estimated(tools: Tools) -> None:
    score(tools, SCORES)

    report = measure_performance(performance_job(spec=MeasurementSpec(cluster="airport")), tools)

    assert report.estimate is not None
    assert "'airport', which it is measured by, comes with the labels at best" in report.estimate.condition


def test_rows_are_weighed_and_clustered_by_what_the_model_saw_of_them(tools: Tools, tmp_path: Path) -> None:
    table = pd.DataFrame({"trip": list("abcd"), "score": SCORES})
    seen = pd.DataFrame({"trip": list("abcd"), "seats": [1.0, 1.0, 1.0, 5.0], "airport": list("xxyz")})
    publish(tools, table, seen=seen)
    outcomes(tmp_path, trip=list("abcd"), late=[True, True, False, True])

    report = measure_performance(performance_job(spec=MeasurementSpec(weight="seats", cluster="airport")), tools)

    # The last row counts for five, and is wrong.
    assert report.metrics["accuracy"].value == pytest.approx(3 / 8)
    assert report.estimate is not None
    assert report.estimate.value == pytest.approx((0.9 + 0.8 + 0.7 + 5 * 0.9) / 8)


def test_the_holdout_of_the_model_that_predicted_says_whether_the_estimate_holds(tools: Tools, tmp_path: Path) -> None:
    tools = with_project(tools, tmp_path / "project")
    model = trained(tools)
    judged = evaluate(EvaluationJob(model=model, rehearse=False), tools)
    runner.record("evaluate", judged, tools, model="flights")
    table = pd.DataFrame({"trip": list("abcd"), "score": SCORES})
    publish(tools, table, model="flights", digest=model.digest)

    report = measure_performance(performance_job(request=request(model="flights")), tools)

    assert report.estimate is not None
    assert f"On {judged.metrics['roc_auc'].rows:,} rows of the holdout" in report.estimate.condition
    assert report.estimate.calibration_error is not None
