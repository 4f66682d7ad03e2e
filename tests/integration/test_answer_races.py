"""Answers given at the same time to one question, on a real Airflow."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from trial import ENVIRONMENT, Trial

ANSWERS = [("approver", "Approve"), ("second", "Reject"), ("approver", "Approve"), ("second", "Reject")]
PARKED_S = 10.0

pytestmark = pytest.mark.integration


def racing(trial: Trial, question: dict[str, Any], *, first: int) -> list[tuple[int, str, str]]:
    """Status, person and option of four answers at once, the sending of which begins with another one each time."""
    answers = ANSWERS[first:] + ANSWERS[:first]
    for person, _ in answers:
        trial.by(person)

    with ThreadPoolExecutor(len(answers)) as pool:
        replies = list(pool.map(lambda one: trial.answer(one[0], question, one[1]), answers))
    return [(reply.status_code, *answer) for reply, answer in zip(replies, answers, strict=True)]


@pytest.mark.parametrize("first", [0, 1, 3])
def test_of_contradictory_answers_one_is_acknowledged_and_it_is_what_happens(trial: Trial, first: int) -> None:
    model = trial.model()
    version = trial.candidate(model)
    question = trial.ask(model)
    dag_id, run_id = f"{model}_release", question["task_instance"]["dag_run_id"]

    replies = racing(trial, question, first=first)

    assert sorted(status for status, _, _ in replies) == [200, 409, 409, 409], replies
    ((_, person, option),) = [reply for reply in replies if reply[0] == 200]
    assert trial.ended(dag_id, run_id) == "success"
    decision = trial.ledger.decision_for(model, ENVIRONMENT, version.digest)
    assert decision is not None
    assert (decision.decided_by, decision.outcome) == (person, option.lower())
    assert trial.champion(model) == (version.version if option == "Approve" else None)
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    kept = trial.by("admin").call("GET", path)
    assert kept["responded_by_user"]["name"] == person
    assert [chosen.split()[0] for chosen in kept["chosen_options"]] == [option]
    assert trial.refusals(model).count("vote refused") >= 2


def test_a_question_of_somebody_else_s_dag_is_answered_as_ever(trial: Trial) -> None:
    dag_id = "foreign"
    run_id = trial.by("engineer").trigger(dag_id)
    question = trial.question(dag_id, run_id, "ask")
    # Airflow may lose an answer that comes while it still notes that the task is parked; nobody holds this one back.
    time.sleep(PARKED_S)

    unknown = trial.answer("engineer", question, "Maybe")
    taken = trial.answer("engineer", question, "Yes")

    assert (unknown.status_code, taken.status_code) == (400, 200)
    assert trial.task_ended(dag_id, run_id, "ask") == "success"
