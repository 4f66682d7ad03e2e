"""A small project with many models on a real Airflow: for attacks on approvals, for kills, and for the soak.

A training takes seconds: a hundred rows, one feature, a decision tree. :meth:`Trial.candidate` makes a registered
candidate by running the stages themselves in this process, so that a release can be asked for at once.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import requests

from airflow_client import AirflowClient
from local_deployment import DEFAULT_PORTS, HOST, LocalDeployment
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import ModelVersion, Move, RunRequest
from ml_lifecycle.pipeline.spec import Pipeline
from ml_lifecycle.stages.runner import Tools, record, run

ENVIRONMENT = "dev"
PEOPLE = {
    "admin": "admin",
    "engineer": "user",
    "approver": "user",
    "second": "user",
    "operator": "op",
    "viewer": "viewer",
}
"""Role by user name; ``approver`` and ``second`` may answer."""
SETTINGS = {
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in PEOPLE.items()),
    # Many small files that seldom change: each is read again when it changes, not every half minute.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "1000",
}
MONTHS = ("2024-01", "2024-02")
DEADLINE_S = 120.0
START_S = 600.0
"""Hundreds of files are read."""
PAUSE_S = 0.3
OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
PIPELINE = """\
model: {model}
owner: team
contact: team@example.com
data:
  source: "rows/{{{{ partition }}}}.parquet"
  window: 2
  key: id
  time: at
  target: late
training:
  features: crew.features:build
  estimator: sklearn.tree.DecisionTreeClassifier
  hyperparameters:
    max_depth: {{value: 3, low: 1, high: 1000000}}
evaluation:
  metrics: [roc_auc]
  gate:
    - {{metric: roc_auc, at_least: {at_least}}}
approval: {approval}
{more}"""
APPROVAL = "{required: always, approvers: [approver, second]}"
AT_LEAST = 0.6
FEATURES = '''\
"""What the model sees."""


def build(rows):
    """The distance alone."""
    return rows[["distance"]].astype("float64")
'''
DAG_FILE = """\
from ml_lifecycle.dag_factories import airflow_dags

globals().update(airflow_dags(__file__))
"""

Found = TypeVar("Found")


class TrialError(Exception):
    """Airflow did not come to where it was expected to; the text says what was awaited."""


def pipeline_text(model: str, *, approval: str = APPROVAL, at_least: float = AT_LEAST, more: str = "") -> str:
    """A model's YAML file; ``more`` are its further sections."""
    return PIPELINE.format(model=model, approval=approval, at_least=at_least, more=more)


