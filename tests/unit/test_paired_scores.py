"""Two versions' answers to the same requests are compared with bounds that hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_lifecycle.backends.evaluation.answer_losses import losses_of
from ml_lifecycle.backends.evaluation.paired_scores import compare, quantiles
from ml_lifecycle.core.contracts import Losses, PairedScores, QualityPolicy

SCORES = st.lists(st.tuples(*[st.floats(0, 1, width=16)] * 2), min_size=2, max_size=40)


def compared(old: list[float], new: list[float], *, decides: bool = True) -> PairedScores:
    return compare(np.array(old), np.array(new), decides=decides)


# --- Distance --------------------------------------------------------------------------------------------------------


def test_the_distance_is_the_greatest_difference_of_shares() -> None:
    # Up to 0.2 lie 3 of 4 old scores and 1 of 4 new ones.
    found = compared([0.1, 0.2, 0.2, 0.9], [0.1, 0.5, 0.6, 0.9])

    assert found.distance == pytest.approx(0.5)
    assert found.mean_difference == pytest.approx(0.175)
    assert found.flipped == pytest.approx(0.5)


def test_a_score_of_exactly_a_half_is_the_second_class() -> None:
    assert compared([0.5, 0.4], [0.49, 0.5]).flipped == 1.0


def test_equal_scores_lie_at_no_distance_and_are_no_surprise() -> None:
    found = compared([0.3] * 100, [0.3] * 100)

    assert (found.distance, found.p_value, found.distance_low) == (0.0, 1.0, 0.0)
    # Of a hundred requests without a difference: up to about 3 in 100 may have one.
    assert found.distance_high == pytest.approx(0.0295, abs=5e-5)


def test_scores_that_changed_places_lie_at_no_distance_though_every_label_flips() -> None:
    found = compared([0.1, 0.9], [0.9, 0.1])

    assert (found.distance, found.flipped, found.mean_difference) == (0.0, 1.0, 0.0)


def test_versions_that_have_no_score_in_common_are_as_far_apart_as_can_be() -> None:
    found = compared([0.1] * 50, [0.9] * 50)

    assert (found.distance, found.distance_high, found.p_value) == (1.0, 1.0, 0.001)
    assert (found.low, found.high) == pytest.approx((0.8, 0.8))


def test_of_several_classes_the_one_that_moved_furthest_is_told() -> None:
    old = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    new = np.array([[0.5, 0.2, 0.3], [0.5, 0.3, 0.2]])

    found = compare(old, new, decides=True)

    assert found.distance == pytest.approx(0.5)
    assert found.flipped == 0.0
    assert abs(found.mean_difference or 0) == pytest.approx(0.05)


def test_one_request_has_no_bounds_of_its_mean_and_proves_nothing() -> None:
    found = compared([0.2], [0.8])

    assert (found.distance, found.low, found.high) == (1.0, None, None)
    assert found.distance_low == pytest.approx(0.05)
    assert found.p_value is not None
    assert found.p_value > 0.9


def test_without_requests_there_is_nothing_but_the_reason() -> None:
    found = compared([], [])

    assert (found.rows, found.distance, found.p_value) == (0, None, None)
    assert found.detail == "there is no request that both versions answered"


def test_numbers_too_large_to_subtract_have_a_distance_and_no_mean() -> None:
    found = compared([1e308, -1e308], [-1e308, 1e308], decides=False)

    assert (found.distance, found.mean_difference, found.low, found.flipped) == (0.0, None, None, None)


@settings(max_examples=40, deadline=None)
@given(SCORES)
def test_the_distance_is_scipys_and_its_bounds_hold_it(scores: list[tuple[float, float]]) -> None:
    from scipy.stats import ks_2samp

    old, new = map(list, zip(*scores, strict=True))

    found = compared(old, new)

    expected = float(ks_2samp(old, new, method="asymp").statistic)
    assert found.distance == pytest.approx(expected)
    assert found.distance_low is not None
    assert found.distance_high is not None
    assert 0 <= found.distance_low <= expected + 1e-9
    assert expected - 1e-9 <= found.distance_high <= 1


@settings(max_examples=25, deadline=None)
@given(SCORES)
def test_which_version_is_called_the_new_one_changes_signs_only(scores: list[tuple[float, float]]) -> None:
    old, new = map(list, zip(*scores, strict=True))

    forth, back = compared(old, new), compared(new, old)

    assert (forth.distance, forth.p_value, forth.flipped) == pytest.approx((back.distance, back.p_value, back.flipped))
    assert forth.mean_difference == pytest.approx(-(back.mean_difference or 0.0))


def test_bounds_miss_the_true_distance_about_once_in_twenty_times_at_most() -> None:
    from scipy.stats import norm

    rng, missed, surprised = np.random.default_rng(3), 0, 0
    truth = 2 * norm.cdf(0.1) - 1
    for _ in range(100):
        old = rng.normal(size=150)
        alike, apart = (shift + 0.8 * old + 0.6 * rng.normal(size=150) for shift in (0.0, 0.2))
        found = compare(old, apart, decides=False)
        missed += not (found.distance_low or 0.0) <= truth <= (found.distance_high or 0.0)
        surprised += (compare(old, alike, decides=False).p_value or 0.0) <= 0.05

    # Of 100, more than 11 come with a chance of 0.4% where the true rate is 5%.
    assert missed <= 11
    assert surprised <= 11


def test_quantiles_tell_how_scores_lie() -> None:
    found = compared([0.3, 0.1, 0.2], [0.9, 0.8, 0.7])

    assert quantiles(np.array([3.0, 1.0, 2.0]), 3) == (1.0, 2.0, 3.0)
    assert (found.old_quantiles[0], found.old_quantiles[10], found.old_quantiles[20]) == (0.1, 0.2, 0.3)
    assert (len(found.new_quantiles), found.new_quantiles[10]) == (21, 0.8)
    assert quantiles(np.array([])) == ()


# --- Losses ----------------------------------------------------------------------------------------------------------


def losses(metric: str, **columns: Any) -> Losses:
    count = len(next(iter(columns.values())))
    empty: Mapping[str, Any] = {"score": [np.nan] * count, "label": [None] * count, "truth_value": [np.nan] * count}
    answers = pd.DataFrame({**empty, **columns})
    return losses_of(7, answers, QualityPolicy.model_validate({"metric": metric}))


def told(found: Losses) -> tuple[int, float, float, int]:
    return found.rows, found.total, found.squares, found.unusable


def test_a_wrong_label_is_a_loss_of_one() -> None:
    found = losses("accuracy", label=["True", "False", "True"], score=[0.9, 0.2, 0.6], truth=["True", "False", "False"])

    assert told(found) == (3, 1.0, 1.0, 0)
    assert found.version == 7


def test_without_labels_a_half_decides_where_the_truth_is_zero_or_one() -> None:
    found = losses("accuracy", score=[0.5, 0.4, 0.4, 0.9], truth=["1", "True", "0", "late"])

    assert told(found) == (3, 1.0, 1.0, 1)


def test_an_answer_that_is_no_number_is_as_wrong_as_can_be() -> None:
    assert told(losses("accuracy", score=[np.nan, 0.1], truth=["1", "0"])) == (2, 1.0, 1.0, 0)
    assert told(losses("brier", score=[np.inf, 0.5], truth=["1", "0"])) == (2, 1.25, 1.0625, 0)


def test_the_brier_loss_is_the_squared_distance_from_what_turned_out() -> None:
    # The score is about late, which is the label from a half on: 0.1, 0.3, 0.8 and 0.6 away.
    found = losses(
        "brier",
        score=[0.9, 0.3, 0.8, 0.4],
        label=["late", "on time", "late", "on time"],
        truth=["late", "on time", "on time", "late"],
    )

    assert found.total == pytest.approx(0.01 + 0.09 + 0.64 + 0.36)
    assert found.squares == pytest.approx(0.0001 + 0.0081 + 0.4096 + 0.1296)


def test_of_several_classes_the_brier_loss_is_the_sum_over_all() -> None:
    stated = [("AA", 0.6), ("B6", 0.3), ("UA", 0.1)]

    found = losses("brier", score=[0.6, 0.6], label=["AA", "AA"], truth=["B6", "DL"], probabilities=[stated, stated])

    # 0.36 + 0.49 + 0.01, and of a class that the model does not know 0.36 + 0.09 + 0.01 + 1.
    assert found.total == pytest.approx(0.86 + 1.46)


def test_errors_of_numbers_are_distances_and_their_squares() -> None:
    columns = {"score": [1.0, 5.0, np.nan], "truth": ["3", "4.5", "1"], "truth_value": [3.0, 4.5, 1.0]}

    assert told(losses("absolute_error", **columns)) == (2, 2.5, 4.25, 1)
    assert told(losses("squared_error", **columns)) == (2, 4.25, 16.0625, 1)


def test_a_truth_that_is_no_number_leaves_the_error_of_a_number_unknown() -> None:
    assert told(losses("absolute_error", score=[1.0], truth=["late"])) == (0, 0.0, 0.0, 1)


def test_losses_whose_sums_are_no_numbers_are_not_used() -> None:
    values = [1e154, 1e154]

    found = losses("absolute_error", score=values, truth=["0", "0"], truth_value=[0.0, 0.0])

    assert told(found) == (0, 0.0, 0.0, 2)


def test_without_labels_nothing_was_lost() -> None:
    found = losses_of(7, pd.DataFrame(), QualityPolicy())

    assert told(found) == (0, 0.0, 0.0, 0)
