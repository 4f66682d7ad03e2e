"""Handing a model out by a task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from ml_lifecycle.backends.export.loader import open_bundle
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.core.contracts import ModelVersion, Verdict
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.operators.export import ExportBundleOperator
from ml_lifecycle.stages.runner import Tools, record
from tests.fakes.bundle_place import signing_key, small_package
from tests.fakes.champions import decided
from tests.on_airflow.runs import context_of


@pytest.fixture
def task(airflow: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExportBundleOperator]:
    fields = {"conn_type": "generic", "password": signing_key().pem().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_ML_LIFECYCLE_SIGNING", json.dumps(fields))
    with DAG("flights_export", schedule=None) as dag:
        dag.fileloc = str(airflow / "team" / "dags" / "alone.py")
        yield ExportBundleOperator(task_id="export", model="flights", version="1")


def registered(tools: Tools, folder: Path) -> ModelVersion:
    package = small_package(folder / "package", 2)
    key = f"{2:064d}"
    uri = tools.tracking.upload(tools.tracking.ensure_run("flights", key, name="2", tags={}).run_id, package, "model")
    found = tools.registry.ensure_version("flights", training_key=key, uri=uri, run_id="1", tags={})
    version = ModelVersion(
        name="flights",
        version=found.version,
        digest=digest_of_folder(package),
        training_key=key,
        uri=uri,
        run_id="1",
        dataset_fingerprint="d" * 64,
        metrics_digest="e" * 64,
        gate_verdict=Verdict.PASS,
        policy_digest="f" * 64,
    )
    record("register", version, tools, model="flights")
    return version


def test_a_task_publishes_what_was_approved(task: ExportBundleOperator, tmp_path: Path) -> None:
    context: Any = context_of(task)
    tools = tools_for(context)
    decided(tools, registered(tools, tmp_path))

    made = task.execute(context)

    with tools.data.file(made["uri"]) as path:
        assert open_bundle(path, signing_key().public.text).answer([{"x": 4.0}]) == [[pytest.approx(8.0)]]
    assert tools.ledger.has_result("test", tools.ledger.results("test", "flights", "export")[-1]["digest"])


def test_a_task_that_may_not_says_why_and_is_not_tried_again(task: ExportBundleOperator, tmp_path: Path) -> None:
    context: Any = context_of(task)
    registered(tools_for(context), tmp_path)

    with pytest.raises(AirflowFailException, match="nobody has approved it"):
        task.execute(context)


@pytest.mark.parametrize("version", ["", "0", "-1", "one", "1.5"])
def test_a_version_that_is_none_is_named(task: ExportBundleOperator, version: str) -> None:
    task.version = version

    with pytest.raises(AirflowFailException, match="is no version"):
        task.execute(context_of(task))
