"""Plain clients for backends, from Airflow's connections."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ELSEWHERE = {
    "kubernetes": "ml_lifecycle.hooks.kubernetes:kubernetes_client",
    "http": "ml_lifecycle.hooks.http:http_session",
}
_AMAZON = "ml_lifecycle.hooks.amazon:amazon_client"


def client_of(service: str, connection_id: str, *, timeout_s: float) -> Any:
    """A client of the service that the connection leads to; every call of it ends within the time-out.

    :param service: ``kubernetes``, ``http``, or one of boto3's, such as ``sagemaker``.
    :raises ConfigurationError: the connection is missing or cannot be used.
    :raises MissingLibraryError: the extra that brings the client is not installed.
    """
    module, _, name = _ELSEWHERE.get(service, _AMAZON).partition(":")
    return getattr(import_module(module), name)(service, connection_id, timeout_s=timeout_s)
