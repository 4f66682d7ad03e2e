from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.files import read_parquet
from ml_lifecycle.core.contracts import Columns, DatasetRef, DropRule, Source
from ml_lifecycle.core.errors import (
    ColumnError,
    DataError,
    LabelsMissingError,
    LifecycleError,
    NoRowsError,
    PartitionMissingError,
    PartitionUnreadableError,
)
from ml_lifecycle.stages.data import ReadinessJob, SnapshotJob, readiness, snapshot
from ml_lifecycle.stages.runner import Tools

JANUARY = {
    "trip": ["a", "b", "c", "d"],
    "leaves": pd.to_datetime(["2013-01-01T05:00Z", "2013-01-01T06:00Z", "2013-01-02T05:00Z", "2013-01-02T06:00Z"]),
    "miles": [100, 200, 300, 400],
}
FEBRUARY = {
    "trip": ["e", "f"],
    "leaves": pd.to_datetime(["2013-02-01T05:00Z", "2013-02-01T06:00Z"]),
    "miles": [500, 600],
}
Land = Callable[..., Path]


@pytest.fixture
def land(tmp_path: Path) -> Land:
    """Puts a partition where the store looks for it."""

    def landed(uri: str, **columns: Any) -> Path:
        path = tmp_path / "data" / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(columns)
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path)
        return path

    return landed


@pytest.fixture
def landed(land: Land) -> Land:
    """Two months of trips with their outcomes and weather."""
    land("trips/2013-01.parquet", **JANUARY)
    land("trips/2013-02.parquet", **FEBRUARY)
    late_january = pd.array([True, False, None, True], dtype="boolean")
    land("outcomes/2013-01.parquet", trip=["a", "b", "c", "d"], late=late_january, minutes=[30.0, 1.0, None, 16.0])
    land("outcomes/2013-02.parquet", trip=["e", "f"], late=[False, True], minutes=[0.0, 99.0])
    land("weather/2013-01.parquet", hour=[1], wind=[3.5])
    land("weather/2013-02.parquet", hour=[2], wind=[4.5])
    return land


def job(**changes: Any) -> SnapshotJob:
    values: dict[str, Any] = {
        "model": "trips",
        "partitions": ("2013-01", "2013-02"),
        "source": Source(uri="trips/{{ partition }}.parquet"),
        "labels": Source(uri="outcomes/{{ partition }}.parquet"),
        "related": {"weather": Source(uri="weather/{{ partition }}.parquet")},
        "columns": Columns(key="trip", time="leaves", target="late"),
        "drop": (DropRule(column="minutes", because="never arrived"),),
        **changes,
    }
    return SnapshotJob(**values)


def table_of(dataset: DatasetRef, tools: Tools, name: str = "data") -> pd.DataFrame:
    with tools.data.folder(dataset.uri, dataset.fingerprint) as folder:
        return read_parquet(folder / f"{name}.parquet")


