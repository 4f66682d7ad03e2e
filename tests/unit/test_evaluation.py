"""A candidate is measured beside the champion, judged, and registered once."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest
from sklearn.metrics import roc_auc_score  # noqa: TID253  # as above

from ml_lifecycle.backends.files import file_digest
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import Columns, Evaluation, GateRule, ServingCheck, TrainedModel, Verdict
from ml_lifecycle.core.errors import ChampionError, ColumnError, DigestMismatchError, UntrustedModelError
from ml_lifecycle.stages.champion import champion_of, load_trained
from ml_lifecycle.stages.evaluation import EvaluationJob, RegistrationJob, describe, evaluate, register
from ml_lifecycle.stages.runner import Tools, run
from tests.fakes.small_model import dataset, judged, registered, released, request, rows, trained, with_project

VERSUS = GateRule(metric="roc_auc", versus="champion", margin=0.05)
OTHER_FEATURES = "crew.wider:build"


@pytest.fixture
def tools(tools: Tools, tmp_path: Path) -> Tools:
    return with_project(tools, tmp_path / "project")


def measuring(model: TrainedModel, **asked: Any) -> EvaluationJob:
    """A job that leaves out the process of its own, which has tests of its own."""
    return EvaluationJob.model_validate({"model": model, "rehearse": False, **asked})


def artifacts(tools: Tools, model: TrainedModel) -> Path:
    assert isinstance(tools.tracking, LocalTracking)
    return tools.tracking.folder / "runs" / model.run_id / "artifacts"


def run_file(tools: Tools, model: TrainedModel) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifacts(tools, model).parent / "run.json").read_text())
    return found


def predictions(tools: Tools, evaluation: Evaluation, into: Path) -> pd.DataFrame:
    into.mkdir()
    folder = tools.tracking.download(evaluation.predictions_uri, into)
    assert file_digest(folder / "predictions.parquet") == evaluation.predictions_digest
    table: pd.DataFrame = pd.read_parquet(folder / "predictions.parquet")
    return table


# --- Evaluate --------------------------------------------------------------------------------------------------------


def test_a_first_candidate_is_measured_on_its_holdout_alone(tools: Tools, tmp_path: Path) -> None:
    model = trained(tools)

    evaluation = evaluate(measuring(model), tools)

    table = predictions(tools, evaluation, tmp_path / "back")
    assert list(table.columns) == ["key", "truth", "time", "score:candidate"]
    assert table["key"].tolist() == [f"f{number:05d}" for number in range(320, 400)]
    assert table["truth"].tolist() == rows()["late"].iloc[320:].astype(float).tolist()
    assert evaluation.champion is None
    assert evaluation.metrics["roc_auc"].rows == 80
    assert evaluation.metrics["roc_auc"].value == pytest.approx(roc_auc_score(table["truth"], table["score:candidate"]))


def test_the_champion_is_measured_on_the_same_rows(tools: Tools, tmp_path: Path) -> None:
    found = dataset(tools)
    released(tools, trained(tools, found, hyperparameters={"C": 0.0001}))

    evaluation = evaluate(measuring(trained(tools, found)), tools)

    table = predictions(tools, evaluation, tmp_path / "back")
    assert evaluation.champion is not None
    assert evaluation.champion.version == 1
    assert evaluation.champion.metrics["brier"].value == pytest.approx(
        float(((table["truth"] - table["score:champion"]) ** 2).mean())
    )
    difference = evaluation.champion.differences["brier"]
    assert difference.rows == 80
    assert difference.estimate is not None
    assert difference.estimate > 0


def test_evaluating_again_finds_the_same(tools: Tools) -> None:
    job = measuring(trained(tools), slices=("carrier",))

    assert evaluate(job, tools) == evaluate(job, tools)


def test_each_value_of_a_slice_is_measured_with_its_rows(tools: Tools) -> None:
    evaluation = evaluate(measuring(trained(tools), slices=("carrier",)), tools)

    found = {value: metrics["roc_auc"].rows for value, metrics in evaluation.slices["carrier"].items()}
    expected = rows().iloc[320:]["carrier"].fillna("(missing)").value_counts().to_dict()
    assert found == expected
    assert found["(missing)"] == 1


def test_numbers_and_predictions_lie_on_the_run(tools: Tools) -> None:
    model = trained(tools)

    evaluation = evaluate(measuring(model, slices=("carrier",)), tools)

    logged = run_file(tools, model)["metrics"]
    assert logged["holdout_roc_auc"] == evaluation.metrics["roc_auc"].value
    assert logged["holdout_rows"] == 80
    folder = artifacts(tools, model) / "evaluation" / evaluation.predictions_digest[:12]
    assert (folder / "predictions.parquet").is_file()
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["brier"]["rows"] == 80


def test_a_slice_by_a_column_that_is_not_there_names_those_that_are(tools: Tools) -> None:
    with pytest.raises(ColumnError, match=r"no column 'airport' to slice by.*carrier"):
        evaluate(measuring(trained(tools), slices=("airport",)), tools)


def test_a_slice_by_a_column_of_countless_values_is_refused(tools: Tools) -> None:
    model = trained(tools, dataset(tools, rows(1000)))

    with pytest.raises(ColumnError, match=r"'id' has 200 values in the holdout, and at most 100 are measured apart"):
        evaluate(measuring(model, slices=("id",)), tools)


def test_a_holdout_of_one_class_has_no_area(tools: Tools) -> None:
    table = rows()
    table.loc[table.index >= 320, "late"] = True

    evaluation = evaluate(measuring(trained(tools, dataset(tools, table))), tools)

    assert evaluation.metrics["roc_auc"].value is None
    assert judged(tools, evaluation).verdict is Verdict.FAIL


def test_a_regression_is_measured_in_the_targets_unit(tools: Tools) -> None:
    found = dataset(tools, rows().assign(late=lambda table: 3 * table["distance"] + 1))
    model = trained(tools, found, estimator="sklearn.linear_model.LinearRegression")

    evaluation = evaluate(measuring(model, metrics=("mae", "rmse"), slices=("carrier",)), tools)

    assert evaluation.metrics["mae"].value == pytest.approx(0, abs=1e-9)


def test_an_evaluation_tells_whether_the_package_would_serve(tools: Tools) -> None:
    evaluation = evaluate(EvaluationJob(model=trained(tools)), tools)

    decision = judged(tools, evaluation)

    assert evaluation.serving is not None
    assert evaluation.serving.verdict is Verdict.PASS, evaluation.serving.detail
    assert decision.checks[-1].metric == "serving"
    assert decision.verdict is Verdict.PASS


@pytest.mark.parametrize(("first", "retries"), [(Verdict.PASS, 0), (Verdict.INCONCLUSIVE, 0), (Verdict.FAIL, 1)])
def test_the_same_bytes_are_rehearsed_once_unless_that_failed(
    first: Verdict, retries: int, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = dataclasses.replace(tools, run="flights_train/manual__1")
    checks = [ServingCheck(verdict=first, rows=64, load_s=1.0), ServingCheck(verdict=first, rows=64, load_s=2.0)]
    left = iter(checks)
    monkeypatch.setattr("ml_lifecycle.stages.evaluation.rehearsing", lambda *_: nullcontext(lambda: next(left)))
    job = EvaluationJob(model=trained(once))

    found = [run(evaluate, job, once, model="flights").serving for _ in range(2)]

    assert found == [checks[0], checks[retries]]


# --- The champion ----------------------------------------------------------------------------------------------------


def test_before_the_first_release_there_is_no_champion(tools: Tools) -> None:
    assert champion_of("flights", tools) is None


def test_the_champion_comes_with_its_move_and_its_training_data(tools: Tools) -> None:
    found = dataset(tools)
    model = trained(tools, found)
    move = released(tools, model)

    champion = champion_of("flights", tools)

    assert champion is not None
    assert champion.move == move
    assert champion.version == 1
    assert champion.dataset == found
    assert champion.info.training_key == model.training_key


def test_a_champion_whose_bytes_were_changed_is_an_error_and_no_first_release(tools: Tools) -> None:
    found = dataset(tools)
    model = trained(tools, found)
    released(tools, model)
    (artifacts(tools, model) / "model" / model.digest[:12] / "MLmodel").write_text("flavors: {}")

    with pytest.raises(ChampionError, match="digest"):
        evaluate(measuring(trained(tools, found, seed=8)), tools)


def test_a_champion_that_is_gone_is_an_error(tools: Tools) -> None:
    found = dataset(tools)
    model = trained(tools, found)
    released(tools, model)
    artifacts(tools, model).rename(artifacts(tools, model).with_name("elsewhere"))

    with pytest.raises(ChampionError, match="nothing to download"):
        champion_of("flights", tools)


def test_a_champion_whose_feature_code_changed_is_not_scored(tools: Tools) -> None:
    released(tools, trained(tools))
    with (tools.project / "crew" / "features.py").open("a") as code:
        code.write("\n# another line\n")

    with pytest.raises(ChampionError, match=r"feature code.*put new features into a new module"):
        champion_of("flights", tools)


def test_a_champion_is_fed_by_its_own_features(tools: Tools, tmp_path: Path) -> None:
    found = dataset(tools)
    released(tools, trained(tools, found))
    (tools.project / "crew" / "wider.py").write_text(
        "def build(rows, weather):\n    return rows[['distance']].assign(twice=2 * rows['distance'])\n"
    )
    before = evaluate(measuring(trained(tools, found)), tools)

    evaluation = evaluate(measuring(trained(tools, found, features=OTHER_FEATURES)), tools)

    assert evaluation.champion is not None
    assert before.champion is not None
    assert evaluation.champion.metrics == before.champion.metrics
    assert "score:champion" in predictions(tools, evaluation, tmp_path / "back")


def test_a_champion_that_lacks_a_column_in_the_data_is_an_error(tools: Tools) -> None:
    released(tools, trained(tools))
    (tools.project / "crew" / "wider.py").write_text("def build(rows, weather):\n    return rows[['distance']]\n")
    newer = dataset(tools, rows().drop(columns=["carrier"]), uri="datasets/two")

    with pytest.raises(ChampionError, match=r"the champion cannot be scored.*carrier"):
        evaluate(measuring(trained(tools, newer, features=OTHER_FEATURES)), tools)


def test_a_candidate_whose_bytes_were_changed_is_not_loaded(tools: Tools) -> None:
    model = trained(tools)
    (artifacts(tools, model) / "model" / model.digest[:12] / "extra.pkl").write_bytes(b"x")

    with pytest.raises(DigestMismatchError):
        load_trained(model, tools)


def test_a_folder_that_is_no_package_is_refused(tools: Tools, tmp_path: Path) -> None:
    model = trained(tools).model_copy(update={"uri": str(tmp_path / "nothing")})

    with pytest.raises(UntrustedModelError, match="no model package"):
        load_trained(model, tools)


# --- Gate ------------------------------------------------------------------------------------------------------------


def test_the_verdict_is_noted_on_the_run_with_its_reasons(tools: Tools) -> None:
    model = trained(tools)

    decision = judged(tools, evaluate(measuring(model), tools), GateRule(metric="roc_auc", at_least=0.99))

    assert decision.verdict is Verdict.FAIL
    assert run_file(tools, model)["tags"]["ml_lifecycle.gate"] == "fail"
    note = json.loads((artifacts(tools, model) / "gate" / "gate.json").read_text())
    assert note["checks"][0]["rule"] == "roc_auc at least 0.99"


# --- Register --------------------------------------------------------------------------------------------------------


def test_a_failed_candidate_is_not_registered_and_keeps_its_run(tools: Tools) -> None:
    model = trained(tools)
    decision = judged(tools, evaluate(measuring(model), tools), GateRule(metric="roc_auc", at_least=0.99))

    assert register(RegistrationJob(request=request(), decision=decision), tools) is None

    assert tools.registry.newest_version("flights") is None
    assert tools.tracking.get_run(model.run_id).finished


def test_an_inconclusive_candidate_is_registered_for_a_human_to_judge(tools: Tools) -> None:
    evaluation = evaluate(measuring(trained(tools)), tools)

    version = register(RegistrationJob(request=request(), decision=judged(tools, evaluation, VERSUS)), tools)

    assert version is not None
    assert version.gate_verdict is Verdict.INCONCLUSIVE


def test_registering_again_is_the_same_version(tools: Tools) -> None:
    model = trained(tools)

    assert registered(tools, model) == registered(tools, model)
    assert registered(tools, model).version == 1


def test_a_version_says_where_it_comes_from(tools: Tools) -> None:
    model = trained(tools, hyperparameters={"C": 0.5})

    version = registered(tools, model)

    found = tools.registry.version("flights", version.version)
    assert found is not None
    said = {name.removeprefix("ml_lifecycle."): value for name, value in found.tags.items()}
    assert said["digest"] == model.digest
    assert said["training_key"] == model.training_key
    assert said["dataset_fingerprint"] == model.dataset.fingerprint
    assert said["partitions"] == "2013-01"
    assert said["hyperparameters"] == '{"C": 0.5}'
    assert said["seed"] == "7"
    assert said["reason"] == "first training"
    assert said["requester"] == "anna"
    assert said["gate"] == "pass"
    assert {"code_version", "features_digest", "environment_digest", "hardware", "policy_digest"} <= set(said)


def test_a_version_of_the_same_key_and_other_bytes_is_refused(tools: Tools) -> None:
    model = trained(tools)
    registered(tools, model)
    tools.registry.tag_version("flights", 1, {"ml_lifecycle.digest": "f" * 64})

    with pytest.raises(DigestMismatchError, match="version 1 of flights"):
        registered(tools, model)


def test_the_description_cannot_be_broken_by_a_value_of_the_data(tools: Tools) -> None:
    table = rows().assign(carrier="<img src=x onerror=alert(1)> | x")
    evaluation = evaluate(measuring(trained(tools, dataset(tools, table)), slices=("carrier",)), tools)
    decision = judged(tools, evaluation, GateRule(metric="roc_auc", each="carrier", at_least=0.5))

    reason = "<script> [approve it here](https://example.com) \\|"
    text = describe(RegistrationJob(request=request(reason=reason), decision=decision))

    assert "<" not in text
    assert r"\[approve it here\](https://example.com) \\\|" in text
    assert r"\| x" in text


def test_a_dataset_needs_its_target_to_be_judged(tools: Tools) -> None:
    model = trained(tools)
    blind = model.model_copy(
        update={"dataset": model.dataset.model_copy(update={"columns": Columns(key="id", time="at")})}
    )

    with pytest.raises(ColumnError, match="target"):
        evaluate(measuring(blind), tools)
