"""What a server answered is in the prediction log once, whatever happened to the server."""

from __future__ import annotations

import fcntl
import json
import math
import time
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.monitoring.prediction_log import (
    Origin,
    join,
    label_table,
    read_labels,
    read_predictions,
    write_log,
)
from ml_lifecycle.serving import request_log
from ml_lifecycle.serving.request_log import BROKEN, ENDING, OPEN, Answered, LogOptions, RequestLog, Segment, bring_in
from tests.fakes.served_model import INPUTS

DIGEST = "1" * 64
SEGMENT = Segment(endpoint="flights", version=3, digest=DIGEST, inputs=INPUTS, classes=(False, True), writer=7)
AT = datetime(2026, 1, 31, 12, tzinfo=timezone.utc).timestamp()
COLUMNS: dict[str, list[Any]] = {"distance": [1.5, None], "carrier": ["B6", None], "temp": [3, "4.0"]}


def answered(**changes: Any) -> Answered:
    told = {
        "at": AT,
        "request_id": "r1",
        "keys": None,
        "columns": COLUMNS,
        "rows": 2,
        "scores": [0.25, 0.75],
        "latency_ms": 1.5,
        "user": None,
    }
    return Answered(**{**told, **changes})


def one(key: str, score: float, **changes: Any) -> Answered:
    columns = {name: values[:1] for name, values in COLUMNS.items()}
    return answered(keys=[key], columns=columns, rows=1, scores=[score], **changes)


def lines(*answers: Answered, segment: Segment = SEGMENT) -> bytes:
    first = json.dumps(segment.to_xcom()).encode() + b"\n"
    return first + b"".join(map(request_log._line, answers))


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- What a row holds ------------------------------------------------------------------------------------------------


def test_answers_come_back_with_what_the_model_saw(tmp_path: Path) -> None:
    log = RequestLog(LogOptions(tmp_path), SEGMENT)

    log.put(answered())
    log.close()

    found = read_predictions(tmp_path, "flights").sort_values("key").reset_index(drop=True)
    assert found["key"].tolist() == ["r1/0", "r1/1"]
    assert found["score"].tolist() == [0.25, 0.75]
    assert found["label"].tolist() == ["False", "True"]
    assert found["input_distance"].tolist()[0] == 1.5
    assert math.isnan(found["input_distance"][1])
    assert found["input_carrier"].tolist() == ["B6", None]
    assert found["input_temp"].tolist() == [3.0, 4.0]
    assert set(found["partition"]) == {"2026-01-31"}
    assert set(found["at"]) == {pd.Timestamp("2026-01-31T12:00", tz="UTC")}
    assert set(found["model_version"]) == {3}
    assert set(found["model_digest"]) == {DIGEST}
    assert set(found["request_id"]) == {"r1"}
    assert set(found["latency_ms"]) == {1.5}
    assert found["user"].isna().all()
    assert log.told() == {"written": 2, "dropped": 0, "damaged": 0}


def test_several_classes_keep_the_probability_of_each(tmp_path: Path) -> None:
    segment = SEGMENT.model_copy(update={"classes": ("early", "late", "on time")})

    bring_in(lines(answered(scores=[[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]]), segment=segment), tmp_path)

    found = read_predictions(tmp_path, "flights").sort_values("key")
    assert found["label"].tolist() == ["late", "early"]
    assert found["score"].tolist() == [0.5, 0.7]
    assert dict(found["probabilities"].tolist()[0]) == {"early": 0.2, "late": 0.5, "on time": 0.3}


def test_numbers_have_a_score_and_no_label(tmp_path: Path) -> None:
    bring_in(lines(answered(scores=[-3.5, 1e9]), segment=SEGMENT.model_copy(update={"classes": ()})), tmp_path)

    found = read_predictions(tmp_path, "flights").sort_values("key")
    assert found["score"].tolist() == [-3.5, 1e9]
    assert found["label"].isna().all()


def test_a_row_lies_under_its_day_in_utc(tmp_path: Path) -> None:
    midnight = datetime(2026, 2, 1, tzinfo=timezone.utc).timestamp()

    bring_in(lines(one("before", 0.1, at=midnight - 0.001), one("after", 0.2, at=midnight)), tmp_path)

    january = read_predictions(tmp_path, "flights", last_day=date(2026, 1, 31))
    february = read_predictions(tmp_path, "flights", first_day=date(2026, 2, 1))
    assert (january["key"].tolist(), february["key"].tolist()) == (["before"], ["after"])


def test_a_key_that_is_asked_again_counts_once_with_its_newest_answer(tmp_path: Path) -> None:
    earlier, later = (SEGMENT.model_copy(update={"began_us": began}) for began in (1, 2))

    bring_in(lines(one("f1", 0.3), segment=later), tmp_path)
    bring_in(lines(one("f1", 0.1), one("f1", 0.2), segment=earlier), tmp_path)

    assert read_predictions(tmp_path, "flights")["score"].tolist() == [0.3]


def test_a_label_finds_its_prediction_by_key_day_and_digest(tmp_path: Path) -> None:
    bring_in(lines(one("f1", 0.9), one("f2", 0.2)), tmp_path)
    truth = pd.DataFrame({"key": ["f1"], "late": [True]})
    predicted = Origin(endpoint="flights", partition="2026-01-31", model_digest=DIGEST)
    labels = label_table(truth, predicted, key="key", time=None, target="late", predicted=predicted)
    write_log(lambda name, data: request_log._publish(tmp_path / name, data), "labels", predicted, labels)

    joined = join(read_predictions(tmp_path, "flights"), read_labels(tmp_path, "flights")).set_index("key")

    assert joined.loc["f1", "truth"] == "True"
    assert pd.isna(joined.loc["f2", "truth"])


