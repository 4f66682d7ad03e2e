"""Runs a stage: what it was handed is held against the ledger, what it concludes is written there.

A job holds no secret; the tools may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from ml_lifecycle.backends.data.base import DataStore
from ml_lifecycle.backends.deployment.base import no_client
from ml_lifecycle.backends.ledger.base import Ledger
from ml_lifecycle.backends.signing.keys import Keys, SigningKey
from ml_lifecycle.backends.tracking.base import Registry, Tracking
from ml_lifecycle.core.contracts import Contract, Evidence, Posting
from ml_lifecycle.core.errors import EvidenceError, MissingLibraryError

Job = TypeVar("Job", bound=Contract)
Result = TypeVar("Result", bound=Contract)

EXTRAS = {
    "boto3": "amazon",
    "botocore": "amazon",
    "duckdb": "duckdb",
    "numpy": "pandas",
    "pandas": "pandas",
    "pyarrow": "pandas",
    "great_expectations": "great-expectations",
    "matplotlib": "sklearn",
    "scipy": "sklearn",
    "skops": "sklearn",
    "sklearn": "sklearn",
    "evidently": "evidently",
    "mlflow": "mlflow",
    "onnxruntime": "onnx",
    "skl2onnx": "onnx",
    "kubernetes": "kubernetes",
    "onnx": "onnx",
    "fastapi": "serving",
    "supervisor": "serving",
    "uvicorn": "serving",
}
"""Which extra of this package brings a library."""


def nothing_recorded(posting: Posting) -> str | None:  # noqa: ARG001  # as whoever can look takes it
    """What is known of a question's answer where nobody can look."""
    return None


def utc_now() -> datetime:
    """The clock of every stage."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Tools:
    """One deployment's backends."""

    data: DataStore
    project: Path
    """The folder that holds ``dags/`` and ``include/``: callables and suites are found below it."""
    tracking: Tracking
    registry: Registry
    ledger: Ledger
    environment: str = "dev"
    run: str = "command"
    """Whose results are recorded: Airflow's ``dag_id/run_id``."""
    estimators: tuple[str, ...] = ("sklearn.",)
    """Prefixes of the classes that a pipeline may name as its estimator."""
    trusted_types: tuple[str, ...] = ()
    """Types that model packages may hold beside those that this package lists."""
    report_url: Callable[[str], str] = field(default=str)
    """Where a browser finds a published report; empty where it finds none."""
    answers: Callable[[Posting], str | None] = field(default=nothing_recorded)
    """The option that Airflow records as chosen for a showing of a question; ``None`` where it records none."""
    signing_key: Callable[[], SigningKey | None] = field(default=lambda: None)
    """What releases are told under; ``None`` where nothing is told."""
    approver_keys: Callable[[], Keys | None] = field(default=lambda: None)
    """Whose signed answers count; ``None`` where the deployment does not say."""
    client: Callable[[str, str], Any] = field(default=no_client)
    """``client(service, connection_id)``, as :attr:`ml_lifecycle.backends.deployment.base.Means.client` describes."""
    serving_home: Path | None = None
    """Where the model servers of this machine live; ``None`` where there are none."""
    clock: Callable[[], datetime] = field(default=utc_now)


def run(stage: Callable[[Job, Tools], Result], job: Job, tools: Tools, *, model: str) -> Result:
    """Run one stage on one job, on evidence only.

    :param model: Whose audit the result belongs to.
    :raises EvidenceError: the job carries a result that no stage wrote into the ledger.
    :raises MissingLibraryError: the stage needs an extra that is not installed here.
    """
    verify(job, tools, model=model)
    with extras_named():
        result = stage(job, tools)
    if isinstance(result, Evidence):
        record(stage.__name__, result, tools, model=model)
    return result


@contextmanager
def extras_named() -> Iterator[None]:
    """Say which extra brings a library that is not installed here.

    :raises MissingLibraryError: one of them is needed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        raise MissingLibraryError(library, EXTRAS[library]) from None


def record(stage: str, result: Evidence, tools: Tools, *, model: str) -> str:
    """Write what a stage concluded into the ledger; returns its digest."""
    return tools.ledger.record_result(tools.environment, tools.run, stage, result, model=model, at=tools.clock())


def verify(job: Contract, tools: Tools, *, model: str) -> None:
    """Refuse a job that carries a result which no stage of this run concluded.

    A genuine result of another run is as little this run's as a made-up one.

    :param model: Whose audit tells it.
    """
    for name in type(job).model_fields:
        value = getattr(job, name)
        if not isinstance(value, Evidence):
            continue
        digest = value.content_digest()
        if tools.ledger.has_result(tools.environment, digest, run=tools.run):
            continue
        error = EvidenceError(
            f"{name} ({type(value).__name__} {digest[:12]}) is not a result that the ledger knows of this run",
            where=f"{tools.run} in environment {tools.environment}",
            way_out="run the stage that makes it; a result edited between tasks, or taken from another run, is refused",
        )
        tools.ledger.record_refusal(
            model, tools.environment, action="evidence", by=tools.run, why=str(error), at=tools.clock()
        )
        raise error
