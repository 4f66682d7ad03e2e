"""What the DAGs look like before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

Dags = Callable[..., dict[str, Any]]


@pytest.fixture
def late(dags: Dags) -> dict[str, Any]:
    """The team's pipeline with a validation section."""
    return dags("late", ("training:\n", "validation: {suite: include/suite.json}\ntraining:\n"))


def edges(dag: Any) -> set[str]:
    """``upstream > downstream`` of all tasks."""
    return {f"{task.task_id} > {below}" for task in dag.tasks for below in task.downstream_task_ids}


def woken_by(dag: Any) -> list[str]:
    """The assets that start a run."""
    return [asset.name for asset in dag.timetable.asset_condition.objects]


def runs(dag: Any, count: int = 10) -> list[str]:
    """The starts of the intervals that Airflow would schedule, oldest first."""
    from airflow.serialization.serialized_objects import DagSerialization

    scheduled = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    found: list[str] = []
    interval = None
    while len(found) < count:
        info = scheduled.next_dagrun_info(last_automated_run_info=interval)
        if info is None:
            return found
        assert info.data_interval is not None
        interval = info
        found.append(f"{info.data_interval.start:%Y-%m-%d}")
    return found


def test_a_training_goes_from_the_request_to_the_registration(late: dict[str, Any]) -> None:
    assert [task.task_id for task in late["late_train"].topological_sort()] == [
        "resolve", "snapshot", "validate", "train", "evaluate", "gate", "register",
    ]  # fmt: skip
    assert {"snapshot > validate", "validate > train", "validate > register"} <= edges(late["late_train"])


def test_without_a_validation_section_the_snapshot_is_trained_on(dags: Dags) -> None:
    plain = dags("plain")["plain_train"]

    assert "validate" not in plain.task_ids
    assert "snapshot > train" in edges(plain)


def test_a_deployment_knows_when_the_pipeline_asks_a_person(late: dict[str, Any]) -> None:
    release = late["late_release"]

    assert release.get_task("deploy").required == release.get_task("approve").required == "always"


def test_a_release_asks_before_it_deploys(late: dict[str, Any]) -> None:
    assert edges(late["late_release"]) == {"resolve > approve", "resolve > deploy", "approve > deploy"}


def test_scoring_waits_for_the_data_and_for_a_champion(late: dict[str, Any]) -> None:
    assert {"data_ready > score", "champion_ready > score"} <= edges(late["late_score"])


def test_monitoring_waits_for_the_scored_partition_and_performance_for_its_labels(late: dict[str, Any]) -> None:
    assert {
        "scored_ready > drift", "scored_ready > labels_ready", "labels_ready > performance", "drift > respond",
        "performance > respond",
    } <= edges(late["late_monitor"])  # fmt: skip


def test_labels_that_never_come_do_not_keep_the_monitor_from_answering(late: dict[str, Any]) -> None:
    monitor = late["late_monitor"]

    assert monitor.get_task("labels_ready").soft_fail
    assert monitor.get_task("labels_ready").timeout == timedelta(days=2).total_seconds()
    assert monitor.get_task("performance").trigger_rule == "none_failed"


def test_a_model_without_scoring_and_monitoring_has_no_such_dags(dags: Dags) -> None:
    from tests.on_airflow.conftest import PIPELINE

    sections = PIPELINE[PIPELINE.index("scoring:") :].replace("scored/", "bare/")

    assert sorted(dags("bare", (sections, ""))) == ["bare_release", "bare_rollback", "bare_train"]


def test_the_dags_of_a_model_are_joined_by_its_assets_alone(late: dict[str, Any]) -> None:
    emitted = {
        f"{dag.dag_id}.{task.task_id}": [asset.name for asset in task.outlets]
        for dag in late.values()
        for task in dag.tasks
        if task.outlets
    }

    assert emitted == {
        "late_train.register": ["late_candidate"],
        "late_release.deploy": ["late_champion"],
        "late_rollback.rollback": ["late_champion"],
        "late_score.score": ["late_scored"],
        "late_monitor.respond": ["late_retrain", "late_rollback_wanted"],
    }
    assert woken_by(late["late_train"]) == ["late_retrain"]
    assert woken_by(late["late_release"]) == ["late_candidate"]


