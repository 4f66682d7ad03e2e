"""Drills, the reconciler and the deployment's look at Airflow's record, on Airflow."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRuntimeError,
    ErrorType,
    TaskAwaitingInput,
    TaskDeferred,
)

from ml_lifecycle.core.contracts import ApprovalTerms, Ask, ModelVersion, Posting, Vote
from ml_lifecycle.core.deployment import NAMED
from ml_lifecycle.core.errors import ServiceUnavailableError
from ml_lifecycle.dag_factories.reconcile import airflow_reconcile_dag
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.sensors.approval import look_at_answers
from tests.on_airflow.runs import context_of, result, states

Dags = Callable[..., dict[str, Any]]
PROJECT = Path(__file__).resolve().parents[2]
UNATTENDED = ("required: always, approvers: [approver]", "required: never")
DRILL = ("approval: {", "drill: {schedule: '@weekly', within: 5m}\napproval: {")
numbers = count()


def trained(made: dict[str, Any], model: str, **conf: Any) -> None:
    assert made[f"{model}_train"].test(logical_date=None, run_conf=conf).state == "success"


def champions(made: dict[str, Any], model: str, releases: int) -> None:
    """That many releases of different trees, by policy."""
    for depth in range(2, 2 + releases):
        trained(made, model, max_depth=depth)
        assert made[f"{model}_release"].test(logical_date=None).state == "success"


# --- Drills ----------------------------------------------------------------------------------------------------------


def test_there_is_no_drill_unless_the_file_asks_for_it(dags: Dags) -> None:
    assert "quiet_drill" not in dags("quiet")


def test_a_drill_runs_by_its_schedule(dags: Dags) -> None:
    drill = dags("weekly", DRILL)["weekly_drill"]

    assert [task.task_id for task in drill.topological_sort()] == ["resolve", "rehearse"]
    assert "model:weekly" in drill.tags
    assert drill.get_task("rehearse").within == "PT5M"


def test_a_drill_without_an_earlier_champion_is_green_and_inconclusive(dags: Dags) -> None:
    run = dags("lonely", DRILL)["lonely_drill"].test(logical_date=None)

    assert set(states(run).values()) == {"success"}
    assert result(run, "rehearse")["verdict"] == "inconclusive"


def test_a_drill_passes_and_stands_in_the_ledger(dags: Dags) -> None:
    made = dags("ready", DRILL, UNATTENDED)
    champions(made, "ready", 2)

    run = made["ready_drill"].test(logical_date=None)

    report = result(run, "rehearse")
    assert (report["verdict"], report["from_version"], report["to_version"]) == ("pass", 2, 1)
    assert 0 < report["seconds"] < 300
    tools = tools_for(context_of(made["ready_drill"].get_task("rehearse")))
    (kept,) = tools.ledger.results("test", "ready", "rehearse_rollback")
    assert kept["content"] == report
    assert tools.registry.alias("ready", "champion") == 2
    assert tools.registry.alias("ready", "champion-drill") is None


def test_a_drill_that_takes_too_long_is_red_and_keeps_its_report(dags: Dags) -> None:
    made = dags("slow", DRILL, UNATTENDED)
    champions(made, "slow", 2)
    task = made["slow_drill"].get_task("rehearse")
    task.within = 0.000001
    context = context_of(task)
    task.request = made["slow_drill"].get_task("resolve").execute(context_of(made["slow_drill"].get_task("resolve")))

    with pytest.raises(AirflowFailException, match=r"a rollback to version 1 would not do: it took \d+\.\d s"):
        task.execute(context)

    assert context["pushed"]["return_value"]["verdict"] == "fail"


# --- Rollbacks -------------------------------------------------------------------------------------------------------


def test_a_rollback_is_one_trigger_without_input_and_what_it_left_waits_for_a_person(
    dags: Dags, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dags("retreat", UNATTENDED)
    champions(made, "retreat", 2)

    run = made["retreat_rollback"].test(logical_date=None)

    deployed = result(run, "rollback")
    assert (deployed["champion"]["version"], deployed["previous"]["version"]) == (1, 2)
    assert deployed["champion"]["target"] == {"backend": "alias", "alias": "champion"}
    release = made["retreat_release"]
    resolve, approve = release.get_task("resolve"), release.get_task("approve")
    approve.request = resolve.execute(context_of(resolve, conf={"version": 2}, run_id="manual__again"))
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **_form: None)
    with pytest.raises(TaskAwaitingInput):
        approve.execute(context_of(approve, run_id="manual__again"))


# --- The record of answers -------------------------------------------------------------------------------------------


class Approved:
    """A candidate that a person approved in Airflow, and the task that deploys it."""

    def __init__(self, made: dict[str, Any], model: str) -> None:
        self.model, self.dag = model, made[f"{model}_release"]
        resolve, self.task = self.dag.get_task("resolve"), self.dag.get_task("deploy")
        self.task.request = resolve.execute(context_of(resolve))
        self.tools = tools_for(context_of(self.task))
        self.ti_id = str(uuid4())
        content = self.tools.ledger.results("test", model, "register")[-1]["content"]
        self.version = ModelVersion.model_validate(content)
        fields = {name: getattr(self.version, name) for name in NAMED}
        terms = ApprovalTerms(approvers=("approver",))
        ask = Ask(model=model, environment="test", version=self.version.version, epoch=0, terms=terms, **fields)
        now = datetime.now(timezone.utc)
        self.tools.ledger.ask(ask, requested_by=None, at=now, expires_at=now + timedelta(hours=1))
        place = {"dag_id": self.dag.dag_id, "run_id": "manual__1", "task_id": "approve", "ti_id": self.ti_id}
        posted = Posting(ask_id=ask.ask_id, model=model, environment="test", **place)
        number = self.tools.ledger.post(posted, at=now).number
        vote = {"outcome": "approve", "person": "approver", "channel": "airflow", "posting": number, "at": now}
        decision = self.tools.ledger.vote(Vote.model_validate({"ask_id": ask.ask_id, **vote}))
        assert decision is not None
        self.task.decision = decision.to_xcom()

    def resume(self, option: str | None) -> Any:
        """What the task does once the triggerer has read this."""
        event = {"status": "ready", "seen": "", "value": {self.ti_id: option}}
        return self.task.execute_complete(context_of(self.task), event)


@pytest.fixture
def approved(dags: Dags) -> Approved:
    model = f"seen{next(numbers)}"
    made = dags(model)
    trained(made, model)
    return Approved(made, model)


def test_a_deployment_first_lets_the_triggerer_read_airflows_record(approved: Approved) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        approved.task.execute(context_of(approved.task))

    assert deferred.value.trigger.arguments == {"showings": [approved.ti_id]}
    assert deferred.value.trigger.probe == "ml_lifecycle.sensors.approval:look_at_answers"
    assert deferred.value.timeout == timedelta(minutes=10)
    assert approved.tools.ledger.head(approved.model, "test") is None


@pytest.mark.parametrize("gone", [True, False])
def test_an_answer_that_agrees_or_is_gone_is_carried_out(approved: Approved, gone: bool) -> None:  # noqa: FBT001  # a table
    deployed = approved.resume(None if gone else f"Approve {approved.version.digest[:8]}")

    assert deployed["champion"]["version"] == 1
    assert approved.tools.registry.alias(approved.model, "champion") == 1


def test_a_rejection_that_only_airflow_knows_stops_the_deployment_for_ever(approved: Approved) -> None:
    with pytest.raises(AirflowFailException, match="Airflow records 'Reject' for showing 1"):
        approved.resume("Reject")
    with pytest.raises(AirflowFailException, match="gives no right to anything"):
        approved.resume(f"Approve {approved.version.digest[:8]}")

    assert approved.tools.ledger.head(approved.model, "test") is None
    actions = [row["action"] for row in approved.tools.ledger.audit(approved.model)]
    assert actions[-3:] == ["block", "release refused", "release refused"]


@pytest.mark.parametrize("status", ["timeout", "error"])
def test_a_record_that_cannot_be_read_is_read_by_the_next_try(approved: Approved, status: str) -> None:
    event = {"status": status, "seen": "the API server is away", "value": None}

    with pytest.raises(ServiceUnavailableError, match="the API server is away"):
        approved.task.execute_complete(context_of(approved.task), event)

    assert approved.tools.ledger.head(approved.model, "test") is None


def test_a_gate_that_was_loosened_after_the_approval_stops_the_deployment(approved: Approved) -> None:
    approved.task.rules = [{**approved.task.rules[0], "at_least": 0.1}]

    with pytest.raises(AirflowFailException, match="the gate was changed after it was approved"):
        approved.resume(None)

    assert approved.tools.registry.alias(approved.model, "champion") is None


class Record:
    """What the API server tells of one try."""

    def __init__(self, chosen: list[str] | None) -> None:
        self.chosen_options = chosen


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [
        (["Reject"], "Reject"),
        (["Approve 1", "Reject"], "Reject"),
        (["Approve 1"], "Approve 1"),
        ([], None),
        (None, None),
    ],
)
def test_the_record_is_read_by_the_id_of_the_try(
    monkeypatch: pytest.MonkeyPatch, chosen: list[str] | None, seen: str | None
) -> None:
    monkeypatch.setattr("airflow.sdk.execution_time.hitl.get_hitl_detail_content_detail", lambda _ti_id: Record(chosen))
    ti_id = str(uuid4())

    assert look_at_answers(showings=[ti_id]).value == {ti_id: seen}


def failing(status: int) -> Callable[[Any], Any]:
    from airflow.sdk.execution_time.comms import ErrorResponse

    def read(_ti_id: Any) -> Any:
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": status}))

    return read


def test_a_try_that_was_cleared_has_no_record_and_a_server_that_fails_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, ti_id = "airflow.sdk.execution_time.hitl.get_hitl_detail_content_detail", str(uuid4())

    monkeypatch.setattr(place, failing(404))
    assert look_at_answers(showings=[ti_id]).value == {ti_id: None}

    monkeypatch.setattr(place, failing(500))
    with pytest.raises(ServiceUnavailableError, match="does not say what was answered"):
        look_at_answers(showings=[ti_id])


# --- The reconciler --------------------------------------------------------------------------------------------------


@pytest.fixture
def reconciler(airflow: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """In an environment of its own: other tests leave models in the common one as they like."""
    monkeypatch.setenv("AIRFLOW__ML_LIFECYCLE__ENVIRONMENT", "reconciled")
    return airflow_reconcile_dag(str(airflow / "team" / "dags" / "ml_lifecycle_reconcile.py"))


def test_the_reconciler_runs_alone_every_quarter_of_an_hour(reconciler: Any) -> None:
    assert reconciler.dag_id == "ml_lifecycle_reconcile"
    assert (reconciler.schedule, reconciler.max_active_runs, reconciler.catchup) == ("*/15 * * * *", 1, False)
    assert [task.task_id for task in reconciler.tasks] == ["reconcile"]


def test_its_dag_file_makes_it_and_airflow_finds_the_words_that_it_looks_for() -> None:
    file = PROJECT / "dags" / "ml_lifecycle_reconcile.py"
    spec = importlib.util.spec_from_file_location("reconcile_dag_file", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.dag.dag_id == "ml_lifecycle_reconcile"
    assert module.dag.fileloc == str(file)
    assert {"airflow", "dag"} <= {word for word in ("airflow", "dag") if word in file.read_text().lower()}


def test_what_somebody_moved_is_set_back_and_one_models_fault_hinders_no_other(dags: Dags, reconciler: Any) -> None:
    for model in ("moved_a", "moved_b"):
        champions(dags(model, UNATTENDED), model, 2)
    task = reconciler.get_task("reconcile")
    tools = tools_for(context_of(task))
    for model in ("moved_a", "moved_b"):
        tools.registry.set_alias(model, "champion", 1)
    tools.registry.tag_model("moved_a", {"ml_lifecycle.alias.champion": FOREIGN})
    context = context_of(task)

    with pytest.raises(AirflowFailException, match=r"moved_a: .*belongs to the environment 'prod'"):
        task.execute(context)

    reports = {report["model"]: report for report in context["pushed"]["return_value"]}
    assert reports["moved_b"]["repaired"]
    assert reports["moved_b"]["violations"] == []
    assert (tools.registry.alias("moved_a", "champion"), tools.registry.alias("moved_b", "champion")) == (1, 2)
    tools.registry.tag_model("moved_a", {"ml_lifecycle.alias.champion": ""})
    assert {one["model"] for one in task.execute(context_of(task)) if one["repaired"]} == {"moved_a"}


FOREIGN = '{"environment": "prod", "epoch": 1, "version": 1, "digest": "x", "decision": null}'


def test_a_questions_second_list_is_told_once(dags: Dags, reconciler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        "ml_lifecycle.hooks.notify.notify_escalated", lambda _context, asked, _posting: told.append(asked.ask.model)
    )
    task = reconciler.get_task("reconcile")
    tools = tools_for(context_of(task))
    now = datetime.now(timezone.utc)
    ask = Ask(
        model="overdue",
        environment="reconciled",
        version=1,
        digest="a" * 64,
        dataset_fingerprint="b" * 64,
        metrics_digest="c" * 64,
        gate_verdict="pass",
        policy_digest="d" * 64,
        epoch=0,
        terms=ApprovalTerms(approvers=("ada",), escalate_to=("olga",), escalate_after_s=60),
    )
    tools.ledger.ask(ask, requested_by=None, at=now - timedelta(minutes=2), expires_at=now + timedelta(hours=1))
    place = {"dag_id": "overdue_release", "run_id": "r", "task_id": "approve"}
    tools.ledger.post(Posting(ask_id=ask.ask_id, model="overdue", environment="reconciled", **place), at=now)

    for _ in range(2):
        task.execute(context_of(task))

    assert told == ["overdue"]
