"""Distances from counts against scipy's on the raw values, through the profiler that counts real tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np  # noqa: TID253  # tests make tables
import pandas as pd  # noqa: TID253  # as above
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253  # as above
from scipy.spatial import distance as exact  # noqa: TID253  # as above

from ml_lifecycle.backends.monitoring import distances
from ml_lifecycle.backends.monitoring.duckdb import DuckDbProfiler
from ml_lifecycle.backends.monitoring.profiles import ColumnProfile, merge

ROWS = 20_000
Draw = Callable[[np.random.Generator, int], Any]

NUMBERS: dict[str, tuple[Draw, Draw]] = {
    "normal": (lambda rng, n: rng.normal(size=n), lambda rng, n: rng.normal(0.2, 1.1, n)),
    "cauchy": (lambda rng, n: rng.standard_cauchy(n), lambda rng, n: rng.standard_cauchy(n) * 1.5),
    "lognormal": (lambda rng, n: rng.lognormal(0, 3, n), lambda rng, n: rng.lognormal(0.3, 3, n)),
    "spike": (
        lambda rng, n: np.where(rng.random(n) < 0.7, 3.25, rng.normal(3, 1, n)),
        lambda rng, n: np.where(rng.random(n) < 0.5, 3.25, rng.normal(3, 1, n)),
    ),
    "ties": (lambda rng, n: rng.normal(size=n).round(1), lambda rng, n: rng.normal(0.1, 1, n).round(1)),
    "far apart": (
        lambda rng, n: np.where(rng.random(n) < 0.5, rng.normal(0, 1, n), rng.normal(1e6, 1, n)),
        lambda rng, n: np.where(rng.random(n) < 0.6, rng.normal(0, 1, n), rng.normal(1e6, 1, n)),
    ),
    "integers": (lambda rng, n: rng.poisson(6, n), lambda rng, n: rng.poisson(7, n)),
    "zero-inflated": (
        lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.exponential(50, n)),
        lambda rng, n: np.where(rng.random(n) < 0.8, 0.0, rng.exponential(50, n)),
    ),
    "large": (lambda rng, n: 1e15 + rng.normal(0, 1e3, n), lambda rng, n: 1e15 + rng.normal(500, 1e3, n)),
}


def counted(reference: Any, current: Any) -> tuple[ColumnProfile, ColumnProfile]:
    """Both sides in the frame of the reference."""
    profiler = DuckDbProfiler()
    before, after = pd.DataFrame({"x": reference}), pd.DataFrame({"x": current})
    frame = profiler.frame(before)
    return profiler.profile(before, frame).columns["x"], profiler.profile(after, frame).columns["x"]


@pytest.fixture(scope="module", params=sorted(NUMBERS))
def numbers(request: pytest.FixtureRequest) -> tuple[Any, Any, ColumnProfile, ColumnProfile]:
    rng = np.random.default_rng(7)
    reference, current = (np.asarray(draw(rng, ROWS)) for draw in NUMBERS[request.param])
    return reference, current, *counted(reference, current)


def test_ks_is_scipys_but_for_the_rows_of_one_bin(numbers: tuple[Any, Any, ColumnProfile, ColumnProfile]) -> None:
    reference, current, before, after = numbers

    found = float(distances.ks(before.counts, after.counts))

    expected = float(stats.ks_2samp(reference, current).statistic)
    assert found <= expected + 1e-12
    assert found == pytest.approx(expected, abs=0.005)


def test_wasserstein_is_scipys_over_the_standard_deviation(
    numbers: tuple[Any, Any, ColumnProfile, ColumnProfile],
) -> None:
    reference, current, before, after = numbers

    found = distances.wasserstein(before, after)

    expected = stats.wasserstein_distance(reference, current) / np.std(reference)
    assert found == pytest.approx(expected, rel=0.02, abs=0.002)


def test_jensen_shannon_and_psi_of_numbers_are_those_of_the_cells(
    numbers: tuple[Any, Any, ColumnProfile, ColumnProfile],
) -> None:
    *_, before, after = numbers
    cells = before.blocks.sum(axis=0), after.blocks.sum(axis=0)

    expected = exact.jensenshannon(*cells, base=2)
    padded = [(one + 0.5) / (one + 0.5).sum() for one in cells]

    assert float(distances.jensen_shannon(*cells)) == pytest.approx(expected, abs=1e-9)
    # The index is the sum of both relative entropies.
    both = stats.entropy(padded[0], padded[1]) + stats.entropy(padded[1], padded[0])
    assert float(distances.psi(*cells)) == pytest.approx(both, abs=1e-9)


def test_categories_are_compared_as_scipy_does() -> None:
    rng = np.random.default_rng(3)
    names = np.array([f"k\u00e4se {place}" for place in range(12)])
    reference = rng.choice(names, ROWS, p=np.arange(12, 0, -1) / 78)
    current = rng.choice(names, ROWS // 4, p=np.arange(1, 13) / 78)

    before, after = counted(reference, current)

    tables = pd.crosstab(np.r_[reference, current], np.r_[np.zeros(ROWS), np.ones(ROWS // 4)]).to_numpy().T
    assert float(distances.jensen_shannon(before.counts, after.counts)) == pytest.approx(
        exact.jensenshannon(*tables, base=2), abs=1e-12
    )
    moved = np.abs(tables[0] / tables[0].sum() - tables[1] / tables[1].sum()).sum() / 2
    assert float(distances.total_variation(before.counts, after.counts)) == pytest.approx(moved, abs=1e-12)
    expected = stats.chi2_contingency(tables, correction=False).statistic
    assert float(distances.chi_square(before.counts, after.counts)) == pytest.approx(expected)


def test_profiles_of_parts_give_the_distances_of_the_whole() -> None:
    rng = np.random.default_rng(5)
    reference, current = pd.DataFrame({"x": rng.normal(size=900)}), pd.DataFrame({"x": rng.normal(1, 2, size=600)})
    profiler = DuckDbProfiler()
    frame = profiler.frame(reference)
    before, whole = profiler.profile(reference, frame), profiler.profile(current, frame)

    parts = merge([profiler.profile(current[:250], frame), profiler.profile(current[250:], frame)])

    assert distances.wasserstein(before.columns["x"], parts.columns["x"]) == pytest.approx(
        distances.wasserstein(before.columns["x"], whole.columns["x"]) or math.nan
    )


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        ([5.0, 5.0, 5.0], [5.0], 0.0),
        ([5.0, 5.0, 5.0], [6.0], None),
        ([1.0, 3.0], [2.0, 4.0], 1.0),
        ([1.0, 3.0], [None, None], None),
        ([0.0, 10.0], [1e300], None),
        ([1.0], [1.0], 0.0),
    ],
)
def test_the_wasserstein_distance_of_odd_columns_is_a_number_or_nothing(
    reference: list[float], current: list[float | None], expected: float | None
) -> None:
    before, after = counted(np.array(reference), np.array(current, dtype=float))

    found = distances.wasserstein(before, after)

    if current == [1e300]:
        assert found is not None
        assert found == pytest.approx(1e300 / 5, rel=1e-6)
    else:
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-3))


def test_the_greatest_floats_give_no_infinite_distance() -> None:
    found = distances.wasserstein(*counted(np.array([1.7e308, -1.7e308, 1.0]), np.array([1.7e308])))

    assert found is None or math.isfinite(found)


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [([0, 0], [0, 0], 0.0), ([3, 1], [0, 0], 1.0), ([0, 0], [1, 1], 1.0), ([4, 0], [0, 9], 1.0), ([1, 3], [2, 6], 0.0)],
)
def test_without_rows_on_one_side_nothing_is_in_common(
    reference: list[int], current: list[int], expected: float
) -> None:
    for distance in (distances.ks, distances.total_variation, distances.jensen_shannon):
        assert float(distance(np.array(reference), np.array(current))) == pytest.approx(expected, abs=1e-8)


def test_an_empty_cell_has_a_finite_index_worked_by_hand() -> None:
    # With half a row more in each cell: shares 1/4 and 3/4 against 3/4 and 1/4 of two rows: twice 1/2 * log(3).
    assert float(distances.psi(np.array([0, 1]), np.array([1, 0]))) == pytest.approx(math.log(3))


counts = st.lists(st.integers(0, 10**9), min_size=1, max_size=8)


@settings(deadline=None)
@given(counts, counts)
def test_no_counts_give_a_number_out_of_range(left: list[int], right: list[int]) -> None:
    size = max(len(left), len(right))
    sides = [np.array(side + [0] * (size - len(side))) for side in (left, right)]

    for distance in (distances.ks, distances.total_variation, distances.jensen_shannon):
        assert 0.0 <= float(distance(*sides)) <= 1.0
    assert float(distances.psi(*sides)) >= 0.0
    assert float(distances.chi_square(*sides)) >= 0.0
