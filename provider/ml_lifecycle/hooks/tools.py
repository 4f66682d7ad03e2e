"""The backends of one deployment, for one run of one DAG."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ml_lifecycle.hooks.clients import client_of
from ml_lifecycle.hooks.data import data_store
from ml_lifecycle.hooks.ledger import LedgerHook
from ml_lifecycle.hooks.mlflow import MlflowHook
from ml_lifecycle.hooks.reports import report_address
from ml_lifecycle.hooks.settings import Settings, read_settings
from ml_lifecycle.hooks.signing import SigningHook, approver_keys

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


def tools_for(context: Context) -> Tools:
    """The tools of the task that this context belongs to.

    :raises ConfigurationError: an option or a connection is missing or cannot be used.
    """
    settings = read_settings()
    tools = build_tools(settings, project=project_of(context, settings), run=run_of(context))
    return replace(tools, report_url=partial(report_address, context["dag"].dag_id))


def build_tools(settings: Settings, *, project: Path, run: str) -> Tools:
    """The tools that the settings describe.

    :param run: Whose results are recorded.
    """
    from ml_lifecycle.stages.runner import Tools

    tracking = MlflowHook(settings.mlflow_conn_id, timeout_s=settings.http_timeout_s).get_conn()
    return Tools(
        data=data_store(settings),
        project=project,
        tracking=tracking,
        registry=tracking,
        ledger=LedgerHook(settings).get_conn(),
        signing_key=SigningHook(settings).get_conn,
        approver_keys=partial(approver_keys, settings),
        environment=settings.environment,
        run=run,
        estimators=settings.estimators,
        trusted_types=settings.trusted_types,
        client=partial(client_of, timeout_s=settings.http_timeout_s),
        serving_home=settings.serving_home,
    )


def place_of(context: Context) -> dict[str, str]:
    """What a probe needs to make the task's tools again: the project, and the run."""
    return {"project": str(project_of(context, read_settings())), "run": run_of(context)}


def run_of(context: Context) -> str:
    """``dag_id/run_id``."""
    return f"{context['dag'].dag_id}/{context['run_id']}"


def project_of(context: Context, settings: Settings) -> Path:
    """The folder below which the DAG's callables and suites are found."""
    return settings.project_root or project_folder(Path(context["dag"].fileloc))


def project_folder(dag_file: Path) -> Path:
    """The parent of the nearest folder above that is called ``dags``, else the file's own folder."""
    for folder in dag_file.parents:
        if folder.name == "dags":
            return folder.parent
    return dag_file.parent
