"""A partition that is larger than memory: a batch at a time, resumed, and without the rows that cannot be scored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # as above
import pyarrow as pa  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.monitoring.prediction_log import read_predictions
from ml_lifecycle.core.contracts import RunRequest, ScoredPartition, Source
from ml_lifecycle.core.errors import DataError, LifecycleError, PassingError, RequestError, TrainingError
from ml_lifecycle.stages.champion import champion_of
from ml_lifecycle.stages.repeated_keys import repeated_keys
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scored_files import read_inputs
from ml_lifecycle.stages.scoring import ScoringJob, score
from ml_lifecycle.stages.scoring_parts import publish_part
from tests.fakes.small_model import (
    COLUMNS,
    FEATURE_CODE,
    dataset,
    released,
    request,
    rows,
    trained,
    weather,
    with_project,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.stages import scoring_parts
from tests.unit.test_streamed_scoring import job, score, tools_at

left = int(sys.argv[2])

def dies(self, uri, write, publish=LocalStore.publish):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return publish(self, uri, write)

LocalStore.publish = dies
score(job(), tools_at(Path(sys.argv[1])))
"""
Land = Callable[[pd.DataFrame], None]


def tools_at(folder: Path) -> Tools:
    """The same deployment in another process."""
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.ledger.sql import SqlLedger
    from ml_lifecycle.backends.tracking.local import LocalTracking

    tracking = LocalTracking(folder / "tracking")
    return Tools(
        data=LocalStore(folder / "data"),
        project=folder / "project",
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(f"sqlite:///{folder / 'ledger.db'}"),
        environment="test",
    )


@pytest.fixture
def row_wise(tools: Tools, tmp_path: Path) -> Tools:
    """A project whose features say that they are made row by row."""
    found = with_project(tools, tmp_path / "project")
    (tmp_path / "project/crew/features.py").write_text(f"ROW_WISE = True\n{FEATURE_CODE}")
    return found


@pytest.fixture
def land(tmp_path: Path) -> Land:
    """Puts the partition and its weather where scoring looks for them."""

    def landed(table: pd.DataFrame) -> None:
        for folder, content in (("flights", table), ("weather", weather())):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            content.to_parquet(tmp_path / "data" / folder / "2013-02.parquet", index=False, row_group_size=30)

    return landed


def unlabelled(count: int = 100) -> pd.DataFrame:
    table: pd.DataFrame = rows(count, seed=2).drop(columns=["late"])
    return table


def job(**changes: Any) -> ScoringJob:
    values: dict[str, Any] = {
        "request": request(stream="score", partition="2013-02"),
        "source": Source(uri="flights/{{ partition }}.parquet"),
        "related": {"weather": Source(uri="weather/{{ partition }}.parquet")},
        "columns": COLUMNS,
        "output": Source(uri="scored/{{ partition }}"),
        "batch_rows": 8,
        **changes,
    }
    return ScoringJob(**values)


def table_of(tools: Tools, scored: ScoredPartition, name: str = "predictions") -> pd.DataFrame:
    with tools.data.folder(scored.uri, scored.fingerprint) as folder:
        found: pd.DataFrame = pd.read_parquet(folder / f"{name}.parquet")
    return found


def published_files(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "data/scored/2013-02").iterdir()}


def unfinished(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "data/unfinished").rglob("*") if path.is_file()]


@pytest.mark.parametrize("batch_rows", [1, 7, 8, 33, 1000])
def test_the_answers_are_the_same_however_many_rows_are_in_memory(
    row_wise: Tools, land: Land, tmp_path: Path, batch_rows: int
) -> None:
    land(unlabelled())
    released(row_wise, trained(row_wise))
    whole = score(job(batch_rows=1000, output=Source(uri="whole/{{ partition }}")), row_wise)

    found = score(job(batch_rows=batch_rows), row_wise)

    expected = table_of(row_wise, whole)
    pd.testing.assert_frame_equal(table_of(row_wise, found), expected, rtol=1e-12)
    seen, seen_whole = (
        read_inputs(tmp_path / "data" / one.uri, ["distance", "carrier", "temp"]) for one in (found, whole)
    )
    assert seen is not None
    assert seen_whole is not None
    pd.testing.assert_frame_equal(seen, seen_whole)
    assert (found.rows, found.quarantined_rows) == (100, 0)


