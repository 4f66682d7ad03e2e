"""What Airflow's API server learns: an address for published reports, and a guard over the answers to approvals.

The only module that uses Airflow's internals: nothing public lets a plugin ask who is calling. Plugins are loaded in
every process, so nothing of it is imported before the API server asks for it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from ml_lifecycle.hooks.reports import PLUGIN_PREFIX, REPORTS

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Scope

    from ml_lifecycle.backends.ledger.base import Ledger
    from ml_lifecycle.guard import AnswerGuard, Place, Task

HEADERS = {
    # A report shows other people's column names and values: its scripts run in an origin of their own, without
    # Airflow's cookies.
    "Content-Security-Policy": "sandbox allow-scripts",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".png": "image/png"}
"""Everything else is offered as a download."""


class _AppsOnDemand:
    """The plugin's applications, built when the API server asks for them."""

    def __get__(self, instance: object, owner: type) -> list[dict[str, Any]]:
        return [{"name": "ml-lifecycle", "app": reports_app(), "url_prefix": PLUGIN_PREFIX}]


def guarded(app: ASGIApp) -> AnswerGuard:
    """Airflow's API server behind the guard."""
    from ml_lifecycle.guard import AnswerGuard

    return AnswerGuard(app, _ApiServer())


class MlLifecyclePlugin(AirflowPlugin):
    """Serves a model's reports to whoever may read its DAGs, and judges the answers to its approvals."""

    name = "ml_lifecycle"
    fastapi_apps = _AppsOnDemand()
    # Airflow types both lists as untyped ones.
    fastapi_root_middlewares = [{"name": "ml-lifecycle answers", "middleware": guarded}]  # noqa: RUF012  # as its base


def reports_app() -> FastAPI:
    """``GET /reports/{dag_id}/{stage}/{model}/...``, for signed-in users who may read the DAG, and no other page."""
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import Response

    app = FastAPI(title="ml-lifecycle", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get(
        f"/{REPORTS}/{{dag_id}}/{{path:path}}",
        dependencies=[Depends(requires_access_dag(method="GET"))],
        response_model=None,
    )
    def report(dag_id: str, path: str) -> Any:
        found = find_report(path, models=_models_of(dag_id))
        if found is None:
            raise HTTPException(404, f"DAG {dag_id!r} has no such report")
        kind = TYPES.get(found.suffix)
        offered = {} if kind else {"Content-Disposition": f'attachment; filename="{found.name}"'}
        return Response(found.content, media_type=kind or "application/octet-stream", headers={**HEADERS, **offered})

    return app


@dataclass(frozen=True)
class Report:
    """One file of a published report."""

    name: str
    content: bytes

    @property
    def suffix(self) -> str:
        """Such as ``.html``."""
        return PurePosixPath(self.name).suffix


def find_report(path: str, *, models: frozenset[str]) -> Report | None:
    """The published file, or ``None`` where there is none or it belongs to another model.

    :param path: ``<stage>/<model>/...`` below the reports' folder; a folder stands for its ``index.html``.
    :param models: The models whose reports may be read.
    """
    from ml_lifecycle.core.errors import DataError
    from ml_lifecycle.hooks.data import data_store
    from ml_lifecycle.hooks.settings import read_settings

    stage, _, rest = path.partition("/")
    model, _, below = rest.partition("/")
    if not stage or not below or model not in models:
        return None
    store, uri = data_store(read_settings()), f"{REPORTS}/{path.rstrip('/')}"
    for name in (uri, f"{uri}/index.html"):
        with suppress(DataError), store.file(name) as file:
            # A link inside a published folder may lead anywhere.
            return None if file.is_symlink() else Report(file.name, file.read_bytes())
    return None


def _models_of(dag_id: str) -> frozenset[str]:
    """The models that a DAG is about, by its tags ``model:<name>``."""
    from airflow.models.dag import DagTag
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        tags = session.scalars(select(DagTag.name).where(DagTag.dag_id == dag_id)).all()
    return frozenset(tag.removeprefix("model:") for tag in tags if tag.startswith("model:"))


class _ApiServer:
    """This process, as :class:`ml_lifecycle.guard.AnswerGuard` sees it."""

    def __init__(self) -> None:
        self._ledger: Ledger | None = None

    def environment(self) -> str:
        """What the options of this process say."""
        from ml_lifecycle.hooks.settings import read_settings

        return read_settings().environment

    def ledger(self) -> Ledger:
        """The ledger of this deployment, looked up once: the connection may lie in a secrets backend."""
        from ml_lifecycle.hooks.ledger import LedgerHook

        ledger = self._ledger or LedgerHook().get_conn()
        self._ledger = ledger
        return ledger

    def forget_ledger(self) -> None:
        """Look the connection up anew at the next use."""
        self._ledger = None

    def models_of(self, dag_id: str) -> frozenset[str]:
        """The models that a DAG is tagged with."""
        return _models_of(dag_id)

    def task(self, place: Place) -> Task | None:
        """The task as it stands in Airflow's database, with what its form offers."""
        from airflow.models.hitl import HITLDetail
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        from ml_lifecycle.guard import Task

        ti = TaskInstance
        wanted = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        statement = (
            select(ti.id, ti.state, ti.updated_at, HITLDetail.options, HITLDetail.body)
            .outerjoin(HITLDetail, HITLDetail.ti_id == ti.id)
            .where(*(column == value for column, value in zip(wanted, place, strict=True)))
        )
        with create_session(scoped=False) as session:
            row = session.execute(statement).one_or_none()
        return Task(str(row[0]), row[1], row[2], tuple(row[3] or ()), row[4] or "") if row else None

    async def person(self, scope: Scope, dag_id: str) -> str:
        """User name of whoever asks, by Airflow's own rules for this route.

        :raises HTTPException: nobody is signed in, or that person may not answer in this DAG.
        """
        from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
        from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_dag
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request

        request = Request({**scope, "path_params": {"dag_id": dag_id}})
        user = await get_user(request, None, await bearer_scheme(request))
        permit = requires_access_dag(method="PUT", access_entity=DagAccessEntity.HITL_DETAIL)
        await run_in_threadpool(permit, request, user)
        return str(user.get_name())
