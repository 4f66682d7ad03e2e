"""Hundreds of releases, parked questions, races and kills on a real Airflow: ``make soak``.

The numbers go to ``benchmarks/soak.json``. The exit code is 0 only if nothing was refused that should pass, nothing was
lost, no rejection was overwritten, and every invariant held after every kill.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import quantiles
from threading import Barrier
from typing import Any, TypeVar

import requests

from kills import Shooting, kills
from local_deployment import REPOSITORY, DeploymentError
from ml_lifecycle.core.contracts import DatasetRef, Evaluation, GateDecision, ModelVersion, RunRequest, TrainedModel
from ml_lifecycle.core.errors import LifecycleError
from ml_lifecycle.stages.runner import record
from trial import ENVIRONMENT, Trial, TrialError, names, pipeline_text

OUT = REPOSITORY / "benchmarks" / "soak.json"
CROWD = """\
from airflow.sdk import DAG, task

from ml_lifecycle.operators.approval import ApproveModelOperator


class Ask(ApproveModelOperator):
    template_fields = (*ApproveModelOperator.template_fields, "model")


with DAG("crowd", max_active_runs=1000, max_active_tasks=1000, default_args={"retries": 2}):

    @task
    def heard(decision):
        return decision["outcome"]

    heard(Ask(task_id="approve", model="{{ dag_run.conf['model'] }}", approvers=["approver", "second"]).output)
"""
"""One run is one question about a model that the run's conf names, and one task after it."""
REJECT_EVERY = 10
"""Of the parked questions, every so many is answered by a rejection."""
CONTRADICTORY = (("approver", "Approve"), ("second", "Reject"), ("approver", "Reject"), ("second", "Approve"))
PART_DEADLINE_S = 3600.0
OK = 200
TRY_AGAIN = 503
TRIES = 5
PAUSE_S = 2.0

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    releases: int = 200
    models: int = 4
    """How many of them release at the same time, each one version after the other."""
    parked: int = 300
    one_at_a_time: int = 50
    """So many of the parked questions are answered while nothing else happens; the rest all at once."""
    races: int = 50
    at_once: int = 6
    """How many kills are lived through at the same time."""


SHORT = Size(releases=4, models=2, parked=6, one_at_a_time=2, races=3)


PARTS = ("releases", "parked", "races", "kills")


