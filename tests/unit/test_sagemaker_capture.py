"""What SageMaker captured becomes rows of the prediction log, and what is broken ends nothing."""

from __future__ import annotations

import base64
import json
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.monitoring.prediction_log import read_predictions
from ml_lifecycle.backends.monitoring.sagemaker_capture import Captured, log_capture
from ml_lifecycle.core.errors import PartitionMissingError, RequestError

COLUMNS = ("miles", "carrier")
CSV = "text/csv"
JSON = "application/json"


def event(sent: Any, got: Any, *, at: str = "2020-02-13T03:25:58Z", kind: str = CSV, **meta: Any) -> dict[str, Any]:
    """One line, as the documentation shows it."""
    encoding = {CSV: "CSV", JSON: "JSON"}.get(kind, "BASE64")
    parts = {"endpointInput": (sent, "INPUT"), "endpointOutput": (got, "OUTPUT")}
    captured = {
        name: {"observedContentType": kind, "mode": mode, "data": data, "encoding": encoding}
        for name, (data, mode) in parts.items()
        if data is not None
    }
    about = {"eventId": "6ea5c531", "inferenceTime": at, **meta}
    return {"captureData": captured, "eventMetadata": about, "eventVersion": "0"}


def capture(folder: Path, *lines: Any, name: str = "trips/AllTraffic/2020/02/13/03/25-58-1.jsonl") -> Path:
    path = folder / "capture" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")
    return folder / "capture"


def log(folder: Path, *lines: Any, **options: Any) -> tuple[Captured, pd.DataFrame]:
    source = capture(folder, *lines)
    found = log_capture(source, "trips", COLUMNS, LocalStore(folder / "log").write_file, **options)
    return found, read_predictions(folder / "log", "trips")


def read(table: pd.DataFrame, *names: str) -> list[list[Any]]:
    values: list[list[Any]] = table[list(names)].to_numpy(object).tolist()
    return values


def test_a_captured_request_is_a_row_of_the_log(tmp_path: Path) -> None:
    found, table = log(tmp_path, event("100,AA", "0.25"))

    assert (found.files, found.events, found.rows, found.broken) == (1, 1, 1, [])
    assert read(table, "endpoint", "key", "score", "input_miles", "input_carrier", "variant", "partition") == [
        ["trips", "6ea5c531", 0.25, 100.0, "AA", "AllTraffic", "2020-02-13T03"]
    ]
    assert table["at"].tolist() == [pd.Timestamp("2020-02-13T03:25:58Z")]


def test_the_inference_id_of_whoever_asked_is_the_key(tmp_path: Path) -> None:
    _, table = log(tmp_path, event("100,AA", "0.25", inferenceId="order-7"))

    assert table["key"].tolist() == ["order-7"]


def test_a_request_may_hold_several_rows(tmp_path: Path) -> None:
    _, lines = log(tmp_path / "a", event("miles,carrier\n100,AA\n200,\n", "0.25\n0.5\n", inferenceId="x"))
    _, flat = log(tmp_path / "b", event("100,AA\n200,UA", "0.25,0.5"))
    _, by_column = log(tmp_path / "c", event("100,AA\n200,UA", "0.25,0.5"), key="miles")

    assert sorted(read(lines, "key", "score")) == [["x/0", 0.25], ["x/1", 0.5]]
    assert lines.set_index("key")["input_carrier"].isna().to_dict() == {"x/0": False, "x/1": True}
    assert sorted(flat["score"]) == [0.25, 0.5]
    assert sorted(by_column["key"]) == ["100", "200"]


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ('{"instances": [{"miles": 100, "carrier": "AA"}]}', '{"predictions": [{"score": 0.25}]}'),
        ('{"miles": 100, "carrier": "AA", "more": 1}', '{"score": 0.25}'),
        ('[[100, "AA"]]', "[0.25]"),
        ('[100, "AA"]', "0.25"),
        ('{"inputs": [[100, "AA"]]}', '{"predictions": [0.25]}'),
        ('{"miles": 100, "carrier": "AA"}\n', '{"prediction": 0.25}\n'),
    ],
)
def test_json_is_read_in_its_usual_forms(sent: str, got: str, tmp_path: Path) -> None:
    found, table = log(tmp_path, event(sent, got, kind=JSON))

    assert found.broken == []
    assert read(table, "input_miles", "input_carrier", "score") == [[100.0, "AA", 0.25]]


