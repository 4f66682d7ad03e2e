"""Everything that a candidate is compared with scores the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.evaluation.rows import ScoredRows, cluster_codes
from ml_lifecycle.core.contracts import Evaluation, GateRule, MeasurementSpec, Metric, TrainedModel, Verdict
from ml_lifecycle.core.errors import CallableNotFoundError, ChampionError, ColumnError, UnknownMetricError
from ml_lifecycle.stages.evaluation import EvaluationJob, RegistrationJob, evaluate, read_predictions, register
from ml_lifecycle.stages.runner import Tools, record
from tests.fakes.small_model import dataset, judged, released, request, rows, trained, with_project

FOREST = "sklearn.ensemble.RandomForestClassifier"
SMALL = {"n_estimators": 5, "max_depth": 3}


@pytest.fixture
def tools(tools: Tools, tmp_path: Path) -> Tools:
    return with_project(tools, tmp_path / "project")


def evaluated(tools: Tools, model: TrainedModel, **asked: Any) -> tuple[Evaluation, ScoredRows]:
    job = EvaluationJob.model_validate({"model": model, "metrics": ("brier",), "rehearse": False, **asked})
    evaluation = evaluate(job, tools)
    return evaluation, read_predictions(evaluation, tools)


def version_of(tools: Tools, model: TrainedModel) -> int:
    """The model's number in the registry, which the ledger knows."""
    evaluation, _ = evaluated(tools, model)
    decision = judged(tools, evaluation, GateRule(metric="brier", at_most=1.0))
    version = register(RegistrationJob(request=request(), decision=decision), tools)
    assert version is not None
    record("register", version, tools, model="flights")
    return version.version


# --- The baseline ----------------------------------------------------------------------------------------------------


def test_the_baseline_of_two_classes_is_the_training_rows_share(tools: Tools) -> None:
    evaluation, scored = evaluated(tools, trained(tools), baseline=True)

    share = rows()["late"].iloc[:320].mean()
    truth = rows()["late"].iloc[320:].to_numpy("float64")
    assert scored.scores["baseline"].tolist() == pytest.approx([share] * 80)
    assert evaluation.others["baseline"].version is None
    assert evaluation.others["baseline"].metrics["brier"].value == pytest.approx(((share - truth) ** 2).mean())
    difference = evaluation.others["baseline"].differences["brier"].estimate
    assert difference is not None
    assert difference > 0


def test_without_a_rule_that_asks_there_is_no_baseline(tools: Tools) -> None:
    evaluation, scored = evaluated(tools, trained(tools))

    assert evaluation.others == {}
    assert list(scored.scores) == ["candidate"]


def test_the_baseline_of_numbers_is_the_training_rows_mean(tools: Tools) -> None:
    found = dataset(tools, rows().assign(late=lambda table: table["distance"] * 3))
    model = trained(tools, found, estimator="sklearn.linear_model.LinearRegression")

    _, scored = evaluated(tools, model, baseline=True, metrics=("mae",))

    assert scored.scores["baseline"].tolist() == pytest.approx([3 * rows()["distance"].iloc[:320].mean()] * 80)


def test_weights_count_in_the_baseline_as_they_do_in_the_metrics(tools: Tools) -> None:
    table = rows().assign(seats=lambda table: np.where(table["late"], 3.0, 1.0))

    evaluation, scored = evaluated(
        tools, trained(tools, dataset(tools, table)), baseline=True, spec=MeasurementSpec(weight="seats")
    )

    late = int(rows()["late"].iloc[:320].sum())
    assert scored.scores["baseline"][0] == pytest.approx(3 * late / (3 * late + 320 - late))
    assert scored.weight is not None
    errors = (scored.scores["candidate"] - scored.truth) ** 2
    assert evaluation.metrics["brier"].value == pytest.approx(np.average(errors, weights=scored.weight))


@pytest.mark.parametrize(("value", "expected"), [(0.25, 0.25), (1, 1.0), (True, 1.0), (False, 0.0)])
def test_a_column_may_hold_the_baseline(value: Any, expected: float, tools: Tools) -> None:
    table = rows().assign(schedule=value)

    _, scored = evaluated(tools, trained(tools, dataset(tools, table)), spec=MeasurementSpec(baseline="schedule"))

    assert scored.scores["baseline"].tolist() == [expected] * 80


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan, "soon"])
def test_a_baseline_that_is_neither_a_label_nor_a_probability_is_refused(value: Any, tools: Tools) -> None:
    table = rows().assign(schedule=value)

    with pytest.raises(ColumnError, match="'schedule'"):
        evaluated(tools, trained(tools, dataset(tools, table)), spec=MeasurementSpec(baseline="schedule"))


def test_a_baseline_that_is_not_there_names_the_columns_that_are(tools: Tools) -> None:
    with pytest.raises(ColumnError, match=r"no column 'naive'.*carrier"):
        evaluated(tools, trained(tools), spec=MeasurementSpec(baseline="naive"))


