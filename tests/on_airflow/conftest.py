"""An Airflow of its own in a temporary folder, with a small project: everything is set before Airflow is imported."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HOME = Path(tempfile.mkdtemp(prefix="ml-lifecycle-airflow-"))
TEAM = HOME / "team"
DAGS = TEAM / "dags"
DATA_ROOT = HOME / "data"

for folder in (DAGS, TEAM / "include", DATA_ROOT):
    folder.mkdir(parents=True)
for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[name]
os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'airflow.db'}",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of sixty-four bytes, as long as the hash that it goes into",
        "AIRFLOW__API__BASE_URL": "http://airflow.example.com",
        "AIRFLOW__ML_LIFECYCLE__DATA_ROOT": str(DATA_ROOT),
        "AIRFLOW__ML_LIFECYCLE__ENVIRONMENT": "test",
        "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "mlflow", "host": f"file://{HOME / 'tracking'}"}),
    }
)

PIPELINE = """\
model: late
owner: team
contact: team@example.com
description: Will it be late?
data:
  source: "rows/{{ partition }}.parquet"
  labels: "labels/{{ partition }}.parquet"
  window: 2
  key: id
  time: at
  target: late
  labels_after: 1d
training:
  features: include.late_features:build
  estimator: sklearn.tree.DecisionTreeClassifier
  hyperparameters:
    max_depth: {value: 3, help: "Levels of the tree.", low: 1, high: 9}
  seed: 3
evaluation:
  metrics: [roc_auc]
  gate:
    - {metric: roc_auc, at_least: 0.6}
approval: {required: always, approvers: [approver]}
scoring: {schedule: "@monthly", start: 2024-02-01, end: 2024-03-01, output: "scored/{{ partition }}"}
monitoring:
  schedule: "@monthly"
  start: 2024-02-01
  performance: {metric: roc_auc, at_least: 0.5}
"""
FEATURES = '''\
"""What the model sees."""


def build(rows):
    """The distance alone."""
    return rows[["distance"]].astype("float64")
'''
DAG_FILE = """\
from ml_lifecycle.dag_factories import airflow_dags

globals().update(airflow_dags(__file__))
"""


@pytest.fixture(scope="session", autouse=True)
def airflow() -> Iterator[Path]:
    """Airflow's database, and a team's project with three months of data; removed at the end."""
    (TEAM / "include" / "late_features.py").write_text(FEATURES)
    for month in ("2024-01", "2024-02", "2024-03"):
        write_month(month)
    from airflow.utils.db import initdb

    initdb()
    yield HOME
    shutil.rmtree(HOME, ignore_errors=True)


def write_month(month: str, *, rows: int = 200) -> None:
    """Rows of one month and their labels: the farther, the more often late; one row in ten is the other way round."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "id": [f"{month}-{number}" for number in range(rows)],
            "at": pd.date_range(f"{month}-01", periods=rows, freq="1h", tz="UTC"),
            "distance": [number * 37 % 100 for number in range(rows)],
        }
    )
    late = [int((distance > 50) != (number % 10 == 0)) for number, distance in enumerate(table["distance"])]
    for folder, content in (("rows", table), ("labels", table[["id"]].assign(late=late))):
        (DATA_ROOT / folder).mkdir(exist_ok=True)
        content.to_parquet(DATA_ROOT / folder / f"{month}.parquet", index=False)


@pytest.fixture
def dags() -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes the DAGs of a model of its own from the team's pipeline with some of its text changed.

    A task that fails is not tried again.
    """
    made: list[Path] = []

    def make(model: str, *changes: tuple[str, str]) -> dict[str, Any]:
        from ml_lifecycle.dag_factories import airflow_dags

        text = PIPELINE.replace("model: late", f"model: {model}").replace("scored/{{", f"{model}/{{{{")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        made.extend((DAGS / f"{model}.yaml", DAGS / f"{model}.py"))
        made[-2].write_text(text)
        made[-1].write_text(DAG_FILE)
        dags = dict(airflow_dags(str(made[-1])))
        for dag in dags.values():
            for task in dag.tasks:
                task.retries = 0
        return dags

    yield make
    for file in set(made):
        file.unlink()


@pytest.fixture(autouse=True)
def _forget_team_modules() -> Iterator[None]:
    """Each project's ``include`` is its own."""
    yield
    for name in [name for name in sys.modules if name == "include" or name.startswith("include.")]:
        del sys.modules[name]