@pytest.mark.parametrize(
    ("got", "score", "label"),
    [
        ('{"predictions": [{"predicted_label": 2, "score": [0.1, 0.2, 0.7]}]}', 0.7, "2"),
        ("[0.1, 0.9]", 0.9, None),
        ('{"probabilities": [0.1, 0.9], "label": "late"}', 0.9, None),
        ('"late"', None, "late"),
        ('{"label": "late"}', None, "late"),
    ],
)
def test_of_several_probabilities_the_greatest_is_the_score(
    got: str, score: float | None, label: str | None, tmp_path: Path
) -> None:
    _, table = log(tmp_path, event('[[100, "AA"]]', got, kind=JSON))

    found = [None if pd.isna(value) else value for value in read(table, "score", "label")[0]]
    assert found == [score, label]


def test_base64_is_read_by_its_content_type(tmp_path: Path) -> None:
    one = event("100,AA", "0.25")
    for part in one["captureData"].values():
        part.update(encoding="BASE64", data=base64.b64encode(part["data"].encode()).decode())

    found, table = log(tmp_path, one)

    assert found.broken == []
    assert read(table, "input_miles", "score") == [[100.0, 0.25]]


def test_a_capture_of_one_side_only_is_read(tmp_path: Path) -> None:
    _, sent = log(tmp_path / "a", event("100,AA", None))
    _, got = log(tmp_path / "b", event(None, "0.25"))

    assert sent["score"].isna().tolist() == [True]
    assert got["score"].tolist() == [0.25]
    assert got["input_miles"].isna().tolist() == [True]


def test_requests_go_to_their_own_day_whatever_folder_they_lie_in(tmp_path: Path) -> None:
    log(
        tmp_path,
        event("1,AA", "0.1", at="2020-02-13T23:59:59.999Z", eventId="a"),
        event("2,AA", "0.2", at="2020-02-14T00:00:00Z", eventId="b"),
        event("3,AA", "0.3", at="2020-02-14T00:30:00+01:00", eventId="c"),
    )

    assert read_predictions(tmp_path / "log", "trips", date(2020, 2, 13), date(2020, 2, 13))["key"].tolist() == [
        "c",
        "a",
    ]
    assert read_predictions(tmp_path / "log", "trips", date(2020, 2, 14), None)["key"].tolist() == ["b"]


