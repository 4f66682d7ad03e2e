"""Amazon SageMaker's data capture as rows of the prediction log.

The format: https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html. One JSON object a
line in ``<endpoint>/<variant>/<yyyy>/<mm>/<dd>/<hh>/<name>.jsonl``; a request may hold several rows. What cannot be
read is named and left out, and ends nothing.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.monitoring.labels import moments
from ml_lifecycle.backends.monitoring.prediction_log import Origin, place_of, prediction_table, write_log
from ml_lifecycle.core.errors import PartitionMissingError, RequestError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

_HOUR: Final = re.compile(r"(?:(?P<variant>[^/]+)/)?(?P<hour>\d{4}/\d{2}/\d{2}/\d{2})/[^/]+$")
_ENDPOINT: Final = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z])?")
_UNKNOWN_HOUR: Final = "capture"
_ROWS: Final = ("instances", "inputs", "features", "data", "predictions", "outputs", "results", "probabilities")
"""Where JSON payloads hold their rows, as SageMaker's built-in algorithms and the common servers have it."""
_SCORES: Final = ("score", "probability", "prediction", "value")
_MANY_SCORES: Final = ("probabilities", "scores", "score", "prediction", "predictions")
_LABELS: Final = ("predicted_label", "label", "class")

_NO_EVENT: Final = (ValueError, TypeError, AttributeError, LookupError, RecursionError, ArithmeticError, csv.Error)
"""What reading something raises that is built otherwise."""


@dataclass(frozen=True)
class Broken:
    """A line that could not be read."""

    file: str
    line: int
    """From 1."""
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


@dataclass
class Captured:
    """What was found in a capture."""

    files: int = 0
    events: int = 0
    """Lines that were read."""
    rows: int = 0
    broken: list[Broken] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    """Files of the log, below its root."""


@dataclass(frozen=True)
class _Row:
    """One prediction."""

    event: str
    key: str
    at: str
    inputs: Sequence[Any]
    """As many as there are columns; empty where the capture holds no input."""
    score: float | None
    label: str | None


class _UnreadableError(ValueError):
    """Why a line cannot be read."""


def log_capture(
    source: str | Path,
    endpoint: str,
    columns: Sequence[str],
    write: Callable[[str, bytes], None],
    *,
    key: str | None = None,
) -> Captured:
    """Bring a capture into the prediction log; doing it again changes nothing.

    :param source: A ``.jsonl`` file, a folder of them, or an address such as ``s3://bucket/capture``.
    :param columns: What the inputs' columns are called, in order. A first line that repeats them is left out.
    :param write: Makes a file of this name below the log's root appear whole.
    :param key: The column that names a row; ``None``: the inference id, else the event's, with the row's number behind
        it where a request holds several.
    :raises RequestError: the endpoint's name or the columns cannot be used.
    :raises PartitionMissingError: there is no such file.
    """
    _check(endpoint, columns, key)
    found = Captured()
    system, root, files = _files(source)
    for path in files:
        name = path[len(root) :].lstrip("/") or Path(path).name
        with system.open_input_stream(path) as stream:
            content = stream.read()
        rows = list(_rows(content, name, columns, key, found))
        found.files, found.rows = found.files + 1, found.rows + len(rows)
        if not rows:
            continue
        place = _HOUR.search(path)
        origin = Origin(
            endpoint=endpoint,
            partition=_UNKNOWN_HOUR if place is None else "{}-{}-{}T{}".format(*place["hour"].split("/")),
            data_digest=hashlib.sha256(content).hexdigest(),
        )
        table = _table(rows, columns, origin, variant=None if place is None else place["variant"])
        found.written += write_log(write, "predictions", origin, table)
    return found


def _check(endpoint: str, columns: Sequence[str], key: str | None) -> None:
    if not _ENDPOINT.fullmatch(endpoint):
        raise RequestError(f"{endpoint!r} names no endpoint", way_out="use letters, digits and hyphens")
    if not columns or not all(columns) or len(set(columns)) < len(columns):
        raise RequestError(
            f"the columns {', '.join(columns)!r} are none, or one is there twice",
            way_out="name the inputs' columns in their order, each once",
        )
    if key is not None and key not in columns:
        raise RequestError(f"the key {key!r} is not among the columns", way_out=f"name one of {', '.join(columns)}")