def test_features_that_do_not_say_so_get_the_whole_table(tools: Tools, land: Land, tmp_path: Path) -> None:
    found = with_project(tools, tmp_path / "project")
    whole_table = FEATURE_CODE.replace(
        'rows[["distance", "carrier"]]', 'rows[["distance", "carrier"]].assign(rank=rows["distance"].rank())'
    )
    (tmp_path / "project/crew/features.py").write_text(whole_table)
    land(unlabelled())
    released(found, trained(found))

    scored = score(job(), found)

    inputs = read_inputs(tmp_path / "data" / scored.uri, ["rank"])
    assert inputs is not None
    assert inputs["rank"].tolist() == unlabelled()["distance"].rank().tolist()


def test_features_that_say_so_and_look_at_other_rows_are_refused(row_wise: Tools, land: Land, tmp_path: Path) -> None:
    ranked = FEATURE_CODE.replace(
        'rows[["distance", "carrier"]]', 'rows[["carrier"]].assign(distance=rows["distance"].rank())'
    )
    (tmp_path / "project/crew/features.py").write_text(f"ROW_WISE = True\n{ranked}")
    land(unlabelled())
    released(row_wise, trained(row_wise))

    with pytest.raises(TrainingError, match=r"'distance' of a row depends on which other rows.*take ROW_WISE out"):
        score(job(max_bad=0.5), row_wise)


def test_whole_numbers_stay_whole_in_every_batch_unless_one_of_them_is_missing_somewhere(
    row_wise: Tools, land: Land, tmp_path: Path
) -> None:
    code = FEATURE_CODE.replace('"carrier"]]', '"carrier"]].assign(carrier=rows["code"].map(str))')
    (tmp_path / "project/crew/features.py").write_text(f"ROW_WISE = True\n{code}")
    code_of = pd.array([*range(99), None], dtype="Int64")
    released(row_wise, trained(row_wise, dataset(row_wise, rows().assign(code=1))))
    land(unlabelled().assign(code=code_of))

    scored = score(job(), row_wise)

    inputs = read_inputs(tmp_path / "data" / scored.uri, ["carrier"])
    assert inputs is not None
    # As pandas holds the column of the whole file.
    assert inputs["carrier"].tolist()[:3] == ["0.0", "1.0", "2.0"]


# --- Killed and resumed ----------------------------------------------------------------------------------------------


def test_a_try_that_is_killed_anywhere_is_gone_on_from_and_comes_to_the_same_end(
    row_wise: Tools, land: Land, tmp_path: Path
) -> None:
    land(unlabelled())
    released(row_wise, trained(row_wise))
    whole = score(job(output=Source(uri="undisturbed/{{ partition }}")), row_wise)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "data" / whole.uri).iterdir()}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    ended = [
        subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(left)], env=environment, check=False, timeout=120
        )
        for left in (0, 1, 2)
    ]
    parts = len(list((tmp_path / "data/unfinished").rglob("part.json")))
    scored = score(job(), row_wise)

    assert [one.returncode for one in ended] == [-signal.SIGKILL] * 3
    assert parts == 3
    found = published_files(tmp_path)
    assert {name for name in found if found[name] != expected[name]} == {"origin.json"}
    assert table_of(row_wise, scored)["id"].is_unique
    assert unfinished(tmp_path) == []


def interrupted(monkeypatch: pytest.MonkeyPatch, tools: Tools, after: int) -> None:
    """A try that ends after so many parts."""
    left = [after]

    def dies(*given: Any) -> Any:
        if not left[0]:
            raise PassingError("the worker went away")
        left[0] -= 1
        return publish_part(*given)

    with monkeypatch.context() as patch:
        patch.setattr("ml_lifecycle.stages.scoring.publish_part", dies)
        with pytest.raises(PassingError, match="went away"):
            score(job(), tools)


