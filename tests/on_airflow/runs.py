"""What a run of a DAG came to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from airflow.sdk.execution_time.context import OutletEventAccessors


def states(run: Any) -> dict[str, str]:
    """The state of each task of a run, by its id."""
    return {task.task_id: str(getattr(task.state, "value", task.state)) for task in run.get_task_instances()}


def result(run: Any, task_id: str) -> Any:
    """What a task of a run returned."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(key="return_value", task_ids=task_id, dag_ids=run.dag_id, run_id=run.run_id)
        found = session.execute(query.with_only_columns(XComModel.value)).first()
    return XComModel.deserialize_value(found) if found else None


def context_of(task: Any, *, dag: Any = None, run_id: str = "manual__1", **dag_run: Any) -> Any:
    """What Airflow hands to a task of a run that was triggered by hand, with nothing behind it.

    ``context["pushed"]`` collects the task's XComs.
    """
    pushed: dict[str, Any] = {}
    instance = SimpleNamespace(id=uuid4(), map_index=-1, xcom_push=lambda key, value: pushed.update({key: value}))
    facts = {"run_type": "manual", "conf": {}, "triggering_user_name": "engineer", **dag_run}
    return {
        "dag": dag or task.dag,
        "task": task,
        "run_id": run_id,
        "dag_run": SimpleNamespace(**facts),
        "ti": instance,
        "task_instance": instance,
        "outlet_events": OutletEventAccessors(),
        "pushed": pushed,
    }
