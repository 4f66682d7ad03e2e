"""Answers that must not count: whose, when, how often, about what, and which way they came."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.bypass.acts import audited, clear, nothing_moved, open_ask, run_of, said
from trial import Trial, path_of

pytestmark = pytest.mark.integration


def test_whoever_asked_for_the_training_cannot_approve_it(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model, requester="approver")
    question = trial.ask(model)

    reason = said(trial.answer("approver", question, "Approve"), 403)

    assert "approver" in reason
    nothing_moved(trial, model)
    assert audited(trial, model, "approver", reason)


def test_whoever_started_the_release_cannot_approve_it(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    question = trial.ask(model, by="approver")

    reason = said(trial.answer("approver", question, "Approve"), 403)

    nothing_moved(trial, model)
    assert audited(trial, model, "approver", reason)


def test_somebody_who_is_no_approver_cannot_answer(trial: Trial) -> None:
    model, question = trial.asked()

    approving = said(trial.answer("admin", question, "Approve"), 403)
    rejecting = said(trial.answer("operator", question, "Reject", reason="no"), 403)

    nothing_moved(trial, model)
    assert audited(trial, model, "admin", approving)
    assert audited(trial, model, "operator", rejecting)


def test_the_same_person_does_not_count_twice(trial: Trial) -> None:
    trial.candidate("twice")
    question = trial.ask("twice")
    dag_id, run_id = run_of(question)
    trial.answer("approver", question, "Approve").raise_for_status()

    trial.wait_for("another showing", lambda: _showings(trial, "twice") == 2)
    again = trial.question(dag_id, run_id)
    reason = said(trial.answer("approver", again, "Approve"), 403)

    nothing_moved(trial, "twice")
    assert audited(trial, "twice", "approver", reason)
    trial.answer("second", again, "Approve").raise_for_status()
    assert trial.ended(dag_id, run_id) == "success"
    assert trial.champion("twice") == 1


def test_a_form_that_shows_an_older_candidate_cannot_approve_a_newer_one(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    stale = trial.ask(model)
    trial.candidate(model)
    fresh = trial.ask(model)

    option = next(option for option in stale["options"] if option.startswith("Approve"))
    reason = said(trial.answer("approver", fresh, option), 409)

    nothing_moved(trial, model)
    assert audited(trial, model, "approver", reason)


def test_a_question_that_a_newer_candidate_replaced_takes_no_answer(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    stale = trial.ask(model)
    trial.candidate(model)
    trial.ask(model)

    reason = said(trial.answer("approver", stale, "Approve"), 409)

    nothing_moved(trial, model)
    assert audited(trial, model, "approver", reason)


def test_an_approval_that_was_cleared_for_another_candidate_does_not_take_the_first_ones_answer(trial: Trial) -> None:
    model = trial.model()
    trial.candidate(model)
    stale = trial.ask(model)
    dag_id, run_id = run_of(stale)
    trial.candidate(model)

    clear(trial, "engineer", dag_id, run_id, "resolve", "approve")
    shown = trial.question(dag_id, run_id)
    reply = trial.answer("approver", shown, stale["options"][0])

    assert open_ask(trial, model).version == 2
    assert reply.status_code == 409
    nothing_moved(trial, model)
    assert "approver vote refused" in trial.refusals(model)


def test_of_four_contradictory_answers_at_once_one_is_taken_and_a_rejection_is_not_overwritten(trial: Trial) -> None:
    model, question = trial.asked()
    answers = [("approver", "Approve"), ("second", "Reject"), ("approver", "Reject"), ("second", "Approve")]

    with ThreadPoolExecutor(len(answers)) as pool:
        replies = list(pool.map(lambda one: trial.answer(one[0], question, one[1]), answers))

    taken = [option for (_, option), reply in zip(answers, replies, strict=True) if reply.status_code == 200]
    assert len(taken) == 1, [reply.text for reply in replies]
    trial.ended(*run_of(question))
    nothing_moved(trial, model, champion=1 if taken == ["Approve"] else None)
    assert trial.refusals(model).count("vote refused") == 3


@pytest.fixture(scope="module")
def ran_out(trial: Trial) -> dict[str, Any]:
    """A question that nobody answered in time."""
    trial.candidate("brief")
    question = trial.ask("brief")
    trial.ended(*run_of(question))
    return question


def test_a_time_out_is_never_an_approval(trial: Trial, ran_out: dict[str, Any]) -> None:
    dag_id, run_id = run_of(ran_out)

    assert trial.ended(dag_id, run_id) == "failed"
    assert trial.task(dag_id, run_id, "deploy")["state"] == "upstream_failed"
    assert "a time-out is never an approval" in trial.log(dag_id, run_id, "approve")
    nothing_moved(trial, "brief")


def test_an_answer_after_the_question_ran_out_gets_nothing(trial: Trial, ran_out: dict[str, Any]) -> None:
    reason = said(trial.answer("approver", ran_out, "Approve"), 409)

    assert trial.task(*run_of(ran_out), "approve")["state"] == "failed"
    assert audited(trial, "brief", "approver", reason)
    nothing_moved(trial, "brief")


def test_a_rejection_needs_a_reason(trial: Trial) -> None:
    model, question = trial.asked()

    reason = said(trial.answer("approver", question, "Reject", reason="  "), 403)

    assert trial.ledger.decision(open_ask(trial, model).ask_id) is None
    assert audited(trial, model, "approver", reason)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "an escaped task": lambda address: address.replace("approve", "%61pprove"),
    "an escaped DAG": lambda address: address.replace("_release", "%5Frelease"),
    "an escaped endpoint": lambda address: address.replace("hitlDetails", "hitl%44etails"),
    "an escaped slash": lambda address: address.replace("/approve", "%2Fapprove"),
    "a slash at the end": lambda address: f"{address}/",
    "an escaped line's end": lambda address: f"{address}%0A",
    "two slashes": lambda address: address.replace("/approve", "//approve"),
    "a number with a zero": lambda address: address.replace("/-1/", "/-01/"),
    "a number with a fraction": lambda address: address.replace("/-1/", "/-1.0/"),
    "a number with a blank": lambda address: address.replace("/-1/", "/%20-1/"),
    "a number with a low line": lambda address: address.replace("/-1/", "/-0_1/"),
    "digits of another script": lambda address: address.replace("/-1/", "/-%D9%A1/"),
    "dots": lambda address: address.replace("/approve", "/x/%2e%2e/approve"),
    "a query": lambda address: f"{address}?map_index=-1&try_number=1",
    "the DAG in capitals": lambda address: address.replace("/dags/", "/DAGS/"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_other_spelling_of_the_address_leads_past_the_guard(trial: Trial, spelling: str) -> None:
    question = _besieged(trial)

    status = _send(trial, SPELLINGS[spelling](_address(trial, question)), json.dumps(_yes(question)).encode())

    assert status >= 400
    _is_open(trial, question)


BODIES: dict[str, Callable[[str], bytes]] = {
    "two options": lambda option: json.dumps({"chosen_options": [option, "Reject"], "params_input": {}}).encode(),
    "a key written twice": lambda option: (
        f'{{"chosen_options": ["Reject"], "params_input": {{"reason": "no"}}, "chosen_options": ["{option}"]}}'.encode()
    ),
    "another encoding": lambda option: json.dumps({"chosen_options": [option], "params_input": {}}).encode("utf-16"),
    "a mark of the byte order": lambda option: b"\xef\xbb\xbf" + json.dumps({"chosen_options": [option]}).encode(),
    "no JSON": lambda option: f"chosen_options={option}".encode(),
    "nothing": lambda _: b"",
    "a list": lambda option: json.dumps([option]).encode(),
    "a text": lambda option: json.dumps({"chosen_options": option}).encode(),
    "not a number": lambda option: f'{{"chosen_options": ["{option}"], "params_input": {{"reason": NaN}}}}'.encode(),
}


@pytest.mark.parametrize("body", BODIES)
def test_no_other_form_of_an_answer_leads_past_the_guard(trial: Trial, body: str) -> None:
    question = _besieged(trial)

    status = _send(trial, _address(trial, question), BODIES[body](question["options"][0]))

    assert status >= 400
    _is_open(trial, question)


def test_a_persons_token_opens_no_back_door_of_the_workers(trial: Trial) -> None:
    question = _besieged(trial)
    ti_id = question["task_instance"]["id"]
    address = f"{trial.deployment.airflow_url}/execution/hitlDetails/{ti_id}"

    status = _send(trial, address, json.dumps({"ti_id": ti_id, **_yes(question)}).encode())

    assert status in (401, 403)
    _is_open(trial, question)


def _showings(trial: Trial, model: str) -> int:
    return len([row for row in trial.ledger.audit(model) if row["action"] == "post"])


def _besieged(trial: Trial) -> dict[str, Any]:
    """One question for all answers that must not count: its model was trained for the approver."""
    asked = trial.by("admin").required_actions("besieged_release")
    if not asked:
        trial.candidate("besieged", requester="approver")
        return trial.ask("besieged")
    return asked[0]


def _address(trial: Trial, question: dict[str, Any]) -> str:
    return f"{trial.deployment.airflow_url}/api/v2/{path_of(question['task_instance'])}/hitlDetails"


def _yes(question: dict[str, Any]) -> dict[str, Any]:
    return {"chosen_options": [question["options"][0]], "params_input": {}}


def _send(trial: Trial, address: str, body: bytes) -> int:
    """Answer as the approver, exactly as written; the status of the reply."""
    headers = {"Authorization": f"Bearer {trial.by('approver').token}", "Content-Type": "application/json"}
    parts = urlsplit(address)
    connection = HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("PATCH", f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _is_open(trial: Trial, question: dict[str, Any]) -> None:
    dag_id, run_id = run_of(question)
    assert trial.task(dag_id, run_id, "approve")["state"] == "awaiting_input"
    assert trial.by("admin").required_actions(dag_id), "Airflow took the answer"
    ask = open_ask(trial, "besieged")
    assert trial.ledger.votes(ask.ask_id) == ()
    nothing_moved(trial, "besieged")
