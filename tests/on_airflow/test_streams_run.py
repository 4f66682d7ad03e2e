"""The streams, run by Airflow on real files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.on_airflow.runs import result, states

Dags = Callable[..., dict[str, Any]]


def test_a_training_by_hand_registers_a_candidate_of_the_newest_partitions(dags: Dags) -> None:
    run = dags("by_hand")["by_hand_train"].test(logical_date=None)

    assert set(states(run).values()) == {"success"}
    assert result(run, "resolve")["partitions"] == ["2024-02", "2024-03"]
    assert result(run, "resolve")["requester"] == "dag_test"
    assert result(run, "register")["version"] == 1


def test_the_form_overrides_partition_reason_and_hyperparameters(dags: Dags) -> None:
    filled = {"partition": "2024-02", "reason": "try a smaller tree", "max_depth": 2}

    run = dags("form")["form_train"].test(
        logical_date=None, run_conf=filled, mark_success_pattern="snapshot|train|evaluate|gate|register"
    )

    request = result(run, "resolve")
    assert request["partitions"] == ["2024-01", "2024-02"]
    assert request["hyperparameters"] == {"max_depth": 2}
    assert request["reason"] == "try a smaller tree"


def test_a_failed_gate_registers_nothing_and_leaves_the_run_green(dags: Dags) -> None:
    hopeless = dags("hopeless", ("at_least: 0.6", "at_least: 0.999"))

    run = hopeless["hopeless_train"].test(logical_date=None)

    assert states(run)["gate"] == "success"
    assert states(run)["register"] == "skipped"
    assert result(run, "gate")["verdict"] == "fail"
    assert run.state == "success"


def test_a_model_lives_from_training_to_rollback_without_a_person_where_policy_decides(
    dags: Dags, airflow: Path
) -> None:
    life = dags("life", ("required: always, approvers: [approver]", "required: never"))

    def run(stream: str, task_id: str, **conf: Any) -> Any:
        # Read at once: the next test run of a DAG clears the one before it.
        return result(life[f"life_{stream}"].test(logical_date=None, run_conf=conf), task_id)

    first = run("train", "register", partition="2024-02", reason="first")
    released = run("release", "deploy")
    scored = run("score", "score", partition="2024-03")
    watched = run("monitor", "respond", partition="2024-03")
    second = run("train", "register", max_depth=2)
    run("release", "deploy")
    back = run("rollback", "rollback", reason="complaints")

    assert (first["version"], first["reason"]) == (1, "first")
    assert (released["champion"]["version"], released["champion"]["moved_by"]) == (1, "policy")
    assert (scored["version"], scored["digest"], scored["rows"]) == (1, first["digest"], 200)
    assert (airflow / "data" / "life" / "2024-03" / "predictions.parquet").is_file()
    assert watched["action"] == "nothing"
    assert (second["version"], back["previous"]["version"]) == (2, 2)
    champion = back["champion"]
    assert (champion["version"], champion["moved_by"], champion["reason"]) == (1, "dag_test", "complaints")


def test_text_that_a_person_wrote_into_the_yaml_is_never_a_template(dags: Dags) -> None:
    os.environ["AIRFLOW_VAR_SECRET"] = "leaked"
    nosy = dags(
        "nosy",
        ("Will it be late?", "'{{ var.value.secret }}'"),
        ("Levels of the tree.", "{{ var.value.secret }}"),
        ("metrics: [roc_auc]", "metrics: [roc_auc]\n  slices: ['{{ var.value.secret }}']"),
    )

    run = nosy["nosy_train"].test(logical_date=None)

    # The column of that name is missing: the message shows the text as it was written.
    assert states(run)["evaluate"] == "failed"
    assert "leaked" not in str(nosy["nosy_train"].doc_md)
    assert nosy["nosy_train"].get_task("evaluate").slices == ["{{ var.value.secret }}"]


def test_a_request_for_a_partition_that_is_not_there_fails_at_once_and_says_what_is(
    dags: Dags, capsys: pytest.CaptureFixture[str]
) -> None:
    run = dags("absent")["absent_train"].test(logical_date=None, run_conf={"partition": "2025-01"})

    assert states(run)["resolve"] == "failed"
    missing = r"rows/2024-12\.parquet, rows/2025-01\.parquet, labels/2024-12\.parquet, labels/2025-01\.parquet"
    message = rf"partition 2024-12, 2025-01 is not there: {missing}; there are 2024-01 to 2024-03"
    assert re.search(message, capsys.readouterr().out)


def test_of_several_partitions_each_is_scored_by_a_task_of_its_own(dags: Dags, airflow: Path) -> None:
    life = dags("several", ("required: always, approvers: [approver]", "required: never"))
    life["several_train"].test(logical_date=None, run_conf={"partition": "2024-02"})
    life["several_release"].test(logical_date=None)
    life["several_score"].test(logical_date=None, run_conf={"partition": "2024-02"})
    alone = (airflow / "data" / "several" / "2024-02" / "predictions.parquet").read_bytes()
    shutil.rmtree(airflow / "data" / "several")

    run = life["several_score"].test(
        logical_date=None, run_conf={"partitions": ["2024-03", "2024-01", "2024-02", "2024-01"]}
    )

    assert result(run, "resolve")["partitions"] == ["2024-01", "2024-02", "2024-03"]
    assert result(run, "score")["partition"] == "2024-03"
    others = [task for task in run.get_task_instances() if task.task_id == "score_others"]
    assert sorted((task.map_index, str(task.state)) for task in others) == [(0, "success"), (1, "success")]
    published = {path.name: path for path in (airflow / "data" / "several").iterdir()}
    assert sorted(published) == ["2024-01", "2024-02", "2024-03"]
    assert (published["2024-02"] / "predictions.parquet").read_bytes() == alone


def test_a_scoring_of_one_partition_skips_the_task_for_others(dags: Dags) -> None:
    life = dags("single", ("required: always, approvers: [approver]", "required: never"))
    life["single_train"].test(logical_date=None)
    life["single_release"].test(logical_date=None)

    run = life["single_score"].test(logical_date=None)

    assert states(run)["score"] == "success"
    assert states(run)["score_others"] == "skipped"
    assert run.state == "success"


def test_several_partitions_that_are_not_all_there_are_refused_at_once(
    dags: Dags, capsys: pytest.CaptureFixture[str]
) -> None:
    run = dags("gap")["gap_score"].test(
        logical_date=None, run_conf={"partitions": ["2024-01", "2025-01"]}, mark_success_pattern="champion_ready"
    )

    assert states(run)["resolve"] == "failed"
    assert "partition 2025-01 is not there: rows/2025-01.parquet" in capsys.readouterr().out
