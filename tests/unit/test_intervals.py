"""Intervals against published examples, other people's implementations, and their own definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253  # no DAG file imports a test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from ml_lifecycle.backends.evaluation.bounds import (
    Alike,
    Bootstrap,
    Bounds,
    Certain,
    Folded,
    Gap,
    Logit,
    PairedProportions,
    Symmetric,
    Wilson,
)
from ml_lifecycle.backends.evaluation.intervals import difference, estimate, estimate_difference, metric_of
from ml_lifecycle.backends.evaluation.metrics import Part
from ml_lifecycle.backends.evaluation.rows import ScoredRows, Task
from ml_lifecycle.core.contracts import MeasurementSpec

SPEC = MeasurementSpec()
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
"""Albumin, total protein, 10 minus the K-G score, and whether surgery helped: the complete ones of the 49 patients with
ovarian cancer of DeLong et al. (1988), as in the SAS/STAT user's guide, "Comparing Receiver Operating Characteristic
Curves"."""


def rows_of(truth: Any, task: Task = "binary", *, cluster: Any = None, weight: Any = None, **scores: Any) -> ScoredRows:
    truth = np.asarray(truth, dtype="float64")
    return ScoredRows(
        task=task,
        truth=truth,
        scores={name: np.asarray(score, dtype="float64") for name, score in scores.items()},
        keys=np.arange(len(truth)),
        classes={"binary": ("0", "1"), "multiclass": ("a", "b", "c"), "regression": ()}[task],
        cluster=None if cluster is None else np.asarray(cluster, dtype="int64"),
        weight=None if weight is None else np.asarray(weight, dtype="float64"),
    )


def two_models(seed: int, rows: int, **more: Any) -> ScoredRows:
    rng = np.random.default_rng(seed)
    chance = rng.beta(2, 3, rows)
    truth = rng.random(rows) < chance
    new, old = (np.clip(chance + spread * rng.normal(size=rows), 0.01, 0.99) for spread in (0.1, 0.2))
    return rows_of(truth, candidate=new, champion=old, **more)


def wins(positive: float, negative: float) -> float:
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


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


# --- Areas -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "old", "apart", "score"),
    [
        ("kg", "albumin", 0.7258064516129032 - 0.7365591397849462, -0.11277826904452642),
        ("kg", "protein", 0.7258064516129032 - 0.6478494623655915, 0.7452183896579927),
        ("albumin", "protein", 0.7365591397849462 - 0.6478494623655915, 1.59002925832072),
    ],
)
def test_delong_agrees_with_mlstatkit_on_the_patients_of_delong(new: str, old: str, apart: float, score: float) -> None:
    """The expected areas and z were computed with ``MLstatkit.Delong_test``, version 0.1.91 on PyPI."""
    table = np.array(OVARIAN.split(), dtype="float64").reshape(-1, 4)
    rows = rows_of(table[:, 3], albumin=table[:, 0], protein=table[:, 1], kg=10 - table[:, 2])

    found = difference("roc_auc", rows, new, old, spec=SPEC)

    assert found.estimate == pytest.approx(apart, abs=1e-12)
    assert found.estimate is not None
    assert found.standard_error is not None
    assert found.estimate / found.standard_error == pytest.approx(score, rel=1e-9)
    assert found.method == "DeLong"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 6)), min_size=6, max_size=25).filter(
        lambda rows: 2 <= sum(row[0] for row in rows) <= len(rows) - 2
    )
)
def test_delongs_error_agrees_with_its_definition(rows: list[tuple[int, int, int]]) -> None:
    target = [row[0] for row in rows]
    new, old = [row[1] / 6 for row in rows], [row[2] / 6 for row in rows]
    expected = math.sqrt(max(0.0, brute_delong(target, new, old)))

    found = difference("roc_auc", rows_of(target, a=new, b=old), "a", "b", spec=SPEC)

    if expected > 1e-9:
        assert found.standard_error == pytest.approx(expected, abs=1e-9)
    else:
        assert found.estimate is not None
        assert found.low is not None
        assert found.low <= found.estimate


def test_a_perfect_order_beside_none_is_better_by_one_half_and_not_beyond_doubt() -> None:
    rows = rows_of([0, 0, 0, 1, 1, 1], perfect=[1, 2, 3, 4, 5, 6], flat=[1] * 6)

    found = difference("roc_auc", rows, "perfect", "flat", spec=SPEC)

    # All of three are so with a chance of 2.5% where their share is its cube root; the others may be as bad as -1.
    others = 1 - 0.025 ** (1 / 3)
    assert found.estimate == 0.5
    assert found.low == pytest.approx(0.5 - others * 1.5)


