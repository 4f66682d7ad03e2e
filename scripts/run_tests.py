"""Run the tests that need no root.

First those that only need a processor, one process on each; then, one after the other, those that start real Airflow
deployments. Whatever is given is handed on to pytest.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

ALONE = "integration"
ROUNDS = (
    ["-m", f"not services and not {ALONE}", "--numprocesses", "logical", "--dist", "loadfile"],
    ["-m", f"not services and {ALONE}"],
)


def main() -> int:
    """0 where every round passed, and where at least one of them had a test to run."""
    codes = [
        subprocess.run([sys.executable, "-m", "pytest", *round_, *sys.argv[1:]], check=False).returncode
        for round_ in ROUNDS
    ]
    ran = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED]
    return max(ran, default=int(pytest.ExitCode.NO_TESTS_COLLECTED))


if __name__ == "__main__":
    sys.exit(main())
