"""Metrics against values worked out by hand, and against scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.backends.evaluation.metrics import calibration_curve, check_metric, measure
from ml_lifecycle.backends.evaluation.rows import ScoredRows, Task
from ml_lifecycle.core.contracts import MeasurementSpec
from ml_lifecycle.core.errors import UnknownMetricError
from ml_lifecycle.core.evaluation import METRICS

BINARY = ("roc_auc", "average_precision", "log_loss", "brier", "accuracy", "balanced_accuracy", "precision", "recall")
NUMBERS = ("mae", "rmse", "mape", "wape", "bias", "r2")


def rows_of(truth: Any, score: Any, *, task: Task = "binary", weight: Any = None, **more: Any) -> ScoredRows:
    truth = np.asarray(truth, dtype="float64")
    classes = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}[task]
    return ScoredRows(
        task=task,
        truth=truth,
        scores={"candidate": np.asarray(score, dtype="float64")},
        keys=np.arange(len(truth)),
        weight=None if weight is None else np.asarray(weight, dtype="float64"),
        **{"classes": classes, **more},
    )


def of(name: str, truth: Any, score: Any, **more: Any) -> float | None:
    spec = more.pop("spec", MeasurementSpec())
    return measure(name, rows_of(truth, score, **more), spec=spec)


def wins(positive: float, negative: float) -> float:
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


def brute_auc(target: list[int], score: list[float]) -> float:
    """Mann and Whitney: the share of pairs in which the positive one has the higher score."""
    positives = [s for t, s in zip(target, score, strict=True) if t]
    negatives = [s for t, s in zip(target, score, strict=True) if not t]
    return sum(wins(p, n) for p, n in product(positives, negatives)) / (len(positives) * len(negatives))


# --- Binary ----------------------------------------------------------------------------------------------------------


def test_a_perfect_order_has_an_area_of_one() -> None:
    assert of("roc_auc", [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 1.0


def test_scores_that_are_all_equal_have_an_area_of_one_half() -> None:
    assert of("roc_auc", [0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3]) == 0.5


def test_one_pair_of_four_in_the_wrong_order_leaves_three_quarters() -> None:
    assert of("roc_auc", [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(rows: list[tuple[int, int]]) -> None:
    target, score = [row[0] for row in rows], [row[1] / 8 for row in rows]

    found = of("roc_auc", target, score)

    if len(set(target)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(brute_auc(target, score))


def test_log_loss_brier_and_accuracy_have_their_textbook_values() -> None:
    target, score = [1, 0, 1, 0], [0.8, 0.4, 0.5, 0.9]

    assert of("log_loss", target, score) == pytest.approx(
        -(math.log(0.8) + math.log(0.6) + math.log(0.5) + math.log(0.1)) / 4
    )
    assert of("brier", target, score) == pytest.approx((0.04 + 0.16 + 0.25 + 0.81) / 4)
    assert of("accuracy", target, score) == 0.75


def test_decisions_are_counted_from_the_threshold_on() -> None:
    target, score = [1, 1, 1, 0, 0], [0.9, 0.6, 0.2, 0.7, 0.1]

    assert of("precision", target, score) == pytest.approx(2 / 3)
    assert of("recall", target, score) == pytest.approx(2 / 3)
    assert of("f1", target, score) == pytest.approx(2 / 3)
    assert of("false_positive_rate", target, score) == 0.5
    assert of("selection_rate", target, score) == 0.6
    assert of("selection_rate", target, score, spec=MeasurementSpec(threshold=0.9)) == 0.2


def test_a_cost_is_what_the_table_says_of_the_true_label_and_then_the_decided_one() -> None:
    spec = MeasurementSpec(costs={"yes": {"no": 5.0}, "no": {"yes": 1.0, "no": -0.5}})

    found = of("cost", [1, 1, 0, 0], [0.1, 0.9, 0.8, 0.2], spec=spec)

    assert found == pytest.approx((5 + 0 + 1 - 0.5) / 4)


def test_bias_is_what_is_predicted_too_high_on_average() -> None:
    assert of("bias", [1, 0, 1, 0], [0.9, 0.4, 0.8, 0.3]) == pytest.approx(0.1)
    assert of("mean_prediction", [1, 0, 1, 0], [0.9, 0.4, 0.8, 0.3]) == pytest.approx(0.6)


def test_calibration_error_is_the_mean_gap_over_bins_of_equal_size() -> None:
    score = [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95]
    target = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]

    found = of("calibration_error", target, score)

    assert found == pytest.approx(2 * (0.05 + 0.15 + 0.25 + 0.35 + 0.45) / 10)


def test_stated_shares_that_come_true_are_calibrated() -> None:
    assert of("calibration_error", [1, 0, 0, 0, 1, 1, 1, 0], [0.25] * 4 + [0.75] * 4) == 0.0


def test_a_calibration_curve_has_a_point_per_bin_and_shares_bins_between_equal_scores() -> None:
    rows = rows_of([1, 0, 0, 0, 1, 1, 1, 0], [0.25] * 4 + [0.75] * 4)

    said, true, weight = calibration_curve(rows, bins=10)

    assert said.tolist() == [0.25, 0.75]
    assert true.tolist() == [0.25, 0.75]
    assert weight.tolist() == [4.0, 4.0]


SCIKIT: dict[str, Callable[..., float]] = {
    "roc_auc": lambda y, s, w: sk.roc_auc_score(y, s, sample_weight=w),
    "average_precision": lambda y, s, w: sk.average_precision_score(y, s, sample_weight=w),
    "log_loss": lambda y, s, w: sk.log_loss(y, s, sample_weight=w),
    "brier": lambda y, s, w: sk.brier_score_loss(y, s, sample_weight=w),
    "accuracy": lambda y, s, w: sk.accuracy_score(y, s >= 0.5, sample_weight=w),
    "balanced_accuracy": lambda y, s, w: sk.balanced_accuracy_score(y, s >= 0.5, sample_weight=w),
    "precision": lambda y, s, w: sk.precision_score(y, s >= 0.5, sample_weight=w),
    "recall": lambda y, s, w: sk.recall_score(y, s >= 0.5, sample_weight=w),
    "f1": lambda y, s, w: sk.f1_score(y, s >= 0.5, sample_weight=w),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SCIKIT)
def test_binary_metrics_agree_with_scikit_learn(name: str, *, weighted: bool) -> None:
    rng = np.random.default_rng(5)
    target = rng.integers(0, 2, 300)
    score = np.clip(np.round(0.3 * target + rng.random(300) * 0.7, 2), 0.01, 0.99)
    weight = rng.integers(0, 4, 300).astype("float64") if weighted else None

    found = of(name, target, score, weight=weight)

    assert found == pytest.approx(SCIKIT[name](target, score, weight), abs=1e-12)


def test_a_row_of_weight_three_counts_as_three_rows() -> None:
    rng = np.random.default_rng(6)
    target, score, weight = rng.integers(0, 2, 60), rng.random(60), rng.integers(0, 4, 60)
    repeated = np.repeat(np.arange(60), weight)

    for name in (*BINARY, "f1", "bias"):
        weighted = of(name, target, score, weight=weight)
        assert weighted == pytest.approx(of(name, target[repeated], score[repeated]), abs=1e-12)


# --- Several classes -------------------------------------------------------------------------------------------------


SCIKIT_CLASSES: dict[str, Callable[..., float]] = {
    "roc_auc": lambda y, s, w: sk.roc_auc_score(y, s, multi_class="ovr", sample_weight=w),
    "log_loss": lambda y, s, w: sk.log_loss(y, s, sample_weight=w, labels=[0, 1, 2]),
    "brier": lambda y, s, w: float(np.average(((s - np.eye(3)[y]) ** 2).sum(axis=1), weights=w)),
    "accuracy": lambda y, s, w: sk.accuracy_score(y, s.argmax(axis=1), sample_weight=w),
    "balanced_accuracy": lambda y, s, w: sk.balanced_accuracy_score(y, s.argmax(axis=1), sample_weight=w),
    "f1": lambda y, s, w: sk.f1_score(y, s.argmax(axis=1), average="macro", sample_weight=w),
    "precision": lambda y, s, w: sk.precision_score(y, s.argmax(axis=1), average="macro", sample_weight=w),
    "recall": lambda y, s, w: sk.recall_score(y, s.argmax(axis=1), average="macro", sample_weight=w),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SCIKIT_CLASSES)
def test_metrics_of_several_classes_agree_with_scikit_learn(name: str, *, weighted: bool) -> None:
    rng = np.random.default_rng(7)
    score = rng.dirichlet([1.0, 2.0, 1.0], 200)
    target = np.array([rng.choice(3, p=row) for row in score])
    weight = rng.random(200) if weighted else None

    found = of(name, target, score, task="multiclass", weight=weight)

    assert found == pytest.approx(SCIKIT_CLASSES[name](target, score, weight), abs=1e-12)


def test_a_class_that_no_row_has_leaves_the_area_of_several_undefined() -> None:
    score = [[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.6, 0.3, 0.1]]

    assert of("roc_auc", [0, 1, 0], score, task="multiclass") is None


def test_calibration_of_several_classes_is_that_of_the_most_probable_one() -> None:
    score = [[0.8, 0.1, 0.1]] * 4 + [[0.1, 0.6, 0.3]] * 4

    found = of("calibration_error", [0, 0, 0, 1, 1, 1, 2, 2], score, task="multiclass")

    assert found == pytest.approx((abs(0.8 - 0.75) + abs(0.6 - 0.5)) / 2)


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_errors_of_numbers_have_their_textbook_values() -> None:
    target, score = [10, 20, 30], [12, 20, 27]

    assert of("mae", target, score, task="regression") == pytest.approx(5 / 3)
    assert of("rmse", target, score, task="regression") == pytest.approx(math.sqrt(13 / 3))
    assert of("mape", target, score, task="regression") == pytest.approx((0.2 + 0 + 0.1) / 3)
    assert of("wape", target, score, task="regression") == pytest.approx(5 / 60)
    assert of("bias", target, score, task="regression") == pytest.approx(-1 / 3)
    assert of("r2", target, score, task="regression") == pytest.approx(1 - 13 / 200)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mae", sk.mean_absolute_error),
        ("rmse", sk.root_mean_squared_error),
        ("mape", sk.mean_absolute_percentage_error),
        ("r2", sk.r2_score),
    ],
)
def test_metrics_of_numbers_agree_with_scikit_learn(name: str, reference: Callable[..., float]) -> None:
    rng = np.random.default_rng(8)
    target = 1e6 + rng.normal(size=200)
    score, weight = target + rng.normal(size=200), rng.random(200)

    found = of(name, target, score, task="regression", weight=weight)

    assert found == pytest.approx(reference(target, score, sample_weight=weight), rel=1e-9)


def test_a_share_of_nothing_is_undefined() -> None:
    assert of("mape", [0, 10], [1, 11], task="regression") is None
    assert of("wape", [0, 0], [1, 1], task="regression") is None
    assert of("r2", [5, 5, 5], [5, 5, 4], task="regression") is None


# --- What is undefined, unknown, or one's own ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*BINARY, "f1", "cost", "calibration_error", "selection_rate", "bias"])
@pytest.mark.parametrize(
    ("target", "score"),
    [
        ([], []),
        ([0, 1], [0.5, float("nan")]),
        ([0, 1], [0.5, float("inf")]),
        ([0, float("nan")], [0.5, 0.5]),
        ([0, 2], [0.5, 0.5]),
        ([0, 1, 1], [0.5, 0.5]),
    ],
)
def test_what_is_undefined_is_none(name: str, target: list[float], score: list[float]) -> None:
    assert of(name, target, score) is None


@pytest.mark.parametrize("name", NUMBERS)
def test_a_missing_number_is_never_measured(name: str) -> None:
    assert of(name, [1.0, 2.0], [1.0, float("nan")], task="regression") is None
    assert of(name, [1.0, float("inf")], [1.0, 1.0], task="regression") is None


@pytest.mark.parametrize("weight", [[0.0, 0.0], [1.0, float("nan")], [1.0, -1.0]])
def test_weights_that_are_none_leave_everything_undefined(weight: list[float]) -> None:
    assert of("brier", [0, 1], [0.2, 0.7], weight=weight) is None


def test_rows_of_one_class_leave_undefined_only_what_needs_both() -> None:
    target, score = [1, 1, 1], [0.9, 0.6, 0.2]

    assert of("roc_auc", target, score) is None
    assert of("average_precision", target, score) is None
    assert of("false_positive_rate", target, score) is None
    assert of("recall", target, score) == pytest.approx(2 / 3)


def test_precision_without_a_positive_decision_is_undefined() -> None:
    assert of("precision", [0, 1], [0.1, 0.2]) is None


def test_a_certain_and_wrong_score_costs_much_and_not_infinity() -> None:
    found = of("log_loss", [1, 0], [0.0, 1.0])

    assert found is not None
    assert 30 < found < 40


def test_a_contender_without_predictions_is_not_measured() -> None:
    assert measure("brier", rows_of([0, 1], [0.2, 0.7]), "champion") is None


def test_an_unknown_metric_is_named_with_those_that_are_known() -> None:
    with pytest.raises(UnknownMetricError, match=r"'auc'.*roc_auc"):
        of("auc", [0, 1], [0, 1])


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(UnknownMetricError, match=r"'roc_auc' is not a metric of a regression model.*rmse"):
        check_metric("roc_auc", "regression")
    with pytest.raises(UnknownMetricError, match="'selection_rate'"):
        check_metric("selection_rate", "multiclass")


def test_every_metric_that_a_pipeline_may_name_can_be_measured_on_some_task() -> None:
    for name in METRICS:
        fitting = []
        for task in ("binary", "multiclass", "regression"):
            try:
                check_metric(name, task)
            except UnknownMetricError:
                continue
            fitting.append(task)
        assert fitting, name


def test_a_metric_of_ones_own_gets_truth_and_scores_and_weights_if_it_takes_them() -> None:
    rows = rows_of([0, 1], [0.25, 0.5], weight=[1.0, 3.0])

    def weighted(truth: Any, score: Any, weight: Any) -> float:
        return float((weight * (score - truth)).sum())

    own: dict[str, Callable[..., Any]] = {
        "a:plain": lambda truth, score: float((score - truth).sum()),
        "a:weighted": weighted,
    }

    assert measure("a:plain", rows, own=own) == -0.25
    assert measure("a:weighted", rows, own=own) == -1.25


def broken(truth: Any, score: Any) -> float:
    raise ValueError("no such thing")


def undefined(truth: Any, score: Any) -> float:
    return float("nan")


def silent(truth: Any, score: Any) -> None:
    return None


@pytest.mark.parametrize("metric", [broken, undefined, silent])
def test_a_metric_of_ones_own_that_breaks_is_none(metric: Callable[..., Any]) -> None:
    assert measure("a:b", rows_of([0, 1], [0.25, 0.5]), own={"a:b": metric}) is None
