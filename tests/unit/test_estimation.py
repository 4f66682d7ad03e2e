"""What predictions are probably worth, from their scores alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2  # noqa: TID253  # as above

from ml_lifecycle.backends.evaluation.metrics import calibration_curve, measure
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows
from ml_lifecycle.backends.monitoring.estimation import TOLERANCE, calibration, estimate
from ml_lifecycle.core.contracts import MeasurementSpec
from ml_lifecycle.core.errors import UnknownMetricError

TWO = ("no", "yes")
BY_HAND = np.array([0.9, 0.6, 0.2])


def rows(truth: Any, scores: Any, *, classes: tuple[str, ...] = TWO, **more: Any) -> ScoredRows:
    task: Any = "binary" if np.ndim(scores) == 1 else "multiclass"
    truth = np.asarray(truth, dtype="float64")
    scores = {CANDIDATE: np.asarray(scores, dtype="float64")}
    return ScoredRows(task=task, truth=truth, scores=scores, keys=np.arange(len(truth)), classes=classes, **more)


def world(count: int, *, seed: int, centre: float = 0.0, slope: float = 2.0) -> tuple[Any, Any]:
    """Inputs around ``centre``, scored by a model that knows of a slope of 2, and what turned out."""
    random = np.random.default_rng(seed)
    x = random.normal(centre, 1.0, count)
    truth = random.uniform(size=count) < 1 / (1 + np.exp(0.5 - slope * x))
    return 1 / (1 + np.exp(0.5 - 2.0 * x)), truth.astype("float64")


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        # Of rows with 0.9, 0.6 and 0.2: the decision is right in 0.9, 0.6 and 0.8 of them.
        ("accuracy", (0.9 + 0.6 + 0.8) / 3),
        ("brier", (0.9 * 0.1 + 0.6 * 0.4 + 0.2 * 0.8) / 3),
        ("precision", (0.9 + 0.6) / 2),
        ("recall", (0.9 + 0.6) / (0.9 + 0.6 + 0.2)),
        # Positive above negative, ties by half: 0.9 * (0.4 + 0.8 + 0.05) + 0.6 * (0.8 + 0.2) + 0.2 * 0.4 of 1.7 * 1.3.
        ("roc_auc", (0.9 * 1.25 + 0.6 * 1.0 + 0.2 * 0.4) / (1.7 * 1.3)),
        ("log_loss", -sum(p * math.log(p) + (1 - p) * math.log(1 - p) for p in (0.9, 0.6, 0.2)) / 3),
    ],
)
def test_each_row_counts_once_as_each_class_by_its_probability(metric: str, value: float) -> None:
    found = estimate(metric, BY_HAND, classes=TWO)

    assert found.value == pytest.approx(value)
    assert (found.rows, found.valid) == (3, False)


def test_several_classes_count_by_their_probabilities() -> None:
    scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])

    assert estimate("accuracy", scores, classes=("a", "b", "c")).value == pytest.approx((0.5 + 0.8) / 2)


def test_rows_count_by_their_weights_and_weights_that_are_none_are_told() -> None:
    heavy = estimate("accuracy", BY_HAND, classes=TWO, weight=np.array([1.0, 1.0, 2.0]))
    broken = estimate("accuracy", BY_HAND, classes=TWO, weight=np.array([1.0, -1.0, 2.0]))
    missing = estimate("accuracy", BY_HAND, classes=TWO, weight=np.array([1.0, math.nan, 2.0]))

    assert heavy.value == pytest.approx((0.9 + 0.6 + 2 * 0.8) / 4)
    assert (broken.value, missing.value) == (None, None)
    assert "the weights are not all finite" in broken.condition
    assert "the weights are not all finite" in missing.condition


def test_costs_are_expected_costs() -> None:
    spec = MeasurementSpec(costs={"yes": {"no": 10.0}, "no": {"yes": 1.0}})

    found = estimate("cost", BY_HAND, classes=TWO, spec=spec)

    # Called yes, yes and no: 0.1 and 0.4 wrong alarms, and 0.2 misses.
    assert found.value == pytest.approx((0.1 + 0.4 + 0.2 * 10) / 3)


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "brier", "f1", "log_loss", "average_precision"])
def test_where_inputs_move_and_scores_stay_probabilities_the_estimate_is_right(metric: str) -> None:
    scores, truth = world(40_000, seed=1, centre=2.0)
    holdout = rows(world(20_000, seed=2)[1], world(20_000, seed=2)[0])

    found = estimate(metric, scores, classes=TWO, spec=MeasurementSpec(resamples=200), holdout=holdout)

    measured, before = measure(metric, rows(truth, scores)), measure(metric, holdout)
    assert found.valid
    assert found.value == pytest.approx(measured, abs=0.01)
    assert measured != pytest.approx(before, abs=0.02)


def test_where_what_follows_from_the_inputs_changes_the_estimate_is_wrong_and_says_that_it_may_be() -> None:
    scores, truth = world(40_000, seed=3, slope=-2.0)
    holdout = rows(world(20_000, seed=2)[1], world(20_000, seed=2)[0])

    found = estimate("roc_auc", scores, classes=TWO, holdout=holdout)

    measured = measure("roc_auc", rows(truth, scores))
    assert found.value is not None
    assert measured is not None
    assert found.value > 0.8
    assert measured < 0.3
    assert "A change of what follows from the same inputs is not seen." in found.condition


def overconfident(scores: Any) -> Any:
    """The same order, too sure by far."""
    return np.where(scores > 0.5, 1 - (1 - scores) / 8, scores / 8)


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "brier"])
def test_of_scores_that_are_no_probabilities_chances_are_read_off_the_holdout(metric: str) -> None:
    known, known_truth = world(20_000, seed=2)
    scores, truth = world(20_000, seed=5, centre=0.5)

    found = estimate(metric, overconfident(scores), classes=TWO, holdout=rows(known_truth, overconfident(known)))
    blind = estimate(metric, overconfident(scores), classes=TWO)

    measured = measure(metric, rows(truth, overconfident(scores)))
    assert found.valid
    assert found.value == pytest.approx(measured, abs=0.02)
    assert blind.value != pytest.approx(measured, abs=0.03)
    assert "so chances were read off it; on the other half of it these are off by 0.0" in found.condition
    assert found.calibration_error is not None
    assert found.calibration_error < TOLERANCE


def test_chances_that_were_read_off_too_few_days_make_a_hint_only() -> None:
    scores, truth = world(2_000, seed=2)
    days = np.repeat(np.arange(4), 500)
    holdout = rows(np.where(days % 2 == 0, 1.0, truth), overconfident(scores), cluster=days)

    found = estimate("accuracy", overconfident(scores), classes=TWO, holdout=holdout)

    assert not found.valid
    assert found.calibration_error is not None
    assert found.calibration_error > TOLERANCE
    assert "take it as a hint only" in found.condition


def test_chances_of_several_classes_are_the_scores() -> None:
    scores, truth = world(5_000, seed=2)
    three = np.column_stack([(1 - scores) / 2, (1 - scores) / 2, scores])
    held = rows(np.where(truth == 1, 2.0, 0.0), three, classes=("a", "b", "c"))

    found = estimate("accuracy", three, classes=("a", "b", "c"), holdout=held)

    assert found.value == pytest.approx(three.max(axis=1).mean())
    assert "of the holdout the scores are off by" in found.condition


def test_a_holdout_of_a_few_rows_shows_nothing() -> None:
    scores, truth = world(40, seed=2)

    found = estimate("accuracy", scores, classes=TWO, holdout=rows(truth, scores))

    assert not found.valid
    assert "That is not shown to be within 0.05" in found.condition


def test_without_a_holdout_it_is_a_hint_only() -> None:
    found = estimate("accuracy", BY_HAND, classes=TWO)

    assert found.condition.endswith("Nothing is known of the scores on a holdout, so take it as a hint only.")


def test_what_was_found_on_the_holdout_is_said() -> None:
    scores, truth = world(20_000, seed=2)

    found = estimate("roc_auc", scores, classes=TWO, holdout=rows(truth, scores))

    assert "On 20,000 rows of the holdout the scores are off by 0.0" in found.condition
    assert "chi-square test of 10 bins: p = " in found.condition
    assert "roc_auc would have been estimated at 0.8" in found.condition


def test_the_test_of_calibration_is_the_one_of_hosmer_and_lemeshow() -> None:
    scores, truth = world(5_000, seed=7)
    holdout = rows(truth, scores)
    stated, true, count = calibration_curve(holdout)

    found = calibration("brier", holdout)

    expected = chi2.sf((count * (true - stated) ** 2 / (stated * (1 - stated))).sum(), 10)
    assert found.p_value == pytest.approx(expected)


def test_certain_scores_that_are_wrong_once_are_refuted() -> None:
    scores = np.repeat([0.0, 1.0], 50)
    right = calibration("accuracy", rows(scores, scores))
    wrong = calibration("accuracy", rows(1 - scores, scores))

    assert (right.p_value, wrong.p_value) == (None, 0.0)


def test_rows_of_one_day_that_are_alike_widen_what_is_known() -> None:
    scores, truth = world(4_000, seed=2)
    days = np.repeat(np.arange(20), 200)
    moved = np.where(days % 4 == 0, 1.0, truth)

    alone = calibration("accuracy", rows(moved, scores))
    by_day = calibration("accuracy", rows(moved, scores, cluster=days))

    assert alone.at_most is not None
    assert by_day.at_most is not None
    assert by_day.at_most > alone.at_most
    assert by_day.p_value is None


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "brier", "log_loss"])
def test_where_scores_are_probabilities_the_measured_metric_lies_in_the_interval(metric: str) -> None:
    inside = 0
    for seed in range(60):
        scores, truth = world(300, seed=seed)
        found = estimate(metric, scores, classes=TWO, spec=MeasurementSpec(resamples=200))
        measured = measure(metric, rows(truth, scores))
        assert found.low is not None
        assert found.high is not None
        assert measured is not None
        inside += found.low <= measured <= found.high

    # 57 of 60 are expected at least: the rows vary too.
    assert inside >= 54


def test_more_rows_narrow_the_interval_and_clusters_widen_it() -> None:
    few, many = (estimate("roc_auc", world(count, seed=1)[0], classes=TWO) for count in (400, 6_400))
    scores = np.sort(world(6_400, seed=1)[0])
    days = estimate("accuracy", scores, classes=TWO, cluster=np.repeat(np.arange(64), 100))
    plain = estimate("accuracy", scores, classes=TWO)

    def width(found: Any) -> float:
        return float(found.high - found.low)

    assert width(many) == pytest.approx(width(few) / 4, rel=0.2)
    assert width(days) > 2 * width(plain)


@pytest.mark.parametrize(
    ("scores", "metric", "said"),
    [
        ([], "accuracy", "there are no rows"),
        ([0.5, math.nan], "accuracy", "the scores are missing or not finite in 1 places"),
        ([0.5, math.inf], "accuracy", "not finite in 1 places"),
        ([0.5, 1.5], "roc_auc", "1 scores are below 0 or above 1"),
        ([1.0, 1.0], "roc_auc", "certain of one class"),
        ([[0.5, 0.2, 0.2]], "accuracy", "the scores of 1 rows do not sum to 1"),
        ([0.5], "calibration_error", "which the estimate takes for granted"),
        ([0.5], "include.own:metric", "a metric of one's own"),
    ],
)
def test_what_cannot_be_estimated_says_why(scores: Any, metric: str, said: str) -> None:
    found = estimate(
        metric, np.asarray(scores, dtype="float64"), classes=TWO if np.ndim(scores) < 2 else ("a", "b", "c")
    )

    assert (found.value, found.low, found.high, found.valid) == (None, None, None, False)
    assert said in found.condition


def test_a_regression_is_not_estimated() -> None:
    found = estimate("mae", np.array([1.0, 2.0]))

    assert found.value is None
    assert "the numbers that a regression predicts say nothing of their own error" in found.condition


def test_a_metric_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownMetricError, match="did you mean 'accuracy'"):
        estimate("acuracy", BY_HAND, classes=TWO)


def test_certain_scores_are_estimated_without_infinities() -> None:
    found = estimate("log_loss", np.array([0.0, 1.0, 0.5]), classes=TWO)

    assert found.value == pytest.approx(math.log(2) / 3)


def test_an_unreadable_holdout_is_as_good_as_none() -> None:
    found = estimate("accuracy", BY_HAND, classes=TWO, holdout=rows([math.nan, 1, 0], BY_HAND))

    assert not found.valid
    assert "could not be held against what came true" in found.condition


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_an_estimated_share_is_one(scores: list[float]) -> None:
    found = estimate("accuracy", np.array(scores), classes=TWO, spec=MeasurementSpec(resamples=200))

    assert found.value is not None
    assert 0.5 - 1e-12 <= found.value <= 1 + 1e-12
    assert found.low is None or found.low <= found.value <= (found.high or 1.0)