# --- Weights and clusters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        (np.nan, r"80 of 80 weights are missing or negative"),
        (-1.0, r"80 of 80 weights are missing or negative"),
        (np.inf, r"80 of 80 weights are missing or negative"),
        (0.0, "all weights are 0"),
        ("heavy", "no numbers"),
    ],
)
def test_a_weight_that_says_nothing_is_refused(weights: Any, what: str, tools: Tools) -> None:
    table = rows().assign(seats=weights)

    with pytest.raises(ColumnError, match=what):
        evaluated(tools, trained(tools, dataset(tools, table)), spec=MeasurementSpec(weight="seats"))


def test_moments_that_are_stored_as_texts_make_days_too() -> None:
    texts = pd.DataFrame({"at": ["2013-01-01T00:30:00+01:00", "2013-01-01T00:30:00Z", "2012-12-31T12:00:00Z"]})

    found = cluster_codes(texts, "day", time="at")

    assert found is not None
    assert found.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("values", "cluster", "why"),
    [
        (["soon", "later"], "day", "'at' holds no moments"),
        ([1, 2], "week", "'at' holds no moments"),
        ([[1], [2]], "at", "'at' holds lists or records"),
    ],
)
def test_what_makes_no_cluster_is_named(values: list[object], cluster: str, why: str) -> None:
    with pytest.raises(ColumnError, match=why):
        cluster_codes(pd.DataFrame({"at": values}), cluster, time="at")


def test_lists_are_slices_by_their_text(tools: Tools) -> None:
    table = rows().assign(stops=pd.Series([["JFK"], ["JFK", "LGA"]] * 200))

    _, scored = evaluated(tools, trained(tools, dataset(tools, table)), slices=("stops",))

    assert sorted(set(scored.slices["stops"])) == ["['JFK' 'LGA']", "['JFK']"]


def test_rows_of_one_day_are_one_cluster(tools: Tools) -> None:
    _, scored = evaluated(tools, trained(tools), spec=MeasurementSpec(cluster="day"))

    # A column of that name wins over the day of the time.
    assert scored.cluster is not None
    assert len(set(scored.cluster.tolist())) == 7


# --- Versions --------------------------------------------------------------------------------------------------------


def test_a_version_that_a_rule_names_is_scored_on_the_same_rows(tools: Tools) -> None:
    found = dataset(tools)
    weak = trained(tools, found, hyperparameters={"C": 0.0001})
    number = version_of(tools, weak)

    evaluation, scored = evaluated(tools, trained(tools, found), versions=(number,))

    other = evaluation.others[str(number)]
    assert (other.version, other.digest) == (number, weak.digest)
    errors = (scored.scores[str(number)] - scored.truth) ** 2
    assert other.metrics["brier"].value == pytest.approx(errors.mean())
    assert evaluation.champion is None


def test_a_version_that_is_the_champion_is_scored_once_and_told_twice(tools: Tools) -> None:
    found = dataset(tools)
    released(tools, trained(tools, found, hyperparameters={"C": 0.0001}))

    evaluation, scored = evaluated(tools, trained(tools, found), versions=(1,))

    assert evaluation.champion is not None
    assert evaluation.others["1"].digest == evaluation.champion.digest
    assert scored.scores["1"].tolist() == scored.scores["champion"].tolist()


def test_a_version_that_was_never_registered_is_an_error_that_names_it(tools: Tools) -> None:
    with pytest.raises(ChampionError, match="no registration of version 9"):
        evaluated(tools, trained(tools), versions=(9,))


def test_a_version_whose_bytes_were_changed_is_an_error_that_names_it(tools: Tools, tmp_path: Path) -> None:
    found = dataset(tools)
    model = trained(tools, found)
    number = version_of(tools, model)
    package = tmp_path / "tracking" / "runs" / model.run_id / "artifacts" / "model" / model.digest[:12]
    (package / "golden.parquet").write_bytes(b"other")

    with pytest.raises(ChampionError, match=r"version 1 cannot be used: the model package has digest"):
        evaluated(tools, trained(tools, found, seed=8), versions=(number,))


def test_a_version_that_predicts_something_else_is_an_error(tools: Tools) -> None:
    found = dataset(tools, rows().assign(late=lambda table: np.where(table["late"], "late", "no")), uri="datasets/text")
    number = version_of(tools, trained(tools, found))

    with pytest.raises(ChampionError, match="version 1 cannot be scored: it predicts"):
        evaluated(tools, trained(tools), versions=(number,))


def test_a_version_that_was_trained_on_rows_as_new_as_the_held_ones_is_pointed_out(tools: Tools) -> None:
    newer = rows().assign(at=lambda table: table["at"] + pd.Timedelta(hours=100))
    model = trained(tools, dataset(tools, newer, uri="datasets/newer"), seed=8)
    number = version_of(tools, model)
    record("evaluate", evaluated(tools, model)[0], tools, model="flights")

    evaluation, _ = evaluated(tools, trained(tools), versions=(number,))

    # The holdout begins in hour 160, and that training ended in hour 159 + 100.
    assert evaluation.holdout is not None
    span = "up to 2013-01-11 19:00, and the holdout begins 2013-01-07 16:00"
    assert evaluation.holdout.warnings == (f"version 1 was trained on rows {span}: the comparison favours it",)


