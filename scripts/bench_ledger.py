"""What the ledger costs a task beside hashing: ``make bench-ledger``.

A task looks up the evidence that it was handed and records its own result with the audit row. *cold*: a process of its
own, as Airflow starts one for each task, with the driver's import, the look at the schema and the connections. *warm*:
the same again in a process that has done it before. Both on a ledger that holds a thousand results already.
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
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import RunRequest
from private_postgresql import running

REPOSITORY = Path(__file__).resolve().parent.parent
GOAL_MS = 150
ENVIRONMENT, MODEL = "test", "flights"
NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
TASK = """
import sys
{imports}
from datetime import datetime, timezone
from ml_lifecycle.core.contracts import RunRequest
result = RunRequest(model="flights", reason={reason!r})
import time
began, cpu = time.perf_counter(), time.process_time()
from ml_lifecycle.backends.ledger.sql import SqlLedger
ledger = SqlLedger({url!r})
known = ledger.has_result("test", {handed!r})
ledger.record_result("test", {reason!r}, "resolve", result, model="flights", at=datetime.now(timezone.utc))
print(1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu))
sys.exit(not known)
"""
TASK_IMPORTS = "import airflow.sdk"
"""What a task's process has imported before any of ours."""


class Cost(NamedTuple):
    """Of one task, in milliseconds."""

    wall_ms: float
    cpu_ms: float


def filled(url: str, rows: int) -> str:
    """A ledger with so many results; the digest of one of them."""
    ledger = SqlLedger(url)
    for number in range(rows):
        digest = _record(ledger, f"earlier {number}")
    return digest


def cold(url: str, handed: str, runs: int) -> list[Cost]:
    """One task each in a fresh process."""
    found = []
    with tempfile.TemporaryDirectory() as home:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        for number in range(runs + 1):
            code = TASK.format(imports=TASK_IMPORTS, url=url, handed=handed, reason=f"cold {number}")
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
            )
            wall, cpu = map(float, done.stdout.splitlines()[-1].split())
            found.append(Cost(wall, cpu))
    return found[1:]  # the first one also wrote the bytecode


def warm(url: str, handed: str, runs: int) -> list[Cost]:
    """One task each in this process."""
    ledger = SqlLedger(url)
    found = []
    for number in range(runs + 1):
        began, cpu = time.perf_counter(), time.process_time()
        if not ledger.has_result(ENVIRONMENT, handed):
            raise AssertionError("the evidence that was recorded is not there")
        _record(ledger, f"warm {number}")
        found.append(Cost(1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu)))
    return found[1:]


def _record(ledger: SqlLedger, run: str) -> str:
    return ledger.record_result(ENVIRONMENT, run, "resolve", RunRequest(model=MODEL, reason=run), model=MODEL, at=NOON)


def _summary(costs: list[Cost]) -> dict[str, float]:
    wall = [cost.wall_ms for cost in costs]
    cpu = statistics.median(cost.cpu_ms for cost in costs)
    return {"wall_ms": round(statistics.median(wall), 1), "most_ms": round(max(wall), 1), "cpu_ms": round(cpu, 1)}


def main() -> int:
    """Measure both databases; 1 where a cold task's median misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="results in the ledger beforehand (default: 1000)")
    parser.add_argument("--runs", type=int, default=15, help="tasks of each kind (default: 15)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "ledger.json")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    load = round(os.getloadavg()[0], 1)  # what else ran here: the wall clock counts it, the CPU's does not
    with tempfile.TemporaryDirectory() as folder, running(durable=True) as server:
        for name, url in (("sqlite", f"sqlite:///{folder}/ledger.db"), ("postgresql", server.new_database())):
            handed = filled(url, options.rows)
            figures[name] = {
                kind: _summary(measure(url, handed, options.runs)) for kind, measure in (("cold", cold), ("warm", warm))
            }
            print(name, json.dumps(figures[name]), flush=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": load}
    settings = {"goal_ms": GOAL_MS, "rows": options.rows, "runs": options.runs}
    options.output.write_text(json.dumps({**settings, **machine, "figures": figures}, indent=2) + "\n")
    return int(any(one["cold"]["wall_ms"] > GOAL_MS for one in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
