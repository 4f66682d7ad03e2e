"""Who answers for each model, as the command line tells it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import Ask, ModelVersion, Verdict, Vote

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
PIPELINE = """\
model: {model}
owner: {owner}
contact: {owner}@example.com
risk: high
data: {{source: "rows/{{{{ partition }}}}.parquet", key: id, target: late, holdout: {{by: random}}}}
training: {{estimator: sklearn.tree.DecisionTreeClassifier}}
approval: {{required: never}}
"""


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """A DAG folder with two models of two owners."""
    folder = tmp_path / "dags"
    (folder / "fleet").mkdir(parents=True)
    (folder / "delays.yaml").write_text(PIPELINE.format(model="delays", owner="flights"))
    (folder / "fleet" / "fares.yaml").write_text(PIPELINE.format(model="fares", owner="pricing"))
    return folder


def released(url: str, model: str, *, environment: str = "dev") -> None:
    """A first champion, approved by ada."""
    ledger = SqlLedger(url)
    version = ModelVersion(
        name=model,
        version=3,
        digest="a" * 64,
        training_key="b" * 64,
        uri="runs:/1/model",
        run_id="1",
        dataset_fingerprint="c" * 64,
        metrics_digest="d" * 64,
        gate_verdict=Verdict.PASS,
        policy_digest="e" * 64,
    )
    ask = Ask(
        model=model,
        environment=environment,
        version=3,
        epoch=0,
        **{name: getattr(version, name) for name in ("digest", "dataset_fingerprint", "metrics_digest")},
        gate_verdict=Verdict.PASS,
        policy_digest="e" * 64,
    )
    ledger.ask(ask, requested_by="bob", at=NOON, expires_at=None)
    decision = ledger.vote(Vote(ask_id=ask.ask_id, outcome="approve", person="ada", channel="signed", at=NOON))
    assert decision is not None
    ledger.release(version, decision, moved_by="ada", at=NOON)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """What was printed as JSON, by model."""
    return {one["model"]: one for one in json.loads(capsys.readouterr().out)["models"]}


def test_every_model_is_listed_with_who_answers_for_it(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["owners", str(dags)])

    assert code == 0
    assert capsys.readouterr().out == (
        "delays: flights <flights@example.com>, risk high\n"
        "fares: pricing <pricing@example.com>, risk high\n"
        "2 models, 0 orphans\n"
    )


def test_a_champion_whose_file_is_gone_is_an_orphan(
    dags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    released(url, "delays")
    released(url, "forgotten")

    code = main(["owners", str(dags), "--ledger", url, "--json"])

    found = told(capsys)
    assert code == 1
    assert found["delays"]["champions"] == {"dev": 3}
    assert found["delays"]["orphaned"] == ""
    assert found["fares"]["champions"] == {}
    assert found["forgotten"]["orphaned"] == "version 3 serves in dev, but no file describes it"


def test_champions_of_all_environments_count_unless_one_is_named(
    dags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    released(url, "delays")
    released(url, "forgotten", environment="prod")

    assert main(["owners", str(dags), "--ledger", url]) == 1
    assert "delays: flights <flights@example.com>, risk high, version 3 serves in dev\n" in capsys.readouterr().out
    assert main(["owners", str(dags), "--ledger", url, "--environment", "dev"]) == 0
    assert main(["owners", str(dags), "--ledger", url, "--environment", "prd"]) == 64


def test_looking_at_a_ledger_makes_none(dags: Path, tmp_path: Path) -> None:
    assert main(["owners", str(dags), "--ledger", f"sqlite:///{tmp_path / 'absent.db'}"]) == 64
    assert not (tmp_path / "absent.db").exists()


def test_an_owner_that_nobody_knows_leaves_the_model_orphaned(
    dags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / "owners.txt"
    known.write_text("# teams that exist\n\nflights   # since 2024\nFares\n")

    code = main(["owners", str(dags), "--known", str(known)])

    assert code == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "fares: pricing <pricing@example.com>, risk high; ORPHAN: its owner 'pricing' is not among the known ones",
        "2 models, 1 orphan",
    ]


def test_a_pipeline_that_cannot_be_read_is_told_with_its_place(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dags / "delays.yaml").write_text("model: delays\nowner: ''\n")

    code = main(["owners", str(dags)])

    assert code == 64
    assert f"{dags / 'delays.yaml'}:2:8: owner: is blank" in capsys.readouterr().err


def test_a_pipeline_without_its_first_line_is_found_by_its_dag_file(
    dags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dags / "lost.yaml").write_text("owner: flights\n")
    (dags / "lost.py").touch()

    assert main(["owners", str(dags)]) == 64
    assert "model: is missing" in capsys.readouterr().err


def test_other_yaml_files_are_passed_over(dags: Path) -> None:
    (dags / "values.yml").write_text("replicas: 3\nsettings: {model: 1}\n")

    assert main(["owners", str(dags)]) == 0


def test_what_is_not_there_is_refused(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["owners", str(dags / "absent")]) == 64
    assert main(["owners", str(dags), "--known", str(dags / "absent")]) == 64
    assert "absent: there is no such folder; name the folder of the DAG files" in capsys.readouterr().err
