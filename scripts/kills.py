"""Kills at every effect of an approval, a deployment and a rollback, on a real Airflow, and what has to hold after.

Either the task's process is killed, whose supervisor then reports it, or the supervisor alone: then the task lives on
as a zombie that sleeps until the next try has ended, and goes on with its effects afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import effects
from ml_lifecycle.core.invariants import violations
from ml_lifecycle.stages.reconciliation import snapshot
from trial import ENVIRONMENT, Trial, TrialError

Stage = Literal["ask", "answer", "look", "deploy", "rollback"]
TASKS: Mapping[Stage, tuple[str, str, str]] = {
    "ask": ("release", "approve", "execute"),
    "answer": ("release", "approve", "execute_complete"),
    "look": ("release", "deploy", "execute"),
    "deploy": ("release", "deploy", "execute_complete"),
    "rollback": ("rollback", "rollback", "execute"),
}
"""Stream, task and method that are killed, by what they do: ``look`` sends the triggerer for Airflow's own record."""
MOMENTS = ("before", "after")
VICTIMS = ("task", "supervisor")
DEADLINE_S = 240.0
SETTINGS = {
    # Airflow believes a task lost after this many seconds without a sign of its supervisor.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "60",
    "AIRFLOW__CORE__PARALLELISM": "12",
}
DAG_FILE = """\
from datetime import timedelta

from effects import arm
from airflow.sdk import get_parsing_context
from ml_lifecycle.dag_factories import airflow_dags

arm(get_parsing_context().dag_id, get_parsing_context().task_id)
made = airflow_dags(__file__)
for dag in made.values():
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=1)
globals().update(made)
"""


class Kill(NamedTuple):
    """One kill: where, when, and of whom."""

    stage: Stage
    effect: int
    """Counted from 1 within the task's process."""
    when: str
    victim: str

    def __str__(self) -> str:
        return f"{self.victim} {self.when} effect {self.effect} of {self.stage}"


