"""From an Airflow connection to a tracking server's client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from ml_lifecycle.core.errors import ConfigurationError, LifecycleError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from ml_lifecycle.backends.tracking.local import LocalTracking
    from ml_lifecycle.backends.tracking.mlflow import MlflowTracking

FOLDER_SCHEME = "file://"
CHECKED_MODEL = "connection-test"


class MlflowHook(BaseHook):
    """Gives the client of the tracking server that a connection of type ``mlflow`` describes.

    A host of ``file:///folder`` keeps runs and versions in that folder instead, without any server: for one machine.

    :param mlflow_conn_id: The connection's id.
    :param timeout_s: Seconds that the server may keep silent within one request, where the connection does not say it.
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name, *, timeout_s: float = 30.0) -> None:
        super().__init__()
        self.mlflow_conn_id = mlflow_conn_id
        self.timeout_s = timeout_s

    def get_conn(self) -> MlflowTracking | LocalTracking:
        """The client; nothing is sent yet.

        :raises ConfigurationError: the connection is not defined, or names no host.
        """
        connection = self._connection()
        host = (connection.host or "").strip()
        if host.startswith(FOLDER_SCHEME):
            return _folder_client(host, where=self._where)
        if not host:
            raise ConfigurationError(
                "it names no host", where=self._where, way_out="enter the tracking server's host, or file:///folder"
            )
        from ml_lifecycle.backends.tracking.mlflow import MlflowTracking

        extra = connection.extra_dejson
        return MlflowTracking(
            address_of(connection),
            username=connection.login or None,
            password=(connection.password or None) if connection.login else None,
            # A password without a user name is a token.
            token=None if connection.login else (connection.password or None),
            ui_url=str(extra.get("ui_url") or "") or None,
            timeout_s=self._timeout(extra.get("timeout_s")),
            connection=self.mlflow_conn_id,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Ask the registry for a model that need not exist: the button of the connection's form."""
        try:
            self.get_conn().newest_version(CHECKED_MODEL)
        except LifecycleError as error:
            return False, str(error)
        return True, "The tracking server answers"

    @property
    def _where(self) -> str:
        return f"connection {self.mlflow_conn_id!r}"

    def _connection(self) -> Connection:
        try:
            return self.get_connection(self.mlflow_conn_id)
        except AirflowNotFoundException:
            raise ConfigurationError(
                "it is not defined",
                where=self._where,
                way_out="add a connection of type mlflow by that id, or name another in [ml_lifecycle] mlflow_conn_id",
            ) from None

    def _timeout(self, value: object) -> float:
        if value in (None, ""):
            return self.timeout_s
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise ConfigurationError(
                f"its timeout_s is {value!r}", where=self._where, way_out="enter a number of seconds above 0"
            )
        return seconds


def address_of(connection: Connection) -> str:
    """The server's address without a trailing slash; a host may be written with its scheme, port and path."""
    host = (connection.host or "").strip().rstrip("/")
    address = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    parts = urlsplit(address)
    if connection.port and parts.port is None:
        address = parts._replace(netloc=f"{parts.netloc}:{connection.port}").geturl()
    return address


def _folder_client(host: str, *, where: str) -> LocalTracking:
    from ml_lifecycle.backends.tracking.local import LocalTracking

    folder = Path(host.removeprefix(FOLDER_SCHEME))
    if not folder.is_absolute():
        raise ConfigurationError(
            f"{host!r} is not an absolute path", where=where, way_out="write it like file:///srv/mlflow"
        )
    return LocalTracking(folder)