class Soak:
    """Runs the parts one after the other, and tells on stderr how far it is."""

    def __init__(self, size: Size, home: Path) -> None:
        self.size = size
        self.home = home
        self.report: dict[str, dict[str, Any]] = {}
        """What each part measured, and everything that was not as it must be."""
        self._mistakes: list[str] = []
        self._busy: Callable[[], int] = lambda: 0
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """One line of progress, with the time since the start."""
        print(f"[{time.monotonic() - self._began:6.0f} s] {text}", file=sys.stderr, flush=True)

    def run(self, parts: Collection[str]) -> None:
        """These parts, one after the other."""
        if set(parts) - {"kills"}:
            self._on_one_trial(parts)
        if "kills" in parts:
            self._measure("kills", self.kills)

    def _on_one_trial(self, parts: Collection[str]) -> None:
        models = {model: pipeline_text(model) for model in [*names("s", self.size.models), "seed"]}
        trial = Trial(self.home / "trial", models, dag_files={"crowd.py": CROWD})
        try:
            self._busy = lambda: trial.asked_again
            trial.start(self.say)
            for name, part in (("releases", self.releases), ("parked", self.parked), ("races", self.races)):
                if name in parts:
                    self._measure(name, partial(part, trial))
        finally:
            trial.stop()

    def _measure(self, name: str, part: Callable[[], dict[str, Any]]) -> None:
        """Run a part; what keeps it from ending is a mistake, too."""
        self.say(f"--- {name}")
        began, self._mistakes = time.monotonic(), []
        busy_before = self._busy() if name != "kills" else 0
        found: dict[str, Any] = {}
        try:
            found = part()
        except (TrialError, LifecycleError, requests.RequestException) as error:
            self._wrong([f"it could not go on: {error}"])
        seconds = round(time.monotonic() - began, 1)
        busy = {"asked_again_because_sqlite_was_busy": self._busy() - busy_before}
        self.report[name] = {**found, **busy, "seconds": seconds, "mistakes": self._mistakes}
        self.say(json.dumps(self.report[name]))

    def _wrong(self, mistakes: Iterable[str]) -> None:
        for mistake in mistakes:
            self.say(f"MISTAKE: {mistake}")
            self._mistakes.append(mistake)

    # --- clean releases -----------------------------------------------------------------------------------------------

    def releases(self, trial: Trial) -> dict[str, Any]:
        """Version after version of several models, each asked by an engineer and approved by an approver."""
        models = list(islice(trial.models, self.size.models))
        each = self.size.releases // len(models)
        refused: list[str] = []

        def live(model: str) -> None:
            for _ in range(each):
                refused.extend(_refusal(trial, model))
            self.say(f"{model}: {each} releases")

        _at_once(models, live)
        for model in models:
            moves = trial.ledger.moves(model, ENVIRONMENT)
            if [move.epoch for move in moves] != list(range(1, each + 1)):
                refused.append(f"{model} has the epochs {[move.epoch for move in moves]}")
            trial.ledger.verify_audit(model)
        self._wrong(refused)
        unlucky = _state_mismatches(trial)
        if unlucky:
            self._wrong([f"Airflow failed {unlucky} tasks with 'state mismatch'"])
        asked = each * len(models)
        return {"asked": asked, "models": len(models), "refused": len(refused), "state_mismatches": unlucky}

    # --- parked questions ---------------------------------------------------------------------------------------------

    def parked(self, trial: Trial) -> dict[str, Any]:
        """Hundreds of questions that wait at the same time, all of them answered."""
        models = names("p", self.size.parked)
        runs = self._ask_all(trial, models)
        slots = _slots(trial)
        if any(slots.values()):
            self._wrong([f"parked questions hold {slots}"])
        wanted = {
            model: "reject" if number % REJECT_EVERY == 0 else "approve" for number, model in enumerate(models, 1)
        }
        alone, together = models[: self.size.one_at_a_time], models[self.size.one_at_a_time :]
        took: dict[str, float] = {}
        told_to_wait: list[str] = []

        def answer(model: str) -> datetime | None:
            for _ in range(TRIES):
                reply = trial.answer("approver", runs[model], wanted[model].capitalize(), reason="the numbers")
                if reply.status_code != TRY_AGAIN:
                    break
                told_to_wait.append(model)
                time.sleep(PAUSE_S)
            if reply.status_code != OK:
                self._wrong([f"{model} could not be answered: {reply.status_code} {reply.text}"])
                return None
            return datetime.fromisoformat(reply.json()["responded_at"])

        def heard(model: str, at: datetime | None) -> None:
            if at is not None:
                took[model] = self._heard(trial, _run_id(runs[model]), wanted[model], at)

        for model in alone:
            heard(model, answer(model))
        self.say(f"{len(alone)} answered one at a time")
        answered = dict(zip(together, _at_once(together, answer, workers=8), strict=True))
        for model, at in answered.items():
            heard(model, at)
        lost = [model for model in models if not self._is_kept(trial, model, wanted[model])]
        self._wrong(f"the answer to {model} is lost" for model in lost)
        return {
            "parked": len(models),
            "slots": slots,
            "answered": len(took),
            "told_to_try_again": len(told_to_wait),
            "lost": len(lost),
            "answer_to_next_task_s": _shares([took[model] for model in alone if model in took]),
            "all_at_once_s": _shares([took[model] for model in together if model in took]),
        }

    def _ask_all(self, trial: Trial, models: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Questions by model, all of them parked."""
        seed = _Seed(trial)
        for model in models:
            seed.plant(model)
        runs = {trial.by("engineer").trigger("crowd", model=model): model for model in models}
        self.say(f"{len(runs)} runs started")

        def all_parked() -> dict[str, dict[str, Any]] | None:
            asked = [one for one in _questions(trial) if _run_id(one) in runs]
            waiting = [one for one in asked if one["task_instance"]["state"] == "awaiting_input"]
            return {runs[_run_id(one)]: one for one in waiting} if len(waiting) == len(runs) else None

        found = trial.wait_for(f"{len(runs)} parked questions", all_parked, deadline_s=PART_DEADLINE_S)
        self.say(f"{len(found)} questions are parked")
        return found

    def _heard(self, trial: Trial, run_id: str, outcome: str, at: datetime) -> float:
        """Seconds from the answer to the start of the task behind the question."""
        state = trial.task_ended("crowd", run_id, "heard", deadline_s=PART_DEADLINE_S)
        task = trial.task("crowd", run_id, "heard")
        said = trial.by("admin").xcom("crowd", run_id, "heard") if state == "success" else None
        if said != outcome:
            self._wrong([f"{run_id} was answered {outcome!r}, and the next task ({state}) heard {said!r}"])
            return float("inf")
        return (datetime.fromisoformat(task["start_date"]) - at).total_seconds()

    @staticmethod
    def _is_kept(trial: Trial, model: str, outcome: str) -> bool:
        decision = trial.ledger.decision_for(model, ENVIRONMENT, trial.newest(model).digest)
        return decision is not None and decision.outcome == outcome

    # --- races --------------------------------------------------------------------------------------------------------

    def races(self, trial: Trial) -> dict[str, Any]:
        """Two approvals and two rejections by two people at the same instant: one is taken, and it stands."""
        runs = self._ask_all(trial, names("r", self.size.races))
        taken: Counter[str] = Counter()
        statuses: Counter[int] = Counter()
        outcomes: dict[str, str] = {}
        for model, question in runs.items():
            start = Barrier(len(CONTRADICTORY))

            def answer(one: tuple[str, str], question: Any = question, start: Barrier = start) -> int:
                start.wait()
                return trial.answer(one[0], question, one[1], reason="raced").status_code

            found = _at_once(CONTRADICTORY, answer)
            statuses.update(found)
            good = [option for (_, option), status in zip(CONTRADICTORY, found, strict=True) if status == OK]
            if len(good) != 1:
                self._wrong([f"{model}: {len(good)} of four answers were taken: {found}"])
                continue
            taken[good[0]] += 1
            outcomes[model] = good[0].lower()
        overwritten = [model for model, outcome in outcomes.items() if not self._is_kept(trial, model, outcome)]
        self._wrong(f"{model}: the answer that was taken is not the decision" for model in overwritten)
        now = datetime.now().astimezone()
        for model, outcome in outcomes.items():
            self._heard(trial, _run_id(runs[model]), outcome, now)
        return {
            "races": len(runs),
            "with_one_answer_taken": sum(taken.values()),
            "taken": dict(taken),
            "statuses": {str(status): number for status, number in sorted(statuses.items())},
            "overwritten": len(overwritten),
        }

    # --- kills --------------------------------------------------------------------------------------------------------

    def kills(self) -> dict[str, Any]:
        """Every effect of asking, hearing the answer, deploying and rolling back, killed in every way."""
        most = 120
        shooting = Shooting(self.home / "shooting", {model: pipeline_text(model) for model in names("k", most)})
        try:
            self._busy = lambda: shooting.trial.asked_again
            shooting.start(self.say)
            stages = shooting.effects()
            wanted = kills(stages)
            self.say(f"{len(wanted)} kills at {sum(map(len, stages.values()))} effects")

            def suffer(kill: Any) -> list[str]:
                mistakes = shooting.suffer(kill)
                self.say(f"{kill}: {'; '.join(mistakes) or 'all is as it should be'}")
                return mistakes

            found = _at_once(wanted, suffer, workers=self.size.at_once)
        finally:
            shooting.stop()
        self._wrong(mistake for mistakes in found for mistake in mistakes)
        return {
            "kills": len(wanted),
            "by_victim": dict(Counter(kill.victim for kill in wanted)),
            "effects": {stage: list(labels) for stage, labels in stages.items()},
            "with_mistakes": sum(bool(mistakes) for mistakes in found),
        }


class _Seed:
    """Evidence of a trained, judged and registered version, planted under as many names as are wanted."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        if not trial.ledger.results(ENVIRONMENT, "seed", "register"):
            trial.candidate("seed")

    def plant(self, model: str) -> None:
        """Let the ledger know a first version of the model."""
        tools = self.trial.tools(f"{model}_train/prepared__1")
        request = RunRequest(model=model, run_id=tools.run, trigger="manual", requester="engineer")
        record("resolve", request, tools, model=model)
        record("snapshot", DatasetRef.model_validate(self._newest("snapshot")), tools, model=model)
        record("train", TrainedModel.model_validate({**self._newest("train"), "name": model}), tools, model=model)
        record("evaluate", Evaluation.model_validate(self._newest("evaluate")), tools, model=model)
        record("gate", GateDecision.model_validate(self._newest("gate")), tools, model=model)
        version = ModelVersion.model_validate({**self._newest("register"), "name": model})
        record("register", version, tools, model=model)

    def _newest(self, stage: str) -> dict[str, Any]:
        return dict(self.trial.ledger.results(ENVIRONMENT, "seed", stage)[-1]["content"])


def _questions(trial: Trial) -> list[dict[str, Any]]:
    """All open questions of the crowd."""
    path, query = "dags/crowd/dagRuns/~/hitlDetails", {"response_received": "false", "limit": 1000}
    return list(trial.by("admin").call("GET", path, params=query)["hitl_details"])


def _slots(trial: Trial) -> dict[str, int]:
    """What waiting holds of Airflow: slots of pools, and places of workers."""
    pools = trial.by("admin").call("GET", "pools")["pools"]
    kinds = ("occupied_slots", "running_slots", "queued_slots", "deferred_slots")
    held = {kind: sum(pool[kind] for pool in pools) for kind in kinds}
    query = {"state": ["running", "queued", "scheduled"], "limit": 1}
    busy = trial.by("admin").call("GET", "dags/crowd/dagRuns/~/taskInstances", params=query)
    return {**held, "tasks_on_workers": int(busy["total_entries"])}


def _state_mismatches(trial: Trial) -> int:
    """How often Airflow failed a task that was answered while it was being parked: a release that needs luck."""
    found = trial.by("admin").call("GET", "eventLogs", params={"event": "state mismatch", "limit": 1})
    return int(found["total_entries"])


def _refusal(trial: Trial, model: str) -> list[str]:
    """Why a clean release did not go through; nothing where it did."""
    try:
        trial.candidate(model)
        trial.release(model)
    except (TrialError, LifecycleError, requests.RequestException) as error:
        return [f"a release of {model}: {error}"]
    return []


def _run_id(question: dict[str, Any]) -> str:
    return str(question["task_instance"]["dag_run_id"])


def _at_once(items: Sequence[Item], work: Callable[[Item], Result], *, workers: int | None = None) -> list[Result]:
    with ThreadPoolExecutor(workers or len(items) or 1) as pool:
        return list(pool.map(work, items))


def _shares(seconds: Sequence[float]) -> dict[str, float]:
    """Half of all are at most ``p50``, 19 of 20 at most ``p95``."""
    if len(seconds) < 2:  # noqa: PLR2004  # of one number there are no shares
        return {}
    cuts = quantiles(seconds, n=20, method="inclusive")
    return {"p50": round(cuts[9], 2), "p95": round(cuts[18], 2), "most": round(max(seconds), 2)}


def _interrupt(number: int, _frame: object) -> None:
    """End like a person's Ctrl-C: every process that was started is ended first."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> int:
    """Run the soak; exit code 0 only if everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few of each, without kills; writes no file")
    parser.add_argument("--json", action="store_true", help="print the report to stdout")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="others keep what the file says")
    parser.add_argument("--out", type=Path, default=OUT, help="where the report is written")
    parser.add_argument("--home", type=Path, help="an empty folder to work in; kept at the end")
    arguments = parser.parse_args()
    parts = PARTS[:-1] if arguments.short else arguments.parts
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-soak-") as temporary:
        signal.signal(signal.SIGTERM, _interrupt)
        soak = Soak(SHORT if arguments.short else Size(), arguments.home or Path(temporary))
        try:
            soak.run(parts)
        except DeploymentError as error:
            soak.say(f"FAILED: {error}")
    kept = json.loads(arguments.out.read_text()) if arguments.out.exists() and not arguments.short else {}
    measured = {name: found for name, found in (kept | soak.report).items() if name in PARTS}
    is_whole = set(parts) <= set(soak.report)
    report = {
        "ok": is_whole and not any(part["mistakes"] for part in measured.values()),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        **{name: measured[name] for name in PARTS if name in measured},
    }
    text = json.dumps(report, indent=2)
    if arguments.json:
        print(text)
    if not arguments.short:
        arguments.out.write_text(f"{text}\n")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
