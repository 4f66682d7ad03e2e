"""The lifecycle's cost beside the same work done by peers, in one run: ``make bench``.

Three ways to train on three months of flights, score one and look for drift, in turn on the same machine:
a bare script with stock libraries, a hand-written DAG of seven tasks, and this product's DAGs (which also snapshot,
fingerprint, gate, release under policy's decision, and keep the ledger). Both run on an Airflow whose workers import
the tools in every task, as Airflow does by itself, and on one whose workers are forked from a process that has imported
them, as deploy/airflow.env sets it. Start-up of Airflow and MLflow is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_client import AirflowClient
from local_deployment import REPOSITORY, LocalDeployment, land, settings, started

PEERS = REPOSITORY / "benchmarks" / "peers"
SUITE = REPOSITORY / "include" / "flight_delays" / "expectations.json"
DEADLINE_S = 300
MODEL = "flight_delays"
WORKERS = {"cold": {"AIRFLOW__SCHEDULER__MP_START_METHOD": "fork"}, "warm": {}}
"""What is set beside deploy/airflow.env: workers that import the tools in each task, and workers that need not."""


def project_for_the_benchmark(folder: Path) -> Path:
    """A project whose pipeline runs only when asked and needs no human, with the hand-written DAG beside it."""
    import yaml

    dags = folder / "project" / "dags"
    shutil.copytree(REPOSITORY / "include", folder / "project" / "include")
    dags.mkdir()
    pipeline = yaml.safe_load((REPOSITORY / "dags" / "flight_delays.yaml").read_text())
    pipeline["approval"] = {"required": "never"}
    # The peers look for drift only.
    pipeline["monitoring"]["on_drift"] = "nothing"
    pipeline["monitoring"].pop("performance", None)
    for stream in ("training", "scoring", "monitoring"):
        for key in ("schedule", "start", "end"):
            pipeline[stream].pop(key, None)
    (dags / "flight_delays.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    shutil.copy(REPOSITORY / "dags" / "flight_delays.py", dags)
    shutil.copy(PEERS / "dags" / "by_hand.py", dags)
    shutil.copy(PEERS / "steps.py", folder / "project")
    return dags


class Round:
    """One start of Airflow, on which each contender runs once."""

    def __init__(self, deployment: LocalDeployment, folder: Path) -> None:
        self.deployment = deployment
        self.folder = folder
        user = "engineer"
        self.client = AirflowClient(deployment.airflow_url, user, deployment.users[user])

    def await_dags(self, wanted: set[str]) -> None:
        """Wait until Airflow has read the DAG files."""
        self._await(lambda: wanted <= self.client.dags())

    def bare(self) -> dict[str, Any]:
        """The bare script in a process of its own."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run(
            [
                sys.executable,
                str(PEERS / "bare.py"),
                str(self.deployment.data_root),
                str(SUITE),
                self.deployment.mlflow_url,
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"the bare script failed:\n{done.stderr[-3000:]}")
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        steps = json.loads(done.stdout.splitlines()[-1])
        return {"wall_s": wall, "cpu_s": cpu, "peak_mb": after.ru_maxrss / 1024, "steps_s": steps}

    def by_hand(self) -> dict[str, Any]:
        """The hand-written DAG."""
        return self._measured(lambda: [self._run("by_hand")])

    def ours(self) -> dict[str, Any]:
        """Train, release by policy, score, monitor."""

        def life() -> list[dict[str, Any]]:
            runs = [self._run(f"{MODEL}_train", partition="2013-03", reason="benchmark")]
            runs.append(self._await(lambda: next(iter(self._ended(f"{MODEL}_release")), None)))
            runs.append(self._run(f"{MODEL}_score", partition="2013-04"))
            runs.append(self._run(f"{MODEL}_monitor", partition="2013-04"))
            return runs

        return self._measured(life)

    def _measured(self, work: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
        idle = self._idle_cpu_per_second()
        cpu = self._cpu_seconds()
        began = time.perf_counter()
        runs = work()
        wall = time.perf_counter() - began
        # Children are counted when their parent reaps them.
        time.sleep(2)
        used = self._cpu_seconds() - cpu - idle * (wall + 2)
        steps = {
            f"{task['dag_id']}.{task['task_id']}": task["duration"]
            for run in runs
            for task in self.client.tasks(run["dag_id"], run["dag_run_id"])
        }
        return {
            "wall_s": wall,
            "cpu_s": used,
            "in_tasks_s": sum(value or 0 for value in steps.values()),
            "steps_s": steps,
        }

    def _run(self, dag_id: str, **conf: Any) -> dict[str, Any]:
        run_id = self.client.trigger(dag_id, **conf)
        run: dict[str, Any] = self._await(
            lambda: next((run for run in self._ended(dag_id) if run["dag_run_id"] == run_id), None)
        )
        return run

    def _ended(self, dag_id: str) -> list[dict[str, Any]]:
        runs = self.client.runs(dag_id)
        if failed := [run["dag_run_id"] for run in runs if run["state"] == "failed"]:
            raise SystemExit(f"{dag_id} failed: {failed}; see {self.deployment.home / 'airflow' / 'logs'}")
        return [run for run in runs if run["state"] == "success"]

    def _await(self, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.2)
        raise SystemExit(f"nothing came within {DEADLINE_S} s; see {self.deployment.home / 'logs'}")

    def _idle_cpu_per_second(self) -> float:
        began, cpu = time.perf_counter(), self._cpu_seconds()
        time.sleep(5)
        return (self._cpu_seconds() - cpu) / (time.perf_counter() - began)

    def _cpu_seconds(self) -> float:
        """CPU of every process of the deployment, with the children that it has reaped."""
        ticks = 0
        for session in self.deployment.state["sessions"].values():
            for pid in self.deployment.members(session):
                try:
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except FileNotFoundError:
                    continue
                ticks += sum(int(fields[index]) for index in (11, 12, 13, 14))
        return ticks / os.sysconf("SC_CLK_TCK")


def one_start(
    workers: str, ports: dict[str, int], say: Callable[[str], None], *, ours_first: bool
) -> dict[str, dict[str, Any]]:
    """The figures of every contender on an Airflow that is started for them, by name."""
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-bench-") as temporary:
        folder = Path(temporary)
        extra = {"BENCH_FOLDER": temporary, "BENCH_SUITE": str(SUITE), **WORKERS[workers]}
        dags = project_for_the_benchmark(folder)
        deployment = LocalDeployment(folder / "home", ports, dags=dags, extra_environment=extra)
        land(deployment, say)
        with started(deployment, say):
            contenders = Round(deployment, folder)
            contenders.await_dags({"by_hand", *(f"{MODEL}_{stream}" for stream in ("train", "score", "monitor"))})
            # Not counted: files are in memory and bytecode is written before anybody is timed. A partition is scored
            # once, so ours has no such run; it goes first in every second round instead.
            contenders.bare()
            contenders.by_hand()
            order = {f"by_hand_{workers}": contenders.by_hand, f"ours_{workers}": contenders.ours}
            if workers == "cold":
                order = {"bare": contenders.bare, **order}
            return {name: order[name]() for name in (list(order)[::-1] if ours_first else list(order))}


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure, steps included."""
    result: dict[str, Any] = {}
    for name in rounds[0]:
        if name == "steps_s":
            steps = rounds[0][name]
            result[name] = {
                step: round(statistics.median(one[name].get(step) or 0 for one in rounds), 2) for step in steps
            }
        else:
            result[name] = round(statistics.median(one[name] for one in rounds), 2)
    return result


def main() -> int:
    """Measure, print, and write ``benchmarks/lifecycle.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    _, ports = settings()
    names = ["bare", *(f"{who}_{workers}" for workers in WORKERS for who in ("by_hand", "ours"))]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    for number in range(options.rounds):
        for workers in list(WORKERS) if number % 2 == 0 else list(WORKERS)[::-1]:
            for name, figures in one_start(workers, ports, say, ours_first=number % 2 == 1).items():
                found[name].append(figures)
                say(f"round {number + 1}: {name:12} {figures['wall_s']:6.1f} s")
    result = {name: medians(rounds) for name, rounds in found.items()}
    bare = result["bare"]["wall_s"]
    for figures in result.values():
        figures["over_bare_s"] = round(figures["wall_s"] - bare, 2)
        figures["ratio_to_bare"] = round(figures["wall_s"] / bare, 2)
    summary = {
        "measured_at": datetime.now(timezone.utc).date().isoformat(),
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "figures": result,
    }
    (REPOSITORY / "benchmarks" / "lifecycle.json").write_text(json.dumps(summary, indent=2) + "\n")
    if options.json:
        print(json.dumps(summary))
        return 0
    for name, figures in result.items():
        print(
            f"{name:12} {figures['wall_s']:6.1f} s wall"
            f"  ({figures['over_bare_s']:+.1f} s, {figures['ratio_to_bare']:.2f} x bare)"
            f"  {figures['cpu_s']:6.1f} s CPU"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
