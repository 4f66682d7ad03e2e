"""One model's whole life on real flights, unattended, on a real Airflow: ``make demo``.

Two people act over Airflow's REST API, as they would on its page: an engineer asks for a training and later for a
rollback, an approver answers. Everything else Airflow does by itself. The final state is read back from MLflow, the
ledger and the files; only if it is what it should be is the exit code 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import requests

from airflow_client import AirflowClient
from demo_checks import final_state_mistakes
from local_deployment import DeploymentError, LocalDeployment, land, settings, started

MODEL = "flight_delays"
STREAMS = ("train", "release", "score", "monitor", "rollback")
MONTHS = ("2013-04", "2013-05", "2013-06")
PHASE_DEADLINE_S = 300
READ_BEFORE_ANSWERING_S = 8
"""Airflow 3.3 may fail a question that is answered while it is still being parked."""
WAITING = ("DatasetReadySensor", "ModelVersionSensor", "ApproveModelOperator")
DONE = ("success", "failed", "skipped", "upstream_failed", "removed")


class DemoError(Exception):
    """A stage did not do what the demo shows; the text names it, why, and where its log is."""


@dataclass
class Step:
    """One row of the table at the end."""

    step: str
    dag_id: str
    result: str = "failed"
    seconds: float = 0.0
    """Spent in the tasks of its runs; waiting for data or people is not counted."""
    where: dict[str, str] = field(default_factory=dict)
    """Addresses by what is to be seen there."""


@dataclass
class Summary:
    """What ``summary.json`` holds."""

    ok: bool = False
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    airflow: str = ""
    mlflow: str = ""
    ledger: str = ""
    data: str = ""
    mistakes: list[str] = field(default_factory=list)


class Demo:
    """The engineer, the approver, and somebody who watches what Airflow does."""

    def __init__(self, deployment: LocalDeployment) -> None:
        self.deployment = deployment
        self.summary = Summary()
        self.began = time.monotonic()
        self._seen: dict[tuple[str, str, str], str] = {}

    def say(self, text: str) -> None:
        """One line of progress, with the time since the start."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {text}", flush=True)

    def run(self) -> Summary:
        """The whole life; raises at the first stage that does not do what it should."""
        deployment = self.deployment
        self.summary.airflow, self.summary.mlflow = deployment.airflow_url, deployment.mlflow_url
        self.summary.ledger, self.summary.data = deployment.ledger_url, str(deployment.data_root)
        self.engineer, self.approver = (
            AirflowClient(deployment.airflow_url, user, deployment.users[user]) for user in ("engineer", "approver")
        )
        self._await_dags()
        with self._step("1 train on January to March", "train") as step:
            run_id = self.engineer.trigger(self._dag("train"), partition="2013-03", reason="first model")
            self._trained(step, self._await_run("train", lambda run: run["dag_run_id"] == run_id))
        with self._step("2 release version 1", "release") as step:
            self._approve(step, 1)
        with self._step("3 score April to June", "score") as step:
            self._await_months(step, "score")
        with self._step("4 monitor April to June", "monitor") as step:
            self._await_months(step, "monitor")
        with self._step("5 retrain because of drift", "train") as step:
            self._trained(step, self._await_run("train", lambda run: run["run_type"] == "asset_triggered"))
        with self._step("  release version 2", "release") as step:
            self._approve(step, 2)
        with self._step("6 roll back to version 1", "rollback") as step:
            run_id = self.engineer.trigger(self._dag("rollback"), reason="complaints about version 2 from Newark")
            self._ran(step, self._await_run("rollback", lambda run: run["dag_run_id"] == run_id))
            step.result = "version 1 serves again, by engineer: complaints about version 2 from Newark"
        return self._finish()

    def _finish(self) -> Summary:
        self.summary.mistakes = final_state_mistakes(self.deployment, MODEL, MONTHS)
        self.summary.ok = not self.summary.mistakes
        return self.summary

    # --- what the two people do ---------------------------------------------------------------------------------------

    def _approve(self, step: Step, version: int) -> None:
        question = self._await(f"a question about version {version}", lambda: self._question(version))
        run_id = question["task_instance"]["dag_run_id"]
        self.say(f"approver reads: {question['subject']}")
        time.sleep(READ_BEFORE_ANSWERING_S)
        option = next(option for option in question["options"] if option.startswith("Approve"))
        self.say(f"approver answers: {option}")
        self.approver.answer(question, option, reason="the gate's numbers are good")
        self._ran(step, self._await_run("release", lambda run: run["dag_run_id"] == run_id))
        step.result = f"{option}, by approver; version {version} is champion"

    def _question(self, version: int) -> dict[str, Any] | None:
        asked = self.approver.required_actions(self._dag("release"))
        return next((question for question in asked if f"version {version}" in question["subject"]), None)

    # --- what Airflow does --------------------------------------------------------------------------------------------

    def _trained(self, step: Step, run: dict[str, Any]) -> None:
        gate = self.engineer.xcom(run["dag_id"], run["dag_run_id"], "gate")
        failed = [
            f"{check['rule']} (observed {check['observed']})" for check in gate["checks"] if check["verdict"] == "fail"
        ]
        if failed:
            raise DemoError(f"the gate failed the candidate of {run['dag_id']}: {'; '.join(failed)}")
        registered = self.engineer.xcom(run["dag_id"], run["dag_run_id"], "register")
        auc = gate["evaluation"]["metrics"]["roc_auc"]["value"]
        self._ran(step, run)
        step.result = (
            f"version {registered['version']}, gate {gate['verdict']}, ROC AUC {auc:.3f}; {registered['reason']}"
        )

    def _await_months(self, step: Step, stream: str) -> None:
        def all_done() -> list[dict[str, Any]] | None:
            done = [run for run in self.engineer.runs(self._dag(stream)) if run["state"] == "success"]
            return done if len(done) >= len(MONTHS) else None

        runs = self._await(f"{len(MONTHS)} runs of {self._dag(stream)}", all_done)
        kinds = {run["run_type"] for run in runs}
        if kinds != {"scheduled"}:
            raise DemoError(f"{self._dag(stream)} was to run by its schedule alone, and ran {sorted(kinds)}")
        self._ran(step, *runs)
        step.result = f"{len(runs)} runs by Airflow's schedule: {', '.join(MONTHS)}"

    def _ran(self, step: Step, *runs: dict[str, Any]) -> None:
        """Note how long a step's runs took, and the buttons of their tasks."""
        tasks = [task for run in runs for task in self.engineer.tasks(run["dag_id"], run["dag_run_id"])]
        step.seconds = round(sum(task["duration"] or 0 for task in tasks if task["operator"] not in WAITING), 1)
        for task in tasks:
            links = self.engineer.links(task["dag_id"], task["dag_run_id"], task["task_id"])
            step.where |= {name: address for name, address in links.items() if address}

    def _await_run(self, stream: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        def finished() -> dict[str, Any] | None:
            runs = [run for run in self.engineer.runs(self._dag(stream)) if wanted(run)]
            return next((run for run in runs if run["state"] == "success"), None)

        run: dict[str, Any] = self._await(f"a run of {self._dag(stream)}", finished)
        return run

    def _await(self, what: str, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PHASE_DEADLINE_S
        while time.monotonic() < deadline:
            self._watch()
            found = look()
            if found:
                self._watch()
                return found
            time.sleep(1)
        raise DemoError(f"{what} did not come within {PHASE_DEADLINE_S} s; see {self.deployment.home / 'logs'}")

    def _await_dags(self) -> None:
        wanted = {self._dag(stream) for stream in STREAMS}
        deadline = time.monotonic() + PHASE_DEADLINE_S
        self.say("waiting for Airflow to read the DAG files")
        while not wanted <= self.engineer.dags():
            if errors := self.engineer.import_errors():
                raise DemoError("a DAG file could not be read:\n" + "\n".join(errors))
            if time.monotonic() > deadline:
                raise DemoError(f"Airflow did not read {', '.join(sorted(wanted))}; see the dag-processor's log")
            time.sleep(0.5)

    def _watch(self) -> None:
        """Print what changed, and stop at the first task that failed for good."""
        for stream in STREAMS:
            for run in self.engineer.runs(self._dag(stream)):
                key = (stream, run["dag_run_id"], "")
                if self._seen.get(key) in ("success", "failed"):
                    continue
                for task in self.engineer.tasks(self._dag(stream), run["dag_run_id"]):
                    self._watch_task(stream, run, task)
                self._seen[key] = run["state"]

    def _watch_task(self, stream: str, run: dict[str, Any], task: dict[str, Any]) -> None:
        key = (stream, run["dag_run_id"], task["task_id"])
        state = task["state"]
        if self._seen.get(key) == state or state in (None, "scheduled", "queued", "restarting"):
            return
        self._seen[key] = state
        about = (run.get("data_interval_start") or "")[:7] if run["run_type"] == "scheduled" else run["run_type"]
        took = f" in {task['duration']:.1f} s" if state in DONE and task["duration"] is not None else ""
        self.say(f"{self._dag(stream):24} {about:16} {task['task_id']:16} {state}{took}")
        if state in ("failed", "up_for_retry"):
            reason, place = self._why(task)
            if state == "failed":
                raise DemoError(f"{task['dag_id']}.{task['task_id']} failed: {reason}\nits log: {place}")
            self.say(f"  will try again: {reason}")

    def _why(self, task: dict[str, Any]) -> tuple[str, Path]:
        place = (
            self.deployment.home
            / "airflow"
            / "logs"
            / f"dag_id={task['dag_id']}"
            / f"run_id={task['dag_run_id']}"
            / f"task_id={task['task_id']}"
            / f"attempt={task['try_number']}.log"
        )
        log = self.engineer.log(task["dag_id"], task["dag_run_id"], task["task_id"], task["try_number"])
        errors = [str(line["event"]) for line in log if line.get("level") in ("error", "critical")]
        return (errors[0] if errors else "its log holds no error"), place

    # --- the table ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _step(self, title: str, stream: str) -> Iterator[Step]:
        self.say(f"--- {title.strip()}")
        step = Step(title, self._dag(stream))
        step.where["Airflow"] = f"{self.deployment.airflow_url}/dags/{step.dag_id}"
        self.summary.steps.append(step)
        yield step

    @staticmethod
    def _dag(stream: str) -> str:
        return f"{MODEL}_{stream}"


def print_table(summary: Summary) -> None:
    """What happened, and where to look."""
    print("\n  what happened                 in tasks  result")
    for step in summary.steps:
        print(f"  {step.step:29} {step.seconds:6.1f} s  {step.result}")
    print("\n  where to look (start it again with: make up)")
    for step in summary.steps:
        for name, address in step.where.items():
            print(f"  {step.step.strip():29} {name:15} {address}")
    for name in ("airflow", "mlflow", "ledger", "data"):
        print(f"  {name:29} {'':15} {getattr(summary, name)}")
    print(f"  {'reports':29} {'':15} {summary.data}/reports")


def main() -> int:
    """Run the demo from an empty folder; exit code 0 only if everything is as it should be."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    home, ports = settings()
    deployment = LocalDeployment(home, ports)
    demo = Demo(deployment)
    try:
        deployment.erase()
        land(deployment, demo.say)
        with started(deployment, demo.say):
            summary = demo.run()
    except (DemoError, DeploymentError, requests.RequestException) as error:
        demo.summary.mistakes.append(str(error))
        summary = demo.summary
    except KeyboardInterrupt:
        print("\ninterrupted; everything was stopped", file=sys.stderr)
        return 130
    summary.seconds = round(time.monotonic() - demo.began, 1)
    (home / "summary.json").write_text(json.dumps(asdict(summary), indent=2))
    if summary.steps:
        print_table(summary)
    for mistake in summary.mistakes:
        print(f"\nFAILED: {mistake}", file=sys.stderr)
    if summary.ok:
        print(
            f"\nAll is as it should be, in {summary.seconds:.0f} s. Everything was stopped; look around with: make up"
        )
    return 0 if summary.ok else 1


if __name__ == "__main__":
    sys.exit(main())
