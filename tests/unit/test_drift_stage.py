"""Looks for drift at a small real champion, from published partitions to published reports."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.files import file_digest
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.backends.monitoring import evidently
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import ColumnDrift, DriftPolicy, DriftReport, RunRequest, Source, TrainedModel, Verdict
from ml_lifecycle.core.errors import (
    ChampionError,
    ColumnError,
    DataError,
    DigestMismatchError,
    PartitionMissingError,
    RequestError,
)
from ml_lifecycle.stages import drift as stage
from ml_lifecycle.stages.champion import champion_info
from ml_lifecycle.stages.drift import DriftJob, detect_drift
from ml_lifecycle.stages.drift_columns import LARGEST_REPORT, fitting, read_columns, write_columns
from ml_lifecycle.stages.evaluation import EvaluationJob, evaluate
from ml_lifecycle.stages.importance import importance_of
from ml_lifecycle.stages.profiles import ChampionProfiles
from ml_lifecycle.stages.runner import Tools, record, run
from ml_lifecycle.stages.scoring import ScoringJob, score
from tests.fakes import small_model

ROWS = Source(uri="rows/{{ partition }}.parquet")
WEATHER = {"weather": Source(uri="weather.parquet")}
SCORED = Source(uri="scored/{{ partition }}")
DAY = "2013-06-05"
EVIDENTLY_PAGE = evidently.evidently_page
HOSTILE = "</script><img src=x onerror=alert(1)>"
FEATURE_CODE = f"""
from pathlib import Path


def build(rows, weather):
    with Path(__file__).with_name("calls").open("a") as calls:
        calls.write("x")
    there = [name for name in ("distance", "carrier") if name in rows]
    temp = rows["day"].map(weather.set_index("day")["temp"])
    return rows[there].assign(**{{"temp": temp, {HOSTILE!r}: rows["day"] * 1.0}})
"""


@dataclass(frozen=True)
class Trial:
    """One deployment whose champion was trained on 40 days."""

    tools: Tools
    folder: Path

    def land(self, partition: str, rows: int = 300, **columns: Any) -> None:
        """A day of rows like those of the training, but for some columns; ``None`` leaves one out."""
        table = small_model.rows(rows, seed=int(partition[-2:])).drop(columns="late")
        table["id"] = [f"{partition}-{number}" for number in range(rows)]
        table["at"] = pd.Timestamp(partition, tz="UTC") + pd.to_timedelta(np.arange(rows) * 288, unit="s")
        for name, values in columns.items():
            table = table.drop(columns=name) if values is None else table.assign(**{name: values})
        path = self.folder / f"data/rows/{partition}.parquet"
        path.parent.mkdir(exist_ok=True)
        table.to_parquet(path)

    def job(self, day: str = DAY, *, scored: Source | None = None, **policy: Any) -> DriftJob:
        return DriftJob(
            request=request(day),
            source=ROWS,
            related=WEATHER,
            columns=small_model.COLUMNS,
            policy=DriftPolicy(**{"block": "day", **policy}),
            scored=scored,
        )

    def look(self, day: str = DAY, *, scored: Source | None = None, **policy: Any) -> DriftReport:
        """A look whose report the ledger knows."""
        record("resolve", request(day), self.tools, model="flights")
        return run(detect_drift, self.job(day, scored=scored, **policy), self.tools, model="flights")

    def score(self, day: str = DAY) -> None:
        record("resolve", request(day), self.tools, model="flights")
        job = ScoringJob(request=request(day), source=ROWS, related=WEATHER, columns=small_model.COLUMNS, output=SCORED)
        run(score, job, self.tools, model="flights")

    def builds(self) -> int:
        """How often features were built since somebody last asked."""
        calls = self.folder / "project/crew/calls"
        count = len(calls.read_text()) if calls.exists() else 0
        calls.unlink(missing_ok=True)
        return count

    def path(self, uri: str) -> Path:
        return self.folder / "data" / uri


def training_rows() -> pd.DataFrame:
    """Forty days of 300 rows."""
    table = small_model.rows(12_000)
    start = pd.Timestamp("2013-01-01", tz="UTC")
    held: pd.DataFrame = table.assign(at=start + pd.to_timedelta(np.arange(12_000) * 288, unit="s"))
    return held


def request(day: str) -> RunRequest:
    return RunRequest(model="flights", stream="monitor", partition=day, partitions=(day,))


def deployment(folder: Path) -> Tools:
    tracking = LocalTracking(folder / "tracking")
    return Tools(
        data=LocalStore(folder / "data"),
        project=folder / "project",
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(f"sqlite:///{folder / 'ledger.db'}"),
        environment="test",
    )


def champion(tools: Tools, trained: TrainedModel) -> None:
    """Release a model whose evaluation the ledger knows."""
    record("evaluate", evaluate(EvaluationJob(model=trained, rehearse=False), tools), tools, model="flights")
    small_model.released(tools, trained)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    (folder / "project/crew").mkdir(parents=True)
    (folder / "project/crew/features.py").write_text(FEATURE_CODE)
    tools = deployment(folder)
    dataset = small_model.dataset(tools, training_rows())
    small_model.weather().to_parquet(folder / "data/weather.parquet")
    champion(tools, small_model.trained(tools, dataset))
    # What every look needs is counted and measured before, as in a deployment that has looked before.
    serving = champion_info("flights", tools)
    assert serving is not None
    importance_of(serving, tools)
    assert ChampionProfiles(serving, small_model.COLUMNS, DriftPolicy(block="day"), tools).training.rows == 12_000
    return folder


@pytest.fixture
def trial(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    # Most tests do without Evidently's half a second.
    monkeypatch.setattr(evidently, "evidently_page", lambda *_, **__: "<!DOCTYPE html>")
    folder = tmp_path / "deployment"
    shutil.copytree(released, folder)
    trial = Trial(deployment(folder), folder)
    trial.builds()
    return trial


@pytest.fixture
def drawn(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets Evidently draw what moved."""
    monkeypatch.setattr(evidently, "evidently_page", EVIDENTLY_PAGE)


