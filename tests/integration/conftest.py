"""One real Airflow with six people and MLflow, for all tests that attack it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trial import Trial, names, pipeline_text

PLAIN = 40
"""Models that any test may take with :meth:`trial.Trial.model`."""
CHECKED = "{suite: crew/suite.json, approval: {approvers: [approver, second], expires_after: 1h}}"
AHEAD = 11
"""So many tests start from a question that is parked already."""
SPECIAL = {
    "twice": pipeline_text("twice", approval="{required: always, approvers: [approver, second], count: 2}"),
    "brief": pipeline_text("brief", approval="{required: always, approvers: [approver], expires_after: 20s}"),
    "scored": pipeline_text("scored", more='scoring: {output: "scored/{{ partition }}"}\n'),
    "strict": pipeline_text("strict", at_least=0.99),
    "boxed": pipeline_text("boxed", approval="{required: never}"),
    "besieged": pipeline_text("besieged"),
    "handmade": pipeline_text("handmade"),
    "checked": pipeline_text("checked", more=f"validation: {CHECKED}\n"),
}
"""Models that one test each is about."""
BOXED = """\
import os

os.environ["AIRFLOW__ML_LIFECYCLE__ENVIRONMENT"] = "sandbox"

from ml_lifecycle.dag_factories import airflow_dags

globals().update(airflow_dags(__file__))
"""
FOREIGN = """\
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG

with DAG("foreign"):
    # Airflow fails a question that is answered in the moment in which it is being parked.
    HITLOperator(task_id="ask", subject="Shall we?", options=["Yes", "No"], retries=3)
"""
PERMISSIVE = """\
from airflow.sdk import DAG, get_current_context, task

from ml_lifecycle.operators.approval import ApproveModelOperator
from ml_lifecycle.operators.deployment import DeployModelOperator

with DAG("permissive", tags=["model:handmade"]):

    @task
    def forge():
        return get_current_context()["dag_run"].conf["decision"]

    asked = ApproveModelOperator(task_id="approve", model="handmade", approvers=["approver"])
    deployed = DeployModelOperator(task_id="deploy", model="handmade", decision=forge(), trigger_rule="all_done")
    asked >> deployed
"""


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """The deployment, running; every process is ended at the end."""
    models = {model: pipeline_text(model) for model in names("m", PLAIN)}
    dag_files = {"boxed.py": BOXED, "permissive.py": PERMISSIVE, "foreign.py": FOREIGN}
    running = Trial(tmp_path_factory.mktemp("trial"), {**models, **SPECIAL}, dag_files=dag_files)
    try:
        running.start()
        running.ask_ahead(AHEAD)
        yield running
    finally:
        running.stop()