def _files(source: str | Path) -> tuple[FileSystem, str, list[str]]:
    from pyarrow.fs import FileSelector, FileType

    system, root = place_of(source)
    info = system.get_file_info(root)
    if info.type == FileType.File:
        return system, root, [root]
    inside = system.get_file_info(FileSelector(root, recursive=True)) if info.type == FileType.Directory else []
    files = sorted(one.path for one in inside if one.type == FileType.File and one.path.endswith(".jsonl"))
    if not files:
        raise PartitionMissingError(
            "there is no .jsonl file", where=str(source), way_out="name the folder that SageMaker captures into"
        )
    return system, root, files


def _table(rows: Sequence[_Row], columns: Sequence[str], origin: Origin, *, variant: str | None) -> pa.Table:
    import pandas as pd
    import pyarrow as pa

    table = pd.DataFrame(
        {
            "key": pd.Series([row.key for row in rows], dtype=object),
            "at": pd.Series([row.at for row in rows], dtype=object),
            "score": pd.Series([row.score for row in rows], dtype="float64"),
            "label": pd.Series([row.label for row in rows], dtype=object),
        }
    )
    values = {
        name: _typed([row.inputs[place] if row.inputs else None for row in rows]) for place, name in enumerate(columns)
    }
    events = pd.Series([row.event for row in rows], dtype=object)
    logged = prediction_table(table, origin, key="key", time="at", inputs=pd.DataFrame(values), names=events)
    return logged.append_column("variant", pa.array([variant] * len(rows), pa.string()))