def published(tmp_path: Path) -> list[str]:
    folder = tmp_path / "data" / "snapshots"
    return [path.name for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_a_snapshot_holds_the_rows_with_their_labels_and_without_those_that_a_rule_drops(
    landed: Land, tools: Tools
) -> None:
    dataset = snapshot(job(), tools)

    table = table_of(dataset, tools)
    assert dataset.rows == 5
    assert dataset.dropped == {"never arrived": 1}
    assert dataset.partitions == ("2013-01", "2013-02")
    assert dataset.label_columns == ("late", "minutes")
    assert table["trip"].tolist() == ["a", "b", "d", "e", "f"]
    assert table["late"].tolist() == [True, False, True, False, True]
    assert table["minutes"].tolist() == [30.0, 1.0, 16.0, 0.0, 99.0]
    assert table["late"].dtype == bool


def test_related_tables_lie_beside_the_rows(landed: Land, tools: Tools) -> None:
    dataset = snapshot(job(), tools)

    assert table_of(dataset, tools, "weather").to_dict("list") == {"hour": [1, 2], "wind": [3.5, 4.5]}


def test_an_unlabelled_snapshot_keeps_all_rows_and_needs_no_labels(landed: Land, tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "data/outcomes/2013-02.parquet").unlink()

    dataset = snapshot(job(labelled=False), tools)

    assert dataset.rows == 6
    assert table_of(dataset, tools).columns.tolist() == ["trip", "leaves", "miles"]


def test_the_same_input_gives_the_same_dataset_wherever_it_is_taken(landed: Land, tools: Tools, tmp_path: Path) -> None:
    first = snapshot(job(), tools)
    again = snapshot(job(), tools)
    for path in sorted((tmp_path / "data" / first.uri).iterdir()):
        path.unlink()
    (tmp_path / "data" / first.uri).rmdir()

    anew = snapshot(job(), tools)

    assert first == again == anew


def test_other_bytes_make_another_dataset_and_leave_the_first_one_alone(landed: Land, tools: Tools) -> None:
    first = snapshot(job(), tools)
    landed("trips/2013-02.parquet", **{**FEBRUARY, "miles": [500, 601]})

    second = snapshot(job(), tools)

    assert second.uri != first.uri
    assert second.fingerprint != first.fingerprint
    assert table_of(first, tools)["miles"].tolist()[-1] == 600


def test_a_snapshot_says_where_it_came_from(landed: Land, tools: Tools) -> None:
    dataset = snapshot(job(), tools)

    with tools.data.folder(dataset.uri) as folder:
        origin = json.loads((folder / "origin.json").read_text())
    assert [source["uri"] for source in origin["sources"]][:2] == ["trips/2013-01.parquet", "trips/2013-02.parquet"]
    assert origin["sources"][0]["sha256"] == tools.data.file_digest("trips/2013-01.parquet")
    assert origin["job"]["drop"] == [{"column": "minutes", "equals": None, "because": "never arrived"}]


def test_a_snapshot_that_was_tampered_with_is_not_taken_for_one(landed: Land, tools: Tools, tmp_path: Path) -> None:
    dataset = snapshot(job(), tools)
    pd.DataFrame({"trip": ["x"]}).to_parquet(tmp_path / "data" / dataset.uri / "data.parquet")

    with pytest.raises(DataError, match=r"data.parquet was changed after it was published"):
        snapshot(job(), tools)


def test_csv_partitions_and_texts_for_times_do_as_well(land: Land, tools: Tools) -> None:
    land("trips/2013-01.csv", trip=["a", "b"], leaves=["2013-01-01T05:00:00Z", "2013-01-01 06:00"], late=[0, 1])

    dataset = snapshot(
        job(partitions=("2013-01",), source=Source(uri="trips/{{ partition }}.csv"), labels=None, related={}, drop=()),
        tools,
    )

    times = table_of(dataset, tools)["leaves"]
    assert times.tolist() == [pd.Timestamp("2013-01-01T05:00Z"), pd.Timestamp("2013-01-01T06:00Z")]


def test_a_column_without_a_value_in_one_partition_keeps_its_type(landed: Land, tools: Tools) -> None:
    landed("trips/2013-01.parquet", **JANUARY, gate=[None] * 4, belt=[None] * 4)
    landed("trips/2013-02.parquet", **FEBRUARY, gate=["A1", "B2"], belt=[7, 8])

    table = table_of(snapshot(job(), tools), tools)

    assert table["gate"].tolist()[-2:] == ["A1", "B2"]
    assert table["belt"].dtype == "float64"


def test_large_unsigned_keys_stay_what_they_are(land: Land, tools: Tools) -> None:
    key = pd.array([2**64 - 1, 1], dtype="uint64")
    land("trips/2013-01.parquet", trip=key, late=[0, 1])

    dataset = snapshot(
        job(partitions=("2013-01",), labels=None, related={}, drop=(), columns=Columns(key="trip", target="late")),
        tools,
    )

    assert table_of(dataset, tools)["trip"].tolist() == [2**64 - 1, 1]


def test_a_rule_may_drop_a_value_and_counts_each_row_once(landed: Land, tools: Tools) -> None:
    rules = (
        DropRule(column="minutes", because="never arrived"),
        DropRule(column="miles", equals=100, because="too short"),
        DropRule(column="trip", equals="a", because="a test"),
    )

    dataset = snapshot(job(drop=rules), tools)

    assert dataset.rows == 4
    assert dataset.dropped == {"never arrived": 1, "too short": 1, "a test": 0}


# --- Bad input -------------------------------------------------------------------------------------------------------


def remove(uri: str) -> Callable[[Land, Path], None]:
    return lambda _, root: (root / uri).unlink()


def truncate(uri: str, keep: float) -> Callable[[Land, Path], None]:
    def cut(land: Land, root: Path) -> None:
        content = (root / uri).read_bytes()
        (root / uri).write_bytes(content[: int(len(content) * keep)])

    return cut


def overwrite(uri: str, **columns: Any) -> Callable[[Land, Path], None]:
    def write(land: Land, root: Path) -> None:
        land(uri, **columns)

    return write


BAD = {
    "partition missing": (remove("trips/2013-02.parquet"), PartitionMissingError, "trips/2013-02.parquet"),
    "partition empty": (truncate("trips/2013-02.parquet", 0), PartitionUnreadableError, "is empty"),
    "partition truncated": (truncate("trips/2013-02.parquet", 0.9), PartitionUnreadableError, "is truncated"),
    "partition without rows": (
        overwrite("trips/2013-02.parquet", trip=[], leaves=[], miles=[]),
        PartitionUnreadableError,
        "has no row",
    ),
    "labels missing": (remove("outcomes/2013-02.parquet"), PartitionMissingError, "outcomes/2013-02.parquet"),
    "related missing": (remove("weather/2013-01.parquet"), PartitionMissingError, "weather/2013-01.parquet"),
    "column renamed": (
        overwrite("trips/2013-02.parquet", trip=["e", "f"], leaves=FEBRUARY["leaves"], mile=[1, 2]),
        ColumnError,
        "'miles' is not among the columns; there are trip, leaves, mile, did you mean 'mile'",
    ),
    "column added": (
        overwrite("trips/2013-02.parquet", **FEBRUARY, gate=["A", "B"]),
        ColumnError,
        "the column 'gate' is not in trips/2013-01.parquet",
    ),
    "column of another type": (
        overwrite("trips/2013-02.parquet", trip=["e", "f"], leaves=FEBRUARY["leaves"], miles=["far", "near"]),
        ColumnError,
        "'miles' holds text (object), but number (int64) in trips/2013-01.parquet",
    ),
    "key missing in a row": (
        overwrite("trips/2013-02.parquet", trip=["e", None], leaves=FEBRUARY["leaves"], miles=[1, 2]),
        ColumnError,
        "the key 'trip' is missing in 1 of 6 rows",
    ),
    "key repeated over partitions": (
        overwrite("trips/2013-02.parquet", trip=["a", "f"], leaves=FEBRUARY["leaves"], miles=[1, 2]),
        ColumnError,
        "the key 'trip' is not unique: 1 rows repeat one, such as 'a'",
    ),
    "label repeated": (
        overwrite("outcomes/2013-02.parquet", trip=["e", "e"], late=[True, False], minutes=[1.0, 2.0]),
        ColumnError,
        "the key 'trip' is not unique",
    ),
    "labels of another key type": (
        overwrite("outcomes/2013-01.parquet", trip=[1, 2], late=[True, False], minutes=[1.0, 2.0]),
        ColumnError,
        "'trip'",
    ),
    "key of lists": (
        overwrite("trips/2013-01.parquet", **{**JANUARY, "trip": [[1], [2], [3], [4]]}),
        ColumnError,
        "'trip' holds",
    ),
    "target of lists": (
        overwrite("outcomes/2013-01.parquet", trip=["a", "b"], late=[[1], [2]], minutes=[1.0, 2.0]),
        ColumnError,
        "'late' holds",
    ),
    "time missing in a row": (
        overwrite(
            "trips/2013-02.parquet", trip=["e", "f"], leaves=[pd.Timestamp("2013-02-01T05:00Z"), pd.NaT], miles=[1, 2]
        ),
        ColumnError,
        "the time column 'leaves' is missing in 1 of 6 rows",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_a_clear_error_and_publishes_nothing(
    case: str, landed: Land, tools: Tools, tmp_path: Path
) -> None:
    spoil, error, message = BAD[case]
    spoil(landed, tmp_path / "data")

    with pytest.raises(error) as refused:
        snapshot(job(), tools)

    assert isinstance(refused.value, LifecycleError)
    assert message in str(refused.value)
    assert refused.value.way_out
    assert published(tmp_path) == []


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ([1, 2, 3, 4], "the time column 'leaves' is number (int64)"),
        (["2013-01-01", "soon", "later", "never"], "the time column 'leaves' holds 'soon'"),
    ],
)
def test_a_time_that_is_none_names_the_column_and_what_was_found(
    leaves: list[Any], message: str, landed: Land, tools: Tools
) -> None:
    landed("trips/2013-01.parquet", trip=["a", "b", "c", "d"], leaves=leaves, miles=[1, 2, 3, 4])

    with pytest.raises(ColumnError) as refused:
        snapshot(job(partitions=("2013-01",)), tools)

    assert message in str(refused.value)
    assert "trips/2013-01.parquet" in str(refused.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(key="trips", time="leaves", target="late"), "the key 'trips'"),
        (Columns(key="trip", time="left", target="late"), "the time column 'left'"),
        (Columns(key="trip", time="leaves", target="lated"), "the target 'lated'"),
    ],
)
def test_a_declared_column_that_is_not_there_suggests_the_nearest(
    columns: Columns, message: str, landed: Land, tools: Tools
) -> None:
    with pytest.raises(ColumnError, match=message):
        snapshot(job(columns=columns), tools)


