"""A request is read as MLflow's clients write it, row by row, and what can be read in two ways is refused."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_lifecycle.backends.models.inputs import prepare
from ml_lifecycle.core.errors import InvocationError, ModelAnswerError
from ml_lifecycle.serving.protocol import Asked, answer_body, error_body, read, read_keys
from ml_lifecycle.serving.values import columns_of, table_of
from tests.fakes.served_model import INPUTS

NAMES = tuple(INPUTS)
COLUMNS: dict[str, list[Any]] = {"distance": [1.5, None], "carrier": ["B6", None], "temp": [3, 4.0]}
ROWS: list[list[Any]] = [[1.5, "B6", 3], [None, None, 4.0]]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]


def asked(body: Any, content_type: str = "application/json") -> Asked:
    return read(body if isinstance(body, bytes) else json.dumps(body).encode(), content_type, NAMES)


def refused(body: Any, content_type: str = "application/json") -> InvocationError:
    with pytest.raises(InvocationError) as caught:
        asked(body, content_type)
    return caught.value


# --- What is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": list(NAMES), "index": [0, 1], "data": ROWS}},
        {"dataframe_split": {"columns": ["temp", "x", *NAMES[:2]], "data": [[3, 0, 1.5, "B6"], [4.0, 0, None, None]]}},
        {"dataframe_split": {"data": ROWS}},
        {"dataframe_records": RECORDS},
        {"instances": RECORDS},
        {"instances": ROWS},
        {"inputs": COLUMNS},
        {"inputs": ROWS},
        {"inputs": RECORDS, "params": {}},
        {"dataframe_split": {"columns": list(NAMES), "data": ROWS}, "params": None},
    ],
)
def test_every_form_of_mlflow_says_the_same(body: Any) -> None:
    found = asked(body)

    assert found == Asked(columns=COLUMNS, rows=2)


def test_a_record_may_leave_out_what_is_missing() -> None:
    found = asked({"dataframe_records": [{"distance": 1.5, "carrier": "B6"}, {"temp": 4.0}]})

    assert found.columns == {"distance": [1.5, None], "carrier": ["B6", None], "temp": [None, 4.0]}


def test_one_row_may_be_an_object_of_single_values() -> None:
    found = asked({"inputs": {"distance": 1.5, "carrier": None, "temp": 3}})

    assert (found.columns, found.rows) == ({"distance": [1.5], "carrier": [None], "temp": [3]}, 1)


def test_a_model_of_one_input_takes_single_values() -> None:
    found = read(b'{"instances": [1, 2, null]}', "application/json", ("distance",))

    assert (found.columns, found.rows) == ({"distance": [1, 2, None]}, 3)


@pytest.mark.parametrize(
    "text",
    [
        "distance,carrier,temp\n1.5,B6,3\n,,4.0\n",
        "temp,distance,carrier,x\r\n3,1.5,B6,7\r\n4.0,,,8\r\n",
        '\ufeffdistance,carrier,temp\n1.5,"B6",3\n\n,,4.0',
        "1.5,B6,3\n,,4.0\n",
    ],
)
def test_csv_is_read_with_and_without_names(text: str) -> None:
    found = asked(text.encode(), "text/csv; charset=utf-8")

    columns = columns_of(found.columns, INPUTS)
    np.testing.assert_array_equal(columns["distance"], [1.5, math.nan])
    np.testing.assert_array_equal(columns["temp"], [3.0, 4.0])
    assert columns["carrier"][0] == "B6"
    assert math.isnan(columns["carrier"][1])


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs"])
def test_what_mlflows_own_parser_makes_of_a_request_is_what_the_model_is_given(form: str) -> None:
    json_utils = pytest.importorskip("mlflow.utils.proto_json_utils")
    table = pd.DataFrame({"distance": [1.5, -2.0], "carrier": ["B6", "AA"], "temp": [3.0, 4.0]})
    held = table.to_dict(orient="list" if form == "inputs" else "records")
    # Its client cannot write columns.
    text = json.dumps({form: held})
    if form != "inputs":
        text = json_utils.dump_input_data(table if form == "dataframe_split" else held, inputs_key=form)
    body = json.loads(text)

    if form.startswith("dataframe_"):
        parsed = json_utils.dataframe_from_parsed_json(body[form], pandas_orient=form.removeprefix("dataframe_"))
    else:
        parsed = pd.DataFrame(json_utils.parse_tf_serving_input(body))
    ours = table_of(columns_of(asked(body).columns, INPUTS))

    pd.testing.assert_frame_equal(ours, prepare(parsed, INPUTS, where="mlflow"))


# --- Values ----------------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_infinity=False))
TEXTS = st.one_of(NUMBERS, st.text(st.characters(codec="utf-8"), max_size=6))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(NUMBERS, TEXTS, NUMBERS), min_size=1, max_size=6))
def test_the_model_is_given_what_it_was_trained_on(rows: list[tuple[Any, ...]]) -> None:
    columns = {name: [row[place] for row in rows] for place, name in enumerate(NAMES)}

    found = table_of(columns_of(columns, INPUTS))

    reference = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    pd.testing.assert_frame_equal(found, prepare(reference, INPUTS, where="here"))


def test_a_row_is_read_alike_whatever_lies_beside_it() -> None:
    alone = columns_of({"distance": [1], "carrier": [1], "temp": [1]}, INPUTS)

    beside = columns_of({"distance": [1, None], "carrier": [1, 2.5], "temp": [1, "2"]}, INPUTS)

    assert (alone["carrier"][0], beside["carrier"][0]) == ("1", "1")
    assert (alone["distance"][0], beside["distance"][0]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("distance", "far", "'distance' holds a value that is no number"),
        ("distance", [1], "'distance' holds a"),
        ("distance", {}, "'distance' holds a value that is no number"),
        ("distance", 10**400, "'distance' holds a value that is no number"),
        ("distance", 1e999, "'distance' holds an infinite number"),
        ("distance", "-inf", "'distance' holds an infinite number"),
        ("carrier", ["B6"], "'carrier' holds a list"),
        ("carrier", {"a": 1}, "'carrier' holds a list or an object"),
        ("carrier", "\ud800", "'carrier' holds half of a character"),
    ],
)
def test_a_value_that_the_model_cannot_take_is_told_by_its_column(column: str, value: Any, told: str) -> None:
    with pytest.raises(InvocationError, match=told) as caught:
        columns_of({"distance": [1.0], "carrier": ["B6"], "temp": [2.0], column: [value]}, INPUTS)

    assert caught.value.status == 400


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "it is no JSON"),
        (b"\xff\xfe\x00", "it is no JSON"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", "it is no JSON"),
        (b'{"inputs": [[NaN, "B6", 1]]}', "NaN is no JSON"),
        (b'{"inputs": [[-Infinity, "B6", 1]]}', "-Infinity is no JSON"),
        (b'{"inputs": [{"distance": 1, "distance": 2}]}', "the key distance is there twice"),
        (b'{"inputs": [], "inputs": []}', "the key inputs is there twice"),
        ([[1.5, "B6", 3]], "it holds no rows"),
        ({}, "it holds no rows"),
        ({"inputs": ROWS, "instances": ROWS}, "it holds instances and inputs"),
        ({"dataframe_split": ROWS}, "no object with columns and data"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, "no list of different names"),
        ({"dataframe_split": {"columns": list(NAMES), "data": [[1]]}}, "row 0 is 1 values, and there are 3 columns"),
        ({"dataframe_split": {"columns": list(NAMES), "data": 7}}, "the rows are no list"),
        ({"dataframe_split": {"columns": list(NAMES), "data": []}}, "there is no row"),
        ({"dataframe_split": {"columns": ["distance", "temp"], "data": [[1, 2]]}}, "it lacks carrier"),
        ({"dataframe_records": {}}, "it is no list of objects"),
        ({"dataframe_records": []}, "there is no row"),
        ({"dataframe_records": [{"distance": 1}]}, "it lacks carrier, temp"),
        ({"instances": None}, "the rows are no list"),
        ({"instances": [[1, 2, 3, 4]]}, "row 0 is 4 values"),
        ({"instances": [1, 2]}, "row 0 is no list of values"),
        ({"inputs": {**COLUMNS, "temp": [1]}}, "the columns have different lengths"),
        ({"inputs": {**COLUMNS, "temp": 1}}, "the columns have different lengths"),
        ({"inputs": {"distance": [], "carrier": [], "temp": []}}, "there is no row"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_with_the_way_out(body: Any, told: str) -> None:
    error = refused(body)

    assert told in error.what
    assert (error.status, bool(error.where), bool(error.way_out)) == (400, True, True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no row"),
        ("distance,carrier,temp\n", "there is no row"),
        ("distance,carrier\n1,B6\n", "it lacks temp"),
        ("distance,distance,carrier,temp\n1,1,B6,3\n", "a column is there twice"),
        ("1,B6\n", "row 0 is 2 values"),
        ('1,"B6,3\n', "it is no CSV"),
    ],
)
def test_csv_that_cannot_be_read_is_told(text: str, told: str) -> None:
    assert told in refused(text.encode(), "text/csv").what


@pytest.mark.parametrize(
    "content_type",
    ["", "text/html", "application/x-npy", "application/json; charset=latin-1", "text/csv; header=present"],
)
def test_another_content_type_is_refused_as_such(content_type: str) -> None:
    assert refused(b"{}", content_type).status == 415


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=80), st.sampled_from(["application/json", "text/csv"]))
def test_no_bytes_break_the_reading(body: bytes, content_type: str) -> None:
    with suppress(InvocationError):
        found = asked(body, content_type)

        assert {len(values) for values in found.columns.values()} == {found.rows}


ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from([*NAMES, "columns", "data", "keys"]), inner, max_size=4),
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs"]), ANY_JSON, ANY_JSON)
def test_no_json_breaks_the_reading(form: str, held: Any, params: Any) -> None:
    with suppress(InvocationError):
        found = asked({form: held, "params": params})
        columns = columns_of(found.columns, INPUTS)

        assert {len(values) for values in columns.values()} == {found.rows}


# --- Keys ------------------------------------------------------------------------------------------------------------


def test_rows_are_named_by_texts_or_whole_numbers() -> None:
    found = asked({"instances": ROWS, "params": {"keys": ["f1", 17]}})

    assert found.keys == ("f1", "17")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["a"], "there are 2 rows, and not as many keys"),
        ("ab", "there are 2 rows, and not as many keys"),
        (["a", "a"], "a key is there twice"),
        ([1, "1"], "a key is there twice"),
        (["a", ""], "is no key"),
        (["a", None], "is no key"),
        (["a", True], "is no key"),
        (["a", 1.5], "is no key"),
        (["a", "b\n"], "is no key"),
        (["a", "\ud800"], "is no key"),
        (["a", "b" * 201], "is no key"),
    ],
)
def test_keys_that_name_no_rows_are_refused(keys: Any, told: str) -> None:
    with pytest.raises(InvocationError, match=told):
        read_keys(keys, rows=2, where="params.keys")


# --- Answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_holds_each_number_with_all_its_digits() -> None:
    assert json.loads(answer_body([0.1 + 0.2, 1e-300])) == {"predictions": [0.30000000000000004, 1e-300]}


def test_an_error_says_what_where_and_the_way_out_under_mlflows_names() -> None:
    told = json.loads(error_body(ModelAnswerError("it broke", where="model m", way_out="look"), 500))

    assert told == {
        "error_code": "INTERNAL_ERROR",
        "message": "model m: it broke; look",
        "what": "it broke",
        "where": "model m",
        "way_out": "look",
    }
