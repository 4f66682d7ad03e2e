"""What a histogram says about the 95th percentile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_lifecycle.core.contracts import Histogram
from ml_lifecycle.core.latencies import Times


def of(bounds: tuple[float, ...], counts: tuple[int, ...]) -> Times:
    times = Times.of(Histogram(bounds_ms=bounds, counts=counts))
    assert times is not None
    return times


def test_a_percentile_lies_evenly_within_its_bin() -> None:
    # 90 requests below 10 ms, 10 between 10 and 20 ms: the 95th lies in the middle.
    assert of((10.0, 20.0), (90, 10, 0)).percentile == pytest.approx(15.0)


def test_a_percentile_at_the_end_of_a_bin_is_that_end() -> None:
    assert of((10.0, 20.0), (95, 5, 0)).percentile == pytest.approx(10.0)


def test_a_percentile_beyond_the_last_bound_is_not_known() -> None:
    assert of((10.0,), (90, 10)).percentile is None


@pytest.mark.parametrize(
    ("than", "sure", "at_most"),
    [(0.0, 100, 100), (5.0, 55, 55), (10.0, 10, 10), (15.0, 6, 6), (20.0, 2, 2), (30.0, 0, 2)],
)
def test_requests_that_took_longer_are_counted(than: float, sure: float, at_most: float) -> None:
    times = of((10.0, 20.0), (90, 8, 2))

    assert times.slower(than) == pytest.approx(sure)
    assert times.slower(than, at_most=True) == pytest.approx(at_most)


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [((), (5,)), ((1.0,), (5,)), ((2.0, 1.0), (1, 1, 1)), ((1.0, 1.0), (1, 1, 1)), ((-1.0,), (1, 1)), ((1.0,), (0, 0)),
     ((1.0,), (5, -1))],
)  # fmt: skip
def test_a_histogram_that_cannot_be_read_is_none(bounds: tuple[float, ...], counts: tuple[int, ...]) -> None:
    assert Times.of(Histogram(bounds_ms=bounds, counts=counts)) is None


def test_no_histogram_is_none() -> None:
    assert Times.of(None) is None


@given(st.lists(st.integers(0, 1_000), min_size=4, max_size=4).filter(any))
def test_one_of_twenty_requests_is_slower_than_the_percentile(counts: list[int]) -> None:
    times = of((1.0, 5.0, 40.0), tuple(counts))

    percentile = times.percentile

    if percentile is not None:
        assert times.slower(percentile) == pytest.approx(0.05 * times.total)