def test_a_column_in_rows_and_labels_is_ambiguous(landed: Land, tools: Tools) -> None:
    landed("outcomes/2013-01.parquet", trip=["a"], late=[True], miles=[1.0])

    with pytest.raises(ColumnError, match="columns 'miles' are in the rows and in the labels"):
        snapshot(job(partitions=("2013-01",)), tools)


def test_rules_that_leave_no_row_are_told_with_their_counts(landed: Land, tools: Tools, tmp_path: Path) -> None:
    landed("outcomes/2013-02.parquet", trip=["e", "f"], late=[False, True], minutes=[None, None])

    with pytest.raises(NoRowsError, match=r"leave none of 2 rows \(2 never arrived\)"):
        snapshot(job(partitions=("2013-02",)), tools)

    assert published(tmp_path) == []


@pytest.mark.parametrize(
    ("late", "message"),
    [
        ([None, None], "is missing in all 2 rows"),
        ([True, True], "is True in all 2 rows"),
        ([True, None], "is missing in 1 of 2 rows"),
    ],
)
def test_a_target_that_nothing_can_be_learned_from_is_refused(
    late: list[Any], message: str, landed: Land, tools: Tools, tmp_path: Path
) -> None:
    minutes = [1.0, 2.0]
    landed("outcomes/2013-02.parquet", trip=["e", "f"], late=pd.array(late, dtype="boolean"), minutes=minutes)

    with pytest.raises(LabelsMissingError, match=message):
        snapshot(job(partitions=("2013-02",)), tools)

    assert published(tmp_path) == []