def test_reading_again_and_reading_a_file_that_has_grown_doubles_nothing(tmp_path: Path) -> None:
    first, second = event("1,AA", "0.1", eventId="a"), event("2,AA", "0.2", eventId="b")
    log(tmp_path, first)
    before = {path: path.read_bytes() for path in (tmp_path / "log").rglob("*.parquet")}

    log(tmp_path, first)
    after = {path: path.read_bytes() for path in (tmp_path / "log").rglob("*.parquet")}
    _, grown = log(tmp_path, first, second)

    assert before == after
    assert sorted(grown["key"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "it is no captured event (JSONDecodeError)"),
        ("[]", "it is no captured event (TypeError)"),
        ("{}", "it is no captured event (KeyError)"),
        ("[" * 100_000, "it is no captured event (RecursionError)"),
        ('"\\ud800"', "it is no captured event (TypeError)"),
        (event("100,\ud800", "0.25"), "it is no captured event (UnicodeEncodeError)"),
        (event("100", "0.25"), "a row has 1 values, and there are 2 columns"),
        (event("100,AA\n200,UA", "0.25\n0.5\n0.75"), "2 rows went in and 3 came out"),
        (event("100,AA", "0.25", at="soon"), "'soon' is no moment"),
        (event("100,AA", ""), "1 rows went in and 0 came out"),
        (event(None, None), "it holds neither an input nor an output"),
        (event("iVBORw0KGgo", "0.25", kind="image/png"), "its BASE64 payload holds no text"),
        (event("aGVsbG8=", "aGVsbG8=", kind="image/png"), "its payload is image/png, which is not read"),
        (event('{"miles": 100}', "0.25", kind=JSON), "a row has no 'carrier'"),
        (event('{"instances": [{"miles": 100}]}', "0.25", kind=JSON), "a row has no 'carrier'"),
        (event('[[100, "AA"]]', "[NaN]", kind=JSON), "its output holds neither a score nor a label"),
        (event("x" * 200_000 + ",AA", "0.25"), "it is no captured event (Error)"),
    ],
)
def test_a_broken_line_is_named_and_the_others_are_read(line: Any, why: str, tmp_path: Path) -> None:
    found, table = log(tmp_path, event("1,AA", "0.1", eventId="a"), line, "", event("2,AA", "0.2", eventId="b"))

    assert [str(one) for one in found.broken] == [f"trips/AllTraffic/2020/02/13/03/25-58-1.jsonl:2: {why}"]
    assert sorted(table["key"]) == ["a", "b"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_are_too_strange_to_be_told(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("strange")
    (folder / "x.jsonl").write_bytes(content + b"\n" + json.dumps(event("1,AA", "0.1")).encode())

    found = log_capture(folder / "x.jsonl", "trips", COLUMNS, LocalStore(folder / "log").write_file)

    assert found.events == 1


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda one: (
            st.lists(one, max_size=3)
            | st.dictionaries(
                st.sampled_from(["predictions", "score", "label", "instances", "miles", "carrier"]), one, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_no_payload_is_too_strange_to_be_told(tmp_path_factory: pytest.TempPathFactory, payload: Any) -> None:
    folder = tmp_path_factory.mktemp("strange")
    text = json.dumps(payload)
    capture(folder, event(text, "0.5", kind=JSON), event('[[1, "AA"]]', text, kind=JSON))

    found = log_capture(folder, "trips", COLUMNS, LocalStore(folder / "log").write_file)

    assert found.events + len(found.broken) == 2


def test_what_is_asked_for_wrongly_is_refused(tmp_path: Path) -> None:
    source, write = capture(tmp_path, event("1,AA", "0.1")), LocalStore(tmp_path / "log").write_file

    with pytest.raises(RequestError, match="names no endpoint"):
        log_capture(source, "../up", COLUMNS, write)
    with pytest.raises(RequestError, match="one is there twice"):
        log_capture(source, "trips", ("a", "a"), write)
    with pytest.raises(RequestError, match="'x' is not among the columns"):
        log_capture(source, "trips", COLUMNS, write, key="x")
    with pytest.raises(PartitionMissingError, match=r"there is no \.jsonl file"):
        log_capture(tmp_path / "elsewhere", "trips", COLUMNS, write)


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_the_log_and_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = capture(tmp_path, event("1,AA", "0.1"))
    asked = ["capture", "--from", str(source), "--endpoint", "trips", "--columns", "miles, carrier"]

    code = main([*asked, "--out", str(tmp_path / "log")])
    told = capsys.readouterr().out
    main([*asked, "--out", str(tmp_path / "log"), "--json"])

    assert code == 0
    assert told.startswith("1 prediction of 1 request in 1 file: 1 file of the log in ")
    assert json.loads(capsys.readouterr().out)["broken_lines"] == 0
    assert len(read_predictions(tmp_path / "log", "trips")) == 1


def test_the_command_names_what_it_could_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = capture(tmp_path, *["{"] * 21, event("1,AA", "0.1"))
    asked = [
        "capture",
        "--from",
        str(source),
        "--endpoint",
        "trips",
        "--columns",
        "miles,carrier",
        "--out",
        str(tmp_path / "log"),
    ]

    assert main(asked) == 1
    assert "21 lines could not be read:" in (told := capsys.readouterr().out)
    assert told.endswith("  and 1 more\n")
    assert main([*asked[:2], str(tmp_path / "none"), *asked[3:]]) == 64


def test_a_log_that_cannot_be_written_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = capture(tmp_path, event("1,AA", "0.1"))
    (tmp_path / "file").write_text("")
    asked = ["capture", "--from", str(source), "--endpoint", "trips", "--columns", "miles,carrier"]

    assert main([*asked, "--out", str(tmp_path / "file")]) == 64

    assert "it cannot be written (Not a directory)" in capsys.readouterr().err
