"""From an Airflow connection to a client of a Kubernetes cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from ml_lifecycle.core.errors import ConfigurationError, MissingLibraryError
from ml_lifecycle.hooks.mlflow import address_of

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from kubernetes.client import ApiClient, Configuration

_WAYS = ("in_cluster", "kube_config_path", "kube_config")
_LEGACY = "extra__kubernetes__"


def kubernetes_client(service: str, connection_id: str, *, timeout_s: float) -> ApiClient:  # noqa: ARG001  # one of several
    """A client of the cluster that a connection of type ``kubernetes`` describes; nothing is sent yet.

    The extra says how, in the words of Airflow's own provider, which need not be installed: ``in_cluster``,
    ``kube_config_path``, or ``kube_config``, a file's whole content; the last two with ``cluster_context``. Without any
    of them, host and password are the API server's address and a token, and ``ca_file`` in the extra is the file of the
    authority that signed the server's certificate.

    :param timeout_s: How long the API server may keep silent.
    :raises ConfigurationError: the connection is not defined or cannot be used.
    :raises MissingLibraryError: the extra ``kubernetes`` is not installed.
    """
    where = f"connection {connection_id!r}"
    try:
        connection = BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            "it is not defined", where=where, way_out="add a connection of type kubernetes by that id"
        ) from None
    try:
        from kubernetes.client import ApiClient
    except ImportError:
        raise MissingLibraryError("kubernetes", "kubernetes") from None

    class ImpatientClient(ApiClient):
        """Gives every call that has none a time-out."""

        def call_api(self, *arguments: Any, **options: Any) -> Any:
            options["_request_timeout"] = options.get("_request_timeout") or timeout_s
            return super().call_api(*arguments, **options)

    return ImpatientClient(_configuration(connection, where))


def _configuration(connection: Connection, where: str) -> Configuration:
    from kubernetes.client import Configuration

    found = Configuration()
    # A repeated write would be told of a conflict with itself.
    found.retries = 0
    extra = {name.removeprefix(_LEGACY): value for name, value in connection.extra_dejson.items()}
    if extra.get("disable_verify_ssl"):
        raise ConfigurationError(
            "it wants certificates unchecked, which is not done here", where=where, way_out="name the authority's file"
        )
    ways = [name for name in _WAYS if extra.get(name)]
    if len(ways) > 1:
        raise ConfigurationError(f"it says {' and '.join(ways)}", where=where, way_out="leave all but one of them out")
    if ways:
        _load(ways[0], extra, found, where)
    else:
        _load_address(connection, extra, found, where)
    return found


def _load(way: str, extra: Mapping[str, Any], found: Configuration, where: str) -> None:
    config: Any = import_module("kubernetes.config")
    context = extra.get("cluster_context") or None
    try:
        if way == "in_cluster":
            config.load_incluster_config(client_configuration=found)
        elif way == "kube_config_path":
            path = str(extra[way])
            config.load_kube_config(path, context=context, client_configuration=found, persist_config=False)
        else:
            value = extra[way]
            content = json.loads(value) if isinstance(value, str) else value
            config.load_kube_config_from_dict(content, context=context, client_configuration=found)
    except Exception as error:  # noqa: BLE001  # whatever is wrong in it: the library has no error of its own for all
        # The library's text may quote what it read.
        raise ConfigurationError(
            f"its {way} cannot be used ({type(error).__name__})", where=where, way_out="try it with kubectl"
        ) from None


def _load_address(connection: Connection, extra: Mapping[str, Any], found: Configuration, where: str) -> None:
    if not (connection.host or "").strip():
        raise ConfigurationError(
            "it leads nowhere",
            where=where,
            way_out=f"say {', '.join(_WAYS)} in its extra, or enter host and token",
        )
    if not connection.schema and "://" not in (connection.host or ""):
        connection.schema = "https"
    found.host = address_of(connection)
    if connection.password:
        found.api_key = {"authorization": f"Bearer {connection.password}"}
    if extra.get("ca_file"):
        found.ssl_ca_cert = str(extra["ca_file"])
