"""Labels that are brought to the requests that servers answered."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd  # noqa: TID253  # a test file parses no DAG
import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.monitoring.prediction_log import (
    Origin,
    join,
    prediction_table,
    read_labels,
    read_predictions,
    write_log,
)

DAY = "2026-03-01"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two versions answered: keys 1 and 2 by the first, 2 and 3 by the second."""
    for version, keys in ((1, ["1", "2"]), (2, ["2", "3"])):
        predictions = pd.DataFrame(
            {
                "key": keys,
                "at": pd.to_datetime([f"{DAY}T10:00:00Z"] * 2),
                "score": [0.2, 0.8],
                "label": [0, 1],
            }
        )
        origin = Origin(endpoint="flights", partition=DAY, model_digest=str(version) * 64, model_version=version)
        table = prediction_table(predictions, origin, key="key", time="at", classes=(0, 1))

        def write(name: str, content: bytes) -> None:
            (tmp_path / "log" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "log" / name).write_bytes(content)

        write_log(write, "predictions", origin, table)
    return tmp_path / "log"


def command(log: Path, table: pd.DataFrame, *more: str) -> int:
    file = log.parent / "labels.csv"
    table.to_csv(file, index=False)
    place = ["--log", str(log), "--endpoint", "flights", "--days", "100000"]
    return main(["labels", str(file), *place, "--key", "id", "--label", "late", *more])


def truths(log: Path) -> dict[tuple[int, str], str]:
    joined = join(read_predictions(log, "flights"), read_labels(log, "flights")).dropna(subset=["truth"])
    return {
        (version, key): truth
        for version, key, truth in zip(joined["model_version"], joined["key"], joined["truth"], strict=True)
    }


def test_every_version_that_was_asked_about_a_key_gets_its_label(log: Path) -> None:
    code = command(log, pd.DataFrame({"id": [1, 2, 3], "late": [0, 1, 1]}))

    assert code == 0
    assert truths(log) == {(1, "1"): "0", (1, "2"): "1", (2, "2"): "1", (2, "3"): "1"}


def test_labels_come_in_time_after_time_and_each_counts_once(log: Path) -> None:
    command(log, pd.DataFrame({"id": [1], "late": [0]}))
    command(log, pd.DataFrame({"id": [1], "late": [0]}))
    command(log, pd.DataFrame({"id": [3], "late": [1]}))

    assert truths(log) == {(1, "1"): "0", (2, "3"): "1"}


def test_a_newer_file_corrects_an_older_one(log: Path) -> None:
    command(log, pd.DataFrame({"id": [1, 3], "late": [0, 0]}))
    command(log, pd.DataFrame({"id": [1], "late": [1]}))

    assert truths(log) == {(1, "1"): "1", (2, "3"): "0"}


def test_what_cannot_be_joined_is_counted(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = command(log, pd.DataFrame({"id": [1, 9, 3, 3], "late": [0, 1, 0, 1]}), "--json")

    (found,) = json.loads(capsys.readouterr().out)
    assert code == 1
    assert (found["predictions"], found["unknown"], found["conflicting"]) == (1, 1, 1)
    assert truths(log) == {(1, "1"): "0"}


def test_a_label_that_is_missing_is_none(log: Path) -> None:
    code = command(log, pd.DataFrame({"id": [1, 3], "late": [None, 1]}))

    assert (code, truths(log)) == (0, {(2, "3"): "1"})


@pytest.mark.parametrize("table", [pd.DataFrame({"id": [1]}), pd.DataFrame({"late": [1]})])
def test_a_column_that_is_not_there_is_named(
    log: Path, capsys: pytest.CaptureFixture[str], table: pd.DataFrame
) -> None:
    code = command(log, table)

    assert code == 64
    assert "the labels lack" in capsys.readouterr().err
