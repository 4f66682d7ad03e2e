"""What every validator promises, for the expectations that suites name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.validation.base import ValidationResult, Validator
from ml_lifecycle.backends.validation.great_expectations import GreatExpectationsValidator
from ml_lifecycle.core.contracts import Verdict
from ml_lifecycle.core.errors import SuiteError

VALIDATORS: dict[str, Callable[[], Validator]] = {"great_expectations": GreatExpectationsValidator}


@pytest.fixture(params=VALIDATORS)
def validator(request: pytest.FixtureRequest) -> Validator:
    return VALIDATORS[request.param]()


def suite(*expectations: Any) -> dict[str, Any]:
    return {"name": "trips", "expectations": list(expectations)}


def expect(kind: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


def between(column: str, severity: str = "critical", **limits: float) -> dict[str, Any]:
    return expect("column_values_to_be_between", severity, column=column, **limits)


NOT_NULL = expect("column_values_to_not_be_null", column="trip")


def table() -> pd.DataFrame:
    rows: pd.DataFrame = pd.DataFrame(
        {"trip": ["a", "b", "c", "d"], "miles": [1.0, 2.0, None, 50.0], "belts": [-1, 0, 1, 2], "gone": [None] * 4}
    )
    return rows


def checked(validator: Validator, *expectations: dict[str, Any], key: str | None = None) -> ValidationResult:
    return validator.validate(table(), suite(*expectations), key=key, where="suite.json")


# --- Suites ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "expectations"),
        ({"expectations": []}, "expectations"),
        ({"expectations": {"type": "expect_x"}}, "expectations"),
        (suite("expect_x"), "'expect_x'"),
        (suite({"kwargs": {}}), "type"),
        (suite({"type": "expect_x", "kwargs": []}), "kwargs"),
        (suite({**NOT_NULL, "sevrity": "info"}), "'sevrity'"),
        (suite(expect("column_values_to_not_be_null", "fatal", column="x")), "'fatal'"),
        (suite(expect("column_values_to_not_be_nul", column="x")), "expect_column_values_to_not_be_nul"),
        (suite(expect("column_values_to_not_be_null", colum="x")), "colum:"),
        (suite(expect("column_values_to_not_be_null")), "column"),
    ],
)
def test_a_suite_that_cannot_run_is_refused_before_and_at_the_check(
    validator: Validator, content: dict[str, Any], named: str
) -> None:
    with pytest.raises(SuiteError) as refused:
        validator.check_suite(content, where="suite.json")
    with pytest.raises(SuiteError) as refused_again:
        validator.validate(table(), content, where="suite.json")

    assert str(refused.value).startswith("suite.json: ")
    assert named in str(refused.value)
    assert str(refused_again.value) == str(refused.value)


def test_all_mistakes_of_a_suite_are_told_at_once_with_their_places(validator: Validator) -> None:
    content = suite(NOT_NULL, expect("nothing"), expect("column_values_to_be_unique", colum="trip"), "expect_x")

    with pytest.raises(SuiteError) as refused:
        validator.check_suite(content, where="suite.json")

    assert [f"expectations[{place}]" in str(refused.value) for place in range(4)] == [False, True, True, True]
    assert [name in str(refused.value) for name in ("expect_nothing", "colum:", "'expect_x'")] == [True] * 3


def test_a_suite_that_can_run_is_accepted_whatever_the_data_will_be(validator: Validator) -> None:
    validator.check_suite(suite(NOT_NULL, between("kilometres", "warning", min_value=0)), where="suite.json")


# --- Verdicts --------------------------------------------------------------------------------------------------------


def test_results_come_in_the_suites_order_with_their_severity_and_counts(validator: Validator) -> None:
    results = checked(
        validator,
        between("miles", "warning", min_value=0, max_value=10),
        NOT_NULL,
        between("belts", "info", min_value=1),
        expect("column_mean_to_be_between", column="miles", min_value=0, max_value=1),
    ).results

    assert [(found.column, found.verdict, found.severity, found.unexpected_rows) for found in results] == [
        ("miles", Verdict.FAIL, "warning", 1),
        ("trip", Verdict.PASS, "critical", 0),
        ("belts", Verdict.FAIL, "info", 2),
        ("miles", Verdict.FAIL, "critical", None),
    ]
    assert results[1].expectation == "expect_column_values_to_not_be_null"


@pytest.mark.parametrize(
    "expectation",
    [
        pytest.param(between("kilometres", min_value=0), id="a column that is missing"),
        pytest.param(between("trip", min_value=0), id="a column of another type"),
        pytest.param(between("gone", min_value=0), id="a column without a value"),
        pytest.param(expect("column_mean_to_be_between", column="gone", min_value=0), id="the mean of nothing"),
    ],
)
def test_a_check_that_broke_or_saw_nothing_is_inconclusive_and_blames_no_row(
    validator: Validator, expectation: dict[str, Any]
) -> None:
    found = checked(validator, expectation, key="trip")

    (result,) = found.results
    assert (result.verdict, result.unexpected_rows) == (Verdict.INCONCLUSIVE, None)
    assert result.detail
    assert "Traceback" not in result.detail
    assert found.unexpected_keys == frozenset()
    assert not found.examples


def test_a_check_that_broke_leaves_the_others_as_they_are(validator: Validator) -> None:
    found = checked(validator, between("trip", min_value=0), between("miles", max_value=10), NOT_NULL, key="trip")

    assert [result.verdict for result in found.results] == [Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.PASS]
    assert found.unexpected_keys == {"d"}


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_keys_of_unexpected_rows_are_given_only_when_asked_for(validator: Validator) -> None:
    without = checked(validator, between("miles", max_value=10))
    asked = checked(validator, between("miles", max_value=10), key="trip")

    assert without.unexpected_keys == frozenset()
    assert asked.unexpected_keys == {"d"}
    assert without.results == asked.results


def test_only_critical_expectations_about_single_rows_give_keys(validator: Validator) -> None:
    found = checked(
        validator,
        between("miles", max_value=10),
        between("belts", min_value=0),
        expect("column_values_to_not_be_null", "warning", column="miles"),
        expect("column_values_to_be_in_set", "info", column="trip", value_set=["a"]),
        expect("column_mean_to_be_between", column="miles", max_value=1),
        key="trip",
    )

    assert [result.verdict for result in found.results] == [Verdict.FAIL] * 5
    assert found.unexpected_keys == {"a", "d"}


def test_keys_find_their_rows_again_whatever_their_type(validator: Validator) -> None:
    rows = pd.DataFrame({"day": pd.to_datetime(["2013-01-01", "2013-01-02"]), "number": [7, 8], "miles": [-1, 1]})

    for key in ("number", "day"):
        found = validator.validate(rows, suite(between("miles", min_value=0)), key=key, where="suite.json")

        assert rows[key].isin(found.unexpected_keys).tolist() == [True, False]


def test_examples_are_at_the_place_of_the_expectation_that_failed(validator: Validator) -> None:
    found = checked(validator, NOT_NULL, between("miles", max_value=10))

    assert dict(found.examples) == {1: ("50.0",)}


def test_checking_twice_says_the_same_and_leaves_the_table_as_it_was(validator: Validator) -> None:
    rows, held_to = table(), suite(between("miles", max_value=10))

    first = validator.validate(rows, held_to, key="trip", where="suite.json")
    second = validator.validate(rows, held_to, key="trip", where="suite.json")

    assert first == second
    pd.testing.assert_frame_equal(rows, table())
    assert held_to == suite(between("miles", max_value=10))
