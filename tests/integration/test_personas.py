"""Who may do what, as ``docs/guides/personas.md`` says it: each call is made as each persona on a running Airflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from trial import Trial

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "guides" / "personas.md"
ENVIRONMENT = REPOSITORY / "deploy" / "airflow.env"
PERSONAS = {
    "viewer": "viewer",
    "data scientist": "engineer",
    "approver": "approver",
    "operator": "operator",
    "platform admin": "admin",
}
"""The user who plays each persona."""
TIMEOUT_S = 30

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Scene:
    """A running Airflow in which a release waits for its answer."""

    trial: Trial
    asked: str
    """The model whose release is asked about."""
    idle: str
    """A model whose DAGs are paused: what is triggered there does not run."""
    question: dict[str, Any]

    @property
    def release(self) -> str:
        """The run that asks."""
        return str(self.question["task_instance"]["dag_run_id"])

    def send(self, person: str, method: str, path: str, **options: Any) -> requests.Response:
        """One call of Airflow's API."""
        return self.trial.by(person).send(method, path, **options)

    def waiting_run(self) -> str:
        """A run that does not start."""
        return str(self.trial.by("admin").trigger(f"{self.idle}_release"))


@pytest.fixture(scope="module")
def scene(trial: Trial) -> Scene:
    """The engineer has asked for a training and its release; another model's DAGs are paused."""
    asked, idle = trial.model(), trial.model()
    for stream in ("train", "release", "rollback"):
        trial.by("admin").call("PATCH", f"dags/{idle}_{stream}", json={"is_paused": True})
    report = trial.deployment.data_root / "reports" / "validation" / asked / "1" / "index.html"
    report.parent.mkdir(parents=True)
    report.write_text("<p>all is well</p>")
    connection = {"connection_id": "team_store", "conn_type": "http", "host": "store", "password": "hidden-word"}
    trial.by("admin").call("POST", "connections", json=connection)
    trial.candidate(asked, requester="engineer")
    return Scene(trial, asked, idle, trial.ask(asked, by="engineer"))


# --- The calls -------------------------------------------------------------------------------------------------------


def see_runs(scene: Scene, person: str) -> requests.Response:
    return scene.send(person, "GET", f"dags/{scene.asked}_release/dagRuns/{scene.release}/taskInstances/resolve/logs/1")


def see_questions(scene: Scene, person: str) -> requests.Response:
    found = scene.send(person, "GET", f"dags/{scene.asked}_release/dagRuns/~/hitlDetails")
    assert not found.ok or found.json()["total_entries"] == 1
    return found


def read_a_report(scene: Scene, person: str) -> requests.Response:
    client = scene.trial.by(person)
    return client._session.get(report_url(scene), timeout=TIMEOUT_S)


def trigger(stream: str) -> Callable[[Scene, str], requests.Response]:
    def call(scene: Scene, person: str) -> requests.Response:
        return scene.send(person, "POST", f"dags/{scene.idle}_{stream}/dagRuns", json={"logical_date": None})

    return call


def approve(scene: Scene, person: str) -> requests.Response:
    return scene.trial.answer(person, scene.question, "Approve")


def mark_success(scene: Scene, person: str) -> requests.Response:
    path = f"dags/{scene.idle}_release/dagRuns/{scene.waiting_run()}/taskInstances/approve"
    return scene.send(person, "PATCH", path, json={"new_state": "success"})


def edit_a_value(scene: Scene, person: str) -> requests.Response:
    path = f"dags/{scene.asked}_release/dagRuns/{scene.release}/taskInstances/resolve/xcomEntries/return_value"
    value = scene.send("admin", "GET", path, params={"deserialize": "true"}).json()["value"]
    return scene.send(person, "PATCH", path, json={"value": value, "map_index": -1})


def pause(scene: Scene, person: str) -> requests.Response:
    return scene.send(person, "PATCH", f"dags/{scene.idle}_train", json={"is_paused": True})


def emit_an_event(scene: Scene, person: str) -> requests.Response:
    assets = scene.send("admin", "GET", "assets", params={"dag_ids": f"{scene.idle}_release"}).json()["assets"]
    body = {"asset_id": assets[0]["id"], "extra": {"model": scene.idle, "version": 99}}
    return scene.send(person, "POST", "assets/events", json=body)


