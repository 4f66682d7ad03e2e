"""From an Airflow connection, or none, to the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from ml_lifecycle.core.errors import ConfigurationError
from ml_lifecycle.hooks.settings import Settings, read_settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from ml_lifecycle.backends.ledger.base import Ledger

DRIVERS = {"postgres": "postgresql", "postgresql": "postgresql", "sqlite": "sqlite"}
"""SQLAlchemy's dialect by the connection's type."""


class LedgerHook(BaseHook):
    """Gives the ledger of this deployment.

    :param settings: Name the connection, and the folder of the SQLite file that serves while it is not defined.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or read_settings()

    def get_conn(self) -> Ledger:
        """The ledger; its tables are made at the first use.

        :raises ConfigurationError: the connection cannot be used, SQLite is asked to serve several machines, or the
            file is that of Airflow's own database.
        """
        from ml_lifecycle.backends.ledger.sql import SqlLedger

        url = self.url()
        if url.startswith("sqlite"):
            _refuse_sqlite_beyond_one_machine(self.settings.ledger_conn_id)
            _refuse_airflow_s_own_file(url, self.settings.ledger_conn_id)
        return SqlLedger(url)

    def url(self) -> str:
        """SQLAlchemy's address of the ledger, password included: never log it."""
        try:
            connection = self.get_connection(self.settings.ledger_conn_id)
        except AirflowNotFoundException:
            self.settings.data_root.mkdir(parents=True, exist_ok=True)
            return f"sqlite:///{self.settings.data_root / 'ledger.db'}"
        return _url_of(connection, where=f"connection {self.settings.ledger_conn_id!r}")


def _url_of(connection: Connection, *, where: str) -> str:
    from sqlalchemy.engine import URL

    driver = DRIVERS.get(connection.conn_type or "")
    if driver is None:
        raise ConfigurationError(
            f"no ledger is kept in a {connection.conn_type!r}",
            where=where,
            way_out=f"use a connection of type {', '.join(sorted(DRIVERS))}",
        )
    if driver == "sqlite":
        path = connection.host or connection.schema or ""
        if not path.startswith("/"):
            raise ConfigurationError(
                f"the SQLite file {path!r} is not an absolute path", where=where, way_out="write it from the root"
            )
        return f"sqlite:///{path}"
    url = URL.create(
        driver,
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
        query={name: str(value) for name, value in connection.extra_dejson.items() if isinstance(value, str | int)},
    )
    return url.render_as_string(hide_password=False)


def _refuse_airflow_s_own_file(url: str, conn_id: str) -> None:
    """While the ledger writes an answer, Airflow has to write it too: in one SQLite file it would wait for itself.

    A task is not told where Airflow keeps its data, the API server is.
    """
    from sqlalchemy import make_url

    airflows = str(conf.get("database", "sql_alchemy_conn", fallback=""))
    if not airflows.startswith("sqlite"):
        return
    files = [Path(make_url(one).database or "").resolve() for one in (url, airflows)]
    if files[0] == files[1]:
        raise ConfigurationError(
            f"the ledger's file {str(files[0])!r} is Airflow's own database, in which no answer could be written",
            where=f"connection {conn_id!r}",
            way_out="name another file, or leave the connection out",
        )


def _refuse_sqlite_beyond_one_machine(conn_id: str) -> None:
    executors = [name.strip() for name in str(conf.get("core", "executor", fallback="LocalExecutor")).split(",")]
    others = [name for name in executors if not name.endswith("LocalExecutor")]
    if others:
        raise ConfigurationError(
            f"a SQLite ledger cannot serve {', '.join(others)}, whose tasks may run on several machines",
            where="[core] executor",
            way_out=f"define the connection {conn_id!r} with a PostgreSQL database",
        )
