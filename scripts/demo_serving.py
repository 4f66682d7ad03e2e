"""Two versions behind one address, and evidence that decides the traffic, on real flights: ``make demo-serving``.

A real Airflow releases the flights' model to model servers behind HAProxy while July's flights are asked for without a
pause, and while their outcomes come in. Version 2 learned more and is promoted step by step; version 3 learned too
little and is rolled back by what its answers were worth. Nobody answers a question: the pipeline lets policy decide.
At the end stand a picture, ``rollout.png`` below the demo's folder, and a look at ledger, router and answers; only if
all is as it should be is the exit code 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from airflow_client import AirflowClient
from live_traffic import Traffic
from local_deployment import HOST, REPOSITORY, DeploymentError, LocalDeployment, settings, started

MODEL = "flight_delays"
MONTHS = "1-7"
ASKED = "2013-07"
RATE = 100.0
PHASE_S = 900
PAUSE_S = 1.0
SHOWN_EVERY_S = 5.0
HEADER_EVERY = 20
SERVING_PORT = 8500
INSTALL = "HAProxy is missing; install it, on Debian with: apt-get install haproxy"
PIPELINE = """\
model: flight_delays
owner: flight-operations
contact: ml-oncall@example.com
risk: low
description: Will a flight from New York arrive more than 15 minutes late?

data:
  source: "flights/{{ partition }}.parquet"
  labels: "arrivals/{{ partition }}.parquet"
  related: {weather: "weather/{{ partition }}.parquet"}
  partitions: monthly
  window: 3
  key: flight_id
  time: scheduled_departure
  target: delayed
  labels_after: 1d
  drop:
    - {column: delayed, because: "cancelled or diverted: it never arrived"}
  holdout: {by: time, last: 20%}

training:
  features: include.flight_delays.features:build
  estimator: sklearn.ensemble.HistGradientBoostingClassifier
  hyperparameters:
    max_iter: {value: 80, low: 1, high: 500}
    learning_rate: {value: 0.1, low: 0.001, high: 1}
  seed: 7

evaluation:
  metrics: [roc_auc, brier]
  gate:
    - {metric: roc_auc, at_least: 0.55}             # lax on purpose: here the traffic's evidence decides

approval: {required: never}                         # continuous deployment: policy approves what passes the gate

deployment:
  backend: local
  steps: [10, 50, 100]
  keep_previous: 20s
  analysis:
    min_requests: 300
    look_every: 2s
    max_wait: 10m
    quality: {metric: brier, margin: 0.02}
"""
EVENTS = {
    ("step_10", "success"): "10% passed",
    ("promote", "success"): "all traffic",
    ("promote", "skipped"): "rolled back",
}
"""What the picture tells of a release's tasks."""
DAG_FILE = """\
from ml_lifecycle.dag_factories import airflow_dags

globals().update(airflow_dags(__file__))
"""


class DemoError(Exception):
    """Something did not do what the demo shows."""


@dataclass
class Moment:
    """One line of the live table."""

    at: float
    split: dict[int, int]
    asked: int
    failed: int
    worth: dict[int, float | None]
    """Mean squared distance of each version's newest answers from what turned out."""


