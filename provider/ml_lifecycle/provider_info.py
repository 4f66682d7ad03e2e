"""What Airflow's provider manager learns: connections, options, links and where the modules are.

Airflow imports this file while it reads its own configuration, in every process: it imports nothing.
"""

from __future__ import annotations

from typing import Any

INTEGRATION = "ML lifecycle"


def get_provider_info() -> dict[str, Any]:
    """The provider's description, in the form that ``airflow/provider_info.schema.json`` asks for."""
    return {
        "package-name": "airflow-provider-ml-lifecycle",
        "name": INTEGRATION,
        "description": "A machine-learning model's whole life: one YAML file, governed from data to rollback.",
        "integrations": [{"integration-name": INTEGRATION, "tags": ["software", "machine-learning"]}],
        "operators": [_modules("operators", "request", *_STAGES, "rollout", "export", "transform", "reconciliation")],
        "sensors": [
            _modules("sensors", "data", "deployment", "rollout", "approval", "monitoring", "labels", "transform")
        ],
        "hooks": [_modules("hooks", "mlflow", "ledger", "signing")],
        "triggers": [{"integration-name": INTEGRATION, "python-modules": ["ml_lifecycle.triggers"]}],
        "connection-types": [_MLFLOW_CONNECTION],
        "extra-links": [f"ml_lifecycle.links.{name}" for name in ("MlflowRunLink", "MlflowVersionLink", "ReportLink")],
        "config": {
            "ml_lifecycle": {
                "description": "Where the lifecycle of models keeps its data, and what it trusts.",
                "options": _OPTIONS,
            }
        },
    }


_STAGES = ("data", "validation", "training", "evaluation", "approval", "deployment", "scoring", "monitoring")

_MLFLOW_CONNECTION = {
    "connection-type": "mlflow",
    "hook-class-name": "ml_lifecycle.hooks.mlflow.MlflowHook",
    "hook-name": "MLflow",
    "ui-field-behaviour": {
        "hidden-fields": [],
        "relabeling": {"schema": "Scheme", "login": "User name", "password": "Password or token"},
        "placeholders": {
            "host": "mlflow.example.com, or file:///srv/mlflow for a folder of this machine",
            "port": "5000",
            "schema": "http or https",
            "login": "left empty with a token",
        },
    },
    "conn-fields": {
        "ui_url": {
            "label": "Address for people",
            "description": "Where a browser reaches MLflow, if not at the address above.",
            "schema": {"type": ["string", "null"]},
        },
        "timeout_s": {
            "label": "Time-out in seconds",
            "description": "How long it may keep silent; left empty, [ml_lifecycle] http_timeout_s counts.",
            "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
        },
    },
}


def _modules(ring: str, *names: str) -> dict[str, Any]:
    return {"integration-name": INTEGRATION, "python-modules": [f"ml_lifecycle.{ring}.{name}" for name in names]}


def _option(description: str, kind: str, default: str | None, example: str | None) -> dict[str, str | None]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "default": default,
        "example": example,
    }


_OPTIONS = {
    "environment": _option(
        "Name of this deployment's environment. Decisions and moves of one environment give no right in another.",
        "string",
        "dev",
        "prod",
    ),
    "data_root": _option(
        "Absolute folder, or an address such as s3://bucket/prefix, below which data is read and results are "
        "published; left empty: $AIRFLOW_HOME/ml_lifecycle. Every worker, the triggerer and the API server must see "
        "it.",
        "string",
        "",
        "/srv/ml-lifecycle",
    ),
    "aws_conn_id": _option(
        "Connection that leads to the bucket of data_root; set to nothing, what the machine itself is allowed to.",
        "string",
        "aws_default",
        "aws_ml",
    ),
    "serving_home": _option(
        "Absolute folder in which this machine's model servers, their router and their supervisor live, made by "
        "`ml-lifecycle serving up`; left empty: $AIRFLOW_HOME/serving.",
        "string",
        "",
        "/srv/ml-serving",
    ),
    "project_root": _option(
        "Folder below which callables and suites are found; left empty: the folder that holds the DAG file's dags/.",
        "string",
        "",
        "/opt/airflow",
    ),
    "mlflow_conn_id": _option("Connection of the tracking server.", "string", "mlflow_default", "mlflow_prod"),
    "ledger_conn_id": _option(
        "Connection of the ledger's database; while it is not defined, a SQLite file below data_root is the ledger, or "
        "below $AIRFLOW_HOME/ml_lifecycle where data_root is an address.",
        "string",
        "ml_lifecycle_ledger",
        "postgres_governance",
    ),
    "signing_conn_id": _option(
        "Connection whose password is the Ed25519 private key, in PEM form, under which releases are told; while it is "
        "not defined, no provenance is published.",
        "string",
        "ml_lifecycle_signing",
        "release_signing",
    ),
    "approver_keys": _option(
        "Absolute path of a JSON file {user name: public key or list of them}: whose signed answers count. Only the "
        "platform's admin should be able to write it; every worker must see it.",
        "string",
        "",
        "/etc/ml-lifecycle/approver-keys.json",
    ),
    "estimators": _option(
        "Prefixes of the classes that a pipeline may name as its estimator, separated by commas.",
        "string",
        "sklearn.",
        "sklearn.,lightgbm.",
    ),
    "trusted_types": _option(
        "Types that model packages may hold beside those of scikit-learn that this package lists, separated by commas.",
        "string",
        "",
        "lightgbm.sklearn.LGBMClassifier",
    ),
    "http_timeout_s": _option(
        "Seconds that a service may keep silent within one request; a call, its repetitions included, is given up "
        "after 60.",
        "float",
        "30",
        "10",
    ),
    "notifiers": _option(
        "Who is told that a question waits for an answer, that a task failed for good, or that monitoring alerts: a "
        "JSON list of Airflow notifiers. Their templates find it under ml_lifecycle: event (posed, escalated, failed, "
        "alert), subject, message, model, version, digest, environment, url, approvers, owner, contact.",
        "string",
        "",
        '[{"class": "airflow.providers.slack.notifications.slack.SlackNotifier", '
        '"kwargs": {"slack_conn_id": "slack", "text": "{{ ml_lifecycle.message }}"}}]',
    ),
}
