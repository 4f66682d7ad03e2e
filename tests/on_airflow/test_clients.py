"""From Airflow's connections to plain clients of Kubernetes and of services that speak HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from ml_lifecycle.backends.deployment.kserve_objects import HTTP_ROUTE, INFERENCE_SERVICE
from ml_lifecycle.backends.deployment.kube import Namespace
from ml_lifecycle.core.errors import ConfigurationError, ServiceRefusedError, ServiceUnavailableError
from ml_lifecycle.hooks.clients import client_of
from tests.fakes.kube_api import TOKEN, Cluster, kube_api

SECRET = "s3cr3t-of-nobody"


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    """Define a connection."""
    if isinstance(fields.get("extra"), dict):
        fields["extra"] = json.dumps(fields["extra"])
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


class _Echo(BaseHTTPRequestHandler):
    """Tells what it was sent; sends whoever asks for /elsewhere to another place."""

    def do_GET(self) -> None:
        elsewhere = self.path == "/elsewhere"
        text = json.dumps(dict(self.headers)).encode()
        self.send_response(302 if elsewhere else 200)
        if elsewhere:
            self.send_header("Location", "http://127.0.0.1:9/stolen")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where somebody listens and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


# --- HTTP ------------------------------------------------------------------------------------------------------------


def sent(session: requests.Session) -> dict[str, str]:
    """The headers that a request of the session brings."""
    with session:
        found: dict[str, str] = session.get(f"{session.base_url}/").json()  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("fields", "authorization"),
    [
        ({"login": "ada", "password": "pw"}, "Basic YWRhOnB3"),
        ({"password": "token"}, "Bearer token"),
        ({}, None),
    ],
)
def test_a_service_is_shown_the_credentials_of_its_connection(
    monkeypatch: pytest.MonkeyPatch, echo: int, fields: dict[str, Any], authorization: str | None
) -> None:
    connect(monkeypatch, "endpoint", conn_type="http", host="127.0.0.1", port=echo, **fields)

    assert sent(client_of("http", "endpoint", timeout_s=5)).get("Authorization") == authorization


def test_the_machine_s_own_passwords_are_nobody_s_to_give_away(
    monkeypatch: pytest.MonkeyPatch, echo: int, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login root password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    connect(monkeypatch, "endpoint", conn_type="http", host="127.0.0.1", port=echo)

    assert "Authorization" not in sent(client_of("http", "endpoint", timeout_s=5))


def test_headers_such_as_a_key_come_from_the_extra(monkeypatch: pytest.MonkeyPatch, echo: int) -> None:
    extra = {"headers": {"X-Api-Key": SECRET}}
    connect(monkeypatch, "endpoint", conn_type="http", host="127.0.0.1", port=echo, extra=extra)

    assert sent(client_of("http", "endpoint", timeout_s=5))["X-Api-Key"] == SECRET


def test_nobody_is_followed_elsewhere(monkeypatch: pytest.MonkeyPatch, echo: int) -> None:
    connect(monkeypatch, "endpoint", conn_type="http", host="127.0.0.1", port=echo, password=SECRET)

    with client_of("http", "endpoint", timeout_s=5) as session, pytest.raises(requests.TooManyRedirects):
        session.get(f"{session.base_url}/elsewhere")


def test_a_service_that_keeps_silent_is_given_up(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    connect(monkeypatch, "endpoint", conn_type="http", host="127.0.0.1", port=silent, extra={"timeout_s": 0.1})

    with client_of("http", "endpoint", timeout_s=600) as session, pytest.raises(requests.ReadTimeout):
        session.get(f"{session.base_url}/")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "names no host"),
        ({"host": "ftp://example.com"}, "'ftp' is not a scheme"),
        ({"host": f"https://ada:{SECRET}@example.com"}, "its host holds credentials"),
        ({"host": "example.com", "extra": {"headers": {"X-Api-Key": 7}}}, "headers are not texts"),
        ({"host": "example.com", "extra": {"headers": [SECRET]}}, "headers are not texts"),
        ({"host": "example.com", "extra": {"verify": False}}, "its verify is not"),
        ({"host": "example.com", "extra": {"timeout_s": "nan"}}, "its timeout_s is 'nan'"),
    ],
)
def test_an_http_connection_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    connect(monkeypatch, "endpoint", conn_type="http", **fields)

    with pytest.raises(ConfigurationError, match=message) as refused:
        client_of("http", "endpoint", timeout_s=5)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("service", ["http", "kubernetes"])
def test_a_connection_that_is_not_defined_is_named(service: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"connection 'nowhere': it is not defined; .* type {service}"):
        client_of(service, "nowhere", timeout_s=5)


# --- Kubernetes ------------------------------------------------------------------------------------------------------


def kube_config(url: str, token: str = TOKEN) -> dict[str, Any]:
    """The content of a kube config file."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": token}}],
    }


