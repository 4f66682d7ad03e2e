"""What a batch transform of SageMaker is waited for with, and stopped by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_lifecycle.sensors.base import tools_of_probe
from ml_lifecycle.triggers import Status


def look_at_transform(*, project: str, run: str, name: str, aws_conn_id: str) -> Status:
    """Whether the job has ended; returns how."""
    from ml_lifecycle.backends.deployment.sagemaker_transform import status

    found = status(name, client_at(project, run, aws_conn_id))
    return Status(found.state != "running", f"{name} is {found.state} {found.detail}".rstrip(), found.to_xcom())


def stop_transform(*, project: str, run: str, name: str, aws_conn_id: str) -> None:
    """Have the job end, and cost nothing more."""
    from ml_lifecycle.backends.deployment.sagemaker_transform import stop

    stop(name, client_at(project, run, aws_conn_id))


def client_at(project: str, run: str, aws_conn_id: str) -> Callable[[str], Any]:
    """Clients of one connection, by service."""
    client = tools_of_probe(project, run).client
    return lambda service: client(service, aws_conn_id)
