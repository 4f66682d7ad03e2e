"""A dataset becomes a model package, once per training key."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import Columns, Scalar, ValidationReport, Verdict
from ml_lifecycle.core.errors import (
    CallableNotFoundError,
    ColumnError,
    DigestMismatchError,
    LabelsMissingError,
    NoRowsError,
    ServiceUnavailableError,
    TrainingError,
)
from ml_lifecycle.stages.champion import load_trained
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import build_inputs, code_version, installed_distributions, train
from tests.fakes.small_model import FEATURES, dataset, request, rows, training_job, with_project


@pytest.fixture
def tools(tools: Tools, tmp_path: Path) -> Tools:
    return with_project(tools, tmp_path / "project")


def write_features(tools: Tools, code: str) -> None:
    (tools.project / "crew" / "features.py").write_text(code)


def run_file(tools: Tools, run_id: str) -> dict[str, Any]:
    assert isinstance(tools.tracking, LocalTracking)
    found: dict[str, Any] = json.loads((tools.tracking.folder / "runs" / run_id / "run.json").read_text())
    return found


# --- Train -----------------------------------------------------------------------------------------------------------


def test_a_trained_model_is_named_by_the_bytes_of_its_package(tools: Tools, tmp_path: Path) -> None:
    model = train(training_job(dataset(tools)), tools)

    (tmp_path / "back").mkdir()
    assert digest_of_folder(tools.tracking.download(model.uri, tmp_path / "back")) == model.digest
    assert model.training_rows == 320


def test_training_the_same_again_returns_the_same_model_and_run(tools: Tools) -> None:
    job = training_job(dataset(tools))

    first, second = train(job, tools), train(job, tools)

    assert first == second
    assert isinstance(tools.tracking, LocalTracking)
    assert len(list((tools.tracking.folder / "runs").iterdir())) == 1


def test_the_dataset_may_come_as_the_report_that_passed_it(tools: Tools) -> None:
    found = dataset(tools)
    report = ValidationReport(dataset=found, verdict=Verdict.PASS, expectations=1)

    assert train(training_job(found, dataset=report), tools) == train(training_job(found), tools)


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"hyperparameters": {"C": 0.5}}, {"holdout": {"by": "random", "share": 0.2}}]
)
def test_another_input_is_another_run(tools: Tools, change: dict[str, Any]) -> None:
    found = dataset(tools)

    first, second = train(training_job(found), tools), train(training_job(found, **change), tools)

    assert first.run_id != second.run_id
    assert first.training_key != second.training_key


def test_changed_feature_code_is_another_training(tools: Tools) -> None:
    found = dataset(tools)
    first = train(training_job(found), tools)
    write_features(tools, "def build(rows, weather):\n    return rows[['distance']]\n")

    assert train(training_job(found), tools).training_key != first.training_key


def test_the_requests_hyperparameters_override_the_jobs(tools: Tools) -> None:
    job = training_job(
        dataset(tools), hyperparameters={"C": 1.0, "max_iter": 50}, request=request(hyperparameters={"C": 0.25})
    )

    model = train(job, tools)

    assert load_trained(model, tools).model["model"].C == 0.25
    assert run_file(tools, model.run_id)["parameters"] == {
        "C": "0.25",
        "estimator": "sklearn.linear_model.LogisticRegression",
        "max_iter": "50",
        "seed": "7",
    }


def test_the_run_says_why_on_what_and_with_what_it_was_trained(tools: Tools, tmp_path: Path) -> None:
    found = dataset(tools)

    model = train(training_job(found), tools)

    run = tools.tracking.get_run(model.run_id)
    assert run.finished
    assert run.tags["ml_lifecycle.reason"] == "first training"
    assert run.tags["ml_lifecycle.requester"] == "anna"
    assert run.tags["ml_lifecycle.dataset_fingerprint"] == found.fingerprint
    assert run.tags["ml_lifecycle.digest"] == model.digest
    assert len(run.tags["ml_lifecycle.features_digest"]) == 64
    (tmp_path / "notes").mkdir()
    notes = tools.tracking.download(f"runs:/{model.run_id}/training", tmp_path / "notes")
    assert "scikit-learn==" in (notes / "environment.txt").read_text()
    assert json.loads((notes / "hardware.json").read_text())["cores"] >= 1
    assert json.loads((notes / "dataset.json").read_text()) == found.to_xcom()


def test_a_run_that_was_cut_short_is_completed_by_the_next_try(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    job = training_job(dataset(tools))

    def cut(*_: object, **__: object) -> str:
        raise ServiceUnavailableError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(LocalTracking, "upload", cut)
        with pytest.raises(ServiceUnavailableError):
            train(job, tools)

    model = train(job, tools)

    assert tools.tracking.get_run(model.run_id).finished
    assert load_trained(model, tools).info.name == "flights"
    assert isinstance(tools.tracking, LocalTracking)
    assert len(list((tools.tracking.folder / "runs").iterdir())) == 1


def test_a_finished_run_whose_tags_were_changed_is_refused(tools: Tools) -> None:
    job = training_job(dataset(tools))
    model = train(job, tools)
    tools.tracking.log(model.run_id, tags={"ml_lifecycle.dataset_fingerprint": "f" * 64})

    with pytest.raises(DigestMismatchError, match="tags were changed"):
        train(job, tools)


def test_only_rows_before_the_holdout_are_learned_from(tools: Tools) -> None:
    # The relation turns round in the last fifth: a model that saw it would not predict the old one perfectly.
    table = rows().assign(late=lambda found: found["distance"] > 0)
    table.loc[table.index >= 320, "late"] = ~table.loc[table.index >= 320, "late"]
    model = train(training_job(dataset(tools, table), estimator="sklearn.tree.DecisionTreeClassifier"), tools)

    loaded = load_trained(model, tools)
    inputs = build_inputs(model.dataset, FEATURES, tools)

    agrees = (loaded.predict(inputs.features) >= 0.5) == (inputs.rows["distance"] > 0)
    assert agrees[:320].all()
    assert agrees[320:].mean() > 0.95


def test_a_regression_is_trained_on_numbers(tools: Tools) -> None:
    found = dataset(tools, rows().assign(late=lambda table: 3 * table["distance"] + 1))

    model = load_trained(train(training_job(found, estimator="sklearn.linear_model.LinearRegression"), tools), tools)

    assert model.info.classes == ()
    inputs = build_inputs(found, FEATURES, tools)
    assert model.predict(inputs.features) == pytest.approx(3 * inputs.rows["distance"] + 1)


# --- Bad input -------------------------------------------------------------------------------------------------------


def test_a_misspelt_hyperparameter_is_named_with_the_nearest_one(tools: Tools) -> None:
    with pytest.raises(TrainingError, match=r"no hyperparameter 'max_itr'.*did you mean 'max_iter'"):
        train(training_job(dataset(tools), hyperparameters={"max_itr": 3}), tools)


def test_a_hyperparameter_out_of_range_is_an_error_of_the_training(tools: Tools) -> None:
    with pytest.raises(TrainingError, match="refused its hyperparameters"):
        train(training_job(dataset(tools), hyperparameters={"C": -1.0}), tools)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ("os.system", "not one that this deployment allows"),
        ("sklearn.ensemble.HistGradientBoostingClasifier", "did you mean 'HistGradientBoostingClassifier'"),
        ("sklearn.nothing.Model", "no module 'sklearn.nothing'"),
        ("sklearn.utils.shuffle", "no estimator 'shuffle'"),
        ("sklearn.preprocessing.StandardScaler", "no estimator 'StandardScaler'"),
    ],
)
def test_an_estimator_that_is_none_is_refused(tools: Tools, estimator: str, message: str) -> None:
    with pytest.raises(CallableNotFoundError, match=message):
        train(training_job(dataset(tools), estimator=estimator), tools)


def test_an_estimator_that_needs_another_one_is_refused(tools: Tools) -> None:
    with pytest.raises(TrainingError, match="VotingClassifier cannot be made"):
        train(training_job(dataset(tools), estimator="sklearn.ensemble.VotingClassifier"), tools)


def test_one_class_only_cannot_be_learned(tools: Tools) -> None:
    found = dataset(tools, rows().assign(late=False))

    with pytest.raises(LabelsMissingError, match="'late' is False in all 320 training rows"):
        train(training_job(found), tools)


@pytest.mark.parametrize(
    "estimator",
    ["sklearn.linear_model.LogisticRegression", "sklearn.ensemble.HistGradientBoostingClassifier"],
)
def test_each_of_several_classes_has_a_probability(tools: Tools, estimator: str) -> None:
    found = dataset(tools, rows().assign(late=lambda table: table["day"]))
    limits: dict[str, Scalar] = {"max_iter": 5} if "Boosting" in estimator else {}

    model = load_trained(train(training_job(found, estimator=estimator, hyperparameters=limits), tools), tools)

    scores = model.predict(build_inputs(found, FEATURES, tools).features)
    assert model.info.classes == (0, 1, 2, 3, 4, 5, 6)
    assert scores.shape == (400, 7)
    assert scores.sum(axis=1) == pytest.approx(np.ones(400))


def test_a_classifier_without_probabilities_is_refused_before_it_is_trained(tools: Tools) -> None:
    job = training_job(dataset(tools), estimator="sklearn.linear_model.SGDClassifier")

    with pytest.raises(TrainingError, match=r"SGDClassifier predicts no probabilities.*loss: log_loss"):
        train(job, tools)


def test_countless_classes_are_refused(tools: Tools) -> None:
    found = dataset(tools, rows().assign(late=lambda table: table["id"]))

    with pytest.raises(TrainingError, match=r"has 320 classes .*at most 100 are told apart"):
        train(training_job(found), tools)


def test_missing_labels_are_counted(tools: Tools) -> None:
    table = rows().astype({"late": "object"})
    table.loc[:9, "late"] = None

    with pytest.raises(LabelsMissingError, match="10 of 400 rows have no 'late'"):
        train(training_job(dataset(tools, table)), tools)


def test_a_dataset_without_a_target_cannot_train(tools: Tools) -> None:
    found = dataset(tools).model_copy(update={"columns": Columns(key="id", time="at")})

    with pytest.raises(LabelsMissingError, match="no target"):
        train(training_job(found), tools)


def test_a_failed_training_says_why_on_its_run(tools: Tools) -> None:
    job = training_job(dataset(tools), hyperparameters={"C": -1.0})
    with pytest.raises(TrainingError):
        train(job, tools)

    assert isinstance(tools.tracking, LocalTracking)
    (run,) = (tools.tracking.folder / "runs").iterdir()
    assert run_file(tools, run.name)["status"] == "FAILED"
    assert "refused" in run_file(tools, run.name)["tags"]["ml_lifecycle.failure"]


# --- The model's input -----------------------------------------------------------------------------------------------


def test_the_features_never_see_the_target(tools: Tools) -> None:
    write_features(tools, "def build(rows, weather):\n    return rows[['distance', 'late']]\n")

    with pytest.raises(TrainingError, match="late"):
        build_inputs(dataset(tools), FEATURES, tools)


def test_what_arrived_with_the_labels_is_kept_from_the_model_too(tools: Tools) -> None:
    found = dataset(tools).model_copy(update={"label_columns": ("late", "distance")})

    inputs = build_inputs(found, None, tools)

    assert "distance" in inputs.rows.columns
    assert {"late", "distance"}.isdisjoint(inputs.features.columns)


def test_features_that_hold_the_targets_name_are_refused(tools: Tools) -> None:
    write_features(tools, "def build(rows, weather):\n    return rows[['distance']].assign(late=1)\n")

    with pytest.raises(ColumnError, match="hold 'late', which arrives with the target"):
        build_inputs(dataset(tools), FEATURES, tools)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("rows.nothing", TrainingError, r"features\.py:2\).*raised AttributeError"),
        ("rows['nothing']", TrainingError, r"raised KeyError.*rows: 400 of id, at, day,.*; weather: 7 of day, temp"),
        ("exit(3)", TrainingError, "raised SystemExit: 3"),
        ("rows.to_numpy()", TrainingError, "returned ndarray"),
        ("rows.head(3)", ColumnError, "not aligned with the rows: 3 for 400"),
        ("rows.sort_values('distance')[['distance']]", ColumnError, "not aligned"),
        ("rows[[]]", ColumnError, "no column"),
        ("rows[['distance', 'distance']]", ColumnError, "distance twice"),
    ],
)
def test_what_the_teams_callable_did_wrong_is_said(
    tools: Tools, body: str, error: type[Exception], message: str
) -> None:
    write_features(tools, f"def build(rows, weather):\n    return {body}\n")

    with pytest.raises(error, match=message):
        build_inputs(dataset(tools), FEATURES, tools)


def test_a_features_callable_that_does_not_take_a_related_table_is_named(tools: Tools) -> None:
    write_features(tools, "def build(rows):\n    return rows[['distance']]\n")

    with pytest.raises(TrainingError, match=r"unexpected keyword argument 'weather'"):
        build_inputs(dataset(tools), FEATURES, tools)


def test_without_features_all_columns_but_key_time_and_target_are_the_input(tools: Tools) -> None:
    inputs = build_inputs(dataset(tools), None, tools)

    assert list(inputs.features.columns) == ["day", "distance", "carrier"]


def test_a_changed_dataset_is_refused(tools: Tools, tmp_path: Path) -> None:
    found = dataset(tools)
    (tmp_path / "data" / "datasets" / "one" / "weather.parquet").write_bytes(b"other")

    with pytest.raises(DigestMismatchError):
        build_inputs(found, FEATURES, tools)


def test_an_empty_dataset_is_refused(tools: Tools) -> None:
    with pytest.raises(NoRowsError):
        build_inputs(dataset(tools, rows().head(0)), FEATURES, tools)


def test_a_time_is_no_feature(tools: Tools) -> None:
    write_features(tools, "def build(rows, weather):\n    return rows[['distance', 'at']]\n")

    with pytest.raises(ColumnError, match=r"'at' is of type datetime64.*the hour of a time"):
        train(training_job(dataset(tools)), tools)


# --- Where it was trained --------------------------------------------------------------------------------------------


def test_a_project_without_a_repository_has_no_known_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("ML_LIFECYCLE_CODE_VERSION", raising=False)

    assert code_version(tmp_path).startswith("unknown: ")


def test_another_change_of_a_tracked_file_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ML_LIFECYCLE_CODE_VERSION", raising=False)

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=anna", "-c", "user.email=anna@example.com")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def version_with(content: bytes) -> str:
        (tmp_path / "helpers.py").write_bytes(content)
        return code_version(tmp_path)

    (tmp_path / "helpers.py").write_bytes(b"x = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "Help")

    clean, first, second = version_with(b"x = 1\n"), version_with(b"x = 2\n"), version_with(b"x = '\xff'\n")

    assert len(clean) == 40
    assert first.startswith(f"{clean}-dirty.")
    assert second.startswith(f"{clean}-dirty.")
    assert len({first, second, version_with(b"x = 2\n")}) == 2


def test_the_deployment_may_say_the_code_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_LIFECYCLE_CODE_VERSION", "2026.1")

    assert code_version(tmp_path) == "2026.1"


def test_the_environment_is_sorted_and_pinned() -> None:
    lines = installed_distributions().splitlines()

    assert lines == sorted(set(lines))
    assert all("==" in line for line in lines)
