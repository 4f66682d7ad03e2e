"""Who is told of a question, and what becomes of a notifier that fails."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.bases.notifier import BaseNotifier

from ml_lifecycle.backends.ledger.base import Asked
from ml_lifecycle.core.contracts import ApprovalTerms, Ask, Posting, Verdict
from ml_lifecycle.hooks import notify
from ml_lifecycle.hooks.notify import notify_escalated, notify_posed, question_address

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HERE = __name__
OPTION = "AIRFLOW__ML_LIFECYCLE__NOTIFIERS"


class ToFile(BaseNotifier):
    """Appends its text to a file."""

    template_fields = ("text",)

    def __init__(self, path: str, text: str = "{{ ml_lifecycle.message }}") -> None:
        super().__init__()
        self.path = path
        self.text = text

    def notify(self, context: Any) -> None:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(self.text + "\n")


class Broken(BaseNotifier):
    """Ends the process that it runs in, if nobody stops it."""

    def __call__(self, *_: Any) -> None:
        raise SystemExit("gone")


class Slow(BaseNotifier):
    """Waits for a service that does not answer."""

    def __call__(self, *_: Any) -> None:
        time.sleep(5)


def asked(**terms: Any) -> Asked:
    ask = Ask(
        model="flights",
        environment="prod",
        version=2,
        digest="3f9a2c1b" + "0" * 56,
        dataset_fingerprint="d" * 64,
        metrics_digest="e" * 64,
        gate_verdict=Verdict.PASS,
        policy_digest="f" * 64,
        epoch=1,
        terms=ApprovalTerms(approvers=("ada", "bob"), **terms),
    )
    return Asked(ask, "bob", {}, NOON, NOON + timedelta(hours=72), superseded=False, blocked="")


def posting(**changes: Any) -> Posting:
    place = {"dag_id": "flights_release", "run_id": "manual__2026-03-01T12:00:00+00:00", "task_id": "approve"}
    return Posting(**{"ask_id": asked().ask.ask_id, "model": "flights", "environment": "prod", **place, **changes})


def configure(monkeypatch: pytest.MonkeyPatch, *notifiers: Any) -> None:
    monkeypatch.setenv(OPTION, json.dumps(notifiers))


def test_the_configured_notifiers_say_what_is_asked_of_whom_and_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    configure(monkeypatch, {"class": f"{HERE}.ToFile", "kwargs": {"path": str(told)}})

    notify_posed({}, asked(count=2), posting(), subject="Release flights version 2?", contact="ml@example.com")

    assert told.read_text(encoding="utf-8") == (
        "Release flights version 2?\n"
        "Who may answer: ada, bob\n"
        "It takes 2 different people\n"
        "Answer before 2026-03-04 12:00 UTC\n"
        "Answer here: http://airflow.example.com/dags/flights_release/runs/manual__2026-03-01T12%3A00%3A00%2B00%3A00"
        "/tasks/approve/required_actions\n"
        "The model's team: ml@example.com\n"
    )


def test_a_notifier_s_template_finds_every_part_and_what_people_typed_is_no_template(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    text = (
        "{{ ml_lifecycle.event }} {{ ml_lifecycle.subject }} {{ ml_lifecycle.version }} {{ ml_lifecycle.digest }} "
        "{{ ml_lifecycle.approvers | join('+') }} {{ run_id }}"
    )
    configure(monkeypatch, {"class": f"{HERE}.ToFile", "kwargs": {"path": str(told), "text": text}})
    context: Any = {"run_id": "r/1"}

    notify_posed(context, asked(), posting(), subject="{{ 7 * 7 }}")

    assert told.read_text(encoding="utf-8") == "posed {{ 7 * 7 }} 2 3f9a2c1b ada+bob r/1\n"
    assert context == {"run_id": "r/1"}


def test_the_second_list_is_told_when_a_question_is_escalated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "told"
    configure(monkeypatch, {"class": f"{HERE}.ToFile", "kwargs": {"path": str(told)}})
    late = asked(escalate_to=("eve",), escalate_after_s=3600.0)

    notify_escalated({}, late, posting())

    assert "version 2 (3f9a2c1b) of flights in prod waits for an answer\nWho may answer too: eve\n" in told.read_text()


def test_the_same_notifier_can_tell_twice(tmp_path: Path) -> None:
    told = tmp_path / "told"
    notifier = ToFile(str(told), "{{ ml_lifecycle.subject }}")

    notify_posed({}, asked(), posting(), subject="first", notifiers=[notifier])
    notify_posed({}, asked(), posting(), subject="second", notifiers=[notifier])

    assert told.read_text() == "first\nsecond\n"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("not JSON", "notifiers is not JSON"),
        ('{"class": "no.such.module.Notifier"}', "ModuleNotFoundError"),
        ('[{"class": "os.system", "kwargs": {}}]', "os.system is no notifier of Airflow"),
        ('["slack"]', "each is written as"),
        (f'[{{"class": "{HERE}.ToFile", "kwargs": {{"no": 1}}}}]', "unexpected keyword argument"),
        (f'[{{"class": "{HERE}.Nobody"}}]', "has no attribute 'Nobody'"),
        (f'[{{"class": "{HERE}.Broken"}}]', "Broken could not tell anybody: SystemExit: gone"),
    ],
)
def test_what_is_wrong_with_a_notifier_is_logged_and_stops_nobody_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, wrong: str, why: str
) -> None:
    told = tmp_path / "told"
    monkeypatch.setenv(OPTION, wrong)

    notify_posed({}, asked(), posting(), subject="one", notifiers=[Broken(), ToFile(str(told))])

    assert why in caplog.text
    assert told.read_text().startswith("one\n")


def test_a_notifier_that_hangs_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(notify, "PATIENCE_S", 0.3)
    told, before = tmp_path / "told", time.monotonic()

    notify_posed({}, asked(), posting(), subject="one", notifiers=[Slow(), Slow(), ToFile(str(told))])

    assert time.monotonic() - before < 3
    assert "Slow takes longer than 0.3 s" in caplog.text
    assert told.read_text().startswith("one\n")


def test_a_mapped_question_has_an_address_of_its_own() -> None:
    assert question_address(posting(map_index=3)).endswith("/tasks/approve/mapped/3/required_actions")
