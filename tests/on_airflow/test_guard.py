"""Answers to approvals, through Airflow's own API server with the plugin as it is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from ml_lifecycle import guard
from ml_lifecycle.backends.ledger.base import Ledger
from ml_lifecycle.core.approval import form_mark
from ml_lifecycle.core.contracts import ApprovalTerms, Ask, Posting, Verdict, Vote
from ml_lifecycle.guard import PAGE_STATUS, AnswerGuard, answered_at

DIGEST = "3f9a2c1b" + "0" * 56
APPROVE, REJECT = "Approve 3f9a2c1b", "Reject"
DAG_FILE = """\
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

for name, tags in (("guarded_release", ["model:guarded"]), ("foreign", [])):
    with DAG(name, schedule=None, tags=tags) as dag:
        EmptyOperator(task_id="approve")
        EmptyOperator(task_id="other")
    globals()[name] = dag
"""
numbers = count(1)


@pytest.fixture(scope="module")
def client(airflow: Path) -> Iterator[Any]:
    """The API server, knowing two DAGs."""
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from fastapi.testclient import TestClient

    file = airflow / "team" / "dags" / "guarded.py"
    file.write_text(DAG_FILE)
    manager = DagBundlesManager()  # type: ignore[no-untyped-call]
    manager.sync_bundles_to_db()
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        bag = BundleDagBag(dag_folder=file, bundle_path=bundle.path, bundle_name=bundle.name)
        sync_bag_to_db(bag, bundle.name, bundle.version)
    purge_cached_app()
    with TestClient(create_app(apps="core"), raise_server_exceptions=False) as client:
        yield client
    purge_cached_app()
    file.unlink()


@pytest.fixture
def ledger(client: Any) -> Ledger:
    """The ledger that the API server and the operators find by themselves."""
    from ml_lifecycle.hooks.ledger import LedgerHook

    guard_of(client).server.forget_ledger()
    return LedgerHook().get_conn()


def guard_of(client: Any) -> AnswerGuard:
    """The guard in the server's stack of middlewares."""
    layer = client.app.middleware_stack
    while not isinstance(layer, AnswerGuard):
        layer = layer.app
    return layer


def signed_in(name: str, role: str = "user") -> str:
    """A token of this person."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role))


@dataclass
class Form:
    """A task that waits for an answer, and the page that shows it."""

    client: Any
    dag_id: str
    run_id: str
    task_id: str
    ti_id: str
    ask: Ask | None = None

    @property
    def address(self) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}/-1/hitlDetails"

    def answer(
        self, person: str, option: str, *, reason: str | None = None, role: str = "user", address: str = ""
    ) -> Any:
        """What a program of this person is told."""
        return self.send(person, {"chosen_options": [option], "params_input": {"reason": reason}}, role, address)

    def send(self, person: str, body: Any, role: str = "user", address: str = "") -> Any:
        """What Airflow says to this body."""
        headers = {"Authorization": f"Bearer {signed_in(person, role)}", "Content-Type": "application/json"}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.patch(address or self.address, content=content, headers=headers)

    def record(self) -> tuple[str | None, list[str] | None]:
        """What Airflow's database says: the task's state, and the answer."""
        from airflow.models.hitl import HITLDetail
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        statement = select(TaskInstance.state, HITLDetail.chosen_options).join(
            HITLDetail, HITLDetail.ti_id == TaskInstance.id
        )
        with create_session(scoped=False) as session:
            return tuple(session.execute(statement.where(TaskInstance.id == as_id(self.ti_id))).one())  # type: ignore[return-value]

    def change(self, **values: Any) -> None:
        """Change the task in Airflow's database."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session(scoped=False) as session:
            session.execute(update(TaskInstance).where(TaskInstance.id == as_id(self.ti_id)).values(**values))


def as_id(text: str) -> Any:
    from uuid import UUID

    return UUID(text)


