from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.files import read_parquet
from ml_lifecycle.backends.validation.great_expectations import GreatExpectationsValidator
from ml_lifecycle.core.contracts import Columns, DatasetRef, ExpectationResult, RunRequest, Source, Verdict
from ml_lifecycle.core.errors import DataRejectedError, DigestMismatchError, LifecycleError, NoRowsError, SuiteError
from ml_lifecycle.core.validation import OnFailure, blocks, judge, reason_to_block, unmet
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.validation import QualityJob, ValidationJob, check_quality, check_table, read_suite, validate

PROJECT = Path(__file__).resolve().parents[2]


def result(verdict: Verdict, severity: Any = "critical", **values: Any) -> ExpectationResult:
    return ExpectationResult(expectation="expect_x", severity=severity, verdict=verdict, **values)


# --- The verdict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([("pass", "critical")], Verdict.PASS),
        ([("pass", "critical"), ("fail", "warning"), ("fail", "info")], Verdict.PASS),
        ([("pass", "critical"), ("inconclusive", "warning")], Verdict.PASS),
        ([("pass", "critical"), ("fail", "critical")], Verdict.FAIL),
        ([("inconclusive", "critical"), ("fail", "critical")], Verdict.FAIL),
        ([("inconclusive", "critical"), ("pass", "critical")], Verdict.INCONCLUSIVE),
        ([("pass", "warning")], Verdict.INCONCLUSIVE),
        ([], Verdict.INCONCLUSIVE),
    ],
)
def test_only_critical_expectations_decide(results: list[tuple[str, str]], verdict: Verdict) -> None:
    assert judge([result(Verdict(found), severity) for found, severity in results]) is verdict


@pytest.mark.parametrize(
    ("verdict", "on_failure", "blocked"),
    [
        (Verdict.PASS, "block", False),
        (Verdict.FAIL, "block", True),
        (Verdict.INCONCLUSIVE, "block", True),
        (Verdict.INCONCLUSIVE, "quarantine", True),
        (Verdict.FAIL, "warn", False),
        (Verdict.INCONCLUSIVE, "warn", False),
    ],
)
def test_what_could_not_be_checked_blocks_like_what_failed(
    verdict: Verdict,
    on_failure: OnFailure,
    blocked: bool,  # noqa: FBT001  # a column of the table above
) -> None:
    assert blocks(verdict, on_failure) is blocked


def test_a_block_tells_bad_data_from_broken_checks() -> None:
    failed = result(Verdict.FAIL, column="x", unexpected_rows=3)
    broke = result(Verdict.INCONCLUSIVE, column="y", detail="the check broke: no such column")

    assert reason_to_block([failed]) == "1 critical expectations are unmet: x: expect_x (3 rows)"
    assert reason_to_block([broke]).startswith("1 critical checks could not tell, so nothing is known about the data")
    assert reason_to_block([broke, failed]).startswith("1 critical expectations are unmet and 1 could not be checked")


def test_unmet_expectations_are_listed_with_the_critical_ones_first() -> None:
    results = [
        result(Verdict.FAIL, "info"),
        result(Verdict.PASS),
        result(Verdict.FAIL),
        result(Verdict.FAIL, "warning"),
    ]

    assert [found.severity for found in unmet(results)] == ["critical", "warning", "info"]


# --- Great Expectations ----------------------------------------------------------------------------------------------


def suite(*expectations: dict[str, Any]) -> dict[str, Any]:
    return {"name": "trips", "expectations": list(expectations)}