def test_a_part_that_was_spoilt_in_between_is_made_again(
    row_wise: Tools, land: Land, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(unlabelled())
    released(row_wise, trained(row_wise))
    interrupted(monkeypatch, row_wise, 2)
    spoilt = min((tmp_path / "data/unfinished").rglob("predictions.parquet"))
    table = pd.read_parquet(spoilt)
    table.assign(score=1.0).to_parquet(spoilt, index=False)

    scored = score(job(), row_wise)

    assert table_of(row_wise, scored)["score"].max() < 1.0


def test_another_champion_in_between_starts_anew_and_no_partition_mixes_two_models(
    row_wise: Tools, land: Land, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dataset(row_wise)
    land(unlabelled())
    released(row_wise, trained(row_wise, found))
    interrupted(monkeypatch, row_wise, 2)
    second = trained(row_wise, found, seed=8)
    released(row_wise, second)

    scored = score(job(), row_wise)

    table = table_of(row_wise, scored)
    assert set(table["model_digest"]) == {second.digest}
    assert set(table["model_version"]) == {2}
    assert len(table) == 100
    assert unfinished(tmp_path) == []


def test_data_that_changed_in_between_is_scored_anew(
    row_wise: Tools, land: Land, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(unlabelled())
    released(row_wise, trained(row_wise))
    interrupted(monkeypatch, row_wise, 2)
    land(unlabelled().assign(id=[f"g{number}" for number in range(100)]))

    scored = score(job(), row_wise)

    assert table_of(row_wise, scored)["id"].tolist() == [f"g{number}" for number in range(100)]


def test_every_prediction_is_in_the_log_once_however_often_it_is_scored(
    row_wise: Tools, land: Land, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(unlabelled())
    released(row_wise, trained(row_wise))
    interrupted(monkeypatch, row_wise, 2)
    before = list((tmp_path / "data/log").rglob("*.parquet"))

    for _ in range(2):
        scored = score(job(), row_wise)

    logged = read_predictions(tmp_path / "data/log", "flights")
    assert before == []
    assert sorted(logged["key"]) == sorted(table_of(row_wise, scored)["id"])
    by_key = logged.set_index("key")["score"]
    assert by_key[table_of(row_wise, scored)["id"]].tolist() == table_of(row_wise, scored)["score"].tolist()
    assert logged["input_temp"].notna().all()
    # 100 rows, two an hour: 50 hours are three days.
    assert len(list((tmp_path / "data/log").rglob("*.parquet"))) == 3


# --- Rows that cannot be scored --------------------------------------------------------------------------------------


def spoilt_rows() -> pd.DataFrame:
    """Row 3 has no key, rows 10 and 90 share one, row 20 has no time, the rest is good."""
    table = unlabelled()
    names = {3: None, 90: "f00010"}
    table["id"] = [names.get(place, name) for place, name in enumerate(table["id"])]
    table["at"] = table["at"].mask(table.index == 20)  # as said above
    return table


def test_rows_that_cannot_be_told_apart_or_have_no_time_lie_in_quarantine_with_the_reason(
    row_wise: Tools, land: Land
) -> None:
    land(spoilt_rows())
    released(row_wise, trained(row_wise))

    scored = score(job(max_bad=0.04), row_wise)

    lost = table_of(row_wise, scored, "quarantine")
    assert (scored.rows, scored.quarantined_rows) == (96, 4)
    assert scored.quarantined_for == {
        "the key 'id' is missing": 1,
        "the key 'id' is not unique": 2,
        "the time 'at' is missing": 1,
    }
    assert lost["quarantine_row"].tolist() == [3, 10, 20, 90]
    assert lost["quarantine_reason"].tolist()[1] == "the key 'id' is not unique"
    assert lost["distance"].tolist() == spoilt_rows()["distance"][[3, 10, 20, 90]].tolist()
    kept = spoilt_rows().drop(index=[3, 10, 20, 90])["id"].tolist()
    assert table_of(row_wise, scored)["id"].tolist() == kept


def test_bad_rows_may_fill_a_whole_part(row_wise: Tools, land: Land, tmp_path: Path) -> None:
    table = unlabelled()
    table.loc[:40, "id"] = None
    land(table)
    released(row_wise, trained(row_wise))

    scored = score(job(max_bad=0.5), row_wise)

    assert (scored.rows, scored.quarantined_rows) == (59, 41)
    assert table_of(row_wise, scored)["id"].tolist() == table["id"].tolist()[41:]
    assert len(read_predictions(tmp_path / "data/log", "flights")) == 59


@pytest.mark.parametrize("kind", ["object", "category", "Int64", "datetime64[us, UTC]"])
def test_without_features_of_its_own_a_model_is_asked_about_the_same_rows(
    row_wise: Tools, land: Land, kind: str
) -> None:
    table = spoilt_rows()
    if kind not in {"object", "category"}:
        table["id"] = table["id"].str[1:].astype("Int64")
    table["id"] = table["id"].astype(pd.api.types.pandas_dtype(kind))
    land(table)
    released(row_wise, trained(row_wise, features=None))

    scored = table_of(row_wise, score(job(max_bad=0.04), row_wise))

    champion = champion_of("flights", row_wise)
    assert champion is not None
    kept = table.drop(index=[3, 10, 20, 90]).reset_index(drop=True)
    assert [str(key) for key in scored["id"]] == [str(key) for key in kept["id"]]
    assert scored["score"].tolist() == champion.predict(kept).tolist()
    assert scored["at"].tolist() == kept["at"].tolist()


def test_more_bad_rows_than_tolerated_fail_the_run_and_publish_nothing(row_wise: Tools, land: Land) -> None:
    land(spoilt_rows())
    released(row_wise, trained(row_wise))

    with pytest.raises(DataError, match=r"of 100 rows cannot be scored \(.*is missing: 1, such as row 3 from 0"):
        score(job(max_bad=0.039), row_wise)
    with pytest.raises(DataError, match="rows cannot be scored"):
        score(job(), row_wise)

    assert row_wise.data.published("scored/2013-02") is None


def test_a_text_where_the_model_takes_a_number_is_quarantined_and_named(
    row_wise: Tools, land: Land, tmp_path: Path
) -> None:
    released(row_wise, trained(row_wise))
    table = unlabelled()
    table["distance"] = table["distance"].astype(str)
    table.loc[[5, 50], "distance"] = ["far", "n/a"]
    land(table)

    scored = score(job(max_bad=0.02), row_wise)

    lost = table_of(row_wise, scored, "quarantine")
    assert scored.quarantined_for == {"the input 'distance' is no number": 2}
    assert lost["quarantine_detail"].tolist() == ["far", "n/a"]


def test_a_row_that_the_features_fail_on_is_found_and_the_others_are_scored(
    row_wise: Tools, land: Land, tmp_path: Path
) -> None:
    code = FEATURE_CODE.replace(
        'rows[["distance", "carrier"]]', 'rows[["carrier"]].assign(distance=rows["distance"].astype("float64"))'
    )
    (tmp_path / "project/crew/features.py").write_text(f"ROW_WISE = True\n{code}")
    released(row_wise, trained(row_wise))
    table = unlabelled()
    table["distance"] = table["distance"].astype(str)
    table.loc[41, "distance"] = "far"
    land(table)

    scored = score(job(max_bad=0.01), row_wise)

    lost = table_of(row_wise, scored, "quarantine")
    assert scored.quarantined_for == {"the features fail on it": 1}
    assert lost["quarantine_row"].tolist() == [41]
    assert "far" in lost["quarantine_detail"][0]
    assert scored.rows == 99


def test_what_fails_on_every_row_is_told_as_what_it_is(row_wise: Tools, land: Land) -> None:
    released(row_wise, trained(row_wise))
    land(unlabelled().drop(columns=["distance"]))

    with pytest.raises(LifecycleError, match="distance"):
        score(job(max_bad=0.5), row_wise)


def test_a_partition_that_was_not_asked_for_is_not_scored(row_wise: Tools) -> None:
    asked = RunRequest(model="flights", stream="score", partition="2013-02", partitions=("2013-01", "2013-02"))

    with pytest.raises(RequestError, match="partition 2013-03 was not asked for; it was 2013-02, 2013-01"):
        score(job(request=asked, partition="2013-03"), row_wise)


@pytest.mark.parametrize(
    ("keys", "places"),
    [
        (["a", "b", "c"], []),
        (["b", "a", None, "b", None], [0, 3]),
        ([2**60 + 1, 2**60, None, 2**60 + 1], [0, 3]),
        ([1.5, 0.0, -0.0, float("nan"), float("nan")], [1, 2]),
        ([None, None], []),
    ],
)
def test_keys_that_come_again_are_found_in_any_order(keys: list[Any], places: list[int]) -> None:
    column = pa.chunked_array([pa.array(keys)])

    def read() -> Iterator[pa.ChunkedArray]:
        for start in range(0, len(column), 2):
            yield column.slice(start, 2)

    assert repeated_keys(read).tolist() == places


def test_a_csv_partition_is_scored_as_a_parquet_one(row_wise: Tools, land: Land, tmp_path: Path) -> None:
    land(unlabelled())
    released(row_wise, trained(row_wise))
    expected = table_of(row_wise, score(job(output=Source(uri="other/{{ partition }}")), row_wise))
    unlabelled().to_csv(tmp_path / "data/flights/2013-02.csv", index=False)

    scored = score(job(source=Source(uri="flights/{{ partition }}.csv")), row_wise)

    pd.testing.assert_frame_equal(table_of(row_wise, scored), expected)
