"""``ml-lifecycle history``: what gates judged, as files that ``backtest`` replays."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd  # noqa: TID253  # tests make tables
import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.core.contracts import GateDecision, GateRule, TrainedModel, Verdict
from ml_lifecycle.stages.evaluation import EvaluationJob, evaluate
from ml_lifecycle.stages.runner import Tools, record
from tests.fakes.small_model import dataset, judged, released, rows, trained, with_project

RULES = "data: {key: id, time: at, target: late}\ngate:\n  - {metric: roc_auc, versus: champion, margin: 0.1}\n"


@pytest.fixture
def tools(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """A deployment below a folder of its own; commands run in that folder."""
    monkeypatch.chdir(tmp_path)
    return with_project(tools, tmp_path / "project")


def gated(tools: Tools, model: TrainedModel, *rules: GateRule) -> GateDecision:
    """The gate's decision about a model, as the ledger keeps it."""
    evaluation = evaluate(EvaluationJob(model=model, slices=("carrier",), rehearse=False), tools)
    decision = judged(tools, evaluation, *rules)
    record("gate", decision, tools, model="flights")
    return decision


def export(out: str, *more: str) -> int:
    places = ["--ledger", f"sqlite:///{Path.cwd() / 'ledger.db'}", "--mlflow", f"file://{Path.cwd() / 'tracking'}"]
    return main(["history", "--model", "flights", "--out", out, *places, *more])


def test_a_ledgers_gates_are_replayed_with_what_came_later(tools: Tools, capsys: pytest.CaptureFixture[str]) -> None:
    first = trained(tools)
    gated(tools, first)
    released(tools, first)
    second = trained(tools, seed=8, hyperparameters={"C": 0.01})
    gated(tools, second, GateRule(metric="roc_auc", at_least=0.999))
    more = rows(600, seed=2)
    gated(tools, trained(tools, dataset(tools, more, uri="datasets/two")))

    assert export("h", "--data-root", "data", "--project", "project") == 0

    folders = sorted(folder.name for folder in Path("h").iterdir())
    assert folders == [
        f"001-2013-01-{first.digest[:8]}",
        f"002-2013-01-{second.digest[:8]}",
        folders[2],
    ]
    told = [json.loads((Path("h") / name / "decision.json").read_text())["outcome"] for name in folders]
    assert told[:2] == ["promoted", "refused"]
    later = pd.read_parquet(Path("h") / folders[1] / "later.parquet")
    assert later["id"].tolist() == [f"f{number:05d}" for number in range(400, 600)]
    assert {"late", "at", "candidate", "champion"} <= set(later.columns)
    assert not (Path("h") / folders[0] / "champion.parquet").exists()
    capsys.readouterr()

    Path("policy.yaml").write_text(RULES)
    assert main(["backtest", "--policy", "policy.yaml", "--history", "h", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["candidates"]
    assert [one["then"] for one in found[:2]] == ["promoted", "refused"]
    assert found[1]["later"]["rows"] == 200


def test_an_exported_candidate_gets_the_numbers_that_its_gate_had(
    tools: Tools, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = gated(tools, trained(tools))

    export("h")

    candidate = next(Path("h").iterdir()) / "candidate.parquet"
    capsys.readouterr()
    Path("policy.yaml").write_text(RULES)
    main(["evaluate", "--predictions", str(candidate), "--rules", "policy.yaml", "--slices", "carrier", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["roc_auc"]["value"] == pytest.approx(decision.evaluation.metrics["roc_auc"].value)
    assert set(found["slices"]["carrier"]) == set(decision.evaluation.slices["carrier"])
    assert decision.verdict is Verdict.PASS


def test_exporting_again_leaves_what_is_there(tools: Tools) -> None:
    gated(tools, trained(tools))
    export("h")
    kept = next(Path("h").iterdir()) / "candidate.parquet"
    before = kept.stat().st_mtime_ns

    assert export("h") == 0
    assert kept.stat().st_mtime_ns == before


def test_nothing_of_the_deployment_is_changed(tools: Tools) -> None:
    gated(tools, trained(tools))
    before = tools.ledger.audit("flights")

    export("h", "--data-root", "data", "--project", "project")

    assert tools.ledger.audit("flights") == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--environment", "prod"], "the ledger knows nothing of flights in prod"),
        (["--data-root", "absent"], "absent: there is no such folder"),
    ],
)
def test_what_is_not_there_ends_with_64(
    more: list[str], words: str, tools: Tools, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tools)

    code = export("h", *more)

    assert words in capsys.readouterr().err
    assert code == 64


def test_a_model_without_a_judged_candidate_has_no_history(tools: Tools, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tools)

    code = export("h")

    assert "no gate has judged a candidate of flights" in capsys.readouterr().err
    assert code == 64
