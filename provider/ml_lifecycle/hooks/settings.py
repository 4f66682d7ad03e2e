"""The ``[ml_lifecycle]`` section of Airflow's configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from airflow.sdk import conf

from ml_lifecycle.backends.s3 import is_address, split_address
from ml_lifecycle.core.errors import ConfigurationError

SECTION = "ml_lifecycle"


@dataclass(frozen=True)
class Settings:
    """What one deployment says about all its models."""

    environment: str
    data_root: Path
    """Absolute folder; data is read and results are published below it, unless ``data_address`` says where."""
    project_root: Path | None
    """``None``: found beside each DAG file."""
    mlflow_conn_id: str
    ledger_conn_id: str
    signing_conn_id: str
    approver_keys: Path | None
    """Absolute; ``None`` where no answer from outside is expected."""
    estimators: tuple[str, ...]
    trusted_types: tuple[str, ...]
    http_timeout_s: float
    serving_home: Path | None = None
    """Absolute; where the model servers of this machine live."""
    data_address: str = ""
    """Where data is read and results are published, such as ``s3://bucket/prefix``; empty: below ``data_root``."""
    aws_conn_id: str = "aws_default"
    """Leads to the bucket of ``data_address``."""
    notifiers: str = ""
    """JSON: a list of ``{"class": ..., "kwargs": {...}}``; read where somebody is to be told."""


def read_settings() -> Settings:
    """The options in force, with their defaults.

    :raises ConfigurationError: an option holds a value that cannot be used.
    """
    address = _address("data_root")
    return Settings(
        environment=_option("environment", "dev"),
        data_root=(None if address else _path("data_root")) or _airflow_home() / SECTION,
        data_address=address,
        aws_conn_id=str(conf.get(SECTION, "aws_conn_id", fallback="aws_default")).strip(),
        project_root=_path("project_root"),
        mlflow_conn_id=_option("mlflow_conn_id", "mlflow_default"),
        ledger_conn_id=_option("ledger_conn_id", "ml_lifecycle_ledger"),
        signing_conn_id=_option("signing_conn_id", "ml_lifecycle_signing"),
        approver_keys=_path("approver_keys"),
        estimators=_list("estimators", "sklearn."),
        trusted_types=_list("trusted_types", ""),
        http_timeout_s=_seconds("http_timeout_s", "30"),
        serving_home=_path("serving_home") or _airflow_home() / "serving",
        notifiers=_option("notifiers", ""),
    )


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()


def _option(name: str, default: str) -> str:
    return str(conf.get(SECTION, name, fallback=default)).strip() or default


def _list(name: str, default: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _option(name, default).split(",") if part.strip())


def _address(name: str) -> str:
    """What the option says, where that is an address of S3; empty where it is a folder."""
    text = _option(name, "")
    if not is_address(text):
        return ""
    try:
        split_address(text)
    except ConfigurationError as error:
        raise ConfigurationError(error.what, where=f"[{SECTION}] {name}", way_out=error.way_out) from None
    return text


def _path(name: str) -> Path | None:
    text = _option(name, "")
    if text and not Path(text).is_absolute():
        raise ConfigurationError(
            f"{text!r} is not an absolute path",
            where=f"[{SECTION}] {name}",
            way_out="write it from the root; tasks have no fixed working directory",
        )
    return Path(text) if text else None


def _seconds(name: str, default: str) -> float:
    text = _option(name, default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(
            f"{text!r} is not a time in seconds", where=f"[{SECTION}] {name}", way_out="write a number above 0"
        )
    return seconds
