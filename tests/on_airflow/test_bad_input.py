"""Bad input to streams that Airflow runs: a clear message, nothing half published, the champion untouched."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ml_lifecycle.hooks.ledger import LedgerHook
from ml_lifecycle.hooks.mlflow import MlflowHook
from tests.on_airflow.runs import result, states

if TYPE_CHECKING:
    import pandas as pd

Dags = Callable[..., dict[str, Any]]
Spoil = Callable[[Path], None]

MODEL = "spoilt"
MONTHS = ("2024-01", "2024-02", "2024-03")
OWN_DATA = (
    ("source: rows/", "source: spoilt/rows/"),
    ("labels: labels/", "labels: spoilt/labels/"),
    ("required: always, approvers: [approver]", "required: never"),
    ("training:", "validation: {suite: include/late_suite.json}\ntraining:"),
)
SUITE = {"name": "late", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "distance"}}]}


@pytest.fixture
def data(airflow: Path) -> Path:
    """Good data of the model's own, and a good suite."""
    for folder in ("rows", "labels"):
        (airflow / "data" / MODEL / folder).mkdir(parents=True, exist_ok=True)
        for month in MONTHS:
            good = (airflow / "data" / folder / f"{month}.parquet").read_bytes()
            (airflow / "data" / MODEL / folder / f"{month}.parquet").write_bytes(good)
    (airflow / "team" / "include" / "late_suite.json").write_text(json.dumps(SUITE))
    return airflow / "data" / MODEL


