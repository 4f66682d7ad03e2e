"""The soak in its short form: a few releases, parked questions and races."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 600

pytestmark = pytest.mark.integration


def test_no_clean_release_is_refused_no_question_is_lost_and_no_rejection_is_overwritten() -> None:
    command = [sys.executable, str(PROJECT / "scripts" / "soak.py"), "--short", "--json"]

    done = subprocess.run(
        command, env=dict(os.environ), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )

    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert (report["releases"]["asked"], report["releases"]["refused"]) == (4, 0)
    assert (report["parked"]["answered"], report["parked"]["lost"]) == (6, 0)
    assert not any(report["parked"]["slots"].values())
    assert (report["races"]["with_one_answer_taken"], report["races"]["overwritten"]) == (3, 0)