# --- Whatever happens ------------------------------------------------------------------------------------------------


def test_answers_become_parquet_while_the_server_goes_on(tmp_path: Path) -> None:
    log = RequestLog(LogOptions(tmp_path, every_s=0.1), SEGMENT)

    log.put(one("f1", 0.1))
    until(lambda: len(read_predictions(tmp_path, "flights")) == 1)
    log.put(one("f2", 0.2))
    log.close()

    assert read_predictions(tmp_path, "flights")["key"].tolist() == ["f1", "f2"]
    assert list((tmp_path / OPEN).rglob("*.*")) == []


def test_bringing_the_same_lines_in_twice_changes_nothing(tmp_path: Path) -> None:
    bring_in(lines(answered()), tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}

    bring_in(lines(answered()), tmp_path)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == files


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_line_that_was_cut_off_is_counted_and_the_others_stay(tmp_path: Path, cut: int) -> None:
    damaged = bring_in(lines(one("f1", 0.1), one("f2", 0.2))[:-cut], tmp_path)

    assert damaged == 1
    assert read_predictions(tmp_path, "flights")["key"].tolist() == ["f1"]


@pytest.mark.parametrize("content", [b"", b'{"endpoint": "fli', lines()])
def test_a_file_without_an_answer_brings_nothing_in(tmp_path: Path, content: bytes) -> None:
    bring_in(content, tmp_path)

    assert read_predictions(tmp_path, "flights").empty


def leave_behind(root: Path, content: bytes, name: str = "1-1") -> Path:
    path = root / OPEN / "endpoint=flights" / f"{name}{ENDING}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_next_server_brings_in_what_a_killed_one_left(tmp_path: Path) -> None:
    path = leave_behind(tmp_path, lines(one("f1", 0.1), one("f2", 0.2))[:-5])

    log = RequestLog(LogOptions(tmp_path), SEGMENT)
    log.close()

    assert read_predictions(tmp_path, "flights")["key"].tolist() == ["f1"]
    assert log.told() == {"written": 0, "dropped": 0, "damaged": 1}
    assert not path.exists()


def test_a_server_that_runs_brings_in_what_another_one_left(tmp_path: Path) -> None:
    log = RequestLog(LogOptions(tmp_path, every_s=0.1), SEGMENT)

    leave_behind(tmp_path, lines(one("f1", 0.1)))

    until(lambda: len(read_predictions(tmp_path, "flights")) == 1)
    log.close()


def test_the_file_of_a_server_that_lives_is_left_alone(tmp_path: Path) -> None:
    path = leave_behind(tmp_path, lines(one("f1", 0.1)))

    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        RequestLog(LogOptions(tmp_path), SEGMENT).close()

    assert path.exists()
    assert read_predictions(tmp_path, "flights").empty


def test_a_file_that_nobody_can_read_is_put_aside_and_holds_nothing_up(tmp_path: Path) -> None:
    broken = leave_behind(tmp_path, b"no segment\n", "0-0")
    leave_behind(tmp_path, lines(one("f1", 0.1)))

    RequestLog(LogOptions(tmp_path), SEGMENT).close()

    assert broken.with_name(broken.name + BROKEN).exists()
    assert read_predictions(tmp_path, "flights")["key"].tolist() == ["f1"]


def test_a_full_memory_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "_MOST_WAITING", 2)
    monkeypatch.setattr(request_log, "_PAUSE_S", 60.0)
    log = RequestLog(LogOptions(tmp_path), SEGMENT)

    for number in range(5):
        log.put(one(f"f{number}", 0.1))
    log.close()

    assert log.told() == {"written": 2, "dropped": 3, "damaged": 0}
    assert len(read_predictions(tmp_path, "flights")) == 2


def test_a_few_large_requests_fill_the_memory_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "_MOST_ROWS", 3)
    monkeypatch.setattr(request_log, "_PAUSE_S", 60.0)
    log = RequestLog(LogOptions(tmp_path), SEGMENT)

    for number in range(3):
        log.put(answered(request_id=f"r{number}"))
    log.close()

    assert log.told() == {"written": 2, "dropped": 4, "damaged": 0}


def test_a_full_disk_drops_and_counts_and_the_log_goes_on_afterwards(tmp_path: Path) -> None:
    log = RequestLog(LogOptions(tmp_path), SEGMENT)
    folder = tmp_path / OPEN / "endpoint=flights"
    folder.rename(tmp_path / "aside")

    log.put(answered())
    until(lambda: log.dropped == 2)
    (tmp_path / "aside").rename(folder)
    log.put(one("f1", 0.1))
    log.close()

    assert log.told() == {"written": 1, "dropped": 2, "damaged": 0}
    assert read_predictions(tmp_path, "flights")["key"].tolist() == ["f1"]


def test_a_log_that_cannot_become_parquet_keeps_its_lines(tmp_path: Path) -> None:
    log = RequestLog(LogOptions(tmp_path), SEGMENT)
    (tmp_path / "predictions").write_text("a file lies in the way")

    log.put(one("f1", 0.1))
    log.close()
    (tmp_path / "predictions").unlink()
    RequestLog(LogOptions(tmp_path), SEGMENT).close()

    assert read_predictions(tmp_path, "flights")["key"].tolist() == ["f1"]