def test_clusters_of_one_row_change_nothing_about_an_area() -> None:
    apart = difference("roc_auc", two_models(1, 200), "candidate", "champion", spec=SPEC)
    alone = difference("roc_auc", two_models(1, 200, cluster=range(200)), "candidate", "champion", spec=SPEC)

    assert alone.standard_error == pytest.approx(apart.standard_error, rel=1e-12)


def test_rows_that_stand_twice_in_a_cluster_bring_no_certainty() -> None:
    once = two_models(2, 150)
    twice = np.repeat(np.arange(150), 2)
    doubled = rows_of(
        once.truth[twice],
        candidate=once.scores["candidate"][twice],
        champion=once.scores["champion"][twice],
        cluster=twice,
    )

    for name in ("roc_auc", "accuracy", "average_precision", "brier"):
        single = estimate(name, Part(once, SPEC), "candidate").bounds
        double = estimate(name, Part(doubled, SPEC), "candidate").bounds
        assert single is not None
        assert double is not None
        assert double.error == pytest.approx(single.error, rel=0.05)


def test_the_error_of_an_area_with_clusters_is_that_of_resampled_clusters() -> None:
    rng = np.random.default_rng(3)
    day = np.repeat(np.arange(60), 20)
    shared = rng.normal(size=60)[day]
    truth = rng.random(1200) < 1 / (1 + np.exp(-shared))
    score = 0.7 * shared + rng.normal(size=1200)
    rows = rows_of(truth, candidate=score, cluster=day)
    drawn = []
    for _ in range(400):
        days = rng.integers(0, 60, 60)
        at = (days[:, None] * 20 + np.arange(20)).ravel()
        drawn.append(estimate("roc_auc", Part(rows_of(truth[at], candidate=score[at]), SPEC), "candidate").value)

    found = estimate("roc_auc", Part(rows, SPEC), "candidate")

    assert found.clusters == 60
    assert found.bounds is not None
    assert found.bounds.error == pytest.approx(np.std(np.array(drawn, dtype="float64"), ddof=1), rel=0.15)


@pytest.mark.parametrize("name", ["average_precision", "roc_auc"])
def test_the_error_of_a_weighted_area_agrees_with_the_jackknife(name: str) -> None:
    rng = np.random.default_rng(4)
    truth, weight = rng.integers(0, 2, 200), rng.random(200) + 0.5
    score = np.round(truth + rng.normal(size=200), 1)

    def value(kept: np.ndarray) -> float:
        part = Part(rows_of(truth[kept], candidate=score[kept], weight=weight[kept]), SPEC)
        return float(part.value(name, "candidate") or 0)

    each = np.array([value(np.arange(200) != left_out) for left_out in range(200)])
    jackknife = math.sqrt(199 / 200 * float(((each - each.mean()) ** 2).sum()))

    found = estimate(name, Part(rows_of(truth, candidate=score, weight=weight), SPEC), "candidate")

    assert found.bounds is not None
    assert found.bounds.error == pytest.approx(jackknife, rel=0.03)


def test_the_area_of_several_classes_has_the_error_of_the_jackknife() -> None:
    rng = np.random.default_rng(5)
    score = rng.dirichlet([1.0, 1.0, 1.0], 150)
    truth = np.array([rng.choice(3, p=row) for row in score])

    def value(kept: np.ndarray) -> float:
        part = Part(rows_of(truth[kept], "multiclass", candidate=score[kept]), SPEC)
        return float(part.value("roc_auc", "candidate") or 0)

    each = np.array([value(np.arange(150) != left_out) for left_out in range(150)])
    jackknife = math.sqrt(149 / 150 * float(((each - each.mean()) ** 2).sum()))

    found = estimate("roc_auc", Part(rows_of(truth, "multiclass", candidate=score), SPEC), "candidate")

    assert found.bounds is not None
    assert found.bounds.error == pytest.approx(jackknife, rel=0.03)


def test_a_perfect_area_on_few_rows_is_no_certainty() -> None:
    found = metric_of("roc_auc", rows_of([0, 0, 0, 1, 1, 1], a=[1, 2, 3, 4, 5, 6]), "a", spec=SPEC)

    assert found.value == 1.0
    assert found.low is not None
    assert found.low == pytest.approx(proportion_confint(3, 3, method="wilson")[0])


