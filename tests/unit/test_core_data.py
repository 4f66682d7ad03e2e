from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ml_lifecycle.core.data import (
    Every,
    end_of,
    every_of,
    partition_name,
    partition_of,
    render,
    start_of,
    window_of,
)
from ml_lifecycle.core.errors import DataError, RequestError


@pytest.mark.parametrize(
    ("every", "name"), [("hourly", "2013-01-31T07"), ("daily", "2013-01-31"), ("monthly", "2013-01")]
)
def test_a_moment_belongs_to_the_partition_that_it_falls_into(every: Every, name: str) -> None:
    moment = datetime(2013, 1, 31, 7, 59, 59, tzinfo=timezone.utc)

    assert partition_name(moment, every) == name


def test_partitions_are_named_in_utc_whatever_the_moments_zone() -> None:
    new_york = timezone(timedelta(hours=-5))

    assert partition_name(datetime(2013, 1, 31, 20, 0, tzinfo=new_york), "monthly") == "2013-02"
    assert partition_name(datetime(2013, 1, 31, 20, 0), "monthly") == "2013-01"  # noqa: DTZ001  # read as UTC


@pytest.mark.parametrize(
    ("partition", "every", "count", "window"),
    [
        ("2013-03", "monthly", 3, ("2013-01", "2013-02", "2013-03")),
        ("2013-01", "monthly", 3, ("2012-11", "2012-12", "2013-01")),
        ("2013-01", "monthly", 1, ("2013-01",)),
        ("2012-03-01", "daily", 2, ("2012-02-29", "2012-03-01")),
        ("2013-01-01T00", "hourly", 2, ("2012-12-31T23", "2013-01-01T00")),
    ],
)
def test_a_window_ends_with_the_newest_partition(
    partition: str, every: Every, count: int, window: tuple[str, ...]
) -> None:
    assert window_of(partition, every, count) == window


def test_a_partition_ends_where_the_next_one_starts() -> None:
    assert end_of("2012-12", "monthly") == start_of("2013-01", "monthly")
    assert end_of("2012-02-28", "daily") == start_of("2012-02-29", "daily")
    assert end_of("2013-01-31T23", "hourly") == start_of("2013-02-01T00", "hourly")


@pytest.mark.parametrize("name", ["2013-1", "2013-13", "2013-01-01", "", "13-01", "2013-01 ", "../13", "2013\u201001"])
def test_a_malformed_partition_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(RequestError, match="write it like 2013-01") as refused:
        start_of(name, "monthly")

    assert repr(name) in str(refused.value)


def test_a_window_that_reads_nothing_or_leaves_the_calendar_is_refused() -> None:
    with pytest.raises(RequestError, match="a window of 0 partitions"):
        window_of("2013-01", "monthly", 0)
    with pytest.raises(RequestError, match="leave the calendar"):
        window_of("0001-01", "monthly", 2)


@pytest.mark.parametrize(
    ("name", "every"), [("2013-01", "monthly"), ("2013-01-31", "daily"), ("2013-01-31T07", "hourly")]
)
def test_a_partitions_form_says_how_often_it_arrives(name: str, every: str) -> None:
    assert every_of(name) == every


def test_a_name_of_no_form_lists_all_forms() -> None:
    with pytest.raises(RequestError, match=r"2013-01-31T07 \(hourly\), 2013-01-31 \(daily\), 2013-01 \(monthly\)"):
        every_of("last month")


@given(
    st.datetimes(timezones=st.just(timezone.utc)),
    st.sampled_from(["hourly", "daily", "monthly"]),
)
def test_every_moment_lies_between_its_partitions_start_and_end(moment: datetime, every: Every) -> None:
    assume(moment.year < 9999)
    name = partition_name(moment, every)

    assert start_of(name, every) <= moment < end_of(name, every)


def test_the_placeholder_is_replaced_wherever_it_stands() -> None:
    assert render("flights/{{ partition }}.parquet", "2013-01") == "flights/2013-01.parquet"
    assert render("dt={{partition}}/flights-{{ partition }}.csv", "2013-01") == "dt=2013-01/flights-2013-01.csv"
    assert render("airports.csv", "2013-01") == "airports.csv"


@pytest.mark.parametrize(
    "uri", ["{{ ds }}.parquet", "{% if x %}", "{{ partition | upper }}", "{partition}", "{{ partition"]
)
def test_a_template_holds_no_other_expression(uri: str) -> None:
    with pytest.raises(DataError, match="is replaced in a uri"):
        render(uri, "2013-01")


@pytest.mark.parametrize("partition", ["", "..", "a/b", "2013-01\n", ".hidden", "{{ partition }}", "a" * 65])
def test_a_partitions_name_cannot_lead_elsewhere(partition: str) -> None:
    with pytest.raises(DataError, match="cannot be part of a path"):
        render("flights/{{ partition }}.parquet", partition)


def test_a_files_partition_is_read_back_from_its_name() -> None:
    template = "dt={{ partition }}/flights-{{ partition }}.parquet"

    assert partition_of(template, "dt=2013-01/flights-2013-01.parquet") == "2013-01"
    assert partition_of(template, "dt=2013-01/flights-2013-02.parquet") is None
    assert partition_of(template, "dt=2013-01/flights-2013-01Xparquet") is None
    assert partition_of("airports.csv", "airports.csv") is None
