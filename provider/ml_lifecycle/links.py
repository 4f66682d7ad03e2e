"""Buttons on a task: to its MLflow run or version, and to its report.

Airflow asks for a link on the worker, right after the task, on the very operator that ran: what the operator
remembered while it worked is all that a link needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink, conf

from ml_lifecycle.core.errors import LifecycleError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from ml_lifecycle.stages.runner import Tools

REPORTS = "reports"
"""Folder below the data root, and last part of the plugin's address."""
PLUGIN_PREFIX = "/ml-lifecycle"


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


def report_address(dag_id: str, uri: str) -> str:
    """Where a browser finds a published report; an empty text for a file that is no report."""
    folder, _, path = uri.partition("/")
    if folder != REPORTS or not path:
        return ""
    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}{PLUGIN_PREFIX}/{REPORTS}/{quote(dag_id, safe='')}/{quote(path)}"


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
