"""The same steps as a hand-written DAG of seven tasks, as a team's first one looks."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def _mlflow_url() -> str:
    server = json.loads(os.environ["AIRFLOW_CONN_MLFLOW_DEFAULT"])
    return f"{server['schema']}://{server['host']}:{server['port']}"


@dag(schedule=None, start_date=datetime(2013, 1, 1, tzinfo=timezone.utc), default_args={"retries": 1})
def by_hand() -> None:
    """Validate, train, evaluate, register, score, drift, done."""

    def place(name: str) -> str:
        return str(Path(os.environ["BENCH_FOLDER"]) / name)

    data_root = os.environ.get("AIRFLOW__ML_LIFECYCLE__DATA_ROOT", "")

    @task
    def validate() -> None:
        import steps

        steps.validate(data_root, os.environ["BENCH_SUITE"])

    @task
    def train() -> None:
        import steps

        steps.train(data_root, place("model.pkl"))

    @task
    def evaluate() -> dict[str, float]:
        import steps

        return steps.evaluate(data_root, place("model.pkl"))

    @task
    def register(metrics: dict[str, float]) -> None:
        import steps

        steps.register(place("model.pkl"), metrics, _mlflow_url())

    @task
    def score() -> None:
        import steps

        steps.score(data_root, place("model.pkl"), place("scored.parquet"))

    @task
    def drift() -> None:
        import steps

        steps.drift(data_root, place("drift.html"))

    @task
    def done() -> str:
        return "done"

    metrics: Any = evaluate()
    validate() >> train() >> metrics >> register(metrics) >> score() >> drift() >> done()


by_hand()
