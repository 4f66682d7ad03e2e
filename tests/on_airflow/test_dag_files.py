"""Every DAG file of the repository, parsed as Airflow's DAG processor parses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted((PROJECT / "dags").glob("*.py"))
HEAVY = (
    "boto3", "evidently", "great_expectations", "matplotlib", "mlflow", "numpy", "pandas", "pyarrow", "scipy",
    "sklearn", "skops",
)  # fmt: skip
PARSE = """
import json, runpy, sys, time
import airflow.sdk
from airflow.sdk import DAG, AssetOrTimeSchedule, BaseOperator, BaseSensorOperator, CronDataIntervalTimetable, Param
import airflow.providers.standard.operators.hitl
began = time.process_time()
names = runpy.run_path(sys.argv[1])
spent = time.process_time() - began
dags = sorted(value.dag_id for value in names.values() if isinstance(value, DAG))
print(json.dumps({"dags": dags, "modules": sorted(sys.modules), "cpu_ms": 1000 * spent}))
"""


def parse(file: Path, **environment: str) -> dict[str, object]:
    """What a fresh process finds in a DAG file."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE, str(file)],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "provider"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_a_dag_file_parses_without_any_ml_library(file: Path) -> None:
    found = parse(file)

    assert found["dags"]
    assert not set(HEAVY) & set(found["modules"])  # type: ignore[call-overload]


def test_a_task_makes_only_the_dag_that_it_belongs_to() -> None:
    found = parse(PROJECT / "dags" / "flight_delays.py", _AIRFLOW_PARSING_CONTEXT_DAG_ID="flight_delays_score")

    assert found["dags"] == ["flight_delays_score"]


def test_a_mistake_in_one_yaml_is_shown_and_leaves_other_models_alone(tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag

    folder = tmp_path / "dags"
    folder.mkdir()
    for name in ("good", "bad"):
        (folder / f"{name}.py").write_text((PROJECT / "dags" / "flight_delays.py").read_text())
    text = (PROJECT / "dags" / "flight_delays.yaml").read_text()
    (folder / "good.yaml").write_text(text)
    (folder / "bad.yaml").write_text(
        text.replace("model: flight_delays", "model: bad").replace("window: 3", "windw: 3")
    )

    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="test")

    (shown,) = bag.import_errors.values()
    assert "bad.yaml:" in shown
    assert "data.windw" in shown
    assert "did you mean 'window'" in shown or "window" in shown
    assert sorted(bag.dags) == [
        f"flight_delays_{name}" for name in ("monitor", "release", "rollback", "score", "train")
    ]


def test_a_dag_file_without_its_yaml_says_what_is_missing(tmp_path: Path) -> None:
    from ml_lifecycle.core.errors import PipelineError
    from ml_lifecycle.dag_factories import airflow_dags

    with pytest.raises(PipelineError, match=r"alone\.yaml.*put the model's YAML beside alone\.py"):
        airflow_dags(str(tmp_path / "alone.py"))


def test_the_serialized_dags_are_the_same_in_every_process() -> None:
    """Each difference would make Airflow store another version of the DAG."""
    program = (
        "import json, sys; from airflow.serialization.serialized_objects import DagSerialization;"
        "from airflow.models.serialized_dag import SerializedDagModel;"
        "from ml_lifecycle.dag_factories import airflow_dags;"
        "dags = airflow_dags(sys.argv[1]);"
        "print(json.dumps({i: SerializedDagModel.hash(DagSerialization.to_dict(d)) for i, d in dags.items()}))"
    )
    outputs = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": str(PROJECT / "provider"), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-W", "ignore", "-c", program, str(PROJECT / "dags" / "flight_delays.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
        outputs.append(done.stdout.splitlines()[-1])

    assert outputs[0] == outputs[1]
    assert len(json.loads(outputs[0])) == 5
