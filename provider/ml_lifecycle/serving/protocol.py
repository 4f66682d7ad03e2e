"""MLflow's scoring protocol: what ``/invocations`` is sent, and how it is answered.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/ says how a request is written. One that can be read
in two ways is refused: a key that is there twice, NaN and Infinity, which JSON does not have.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from ml_lifecycle.backends.models.inputs import NUMBER
from ml_lifecycle.core.errors import InvocationError, LifecycleError

JSON: Final = "application/json"
CSV: Final = "text/csv"
FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
PARAMS: Final = "params"
KEYS: Final = "keys"
LONGEST_KEY: Final = 200
_BODY: Final = "the request's body"
_UNSUPPORTED: Final = 415
_MOST_SHOWN: Final = 80
_SPLIT: Final = frozenset({"columns", "data", "index"})
_CODES: Final[Mapping[int, str]] = {
    400: "BAD_REQUEST",
    408: "REQUEST_TIMEOUT",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    503: "TEMPORARILY_UNAVAILABLE",
}
"""As MLflow's errors are called."""


@dataclass(frozen=True)
class Asked:
    """One request that was read."""

    columns: Mapping[str, Sequence[Any]]
    """The model's inputs, as many values each as there are rows."""
    rows: int
    keys: tuple[str, ...] | None = None
    """What names each row, so that its label is found later; ``None`` where the request does not say."""


def read(body: bytes, content_type: str, inputs: Sequence[str]) -> Asked:
    """Read a request's body.

    :param inputs: The model's input columns in order. Rows without names are taken in this order.
    :raises InvocationError: it cannot be read, or lacks an input.
    """
    kind, _, charset = content_type.partition(";")
    kind = kind.strip().lower()
    if charset and charset.strip().lower().replace('"', "") != "charset=utf-8":
        raise InvocationError(
            f"{_shown(charset.strip())} is not read", where="Content-Type", way_out="send UTF-8", status=_UNSUPPORTED
        )
    if kind == JSON:
        return _read_json(body, inputs)
    if kind == CSV:
        return _read_csv(body, inputs)
    raise InvocationError(
        f"the content type {_shown(kind)} is not read",
        where="Content-Type",
        way_out=f"send {JSON} or {CSV}",
        status=_UNSUPPORTED,
    )


def schema_of(inputs: Mapping[str, str]) -> dict[str, Any]:
    """The JSON schema of a request.

    :param inputs: Each input's kind by its name.
    """
    values = {name: {"type": ["number" if kind == NUMBER else "string", "null"]} for name, kind in inputs.items()}
    records = {"type": "array", "items": {"type": "object", "properties": values}}
    rows = {"type": "array", "items": {"type": "array"}}
    columns = {name: {"anyOf": [{"type": "array", "items": value}, value]} for name, value in values.items()}
    split = {"columns": {"type": "array", "items": {"type": "string"}}, "data": rows}
    forms = {
        "dataframe_split": {"type": "object", "properties": split, "required": ["data"]},
        "dataframe_records": records,
        "instances": {"anyOf": [records, rows]},
        "inputs": {"anyOf": [{"type": "object", "properties": columns, "required": list(columns)}, records, rows]},
    }
    params = {"type": "object", "properties": {KEYS: {"type": "array", "items": {"type": ["string", "integer"]}}}}
    return {
        "type": "object",
        "properties": {**forms, PARAMS: params},
        "oneOf": [{"required": [form]} for form in forms],
    }


def answer_body(scores: list[Any]) -> bytes:
    """``{"predictions": [...]}``: a number a row, or a list of them for more than two classes."""
    return b'{"predictions": ' + json.dumps(scores).encode() + b"}"


def error_body(error: LifecycleError, status: int) -> bytes:
    """What is wrong, where, and the way out; ``error_code`` and ``message`` as MLflow has them."""
    told = {
        "error_code": _CODES.get(status, "INTERNAL_ERROR"),
        "message": str(error),
        "what": error.what,
        "where": error.where,
        "way_out": error.way_out,
    }
    return json.dumps(told).encode()


def read_keys(found: Any, *, rows: int, where: str) -> tuple[str, ...]:
    """The rows' keys as texts.

    :raises InvocationError: they are not one short text or whole number for each row, or one is there twice.
    """
    if not isinstance(found, list) or len(found) != rows:
        raise InvocationError(
            f"there are {rows} rows, and not as many keys", where=where, way_out="send a list with one key for each row"
        )
    keys = tuple(_key(one, where) for one in found)
    if len(set(keys)) < rows:
        raise InvocationError("a key is there twice", where=where, way_out="name each row by a key of its own")
    return keys


def _key(found: Any, where: str) -> str:
    text = str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""
    if not 0 < len(text) <= LONGEST_KEY or not text.isprintable():
        raise InvocationError(
            f"{_shown(found)} is no key",
            where=where,
            way_out=f"name each row by a text of up to {LONGEST_KEY} characters, or a whole number",
        )
    return text


# --- JSON ------------------------------------------------------------------------------------------------------------


