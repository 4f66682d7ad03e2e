from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_lifecycle.core.data import window_of
from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.core.monitoring import reference_partitions

YEAR = tuple(f"2011-{month:02}" for month in range(1, 13))


@pytest.mark.parametrize(
    ("partition", "every", "reference", "size", "window", "expected"),
    [
        pytest.param("2013-01", "monthly", "training", 28, 3, (), id="training data is no partition"),
        pytest.param("2013-01-02", "daily", "previous", 3, 1, ("2012-12-30", "2012-12-31", "2013-01-01"), id="year"),
        pytest.param("2013-01-02", "daily", "previous", 2, 3, ("2012-12-29", "2012-12-30"), id="before the window"),
        pytest.param("2013-01", "monthly", "previous", 2, 1, ("2012-11", "2012-12"), id="months"),
        pytest.param("2013-01-01T01", "hourly", "previous", 2, 1, ("2012-12-31T23", "2013-01-01T00"), id="hours"),
        pytest.param("2016-03-01", "daily", "previous", 1, 1, ("2016-02-29",), id="leap day"),
        pytest.param(
            # The clocks of Europe and of New York changed in between; those of UTC do not.
            "2013-04-03", "daily", "same_weekday", 28, 1,
            ("2013-03-06", "2013-03-13", "2013-03-20", "2013-03-27"), id="four Wednesdays",
        ),
        pytest.param(
            "2013-03-31T03", "hourly", "same_weekday", 336, 1, ("2013-03-17T03", "2013-03-24T03"), id="the same hour"
        ),
        pytest.param("2013-01-08", "daily", "same_weekday", 3, 1, ("2013-01-01",), id="one week at least"),
        pytest.param(
            "2013-01-09", "daily", "same_weekday", 7, 2, ("2013-01-01", "2013-01-02"), id="the weekdays of a window"
        ),
        pytest.param("2013-02", "monthly", "same_month", 28, 1, ("2012-02",), id="the month of the year before"),
        pytest.param("2013-01", "monthly", "same_month", 28, 2, ("2011-12", "2012-01"), id="two months"),
        pytest.param("2013-01", "monthly", "same_month", 28, 13, YEAR, id="a year"),
    ],
)  # fmt: skip
def test_what_a_look_compares_with(
    *, partition: str, every: Any, reference: Any, size: int, window: int, expected: tuple[str, ...]
) -> None:
    assert reference_partitions(partition, every, reference, size, window) == expected


@pytest.mark.parametrize(
    ("partition", "first", "last", "days"),
    [
        ("2016-02-29", "2015-02-01", "2015-02-28", 28),
        ("2017-02-10", "2016-02-01", "2016-02-29", 29),
        ("2013-01-31", "2012-01-01", "2012-01-31", 31),
    ],
)
def test_a_day_is_compared_with_its_month_of_the_year_before(partition: str, first: str, last: str, days: int) -> None:
    found = reference_partitions(partition, "daily", "same_month", 28, 1)

    assert (found[0], found[-1], len(found)) == (first, last, days)


def test_an_hour_is_compared_with_all_hours_of_its_month_of_the_year_before() -> None:
    found = reference_partitions("2013-03-10T02", "hourly", "same_month", 28, 1)

    assert (found[0], found[-1], len(found)) == ("2012-03-01T00", "2012-03-31T23", 31 * 24)


@pytest.mark.parametrize(
    ("partition", "every", "reference", "words"),
    [
        ("2013-01", "monthly", "same_weekday", "a month has no weekday"),
        ("0001-01-01", "daily", "same_month", "leaves the calendar"),
        ("0001-01-01", "daily", "previous", "leave the calendar"),
        ("2013-1", "monthly", "same_month", "does not name a partition"),
    ],
)
def test_what_cannot_be_compared_says_so(partition: str, every: Any, reference: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        reference_partitions(partition, every, reference, 28, 1)


@given(
    every=st.sampled_from(["daily", "hourly"]),
    reference=st.sampled_from(["previous", "same_weekday", "same_month"]),
    size=st.integers(1, 60),
    window=st.integers(1, 40),
)
def test_a_reference_is_older_than_its_window_in_order_and_without_repeats(
    every: Any, reference: Any, size: int, window: int
) -> None:
    partition = "2016-03-07" if every == "daily" else "2016-03-07T05"

    found = reference_partitions(partition, every, reference, size, window)

    assert list(found) == sorted(set(found))
    assert found[-1] < window_of(partition, every, window)[0]