def test_an_area_with_one_positive_row_has_no_error() -> None:
    found = estimate("roc_auc", Part(rows_of([0, 0, 1], a=[0.1, 0.4, 0.3]), SPEC), "a")

    assert found.value == 0.5
    assert found.bounds is None
    assert found.detail == "too few independent rows for an error"


# --- Proportions -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_a_proportion_has_wilsons_interval(counts: tuple[int, int]) -> None:
    right, rows = counts
    score = np.arange(rows) < right

    found = metric_of("accuracy", rows_of(np.ones(rows), a=score), "a", spec=SPEC)

    low, high = proportion_confint(right, rows, method="wilson")
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


def test_tangos_interval_agrees_with_the_r_package_propcis() -> None:
    """``PropCIs::scoreci.mp(25, 28, 618, conf.level = 0.90)`` is published as -0.0148 to 0.0247.

    In the repository RickPack/gale-shapley-fair-matching-demo on GitHub.
    """
    found = PairedProportions(gains=28, losses=25, rows=618)

    assert found.value == pytest.approx(3 / 618)
    assert found.lower(0.95) == pytest.approx(-0.0148, abs=5e-5)
    assert found.upper(0.95) == pytest.approx(0.0247, abs=5e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_at_no_margin_tangos_test_is_mcnemars(gains: int, losses: int) -> None:
    if gains + losses < 25:
        return
    expected = mcnemar([[100, gains], [losses, 100]], exact=False, correction=False)

    found = PairedProportions(gains, losses, 200 + gains + losses)

    assert found.score(0.0) ** 2 == pytest.approx(expected.statistic, abs=1e-9)
    assert 2 * min(found.p_below(0.0), found.p_above(0.0)) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12))
def test_with_few_discordant_rows_a_difference_is_shown_only_if_the_exact_test_shows_it(
    gains: int, losses: int
) -> None:
    if gains == losses:
        return
    more, all_of_them = max(gains, losses), gains + losses
    exact = stats.binomtest(more, all_of_them, alternative="greater").pvalue

    found = PairedProportions(gains, losses, 100)

    shown = found.p_above(0.0) if gains > losses else found.p_below(0.0)
    assert shown >= exact - 1e-12


def test_the_bound_of_three_gains_and_no_loss_is_that_of_the_exact_test() -> None:
    """Clopper and Pearson: if 3 of 3 are gains, at least 0.05 ** (1 / 3) of such rows are, at 95% confidence."""
    found = PairedProportions(gains=3, losses=0, rows=100)

    assert found.lower(0.95) == pytest.approx((2 * 0.05 ** (1 / 3) - 1) * 3 / 100, abs=1e-9)


def test_models_that_decide_alike_may_still_differ_by_what_so_many_rows_cannot_show() -> None:
    found = difference(
        "accuracy", rows_of([0, 1, 1, 0], a=[0.1, 0.9, 0.8, 0.2], b=[0.2, 0.7, 0.9, 0.1]), "a", "b", spec=SPEC
    )
    square = stats.norm.ppf(0.975) ** 2

    assert found.estimate == 0.0
    assert found.low == pytest.approx(-square / (4 + square))
    assert found.high == pytest.approx(square / (4 + square))


def test_accuracy_with_clusters_has_the_error_between_clusters() -> None:
    day = np.repeat(np.arange(10), 30)
    right = np.concatenate([np.arange(30) < share for share in range(15, 25)])
    rows = rows_of(np.ones(300), a=right, cluster=day)
    means = right.reshape(10, 30).mean(axis=1)

    found = estimate("accuracy", Part(rows, MeasurementSpec(cluster="day")), "a")

    assert found.bounds is not None
    assert found.method == "Wilson score of 10 days"
    assert found.clusters == 10
    worth = 0.65 * 0.35 / stats.sem(means) ** 2
    assert isinstance(found.bounds, Wilson)
    assert found.bounds.rows == pytest.approx(min(300, worth))
    assert found.bounds.freedom == 9


def test_a_paired_difference_with_clusters_is_students() -> None:
    day = np.repeat(np.arange(8), 25)
    rng = np.random.default_rng(9)
    new, old = rng.random(200) < 0.8, rng.random(200) < 0.7
    means = (new.astype(float) - old).reshape(8, 25).mean(axis=1)
    expected = stats.ttest_1samp(means, 0.0).confidence_interval(0.95)

    found = difference("accuracy", rows_of(np.ones(200), a=new, b=old, cluster=day), "a", "b", spec=SPEC)

    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)