def test_the_last_scheduled_interval_is_the_one_that_starts_on_or_before_the_end(late: dict[str, Any]) -> None:
    assert runs(late["late_score"]) == ["2024-02-01", "2024-03-01"]
    assert runs(late["late_monitor"], count=2) == ["2024-02-01", "2024-03-01"]


def test_a_schedule_with_a_start_catches_up_and_one_without_does_not(dags: Dags) -> None:
    from_the_start = dags("early")["early_score"]
    from_now = dags("fresh", ("start: 2024-02-01, end: 2024-03-01, ", ""))["fresh_score"]

    assert from_the_start.catchup
    assert from_the_start.start_date == datetime(2024, 2, 1, tzinfo=timezone.utc)
    assert not from_now.catchup
    assert runs(from_now, count=1)[0] > "2024-03"


def test_a_training_schedule_runs_beside_the_asset(dags: Dags) -> None:
    timed = dags("timed", ("  seed: 3", "  seed: 3\n  schedule: '@monthly'\n  start: 2024-02-01\n  end: 2024-02-01"))

    assert runs(timed["timed_train"]) == ["2024-02-01"]
    assert woken_by(timed["timed_train"]) == ["timed_retrain"]


def test_every_form_can_be_sent_without_input(late: dict[str, Any]) -> None:
    forms = {name: list(dag.params) for name, dag in late.items()}

    assert forms == {
        "late_train": ["partition", "reason", "max_depth"],
        "late_release": ["version", "reason"],
        "late_rollback": ["reason"],
        "late_score": ["partition", "partitions", "reason"],
        "late_monitor": ["partition", "reason"],
    }
    for dag in late.values():
        assert set(dag.params.dump().values()) == {None}


def test_a_hyperparameter_s_field_has_its_help_its_default_and_its_bounds(late: dict[str, Any]) -> None:
    field = late["late_train"].params.get_param("max_depth")

    assert field.description == "Levels of the tree. Left empty: 3."
    assert field.schema == {"type": ["null", "integer"], "title": "max_depth", "minimum": 1.0, "maximum": 9.0}


def test_every_task_is_tried_again_and_bounded_in_time(late: dict[str, Any]) -> None:
    for dag in late.values():
        defaults = dag.default_args
        assert (defaults["retries"], defaults["retry_delay"]) == (2, timedelta(seconds=10))
        assert defaults["owner"] == "team"
    for name, dag in late.items():
        unbounded = {task.task_id for task in dag.tasks if task.execution_timeout is None}
        assert unbounded == ({"approve"} if name == "late_release" else set())


def test_a_newer_candidate_can_ask_while_an_older_question_is_open(late: dict[str, Any]) -> None:
    assert late["late_release"].max_active_runs > 1


def test_data_is_held_to_its_suite_before_a_response_where_the_file_says_so(dags: Dags) -> None:
    suite = ("training:\n", "validation: {suite: include/suite.json}\ntraining:\n")

    monitor = dags("held", suite, ("monitoring:\n", "monitoring:\n  quality: true\n"))["held_monitor"]

    assert {"quality > respond", "drift > respond"} <= edges(monitor)


def test_a_dag_s_page_says_whose_it_is_and_how_to_start_it(late: dict[str, Any]) -> None:
    page = late["late_train"].doc_md

    for part in ("Will it be late?", "team@example.com", "Risk: medium", "Trigger", "model:late"):
        assert part in page
    assert late["late_train"].tags == {"model:late", "train", "ml-lifecycle", "risk:medium"}


def test_only_results_of_other_tasks_and_the_request_are_rendered(late: dict[str, Any]) -> None:
    """Whatever stands in the YAML is never a template."""
    fields = {
        f"{dag.dag_id}.{task.task_id}": sorted(
            name for name in task.template_fields if getattr(task, name, None) not in (None, (), [])
        )
        for dag in late.values()
        for task in dag.tasks
    }

    handed = {name for names in fields.values() for name in names}
    assert handed == {
        "request", "dataset", "trained", "evaluation", "decision", "validation", "drift", "performance",
    }  # fmt: skip
    assert {type(late["late_train"].get_task("train").dataset).__name__} == {"PlainXComArg"}