class Trial:
    """One running deployment, its people, and what they do.

    :param models: The YAML text of each model, by its name.
    :param dag_files: More DAG files, by their names.
    """

    def __init__(
        self,
        home: Path,
        models: Mapping[str, str],
        *,
        dag_files: Mapping[str, str] | None = None,
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.project = home / "project"
        self.dags = self.project / "dags"
        self.deployment = LocalDeployment(
            home / "deployment",
            {name: _free_port() for name in DEFAULT_PORTS},
            dags=self.dags,
            extra_environment={**SETTINGS, **(extra_environment or {})},
        )
        self.models = dict(models)
        self.dag_files = dict(dag_files or {})
        self._clients: dict[str, AirflowClient] = {}
        self._numbers = count(1)
        self._given = iter(self.models)
        self._ahead: deque[tuple[str, str]] = deque()

    # --- starting and stopping ----------------------------------------------------------------------------------------

    def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Write the project, start everything, and wait until Airflow has read all models."""
        self._write_project()
        self.deployment.start(say)
        wanted = {f"{model}_{stream}" for model in self.models for stream in ("train", "release", "rollback")}
        self.wait_for("all DAGs", lambda: wanted <= self.everybody_sees(), deadline_s=START_S)

    def stop(self) -> None:
        """End every process of the deployment."""
        for client in self._clients.values():
            client.close()
        self.deployment.stop()

    def everybody_sees(self) -> set[str]:
        """Names of the DAGs that Airflow has read.

        :raises TrialError: it could not read a file.
        """
        if errors := self.by("admin").import_errors():
            raise TrialError("\n".join(errors))
        return self.by("admin").dags()

    def _write_project(self) -> None:
        self.deployment.claim()
        for folder in (self.dags, self.project / "crew"):
            folder.mkdir(parents=True)
        (self.project / "crew" / "features.py").write_text(FEATURES)
        for model, text in self.models.items():
            (self.dags / f"{model}.yaml").write_text(text)
            (self.dags / f"{model}.py").write_text(DAG_FILE)
        for name, text in self.dag_files.items():
            (self.dags / name).write_text(text)
        for month in MONTHS:
            write_month(self.deployment.data_root / "rows", month)

    # --- people -------------------------------------------------------------------------------------------------------

    def by(self, person: str) -> AirflowClient:
        """Airflow's API as one person sees it."""
        if person not in self._clients:
            password = self.deployment.users[person]
            self._clients[person] = AirflowClient(self.deployment.airflow_url, person, password)
        return self._clients[person]

    @property
    def asked_again(self) -> int:
        """How often a call was made anew because Airflow's SQLite was busy."""
        return sum(client.asked_again for client in self._clients.values())

    def model(self) -> str:
        """A model that nobody was given before."""
        return next(self._given)

    # --- candidates ---------------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> SqlLedger:
        """The deployment's ledger."""
        return SqlLedger(self.deployment.ledger_url)

    def tools(self, run_id: str) -> Tools:
        """The deployment's backends, from outside Airflow."""
        from ml_lifecycle.backends.data.local import LocalStore
        from ml_lifecycle.backends.tracking.mlflow import MlflowTracking

        tracking = MlflowTracking(self.deployment.mlflow_url)
        return Tools(
            data=LocalStore(self.deployment.data_root),
            project=self.project,
            tracking=tracking,
            registry=tracking,
            ledger=self.ledger,
            environment=ENVIRONMENT,
            run=run_id,
        )

    def candidate(self, model: str, *, requester: str = "engineer", environment: str = ENVIRONMENT) -> ModelVersion:
        """A version that was trained, judged and registered; each call makes another one."""
        pipeline = self.pipeline(model)
        number = next(self._numbers)
        run_id = f"{model}_train/prepared__{number}"
        request = RunRequest(
            model=model,
            run_id=run_id,
            trigger="manual",
            partition=MONTHS[-1],
            partitions=MONTHS,
            requester=requester,
            # Every depth beyond the tree's is a package of its own with the same predictions.
            hyperparameters={"max_depth": 100 + number},
        )
        return _trained(request, pipeline, replace(self.tools(run_id), environment=environment))

    def released(self, model: str) -> Move:
        """A champion, put there without Airflow by policy's own approval; each call makes a newer one."""
        from ml_lifecycle.stages import approval, deployment, release_right

        version = self.candidate(model)
        tools = self.tools(f"{model}_release/prepared__{version.version}")
        request = RunRequest(model=model, stream="release", run_id=tools.run, version=version.version)
        record("resolve", request, tools, model=model)
        question = approval.pose(approval.ApprovalJob(request=request, required="never"), tools)
        if question is None or question.decision is None:
            raise TrialError(f"policy did not approve version {version.version} of {model}")
        job = release_right.DeploymentJob(request=request, decision=question.decision)
        made: Any = run(deployment.deploy, job, tools, model=model)  # type: ignore[type-var]
        move: Move = made.champion
        return move

    def pipeline(self, model: str) -> Pipeline:
        """A model's YAML file as it stands."""
        from ml_lifecycle.pipeline.loader import read_pipeline

        return read_pipeline(self.dags / f"{model}.yaml")

    # --- releases -----------------------------------------------------------------------------------------------------

    def ask(self, model: str, *, by: str = "engineer", **conf: Any) -> dict[str, Any]:
        """Start a release, and wait until its question can be answered; returns the question."""
        run_id = self.by(by).trigger(f"{model}_release", **conf)
        return self.question(f"{model}_release", run_id)

    def question(
        self, dag_id: str, run_id: str, task_id: str = "approve", *, deadline_s: float = DEADLINE_S
    ) -> dict[str, Any]:
        """The question of a run, once its task is parked."""

        def parked() -> dict[str, Any] | None:
            state = self.task(dag_id, run_id, task_id)["state"]
            if state in OVER:
                raise TrialError(f"{dag_id}.{task_id} ended as {state}: {self.log(dag_id, run_id, task_id)[-3000:]}")
            if state != "awaiting_input":
                return None
            asked = self.by("admin").required_actions(dag_id)
            return next((one for one in asked if one["task_instance"]["dag_run_id"] == run_id), None)

        return self.wait_for(f"the question of {dag_id} {run_id}", parked, deadline_s=deadline_s)

    def ask_ahead(self, number: int) -> None:
        """Start releases of so many models, for :meth:`asked` to hand out: meanwhile their questions are parked."""
        for _ in range(number):
            model = self.model()
            self.candidate(model)
            self._ahead.append((model, self.by("engineer").trigger(f"{model}_release")))

    def asked(self) -> tuple[str, dict[str, Any]]:
        """A model of its own with a first candidate, and the question about it."""
        if not self._ahead:
            self.ask_ahead(1)
        model, run_id = self._ahead.popleft()
        return model, self.question(f"{model}_release", run_id)

    def answer(
        self, person: str, question: Mapping[str, Any], option: str, *, reason: str = "looked at it"
    ) -> requests.Response:
        """Answer with the option that begins so; Airflow's reply as it is."""
        chosen = next((one for one in question["options"] if one.startswith(option)), option)
        body = {"chosen_options": [chosen], "params_input": {"reason": reason}}
        return self.by(person).send("PATCH", f"{path_of(question['task_instance'])}/hitlDetails", json=body)

    def release(self, model: str, *, by: str = "approver", **conf: Any) -> str:
        """A whole clean release, asked by the engineer; returns its run.

        :raises TrialError: the answer was refused, or the run did not succeed.
        """
        question = self.ask(model, **conf)
        reply = self.answer(by, question, "Approve")
        run_id = str(question["task_instance"]["dag_run_id"])
        if not reply.ok:
            raise TrialError(f"{by} could not approve {model}: {reply.status_code} {reply.text}")
        if (state := self.ended(f"{model}_release", run_id)) != "success":
            raise TrialError(f"the release of {model} ended as {state}: {self.logs(f'{model}_release', run_id)}")
        return run_id

    # --- looking ------------------------------------------------------------------------------------------------------

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """A task as it stands."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return dict(self.by("admin").call("GET", path))

    def task_ended(self, dag_id: str, run_id: str, task_id: str, *, deadline_s: float = DEADLINE_S) -> str:
        """The state in which a task of a run ends."""

        def state() -> str | None:
            found = self.task(dag_id, run_id, task_id)["state"]
            return found if found in OVER else None

        return self.wait_for(f"the end of {dag_id}.{task_id}", state, deadline_s=deadline_s)

    def ended(self, dag_id: str, run_id: str, *, deadline_s: float = DEADLINE_S) -> str:
        """The state in which a run ends."""

        def state() -> str | None:
            found = self.by("admin").call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"]
            return found if found in OVER else None

        return self.wait_for(f"the end of {dag_id} {run_id}", state, deadline_s=deadline_s)

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """What all tries of a task wrote into their logs."""
        tries = int(self.task(dag_id, run_id, task_id)["try_number"])
        lines: list[str] = []
        for number in range(1, tries + 1):
            try:
                found = self.by("admin").log(dag_id, run_id, task_id, number)
            except requests.HTTPError:
                continue
            lines += [f"{line.get('level', '')}: {line.get('event', '')}" for line in found]
        return "\n".join(lines)

    def logs(self, dag_id: str, run_id: str) -> str:
        """Warnings and errors of all tasks of a run."""
        names = [str(task["task_id"]) for task in self.by("admin").tasks(dag_id, run_id)]
        found = {name: self.log(dag_id, run_id, name).splitlines() for name in names}
        bad = ("warning", "error", "critical")
        return "\n".join(f"{name}: {line}" for name, lines in found.items() for line in lines if line.startswith(bad))

    def newest(self, model: str) -> ModelVersion:
        """The version that was registered last, as the ledger knows it."""
        return ModelVersion.model_validate(self.ledger.results(ENVIRONMENT, model, "register")[-1]["content"])

    def champion(self, model: str) -> int | None:
        """The version that the ledger says serves."""
        head = self.ledger.head(model, ENVIRONMENT)
        return head.version if head is not None else None

    def alias(self, model: str) -> int | None:
        """The version that MLflow's alias names."""
        return self.tools("look").registry.alias(model, "champion")

    def refusals(self, model: str) -> str:
        """What the audit says was refused, with the reasons: one line each."""
        rows = [row for row in self.ledger.audit(model) if "refused" in row["action"]]
        return "\n".join(f"{row['actor']} {row['action']}: {row['detail']}" for row in rows)

    def wait_for(self, what: str, look: Callable[[], Found | None], *, deadline_s: float = DEADLINE_S) -> Found:
        """What ``look`` finds, as soon as it finds something.

        :raises TrialError: it found nothing in time.
        """
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(PAUSE_S)
        raise TrialError(f"{what} did not come within {deadline_s:.0f} s; see {self.deployment.home / 'logs'}")


def path_of(task: Mapping[str, Any]) -> str:
    """Where the API has a task of a run; of a mapped one, this one."""
    return f"dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/{task['map_index']}"


def write_month(folder: Path, month: str, *, rows: int = 100, far: int = 50) -> None:
    """Rows of one month: the far ones are late; one row in ten is the other way round."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    distances = [number * 37 % 100 for number in range(rows)]
    table = pd.DataFrame(
        {
            "id": [f"{month}-{number}" for number in range(rows)],
            "at": pd.date_range(f"{month}-01", periods=rows, freq="1h", tz="UTC"),
            "distance": distances,
            "late": [int((distance > far) != (number % 10 == 0)) for number, distance in enumerate(distances)],
        }
    )
    table.to_parquet(folder / f"{month}.parquet", index=False)


def _trained(request: RunRequest, pipeline: Pipeline, tools: Tools) -> ModelVersion:
    """What a run of the train DAG does, without Airflow."""
    from ml_lifecycle.stages import data, evaluation, training

    model = request.model
    record("resolve", request, tools, model=model)
    columns = {"key": pipeline.data.key, "time": pipeline.data.time, "target": pipeline.data.target}
    source = {"uri": pipeline.data.source.uri}
    snapshot = {"model": model, "partitions": request.partitions, "source": source, "columns": columns}
    dataset = run(data.snapshot, data.SnapshotJob.model_validate(snapshot), tools, model=model)
    section = pipeline.training
    train = training.TrainingJob(
        request=request,
        dataset=dataset,
        features=section.features,
        estimator=section.estimator,
        hyperparameters=section.values,
        seed=section.seed,
    )
    trained = run(training.train, train, tools, model=model)
    measure = evaluation.EvaluationJob(model=trained, metrics=tuple(pipeline.evaluation.metrics))
    measured = run(evaluation.evaluate, measure, tools, model=model)
    rules = [rule.model_dump(mode="json") for rule in pipeline.evaluation.gate]
    judge = evaluation.GateJob.model_validate({"evaluation": measured, "rules": rules})
    judged = run(evaluation.gate, judge, tools, model=model)
    registration = evaluation.RegistrationJob(request=request, decision=judged)
    # The stage returns None where it registers nothing, and the runner passes that through.
    version: Any = run(evaluation.register, registration, tools, model=model)  # type: ignore[type-var]
    if version is None:
        raise TrialError(f"the gate failed the candidate of {model}")
    found: ModelVersion = version
    return found


def _free_port() -> int:
    """A port that the machine gives out: several trials may start at the same time."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def names(prefix: str, number: int) -> list[str]:
    """``a01``, ``a02`` and so on."""
    return [f"{prefix}{one:02d}" for one in range(1, number + 1)]
