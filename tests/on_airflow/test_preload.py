"""What LocalExecutor's workers are forked from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LOOK = """
import gc, json, sys
from ml_lifecycle import preload
from ml_lifecycle.core.contracts import GateDecision
left_out = [name for name in ("include", "dags", "alembic.command") if name in sys.modules]
loaded = [name for name in NAMES if name in sys.modules]
print(json.dumps([preload.MISSING, loaded, left_out, gc.get_freeze_count(), GateDecision.__pydantic_complete__]))
"""
NAMES = (
    "evidently",
    "ml_lifecycle.stages.training",
    "ml_lifecycle.dag_factories.train",
    "airflow.dag_processing.dagbag",
)


def _preloaded(home: Path, before: str = "") -> tuple[list[str], list[str], list[str], int, bool]:
    code = f"NAMES = {NAMES!r}\n{before}\n{LOOK}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIRFLOW_HOME": str(home), "PYTHONPATH": str(REPOSITORY / "provider")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    missing, loaded, left_out, frozen, built = json.loads(done.stdout.splitlines()[-1])
    return missing, loaded, left_out, frozen, built


def test_workers_find_the_tools_the_stages_and_airflow_s_own_modules_loaded(tmp_path: Path) -> None:
    missing, loaded, left_out, frozen, built = _preloaded(tmp_path)

    assert missing == []
    assert loaded == list(NAMES)
    assert left_out == []
    assert frozen > 100_000
    assert built


def test_a_tool_that_is_not_installed_is_passed_over(tmp_path: Path) -> None:
    missing, loaded, _, _, _ = _preloaded(tmp_path, before="import sys; sys.modules['evidently'] = None")

    assert missing == ["evidently"]
    assert "ml_lifecycle.stages.training" in loaded


def test_the_shipped_settings_name_it() -> None:
    settings = (REPOSITORY / "deploy" / "airflow.env").read_text().splitlines()

    assert "AIRFLOW__CORE__MP_FORKSERVER_PRELOAD=ml_lifecycle.preload" in settings