def _read_json(body: bytes, inputs: Sequence[str]) -> Asked:
    found = _parsed(body)
    forms = [form for form in FORMS if form in found] if isinstance(found, dict) else []
    if len(forms) != 1:
        raise InvocationError(
            f"it holds {' and '.join(forms) or 'no rows'}",
            where=_BODY,
            way_out=f"send a JSON object with one of {', '.join(FORMS)}",
        )
    held = found[forms[0]]
    where = f"{_BODY}, {forms[0]}"
    if forms[0] == "dataframe_split":
        columns, rows = _split(held, inputs, where)
    elif forms[0] == "dataframe_records":
        columns, rows = _records(held, inputs, where)
    elif isinstance(held, dict) and forms[0] == "inputs":
        columns, rows = _columns(held, inputs, where)
    else:
        columns, rows = _rows(held, inputs, where)
    _check_rows(rows, where)
    params = found.get(PARAMS)
    keys = params.get(KEYS) if isinstance(params, dict) else None
    return Asked(columns, rows, None if keys is None else read_keys(keys, rows=rows, where=f"{_BODY}, params.keys"))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, object_pairs_hook=_object, parse_constant=_constant)
    except InvocationError:
        raise
    except RecursionError:
        raise _unreadable("it is nested too deeply") from None
    except ValueError as error:
        # Of whole numbers with thousands of digits Python says that it would take long.
        raise _unreadable(f"it is no JSON in UTF-8 ({str(error)[:_MOST_SHOWN]})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _unreadable(f"the key {_shown(twice)} is there twice")
    return found


def _constant(name: str) -> NoReturn:
    raise InvocationError(f"{name} is no JSON", where=_BODY, way_out="write null for what is missing")


def _split(held: Any, inputs: Sequence[str], where: str) -> tuple[Mapping[str, Sequence[Any]], int]:
    if not isinstance(held, dict) or "data" not in held or not held.keys() <= _SPLIT:
        raise InvocationError(
            "it is no object with columns and data", where=where, way_out='send {"columns": [...], "data": [[...]]}'
        )
    names = held.get("columns")
    if names is None:
        return _positional(held["data"], inputs, inputs, where)
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        raise InvocationError("the columns are no list of different names", where=where, way_out="name each once")
    return _positional(held["data"], names, inputs, where)


def _positional(
    data: Any, names: Sequence[str], inputs: Sequence[str], where: str
) -> tuple[Mapping[str, Sequence[Any]], int]:
    """Rows whose values lie in the order of the names."""
    if not isinstance(data, list):
        raise InvocationError("the rows are no list", where=where, way_out="send a list of rows")
    width = len(names)
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != width:
            told = f"{len(row)} values" if isinstance(row, list) else "no list of values"
            raise InvocationError(
                f"row {number} is {told}, and there are {width} columns",
                where=where,
                way_out=f"send a value for each of {_named(names)}",
            )
    _check_names(names, inputs, where)
    place = {name: index for index, name in enumerate(names)}
    return {name: [row[place[name]] for row in data] for name in inputs}, len(data)


def _records(held: Any, inputs: Sequence[str], where: str) -> tuple[Mapping[str, Sequence[Any]], int]:
    """Rows as objects; what one of them leaves out is missing, and what all leave out is refused."""
    if not isinstance(held, list) or not all(isinstance(row, dict) for row in held):
        raise InvocationError("it is no list of objects", where=where, way_out="send a list with one object a row")
    _check_names({name for row in held for name in row} if held else inputs, inputs, where)
    return {name: [row.get(name) for row in held] for name in inputs}, len(held)


def _columns(held: dict[str, Any], inputs: Sequence[str], where: str) -> tuple[Mapping[str, Sequence[Any]], int]:
    """A list of values for each column, or one value each for a single row."""
    _check_names(held, inputs, where)
    if not any(isinstance(held[name], list) for name in inputs):
        return {name: [held[name]] for name in inputs}, 1
    lengths = {len(held[name]) if isinstance(held[name], list) else -1 for name in inputs}
    if len(lengths) > 1:
        raise InvocationError(
            "the columns have different lengths", where=where, way_out="send as many values for each of them"
        )
    return {name: held[name] for name in inputs}, lengths.pop()


def _rows(held: Any, inputs: Sequence[str], where: str) -> tuple[Mapping[str, Sequence[Any]], int]:
    """Rows as objects, as lists in the inputs' order, or as single values where the model takes one."""
    if isinstance(held, list) and held and isinstance(held[0], dict):
        return _records(held, inputs, where)
    if isinstance(held, list) and len(inputs) == 1 and not any(isinstance(row, list | dict) for row in held):
        return {inputs[0]: held}, len(held)
    return _positional(held, inputs, inputs, where)


def _check_names(names: Any, inputs: Sequence[str], where: str) -> None:
    if missing := [name for name in inputs if name not in names]:
        raise InvocationError(f"it lacks {_named(missing)}", where=where, way_out=f"send {_named(inputs)}")


def _check_rows(rows: int, where: str) -> None:
    if not rows:
        raise InvocationError("there is no row", where=where, way_out="send at least one")


# --- CSV -------------------------------------------------------------------------------------------------------------


def _read_csv(body: bytes, inputs: Sequence[str]) -> Asked:
    """Lines of values, with the columns' names in the first line or in the inputs' order; what is empty is missing."""
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(f"it is no CSV in UTF-8 ({str(error)[:_MOST_SHOWN]})") from None
    where = f"{_BODY}, {CSV}"
    _check_rows(len(lines), where)
    names: Sequence[str] = [name.strip() for name in lines[0]]
    if set(names) & set(inputs):
        if len(set(names)) < len(names):
            raise InvocationError("a column is there twice", where=where, way_out="name each once")
        lines = lines[1:]
        _check_rows(len(lines), where)
    else:
        names = inputs
    columns, rows = _positional([[value or None for value in line] for line in lines], names, inputs, where)
    return Asked(columns, rows)


def _unreadable(what: str) -> InvocationError:
    return InvocationError(what, where=_BODY, way_out=f"send {JSON} with one of {', '.join(FORMS)}, or {CSV}")


def _named(names: Sequence[Any]) -> str:
    return _shown(", ".join(map(str, names)))


def _shown(found: Any) -> str:
    text = ascii(found) if not isinstance(found, str) else found.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