def by_name(report: DriftReport) -> dict[str, ColumnDrift]:
    return {column.column: column for column in report.columns}


# --- What is found ---------------------------------------------------------------------------------------------------


def test_a_day_like_the_training_data_has_not_drifted(trial: Trial) -> None:
    trial.land(DAY)

    report = trial.look()

    assert (report.verdict, report.drifted, report.compared, report.version) == (Verdict.PASS, 0, 4, 1)
    assert (report.drifted_share, report.weighted_drift) == (0.0, 0.0)
    assert set(by_name(report)) == {"distance", "carrier", "temp", HOSTILE}
    assert report.current.rows == 300
    assert report.reference_partitions == ()
    # One alarm in a quarter of 91.3 days.
    assert report.alpha == pytest.approx(4 / 365.25)


def test_a_day_that_moved_has_drifted_and_says_where_and_what_it_means(trial: Trial, drawn: None) -> None:
    trial.land(DAY, distance=3.0)

    report = trial.look()

    first = report.columns[0]
    page = trial.path(report.report_uri).read_text()
    assert (report.verdict, report.drifted, report.drifted_share) == (Verdict.FAIL, 1, 0.25)
    assert (first.column, first.drifted) == ("distance", True)
    assert first.distance is not None
    assert first.distance == pytest.approx(1.0, abs=0.01)
    # The label depends on the distance first and on the carrier second.
    assert first.importance is not None
    assert first.importance > 0.5
    assert report.weighted_drift == pytest.approx(first.importance * first.distance, rel=1e-3)
    assert "distance" in page
    assert "1 of 4 columns moved" in page
    assert "Drawn by Evidently" in trial.path(report.report_uri).with_name("evidently.html").read_text()


def test_what_was_looked_at_is_not_looked_at_again(trial: Trial) -> None:
    trial.land(DAY, distance=3.0)
    first = trial.look()
    before = {path: path.stat().st_mtime_ns for path in trial.path("reports").rglob("*")}
    trial.builds()

    again = trial.look()

    assert again == first
    assert trial.builds() == 0
    assert {path: path.stat().st_mtime_ns for path in trial.path("reports").rglob("*")} == before


