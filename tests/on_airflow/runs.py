"""What a run of a DAG came to."""

from __future__ import annotations

from typing import Any


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