def expect(kind: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


TABLE = pd.DataFrame({"trip": ["a", "b", "c", "d"], "miles": [1.0, 2.0, None, 50.0], "gone": [None] * 4})
NOT_NULL = expect("column_values_to_not_be_null", column="trip")


def checked(*expectations: dict[str, Any]) -> tuple[ExpectationResult, ...]:
    return GreatExpectationsValidator().validate(TABLE, suite(*expectations), where="suite.json").results


def test_a_result_says_what_was_observed_and_names_both_columns() -> None:
    mean, columns = checked(
        expect("column_mean_to_be_between", column="miles", min_value=0, max_value=1),
        expect("column_pair_values_a_to_be_greater_than_b", column_A="miles", column_B="miles"),
    )

    assert mean.detail == "observed 17.6667"
    assert columns.column == "miles, miles"


@pytest.mark.parametrize(
    ("expectation", "detail"),
    [
        (expect("column_values_to_be_between", column="mils", min_value=0), "the check broke: "),
        (expect("column_values_to_be_between", column="trip", min_value=0), "the check broke: "),
        (expect("column_values_to_be_between", column="gone", min_value=0), "all 4 values are missing"),
        (expect("column_mean_to_be_between", column="gone", min_value=0), "observed nothing"),
    ],
)
def test_a_check_that_broke_or_saw_nothing_says_why(expectation: dict[str, Any], detail: str) -> None:
    (found,) = checked(expectation)

    assert found.detail.startswith(detail)


def test_a_check_that_broke_says_what_the_column_holds() -> None:
    (found,) = checked(expect("column_values_to_be_between", column="trip", min_value=0))

    assert found.detail.endswith("; the column is of type object, such as 'a'")


def test_a_time_range_is_really_checked() -> None:
    table = pd.DataFrame({"leaves": pd.to_datetime(["2013-01-01T00:00Z", "2014-06-01T00:00Z"])})
    limits = expect(
        "column_values_to_be_between",
        column="leaves",
        min_value="2013-01-01T00:00:00Z",
        max_value="2014-01-01T00:00:00Z",
    )

    (found,) = GreatExpectationsValidator().validate(table, suite(limits), where="suite.json").results

    assert (found.verdict, found.unexpected_rows) == (Verdict.FAIL, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            suite(expect("column_values_to_not_be_nul", column="x")),
            "did you mean 'expect_column_values_to_not_be_null'",
        ),
        (suite(expect("column_values_to_not_be_null", colum="x")), "colum: extra fields not permitted"),
        (suite(expect("column_values_to_not_be_null")), "column: field required"),
        (suite(expect("column_values_to_not_be_null", column="x", mostly=2)), "mostly: "),
        (suite(expect("column_values_to_not_be_null", "fatal", column="x")), "severity 'fatal' is none of critical"),
        (suite({**NOT_NULL, "sevrity": "info"}), "unknown key 'sevrity', did you mean 'severity'"),
    ],
)
def test_a_suite_that_cannot_run_is_told_what_to_write_instead(content: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError) as refused:
        GreatExpectationsValidator().check_suite(content, where="suite.json")

    assert message in str(refused.value)


@pytest.mark.parametrize(
    "condition",
    ['@pd.io.common.os.system("touch /tmp/owned")', {"type": "pass_through", "pass_through_filter": "@pd"}],
)
def test_a_suite_runs_no_code_through_a_row_condition(condition: Any) -> None:
    content = suite(
        expect("column_values_to_not_be_null", column="trip", row_condition=condition, condition_parser="pandas")
    )

    with pytest.raises(SuiteError, match="a suite must not run code"):
        GreatExpectationsValidator().validate(TABLE, content, where="suite.json")


