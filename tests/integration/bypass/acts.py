"""What somebody may do to a run through stock Airflow, and how to tell that it gave nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import requests

from ml_lifecycle.core.contracts import Ask, Decision
from trial import ENVIRONMENT, Trial


def mark(
    trial: Trial, person: str, dag_id: str, run_id: str, task_id: str, *, state: str = "success"
) -> requests.Response:
    """*Mark as success* on a task."""
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
    return trial.by(person).send("PATCH", path, json={"new_state": state})


def clear(trial: Trial, person: str, dag_id: str, run_id: str, *tasks: str, **options: Any) -> None:
    """*Clear* these tasks of a run; the scheduler runs them again."""
    body = {"dry_run": False, "dag_run_id": run_id, "task_ids": list(tasks), "only_failed": False, **options}
    before = {task: trial.task(dag_id, run_id, task)["try_number"] for task in tasks}
    trial.by(person).call("POST", f"dags/{dag_id}/clearTaskInstances", json=body)

    def begun() -> bool:
        found = {task: trial.task(dag_id, run_id, task) for task in tasks}
        return all(found[task]["try_number"] > before[task] for task in tasks)

    trial.wait_for(f"another try of {', '.join(tasks)}", begun)


def write_xcom(trial: Trial, person: str, dag_id: str, run_id: str, task_id: str, *, value: Any) -> None:
    """Write what a task handed on, whether it did or not."""
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries"
    reply = trial.by(person).send("PATCH", f"{path}/return_value", json={"value": value})
    if reply.status_code == requests.codes.not_found:
        reply = trial.by(person).send("POST", path, json={"key": "return_value", "value": value})
    reply.raise_for_status()


def open_ask(trial: Trial, model: str) -> Ask:
    """The question about a model that nobody has answered yet."""
    return trial.ledger.open_asks(model, ENVIRONMENT)[-1]


def forged(ask: Ask, **changes: Any) -> dict[str, Any]:
    """A decision that looks like the real one, and that nobody made."""
    decision = Decision(
        ask=ask.model_copy(update=changes),
        outcome="approve",
        decided_by="approver",
        approved_by=("approver",),
        decided_at=datetime.now(timezone.utc),
    )
    return decision.to_xcom()


def run_of(question: Mapping[str, Any]) -> tuple[str, str]:
    """DAG and run of a question."""
    task = question["task_instance"]
    return str(task["dag_id"]), str(task["dag_run_id"])


def nothing_moved(trial: Trial, model: str, *, champion: int | None = None) -> None:
    """The ledger's head and MLflow's alias are where they were, and the audit's chain is whole."""
    assert trial.champion(model) == champion
    assert trial.alias(model) == champion
    trial.ledger.verify_audit(model)


def audited(trial: Trial, model: str, person: str, reason: str) -> bool:
    """Whether the audit says that this person's vote was refused, and why."""
    rows = [row for row in trial.ledger.audit(model) if (row["actor"], row["action"]) == (person, "vote refused")]
    return any(reason in row["detail"] for row in rows)


def said(reply: requests.Response, status: int) -> str:
    """The sentence of a refusal, which Airflow's page shows."""
    assert reply.status_code == status, reply.text
    return str(reply.json()["detail"])
