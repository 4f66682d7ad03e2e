"""Changing what was measured, stored or agreed, between the tasks or behind the pipeline's back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from ml_lifecycle.core.approval import approve_label
from tests.integration.bypass.acts import clear, forged, mark, nothing_moved, open_ask, run_of, write_xcom
from trial import APPROVAL, ENVIRONMENT, Trial, pipeline_text

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def failed_training(trial: Trial) -> str:
    """A run whose candidate the gate failed, and which therefore registered nothing."""
    run_id = trial.by("engineer").trigger("strict_train")
    assert trial.ended("strict_train", run_id) == "success"
    assert trial.task("strict_train", run_id, "register")["state"] == "skipped"
    return run_id


def test_a_verdict_edited_between_gate_and_register_registers_nothing(trial: Trial, failed_training: str) -> None:
    gate = trial.by("engineer").xcom("strict_train", failed_training, "gate")
    passed = {**gate, "verdict": "pass", "checks": [{**check, "verdict": "pass"} for check in gate["checks"]]}

    write_xcom(trial, "engineer", "strict_train", failed_training, "gate", value=passed)
    clear(trial, "engineer", "strict_train", failed_training, "register")

    assert trial.task_ended("strict_train", failed_training, "register") == "failed"
    nothing_moved(trial, "strict")
    assert "not a result that the ledger knows" in trial.refusals("strict")
    assert trial.ledger.results(ENVIRONMENT, "strict", "register") == ()


def test_a_metric_edited_between_evaluate_and_gate_is_not_judged(trial: Trial, failed_training: str) -> None:
    measured = trial.by("engineer").xcom("strict_train", failed_training, "evaluate")
    better = {**measured, "metrics": {"roc_auc": {**measured["metrics"]["roc_auc"], "value": 0.999}}}

    write_xcom(trial, "engineer", "strict_train", failed_training, "evaluate", value=better)
    clear(trial, "engineer", "strict_train", failed_training, "gate")

    assert trial.task_ended("strict_train", failed_training, "gate") == "failed"
    assert "not a result that the ledger knows" in trial.refusals("strict")


def test_the_bytes_of_another_model_handed_to_the_evaluation_are_not_measured(
    trial: Trial, failed_training: str
) -> None:
    model = trial.model()
    other = trial.candidate(model)
    trained = trial.by("engineer").xcom("strict_train", failed_training, "train")

    handed = {**trained, "uri": other.uri, "digest": other.digest}
    write_xcom(trial, "engineer", "strict_train", failed_training, "train", value=handed)
    clear(trial, "engineer", "strict_train", failed_training, "evaluate")

    assert trial.task_ended("strict_train", failed_training, "evaluate") == "failed"
    assert "not a result that the ledger knows" in trial.refusals("strict")


def test_a_forged_event_about_a_candidate_that_does_not_exist_asks_nobody(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)

    run_id = _announced(trial, model, {"model": model, "version": 9, "digest": "0" * 64})

    assert trial.ended(f"{model}_release", run_id) == "failed"
    assert trial.ledger.open_asks(model, ENVIRONMENT) == ()
    nothing_moved(trial, model)
    assert "has no version 9" in trial.logs(f"{model}_release", run_id)


def test_a_forged_event_about_a_real_candidate_only_asks(trial: Trial) -> None:
    model = trial.model()
    version = trial.candidate(model)

    event = {"model": model, "version": 1, "digest": "0" * 64, "outcome": "approve", "requester": "nobody"}
    run_id = _announced(trial, model, event)
    question = trial.question(f"{model}_release", run_id)

    assert question["options"] == [approve_label(version.digest), "Reject"]
    asked = trial.ledger.asked(open_ask(trial, model).ask_id)
    assert asked is not None
    assert asked.requested_by == "engineer"
    nothing_moved(trial, model)


def test_an_alias_that_somebody_moves_in_mlflow_changes_neither_the_champion_nor_what_scores(trial: Trial) -> None:
    trial.released("scored")
    trial.candidate("scored")

    trial.tools("by hand").registry.set_alias("scored", "champion", 2)
    run_id = trial.by("engineer").trigger("scored_score", partition="2024-02")

    assert trial.ended("scored_score", run_id) == "success", trial.logs("scored_score", run_id)
    assert trial.by("engineer").xcom("scored_score", run_id, "score")["version"] == 1
    assert trial.champion("scored") == 1


def test_bytes_that_were_swapped_after_the_question_are_not_deployed(trial: Trial) -> None:
    model, question = trial.asked()
    version = trial.newest(model)

    for file in _stored(trial, version.run_id, version.digest):
        file.write_bytes(file.read_bytes() + b" ")
    trial.answer("approver", question, "Approve").raise_for_status()

    assert trial.task_ended(*run_of(question), "deploy") == "failed"
    nothing_moved(trial, model)
    assert "the model package has digest" in trial.refusals(model)


def test_a_metric_edited_in_mlflow_after_the_gate_is_shown_to_nobody(trial: Trial) -> None:
    model = trial.model()
    version = trial.candidate(model)
    tags = {"ml_lifecycle.gate_verdict": "pass", "ml_lifecycle.metrics_digest": "0" * 64, "roc_auc": "0.98765"}

    _call_mlflow(trial, "runs/log-metric", run_id=version.run_id, key="roc_auc", value=0.98765, timestamp=1, step=9)
    for key, value in tags.items():
        _call_mlflow(trial, "runs/set-tag", run_id=version.run_id, key=key, value=value)
        _call_mlflow(trial, "model-versions/set-tag", name=model, version="1", key=key, value=value)
    question = trial.ask(model)

    assert "98765" not in question["body"]
    assert open_ask(trial, model).metrics_digest == version.metrics_digest
    nothing_moved(trial, model)


def test_a_gate_that_was_loosened_after_the_approval_stops_the_release(trial: Trial) -> None:
    model, question = trial.asked()

    (trial.dags / f"{model}.yaml").write_text(pipeline_text(model, at_least=0.1))
    trial.answer("approver", question, "Approve").raise_for_status()

    assert trial.task_ended(*run_of(question), "deploy") == "failed"
    nothing_moved(trial, model)
    assert "release refused" in trial.refusals(model)
    assert "gate" in trial.refusals(model) or "policy" in trial.refusals(model)


def test_approvers_who_were_added_to_the_file_after_the_question_cannot_answer_it(trial: Trial) -> None:
    model, question = trial.asked()

    (trial.dags / f"{model}.yaml").write_text(
        pipeline_text(model, approval=APPROVAL.replace("approver,", "approver, operator,"))
    )

    assert trial.answer("operator", question, "Approve").status_code == 403
    nothing_moved(trial, model)
    assert "operator vote refused" in trial.refusals(model)


def test_a_decision_of_another_environment_gives_no_right_here(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model, environment="staging")
    trial.candidate(model)
    dag_id, run_id = run_of(trial.ask(model))
    decision = forged(open_ask(trial, model), environment="staging")

    write_xcom(trial, "engineer", dag_id, run_id, "approve", value=decision)
    mark(trial, "engineer", dag_id, run_id, "approve").raise_for_status()

    assert trial.task_ended(dag_id, run_id, "deploy") == "failed"
    nothing_moved(trial, model)
    assert "staging" in trial.refusals(model)


def test_feature_code_that_was_changed_after_the_approval_feeds_no_champion(trial: Trial) -> None:
    code = trial.project / "crew" / "features.py"
    before = code.read_text()
    trial.candidate("scored")
    try:
        code.write_text(before.replace('"distance"]]', '"distance"]] * 2'))
        run_id = trial.by("engineer").trigger("scored_score", partition="2024-01")

        assert trial.ended("scored_score", run_id) == "failed"
        assert "the feature code" in trial.logs("scored_score", run_id)
    finally:
        code.write_text(before)


def _announced(trial: Trial, model: str, extra: dict[str, Any]) -> str:
    """Say that a candidate was registered, as an operator may; the run that Airflow starts for it."""
    assets = trial.by("engineer").call("GET", "assets", params={"name_pattern": f"{model}_candidate"})["assets"]
    body = {"asset_id": assets[0]["id"], "extra": extra}
    assert trial.by("engineer").send("POST", "assets/events", json=body).status_code == 403
    trial.by("operator").call("POST", "assets/events", json=body)

    def started() -> str | None:
        runs = trial.by("engineer").runs(f"{model}_release")
        return str(runs[-1]["dag_run_id"]) if runs else None

    return trial.wait_for(f"a release of {model}", started)


def _stored(trial: Trial, run_id: str, digest: str) -> list[Path]:
    """The files of a model package where MLflow keeps them."""
    folders = (trial.deployment.home / "mlflow" / "artifacts").glob(f"*/{run_id}/artifacts/model/{digest[:12]}")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert files
    return files


def _call_mlflow(trial: Trial, path: str, **body: Any) -> None:
    reply = requests.post(f"{trial.deployment.mlflow_url}/api/2.0/mlflow/{path}", json=body, timeout=30)
    reply.raise_for_status()