def test_validation_is_quiet_and_opens_no_connection(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any) -> None:
        pytest.fail(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    checked(NOT_NULL)

    assert capfd.readouterr() == ("", "")


# --- The stage -------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def tools_here(tools: Tools, project: Path) -> Tools:
    """The deployment, with a project of the test's own."""
    return dataclasses.replace(tools, project=project)


@pytest.fixture
def dataset(tools: Tools, tmp_path: Path) -> DatasetRef:
    """Five trips, two of which no vehicle could have made."""
    folder = tmp_path / "data" / "trips"
    folder.mkdir(parents=True)
    pd.DataFrame(
        {"trip": list("abcde"), "miles": [1, 2, 3, -4, -5], "late": [True, False, True, False, True]}
    ).to_parquet(folder / "2013-01.parquet")
    job = SnapshotJob(
        model="trips",
        partitions=("2013-01",),
        source=Source(uri="trips/{{ partition }}.parquet"),
        related={"again": Source(uri="trips/{{ partition }}.parquet")},
        columns=Columns(key="trip", target="late"),
    )
    return snapshot(job, tools)


MILES = expect("column_values_to_be_between", column="miles", min_value=0)


def job_for(
    dataset: DatasetRef, project: Path, *expectations: dict[str, Any], on_failure: OnFailure = "block"
) -> ValidationJob:
    (project / "suite.json").write_text(json.dumps(suite(*expectations)))
    return ValidationJob(model="trips", dataset=dataset, suite="suite.json", on_failure=on_failure)


def report_of(uri: str, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    page = tmp_path / "data" / uri
    return page.read_text(), json.loads(page.with_name("report.json").read_text())


def test_good_data_passes_with_a_report(dataset: DatasetRef, tools_here: Tools, project: Path, tmp_path: Path) -> None:
    warning = expect("column_values_to_be_between", "warning", column="miles", min_value=0)

    report = validate(job_for(dataset, project, NOT_NULL, warning), tools_here)

    page, content = report_of(report.report_uri, tmp_path)
    assert (report.verdict, report.expectations, report.quarantined_rows) == (Verdict.PASS, 2, 0)
    assert [found.severity for found in report.unmet] == ["warning"]
    assert report.dataset == dataset
    assert report.report_uri.startswith(f"reports/validation/trips/{dataset.fingerprint[:16]}-")
    assert content["verdict"] == "pass"
    assert "expect_column_values_to_not_be_null" in page


def test_bad_data_blocks_after_its_report_is_published(
    dataset: DatasetRef, tools_here: Tools, project: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataRejectedError) as rejected:
        validate(job_for(dataset, project, MILES), tools_here)

    (page,) = (tmp_path / "data" / "reports").rglob("index.html")
    assert "miles: expect_column_values_to_be_between (2 rows)" in str(rejected.value)
    assert page.relative_to(tmp_path / "data").as_posix() in str(rejected.value)
    assert dataset.uri in str(rejected.value)
    (kept,) = tools_here.ledger.results("test", job_for(dataset, project, MILES).model, "reject_data")
    assert kept["content"]["dataset"] == dataset.to_xcom()
    assert "miles: expect_column_values_to_be_between (2 rows)" in kept["content"]["reason"]


def test_a_broken_check_blocks_and_is_not_called_bad_data(
    dataset: DatasetRef, tools_here: Tools, project: Path
) -> None:
    missing = expect("column_values_to_be_between", column="kilometres", min_value=0)

    with pytest.raises(DataRejectedError, match="nothing is known about the data"):
        validate(job_for(dataset, project, missing), tools_here)

    assert tools_here.ledger.results("test", job_for(dataset, project, missing).model, "reject_data") == ()


def test_a_warning_goes_on_and_says_so(dataset: DatasetRef, tools_here: Tools, project: Path) -> None:
    report = validate(job_for(dataset, project, MILES, on_failure="warn"), tools_here)

    assert report.verdict is Verdict.FAIL
    assert report.unmet[0].unexpected_rows == 2


def test_failing_rows_are_set_aside_and_counted(
    dataset: DatasetRef, tools_here: Tools, project: Path, tmp_path: Path
) -> None:
    job = job_for(dataset, project, NOT_NULL, MILES, on_failure="quarantine")

    report = validate(job, tools_here)
    again = validate(job, tools_here)

    with tools_here.data.folder(report.dataset.uri, report.dataset.fingerprint) as folder:
        kept, related = read_parquet(folder / "data.parquet"), read_parquet(folder / "again.parquet")
    (apart,) = (tmp_path / "data" / "quarantine" / "trips").iterdir()
    page, _ = report_of(report.report_uri, tmp_path)
    assert report == again
    assert (report.verdict, report.quarantined_rows, report.unmet) == (Verdict.PASS, 2, ())
    assert [(one.column, one.unexpected_rows) for one in report.quarantined_for] == [("miles", 2)]
    assert report.dataset.uri != dataset.uri
    assert report.dataset.rows == len(kept) == 3
    assert kept["trip"].tolist() == ["a", "b", "c"]
    assert len(related) == 5
    assert read_parquet(apart / "data.parquet")["trip"].tolist() == ["d", "e"]
    assert "Rows set aside" in page


def test_data_that_fails_without_its_bad_rows_still_blocks(
    dataset: DatasetRef, tools_here: Tools, project: Path
) -> None:
    mean = expect("column_mean_to_be_between", column="miles", min_value=100)

    with pytest.raises(DataRejectedError, match="after 2 rows were set aside"):
        validate(job_for(dataset, project, MILES, mean, on_failure="quarantine"), tools_here)


@pytest.mark.parametrize(
    "expectation",
    [
        expect("column_mean_to_be_between", column="miles", min_value=100),
        expect("column_values_to_be_between", column="miles", min_value=100),
    ],
)
def test_nothing_is_set_aside_where_no_row_or_every_row_is_to_blame(
    expectation: dict[str, Any], dataset: DatasetRef, tools_here: Tools, project: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataRejectedError):
        validate(job_for(dataset, project, expectation, on_failure="quarantine"), tools_here)

    assert not (tmp_path / "data" / "quarantine").exists()


def test_a_report_shows_hostile_values_as_text(tools_here: Tools, project: Path, tmp_path: Path) -> None:
    payload = "<img src=x onerror=alert(1)>"
    folder = tmp_path / "data" / "trips"
    folder.mkdir(parents=True)
    pd.DataFrame({"trip": ["a", "b"], payload: [payload, "ok"]}).to_parquet(folder / "2013-01.parquet")
    source = Source(uri="trips/{{ partition }}.parquet")
    job = SnapshotJob(model="trips", partitions=("2013-01",), source=source, columns=Columns(key="trip"))
    hostile = snapshot(job, tools_here)
    allowed = expect("column_values_to_be_in_set", column=payload, value_set=["ok", "</style><script>"])

    report = validate(job_for(hostile, project, allowed, on_failure="warn"), tools_here)

    page, _ = report_of(report.report_uri, tmp_path)
    assert report.verdict is Verdict.FAIL
    assert "<img" not in page
    assert "<script" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_another_suite_makes_another_report(dataset: DatasetRef, tools_here: Tools, project: Path) -> None:
    first = validate(job_for(dataset, project, NOT_NULL), tools_here)
    second = validate(job_for(dataset, project, NOT_NULL, NOT_NULL), tools_here)

    assert first.report_uri != second.report_uri


def test_a_dataset_whose_bytes_changed_is_not_validated(
    dataset: DatasetRef, tools_here: Tools, project: Path, tmp_path: Path
) -> None:
    TABLE.to_parquet(tmp_path / "data" / dataset.uri / "data.parquet")

    with pytest.raises(DigestMismatchError):
        validate(job_for(dataset, project, NOT_NULL), tools_here)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, "the suite cannot be read"),
        ("suite.json", "{\n  'name'", "suite.json:2:3: this is no JSON"),
        ("suite.json", "[]", "no JSON object"),
        ("../suite.json", "{}", "is no path below"),
    ],
)
def test_a_suite_that_cannot_be_read_is_told_with_its_place(
    name: str, content: str | None, message: str, project: Path
) -> None:
    if content is not None:
        (project / "suite.json").write_text(content)

    with pytest.raises(LifecycleError, match=message):
        read_suite(project, name)


