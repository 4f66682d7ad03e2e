"""What a column's answer is, and whether its p-value means what it says."""

from __future__ import annotations

from typing import Any

import numpy as np  # noqa: TID253  # tests make tables
import pandas as pd  # noqa: TID253  # as above
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats  # noqa: TID253  # as above
from scipy.special import ndtr, ndtri  # noqa: TID253  # as above

from ml_lifecycle.backends.monitoring import calibration, comparison
from ml_lifecycle.backends.monitoring.comparison import compare
from ml_lifecycle.backends.monitoring.distances import chi_square
from ml_lifecycle.backends.monitoring.duckdb import DuckDbProfiler
from ml_lifecycle.core.contracts import ColumnDrift
from ml_lifecycle.core.errors import DataError

START = pd.Timestamp("2013-01-01")


@pytest.fixture
def rng() -> np.random.Generator:
    """The same draws in every run, whatever ran before."""
    return np.random.default_rng(11)


def compared(reference: Any, current: Any, *, block: str | None = None) -> ColumnDrift:
    """The column ``x`` of two tables, or of the values themselves."""
    tables = (reference, current)
    before, after = (table if isinstance(table, pd.DataFrame) else pd.DataFrame({"x": table}) for table in tables)
    profiler = DuckDbProfiler()
    frame = profiler.frame(before, columns=["x"])
    sides = [profiler.profile(one, frame, block=block, time="at" if block else None) for one in (before, after)]
    (found,) = compare(*sides, min_effect=0.03)
    return found


def days(values: Any, count: int, *, start: int = 0) -> Any:
    """The values, spread evenly over so many days."""
    return pd.DataFrame({"x": values, "at": START + pd.to_timedelta(start + np.arange(len(values)) % count, unit="D")})


# --- What a column's answer is ---------------------------------------------------------------------------------------


def test_a_column_that_moved_says_so_in_every_distance(rng: np.random.Generator) -> None:
    found = compared(rng.normal(size=5_000), rng.normal(0.5, 1, 1_000))

    assert (found.kind, found.method, found.threshold, found.drifted) == ("number", "ks", 0.03, False)
    # Half a standard deviation: the shares below 0.25 differ by 2 * Phi(0.25) - 1 = 0.197.
    assert found.distance == pytest.approx(0.197, abs=0.04)
    assert found.wasserstein == pytest.approx(0.5, abs=0.1)
    assert found.p_value is not None
    assert found.p_value < 1e-12
    assert found.rows == 1_000
    assert found.adjusted is None
    assert found.detail == ""


def test_a_column_that_loses_values_has_moved_by_as_many(rng: np.random.Generator) -> None:
    values = rng.normal(size=2_000)

    found = compared(values, np.where(np.arange(2_000) % 5 == 0, np.nan, values))

    assert found.distance == pytest.approx(0.2, abs=0.002)
    assert found.p_value is not None
    assert found.p_value < 1e-50
    assert (found.missing, found.missing_before) == (0.2, 0.0)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_shift_is_not_hidden_by_missing_values_at_either_end(sign: int) -> None:
    values = np.arange(1_000.0)
    current = values + sign * 200.0
    current[::10] = np.nan

    found = compared(values, current)

    # Nine tenths of a shift by a fifth of all rows, and missing rows behind or before all of them.
    assert found.distance is not None
    assert found.distance >= 0.2


@pytest.mark.parametrize(
    ("reference", "current", "distance", "p_value", "said"),
    [
        ([5.0] * 100, [5.0] * 40, 0.0, 1.0, "constant on both sides"),
        (["a"] * 100, ["a"] * 40, 0.0, 1.0, "constant on both sides"),
        ([np.nan] * 100, [np.nan] * 40, 0.0, 1.0, "no value on either side"),
    ],
)
def test_a_column_without_news_has_not_moved(
    reference: list[Any], current: list[Any], distance: float, p_value: float, said: str
) -> None:
    found = compared(reference, current)

    assert (found.distance, found.p_value) == (distance, p_value)
    assert said in found.detail


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        ([5.0] * 100, [6.0] * 40),
        (["a"] * 100, ["b"] * 40),
        ([1.0, 2.0] * 50, [np.nan] * 40),
        (["a", "b"] * 50, [None] * 40),
        ([1.0, 2.0] * 50, [7.0, 8.0] * 20),
    ],
)
def test_two_sides_with_nothing_in_common_are_as_far_apart_as_can_be(reference: list[Any], current: list[Any]) -> None:
    found = compared(reference, current)

    assert found.distance == 1.0
    assert found.p_value is not None
    assert found.p_value < 1e-6


