"""Buttons on a task: to its MLflow run or version, and to its report.

Airflow asks for a link on the worker, right after the task, on the very operator that ran: what the operator
remembered while it worked is all that a link needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from ml_lifecycle.core.errors import LifecycleError
from ml_lifecycle.hooks.reports import report_address

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from ml_lifecycle.stages.runner import Tools


class MlflowRunLink(BaseOperatorLink):
    """The MLflow run that the task worked on."""

    name = "MLflow run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow names it
        """The run's page, or an empty text where there is none."""
        return str(getattr(operator, "mlflow_run_url", ""))


class MlflowVersionLink(BaseOperatorLink):
    """The registered version that the task is about."""

    name = "MLflow version"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow names it
        """The version's page, or an empty text where there is none."""
        return str(getattr(operator, "mlflow_version_url", ""))


class ReportLink(BaseOperatorLink):
    """The report that the task published."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The report's page below the plugin's address, or an empty text where there is none."""
        return report_address(ti_key.dag_id, str(getattr(operator, "report_uri", "")))


def remember_run(operator: Any, run_id: str, tools: Tools) -> None:
    """Keep the address of a run's page for :class:`MlflowRunLink`."""
    try:
        operator.mlflow_run_url = tools.tracking.get_run(run_id).url
    except LifecycleError as error:
        _no_link(operator, error)


def remember_version(operator: Any, name: str, version: int, tools: Tools) -> None:
    """Keep the address of a version's page for :class:`MlflowVersionLink`."""
    try:
        found = tools.registry.version(name, version)
        operator.mlflow_version_url = found.url if found else ""
    except LifecycleError as error:
        _no_link(operator, error)


def _no_link(operator: Any, error: LifecycleError) -> None:
    # The task's work is done and recorded; a button is not worth failing it.
    operator.log.warning("The task has no link to MLflow: %s", error)