@pytest.fixture
def api() -> Iterator[str]:
    with kube_api(Cluster()) as url:
        yield url


@pytest.mark.parametrize("way", ["address", "inline", "inline as text", "file", "in the provider's old words"])
def test_a_cluster_is_reached_in_each_way_that_a_connection_may_say(
    monkeypatch: pytest.MonkeyPatch, api: str, tmp_path: Path, way: str
) -> None:
    file = tmp_path / "config"
    file.write_text(json.dumps(kube_config(api)))
    ways: dict[str, dict[str, Any]] = {
        "address": {"host": api, "password": TOKEN},
        "inline": {"extra": {"kube_config": kube_config(api)}},
        "inline as text": {"extra": {"kube_config": json.dumps(kube_config(api))}},
        "file": {"extra": {"kube_config_path": str(file), "cluster_context": "test"}},
        "in the provider's old words": {"extra": {"extra__kubernetes__kube_config_path": str(file)}},
    }
    connect(monkeypatch, "cluster", conn_type="kubernetes", **ways[way])

    with client_of("kubernetes", "cluster", timeout_s=5) as client:
        found = Namespace(client, "default").list(INFERENCE_SERVICE, {})
        client.rest_client.pool_manager.clear()

    assert found == []


def test_an_address_without_a_scheme_is_spoken_to_in_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "cluster", conn_type="kubernetes", host="api.example.com", port=6443, password=SECRET)

    with client_of("kubernetes", "cluster", timeout_s=5) as client:
        assert client.configuration.host == "https://api.example.com:6443"
        assert client.configuration.verify_ssl


def test_an_api_server_that_keeps_silent_is_given_up(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    connect(monkeypatch, "cluster", conn_type="kubernetes", host=f"http://127.0.0.1:{silent}", password=SECRET)

    with client_of("kubernetes", "cluster", timeout_s=0.1) as client:
        with pytest.raises(ServiceUnavailableError, match="did not answer") as refused:
            Namespace(client, "default").get(HTTP_ROUTE, "flights")
        client.rest_client.pool_manager.clear()

    assert SECRET not in str(refused.value)


def test_a_token_that_is_not_taken_is_told_and_not_shown(monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    connect(monkeypatch, "cluster", conn_type="kubernetes", host=api, password=SECRET)

    with client_of("kubernetes", "cluster", timeout_s=5) as client:
        with pytest.raises(ServiceRefusedError, match=r"401.*let the connection's account get, list") as refused:
            Namespace(client, "default").get(HTTP_ROUTE, "flights")
        client.rest_client.pool_manager.clear()

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "it leads nowhere"),
        ({"extra": {"in_cluster": True}}, "its in_cluster cannot be used"),
        ({"extra": {"kube_config": f"{{{SECRET}"}}, "its kube_config cannot be used"),
        ({"extra": {"kube_config": {"users": [SECRET]}}}, "its kube_config cannot be used"),
        ({"extra": {"kube_config_path": "/nowhere/config"}}, "its kube_config_path cannot be used"),
        ({"extra": {"in_cluster": True, "kube_config_path": "/x"}}, "it says in_cluster and kube_config_path"),
        ({"host": "https://api", "extra": {"disable_verify_ssl": True}}, "wants certificates unchecked"),
    ],
)
def test_a_cluster_s_connection_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    connect(monkeypatch, "cluster", conn_type="kubernetes", **fields)

    with pytest.raises(ConfigurationError, match=message) as refused:
        client_of("kubernetes", "cluster", timeout_s=5)

    assert SECRET not in str(refused.value)