def test_any_table_can_be_checked_without_a_snapshot() -> None:
    verdict, found = check_table(TABLE, suite(NOT_NULL), where="trips.csv")

    assert (verdict, len(found.results)) == (Verdict.PASS, 1)
    with pytest.raises(NoRowsError, match="there is no row to check"):
        check_table(TABLE.head(0), suite(NOT_NULL), where="trips.csv")


def test_the_flights_suite_can_run_and_means_something() -> None:
    content = read_suite(PROJECT, "include/flight_delays/expectations.json")

    GreatExpectationsValidator().check_suite(content, where="expectations.json")

    severities = [entry["severity"] for entry in content["expectations"]]
    assert len(severities) >= 14
    assert set(severities) == {"critical", "warning", "info"}


# --- One partition, before its labels are in -------------------------------------------------------------------------


def test_a_partition_is_held_to_what_the_suite_says_of_columns_that_are_there(tools_here: Tools, project: Path) -> None:
    entries = [
        {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["key", "x", "y"]}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "min_value": 0, "max_value": 10}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "y"}},
    ]
    (project / "whole.json").write_text(json.dumps({"name": "whole", "expectations": entries}))
    root = tools_here.data.root  # type: ignore[attr-defined]  # a local store
    root.mkdir(exist_ok=True)
    pd.DataFrame({"key": [1, 2, 3], "x": [1.0, 2.0, 99.0]}).to_parquet(root / "2024-05.parquet")
    job = QualityJob(
        request=RunRequest(model="flights", stream="monitor", partition="2024-05", partitions=("2024-05",)),
        source=Source(uri="{{ partition }}.parquet"),
        columns=Columns(key="key", target="y"),
        suite="whole.json",
    )

    report = check_quality(job, tools_here)

    assert (report.verdict, report.expectations) == (Verdict.FAIL, 1)
    assert [(one.column, one.unexpected_rows) for one in report.unmet] == [("x", 1)]
    assert report.dataset.partitions == ("2024-05",)


def test_a_suite_about_labels_and_whole_tables_says_nothing_of_a_partition(tools_here: Tools, project: Path) -> None:
    entries = [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "y"}}]
    (project / "labels.json").write_text(json.dumps({"name": "labels", "expectations": entries}))
    root = tools_here.data.root  # type: ignore[attr-defined]  # a local store
    root.mkdir(exist_ok=True)
    pd.DataFrame({"key": [1, 2, 3]}).to_parquet(root / "2024-05.parquet")
    job = QualityJob(
        request=RunRequest(model="flights", stream="monitor", partition="2024-05", partitions=("2024-05",)),
        source=Source(uri="{{ partition }}.parquet"),
        columns=Columns(key="key", target="y"),
        suite="labels.json",
    )

    with pytest.raises(SuiteError, match="nothing of a single partition"):
        check_quality(job, tools_here)
