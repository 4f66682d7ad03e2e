"""What a platform engineer installs beside an existing Airflow: the wheel, and nothing that Airflow does not bring."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
UV = Path(sys.executable).parent / "uv"
ML_LIBRARIES = ("mlflow", "great_expectations", "evidently", "sklearn", "skops", "pandas", "pyarrow", "numpy")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source distribution, built from this tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(PROJECT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def bare_airflow(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with Airflow, the wheel, and none of its extras, at the versions of the lock file."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    lock = (PROJECT / "requirements" / "dev.txt").read_text()
    pins = re.findall(r"^([A-Za-z0-9_.\[\]-]+==[^\s\\;]+(?: ; [^\\\n]+)?)", lock, flags=re.MULTILINE)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pin.strip() for pin in pins))
    wheel = next(distributions.glob("*.whl"))
    command = [
        str(UV),
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "--constraint",
        str(constraints),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return python


def test_the_wheel_holds_the_package_its_types_marker_and_its_licence_only(distributions: Path) -> None:
    names = zipfile.ZipFile(next(distributions.glob("*.whl"))).namelist()

    assert "ml_lifecycle/__main__.py" in names
    assert "ml_lifecycle/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} - {"ml_lifecycle"} == {
        name.split("/")[0] for name in names if ".dist-info/" in name
    }


def test_the_source_distribution_is_built_too(distributions: Path) -> None:
    assert len(list(distributions.glob("airflow_provider_ml_lifecycle-*.tar.gz"))) == 1


def test_a_bare_airflow_reads_every_dag_with_no_ml_library_installed(bare_airflow: Path, tmp_path: Path) -> None:
    code = """
import importlib.util, json, logging, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
found = [name for name in sys.argv[2].split(",") if importlib.util.find_spec(name)]
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors, "installed": found}))
"""
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

    done = subprocess.run(
        [str(bare_airflow), "-c", code, str(PROJECT / "dags"), ",".join(ML_LIBRARIES)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["installed"] == []
    assert report["errors"] == {}
    assert {"flight_delays_train", "flight_delays_release", "flight_delays_rollback"} <= set(report["dags"])
    assert len(report["dags"]) >= 6


def test_airflow_lists_the_provider_and_its_connection_type(bare_airflow: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

    def airflow(*arguments: str) -> str:
        command = [str(bare_airflow), "-m", "airflow", *arguments, "--output", "json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "airflow-provider-ml-lifecycle" in airflow("providers", "list")
    assert "ml_lifecycle.hooks.mlflow.MlflowHook" in airflow("providers", "hooks")


def test_the_command_line_works_there_and_names_the_extra_that_a_stage_needs(
    bare_airflow: Path, tmp_path: Path
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("id,x\n1,2\n")
    suite = tmp_path / "suite.json"
    suite.write_text('{"name": "s", "expectations": []}')
    command = [str(bare_airflow.parent / "ml-lifecycle"), "validate", "--suite", str(suite), "--data", str(data)]

    done = subprocess.run(
        [*command, "--key", "id"], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )

    assert done.returncode == 64
    assert "pip install 'airflow-provider-ml-lifecycle[" in done.stderr
    assert "Traceback" not in done.stderr
