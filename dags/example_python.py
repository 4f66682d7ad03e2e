"""The same operators in a DAG of one's own, without any YAML: another graph than the five streams.

It trains on one month of flights, and asks for a release in the same run.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from ml_lifecycle.operators.approval import ApproveModelOperator
from ml_lifecycle.operators.data import SnapshotDatasetOperator
from ml_lifecycle.operators.deployment import DeployModelOperator
from ml_lifecycle.operators.evaluation import EvaluateModelOperator, EvaluationGateOperator, RegisterModelOperator
from ml_lifecycle.operators.training import TrainModelOperator
from ml_lifecycle.operators.validation import ValidateDatasetOperator
from ml_lifecycle.sensors.data import DatasetReadySensor

MODEL = "example_python"
FLIGHTS = {"uri": "flights/{{ partition }}.parquet"}
ARRIVALS = {"uri": "arrivals/{{ partition }}.parquet"}
WEATHER = {"uri": "weather/{{ partition }}.parquet"}

with DAG(
    dag_id=MODEL,
    schedule=None,
    params={"partition": Param("2013-01", type="string", title="Month", description="The month to train on.")},
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    # The first tag says whose reports may be seen by those who may see this DAG.
    tags=[f"model:{MODEL}", "ml-lifecycle", "example"],
    doc_md=__doc__,
) as dag:
    month = "{{ params.partition }}"
    ready = DatasetReadySensor(task_id="data_ready", sources=[FLIGHTS, ARRIVALS, WEATHER], partition=month, timeout=60)
    dataset = SnapshotDatasetOperator(
        task_id="snapshot",
        model=MODEL,
        partitions=[month],
        source=FLIGHTS,
        labels=ARRIVALS,
        related={"weather": WEATHER},
        columns={"key": "flight_id", "time": "scheduled_departure", "target": "delayed"},
        drop=[{"column": "delayed", "because": "cancelled or diverted: it never arrived"}],
    )
    report = ValidateDatasetOperator(
        task_id="validate", model=MODEL, dataset=dataset.output, suite="include/flight_delays/expectations.json"
    )
    trained = TrainModelOperator(
        task_id="train",
        model=MODEL,
        dataset=report.output,
        features="include.flight_delays.features:build",
        estimator="sklearn.ensemble.HistGradientBoostingClassifier",
        hyperparameters={"max_iter": 40},
        seed=7,
    )
    evaluation = EvaluateModelOperator(
        task_id="evaluate", model=MODEL, trained=trained.output, metrics=["roc_auc", "brier"], slices=["origin"]
    )
    decision = EvaluationGateOperator(
        task_id="gate", model=MODEL, evaluation=evaluation.output, rules=[{"metric": "roc_auc", "at_least": 0.55}]
    )
    version = RegisterModelOperator(task_id="register", model=MODEL, decision=decision.output, validation=report.output)
    approval = ApproveModelOperator(task_id="approve", model=MODEL, expires_after="P1D")
    deployed = DeployModelOperator(task_id="deploy", model=MODEL, decision=approval.output)

    ready >> dataset
    version >> approval >> deployed