def test_a_champion_that_was_trained_before_the_holdout_is_not_pointed_out(tools: Tools) -> None:
    found = dataset(tools)
    model = trained(tools, found, seed=8)
    released(tools, model)
    record("evaluate", evaluated(tools, model)[0], tools, model="flights")

    evaluation, _ = evaluated(tools, trained(tools, found))

    assert evaluation.holdout is not None
    assert evaluation.holdout.warnings == ()


# --- Metrics ---------------------------------------------------------------------------------------------------------


def test_a_metric_of_the_teams_own_is_measured(tools: Tools) -> None:
    (tools.project / "crew" / "ours.py").write_text("def missed(truth, score):\n    return float(truth.sum())\n")

    evaluation, scored = evaluated(tools, trained(tools), metrics=("brier", "crew.ours:missed"))

    assert evaluation.metrics["crew.ours:missed"].value == float(scored.truth.sum())


def test_a_metric_of_the_teams_own_that_is_not_there_is_an_error(tools: Tools) -> None:
    with pytest.raises(CallableNotFoundError, match="no function 'missing'"):
        evaluated(tools, trained(tools), metrics=("crew.features:missing",))


def test_a_metric_of_another_task_is_an_error(tools: Tools) -> None:
    with pytest.raises(UnknownMetricError, match="'rmse'"):
        evaluated(tools, trained(tools), metrics=("rmse",))


def test_what_the_serving_check_measures_is_not_measured_on_rows(tools: Tools) -> None:
    evaluation, _ = evaluated(tools, trained(tools), metrics=("brier", "latency_p95_ms"))

    assert list(evaluation.metrics) == ["brier"]


# --- More than two classes -------------------------------------------------------------------------------------------


def by_carrier(table: pd.DataFrame) -> pd.DataFrame:
    """Three classes that the distance and the day tell something about."""
    kinds = np.array(["early", "late", "on time"])
    classes: pd.DataFrame = table.assign(late=kinds[(2 * table["late"] + (table["day"] > 3)).clip(upper=2)])
    return classes


def test_several_classes_are_trained_packaged_evaluated_and_judged(tools: Tools) -> None:
    found = dataset(tools, by_carrier(rows()))
    released_model = trained(tools, found, estimator=FOREST, hyperparameters={**SMALL, "max_depth": 1})
    version_of(tools, released_model)
    model = trained(tools, found, estimator=FOREST, hyperparameters=SMALL)
    metrics = ("roc_auc", "log_loss", "brier", "accuracy")

    evaluation, scored = evaluated(
        tools, model, metrics=metrics, slices=("carrier",), baseline=True, versions=(1,), rehearse=True
    )
    rules = (GateRule(metric="accuracy", at_least=0.1), GateRule(metric="log_loss", versus="baseline", margin=1.0))
    decision = judged(tools, evaluation, *rules)

    assert (evaluation.task, evaluation.classes) == ("multiclass", ("early", "late", "on time"))
    assert scored.scores["candidate"].shape == (80, 3)
    assert set(scored.truth) <= {0.0, 1.0, 2.0}
    said = scored.scores["candidate"].argmax(axis=1)
    assert evaluation.metrics["accuracy"].value == pytest.approx((said == scored.truth).mean())
    shares = by_carrier(rows())["late"].iloc[:320].value_counts(normalize=True).sort_index()
    assert scored.scores["baseline"][0].tolist() == pytest.approx(shares.tolist())
    assert all(isinstance(evaluation.metrics[name], Metric) for name in metrics)
    assert evaluation.serving is not None
    assert evaluation.serving.verdict is Verdict.PASS, evaluation.serving.detail
    assert decision.verdict is Verdict.PASS


def test_a_label_column_may_be_the_baseline_of_several_classes(tools: Tools) -> None:
    table = by_carrier(rows()).assign(schedule="late")

    _, scored = evaluated(
        tools,
        trained(tools, dataset(tools, table), estimator=FOREST, hyperparameters=SMALL),
        spec=MeasurementSpec(baseline="schedule"),
    )

    assert scored.scores["baseline"][0].tolist() == [0.0, 1.0, 0.0]


def test_a_baseline_of_unknown_labels_is_refused(tools: Tools) -> None:
    table = by_carrier(rows()).assign(schedule="never")

    with pytest.raises(ColumnError, match="'schedule' holds other values than early, late, on time"):
        evaluated(
            tools,
            trained(tools, dataset(tools, table), estimator=FOREST, hyperparameters=SMALL),
            spec=MeasurementSpec(baseline="schedule"),
        )


def test_a_class_that_training_never_saw_cannot_be_judged(tools: Tools) -> None:
    table = by_carrier(rows())
    table.loc[399, "late"] = "diverted"

    with pytest.raises(ColumnError, match="the holdout's target holds diverted, which training never saw"):
        evaluated(tools, trained(tools, dataset(tools, table), estimator=FOREST, hyperparameters=SMALL))
