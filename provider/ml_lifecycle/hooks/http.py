"""From an Airflow connection to a session with a service that speaks HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from ml_lifecycle.core.errors import ConfigurationError
from ml_lifecycle.hooks.mlflow import address_of

if TYPE_CHECKING:
    from airflow.sdk import Connection


class HttpSession(requests.Session):
    """A session of one service: it knows the address, brings the credentials, and waits for no answer for ever.

    :param base_url: The service's address without a trailing slash, and without credentials.
    :param timeout_s: Seconds that the service may keep silent.
    """

    def __init__(self, base_url: str, *, timeout_s: float) -> None:
        super().__init__()
        self.base_url = base_url
        # What it is sent on to would get the body, and perhaps the credentials.
        self.max_redirects = 0
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Impatient(timeout_s))


class _Impatient(HTTPAdapter):
    """Gives every request that has none a time-out."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(max_retries=0)
        self._timeout_s = timeout_s

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        options["timeout"] = options.get("timeout") or self._timeout_s
        return super().send(request, **options)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Anonymous(AuthBase):
    """Keeps a ``.netrc`` of the machine from giving somebody's password away."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def http_session(service: str, connection_id: str, *, timeout_s: float) -> HttpSession:  # noqa: ARG001  # one of several
    """A session of the service that a connection of type ``http`` describes; nothing is sent yet.

    Host, port and schema make the address; login and password authenticate, a password alone is a bearer token. In the
    extra, ``headers`` are sent with every request, ``verify`` is the file of the authority that signed the service's
    certificate, and ``timeout_s`` is how long it may keep silent.

    :raises ConfigurationError: the connection is not defined or cannot be used.
    """
    where = f"connection {connection_id!r}"
    try:
        connection = BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            "it is not defined", where=where, way_out="add a connection of type http by that id"
        ) from None
    extra = connection.extra_dejson
    session = HttpSession(_address(connection, where), timeout_s=_seconds(extra.get("timeout_s"), timeout_s, where))
    session.auth = _auth(connection)
    session.headers.update(_headers(extra.get("headers"), where))
    session.verify = _verified_by(extra.get("verify"), where)
    return session


def _address(connection: Connection, where: str) -> str:
    if not (connection.host or "").strip():
        raise ConfigurationError("it names no host", where=where, way_out="enter the service's host")
    address = address_of(connection)
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"{parts.scheme or 'its address'!r} is not a scheme that is spoken here",
            where=where,
            way_out="write the host without a scheme, or with http or https",
        )
    if parts.username or parts.password:
        raise ConfigurationError(
            "its host holds credentials, which would show in messages",
            where=where,
            way_out="enter login and password in their own fields",
        )
    return address


def _auth(connection: Connection) -> AuthBase:
    if connection.login:
        return HTTPBasicAuth(connection.login, connection.password or "")
    return _Bearer(connection.password) if connection.password else _Anonymous()


def _headers(value: object, where: str) -> dict[str, str]:
    if value in (None, ""):
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise ConfigurationError(
            "its headers are not texts by name", where=where, way_out='write {"headers": {"X-Api-Key": "..."}}'
        )
    return dict(value)


def _verified_by(value: object, where: str) -> bool | str:
    if value in (None, "", True):
        return True
    if isinstance(value, str) and value.startswith("/"):
        return value
    raise ConfigurationError(
        "its verify is not the absolute path of a certificate file",
        where=where,
        way_out="name the file of the authority that signed the service's certificate",
    )


def _seconds(value: object, otherwise: float, where: str) -> float:
    if value in (None, ""):
        return otherwise
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(
            f"its timeout_s is {value!r}", where=where, way_out="enter a number of seconds above 0"
        )
    return seconds