def test_a_category_that_the_reference_does_not_have_is_counted() -> None:
    found = compared(["a", "b"] * 200, ["a"] * 60 + ["b"] * 30 + ["c"] * 10)

    assert (found.kind, found.method) == ("category", "total_variation")
    assert found.unseen == 0.1
    # 50 and 50 against 60, 30 and 10 of a hundred: (10 + 20 + 10) / 2.
    assert found.distance == pytest.approx(0.2)


def test_of_texts_that_name_rows_only_missing_values_are_compared() -> None:
    names = [f"row {place}" for place in range(400)]

    same = compared(names, [f"other {place}" for place in range(300)])
    lost = compared(names, [None if place % 2 else f"other {place}" for place in range(300)])

    assert (same.kind, same.distance, same.p_value) == ("identifier", 0.0, 1.0)
    assert "only missing values are compared" in same.detail
    assert lost.distance == 0.5
    assert lost.wasserstein is None


def test_with_one_row_nothing_can_be_told(rng: np.random.Generator) -> None:
    found = compared(rng.normal(size=500), [3.0])

    assert found.p_value is None
    assert found.distance is not None
    assert found.detail == "only 1 row in the current data; 20 are needed"


def test_few_blocks_do_not_tell_how_much_blocks_differ(rng: np.random.Generator) -> None:
    found = compared(days(rng.normal(size=300), 3), days(rng.normal(size=100), 1, start=9), block="day")

    assert found.p_value is None
    assert found.detail == "only 3 days in the reference; 8 are needed"


def test_profiles_of_two_frames_are_not_compared() -> None:
    profiler = DuckDbProfiler()
    tables = pd.DataFrame({"x": [1.5, 2.0, 3.0] * 20}), pd.DataFrame({"x": ["a", "b"] * 20})
    sides = [profiler.profile(one, profiler.frame(one)) for one in tables]

    with pytest.raises(DataError, match="not counted in one frame"):
        compare(*sides, min_effect=0.03)


def test_a_day_is_held_against_how_much_days_differ(rng: np.random.Generator) -> None:
    means = rng.normal(0, 0.5, 30)
    reference = days(rng.normal(size=6_000) + np.tile(means, 200), 30)
    current = days(rng.normal(size=200) + 0.5, 1, start=40)

    alone, by_day = compared(reference, current), compared(reference, current, block="day")

    assert alone.p_value is not None
    assert by_day.p_value is not None
    assert alone.p_value < 1e-3
    assert by_day.p_value > 0.05
    assert alone.design_effect is None
    assert by_day.design_effect is not None
    assert by_day.design_effect > 3


def test_a_shift_beyond_what_days_do_is_found_in_days(rng: np.random.Generator) -> None:
    reference = days(rng.normal(size=30_000) + np.tile(rng.normal(0, 0.1, 30), 1_000), 30)

    found = compared(reference, days(rng.normal(1.0, 1, 1_000), 1, start=40), block="day")

    assert found.p_value is not None
    assert found.p_value < 1e-4


# --- Whether p-values mean what they say -----------------------------------------------------------------------------

TENTHS = np.full(10, 0.1)
UNEVEN = np.array([0.5, 0.2, 0.12, 0.08, 0.04, 0.03, 0.03])


