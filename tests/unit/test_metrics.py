"""Metrics and paired differences against values worked out another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.backends.models.metrics import measure, paired_difference, roc_curve
from ml_lifecycle.core.errors import UnknownBackendError


def wins(positive: float, negative: float) -> float:
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


def brute_auc(target: list[int], score: list[float]) -> float:
    """Mann and Whitney: the share of pairs in which the positive one has the higher score."""
    positives = [s for t, s in zip(target, score, strict=True) if t]
    negatives = [s for t, s in zip(target, score, strict=True) if not t]
    return sum(wins(p, n) for p, n in product(positives, negatives)) / (len(positives) * len(negatives))


def brute_delong(target: list[int], new: list[float], old: list[float]) -> float:
    """DeLong's variance from its definition: each row's mean over all pairs that it is part of."""
    hits = [i for i, t in enumerate(target) if t]
    misses = [i for i, t in enumerate(target) if not t]
    placed = (
        [[np.mean([wins(s[i], s[j]) for j in misses]) for i in hits] for s in (new, old)],
        [[np.mean([wins(s[i], s[j]) for i in hits]) for j in misses] for s in (new, old)],
    )
    covariances = [np.cov(np.array(part)) for part in placed]
    both = covariances[0] / len(hits) + covariances[1] / len(misses)
    return float(both[0, 0] + both[1, 1] - 2 * both[0, 1])


def test_a_perfect_order_has_an_area_of_one() -> None:
    assert measure("roc_auc", [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 1.0


def test_scores_that_are_all_equal_have_an_area_of_one_half() -> None:
    assert measure("roc_auc", [0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3]) == 0.5


def test_one_pair_of_four_in_the_wrong_order_leaves_three_quarters() -> None:
    assert measure("roc_auc", [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(rows: list[tuple[int, int]]) -> None:
    target, score = [row[0] for row in rows], [row[1] / 8 for row in rows]

    found = measure("roc_auc", target, score)

    if len(set(target)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(brute_auc(target, score))


def test_log_loss_brier_and_accuracy_have_their_textbook_values() -> None:
    target, score = [1, 0, 1, 0], [0.8, 0.4, 0.5, 0.9]

    assert measure("log_loss", target, score) == pytest.approx(
        -(math.log(0.8) + math.log(0.6) + math.log(0.5) + math.log(0.1)) / 4
    )
    assert measure("brier", target, score) == pytest.approx((0.04 + 0.16 + 0.25 + 0.81) / 4)
    assert measure("accuracy", target, score) == 0.75


def test_mae_and_rmse_are_in_the_targets_unit() -> None:
    assert measure("mae", [10, 20, 30], [12, 20, 27]) == pytest.approx(5 / 3)
    assert measure("rmse", [10, 20, 30], [12, 20, 27]) == pytest.approx(math.sqrt(13 / 3))


def test_a_certain_and_wrong_score_costs_much_and_not_infinity() -> None:
    found = measure("log_loss", [1, 0], [0.0, 1.0])

    assert found is not None
    assert 30 < found < 40


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "brier", "accuracy", "mae", "rmse"])
@pytest.mark.parametrize(
    ("target", "score"),
    [([], []), ([0, 1], [0.5, float("nan")]), ([0, 1], [0.5, float("inf")]), ([0, float("nan")], [0.5, 0.5])],
)
def test_what_is_undefined_is_none(name: str, target: list[float], score: list[float]) -> None:
    assert measure(name, target, score) is None
    assert paired_difference(name, target, score, score).estimate is None


def test_the_area_of_one_class_is_none() -> None:
    assert measure("roc_auc", [1, 1, 1], [0.1, 0.5, 0.9]) is None


def test_an_unknown_metric_is_named_with_those_that_are_known() -> None:
    with pytest.raises(UnknownBackendError, match=r"'auc'.*roc_auc"):
        measure("auc", [0, 1], [0, 1])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 6)), min_size=6, max_size=25).filter(
        lambda rows: 2 <= sum(row[0] for row in rows) <= len(rows) - 2
    )
)
def test_delongs_error_agrees_with_its_definition(rows: list[tuple[int, int, int]]) -> None:
    target = [row[0] for row in rows]
    new, old = [row[1] / 6 for row in rows], [row[2] / 6 for row in rows]

    found = paired_difference("roc_auc", target, new, old)

    assert found.estimate == pytest.approx(brute_auc(target, new) - brute_auc(target, old), abs=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(max(0.0, brute_delong(target, new, old))), abs=1e-9)
    assert found.rows == len(rows)


def test_delongs_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    inside = 0
    for _ in range(300):
        target = rng.integers(0, 2, 300)
        shared = target + rng.normal(size=300)
        found = paired_difference(
            "roc_auc", target, shared + 0.5 * rng.normal(size=300), shared + 0.5 * rng.normal(size=300)
        )
        assert found.estimate is not None
        assert found.standard_error is not None
        inside += abs(found.estimate) < 1.96 * found.standard_error

    assert 0.91 < inside / 300 < 0.98


@pytest.mark.parametrize("name", ["log_loss", "brier", "mae"])
def test_a_mean_loss_is_compared_row_by_row(name: str) -> None:
    target, new, old = [1, 0, 1, 0, 1], [0.9, 0.2, 0.6, 0.4, 0.7], [0.6, 0.3, 0.7, 0.5, 0.5]
    by_hand: dict[str, Callable[[int, float], float]] = {
        "log_loss": lambda t, s: -math.log(s if t else 1 - s),
        "brier": lambda t, s: (t - s) ** 2,
        "mae": lambda t, s: abs(t - s),
    }
    losses = by_hand[name]
    gains = [losses(t, o) - losses(t, n) for t, n, o in zip(target, new, old, strict=True)]

    found = paired_difference(name, target, new, old)

    assert found.estimate == pytest.approx(np.mean(gains))
    assert found.standard_error == pytest.approx(stats.sem(gains))


def test_a_candidate_with_the_lower_loss_has_a_positive_difference() -> None:
    found = paired_difference("brier", [1, 0, 1], [0.9, 0.1, 0.8], [0.6, 0.4, 0.6])

    assert found.estimate is not None
    assert found.estimate > 0


def test_accuracy_counts_the_rows_on_which_only_one_is_right() -> None:
    target, new, old = [1, 1, 0, 0], [0.9, 0.9, 0.1, 0.9], [0.9, 0.1, 0.1, 0.1]

    found = paired_difference("accuracy", target, new, old)

    assert found.estimate == 0.0
    assert found.standard_error == pytest.approx(stats.sem([0, 1, 0, -1]))


def test_the_error_of_rmse_agrees_with_the_jackknife() -> None:
    rng = np.random.default_rng(3)
    target = rng.normal(size=400)
    new, old = target + rng.normal(size=400), target + 1.1 * rng.normal(size=400)

    def difference(kept: np.ndarray) -> float:
        return math.sqrt(np.mean((old - target)[kept] ** 2)) - math.sqrt(np.mean((new - target)[kept] ** 2))

    each = np.array([difference(np.arange(400) != left_out) for left_out in range(400)])
    jackknife = math.sqrt(399 / 400 * float(((each - each.mean()) ** 2).sum()))

    found = paired_difference("rmse", target, new, old)

    assert found.estimate == pytest.approx(difference(np.arange(400) >= 0))
    assert found.standard_error == pytest.approx(jackknife, rel=0.02)


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "brier", "accuracy", "mae", "rmse"])
def test_a_model_against_itself_differs_by_nothing(name: str) -> None:
    score = [0.9, 0.2, 0.6, 0.4]

    found = paired_difference(name, [1, 0, 1, 0], score, score)

    assert (found.estimate, found.standard_error) == (0.0, 0.0)


def test_a_single_row_has_no_standard_error() -> None:
    assert paired_difference("brier", [1], [0.9], [0.8]).estimate is None


def test_the_roc_curve_of_a_hand_drawn_case() -> None:
    false_rate, true_rate = roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])

    assert false_rate.tolist() == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert true_rate.tolist() == [0.0, 0.5, 0.5, 1.0, 1.0]