def shown(client: Any, *, dag_id: str = "guarded_release", task_id: str = "approve") -> Form:
    """A task parked an hour ago, with a form."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    headers = {"Authorization": f"Bearer {signed_in('admin', 'admin')}"}
    client.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": True}, headers=headers)
    run_id = f"manual__{next(numbers)}"
    body = {"logical_date": None, "dag_run_id": run_id}
    made = client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body, headers=headers)
    assert made.status_code == 200, made.text
    with create_session(scoped=False) as session:
        wanted = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
        ti_id = session.scalars(select(TaskInstance.id).filter_by(**wanted)).one()
        options = [APPROVE, REJECT] if task_id == "approve" else ["Approve", "Reject"]
        session.add(HITLDetail(ti_id=ti_id, options=options, subject="?", multiple=False, params={}, assignees=[]))
    form = Form(client, dag_id, run_id, task_id, str(ti_id))
    an_hour_ago = datetime.now(timezone.utc) - timedelta(hours=1)
    form.change(state="awaiting_input", next_method="execute_complete", next_kwargs={}, updated_at=an_hour_ago)
    return form


def asked(
    form: Form,
    ledger: Ledger,
    *,
    approvers: tuple[str, ...] = ("approver", "second"),
    count: int = 1,
    environment: str = "test",
) -> Form:
    """The same form, showing a question of the ledger; anna asked for the training, eve for the release."""
    now = datetime.now(timezone.utc)
    form.ask = Ask(
        model="guarded",
        environment=environment,
        version=next(numbers),
        digest=DIGEST,
        dataset_fingerprint="1" * 64,
        metrics_digest="2" * 64,
        gate_verdict=Verdict.PASS,
        policy_digest="3" * 64,
        epoch=0,
        terms=ApprovalTerms(approvers=approvers, count=count),
    )
    ledger.ask(form.ask, requested_by="anna", at=now, expires_at=now + timedelta(days=1))
    posting = Posting(
        ask_id=form.ask.ask_id,
        model="guarded",
        environment=environment,
        dag_id=form.dag_id,
        run_id=form.run_id,
        task_id=form.task_id,
        ti_id=form.ti_id,
        author="eve",
    )
    ledger.post(posting, at=now)
    show(form, form_mark(form.ask.ask_id))
    return form


def show(form: Form, body: str) -> None:
    """Let the form say this."""
    from airflow.models.hitl import HITLDetail
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session(scoped=False) as session:
        session.execute(update(HITLDetail).where(HITLDetail.ti_id == as_id(form.ti_id)).values(body=body))


@pytest.fixture
def form(client: Any, ledger: Ledger) -> Form:
    """A question that ``approver`` or ``second`` may answer."""
    return asked(shown(client), ledger)


def votes_on(form: Form, ledger: Ledger) -> list[tuple[str, str, str]]:
    assert form.ask is not None
    return [(vote.person, vote.outcome, vote.reason) for vote in ledger.votes(form.ask.ask_id)]


def refusals_of(form: Form, ledger: Ledger) -> list[tuple[str, str]]:
    """Who was refused and why, for the newest question."""
    rows = [row for row in ledger.audit("guarded") if row["action"] == "vote refused"]
    assert form.ask is not None
    return [(row["actor"], row["detail"]) for row in rows if f"version {form.ask.version} " in row["subject"]]


# --- Answers that count ----------------------------------------------------------------------------------------------


def test_an_answer_stands_in_the_ledger_and_the_task_goes_on(form: Form, ledger: Ledger) -> None:
    reply = form.answer("approver", APPROVE, reason="good numbers")

    assert (reply.status_code, reply.json()["chosen_options"]) == (200, [APPROVE])
    assert votes_on(form, ledger) == [("approver", "approve", "good numbers")]
    assert form.record() == ("scheduled", [APPROVE])


def test_a_question_of_another_environment_with_the_same_ledger_is_not_this_task_s(form: Form, ledger: Ledger) -> None:
    ours = form.ask
    other = asked(Form(form.client, form.dag_id, form.run_id, form.task_id, form.ti_id), ledger, environment="staging")
    assert ours is not None
    show(form, form_mark(ours.ask_id))

    reply = form.answer("approver", APPROVE)

    assert reply.status_code == 200
    assert [person for person, _, _ in votes_on(form, ledger)] == ["approver"]
    assert votes_on(other, ledger) == []


def test_a_browser_s_cookie_says_who_answers(form: Form, ledger: Ledger) -> None:
    form.client.cookies.set("_token", signed_in("second"))
    try:
        body = {"chosen_options": [REJECT], "params_input": {"reason": "too few rows"}}
        reply = form.client.patch(form.address, json=body)
    finally:
        form.client.cookies.clear()

    assert reply.status_code == 200
    assert votes_on(form, ledger) == [("second", "reject", "too few rows")]


def test_of_contradictory_answers_at_once_one_is_taken_and_it_is_the_one_on_record(form: Form, ledger: Ledger) -> None:
    answers = [("approver", APPROVE), ("second", REJECT)] * 2

    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda one: form.answer(*one, reason="because"), answers))

    taken = [option for (_, option), reply in zip(answers, replies, strict=True) if reply.status_code == 200]
    assert sorted(reply.status_code for reply in replies) == [200, 409, 409, 409]
    assert form.record() == ("scheduled", taken)
    assert [outcome for _, outcome, _ in votes_on(form, ledger)] == ["approve" if taken == [APPROVE] else "reject"]


def test_an_answer_that_comes_at_once_waits_until_airflow_has_seen_that_the_task_is_parked(
    form: Form, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SETTLED_AFTER", timedelta(seconds=1))
    form.change(updated_at=datetime.now(timezone.utc))
    began = monotonic()

    reply = form.answer("approver", APPROVE)

    assert reply.status_code == 200
    assert monotonic() - began >= 0.9


def test_a_clock_that_is_ahead_where_the_task_was_parked_holds_an_answer_back_no_longer(
    form: Form, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SETTLED_AFTER", timedelta(seconds=1))
    form.change(updated_at=datetime.now(timezone.utc) + timedelta(seconds=20))
    began = monotonic()

    reply = form.answer("approver", APPROVE)

    assert reply.status_code == 200
    assert 0.9 <= monotonic() - began < 10


# --- Answers that do not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "why"),
    [
        ("anna", "asked for it, so somebody else has to approve it"),
        ("eve", "started the run that asks, so somebody else has to approve it"),
    ],
)
def test_nobody_approves_what_is_their_own(client: Any, ledger: Ledger, person: str, why: str) -> None:
    form = asked(shown(client), ledger, approvers=())

    reply = form.answer(person, APPROVE)

    assert (reply.status_code, reply.json()) == (403, {"detail": f"{person} {why}"})
    assert [who for who, detail in refusals_of(form, ledger) if why in detail] == [person]
    assert form.record() == ("awaiting_input", None)


def test_whoever_is_not_on_the_list_may_not_answer(form: Form, ledger: Ledger) -> None:
    reply = form.answer("stranger", REJECT, reason="no")

    assert reply.status_code == 403
    assert reply.json()["detail"] == "stranger may not answer this question, only approver, second"
    assert votes_on(form, ledger) == []


def test_a_rejection_without_a_reason_is_not_taken(form: Form, ledger: Ledger) -> None:
    assert form.answer("approver", REJECT, reason=" ").status_code == 403
    assert form.answer("approver", REJECT).status_code == 403
    assert form.record() == ("awaiting_input", None)


def test_a_stale_form_is_refused_and_the_audit_says_so(form: Form, ledger: Ledger) -> None:
    reply = form.answer("approver", "Approve 00000000")

    assert reply.status_code == 409
    assert "it said 'Approve 00000000', and what is asked is 'Approve 3f9a2c1b'" in reply.json()["detail"]
    ((who, why),) = refusals_of(form, ledger)
    assert (who, "another question" in why) == ("approver", True)


def test_a_form_that_a_cleared_task_kept_cannot_approve_what_the_same_bytes_were_asked_about_since(
    client: Any, ledger: Ledger
) -> None:
    form = asked(shown(client), ledger)
    assert form.ask is not None
    show(form, form_mark(form.ask.model_copy(update={"policy_digest": "4" * 64}).ask_id))

    approving = form.answer("approver", APPROVE)
    rejecting = form.answer("approver", REJECT, reason="not what I saw")

    assert approving.status_code == 409
    assert "shows an earlier question about the same bytes" in approving.json()["detail"]
    assert [who for who, why in refusals_of(form, ledger) if "earlier question" in why] == ["approver"]
    assert rejecting.status_code == 200


def test_a_browser_is_refused_with_a_status_whose_text_the_page_shows(form: Form) -> None:
    form.client.cookies.set("_token", signed_in("stranger"))
    try:
        body = {"chosen_options": [APPROVE], "params_input": {}}
        reply = form.client.patch(form.address, json=body)
    finally:
        form.client.cookies.clear()

    assert (reply.status_code, "stranger may not answer" in reply.json()["detail"]) == (PAGE_STATUS, True)


@pytest.mark.parametrize("changes", [{"state": "running"}, {"state": "queued"}, {"state": None}])
def test_a_task_that_is_not_parked_takes_no_answer(form: Form, ledger: Ledger, changes: dict[str, Any]) -> None:
    form.change(**changes)

    reply = form.answer("approver", APPROVE)

    assert reply.status_code == 409
    assert "try again in a few seconds" in reply.json()["detail"]
    assert votes_on(form, ledger) == []


def test_a_question_of_an_earlier_try_takes_no_answer(client: Any, ledger: Ledger) -> None:
    form = shown(client)
    present, form.ti_id = form.ti_id, "00000000-0000-7000-8000-000000000000"
    asked(form, ledger)
    form.ti_id = present

    assert form.answer("approver", APPROVE).status_code == 409
    assert form.record() == ("awaiting_input", None)


def test_one_showing_of_a_question_takes_one_answer(client: Any, ledger: Ledger) -> None:
    form = asked(shown(client), ledger, count=2)

    first = form.answer("approver", APPROVE)
    form.change(state="awaiting_input", updated_at=None)
    second = form.answer("second", APPROVE)

    assert (first.status_code, second.status_code) == (200, 409)
    assert "has been answered" in second.json()["detail"]
    assert len(votes_on(form, ledger)) == 1


def test_what_airflow_refuses_is_not_recorded(form: Form, ledger: Ledger) -> None:
    from airflow.models.hitl import HITLDetail
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session(scoped=False) as session:
        session.execute(delete(HITLDetail).where(HITLDetail.ti_id == as_id(form.ti_id)))

    reply = form.answer("approver", APPROVE)

    assert (reply.status_code, "does not exist" in reply.json()["detail"]) == (404, True)
    assert votes_on(form, ledger) == []


def test_whoever_may_not_edit_the_dag_hears_what_airflow_says_and_leaves_no_trace(form: Form, ledger: Ledger) -> None:
    reply = form.answer("approver", APPROVE, role="viewer")

    assert (reply.status_code, reply.json()) == (403, {"detail": "Forbidden"})
    assert (votes_on(form, ledger), refusals_of(form, ledger)) == ([], [])


def test_nobody_answers_without_signing_in(form: Form, ledger: Ledger) -> None:
    body = {"chosen_options": [APPROVE], "params_input": {}}

    assert form.client.patch(form.address, json=body).status_code == 401
    wrong = form.client.patch(form.address, json=body, headers={"Authorization": "Bearer nonsense"})
    assert wrong.status_code == 403
    assert form.record() == ("awaiting_input", None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 60_000, 400),
        (b"[]", 422),
        (b'"Reject"', 422),
        ({}, 422),
        ({"chosen_options": []}, 422),
        ({"chosen_options": [APPROVE, REJECT]}, 422),
        ({"chosen_options": APPROVE}, 422),
        ({"chosen_options": [7]}, 422),
        ({"chosen_options": [APPROVE], "params_input": None}, 422),
        ({"chosen_options": [APPROVE], "params_input": {"reason": {"__classname__": "os.system"}}}, 422),
        ({"chosen_options": [APPROVE], "params_input": {"reason": "\ud800"}}, 422),
        ({"chosen_options": [APPROVE], "params_input": {"reason": "a\0b"}}, 422),
        ({"chosen_options": [APPROVE], "params_input": {"reason": "x" * 70_000}}, 413),
    ],
)
def test_what_is_no_answer_is_not_taken(form: Form, ledger: Ledger, body: Any, status: int) -> None:
    reply = form.send("approver", body)

    assert reply.status_code == status
    assert isinstance(reply.json()["detail"], str)
    assert form.record() == ("awaiting_input", None)
    assert votes_on(form, ledger) == []


# --- Which requests --------------------------------------------------------------------------------------------------


def at(path: str, method: str = "PATCH") -> Any:
    return answered_at({"type": "http", "method": method, "path": path})


def test_every_spelling_that_airflow_s_router_takes_is_seen() -> None:
    path = "/api/v2/dags/a b/dagRuns/manual__1+00:00/taskInstances/group.approve"

    expected = ("a b", "manual__1+00:00", "group.approve", -1)
    for end in ("/-1/hitlDetails", "/-1/hitlDetails/", "/-1/hitlDetails\n", "/ -1/hitlDetails", "/-1.0/hitlDetails"):
        assert at(path + end) == expected
        assert at("/team/airflow" + path + end) == expected
    assert at(f"{path}/3/hitlDetails") == (*expected[:3], 3)


def test_no_other_request_is_touched() -> None:
    path = "/api/v2/dags/a/dagRuns/b/taskInstances/c/-1/hitlDetails"

    assert at(path) is not None
    for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
        assert at(path, method) is None
    for other in (
        f"{path}/tries/1", "/api/v2/dags/a/dagRuns/b/hitlDetails", "/api/v2/dags/a/dagRuns/b/taskInstances/c/-1",
        "/api/v2/dags/a/dagRuns/b/taskInstances/c/one/hitlDetails", f"{path}x", "/", "",
    ):  # fmt: skip
        assert at(other) is None
    assert answered_at({"type": "websocket", "path": path}) is None
    assert answered_at({"type": "lifespan"}) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/hitlDetails", "/hitlDetails%0A"),
        ("/-1/", "/-1.0/"),
        ("/-1/", "/%20-1/"),
        ("guarded_release", "guarded%5Frelease"),
        ("hitlDetails", "%68itlDetails"),
        ("/hitlDetails", "/hitlDetails/"),
    ],
)
def test_no_spelling_of_the_address_leads_past_the_guard(form: Form, ledger: Ledger, old: str, new: str) -> None:
    reply = form.answer("stranger", APPROVE, address=form.address.replace(old, new))

    assert reply.status_code == 403
    assert form.record() == ("awaiting_input", None)


@pytest.mark.parametrize("dag_id", ["foreign", "guarded_release"])
def test_the_questions_of_others_are_answered_as_ever(client: Any, ledger: Ledger, dag_id: str) -> None:
    form = shown(client, dag_id=dag_id, task_id="other")
    form.change(updated_at=datetime.now(timezone.utc))

    assert form.send("anyone", b"{").status_code == 422
    assert form.answer("anyone", "Maybe").status_code == 400
    reply = form.answer("anyone", "Approve", reason="x" * 100_000)

    assert reply.status_code == 200
    assert form.record() == ("scheduled", ["Approve"])


def test_no_other_process_than_the_api_server_imports_the_guard() -> None:
    program = (
        "import sys; from ml_lifecycle.plugin import MlLifecyclePlugin as plugin;"
        "assert len(plugin.fastapi_root_middlewares) == 1;"
        "print([m for m in ('ml_lifecycle.guard', 'ml_lifecycle.backends', 'fastapi') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.splitlines()[-1] == "[]"


# --- When the ledger is away -----------------------------------------------------------------------------------------


def test_without_the_ledger_only_the_questions_of_others_are_answered(
    client: Any, ledger: Ledger, form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    gone = {"conn_type": "sqlite", "host": str(tmp_path / "file" / "ledger.db")}
    monkeypatch.setenv("AIRFLOW_CONN_ML_LIFECYCLE_LEDGER", json.dumps(gone))
    foreign = shown(client, dag_id="foreign", task_id="other")
    guard_of(client).server.forget_ledger()

    reply = form.answer("approver", APPROVE)

    assert (reply.status_code, "does not count" in reply.json()["detail"]) == (503, True)
    assert form.record() == ("awaiting_input", None)
    assert foreign.answer("anyone", "Approve").status_code == 200
    monkeypatch.undo()
    assert form.answer("approver", APPROVE).status_code == 200


def test_an_api_server_with_another_ledger_than_the_tasks_takes_no_answer(client: Any, ledger: Ledger) -> None:
    form = shown(client)

    reply = form.answer("approver", APPROVE)

    assert reply.status_code == 503
    assert "does not hold the question" in reply.json()["detail"]
    assert form.record() == ("awaiting_input", None)


def test_a_connection_in_airflow_s_database_is_found_by_the_api_server(
    client: Any, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    from ml_lifecycle.backends.ledger.sql import SqlLedger

    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    file = tmp_path / "kept" / "ledger.db"
    with create_session(scoped=False) as session:
        session.add(Connection(conn_id="ml_lifecycle_ledger", conn_type="sqlite", host=str(file)))
    try:
        form = asked(shown(client), SqlLedger(f"sqlite:///{file}"))
        reply = form.answer("approver", APPROVE)
    finally:
        with create_session(scoped=False) as session:
            session.execute(delete(Connection).where(Connection.conn_id == "ml_lifecycle_ledger"))

    assert reply.status_code == 200
    assert votes_on(form, SqlLedger(f"sqlite:///{file}")) == [("approver", "approve", "")]


def test_an_answer_that_airflow_took_and_the_ledger_did_not_is_told_as_one_that_does_not_count(
    form: Form, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    vote = ledger.vote

    def break_at_the_end(one: Vote, *, forward: Callable[[], None]) -> Any:
        def then_break() -> None:
            forward()
            raise OSError("no space left on device")

        return vote(one, forward=then_break)

    monkeypatch.setattr(ledger, "vote", break_at_the_end)
    monkeypatch.setattr(guard_of(form.client).server, "ledger", lambda: ledger)

    reply = form.answer("approver", APPROVE)

    assert (reply.status_code, "releases nothing" in reply.json()["detail"]) == (503, True)
    assert form.record() == ("scheduled", [APPROVE])
    assert votes_on(form, ledger) == []