class Shooting:
    """A trial whose tasks can be killed at any of their effects.

    :param models: How many models it has; each scene takes one.
    """

    def __init__(self, home: Path, models: Mapping[str, str]) -> None:
        self.plans = home.resolve() / "plans"
        self.plans.mkdir(parents=True)
        self.trial = Trial(
            home,
            models,
            dag_files={
                "effects.py": Path(effects.__file__).read_text(),
                **{f"{model}.py": DAG_FILE for model in models},
            },
            extra_environment={**SETTINGS, effects.FOLDER: str(self.plans)},
        )

    def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Start everything."""
        self.trial.start(say)

    def stop(self) -> None:
        """End every process."""
        self.trial.stop()

    def effects(self) -> dict[Stage, tuple[str, ...]]:
        """What each stage does, in order, as lives without a kill show it; takes two models.

        :raises TrialError: even those do not end as they should.
        """
        released, rolled_back = self.trial.model(), self.trial.model()
        scenes: tuple[tuple[str, Stage], ...] = ((released, "deploy"), (rolled_back, "rollback"))
        for model, stage in scenes:
            if mistakes := self._play(model, stage, None):
                raise TrialError(f"{stage} without a kill: {'; '.join(mistakes)}")
        return {stage: self._done(rolled_back if stage == "rollback" else released, stage) for stage in TASKS}

    def suffer(self, kill: Kill) -> list[str]:
        """Live through one kill with a model of its own; whatever is not as it should be afterwards."""
        model = self.trial.model()
        try:
            return [f"{kill}, {model}: {mistake}" for mistake in self._play(model, kill.stage, kill)]
        except TrialError as error:
            return [f"{kill}, {model}: {error}"]

    # --- scenes -------------------------------------------------------------------------------------------------------

    def _play(self, model: str, stage: Stage, kill: Kill | None) -> list[str]:
        if stage == "rollback":
            return self._roll_back(model, kill)
        return self._release(model, stage, kill)

    def _release(self, model: str, stage: Stage, kill: Kill | None) -> list[str]:
        trial, dag_id = self.trial, f"{model}_release"
        trial.candidate(model)
        self._plan(dag_id, kill)
        run_id = trial.by("engineer").trigger(dag_id)
        question = trial.question(dag_id, run_id, deadline_s=DEADLINE_S)
        if stage == "ask":
            self._awaken(dag_id, kill)
            question = trial.question(dag_id, run_id)
        reply = trial.answer("approver", question, "Approve")
        if not reply.ok:
            return [f"the answer was refused: {reply.status_code} {reply.text}"]
        state = trial.ended(dag_id, run_id, deadline_s=DEADLINE_S)
        self._awaken(dag_id, kill)
        return [*self._mistakes(model, [("release", 1)]), *_unless_success(trial, dag_id, run_id, state)]

    def _roll_back(self, model: str, kill: Kill | None) -> list[str]:
        trial, dag_id = self.trial, f"{model}_rollback"
        trial.released(model)
        trial.released(model)
        self._plan(dag_id, kill)
        run_id = trial.by("operator").trigger(dag_id, reason="complaints")
        state = trial.ended(dag_id, run_id, deadline_s=DEADLINE_S)
        self._awaken(dag_id, kill)
        moves = [("release", 1), ("release", 2), ("rollback", 1)]
        return [*self._mistakes(model, moves), *_unless_success(trial, dag_id, run_id, state)]

    def _plan(self, dag_id: str, kill: Kill | None) -> None:
        if kill is None:
            return
        plan = self._file(dag_id, kill, "plan")
        draft = plan.with_suffix(".draft")
        method = TASKS[kill.stage][2]
        draft.write_text(json.dumps({"method": method, "effect": kill.effect, "when": kill.when, "whom": kill.victim}))
        draft.replace(plan)

    def _awaken(self, dag_id: str, kill: Kill | None) -> None:
        """Let the zombie go on, and wait for its end; without a zombie, the killed process has ended already.

        :raises TrialError: nobody was killed.
        """
        if kill is None:
            return
        done = self._file(dag_id, kill, "done")
        if not done.exists():
            raise TrialError("the effect was not reached, so nobody was killed")
        self._file(dag_id, kill, "go").touch()
        pid = int(json.loads(done.read_text())["pid"])
        self.trial.wait_for(f"the end of the zombie {pid}", lambda: not _is_alive(pid))

    def _file(self, dag_id: str, kill: Kill, kind: str) -> Path:
        return self.plans / f"{dag_id}.{TASKS[kill.stage][1]}.{kind}"

    def _done(self, model: str, stage: Stage) -> tuple[str, ...]:
        """The effects of a stage's one process, in order."""
        stream, task, method = TASKS[stage]
        files = self.plans.glob(f"{model}_{stream}.{task}.*.trace")
        lines = [line.split("\t") for file in files for line in file.read_text().splitlines()]
        return tuple(label for name, label in lines if name == method)

    def _mistakes(self, model: str, moves: list[tuple[str, int]]) -> Iterator[str]:
        trial, tools = self.trial, self.trial.tools("look")
        made = [(move.kind, move.version) for move in trial.ledger.moves(model, ENVIRONMENT)]
        if made != moves:
            yield f"the moves are {made}, not {moves}"
        if trial.alias(model) != moves[-1][1]:
            yield f"the alias names version {trial.alias(model)}, not {moves[-1][1]}"
        yield from map(str, violations(snapshot(model, tools)))


def kills(effects_by_stage: Mapping[Stage, tuple[str, ...]]) -> list[Kill]:
    """The full set: at every effect, before and after it, of the task and of its supervisor."""
    return [
        Kill(stage, number, moment, victim)
        for stage, labels in effects_by_stage.items()
        for number, label in enumerate(labels, start=1)
        for moment in MOMENTS
        for victim in VICTIMS
        # What follows the end of the task's work is Airflow's.
        if (label, moment) != (effects.END, "after")
    ]


def _unless_success(trial: Trial, dag_id: str, run_id: str, state: str) -> list[str]:
    return [] if state == "success" else [f"the run ended as {state}: {trial.logs(dag_id, run_id)}"]


def _is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