def test_labels_of_other_rows_are_missing_labels(landed: Land, tools: Tools) -> None:
    landed("outcomes/2013-02.parquet", trip=["x", "y"], late=[True, False], minutes=[1.0, 2.0])

    with pytest.raises(LabelsMissingError, match="check that their keys are the rows' keys"):
        snapshot(job(partitions=("2013-02",)), tools)


@pytest.mark.parametrize("name", ["data", "../weather", "class-1"])
def test_a_related_table_has_a_python_name(name: str, landed: Land, tools: Tools) -> None:
    with pytest.raises(DataError, match="cannot name a related table"):
        snapshot(job(related={name: Source(uri="weather/{{ partition }}.parquet")}), tools)


# --- Readiness -------------------------------------------------------------------------------------------------------

READY = ReadinessJob(partition="2013-01", sources=(Source(uri="trips/{{ partition }}.parquet"),), settle_seconds=5)


def test_a_partition_is_ready_once_it_has_rested(land: Land, tools: Tools) -> None:
    path = land("trips/2013-01.parquet", **JANUARY)
    written = datetime(2013, 2, 1, tzinfo=timezone.utc)
    os.utime(path, (written.timestamp(), written.timestamp()))

    early = dataclasses.replace(tools, clock=lambda: written + timedelta(seconds=4.9))
    late = dataclasses.replace(tools, clock=lambda: written + timedelta(seconds=5))

    assert readiness(READY, early) == "trips/2013-01.parquet changed 4.9 s ago, and has to rest for 5 s"
    assert readiness(READY, late) is None


def test_a_partition_that_is_absent_or_incomplete_is_not_ready(land: Land, tools: Tools) -> None:
    absent = readiness(READY, tools)
    path = land("trips/2013-01.parquet", **JANUARY)
    path.write_bytes(path.read_bytes()[:-3])

    growing = readiness(READY, tools)

    assert absent == "trips/2013-01.parquet is not there yet"
    assert growing is not None
    assert "is truncated" in growing
