"""What ``ml-lifecycle audit`` and ``ledger`` say about a ledger and about a file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import RunRequest

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Three results of flights and one of trains."""
    address = f"sqlite:///{tmp_path / 'ledger.db'}"
    for number in (1, 2, 3):
        add(address, "flights", f"run {number}")
    add(address, "trains", "run 1")
    return address


@pytest.fixture
def bundle(url: str, tmp_path: Path) -> Path:
    file = tmp_path / "audit.jsonl"
    assert main(["audit", "export", "--ledger", url, "-o", str(file)]) == 0
    return file


def add(url: str, model: str, run: str) -> None:
    request = RunRequest(model=model, reason="a line\u2028break and ünïcode")
    SqlLedger(url).record_result("test", run, "resolve", request, model=model, at=NOON)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().split("\n") if line]


def rewrite(file: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    lines = lines_of(file)
    change(lines)
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def drop_triggers(url: str) -> sqlite3.Connection:
    owned = sqlite3.connect(url.removeprefix("sqlite:///"))
    for (name,) in owned.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        owned.execute(f"DROP TRIGGER {name}")
    return owned


def test_an_export_holds_every_row_and_says_where_each_model_ends(bundle: Path) -> None:
    lines = lines_of(bundle)

    assert [line.get("seq") or line["closes"] for line in lines] == [1, 2, 3, "flights", 1, "trains"]
    assert (lines[3]["rows"], lines[3]["head"]) == (3, lines[2]["digest"])
    assert lines[0]["at"] == "2026-03-01T12:00:00.000000+00:00"


def test_an_export_of_one_model_holds_no_other(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["audit", "export", "--ledger", url, "--model", "trains"])

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert [line.get("model", line.get("closes")) for line in lines] == ["trains", "trains"]


def test_an_export_verifies_without_the_ledger(url: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(url.removeprefix("sqlite:///")).unlink()

    code = main(["audit", "verify", str(bundle)])

    assert code == 0
    digest = lines_of(bundle)[3]["head"]
    assert capsys.readouterr().out.splitlines()[0] == f"flights: 3 rows, flights=3:{digest}"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda lines: lines[1].update(actor="nobody"), "row 2 cannot be trusted: it was changed"),
        (lambda lines: lines.pop(1), "row 2 cannot be trusted: it was removed"),
        (lambda lines: lines.pop(2), "does not end with row 3"),
        (lambda lines: lines.pop(3), "its end was cut off"),
        (lambda lines: [lines.pop(2), lines.pop(2)], "its end was cut off"),
        (lambda lines: [lines.pop(0) for _ in range(3)], "does not end with row 3"),
        (lambda lines: lines.insert(2, lines[1]), "row 3 cannot be trusted: another row was put in"),
        (lambda lines: lines[3].update(head="0" * 64), "does not end with row 3"),
    ],
)
def test_a_bundle_that_was_tampered_with_is_found_out(
    bundle: Path, capsys: pytest.CaptureFixture[str], change: Callable[[list[dict[str, Any]]], object], found: str
) -> None:
    rewrite(bundle, change)

    code = main(["audit", "verify", str(bundle)])

    assert code == 1
    assert found in capsys.readouterr().out


def test_a_bundle_with_its_newest_rows_and_its_end_rewritten_is_found_by_an_earlier_one(
    url: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "monday.jsonl"
    bundle.rename(earlier)
    add(url, "flights", "run 4")
    main(["audit", "export", "--ledger", url, "-o", str(bundle)])
    grown = main(["audit", "verify", str(bundle), "--against", str(earlier)])
    rewrite(bundle, lambda lines: [lines.pop(2), lines.pop(2), lines[2].update(rows=2, head=lines[1]["digest"])])

    alone = main(["audit", "verify", str(bundle)])
    compared = main(["audit", "verify", str(bundle), "--against", str(earlier)])

    assert (grown, alone, compared) == (0, 0, 1)
    assert "row 3 of flights is missing" in capsys.readouterr().out


def test_a_model_that_is_gone_as_a_whole_is_found_by_an_earlier_export(bundle: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.jsonl"
    later.write_text(bundle.read_text())
    rewrite(later, lambda lines: [lines.pop(), lines.pop()])

    assert main(["audit", "verify", str(later)]) == 0
    assert main(["audit", "verify", str(later), "--against", str(bundle)]) == 1


def test_a_ledger_that_was_cut_off_is_found_by_a_head_that_was_kept(
    url: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = f"flights=3:{lines_of(bundle)[3]['head']}"
    whole = main(["audit", "verify", "--ledger", url, "--head", head])
    with drop_triggers(url) as owned:
        owned.execute("DELETE FROM stage_results WHERE model = 'flights' AND audit_seq = 3")
        owned.execute("DELETE FROM audit WHERE model = 'flights' AND seq = 3")
    owned.close()

    alone = main(["audit", "verify", "--ledger", url])
    compared = main(["audit", "verify", "--ledger", url, "--head", head])

    assert (whole, alone, compared) == (0, 0, 1)
    assert "row 3 of flights is missing" in capsys.readouterr().out


def test_a_row_of_the_ledger_that_was_changed_is_found_and_said_as_json(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with drop_triggers(url) as owned:
        owned.execute("UPDATE stage_results SET content = '{}' WHERE model = 'trains'")
    owned.close()

    code = main(["audit", "verify", "--ledger", url, "--json"])

    said = json.loads(capsys.readouterr().out)
    assert code == 1
    assert said["whole"] is False
    assert [bool(one["problem"]) for one in said["models"]] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["verify", "nothing.jsonl"], "cannot be read"),
        (["verify"], "one of FILE and --ledger"),
        (["verify", "x", "--ledger", "y"], "one of FILE and --ledger"),
        (["verify", "{bundle}", "--head", "flights:3"], "names no row"),
        (["verify", "{bundle}", "--model", "planes"], "there is no audit of planes"),
        (["verify", "{empty}"], "holds no audit"),
        (["verify", "{binary}"], "is no text"),
        (["verify", "{other}"], "neither a row of an audit nor its end"),
        (["verify", "{torn}"], "no plain JSON"),
        (["export", "--ledger", "sqlite:////nowhere/ledger.db"], "there is no such file"),
        (["export", "--ledger", "{url}", "--model", "planes"], "there is no audit of planes"),
        (["export", "--ledger", "{url}", "-o", "{bundle}/audit.jsonl"], "cannot be written"),
    ],
)
def test_input_that_cannot_be_used_is_said_so(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    contents = {"empty": b"", "binary": b"\xff\xfe", "other": b'{"a": 1}\n', "torn": bundle.read_bytes()[:-9]}
    places = {"url": url, "bundle": str(bundle)} | {name: str(tmp_path / name) for name in contents}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    code = main(["audit", *(argument.format(**places) for argument in arguments)])

    assert code == 64
    assert why in capsys.readouterr().err


def test_a_ledger_is_upgraded_by_a_command_and_that_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"

    codes = [main(["ledger", "upgrade", "--ledger", url]) for _ in range(2)]

    assert codes == [0, 0]
    assert capsys.readouterr().out.splitlines() == ["schema version none -> 2", "schema version 2, as before"]
