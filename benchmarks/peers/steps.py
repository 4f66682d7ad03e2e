"""The monthly lifecycle with stock libraries, one function a step: what a team writes before it has anything else.

Three months of flights are validated (Great Expectations), a model is trained (scikit-learn), evaluated, logged and
registered (MLflow); one month is scored and compared with the training data (Evidently). No fingerprints, no gate
beside a threshold, no approval, no ledger, no resumption.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MONTHS = ("2013-01", "2013-02", "2013-03")
CURRENT = "2013-04"
CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = ["hour", "minute", "weekday", "distance", "temp", "dewp", "humid", "wind_speed", "precip", "visib"]
MODEL = "flight_delays_by_hand"
ENOUGH = 0.6


def table(data_root: str, name: str, months: tuple[str, ...]) -> Any:
    """Some months of one kind of file."""
    import pandas as pd

    return pd.concat([pd.read_parquet(Path(data_root) / name / f"{month}.parquet") for month in months])


def labelled(data_root: str, months: tuple[str, ...]) -> Any:
    """Flights with their labels, without those that never arrived."""
    flights = table(data_root, "flights", months).merge(table(data_root, "arrivals", months), on="flight_id")
    return flights[flights["delayed"].notna()]


def with_weather(flights: Any, data_root: str, months: tuple[str, ...]) -> Any:
    """Flights with the weather of the hour before."""
    import pandas as pd

    hour_before = flights["scheduled_departure"].dt.floor("h") - pd.Timedelta(hours=1)
    flights = flights.assign(time_hour=hour_before, weekday=flights["scheduled_departure"].dt.weekday)
    return flights.merge(table(data_root, "weather", months), on=["origin", "time_hour"], how="left")


def validate(data_root: str, suite_file: str) -> None:
    """Hold the three months to the demo's own suite."""
    import great_expectations as gx

    rows = labelled(data_root, MONTHS)
    suite = json.loads(Path(suite_file).read_text())
    context = gx.get_context(mode="ephemeral")
    source = context.data_sources.add_pandas("flights")
    batch = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    expectations = gx.ExpectationSuite(name=suite["name"], expectations=suite["expectations"])
    result = batch.get_batch({"dataframe": rows}).validate(expectations)
    critical = [one for one in result.results if not one.success and one.expectation_config.severity == "critical"]
    if critical:
        raise SystemExit(f"{len(critical)} critical expectations failed")


def train(data_root: str, model_file: str) -> None:
    """Fit on the first four fifths by time."""
    import pickle

    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    rows, _ = _split(data_root)
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = make_pipeline(
        make_column_transformer((encode, CATEGORIES), remainder="passthrough"),
        HistGradientBoostingClassifier(max_iter=80, random_state=7),
    )
    model.fit(rows[CATEGORIES + NUMBERS], rows["delayed"].astype(bool))
    Path(model_file).write_bytes(pickle.dumps(model))


def evaluate(data_root: str, model_file: str) -> dict[str, float]:
    """ROC AUC, log loss and Brier score on the last fifth, and ROC AUC by origin and carrier."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    _, rows = _split(data_root)
    target = rows["delayed"].astype(bool)
    rows["score"] = _load(model_file).predict_proba(rows[CATEGORIES + NUMBERS])[:, 1]
    metrics = {
        "roc_auc": roc_auc_score(target, rows["score"]),
        "log_loss": log_loss(target, rows["score"]),
        "brier": brier_score_loss(target, rows["score"]),
    }
    for column in ("origin", "carrier"):
        for value, part in rows.groupby(column):
            labels = part["delayed"].astype(bool)
            if labels.any() and not labels.all():
                metrics[f"roc_auc_{column}_{value}"] = roc_auc_score(labels, part["score"])
    if metrics["roc_auc"] < ENOUGH:
        raise SystemExit(f"ROC AUC {metrics['roc_auc']:.3f} is below {ENOUGH}")
    return metrics


def register(model_file: str, metrics: dict[str, float], mlflow_url: str) -> None:
    """Log the run and register the model."""
    import mlflow

    mlflow.set_tracking_uri(mlflow_url)
    mlflow.set_experiment(MODEL)
    with mlflow.start_run():
        mlflow.log_params({"max_iter": 80, "seed": 7})
        mlflow.log_metrics(metrics)
        mlflow.sklearn.log_model(
            _load(model_file),
            name="model",
            registered_model_name=MODEL,
            pip_requirements=["scikit-learn"],
            serialization_format="pickle",
        )


def score(data_root: str, model_file: str, output: str) -> None:
    """Predict the month that follows."""
    rows = with_weather(table(data_root, "flights", (CURRENT,)), data_root, (CURRENT,))
    rows["score"] = _load(model_file).predict_proba(rows[CATEGORIES + NUMBERS])[:, 1]
    rows[["flight_id", "score"]].to_parquet(output)


def drift(data_root: str, output: str) -> None:
    """Compare the month's features with those of the training months."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=NUMBERS, categorical_columns=CATEGORIES)
    reference, current = (
        Dataset.from_pandas(
            with_weather(flights, data_root, months)[CATEGORIES + NUMBERS].reset_index(drop=True),
            data_definition=definition,
        )
        for months, flights in (
            (MONTHS, labelled(data_root, MONTHS)),
            ((CURRENT,), table(data_root, "flights", (CURRENT,))),
        )
    )
    methods = dict.fromkeys(NUMBERS, "wasserstein") | dict.fromkeys(CATEGORIES, "jensenshannon")
    metrics = [ValueDrift(column=column, method=method) for column, method in methods.items()]
    Report(metrics).run(current, reference).save_html(output)


def _split(data_root: str) -> tuple[Any, Any]:
    rows = with_weather(labelled(data_root, MONTHS), data_root, MONTHS).sort_values("scheduled_departure")
    held_out = len(rows) // 5
    return rows.iloc[:-held_out], rows.iloc[-held_out:].copy()


def _load(model_file: str) -> Any:
    import pickle

    return pickle.loads(Path(model_file).read_bytes())  # noqa: S301  # the peer does what most scripts do