def test_a_rate_among_the_positive_rows_is_compared_on_these_alone() -> None:
    truth = [1] * 40 + [0] * 60
    new, old = np.ones(100), np.concatenate([np.zeros(30), np.ones(70)])

    found = estimate_difference("recall", Part(rows_of(truth, a=new, b=old), SPEC), "a", "b", higher=True)

    assert found.bounds == PairedProportions(gains=30, losses=0, rows=40)


# --- The bootstrap ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.9, 0.975])
def test_the_bootstrap_agrees_with_scipys_bca(confidence: float) -> None:
    rng = np.random.default_rng(10)
    truth, score = np.zeros(80), np.exp(rng.normal(size=80))
    spec = MeasurementSpec(resamples=20_000)
    other = stats.bootstrap(
        (score**2,), lambda x, axis: np.sqrt(x.mean(axis=axis)), n_resamples=20_000, method="BCa",
        confidence_level=2 * confidence - 1, rng=np.random.default_rng(1),
    )  # fmt: skip

    found = estimate("rmse", Part(rows_of(truth, "regression", a=score), spec), "a").bounds

    assert isinstance(found, Bootstrap)
    low, high = other.confidence_interval
    # Ours is widened for few rows by the quotient of Student's quantile and the normal one.
    wider = stats.t.ppf(confidence, 79) / stats.norm.ppf(confidence) * math.sqrt(80 / 79)
    assert found.error == pytest.approx(other.standard_error * math.sqrt(80 / 79), rel=0.03)
    assert found.value - found.lower(confidence) == pytest.approx(wider * (found.value - low), rel=0.07)
    assert found.upper(confidence) - found.value == pytest.approx(wider * (high - found.value), rel=0.07)


@pytest.mark.parametrize("name", ["log_loss", "brier"])
def test_a_mean_loss_has_the_standard_error_of_a_mean(name: str) -> None:
    rows = two_models(11, 3000)
    losses: dict[str, Callable[[Any], Any]] = {
        "log_loss": lambda s: -np.log(np.where(rows.truth == 1, s, 1 - s)),
        "brier": lambda s: (s - rows.truth) ** 2,
    }
    gains = losses[name](rows.scores["champion"]) - losses[name](rows.scores["candidate"])

    found = difference(name, rows, "candidate", "champion", spec=SPEC)

    assert found.estimate == pytest.approx(gains.mean())
    assert found.standard_error == pytest.approx(stats.sem(gains), rel=0.08)


def test_dealing_rows_into_random_groups_keeps_the_standard_error() -> None:
    rows = two_models(12, 40_000)
    losses = (rows.scores["candidate"] - rows.truth) ** 2

    found = estimate("brier", Part(rows, SPEC), "candidate")

    assert found.method == "BCa bootstrap of 40,000 rows in 4,096 random groups"
    assert found.bounds is not None
    assert found.bounds.error == pytest.approx(stats.sem(losses), rel=0.08)


def test_clusters_are_drawn_as_a_whole() -> None:
    rng = np.random.default_rng(13)
    day = np.repeat(np.arange(50), 40)
    errors = rng.normal(size=50)[day] + rng.normal(size=2000)
    rows = rows_of(np.zeros(2000), "regression", a=abs(errors), cluster=day)
    means = abs(errors).reshape(50, 40).mean(axis=1)

    found = estimate("mae", Part(rows, MeasurementSpec(cluster="day")), "a")

    assert found.method == "BCa bootstrap of 50 days"
    assert found.bounds is not None
    assert found.bounds.error == pytest.approx(stats.sem(means), rel=0.08)


def test_a_seed_makes_the_bootstrap_repeatable_and_another_moves_it() -> None:
    rows = two_models(14, 6000)

    first, again, other = (
        difference("log_loss", rows, "candidate", "champion", spec=MeasurementSpec(seed=seed)) for seed in (3, 3, 4)
    )

    assert first == again
    assert other.low != first.low
    assert other.low == pytest.approx(first.low, rel=0.1)


def test_a_confidence_that_needs_more_resamples_than_there_are_gets_a_bound_further_out() -> None:
    rng = np.random.default_rng(15)
    bounds = Bootstrap(0.0, rng.normal(size=1000), 500, rng.normal(size=500))

    lows = [bounds.lower(1 - tail) for tail in (0.05, 0.01, 1e-3, 1e-4, 1e-6)]

    assert all(first > second for first, second in pairwise(lows))
    assert lows[-1] == pytest.approx(stats.norm.ppf(1e-6), rel=0.1)