@pytest.fixture
def streams(
    dags: Dags, data: Path, airflow: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes the model's DAGs, once a champion of it serves; afterwards it serves still and nothing lies half done."""

    pause = time.sleep
    # dag.test() waits a second for each task that can no longer run.
    monkeypatch.setattr(time, "sleep", lambda seconds: pause(min(seconds, 0.01)))

    def make(*changes: tuple[str, str]) -> dict[str, Any]:
        quoted = tuple((old.replace(": ", ': "', 1), new.replace(": ", ': "', 1)) for old, new in OWN_DATA[:2])
        return dags(MODEL, *quoted, *OWN_DATA[2:], *changes)

    if serving() == (None, None):
        life = make()
        assert life[f"{MODEL}_train"].test(logical_date=None).state == "success"
        assert life[f"{MODEL}_release"].test(logical_date=None).state == "success"
    before = serving()
    assert before == ((1, 1), 1)

    yield make

    assert serving() == before
    assert half_published(airflow / "data") == []


def serving() -> tuple[tuple[int, int] | None, int | None]:
    """The ledger's epoch and version, and the version that the alias points at."""
    head = LedgerHook().get_conn().head(MODEL, "test")
    return (head.epoch, head.version) if head else None, MlflowHook().get_conn().alias(MODEL, "champion")


def half_published(root: Path) -> list[str]:
    """Drafts, and published folders that are not whole."""
    drafts = [path.name for path in root.rglob(".*")]
    return drafts + [path.name for path in root.glob("snapshots/*/*") if not (path / "origin.json").is_file()]


def failed_with(run: Any, task_id: str, words: str | re.Pattern[str], said: str) -> None:
    """The run failed at this task alone, in one line, and what came after it did not start."""
    assert run.state == "failed"
    assert [name for name, state in states(run).items() if state == "failed"] == [task_id]
    assert re.search(words, said), said
    assert "direct cause of the following" not in said
    assert "another exception occurred" not in said


def rewrite(path: str, change: Callable[[pd.DataFrame], pd.DataFrame], months: tuple[str, ...] = MONTHS) -> Spoil:
    """Change the tables of some months."""

    def spoil(data: Path) -> None:
        import pandas as pd

        for month in months:
            file = data / path / f"{month}.parquet"
            change(pd.read_parquet(file)).to_parquet(file, index=False)
            # A file that has just changed is not scored before it has rested.
            os.utime(file, (0, 0))

    return spoil


def cut(data: Path) -> None:
    """The newest rows, written half."""
    file = data / "rows" / "2024-03.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(data: Path) -> None:
    """A file that nothing was written into."""
    (data / "labels" / "2024-03.parquet").write_bytes(b"")


def gap(data: Path) -> None:
    """A month within the window that never arrived."""
    (data / "labels" / "2024-02.parquet").unlink()


@pytest.mark.parametrize(
    ("spoil", "task_id", "words"),
    [
        (gap, "resolve", r"2024-02 is not there: spoilt/labels/2024-02\.parquet; there are 2024-01, 2024-03; ask for"),
        (empty, "snapshot", r"spoilt/labels/2024-03\.parquet: the file is empty \(0 bytes\); write it again"),
        (cut, "snapshot", r"spoilt/rows/2024-03\.parquet: the file is truncated: .*; write it again, whole"),
        (
            rewrite("rows", lambda rows: rows.head(0), ("2024-03",)),
            "snapshot",
            r"rows/2024-03\.parquet: the file has no row; write it again",
        ),
        (
            rewrite("rows", lambda rows: rows.rename(columns={"distance": "distanse"}), ("2024-03",)),
            "snapshot",
            r"rows/2024-03\.parquet: a column of spoilt/rows/2024-02\.parquet, 'distance' .* did you mean 'distanse'",
        ),
        (
            rewrite("rows", lambda rows: rows.assign(distance=rows["distance"].astype(str)), ("2024-03",)),
            "snapshot",
            r"the column 'distance' holds text \(object\), but number \(int64\) in spoilt/rows/2024-02.*the same type",
        ),
        (
            rewrite("rows", lambda rows: rows.drop(columns="distance")),
            "validate",
            r"snapshots/spoilt/\w+ held to include/late_suite\.json: 1 critical .* unmet: distance: .*; mend the data",
        ),
        (
            rewrite("rows", lambda rows: rows.assign(distance="far")),
            "train",
            r"late_features\.py:6\).*could not convert string to float: 'far'.*mend it, or the data",
        ),
        (
            rewrite("labels", lambda labels: labels.assign(late=1)),
            "snapshot",
            r"the target 'late' is 1 in all 400 rows; read a wider window",
        ),
        (
            rewrite("labels", lambda labels: labels.assign(late=None)),
            "snapshot",
            r"with spoilt/labels/2024-02.*: the target 'late' is missing in all 400 rows; wait until the labels",
        ),
    ],
)
def test_data_that_cannot_train_is_told_with_its_place_and_the_way_out(
    streams: Dags, data: Path, capfd: pytest.CaptureFixture[str], *, spoil: Spoil, task_id: str, words: str
) -> None:
    life = streams()
    spoil(data)

    run = life[f"{MODEL}_train"].test(logical_date=None, run_conf={"partition": "2024-03"})

    failed_with(run, task_id, re.compile(words, re.MULTILINE), capfd.readouterr().out)


@pytest.mark.parametrize(
    ("change", "task_id", "words"),
    [
        (
            (
                "labels_after: 1d",
                "drop: [{column: late, equals: 0, because: a}, {column: late, equals: 1, because: b}]",
            ),
            "snapshot",
            r"the drop rules leave none of 400 rows \(\d+ a, \d+ b\); check the rules",
        ),
        (
            ("late_features:build", "late_features:biuld"),
            "train",
            r"late_features:biuld: late_features\.py has no function 'biuld'; it has build, did you mean 'build'",
        ),
        (
            ("late_features:build", "late_featurs:build"),
            "train",
            r"there is no module 'include\.late_featurs' below .*; put it at include/late_featurs\.py",
        ),
        (
            ("DecisionTreeClassifier", "DecisionTreClassifier"),
            "train",
            r"no estimator 'DecisionTreClassifier', did you mean 'DecisionTreeClassifier'",
        ),
        (("sklearn.tree.", "os."), "train", r"'os\.DecisionTreeClassifier' is not one that this deployment allows"),
    ],
)
def test_a_pipeline_that_asks_for_what_is_not_there_is_told_the_nearest(
    streams: Dags, capfd: pytest.CaptureFixture[str], change: tuple[str, str], task_id: str, words: str
) -> None:
    run = streams(change)[f"{MODEL}_train"].test(logical_date=None)

    failed_with(run, task_id, words, capfd.readouterr().out)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            json.dumps(SUITE).replace("to_exist", "to_exits"),
            r"late_suite\.json: expectations\[0\] expect_column_to_exits: .*did you mean 'expect_column_to_exist'",
        ),
        (json.dumps(SUITE)[:40], r"late_suite\.json:1:\d+: this is no JSON: .*; mend the file"),
        (
            json.dumps(SUITE).replace("distance", "distanse"),
            r"held to include/late_suite\.json: 1 critical expectations are unmet: distanse: .*; mend the data or the",
        ),
    ],
)
def test_a_suite_that_cannot_run_or_is_not_met_stops_the_training(
    streams: Dags, airflow: Path, capfd: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    life = streams()
    (airflow / "team" / "include" / "late_suite.json").write_text(text)

    run = life[f"{MODEL}_train"].test(logical_date=None)

    failed_with(run, "validate", words, capfd.readouterr().out)


def test_a_champion_is_not_fed_a_partition_that_lacks_its_column(
    streams: Dags, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    life = streams()
    rewrite("rows", lambda rows: rows.drop(columns="distance"), ("2024-03",))(data)

    run = life[f"{MODEL}_score"].test(logical_date=None, run_conf={"partition": "2024-03"})

    failed_with(run, "score", r"late_features\.py:6\).*'distance'.*rows: 200 of id, at", capfd.readouterr().out)
    assert not (data / "2024-03").exists()


def test_a_tracking_server_that_is_down_is_named_and_what_was_lost_is_made_up_for(
    streams: Dags, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml_lifecycle.backends.tracking.mlflow import MlflowTracking

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    life = streams(("seed: 3", "seed: 4"))
    monkeypatch.setattr(MlflowTracking, "_deadline", lambda *_: time.monotonic() + 0.3)

    with monkeypatch.context() as down:
        connection = {"conn_type": "mlflow", "host": "127.0.0.1", "port": port, "login": "anna", "password": "pw-1"}
        down.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps(connection))
        lost = life[f"{MODEL}_train"].test(logical_date=None)
        said = capfd.readouterr().out
        failed_with(lost, "train", rf"http://127\.0\.0\.1:{port}: MLflow did not answer.*'mlflow_default' is", said)
    made_up_for = result(life[f"{MODEL}_train"].test(logical_date=None), "register")

    assert "pw-1" not in said
    assert made_up_for["version"] == 2
