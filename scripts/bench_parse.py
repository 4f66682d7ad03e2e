"""What parsing a pipeline's DAG file costs beyond Airflow itself, in CPU seconds: ``make bench-parse``.

Every figure comes from processes of their own, in turn: one that only imports ``airflow.sdk`` and the standard
operators that the DAGs use, one that parses the file as well, one that builds a single DAG as each task's start does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
GOAL_MS = 150
BASE = """
import airflow.sdk
from airflow.sdk import (
    DAG, Asset, AssetOrTimeSchedule, BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator,
    CronDataIntervalTimetable, Param, Context,
)
import airflow.sdk.exceptions
import airflow.providers.standard.operators.hitl
import airflow.triggers.base
"""
PARSE = """
import runpy
runpy.run_path({file!r})
"""
ONE_DAG = """
import runpy
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
with _airflow_parsing_context_manager(dag_id={dag!r}):
    runpy.run_path({file!r})
"""
REPORT = """
import json, resource, sys
usage = resource.getrusage(resource.RUSAGE_SELF)
heavy = [m for m in ("mlflow", "great_expectations", "evidently", "sklearn", "pandas", "numpy") if m in sys.modules]
cpu_ms = 1000 * (usage.ru_utime + usage.ru_stime)
print(json.dumps({"cpu_ms": cpu_ms, "peak_mb": usage.ru_maxrss / 1024, "heavy": heavy}))
"""


def measure(code: str, home: str) -> dict[str, Any]:
    """CPU milliseconds and peak memory of one fresh process that runs the code."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", default=str(REPOSITORY / "dags" / "flight_delays.py"), help="the DAG file")
    parser.add_argument("--dag", default="flight_delays_score", help="the DAG that a task's start asks for")
    parser.add_argument("--runs", type=int, default=9, help="processes per figure")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    codes = {
        "airflow alone": BASE,
        "the whole file": BASE + PARSE.format(file=options.file),
        "one DAG of it": BASE + ONE_DAG.format(file=options.file, dag=options.dag),
    }
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as home:
        for code in codes.values():
            measure(code, home)
        for _ in range(options.runs):
            for name, code in codes.items():
                rows[name].append(measure(code, home))
    base = [row["cpu_ms"] for row in rows["airflow alone"]]
    result = {
        name: {
            "cpu_ms": round(statistics.median(row["cpu_ms"] for row in found)),
            "beyond_airflow_ms": round(
                statistics.median(row["cpu_ms"] - alone for row, alone in zip(found, base, strict=True))
            ),
            "peak_mb": round(max(row["peak_mb"] for row in found)),
            "ml_libraries": found[0]["heavy"],
        }
        for name, found in rows.items()
    }
    summary = {"goal_ms": GOAL_MS, "runs": options.runs, "python": platform.python_version(), "figures": result}
    (REPOSITORY / "benchmarks" / "parse.json").write_text(json.dumps(summary, indent=2) + "\n")
    if options.json:
        print(json.dumps(summary))
    else:
        for name, figures in result.items():
            print(
                f"{name:16} {figures['cpu_ms']:6} ms CPU  {figures['beyond_airflow_ms']:+5} ms beyond Airflow"
                f"  {figures['peak_mb']:4} MB  ML libraries: {', '.join(figures['ml_libraries']) or 'none'}"
            )
        print(f"goal: at most {GOAL_MS} ms beyond Airflow for the whole file")
    return 0


if __name__ == "__main__":
    sys.exit(main())