def test_the_reference_is_counted_once_for_all_looks(trial: Trial) -> None:
    for day in (DAY, "2013-06-06"):
        trial.land(day)
    shutil.rmtree(trial.path("reports/profiles"))

    trial.look()
    first = trial.builds()
    trial.look("2013-06-06")

    assert (first, trial.builds()) == (2, 1)


def test_another_champion_with_other_feature_code_is_counted_anew(trial: Trial) -> None:
    trial.land(DAY)
    trial.look()
    code = FEATURE_CODE.replace('rows["day"] * 1.0', 'rows["day"] * 2.0')
    (trial.folder / "project/crew/doubled.py").write_text(code)
    dataset = small_model.dataset(trial.tools, training_rows())
    champion(trial.tools, small_model.trained(trial.tools, dataset, features="crew.doubled:build"))
    before = len(list(trial.path("reports/profiles/flights").iterdir()))
    trial.builds()

    report = trial.look()

    assert (report.version, report.verdict) == (2, Verdict.PASS)
    assert trial.builds() == 2
    assert len(list(trial.path("reports/profiles/flights").iterdir())) == before + 2


@pytest.mark.parametrize(
    ("values", "detail"),
    [
        pytest.param(None, "", id="gone"),
        pytest.param([None] * 300, "", id="without a value"),
        pytest.param("ZZ", "", id="only an unseen category"),
    ],
)
def test_a_category_that_lost_what_it_had_has_drifted(values: Any, detail: str, trial: Trial) -> None:
    trial.land(DAY, carrier=values)

    found = by_name(trial.look())["carrier"]

    assert found.drifted
    assert found.distance == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("values", [7.5, np.inf, np.nan])
def test_a_number_that_became_one_value_has_drifted(values: float, trial: Trial) -> None:
    trial.land(DAY, distance=values)

    assert by_name(trial.look())["distance"].drifted


@pytest.mark.parametrize("rows", [1, 12])
def test_of_a_handful_of_rows_nothing_is_known(rows: int, trial: Trial) -> None:
    trial.land(DAY, rows=rows, distance=9.0)

    report = trial.look()

    assert report.verdict is Verdict.INCONCLUSIVE
    assert all(column.p_value is None and column.detail for column in report.columns)


def test_forty_rows_are_judged(trial: Trial) -> None:
    trial.land(DAY, rows=40, distance=9.0)

    assert by_name(trial.look())["distance"].drifted


def test_only_the_columns_that_are_asked_for_are_compared(trial: Trial) -> None:
    trial.land(DAY, distance=3.0)

    without = trial.look(ignore=("distance",))
    only = trial.look(columns=("distance",))

    assert (without.verdict, without.compared) == (Verdict.PASS, 3)
    assert (only.verdict, only.compared) == (Verdict.FAIL, 1)
    with pytest.raises(ColumnError, match="did you mean 'distance'"):
        trial.look(columns=("distanze",))


def test_drift_needs_a_champion_a_partition_and_its_file(trial: Trial, tools: Tools) -> None:
    with pytest.raises(ChampionError, match="no version was released yet"):
        detect_drift(trial.job(), tools)
    with pytest.raises(RequestError, match="no partition was asked for"):
        detect_drift(trial.job(""), trial.tools)
    with pytest.raises(PartitionMissingError, match=r"rows/2013-06-05\.parquet"):
        trial.look()
    assert not trial.path("reports/drift").exists()


# --- Windows and references ------------------------------------------------------------------------------------------


def test_a_longer_window_finds_what_one_day_is_too_small_for(trial: Trial) -> None:
    days = [f"2013-06-{day:02}" for day in range(1, 6)]
    for day in days:
        table = small_model.rows(60, seed=int(day[-2:]))
        trial.land(day, rows=60, distance=table["distance"] + 0.6)

    one = trial.look(days[-1])
    longer = trial.look(days[-1], windows=(1, 5))

    assert by_name(one)["distance"].drifted is False
    assert by_name(longer)["distance"].drifted
    assert by_name(longer)["distance"].window == 5
    assert {column.window for column in read_columns(trial.path(longer.table_uri))} == {1, 5}


def test_windows_are_sums_of_what_was_counted_before(trial: Trial) -> None:
    for day in ("2013-06-03", "2013-06-04", DAY):
        trial.land(day)
        trial.look(day)
    trial.builds()

    report = trial.look(windows=(1, 3))

    assert trial.builds() == 0
    assert {column.rows for column in read_columns(trial.path(report.table_uri)) if column.window == 3} == {900}