def _typed(values: Sequence[Any]) -> Any:
    """Numbers where all are, else texts; what is empty is missing."""
    import pandas as pd

    known = [value for value in values if value is not None]
    if all(_number(value) is not None for value in known):
        return pd.Series([None if value is None else _number(value) for value in values], dtype="float64")
    return pd.Series([None if value is None else _as_text(value) for value in values], dtype=object)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _number(value: Any) -> float | None:
    """The number that a value is; ``None`` for what is none, True and False among them."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and "_" in value:
        # Python would read 1_000 as a number.
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


# --- Lines -----------------------------------------------------------------------------------------------------------


def _rows(content: bytes, name: str, columns: Sequence[str], key: str | None, found: Captured) -> Iterator[_Row]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows = _event(line, columns, key)
        except _UnreadableError as error:
            found.broken.append(Broken(name, number, str(error)))
        except _NO_EVENT as error:
            found.broken.append(Broken(name, number, f"it is no captured event ({type(error).__name__})"))
        else:
            found.events += 1
            yield from rows


def _event(line: bytes, columns: Sequence[str], key: str | None) -> list[_Row]:
    """The predictions of one request."""
    event = json.loads(line)
    meta, captured = event["eventMetadata"], event["captureData"]
    at, event_id = str(meta["inferenceTime"]), str(meta["eventId"])
    _check_time(at)
    inputs = _inputs(captured.get("endpointInput"), columns)
    answers = _answers(captured.get("endpointOutput"), None if inputs is None else len(inputs))
    if inputs is None and answers is None:
        raise _UnreadableError("it holds neither an input nor an output")
    if inputs is not None and answers is not None and len(inputs) != len(answers):
        raise _UnreadableError(f"{len(inputs)} rows went in and {len(answers)} came out")
    count = len(inputs if inputs is not None else answers or [])
    named = str(meta.get("inferenceId") or event_id)
    rows = []
    for place in range(count):
        values = inputs[place] if inputs is not None else ()
        score, label = answers[place] if answers is not None else (None, None)
        own = _key(values, columns, key) or (named if count == 1 else f"{named}/{place}")
        row = _Row(f"{event_id}/{place}", own, at, values, score, label)
        _check_text(row)
        rows.append(row)
    return rows


def _check_text(row: _Row) -> None:
    """Refuse half of a character, which JSON can write and parquet cannot."""
    for value in (row.event, row.key, row.label, *row.inputs):
        if isinstance(value, str):
            value.encode()


def _key(values: Sequence[Any], columns: Sequence[str], key: str | None) -> str | None:
    if key is None or not values:
        return None
    value = values[list(columns).index(key)]
    if value is None or value == "":
        raise _UnreadableError(f"a row has no {key!r}")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_time(text: str) -> None:
    import pandas as pd

    if moments(pd.Series([text], dtype=object)).isna().any():
        raise _UnreadableError(f"{text[:40]!r} is no moment")


def _payload(part: Any) -> tuple[str, str]:
    """What was sent, as text, and how it is written: ``csv`` or ``json``."""
    encoding, kind = str(part.get("encoding", "")).upper(), str(part.get("observedContentType", "")).lower()
    data = part["data"]
    if encoding == "BASE64":
        try:
            data = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, TypeError):
            raise _UnreadableError("its BASE64 payload holds no text") from None
    # Whoever captured without naming the content type gets everything as BASE64.
    if "json" in kind or encoding == "JSON":
        return (data if isinstance(data, str) else json.dumps(data)), "json"
    if "csv" in kind or encoding == "CSV":
        return str(data), "csv"
    raise _UnreadableError(f"its payload is {kind or encoding or 'of an unknown type'}, which is not read")


def _inputs(part: Any, columns: Sequence[str]) -> list[list[Any]] | None:
    """The rows that went in, a value per column; ``None`` where the input was not captured."""
    if part is None:
        return None
    text, written = _payload(part)
    if written == "csv":
        rows: list[Any] = [line for line in csv.reader(io.StringIO(text)) if line]
        rows = rows[1:] if rows and [value.strip() for value in rows[0]] == list(columns) else rows
        return [[value.strip() or None for value in _as_long(row, columns)] for row in rows]
    found = []
    for row in _json_rows(text, columns):
        if isinstance(row, dict):
            if missing := [name for name in columns if name not in row]:
                raise _UnreadableError(f"a row has no {missing[0]!r}")
            found.append([row[name] for name in columns])
        else:
            found.append(_as_long(row if isinstance(row, list) else [row], columns))
    return found


def _as_long(row: list[Any], columns: Sequence[str]) -> list[Any]:
    if len(row) != len(columns):
        raise _UnreadableError(f"a row has {len(row)} values, and there are {len(columns)} columns")
    return row


def _answers(part: Any, rows: int | None) -> list[tuple[float | None, str | None]] | None:
    """Each row's score and label; ``None`` where the output was not captured."""
    if part is None:
        return None
    text, written = _payload(part)
    if written == "json":
        found = _json_rows(text, ())
    else:
        found = [line for line in csv.reader(io.StringIO(text)) if line]
        # Some algorithms answer several rows on one line.
        if rows is not None and rows > 1 and len(found) == 1 and len(found[0]) == rows:
            found = [[value] for value in found[0]]
    if rows == 1 and len(found) > 1 and not any(isinstance(one, dict | list) for one in found):
        found = [found]
    return [_answer(one) for one in found]


def _answer(answer: Any) -> tuple[float | None, str | None]:
    """A row's score and label: of several probabilities the greatest."""
    label = None
    if isinstance(answer, dict):
        label = next((str(answer[name]) for name in _LABELS if answer.get(name) is not None), None)
        many = next((answer[name] for name in _MANY_SCORES if isinstance(answer.get(name), list)), None)
        answer = many if many is not None else next((answer[name] for name in _SCORES if name in answer), None)
    values = answer if isinstance(answer, list) else [answer]
    numbers = [number for value in values if (number := _number(value)) is not None and math.isfinite(number)]
    if len(numbers) == len(values) and numbers:
        return max(numbers), label
    if len(values) == 1 and isinstance(values[0], str):
        return None, label or values[0].strip()
    if label is not None:
        return (numbers[0] if numbers else None), label
    raise _UnreadableError("its output holds neither a score nor a label")


def _json_rows(text: str, columns: Sequence[str]) -> list[Any]:
    """The rows of a JSON payload: of one document, or of one a line."""
    try:
        found = json.loads(text)
    except ValueError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(found, dict) and not (columns and set(columns) <= set(found)):
        held = next((found[name] for name in _ROWS if isinstance(found.get(name), list)), None)
        found = held if held is not None else [found]
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        return [found]
    flat = columns and found and len(found) == len(columns) and not any(isinstance(one, dict | list) for one in found)
    # A list of plain values is one row, unless there is one column only.
    return [found] if flat and len(columns) > 1 else found
