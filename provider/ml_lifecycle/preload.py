"""What tasks import, imported once: for ``[core] mp_forkserver_preload``, never for a process of anything else.

LocalExecutor forks its workers from a process that has imported this module. It imports the tools, this package and
what Airflow itself would import in each task, and takes all of it from the garbage collector's care: a full collection
in a task would otherwise look through every object of every library, for half a second, and copy their pages. Tools
that are not installed are passed over.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
from collections.abc import Iterator
from itertools import chain
from typing import Final

from pydantic import BaseModel

import ml_lifecycle

# Some tools search every module that is loaded before them, so Airflow, which brings thousands, comes last.
TOOLS: Final = (
    "duckdb",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "requests",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.dates",
    "matplotlib.figure",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.pipeline",
    "scipy.stats",
    "skops.io",
    "great_expectations",
    "evidently",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "psycopg",
)
AIRFLOW: Final = (
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.execution_time.supervisor",
    "airflow.dag_processing.dagbag",
)
OWN: Final = ("core", "backends", "serving", "stages", "pipeline", "hooks", "operators", "sensors", "dag_factories")
_ENTERED_BY_THEIR_TOOL: Final = "ml_lifecycle.backends.ledger.migrations"


def preload() -> tuple[str, ...]:
    """Import everything that can be imported; returns the names of what could not."""
    missing = tuple(name for name in chain(TOOLS, _own_modules(), AIRFLOW) if not _imported(name))
    for contract in _descendants(BaseModel):
        if contract.__module__.startswith("ml_lifecycle."):
            contract.model_rebuild()
    gc.collect()
    gc.freeze()
    return missing


def _imported(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _own_modules() -> Iterator[str]:
    for ring in OWN:
        name = f"{ml_lifecycle.__name__}.{ring}"
        yield name
        folder = importlib.import_module(name).__path__
        for module in pkgutil.walk_packages(folder, f"{name}."):
            if not module.name.startswith(_ENTERED_BY_THEIR_TOOL):
                yield module.name


def _descendants(parent: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in parent.__subclasses__():
        yield child
        yield from _descendants(child)


MISSING: Final = preload()
"""What is not installed here."""
