"""``ml-lifecycle doctor`` and ``status`` on a real ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.core.contracts import RunRequest
from ml_lifecycle.stages.deployment import RollbackJob, roll_back
from ml_lifecycle.stages.runner import Tools
from tests.fakes.champions import NOON, at, decided, registered, released


@pytest.fixture
def noon(tools: Tools) -> Tools:
    return replace(tools, clock=lambda: NOON)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def filled(noon: Tools, tmp_path: Path, ledger: str) -> str:
    """A ledger with one release."""
    released(noon, tmp_path, 1)
    return ledger


@pytest.fixture
def mlflow(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'tracking'}"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) in (0, 1)
    return json.loads(capsys.readouterr().out)


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_a_sound_deployment_gives_0(
    noon: Tools, tmp_path: Path, ledger: str, mlflow: str, capsys: pytest.CaptureFixture[str]
) -> None:
    released(noon, tmp_path, 1)

    assert main(["doctor", "--ledger", ledger, "--mlflow", mlflow]) == 0
    assert capsys.readouterr().out == "1 model, 0 violations\n"


def test_an_alias_that_was_moved_by_hand_gives_1_and_is_left(
    noon: Tools, tmp_path: Path, ledger: str, mlflow: str, capsys: pytest.CaptureFixture[str]
) -> None:
    released(noon, tmp_path, 1)
    released(noon, tmp_path, 2)
    noon.registry.set_alias("flights", "champion", 1)
    rows = len(noon.ledger.audit("flights"))

    assert main(["doctor", "--ledger", ledger, "--mlflow", mlflow]) == 1
    assert "flights in test, target: target serves the head: it serves version 1: 100%" in capsys.readouterr().out
    found = printed(capsys, "doctor", "--ledger", ledger, "--mlflow", mlflow)

    assert [one["invariant"] for one in found["violations"]] == ["target serves the head"]
    assert noon.registry.alias("flights", "champion") == 1
    assert len(noon.ledger.audit("flights")) == rows


def test_without_mlflow_only_the_ledger_is_looked_at(
    noon: Tools, tmp_path: Path, ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    released(noon, tmp_path, 1)
    noon.registry.remove_alias("flights", "champion")

    assert main(["doctor", "--ledger", ledger]) == 0


def test_only_the_environment_that_is_named_is_looked_at(
    noon: Tools, tmp_path: Path, ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    released(noon, tmp_path, 1)
    registered(replace(noon, environment="dev"), tmp_path, 2)

    all_of_them = printed(capsys, "doctor", "--ledger", ledger)
    one = printed(capsys, "doctor", "--ledger", ledger, "--environment", "dev")

    assert all_of_them["checked"] == ["flights in dev", "flights in test"]
    assert one["checked"] == ["flights in dev"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--ledger", "sqlite:////nowhere/ledger.db"], "there is no such file"),
        (["--ledger", "mysql://localhost/ledger"], "ledger"),
        (["--ledger", "nonsense"], "ledger"),
        (["--ledger", "{ledger}", "--mlflow", "nonsense"], "'nonsense' is no address"),
        (["--ledger", "{ledger}", "--mlflow", "file:///nowhere"], "there is no such folder"),
        (["--ledger", "{ledger}", "--environment", "moon"], "the ledger knows nothing of any model in moon"),
    ],
)
def test_input_that_cannot_be_used_is_said_so_and_makes_no_file(
    filled: str, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert main(["doctor", *(argument.format(ledger=filled) for argument in arguments)]) == 64
    captured = capsys.readouterr()
    assert why in captured.err
    assert captured.out == ""


# --- status ----------------------------------------------------------------------------------------------------------


def test_the_status_says_what_serves_what_is_asked_and_what_is_denied(
    noon: Tools, tmp_path: Path, ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        released(noon, tmp_path, number)
    request = RunRequest(model="flights", stream="rollback", run_id="r/1", requester="olga", reason="complaints")
    roll_back(RollbackJob(request=request), at(noon, 1))
    fourth = registered(noon, tmp_path, 4)
    noon.ledger.release(fourth, decided(at(noon, 2), fourth).decision, moved_by="ada", at=at(noon, 2).clock())

    (state,) = printed(capsys, "status", "flights", "--ledger", ledger)["states"]

    assert (state["environment"], state["head"]["version"], state["head"]["epoch"]) == ("test", 4, 5)
    assert state["previous"]["version"] == 2
    (denied,) = state["denied"]
    assert (denied["since_epoch"], denied["by"], denied["reason"]) == (4, "olga", "complaints")
    assert state["unfinished"] == [{"epoch": 5, "version": 4, "steps": []}]
    assert state["open_asks"] == []


def test_open_questions_are_shown_with_their_votes(
    noon: Tools, tmp_path: Path, ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from ml_lifecycle.core.contracts import ApprovalTerms, Ask, Vote

    version = registered(noon, tmp_path, 1)
    ask = Ask(
        model="flights",
        environment="test",
        version=1,
        digest=version.digest,
        dataset_fingerprint=version.dataset_fingerprint,
        metrics_digest=version.metrics_digest,
        gate_verdict=version.gate_verdict,
        policy_digest=version.policy_digest,
        epoch=0,
        terms=ApprovalTerms(approvers=("ada", "bert"), count=2),
    )
    noon.ledger.ask(ask, requested_by="carol", at=NOON, expires_at=None)
    noon.ledger.vote(Vote(ask_id=ask.ask_id, outcome="approve", person="ada", channel="signed", at=NOON))

    assert main(["status", "flights", "--ledger", ledger]) == 0

    assert capsys.readouterr().out == (
        "flights in test\n"
        "  serves: nothing was released yet\n"
        "  a rollback brings back: nothing\n"
        f"  asked: version 1 ({version.digest[:8]}), 2 of ada, bert; ada: approve; until answered\n"
    )


def test_a_model_that_the_ledger_does_not_know_is_named(
    noon: Tools, tmp_path: Path, ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    released(noon, tmp_path, 1)

    assert main(["status", "trains", "--ledger", ledger]) == 64
    assert "the ledger knows nothing of trains" in capsys.readouterr().err