def test_a_difference_is_bounded_by_percentiles() -> None:
    found = difference("brier", two_models(21, 100), "candidate", "champion", spec=SPEC)

    assert found.method == "percentile bootstrap of 100 rows"


def test_resamples_that_all_lie_on_one_side_are_bounded_by_percentiles() -> None:
    bounds = Bootstrap(0.0, np.linspace(1, 2, 1000), 10_000, np.linspace(-1, 1, 100))

    assert not bounds.corrected
    assert bounds.lower(0.95) == pytest.approx(1.05, abs=0.01)


def test_the_calibration_error_of_a_calibrated_model_may_be_nothing() -> None:
    rng = np.random.default_rng(16)
    score = rng.random(2000)

    found = metric_of("calibration_error", rows_of(rng.random(2000) < score, a=score), "a", spec=SPEC)

    assert found.value is not None
    assert found.low == 0.0
    assert found.high is not None
    assert found.value < found.high < 0.06


def test_a_cost_that_no_row_has_is_bounded_by_how_many_rows_there_were() -> None:
    spec = MeasurementSpec(costs={"1": {"0": 10.0}})

    found = metric_of("cost", rows_of([0, 1] * 50, a=[0.1, 0.9] * 50), "a", spec=spec)

    assert found.value == 0.0
    assert found.high == pytest.approx(10 * proportion_confint(0, 100, method="wilson")[1])


def test_a_score_that_does_not_vary_has_no_known_error() -> None:
    found = estimate("log_loss", Part(rows_of([0, 1] * 20, a=[0.5] * 40), SPEC), "a")

    assert found.value == pytest.approx(math.log(2))
    assert found.bounds is None
    assert "does not vary" in found.detail


def test_a_perfect_f1_is_bounded_by_how_many_rows_there_were() -> None:
    found = metric_of("f1", rows_of([0, 1] * 20, a=[0.1, 0.9] * 20), "a", spec=SPEC)

    assert found.low == pytest.approx(proportion_confint(40, 40, method="wilson")[0])


@pytest.mark.parametrize("name", ["roc_auc", "accuracy", "log_loss", "f1"])
def test_one_cluster_shows_nothing(name: str) -> None:
    rows = two_models(17, 200, cluster=np.zeros(200))

    single = estimate(name, Part(rows, SPEC), "candidate")
    apart = difference(name, rows, "candidate", "champion", spec=SPEC)

    assert single.value is not None
    assert single.bounds is None
    assert single.detail == "too few independent rows for an error"
    assert apart.low is None


# --- Metrics of one's own --------------------------------------------------------------------------------------------


def test_a_mean_of_ones_own_has_the_error_of_a_mean() -> None:
    rows = two_models(18, 50)
    losses = abs(rows.scores["candidate"] - rows.truth)
    own = {"a:mean": lambda truth, score: float(abs(score - truth).mean())}

    found = metric_of("a:mean", rows, "candidate", spec=SPEC, own=own)

    expected = stats.t.interval(0.95, 49, losses.mean(), stats.sem(losses))
    assert found.low == pytest.approx(expected[0], abs=1e-9)
    assert found.high == pytest.approx(expected[1], abs=1e-9)


def test_a_metric_of_ones_own_that_breaks_on_a_part_of_the_rows_has_no_error() -> None:
    def fussy(truth: Any, score: Any) -> float:
        return 1.0 if len(truth) == 30 else float("nan")

    found = estimate("a:fussy", Part(two_models(19, 30), SPEC), "candidate", own={"a:fussy": fussy})

    assert found.value == 1.0
    assert found.bounds is None
    assert found.detail == "without a part of the rows it returned nan"


# --- Curves ----------------------------------------------------------------------------------------------------------

CURVES: dict[str, Bounds] = {
    "symmetric": Symmetric(0.3, 0.1),
    "student": Symmetric(-0.3, 0.1, 5),
    "logit": Logit(0.8, 0.05),
    "wilson": Wilson(0.05, 40),
    "alike": Alike(50),
    "tango": PairedProportions(30, 20, 500),
    "exact": PairedProportions(4, 1, 100),
    "bootstrap": Bootstrap(
        0.1, np.random.default_rng(1).gamma(2, 0.05, 1000), 200, np.random.default_rng(2).gamma(2, 0.001, 200)
    ),
    "percentile": Bootstrap(0.0, np.random.default_rng(4).normal(0, 0.05, 1000), 200),
    "folded": Folded(0.02, abs(np.random.default_rng(3).normal(0.02, 0.01, 1000)), 300),
    "gap": Gap([Wilson(0.3, 100), Wilson(0.35, 80), Wilson(0.5, 120)]),
}