def read_connections(scene: Scene, person: str) -> requests.Response:
    found = scene.send(person, "GET", "connections/team_store")
    assert "hidden-word" not in found.text
    return found


def edit_connections(scene: Scene, person: str) -> requests.Response:
    body = {"connection_id": "team_store", "conn_type": "http", "host": "elsewhere"}
    return scene.send(person, "PATCH", "connections/team_store", json=body, params={"update_mask": "host"})


def edit_variables(scene: Scene, person: str) -> requests.Response:
    return scene.send(person, "POST", "variables", json={"key": f"digest-of-{person}", "value": "f" * 64})


CALLS: dict[str, Callable[[Scene, str], requests.Response]] = {
    "see runs and their logs": see_runs,
    "see open questions": see_questions,
    "read a report": read_a_report,
    "trigger a training": trigger("train"),
    "trigger a release, which only asks": trigger("release"),
    "trigger a rollback": trigger("rollback"),
    "approve a release": approve,
    "mark a task as success": mark_success,
    "edit a value between tasks": edit_a_value,
    "pause a DAG": pause,
    "emit an asset event by hand": emit_an_event,
    "read connections": read_connections,
    "edit connections": edit_connections,
    "edit Variables": edit_variables,
}


def report_url(scene: Scene) -> str:
    report = f"ml-lifecycle/reports/{scene.asked}_train/validation/{scene.asked}/1/index.html"
    return f"{scene.trial.deployment.airflow_url}/{report}"


# --- The page --------------------------------------------------------------------------------------------------------


def table() -> dict[str, dict[str, str]]:
    """What the page says: by call, then by persona."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "|" in line]
    head = next(number for number, row in enumerate(rows) if row[0] == "what")
    found = {}
    for row in rows[head + 2 :]:
        if len(row) != len(rows[head]):
            break
        found[row[0]] = dict(zip(rows[head][1:], row[1:], strict=True))
    return found


def cases() -> Iterator[tuple[str, str, str]]:
    """Every cell of the page; the approver answers after all others have tried to."""
    for what, expected in table().items():
        for persona in sorted(expected, key="approver".__eq__):
            yield what, persona, expected[persona]


def test_the_page_names_every_call_and_every_persona() -> None:
    assert set(table()) == set(CALLS)
    assert all(set(expected) == set(PERSONAS) for expected in table().values())


@pytest.mark.parametrize(("what", "persona", "expected"), list(cases()))
def test_a_persona_may_do_what_the_page_says(scene: Scene, what: str, persona: str, expected: str) -> None:
    before = scene.trial.refusals(scene.asked).count("\n")

    reply = CALLS[what](scene, PERSONAS[persona])

    if expected == "yes":
        assert reply.ok, reply.text
        return
    assert reply.status_code == 403, reply.text
    by_us = scene.trial.refusals(scene.asked).count("\n") > before or "may not answer" in reply.text
    assert by_us == (expected == "refused"), reply.text


def test_every_local_deployment_has_a_user_of_each_persona() -> None:
    (users,) = (line for line in ENVIRONMENT.read_text().splitlines() if "SIMPLE_AUTH_MANAGER_USERS=" in line)

    assert {user.split(":")[0] for user in users.partition("=")[2].split(",")} == set(PERSONAS.values())


def test_nobody_reads_a_report_without_signing_in(scene: Scene) -> None:
    reply = requests.get(report_url(scene), timeout=TIMEOUT_S, allow_redirects=False)

    assert reply.status_code == 401


def test_only_the_approvers_answer_made_a_champion(scene: Scene) -> None:
    trial = scene.trial

    assert trial.ended(f"{scene.asked}_release", scene.release) == "success", trial.logs(
        f"{scene.asked}_release", scene.release
    )
    decision = trial.ledger.decision_for(scene.asked, "dev", trial.ledger.moves(scene.asked, "dev")[-1].digest)
    assert decision is not None
    assert decision.approved_by == ("approver",)
    assert trial.champion(scene.idle) is None


def test_the_audit_names_everybody_who_was_refused_with_the_reason(scene: Scene) -> None:
    refusals = scene.trial.refusals(scene.asked).splitlines()

    assert sorted(line.split(" ", 1)[0] for line in refusals) == ["admin", "engineer", "operator"]
    assert all("may not answer" in line for line in refusals)