def test_a_window_that_lacks_a_day_is_left_out_and_named(trial: Trial) -> None:
    for day in ("2013-06-03", DAY):
        trial.land(day)

    report = trial.look(windows=(1, 3))

    assert report.verdict is Verdict.PASS
    assert {column.window for column in report.columns} == {1}
    assert any("window of 3" in text and "2013-06-04" in text for text in report.warnings)


def test_an_earlier_day_that_cannot_be_read_is_left_out_with_the_reason(trial: Trial) -> None:
    trial.land(DAY)
    trial.path("rows/2013-06-04.parquet").write_bytes(b"PAR1 torn")

    report = trial.look(windows=(1, 2))

    assert any("2013-06-04" in text for text in report.warnings)
    assert report.verdict is Verdict.PASS


def test_an_earlier_day_that_no_features_can_be_built_of_blinds_no_later_look(trial: Trial) -> None:
    trial.land("2013-06-04", distance="far")
    trial.land(DAY)

    with pytest.raises(ColumnError, match="no numbers"):
        trial.look("2013-06-04")
    report = trial.look(windows=(1, 2))

    assert report.verdict is Verdict.PASS
    assert any(text.startswith("left out: 2013-06-04") for text in report.warnings)


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("previous", [f"2013-06-{day:02}" for day in range(21, 30)]),
        ("same_weekday", [f"2013-0{month}-{day:02}" for month, day in ((6, 2), (6, 9), (6, 16), (6, 23))]),
        ("same_month", [f"2012-06-{day:02}" for day in range(1, 11)]),
    ],
)
def test_a_day_is_compared_with_the_reference_of_the_policy(reference: Any, there: list[str], trial: Trial) -> None:
    """These days are all unlike the training data, and like each other."""
    for day in (*there, "2013-06-30"):
        trial.land(day, distance=small_model.rows(300, seed=int(day[-2:]))["distance"] + 3)

    report = trial.look("2013-06-30", reference=reference, block=None, reference_size=28)
    training = trial.look("2013-06-30", block=None)

    assert (report.verdict, training.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert report.reference_partitions == tuple(there)


def test_without_any_day_of_the_reference_nothing_is_known(trial: Trial) -> None:
    trial.land(DAY)

    report = trial.look(reference="previous", reference_size=3)

    assert (report.verdict, report.compared, report.drifted_share) == (Verdict.INCONCLUSIVE, 0, None)
    assert any("none of the 3 partitions" in text for text in report.warnings)
    assert "2013-06-02, 2013-06-03, 2013-06-04" in " ".join(report.warnings)
    assert trial.path(report.report_uri).is_file()


def test_a_reference_of_which_days_are_missing_says_so(trial: Trial) -> None:
    for day in range(1, 11):
        if day != 7:
            trial.land(f"2013-06-{day:02}")

    report = trial.look("2013-06-10", reference="previous", reference_size=9)

    assert "2013-06-07" not in report.reference_partitions
    assert len(report.reference_partitions) == 8
    assert any("2013-06-07 (is not there)" in text for text in report.warnings)


# --- Predictions -----------------------------------------------------------------------------------------------------


def test_predictions_that_moved_are_told_beside_what_moved_them(trial: Trial) -> None:
    trial.land("2013-06-04")
    trial.land(DAY, distance=3.0)
    for day in ("2013-06-04", DAY):
        trial.score(day)

    same = trial.look("2013-06-04", scored=SCORED)
    moved = trial.look(scored=SCORED)

    (before,) = (column for column in same.columns if column.role == "prediction")
    (after,) = (column for column in moved.columns if column.role == "prediction")
    assert (before.column, before.drifted, same.verdict) == ("score", False, Verdict.PASS)
    assert (after.drifted, moved.drifted, moved.compared) == (True, 2, 5)
    assert "the champion's own of its holdout" in after.detail
    assert after.importance is None


def test_what_was_not_scored_is_compared_without_predictions(trial: Trial) -> None:
    trial.land(DAY)

    report = trial.look(scored=SCORED)

    assert {column.role for column in report.columns} == {"feature"}
    assert report.warnings == ()


def test_predictions_of_a_reference_of_days_are_compared_with_those_days(trial: Trial) -> None:
    days = [f"2013-06-{day:02}" for day in range(1, 11)]
    for day in days:
        trial.land(day, distance=small_model.rows(300, seed=int(day[-2:]))["distance"] + 3)
        trial.score(day)

    report = trial.look(days[-1], scored=SCORED, reference="previous", reference_size=9)

    (found,) = (column for column in report.columns if column.role == "prediction")
    assert not found.drifted
    assert "the reference's, 2,700 rows" in found.detail


def test_predictions_of_another_version_say_nothing_of_this_champion(trial: Trial) -> None:
    trial.land(DAY)
    trial.score()
    dataset = small_model.dataset(trial.tools, training_rows())
    champion(trial.tools, small_model.trained(trial.tools, dataset, seed=8))

    report = trial.look(scored=SCORED)

    assert report.version == 2
    assert {column.role for column in report.columns} == {"feature"}
    assert "version 1 made them" in " ".join(report.warnings)


def test_predictions_that_were_changed_are_refused(trial: Trial) -> None:
    trial.land(DAY)
    trial.score()
    path = trial.path(f"scored/{DAY}/predictions.parquet")
    pd.read_parquet(path).assign(score=0.5).to_parquet(path)

    with pytest.raises(DigestMismatchError, match="the published predictions"):
        trial.look(scored=SCORED)


def test_a_holdout_of_too_few_blocks_leaves_predictions_out_and_says_so(trial: Trial) -> None:
    trial.land(DAY)
    trial.score()

    report = trial.look(scored=SCORED, block="week")

    assert {column.role for column in report.columns} == {"feature"}
    assert any("predictions are not compared" in text for text in report.warnings)


# --- What is published -----------------------------------------------------------------------------------------------


def test_a_look_that_was_killed_after_it_published_says_the_same_when_it_is_tried_again(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.land(DAY, distance=3.0)
    with monkeypatch.context() as patched:
        patched.setattr(stage._Drift, "published", killed)
        with pytest.raises(KeyboardInterrupt):
            trial.look()
    trial.builds()

    again = trial.look()

    assert trial.builds() == 0
    assert (again.verdict, again.columns[0].column) == (Verdict.FAIL, "distance")


def test_a_look_that_was_killed_while_it_wrote_leaves_nothing_that_counts(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.land(DAY, distance=3.0)
    with monkeypatch.context() as patched:
        patched.setattr("ml_lifecycle.backends.reports.drift.render_drift", killed)
        with pytest.raises(KeyboardInterrupt):
            trial.look()
    assert list(trial.path("reports/drift/flights").iterdir()) == []

    assert trial.look().verdict is Verdict.FAIL


def killed(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_an_edited_report_does_not_change_the_verdict(trial: Trial) -> None:
    trial.land(DAY, distance=3.0)
    first = trial.look()
    path = trial.path(first.report_uri).with_name("report.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "verdict": "pass", "drifted": 0, "columns": []}))

    assert trial.look() == first


@pytest.mark.parametrize("known", [True, False], ids=["known to the ledger", "before the ledger knew of it"])
def test_a_table_that_was_changed_is_refused(known: bool, trial: Trial) -> None:  # noqa: FBT001  # a parameter
    trial.land(DAY, distance=3.0)
    report = trial.look() if known else detect_drift(trial.job(), trial.tools)
    path = trial.path(report.table_uri)
    table = pd.read_parquet(path).assign(p_value=1.0)
    table.to_parquet(path)

    with pytest.raises(DigestMismatchError, match="the table of the drift report"):
        detect_drift(trial.job(), trial.tools)


def test_a_table_that_was_changed_with_its_report_is_refused_by_the_ledger(trial: Trial) -> None:
    trial.land(DAY, distance=3.0)
    report = trial.look()
    path = trial.path(report.table_uri)
    pd.read_parquet(path).assign(p_value=1.0).to_parquet(path)
    summary = path.with_name("report.json")
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "table_digest": file_digest(path)}))

    with pytest.raises(DigestMismatchError, match="the table of the drift report"):
        trial.look()


@pytest.mark.parametrize("name", ["report.json", "columns.parquet"])
def test_a_report_that_cannot_be_read_is_an_error(name: str, trial: Trial) -> None:
    trial.land(DAY)
    report = trial.look()
    trial.path(report.report_uri).with_name(name).write_text("{")

    with pytest.raises((DataError, DigestMismatchError)):
        trial.look()


def test_the_tables_of_many_looks_are_one_table(trial: Trial) -> None:
    import duckdb

    for day, distance in ((DAY, 2.0), ("2013-06-06", 3.0)):
        trial.land(day, distance=distance)
        trial.look(day)

    tables = duckdb.read_parquet(str(trial.path("reports/drift/flights/*/columns.parquet")))
    found = sorted(tables.aggregate("partition, count(*), sum(drifted::int)").fetchall())

    assert found == [(DAY, 4, 1), ("2013-06-06", 4, 1)]


def test_hostile_names_are_shown_as_text(trial: Trial, drawn: None) -> None:
    trial.land(DAY, day=90)

    report = trial.look()

    folder = trial.path(report.report_uri).parent
    assert by_name(report)[HOSTILE].drifted
    assert HOSTILE in {column.column for column in read_columns(folder / "columns.parquet")}
    assert HOSTILE not in (folder / "index.html").read_text()
    assert HOSTILE not in (folder / "evidently.html").read_text()


def broken(*_: Any, **__: Any) -> Any:
    raise ValueError("out of order")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("ml_lifecycle.stages.importance.importance_of", "the importance of the columns is not known"),
        ("ml_lifecycle.backends.monitoring.evidently.evidently_page", "Evidently's page is left out"),
    ],
)
def test_what_only_explains_drift_never_fails_a_look(
    place: str, words: str, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.land(DAY, distance=3.0)
    monkeypatch.setattr(place, broken)

    report = trial.look()

    assert report.verdict is Verdict.FAIL
    assert any(words in text and "out of order" in text for text in report.warnings)


# --- Reports of any size ---------------------------------------------------------------------------------------------


def column(name: str, **changes: Any) -> ColumnDrift:
    values = {"method": "ks", "distance": 0.123456789, "threshold": 0.03, "drifted": False, "p_value": 1e-300}
    return ColumnDrift.model_validate({"column": name, **values, **changes})


def with_columns(trial_report: DriftReport, columns: list[ColumnDrift]) -> DriftReport:
    return trial_report.model_copy(update={"columns": tuple(columns)})


@pytest.fixture
def report(trial: Trial) -> DriftReport:
    trial.land(DAY)
    return trial.look()


def size(report: DriftReport) -> int:
    return len(json.dumps(report.to_xcom()).encode())


def test_a_report_of_hundreds_of_columns_fits_into_an_xcom_with_what_drifted_first(report: DriftReport) -> None:
    columns = [column(f"column_{place:03}", adjusted=0.5, detail="x" * 500) for place in range(300)]
    columns[250] = column("moved", drifted=True, adjusted=0.001)

    found = fitting(with_columns(report, columns))

    assert size(found) < LARGEST_REPORT
    assert found.columns[0].column == "moved"
    assert len(found.columns) == 20


def test_names_without_end_make_a_report_shorter_and_never_larger(report: DriftReport) -> None:
    columns = [column(f"{'ü' * 3000}{place}", adjusted=0.5) for place in range(20)]
    warnings = tuple("w" * 5000 for _ in range(50))
    partitions = tuple(f"2013-01-01T{place:04}" for place in range(744))
    whole = with_columns(report, columns).model_copy(update={"warnings": warnings, "reference_partitions": partitions})

    found = fitting(whole)

    assert size(found) < LARGEST_REPORT
    assert len(found.warnings) == 10


@pytest.mark.parametrize("name", [HOSTILE, "", "\u202e", "a\nb", "x" * 5000, "ünïcødé"])
def test_whatever_a_column_is_called_its_row_comes_back(name: str, tmp_path: Path) -> None:
    columns = (column(name, p_value=None, importance=0.5), column("other", distance=None, kind="number"))

    write_columns(tmp_path / "columns.parquet", columns, model="flights", version=3, partition=DAY)

    assert read_columns(tmp_path / "columns.parquet") == columns
