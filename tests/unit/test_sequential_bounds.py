"""Bounds and evidence that hold however often one looks."""

from __future__ import annotations

import math

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.core.sequential import (
    Stratum,
    evidence_against,
    evidence_of_more,
    evidence_since_any,
    radius,
    rate_bounds,
)


def test_evidence_against_a_rate_is_a_mixture_of_likelihood_ratios() -> None:
    # Half an observation's weight around 1%: a beta distribution with 0.5 and 49.5.
    def likelihood(rate: float) -> float:
        return float(stats.binom.pmf(9, 300, rate))

    mixed, _ = integrate.quad(lambda rate: likelihood(rate) * stats.beta.pdf(rate, 0.5, 49.5), 1e-12, 0.3, limit=200)

    assert evidence_against(0.01, 9, 300, around=0.01) == pytest.approx(math.log(mixed / likelihood(0.01)), abs=1e-6)


def test_a_rates_bounds_are_where_the_evidence_reaches_their_certainty() -> None:
    low, high = rate_bounds(9, 300, alphas=(0.01, 0.05), around=0.01)

    assert low < 0.03 < high
    assert evidence_against(low, 9, 300, around=0.01) == pytest.approx(math.log(100))
    assert evidence_against(high, 9, 300, around=0.01) == pytest.approx(math.log(20))


@pytest.mark.parametrize(("hits", "trials", "known"), [(0, 0, (0.0, 1.0)), (0, 50, (0.0, None)), (50, 50, (None, 1.0))])
def test_what_was_never_or_always_seen_has_one_open_end(
    hits: int, trials: int, known: tuple[float | None, float | None]
) -> None:
    bounds = rate_bounds(hits, trials, alphas=(0.05, 0.05), around=0.05)

    assert [end for end, said in zip(bounds, known, strict=True) if said is not None] == [
        said for said in known if said is not None
    ]
    assert 0.0 <= bounds[0] <= bounds[1] <= 1.0


def test_five_hundred_requests_without_an_error_are_within_one_percent() -> None:
    assert rate_bounds(0, 500, alphas=(0.0125, 0.025), around=0.01)[1] < 0.01
    assert rate_bounds(0, 450, alphas=(0.0125, 0.025), around=0.01)[1] > 0.01


@given(hits=st.integers(0, 500), more=st.integers(0, 100_000), limit=st.floats(1e-4, 0.5))
def test_a_rate_always_lies_between_its_bounds(hits: int, more: int, limit: float) -> None:
    low, high = rate_bounds(hits, hits + more, alphas=(0.01, 0.025), around=limit)

    assert 0.0 <= low <= high <= 1.0
    if hits + more:
        assert low <= hits / (hits + more) + 1e-9
        assert high >= hits / (hits + more) - 1e-9


def test_what_doubles_for_both_is_no_evidence() -> None:
    calm, busy = Stratum(10, 1_000, 90, 9_000), Stratum(200, 1_000, 1_800, 9_000)

    assert evidence_of_more([calm, busy]) < 0


def test_a_version_that_fails_twice_as_often_is_told_at_the_same_split() -> None:
    # Of 400 errors 100 instead of 53 fall to the tenth of the requests that it gets: a one-sided exact test says 6e-10.
    assert evidence_of_more([Stratum(100, 5_000, 433, 45_000)]) > math.log(1_000)
    assert evidence_of_more([Stratum(100, 5_000, 433, 45_000)], fewer=True) < 0


def test_errors_are_never_compared_across_splits() -> None:
    # In the quiet hour 10% of the traffic went to the new version, in the bad one 50%: at each step both did alike.
    steps = [Stratum(10, 10_000, 90, 90_000), Stratum(2_500, 50_000, 2_500, 50_000)]

    together = Stratum(2_510, 60_000, 2_590, 140_000)

    assert evidence_of_more(steps) < 0
    assert evidence_of_more([together]) > 100


def test_an_arm_that_becomes_worse_at_a_later_step_is_told() -> None:
    good, bad = Stratum(20, 10_000, 1_800, 90_000), Stratum(150, 2_000, 40, 2_000)

    assert evidence_since_any([good, bad]) > math.log(1_000)
    assert evidence_since_any([good, bad]) > evidence_of_more([good, bad])


@pytest.mark.parametrize("strata", [[], [Stratum(5, 10, 0, 0)], [Stratum(0, 0, 5, 10)]])
def test_one_silent_arm_is_no_evidence(strata: list[Stratum]) -> None:
    assert evidence_of_more(strata) == -math.inf
    assert evidence_since_any(strata) == -math.inf


def test_requests_that_come_in_clumps_count_as_fewer() -> None:
    arms = [Stratum(60, 1_000, 300, 9_000)]

    assert evidence_of_more(arms, clumps=2.0) < evidence_of_more(arms)


def test_a_version_that_is_alike_hardly_ever_looks_worse_however_often_one_looks() -> None:
    # 1,000 rollouts, 60 looks each: evidence of 20 may come in one of 20 at most.
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(1_000):
        new, old = rng.binomial(50, 0.05, 60).cumsum(), rng.binomial(450, 0.05, 60).cumsum()
        looks = (Stratum(new[at], 50 * (at + 1), old[at], 450 * (at + 1)) for at in range(60))
        wrong += any(evidence_of_more([one]) >= math.log(20) for one in looks)

    assert wrong <= 50


def test_a_mean_hardly_ever_leaves_its_bounds_however_often_one_looks() -> None:
    # Sums of normal numbers at information 1 to 400, with a bound that may be left in one of 20.
    rng = np.random.default_rng(8)
    reach = np.array([radius(information, alpha=0.05, effect=0.2) for information in range(1, 401)])

    means = rng.standard_normal((2_000, 400)).cumsum(axis=1) / np.arange(1, 401)

    assert 0.01 < (means > reach).any(axis=1).mean() <= 0.05


def test_a_means_bound_comes_closer_with_more_information() -> None:
    reaches = [radius(information, alpha=0.025, effect=0.02) for information in (1e2, 1e3, 1e4, 1e5)]

    assert reaches == sorted(reaches, reverse=True)
    # Twice as far as that of one look (1.96 standard errors) at most, where the difference that matters can be told.
    assert 0.0196 < reaches[2] < 2 * 0.0196


@pytest.mark.parametrize("information", [0.0, -1.0, math.nan])
def test_a_mean_without_information_has_no_bound(information: float) -> None:
    assert radius(information, alpha=0.025, effect=0.02) == math.inf
