"""The whole loop against real Airflow, scheduler and MLflow processes, as `make demo` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 840

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder for the demo, on ports that are free."""
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def demo(home: Path) -> subprocess.CompletedProcess[str]:
    """The demo, run once from nothing."""
    environment = {**os.environ, "DEMO_HOME": str(home)}
    command = [sys.executable, str(PROJECT / "scripts" / "demo.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.fixture(scope="module")
def summary(demo: subprocess.CompletedProcess[str], home: Path) -> dict[str, Any]:
    """What the demo wrote for scripts."""
    assert (home / "summary.json").exists(), demo.stdout[-3000:] + demo.stderr[-3000:]
    found: dict[str, Any] = json.loads((home / "summary.json").read_text())
    return found


def test_a_models_whole_life_ends_as_it_should(demo: subprocess.CompletedProcess[str], summary: dict[str, Any]) -> None:
    assert summary["mistakes"] == [], demo.stdout[-3000:]
    assert summary["ok"]
    assert demo.returncode == 0
    assert len(summary["steps"]) == 7


def test_it_shows_what_happens_while_it_works(demo: subprocess.CompletedProcess[str]) -> None:
    for task in ("snapshot", "validate", "train", "evaluate", "gate", "register", "deploy", "score"):
        assert any(f" {task} " in line and " success" in line for line in demo.stdout.splitlines()), task


def test_it_leaves_no_process_behind(demo: subprocess.CompletedProcess[str], home: Path) -> None:
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [str(file.readlink()) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(str(home) in file for file in files):
            left.append(process.name)

    assert left == []


def test_no_file_that_it_leaves_tells_a_password(
    demo: subprocess.CompletedProcess[str], summary: dict[str, Any], home: Path
) -> None:
    passwords = json.loads((home / "passwords.json").read_text()).values()
    told = [
        str(file.relative_to(home))
        for file in home.rglob("*")
        if file.is_file() and file.suffix in (".log", ".json", ".html") and file.name != "passwords.json"
        for password in passwords
        if password.encode() in file.read_bytes()
    ]

    assert told == []
    assert not any(password in demo.stdout + demo.stderr for password in passwords)
