from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import ApprovalTerms
from tests.fakes.asking import posed

NOW = datetime.now(timezone.utc)


@dataclass
class Desk:
    """One approver's machine beside a ledger."""

    folder: Path
    screen: pytest.CaptureFixture[str]

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'ledger.db'}"

    @property
    def ledger(self) -> SqlLedger:
        return SqlLedger(self.url)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = main([part.replace("~", str(self.folder)) for part in arguments])
        return code, *self.screen.readouterr()

    def ask(self, **changes: Any) -> str:
        return posed(self.ledger, at=NOW, expires_at=NOW + timedelta(hours=72), **changes).ask_id

    def keygen(self, name: str) -> None:
        _, printed, _ = self.run("keygen", "--name", name, "--output", f"~/{name}.pem", "--json")
        keys = self.folder / "keys.json"
        known = json.loads(keys.read_text()) if keys.exists() else {}
        keys.write_text(json.dumps({**known, **json.loads(printed)}))

    def export(self, ask_id: str) -> int:
        place = ("--ledger", self.url, "--environment", "prod")
        return self.run("asks", *place, "--ask", ask_id[:8], "--output", "~/ask.json")[0]

    def sign(self, name: str, outcome: str = "approve", key: str = "", reason: str = "seen") -> tuple[int, str, str]:
        pen = ("--name", name, "--key", f"~/{key or name}.pem", "--reason", reason)
        return self.run("decide", "~/ask.json", outcome, *pen, "--output", "~/answer.json")

    def submit(self, *more: str, environment: str = "prod") -> tuple[int, str, str]:
        place = ("--ledger", self.url, "--environment", environment, "--keys", "~/keys.json")
        return self.run("decide", "--submit", "~/answer.json", *place, *more)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    found = Desk(tmp_path, capsys)
    found.keygen("ada")
    found.keygen("bob")
    return found


def test_a_question_is_exported_signed_and_submitted(desk: Desk) -> None:
    ask_id = desk.ask()

    assert desk.export(ask_id) == 0
    assert desk.sign("ada")[0] == 0
    code, out, _ = desk.submit()

    assert (code, out) == (0, "the answer counts; decided: approve by ada\n")
    (vote,) = desk.ledger.votes(ask_id)
    assert (vote.person, vote.channel, vote.reason) == ("ada", "signed", "seen")


def test_submitting_again_says_the_same(desk: Desk) -> None:
    desk.export(desk.ask())
    desk.sign("ada")
    first = desk.submit("--json")
    rows = desk.ledger.audit()

    assert desk.submit("--json") == first
    assert json.loads(first[1])["decision"]["approved_by"] == ["ada"]
    assert desk.ledger.audit() == rows


def test_the_first_of_two_answers_decides_nothing_yet(desk: Desk) -> None:
    desk.export(desk.ask(terms=ApprovalTerms(approvers=("ada", "bob"), count=2)))
    desk.sign("ada")

    assert desk.submit()[1] == "the answer counts; others have to answer, too\n"


def test_a_rejection_needs_a_reason_already_when_it_is_signed(desk: Desk) -> None:
    desk.export(desk.ask())

    code, _, error = desk.sign("ada", "reject", reason=" ")

    assert (code, "rejects without a reason" in error) == (1, True)
    assert not (desk.folder / "answer.json").exists()


def test_what_does_not_count_ends_with_one_and_says_why(desk: Desk) -> None:
    desk.export(desk.ask(requested_by="ada"))
    desk.sign("ada")

    code, _, error = desk.submit()

    assert (code, "ada asked for it" in error) == (1, True)


def test_an_answer_under_anothers_key_does_not_count(desk: Desk) -> None:
    desk.export(desk.ask())
    desk.sign("ada", key="bob")

    code, _, error = desk.submit()

    assert (code, "none of its signatures" in error) == (1, True)


def test_an_answer_does_not_count_in_another_environment(desk: Desk) -> None:
    desk.export(desk.ask())
    desk.sign("ada")

    code, _, error = desk.submit(environment="dev")

    assert (code, "for the environment 'prod', not 'dev'" in error) == (1, True)


def test_a_question_that_was_edited_is_not_signed(desk: Desk) -> None:
    desk.export(desk.ask())
    file = desk.folder / "ask.json"
    file.write_text(file.read_text().replace('"version": 2', '"version": 3'))

    code, _, error = desk.sign("ada")

    assert (code, "the question was changed" in error) == (64, True)


@pytest.mark.parametrize("content", ["", "[]", '{"ask_id": 1}', "nothing"])
def test_a_file_that_holds_no_question_is_refused(desk: Desk, content: str) -> None:
    (desk.folder / "ask.json").write_text(content)

    code, _, error = desk.sign("ada")

    assert (code, "ask.json" in error) == (64, True)


def test_what_waits_is_listed(desk: Desk) -> None:
    ask_id = desk.ask()

    _, out, _ = desk.run("asks", "--ledger", desk.url, "--environment", "prod")
    _, plain, _ = desk.run("asks", "--ledger", desk.url, "--environment", "prod", "--json")
    _, nothing, _ = desk.run("asks", "--ledger", desk.url)

    line, count = out.splitlines()
    assert line.startswith(f"{ask_id[:12]}  flights version 2 (aaaaaaaa) for prod, gate pass; 1 of ada, bob, eve,")
    assert count == "1 open question in prod"
    assert [one["ask_id"] for one in json.loads(plain)["asks"]] == [ask_id]
    assert nothing == "0 open questions in dev\n"


def test_only_one_question_is_exported_at_a_time(desk: Desk) -> None:
    desk.ask()
    desk.ask(version=3)

    code, _, error = desk.run("asks", "--ledger", desk.url, "--environment", "prod", "--output", "~/ask.json")

    assert (code, "2 open questions match" in error) == (64, True)


def test_a_step_without_its_options_says_which(desk: Desk) -> None:
    assert "decide: missing: ask, outcome, --name, --key, --output" in desk.run("decide")[2]
    assert "decide: missing: --ledger, --keys" in desk.run("decide", "--submit", "~/answer.json")[2]


def test_keygen_prints_the_public_half_and_keeps_the_private_one(desk: Desk) -> None:
    code, out, _ = desk.run("keygen", "--name", "eve", "--output", "~/eve.pem")

    name, public = out.split()
    assert (code, name, len(public)) == (0, "eve", 44)
    assert stat.S_IMODE((desk.folder / "eve.pem").stat().st_mode) == 0o600
    assert desk.run("keygen", "--name", "eve", "--output", "~/eve.pem")[0] == 64
