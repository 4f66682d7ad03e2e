"""Every prediction is in the log once, under its day, and finds its newest label."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pyarrow as pa  # noqa: TID253  # as above
import pyarrow.parquet as pq  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.monitoring.prediction_log import (
    Origin,
    join,
    label_table,
    order_of,
    prediction_table,
    read_labels,
    read_predictions,
    write_log,
)
from ml_lifecycle.core.contracts import Source
from ml_lifecycle.core.errors import ColumnError, DataError, LifecycleError
from ml_lifecycle.stages import runner
from ml_lifecycle.stages.performance import PerformanceJob, measure_performance
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scoring import ScoringJob, score
from tests.fakes.small_model import COLUMNS, released, request, rows, trained, weather, with_project

ORIGIN = Origin(endpoint="trips", partition="2013-02", model_digest="1" * 64, model_version=3, data_digest="2" * 64)


def origin(**changes: Any) -> Origin:
    return Origin(**{**ORIGIN.__dict__, **changes})


def predictions(times: list[Any] | None = None, **columns: Any) -> pd.DataFrame:
    table: dict[str, Any] = {"trip": list("abcd"), "score": [0.9, 0.8, 0.3, 0.1], **columns}
    if times is not None:
        table["leaves"] = times
    found: pd.DataFrame = pd.DataFrame(table)
    return found


def write(root: Path, table: pd.DataFrame, source: Origin = ORIGIN, **options: Any) -> tuple[str, ...]:
    logged = prediction_table(table, source, key="trip", time="leaves", **options)
    return write_log(LocalStore(root).write_file, "predictions", source, logged)


def write_labels(root: Path, keys: str, late: list[Any], **changes: Any) -> tuple[str, ...]:
    source = origin(data_digest=str(late), **changes)
    table = pd.DataFrame({"trip": list(keys), "late": late})
    logged = label_table(table, source, key="trip", time=None, target="late", predicted=ORIGIN)
    return write_log(LocalStore(root).write_file, "labels", source, logged)


# --- Days ------------------------------------------------------------------------------------------------------------


def test_rows_go_to_their_day_in_utc(tmp_path: Path) -> None:
    times = ["2013-02-28T23:59:59.999999999Z", "2013-03-01T00:00:00Z", "2013-02-28T23:30:00-05:00", "2013-02-28T12:00"]

    write(tmp_path, predictions(times))

    last = read_predictions(tmp_path, "trips", date(2013, 2, 28), date(2013, 2, 28))
    first = read_predictions(tmp_path, "trips", date(2013, 3, 1), date(2013, 3, 1))
    assert last["key"].tolist() == ["d", "a"]
    assert first["key"].tolist() == ["b", "c"]
    assert last["at"].max() == pd.Timestamp("2013-02-28T23:59:59.999999Z")


def test_days_on_which_a_clock_is_moved_have_their_hours_in_utc(tmp_path: Path) -> None:
    berlin = pd.date_range("2013-03-31", "2013-04-01", freq="h", tz="Europe/Berlin", inclusive="left")
    table = pd.DataFrame({"trip": range(len(berlin)), "leaves": berlin, "score": 0.5})

    write(tmp_path, table)

    # That day has 23 hours there, the first of which is the 30th in UTC.
    assert len(berlin) == 23
    assert len(read_predictions(tmp_path, "trips", date(2013, 3, 30), date(2013, 3, 30))) == 1
    assert len(read_predictions(tmp_path, "trips", date(2013, 3, 31), date(2013, 3, 31))) == 22


def test_moments_before_1970_stay_in_their_day(tmp_path: Path) -> None:
    write(tmp_path, predictions(["1969-12-31T23:59:59.9999999Z"] * 4))

    assert len(read_predictions(tmp_path, "trips", date(1969, 12, 31), date(1969, 12, 31))) == 4


def test_rows_without_a_time_are_of_their_partition_s_first_day(tmp_path: Path) -> None:
    plain = write(tmp_path, predictions())
    gaps = write(tmp_path, predictions(["2013-02-03T10:00Z", None, None, None]), origin(data_digest="3" * 64))

    assert [name.split("/")[2] for name in plain] == ["dt=2013-02-01"]
    assert [name.split("/")[2] for name in gaps] == ["dt=2013-02-01", "dt=2013-02-03"]


def test_rows_of_an_unknown_day_are_read_by_whoever_asks_for_all(tmp_path: Path) -> None:
    names = write(tmp_path, predictions(), origin(partition="europe"))

    assert "dt=__HIVE_DEFAULT_PARTITION__" in names[0]
    assert len(read_predictions(tmp_path, "trips")) == 4
    assert len(read_predictions(tmp_path, "trips", date(2013, 1, 1))) == 0


# --- Exactly once ----------------------------------------------------------------------------------------------------


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def test_writing_again_gives_the_same_files_with_the_same_bytes(tmp_path: Path) -> None:
    table = predictions(["2013-02-01T10:00Z", "2013-02-02T10:00Z"] * 2, label=[True, True, False, False])

    write(tmp_path, table)
    first = files(tmp_path)
    write(tmp_path, table)

    assert files(tmp_path) == first
    assert len(first) == 2
    assert len(read_predictions(tmp_path, "trips")) == 4


def test_a_write_that_was_cut_off_is_completed_by_the_next(tmp_path: Path) -> None:
    table = predictions(["2013-02-01T10:00Z", "2013-02-02T10:00Z", "2013-02-03T10:00Z", "2013-02-03T10:00Z"])
    store, left = LocalStore(tmp_path), iter([True, False])

    def cut_off(uri: str, content: bytes) -> None:
        if not next(left):
            raise KeyboardInterrupt
        store.write_file(uri, content)

    logged = prediction_table(table, ORIGIN, key="trip", time="leaves")
    with pytest.raises(KeyboardInterrupt):
        write_log(cut_off, "predictions", ORIGIN, logged)
    before = read_predictions(tmp_path, "trips")
    write(tmp_path, table)

    assert len(before) == 1
    assert read_predictions(tmp_path, "trips")["key"].tolist() == list("abcd")


def test_a_prediction_has_one_id_whatever_day_or_type_its_key_is_written_in() -> None:
    whole = prediction_table(pd.DataFrame({"trip": [7], "score": [0.5]}), ORIGIN, key="trip", time=None)
    text = prediction_table(pd.DataFrame({"trip": ["7"], "score": [0.5]}), ORIGIN, key="trip", time=None)
    other = prediction_table(
        pd.DataFrame({"trip": [7], "score": [0.5]}), origin(model_digest="9" * 64), key="trip", time=None
    )

    assert whole["prediction_id"] == text["prediction_id"]
    assert whole["prediction_id"] != other["prediction_id"]


def test_a_partition_that_was_scored_again_counts_as_it_was_recorded_last(tmp_path: Path) -> None:
    write(tmp_path, predictions(), origin(data_digest="a", recorded=1))
    write(tmp_path, predictions(score=[0.5] * 4), origin(data_digest="b", recorded=0))

    assert set(read_predictions(tmp_path, "trips")["score"]) == {0.9, 0.8, 0.3, 0.1}


@pytest.mark.parametrize(
    ("known", "ours", "place"),
    [
        ([], "a", 0),
        (["a"], "a", 0),
        (["a", "a"], "a", 0),
        (["a"], "b", 1),
        (["a", "b", "a"], "a", 2),
        (["a", "b"], "a", 2),
    ],
)
def test_what_is_recorded_again_after_something_else_is_the_newest(known: list[str], ours: str, place: int) -> None:
    assert order_of(known, ours) == place


# --- What it holds ---------------------------------------------------------------------------------------------------


def test_the_log_holds_what_was_predicted_by_what_from_what(tmp_path: Path) -> None:
    inputs = pd.DataFrame({"miles": [1.0, None, 3.0, 4.0], "carrier": ["AA", None, "UA", "B6"]})

    write(tmp_path, predictions(label=[True, True, False, False]), inputs=inputs)

    found = read_predictions(tmp_path, "trips").set_index("key")
    assert found.loc["a", ["endpoint", "partition", "model_version"]].tolist() == ["trips", "2013-02", 3]
    assert found.loc["a", ["score", "label", "input_miles", "input_carrier"]].tolist() == [0.9, "True", 1.0, "AA"]
    assert found.loc["b", ["input_miles", "input_carrier"]].isna().all()


def test_of_several_classes_each_probability_is_held(tmp_path: Path) -> None:
    table = pd.DataFrame({"trip": [1, 2], "score": [0.6, 0.5], "label": ["AA", "B6"]})
    table = table.assign(score_AA=[0.6, 0.2], score_B6=[0.3, 0.5], score_UA=[0.1, 0.3])

    write(tmp_path, table, classes=("AA", "B6", "UA"))

    found = read_predictions(tmp_path, "trips").set_index("key")
    assert dict(found.loc["2", "probabilities"]) == {"AA": 0.2, "B6": 0.5, "UA": 0.3}


def test_a_column_that_changed_its_type_is_read_as_text(tmp_path: Path) -> None:
    write(tmp_path, predictions(), inputs=pd.DataFrame({"gate": [1.0] * 4}))
    write(
        tmp_path,
        predictions(),
        origin(model_digest="9" * 64),
        inputs=pd.DataFrame({"gate": ["A1"] * 4, "new": [1] * 4}),
    )

    found = read_predictions(tmp_path, "trips", columns=["input_gate", "input_new"])

    assert list(found.columns) == ["prediction_id", "at", "input_gate", "input_new"]
    assert set(found["input_gate"]) == {"1", "A1"}
    assert found["input_new"].isna().sum() == 4


def test_an_empty_log_has_its_columns(tmp_path: Path) -> None:
    found = join(read_predictions(tmp_path, "trips"), read_labels(tmp_path, "trips"))

    assert len(found) == 0
    assert {"prediction_id", "score", "truth", "labelled_at"} <= set(found.columns)


@pytest.mark.parametrize("root", ["s4://bucket/log", "nowhere://x"])
def test_an_address_that_nobody_knows_is_told(root: str) -> None:
    with pytest.raises(LifecycleError, match="no file system is known"):
        read_predictions(root, "trips")


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    (name,) = write(tmp_path, predictions())
    (tmp_path / name).write_bytes(b"PAR1")

    with pytest.raises(DataError, match="the log cannot be read"):
        read_predictions(tmp_path, "trips")


def test_keys_and_times_that_are_none_are_refused() -> None:
    with pytest.raises(ColumnError, match="holds numbers, not moments"):
        prediction_table(predictions([1, 2, 3, 4]), ORIGIN, key="trip", time="leaves")
    with pytest.raises(ColumnError, match="names no row for certain"):
        prediction_table(pd.DataFrame({"trip": [1.5], "score": [0.5]}), ORIGIN, key="trip", time=None)


# --- Labels ----------------------------------------------------------------------------------------------------------


def truth(root: Path) -> dict[str, Any]:
    joined = join(read_predictions(root, "trips"), read_labels(root, "trips"))
    return dict(zip(joined["key"], joined["truth"].where(joined["truth"].notna(), None), strict=True))


def test_labels_are_joined_once_and_later_ones_count(tmp_path: Path) -> None:
    write(tmp_path, predictions())
    write_labels(tmp_path, "ab", [True, False], recorded=0)
    write_labels(tmp_path, "abc", [True, True, True], recorded=1)
    write_labels(tmp_path, "ab", [True, False], recorded=0)

    assert truth(tmp_path) == {"a": "True", "b": "True", "c": "True", "d": None}


def test_a_label_that_was_contradicted_is_taken_back(tmp_path: Path) -> None:
    write(tmp_path, predictions())
    write_labels(tmp_path, "ab", [True, False], recorded=0)
    write_labels(tmp_path, "ab", [None, False], recorded=1)

    assert truth(tmp_path) == {"a": None, "b": "False", "c": None, "d": None}


def test_numbers_are_held_as_numbers_too(tmp_path: Path) -> None:
    write(tmp_path, predictions())
    write_labels(tmp_path, "ab", [1.0, 2.5])

    found = read_labels(tmp_path, "trips").set_index("key")

    assert found["label"].to_dict() == {"a": "1", "b": "2.5"}
    assert found["value"].to_dict() == {"a": 1.0, "b": 2.5}


# --- The stages ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tools(tools: Tools, tmp_path: Path) -> Tools:
    return with_project(tools, tmp_path / "project")


@pytest.fixture
def landed(tools: Tools, tmp_path: Path) -> pd.DataFrame:
    """An unlabelled partition with its weather, under a champion."""
    table = rows(60, seed=2)
    for folder, content in (("flights", table.drop(columns=["late"])), ("weather", weather())):
        (tmp_path / "data" / folder).mkdir(parents=True)
        content.to_parquet(tmp_path / "data" / folder / "2013-02.parquet", index=False)
    released(tools, trained(tools))
    return table


def scoring_job() -> ScoringJob:
    return ScoringJob(
        request=request(stream="score", partition="2013-02"),
        source=Source(uri="flights/{{ partition }}.parquet"),
        related={"weather": Source(uri="weather/{{ partition }}.parquet")},
        columns=COLUMNS,
        output=Source(uri="scored/{{ partition }}"),
    )


def performance_job() -> PerformanceJob:
    return PerformanceJob(
        request=request(stream="monitor", partition="2013-02"),
        scored=Source(uri="scored/{{ partition }}"),
        labels=Source(uri="outcomes/{{ partition }}.parquet"),
        columns=COLUMNS,
        metric="roc_auc",
        at_least=0.5,
    )


def recorded(stage: Any, job: Any, tools: Tools) -> Any:
    """What a stage concludes in a run that was asked for."""
    runner.record("resolve", job.request, tools, model=job.request.model)
    return runner.run(stage, job, tools, model=job.request.model)


def test_scoring_logs_each_row_with_what_the_model_saw(tools: Tools, landed: pd.DataFrame, tmp_path: Path) -> None:
    scored = recorded(score, scoring_job(), tools)
    again = recorded(score, scoring_job(), tools)

    found = read_predictions(tmp_path / "data" / "log", scored.model)
    inputs = pq.read_table(tmp_path / "data" / "scored" / "2013-02" / "inputs.parquet")
    assert again == scored
    assert len(found) == 60
    assert set(found["model_digest"]) == {scored.digest}
    assert {f"input_{name}" for name in inputs.column_names if name != COLUMNS.key} <= set(found.columns)


def test_a_log_that_a_kill_left_behind_is_completed_by_the_next_try(
    tools: Tools, landed: pd.DataFrame, tmp_path: Path
) -> None:
    scored = recorded(score, scoring_job(), tools)
    whole = files(tmp_path / "data" / "log")
    for name in list(whole)[::2]:
        (tmp_path / "data" / "log" / name).unlink()

    recorded(score, scoring_job(), tools)

    assert files(tmp_path / "data" / "log") == whole
    assert len(read_predictions(tmp_path / "data" / "log", scored.model)) == 60


def test_labels_reach_the_log_and_better_ones_replace_them(tools: Tools, landed: pd.DataFrame, tmp_path: Path) -> None:
    scored = recorded(score, scoring_job(), tools)
    labels = landed[["id", "late"]]
    (tmp_path / "data" / "outcomes").mkdir()
    place = tmp_path / "data" / "outcomes" / "2013-02.parquet"

    labels[:40].to_parquet(place)
    recorded(measure_performance, performance_job(), tools)
    early = read_labels(tmp_path / "data" / "log", scored.model)
    labels.assign(late=~labels["late"]).to_parquet(place)
    recorded(measure_performance, performance_job(), tools)
    recorded(measure_performance, performance_job(), tools)
    late = read_labels(tmp_path / "data" / "log", scored.model)

    assert len(early) == 40
    joined = join(read_predictions(tmp_path / "data" / "log", scored.model), late).set_index("key")
    expected = {str(key): str(not label) for key, label in zip(labels["id"], labels["late"], strict=True)}
    assert joined["truth"].to_dict() == expected


def test_the_clock_has_no_say_in_what_is_newest(
    tools: Tools, landed: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = recorded(score, scoring_job(), tools)
    labels = landed[["id", "late"]]
    (tmp_path / "data" / "outcomes").mkdir()
    place = tmp_path / "data" / "outcomes" / "2013-02.parquet"
    labels.to_parquet(place)
    recorded(measure_performance, performance_job(), tools)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    labels.assign(late=False).to_parquet(place)

    recorded(measure_performance, performance_job(), tools)

    assert set(read_labels(tmp_path / "data" / "log", scored.model)["label"]) == {"False"}


def test_the_log_is_plain_parquet_for_other_readers(tmp_path: Path) -> None:
    (name,) = write(tmp_path, predictions(label=[True] * 4))

    schema = pq.read_schema(tmp_path / name)

    assert schema.field("at").type == pa.timestamp("us", "UTC")
    assert schema.field("probabilities").type == pa.map_(pa.string(), pa.float64())
    assert schema.metadata is None