def of_rows(shares: Any, reference: int, current: int, draws: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    before, after = rng.multinomial(reference, shares, draws), rng.multinomial(current, shares, draws)
    return calibration.p_values(before[:, None, :], after[:, None, :])[0]


def rises_no_faster(p_values: Any, level: float) -> bool:
    """Whether so many small p-values are what chance may bring: the exact binomial tail, at 1 in 10,000."""
    found = int((p_values <= level).sum())
    return bool(stats.binom.sf(found - 1, len(p_values), level) > 1e-4)


@pytest.mark.parametrize("shares", [TENTHS, UNEVEN], ids=["tenths", "uneven"])
@pytest.mark.parametrize(("reference", "current"), [(6_000, 200), (400, 300), (100_000, 5_000)])
def test_independent_rows_give_no_more_small_p_values_than_they_may(shares: Any, reference: int, current: int) -> None:
    p_values = of_rows(shares, reference, current, 50_000, seed=1)

    assert all(rises_no_faster(p_values, level) for level in (0.05, 0.01, 0.001, 1e-4))


def test_p_values_of_many_rows_are_spread_evenly() -> None:
    p_values = of_rows(TENTHS, 100_000, 20_000, 20_000, seed=2)

    found = int((p_values < 0.01).sum())
    assert stats.binom.ppf(1e-6, 20_000, 0.008) <= found <= stats.binom.ppf(1 - 1e-4, 20_000, 0.01)
    assert np.quantile(p_values, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.02)


def of_days(rows: int, effect: float, alike: float, draws: int, seed: int) -> Any:
    """60 days and one a month later, where a day's rows share a mean that follows the day before (AR(1))."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(draws, 91))
    for day in range(1, 91):
        means[:, day] = alike * means[:, day - 1] + np.sqrt(1 - alike**2) * means[:, day]
    means = np.concatenate([means[:, :60], means[:, 90:]], axis=1) * effect
    below = ndtr((ndtri(np.arange(1, 10) / 10) - means[..., None]) / np.sqrt(1 - effect**2))
    ends = np.zeros((*means.shape, 1))
    counts = rng.multinomial(rows, np.diff(np.concatenate([ends, below, ends + 1], axis=-1), axis=-1))
    return calibration.p_values(counts[:, :60], counts[:, 60:])[0]


@pytest.mark.parametrize(("effect", "alike"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.5), (0.3, 0.5)])
def test_alike_days_give_no_more_small_p_values_than_they_may(effect: float, alike: float) -> None:
    p_values = of_days(500, effect, alike, 3_000, seed=4)

    assert all(rises_no_faster(p_values, level) for level in (0.05, 0.01, 0.001))


def of_unlike_days(sizes: Any, alike: float, draws: int, seed: int, *, shift: float = 0.0) -> Any:
    """Normal values in ten cells; days of those sizes differ by this share of the variance."""
    generator = np.random.default_rng(seed)
    middle = np.sqrt(alike) * generator.standard_normal((draws, len(sizes), 1)) + shift
    below = ndtr((ndtri(np.linspace(0, 1, 11)) - middle) / np.sqrt(1 - alike))
    return generator.multinomial(np.broadcast_to(sizes, (draws, len(sizes))), np.diff(below, axis=-1))


UNLIKE = [
    ([48] * 30, [300], 1e-3),
    ([48] * 30, [5_000], 1e-3),
    ([48] * 30, [100_000], 3e-3),
    ([48] * 8, [5_000], 0.05),
    ([300] * 30, [48], 1e-3),
    ([5_000] * 30, [48], 1e-3),
    ([48] * 29 + [20_000], [300], 0.05),
    ([48] * 30, [300] * 7, 1e-3),
]


@pytest.mark.parametrize(("before", "after", "least"), UNLIKE)
def test_a_large_shift_is_found_whatever_the_days_sizes_are(before: Any, after: Any, least: float) -> None:
    reference, current = of_unlike_days(before, 0.02, 200, 1), of_unlike_days(after, 0.02, 200, 2, shift=3.0)

    found, _ = calibration.p_values(reference, current)

    assert np.median(found) < least


@pytest.mark.parametrize("alike", [0.0, 0.02, 0.2])
@pytest.mark.parametrize(("before", "after", "least"), UNLIKE)
def test_days_of_other_sizes_give_no_more_small_p_values_than_they_may(
    before: Any, after: Any, least: float, alike: float
) -> None:
    reference, current = of_unlike_days(before, alike, 2_000, 3), of_unlike_days(after, alike, 2_000, 4)

    found, _ = calibration.p_values(reference, current)

    assert all(rises_no_faster(found, level) for level in (0.05, 0.01, 0.001))


def of_a_chain_of_days(days: int, seed: int, *, shift: float = 0.0) -> Any:
    """Days of 5,000 rows whose middles remember 0.8 of the day before."""
    generator = np.random.default_rng(seed)
    middles = np.empty((2_000, days))
    middles[:, 0] = generator.standard_normal(2_000)
    for day in range(1, days):
        middles[:, day] = 0.8 * middles[:, day - 1] + 0.6 * generator.standard_normal(2_000)
    below = ndtr(ndtri(np.linspace(0, 1, 11)) - 0.1 * middles[..., None] - shift)
    return generator.multinomial(5_000, np.diff(below, axis=-1))


def test_windows_of_days_that_follow_each_other_give_no_more_small_p_values_than_they_may() -> None:
    reference = of_a_chain_of_days(30, 5)

    found, _ = calibration.p_values(reference, of_a_chain_of_days(7, 6))
    moved, _ = calibration.p_values(reference, of_a_chain_of_days(7, 6, shift=1.0))

    assert all(rises_no_faster(found, level) for level in (0.05, 0.01, 0.001))
    assert np.median(moved) < 0.01


def test_a_constant_that_varies_now_is_found_in_larger_days() -> None:
    reference = np.zeros((30, 3), dtype=np.int64)
    reference[:, 0] = 48
    current = np.array([[0, 5_000, 0]])

    found, _ = calibration.p_values(reference, current)

    assert found < 1e-3


def test_blocks_are_never_less_strict_than_independent_rows() -> None:
    rng = np.random.default_rng(6)
    reference, current = rng.multinomial(300, TENTHS, (200, 30)), rng.multinomial(300, TENTHS[::-1], (200, 7))

    blocks, effect = calibration.p_values(reference, current)

    rows, _ = calibration.p_values(reference.sum(axis=1)[:, None], current.sum(axis=1)[:, None])
    assert (blocks >= rows).all()
    assert (effect >= 1).all()


def test_rare_rows_are_counted_exactly() -> None:
    p_value, _ = calibration.p_values(np.array([[5_990, 10]]), np.array([[197, 3]]))

    # Two rows in 1,000 are rare: twice the upper tail of the hypergeometric distribution.
    expected = 2 * stats.hypergeom.sf(2, 6_200, 13, 200)
    assert float(p_value) == pytest.approx(expected)


def test_statistics_moments_are_those_of_the_permuted_table() -> None:
    rng = np.random.default_rng(8)
    before, after = np.array([40.0, 12.0, 5.0, 3.0]), np.array([10.0, 8.0, 1.0, 1.0])
    drawn = rng.multivariate_hypergeometric((before + after).astype(int), 20, size=200_000).astype(float)
    found = chi_square(before + after - drawn, drawn)

    mean, half_variance, _ = calibration._cumulants(before, after)

    assert float(mean) == pytest.approx(found.mean(), rel=0.01)
    assert float(2 * half_variance) == pytest.approx(found.var(), rel=0.03)


@pytest.mark.parametrize("blocks", [1, 4, 9])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_counts_break_a_p_value(blocks: int, data: st.DataObject) -> None:
    numbers = st.integers(0, 10**7)
    reference, current = (data.draw(arrays(np.int64, (rows, 4), elements=numbers)) for rows in (blocks, 2))

    p_value, effect = calibration.p_values(reference, current)

    assert 0.0 <= float(p_value) <= 1.0
    assert float(effect) >= 1.0


def test_columns_that_are_too_many_for_one_go_get_the_same_answers(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = pd.DataFrame({name: rng.normal(size=300) for name in "abc"})
    current = pd.DataFrame({name: rng.normal(size=200) for name in "abc"})
    profiler = DuckDbProfiler()
    frame = profiler.frame(reference)
    sides = [profiler.profile(one, frame) for one in (reference, current)]
    at_once = compare(*sides, min_effect=0.03)
    monkeypatch.setattr(comparison, "_AT_ONCE", 1)

    one_by_one = compare(*sides, min_effect=0.03)

    assert one_by_one == at_once