@pytest.mark.parametrize("name", CURVES)
def test_bounds_never_fall_as_the_score_grows_and_hold_the_estimate(name: str) -> None:
    curve = CURVES[name]

    values = [curve.at(z) for z in np.linspace(-6, 6, 61)]

    assert all(first <= second + 1e-12 for first, second in pairwise(values))
    if name != "bootstrap":
        assert values[0] <= curve.value <= values[-1]
    assert curve.lower(0.5) == curve.upper(0.5) == curve.value


@pytest.mark.parametrize(("name", "confidence"), list(product(CURVES, [0.8, 0.95, 0.999])))
def test_a_limit_beyond_the_bound_is_what_the_p_value_says(name: str, confidence: float) -> None:
    curve = CURVES[name]
    low, high = curve.lower(confidence), curve.upper(confidence)

    assert curve.p_below(high + 1e-6) < 1 - confidence + 1e-6
    assert curve.p_below(high - 1e-6) > 1 - confidence - 1e-6
    assert curve.p_above(low + 1e-6) > 1 - confidence - 1e-6
    if low > 0 or name not in ("folded", "gap"):
        assert curve.p_above(low - 1e-6) < 1 - confidence + 1e-6


def test_a_difference_without_error_shows_neither_side() -> None:
    curve = Certain(0.0)

    assert (curve.lower(0.99), curve.upper(0.99), curve.error) == (0.0, 0.0, 0.0)
    assert curve.p_below(0.0) == curve.p_above(0.0) == 1.0
    assert curve.p_below(0.01) == pytest.approx(0.0, abs=1e-30)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "log_loss", "brier", "accuracy", "f1", "cost"])
def test_a_model_against_itself_differs_by_nothing(name: str) -> None:
    score = [0.9, 0.2, 0.6, 0.4]

    found = difference(name, rows_of([1, 0, 1, 0], a=score, b=score), "a", "b", spec=SPEC)

    assert (found.estimate, found.standard_error, found.low, found.high) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("name", "sign"), [("brier", 1), ("log_loss", 1), ("roc_auc", 1)])
def test_the_better_model_has_a_positive_difference(name: str, sign: int) -> None:
    rows = rows_of([1, 0, 1, 0, 1, 0], good=[0.9, 0.1, 0.8, 0.2, 0.6, 0.3], bad=[0.6, 0.5, 0.4, 0.3, 0.5, 0.55])

    found = difference(name, rows, "good", "bad", spec=SPEC)

    assert found.estimate is not None
    assert found.estimate * sign > 0


def test_the_greatest_gap_of_two_groups_is_newcombes_hybrid_interval() -> None:
    """Newcombe, Statist. Med. 17 (1998) 873, method 10, as in statsmodels."""
    low, high = confint_proportions_2indep(56, 70, 48, 80, method="newcomb")

    found = Gap([Wilson(56 / 70, 70), Wilson(48 / 80, 80)])

    assert found.value == pytest.approx(0.2)
    # Of two groups there is one pair, whose side is known from the data alone.
    assert found.lower(0.975) == pytest.approx(low)
    assert found.upper(0.975) == pytest.approx(high)


def test_a_gap_among_many_groups_needs_more_to_be_shown() -> None:
    pair, many = Gap([Wilson(0.3, 200), Wilson(0.5, 200)]), Gap([Wilson(p, 200) for p in (0.3, 0.35, 0.4, 0.45, 0.5)])

    assert many.value == pytest.approx(pair.value)
    assert many.lower(0.95) < pair.lower(0.95)
    assert many.upper(0.95) == pytest.approx(pair.upper(0.95))


def test_intervals_hold_the_true_difference_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(20)
    inside = dict.fromkeys(("roc_auc", "log_loss"), 0)
    for _ in range(200):
        truth = rng.random(300) < 0.5
        shared = truth + rng.normal(size=300)
        new, old = (1 / (1 + np.exp(-(shared + 0.5 * rng.normal(size=300)))) for _ in range(2))
        for name in inside:
            found = difference(name, rows_of(truth, a=new, b=old), "a", "b", spec=SPEC)
            assert found.low is not None
            assert found.high is not None
            inside[name] += found.low <= 0 <= found.high

    assert all(0.89 < count / 200 < 0.99 for count in inside.values())