@dataclass
class Demo:
    """The deployment, its traffic, and what was seen."""

    deployment: LocalDeployment
    serving: Path
    began: float = field(default_factory=time.monotonic)
    seen: list[Moment] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    lines: int = 0
    shown: float = 0.0

    def say(self, text: str) -> None:
        """One line of progress, with the time since the start."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {text}", flush=True)

    def run(self) -> list[str]:
        """The whole story; returns what is not as it should be."""
        self.engineer = AirflowClient(self.deployment.airflow_url, "engineer", self.deployment.users["engineer"])
        self._await("Airflow's DAGs", self._dags_are_there)
        self.say("--- version 1 learns from January to March, and serves at once: there is nothing before it")
        self._train("2013-03")
        self._released(1)
        with Traffic(self.deployment.data_root, ASKED, self.serving, MODEL, rate=RATE) as self.traffic:
            self._watch(5)
            self.say("--- version 2 learns from April to June")
            self._train("2013-06")
            self._released(2)
            self._watch(5)
            self.say("--- version 3 learns too little, and passes a gate that asks for little")
            self._train("2013-06", max_iter=3, learning_rate=0.02)
            self._released(3)
            self._watch(10)
        return list(self._mistakes())

    # --- what happens -------------------------------------------------------------------------------------------------

    def _train(self, partition: str, **hyperparameters: Any) -> None:
        run_id = self.engineer.trigger(f"{MODEL}_train", partition=partition, reason="the demo", **hyperparameters)
        self._await(f"the training on {partition}", lambda: self._ended("train", run_id))

    def _released(self, number: int) -> None:
        """Wait until the release of the newest version has ended, telling its tasks."""
        self._mark(f"version {number} is released")

        def ended() -> bool:
            runs = self.engineer.runs(f"{MODEL}_release")
            return len(runs) >= number and self._ended("release", runs[number - 1]["dag_run_id"])

        self._await(f"the release of version {number}", ended)

    def _ended(self, stream: str, run_id: str) -> bool:
        dag_id = f"{MODEL}_{stream}"
        for task in self.engineer.tasks(dag_id, run_id):
            key, state = f"{run_id}.{task['task_id']}", str(task["state"])
            if self.told.get(key) != state and state in ("success", "skipped", "failed", "deferred"):
                self.told[key] = state
                self.say(f"{dag_id:22} {task['task_id']:14} {state}")
                if stream == "release":
                    self._mark(EVENTS.get((task["task_id"], state), ""))
                if state == "failed":
                    raise DemoError(f"{dag_id}.{task['task_id']} failed; see {self.deployment.home}/airflow/logs")
        run = next(run for run in self.engineer.runs(dag_id) if run["dag_run_id"] == run_id)
        return bool(run["state"] in ("success", "failed"))

    def _dags_are_there(self) -> bool:
        if errors := self.engineer.import_errors():
            raise DemoError("a DAG file could not be read:\n" + "\n".join(errors))
        return {f"{MODEL}_train", f"{MODEL}_release"} <= self.engineer.dags()

    def _await(self, what: str, done: Any) -> None:
        deadline = time.monotonic() + PHASE_S
        while not done():
            if time.monotonic() > deadline:
                raise DemoError(f"{what} did not end within {PHASE_S} s")
            self._look()
            time.sleep(PAUSE_S)

    def _watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._look()
            time.sleep(PAUSE_S)

    def _mark(self, what: str) -> None:
        if what and self.seen:
            self.marks.append((time.monotonic() - self.began, what))

    # --- what is seen -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """One line of the live table."""
        if not hasattr(self, "traffic"):
            return
        counts = self.traffic.counts()
        moment = Moment(time.monotonic() - self.began, self._split(), counts.asked, counts.failed, counts.worth)
        is_news = not self.seen or moment.split != self.seen[-1].split
        self.seen.append(moment)
        if not is_news and moment.at - self.shown < SHOWN_EVERY_S:
            return
        self.shown = moment.at
        if self.lines % HEADER_EVERY == 0:
            print("            requests  failed  split                            brier of the newest answers")
        self.lines += 1
        split = "  ".join(f"v{version} {share:3}%" for version, share in sorted(moment.split.items()))
        worth = "  ".join(f"v{version} {value:.3f}" for version, value in sorted(moment.worth.items()) if value)
        self.say(f"  {moment.asked:9,} {moment.failed:7,}  {split:32} {worth}")

    def _split(self) -> dict[int, int]:
        return dict(self._serving().traffic)

    def _serving(self) -> Any:
        from ml_lifecycle.backends.deployment import target_from
        from ml_lifecycle.backends.deployment.base import Means
        from ml_lifecycle.backends.tracking.local import LocalTracking

        registry = LocalTracking(self.serving / "nobodys")
        means = Means(registry=registry, package=_no_package, serving_home=self.serving)
        return target_from({"backend": "local"}).status(MODEL, means)

    # --- what has to be -----------------------------------------------------------------------------------------------

    def _mistakes(self) -> Iterator[str]:
        from ml_lifecycle.backends.ledger.sql import SqlLedger

        ledger = SqlLedger(self.deployment.ledger_url)
        moves = [(move.kind, move.version, move.moved_by) for move in ledger.moves(MODEL, "dev")]
        releases = [("release", version, "policy") for version in (1, 2, 3)]
        if moves != [*releases, ("rollback", 2, "analysis")]:
            yield f"the ledger's moves are {moves}"
        if self._split() != {2: 100}:
            yield f"the router sends {self._split()}, not everything to version 2"
        if failed := self.traffic.counts().failed:
            yield f"{failed} requests failed: {self.traffic.failures()}"
        shares = {moment.split.get(2, 0) for moment in self.seen}
        if not {0, 10, 50, 100} <= shares:
            yield f"version 2 was seen with {sorted(shares)} percent"
        if not {moment.split.get(3, 0) for moment in self.seen} & {10, 50}:
            yield "version 3 was never seen with traffic"
        ledger.verify_audit(MODEL)


def draw(demo: Demo, path: Path) -> None:
    """Split and quality over time, as one picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    colors = {1: "#7a869a", 2: "#1f6fb2", 3: "#c2410c"}
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 6), sharex=True, layout="constrained")
    at = [moment.at for moment in demo.seen]
    bottoms = [0.0] * len(at)
    for version, color in colors.items():
        shares = [float(moment.split.get(version, 0)) for moment in demo.seen]
        tops = [low + share for low, share in zip(bottoms, shares, strict=True)]
        top.fill_between(at, bottoms, tops, step="post", color=color, alpha=0.85, label=f"version {version}", lw=0)
        bottoms = tops
        worth = [moment.worth.get(version) if moment.split.get(version) else None for moment in demo.seen]
        values = [float("nan") if value is None else value for value in worth]
        bottom.plot(at, values, color=color, lw=1.8, label=f"version {version}")
    for moment, what in demo.marks:
        for axes in (top, bottom):
            axes.axvline(moment, color="#111827", lw=0.6, ls=":")
        top.annotate(
            what,
            (moment, 0.97),
            xytext=(-4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            fontsize=8,
            va="top",
            ha="right",
            bbox={"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 1.5},
        )
    top.set_ylabel("share of the traffic, %")
    top.set_ylim(0, 100)
    top.legend(loc="lower left", ncols=3, framealpha=0.9)
    bottom.set_ylabel("Brier score of the newest answers\n(lower is better)")
    bottom.set_xlabel("seconds")
    last = demo.seen[-1]
    top.set_title(f"Who answers {last.asked:,} requests, of which {last.failed} failed", loc="left")
    bottom.set_xlim(at[0], at[-1])
    figure.savefig(path, dpi=150)
    plt.close(figure)


# --- Around it -------------------------------------------------------------------------------------------------------


def write_project(folder: Path) -> None:
    """A team's project: the pipeline, its two-line DAG file, and the team's functions."""
    (folder / "dags").mkdir(parents=True)
    (folder / "dags" / f"{MODEL}.yaml").write_text(PIPELINE)
    (folder / "dags" / f"{MODEL}.py").write_text(DAG_FILE)
    shutil.copytree(REPOSITORY / "include", folder / "include", ignore=shutil.ignore_patterns("__pycache__"))


@contextmanager
def serving_up(home: Path, port: int) -> Iterator[None]:
    """Supervisor, router and guard; ended whatever happens."""
    command = [sys.executable, "-m", "ml_lifecycle", "serving"]
    # Labels find their answers sooner: for the demo a day takes seconds.
    environment = {**os.environ, "ML_LIFECYCLE_LOG_EVERY_S": "2"}
    up = [*command, "up", "--home", str(home), "--port", str(port)]
    done = subprocess.run(up, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise DemoError(f"`ml-lifecycle serving up` failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    try:
        yield
    finally:
        subprocess.run([*command, "down", "--home", str(home)], capture_output=True, timeout=120, check=False)


def free_port(first: int) -> int:
    """The first port from there on that nobody listens at."""
    for port in range(first, first + 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise DemoError(f"no free port from {first} to {first + 99}")


def _no_package(uri: str, digest: str) -> Any:
    raise AssertionError(f"nobody loads {uri} ({digest}) to look")


def land(data_root: Path) -> None:
    """Put January to July into the data root."""
    command = [sys.executable, "-m", "include.flight_delays.land", "--data-root", str(data_root), "--months", MONTHS]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise DemoError(f"the flights could not be landed: {done.stderr.strip()[-2000:]}")


def main() -> int:
    """Run the demo from an empty folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also write the picture here")
    options = parser.parse_args()
    if shutil.which("haproxy") is None and not Path("/usr/sbin/haproxy").is_file():
        print(INSTALL, file=sys.stderr)
        return 1
    home, ports = settings()
    home = home.with_name(f"{home.name}-serving")
    place, project = home / "serving", home / "project"
    deployment = LocalDeployment(
        home, ports, dags=project / "dags", extra_environment={"AIRFLOW__ML_LIFECYCLE__SERVING_HOME": str(place)}
    )
    demo = Demo(deployment, place)
    mistakes: list[str] = []
    try:
        deployment.erase()
        write_project(project)
        demo.say("landing the flights that left New York from January to July 2013")
        land(deployment.data_root)
        with serving_up(place, free_port(SERVING_PORT)), started(deployment, demo.say):
            mistakes = demo.run()
    except (DemoError, DeploymentError, requests.RequestException) as error:
        mistakes = [str(error)]
    except KeyboardInterrupt:
        print("\ninterrupted; everything was stopped", file=sys.stderr)
        return 130
    if demo.seen:
        draw(demo, home / "rollout.png")
        if options.picture:
            shutil.copyfile(home / "rollout.png", options.picture)
        print(f"\n  picture   {home / 'rollout.png'}\n  ledger    {deployment.ledger_url}\n  log       {place / 'log'}")
    (home / "summary.json").write_text(json.dumps({"ok": not mistakes, "mistakes": mistakes}, indent=1))
    for mistake in mistakes:
        print(f"\nFAILED: {mistake}", file=sys.stderr)
    if not mistakes:
        print(f"\nAll is as it should be, in {time.monotonic() - demo.began:.0f} s. Everything was stopped.")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
