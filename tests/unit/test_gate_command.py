"""``ml-lifecycle gate`` and ``evaluate`` on files of predictions."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # tests make tables
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.__main__ import main

ROWS = 1200


def predicted(*, noise: float, seed: int = 1, label: Any = None) -> pd.DataFrame:
    """Rows of four weeks whose score tells the label the worse the more noise there is."""
    random = np.random.default_rng(1)
    truth = random.normal(size=ROWS)
    made: pd.DataFrame = pd.DataFrame(
        {
            "id": [f"row-{number}" for number in range(ROWS)],
            "at": pd.Timestamp("2013-01-01") + pd.to_timedelta(np.arange(ROWS) % 28, unit="D"),
            "origin": random.choice(["JFK", "LGA"], ROWS),
            "label": (truth + random.normal(size=ROWS) > 0) if label is None else label,
        }
    )
    logit = truth + noise * np.random.default_rng(100 + seed).normal(size=ROWS)
    made["score"] = 1 / (1 + np.exp(-logit))
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good candidate, a much worse champion, and rules for both."""
    predicted(noise=0.2).to_parquet(tmp_path / "candidate.parquet")
    predicted(noise=3.0).sample(frac=1, random_state=3).to_csv(tmp_path / "champion.csv", index=False)
    (tmp_path / "rules.yaml").write_text(
        "gate:\n  - {metric: roc_auc, at_least: 0.6}\n  - {metric: roc_auc, versus: champion, margin: 0.005}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gate(*more: str) -> list[str]:
    return ["gate", "--rules", "rules.yaml", "--candidate", "candidate.parquet", *more]


BOTH = ("--champion", "champion.csv")


def test_a_better_candidate_passes_whatever_order_and_format_its_champions_rows_have(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(gate(*BOTH, "--json"))

    found = json.loads(capsys.readouterr().out)
    assert (code, found["verdict"], found["judged"], found["rows"]) == (0, "pass", 1, ROWS)
    assert [check["verdict"] for check in found["checks"]] == ["pass", "pass"]


def test_a_worse_candidate_fails(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["gate", "--rules", "rules.yaml", "--candidate", "champion.csv", "--champion", "candidate.parquet"]

    code = main(arguments)

    assert capsys.readouterr().out.startswith(f"FAIL: {ROWS:,} rows; 2 checks, ")
    assert code == 1


def test_a_candidate_like_its_champion_is_inconclusive_at_no_margin(here: Path) -> None:
    predicted(noise=0.2, seed=2).to_parquet(here / "twin.parquet")
    (here / "rules.yaml").write_text("gate:\n  - {metric: roc_auc, versus: champion}\n")

    code = main(gate("--champion", "twin.parquet"))

    assert code == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.iloc[7:], "7 of the candidate's 1,200 keys are not in the file of the champion"),
        (lambda table: table.assign(id="other-" + table["id"]), "1,200 of its keys are not the candidate's"),
        (lambda table: table.assign(label=~table["label"]), "the labels of 1,200 rows differ"),
    ],
)
def test_another_holdout_leaves_the_comparison_inconclusive(
    change: Any, words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(predicted(noise=3.0)).to_parquet(here / "champion.parquet")

    code = main(gate("--champion", "champion.parquet"))

    said = capsys.readouterr().out
    assert "different holdouts" in said
    assert words in said
    assert code == 2


def test_a_champion_that_was_not_handed_in_is_no_first_release(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(gate()) == 2
    assert "no file holds what the champion predicts" in capsys.readouterr().out

    assert main(gate("--first-release")) == 0
    assert "first release: no champion to compare with" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_score_that_is_no_number_never_passes(wrong: float, here: Path) -> None:
    table = predicted(noise=0.2)
    table.loc[5, "score"] = wrong
    table.to_parquet(here / "candidate.parquet")

    assert main(gate(*BOTH)) == 1
    assert main(["gate", "--rule", "accuracy>=0.1", "--candidate", "candidate.parquet"]) == 1


def test_a_champions_score_that_is_no_number_leaves_the_comparison_inconclusive(here: Path) -> None:
    table = predicted(noise=3.0)
    table.loc[5, "score"] = np.nan
    table.to_parquet(here / "champion.parquet")

    assert main(gate("--champion", "champion.parquet")) == 2


def test_an_operational_limit_does_not_pass_on_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "rules.yaml").write_text("gate:\n  - {metric: latency_p95_ms, at_most: 50}\n")

    code = main(gate())

    assert "a file of predictions says nothing about latency_p95_ms" in capsys.readouterr().out
    assert code == 1


def test_rules_may_be_those_of_a_whole_pipeline(here: Path) -> None:
    pipeline = Path(__file__).resolve().parents[2] / "dags" / "flight_delays.yaml"
    table = predicted(noise=0.2).assign(carrier="UA")
    names = {"id": "flight_id", "at": "scheduled_departure", "label": "delayed"}
    table.rename(columns=names).to_parquet(here / "candidate.parquet")
    table.rename(columns=names).assign(score=0.5).to_parquet(here / "champion.parquet")

    code = main(
        ["gate", "--rules", str(pipeline), "--candidate", "candidate.parquet", "--champion", "champion.parquet"]
    )

    assert code == 0


def test_a_holdout_that_judged_many_candidates_asks_for_more_confidence(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(gate(*BOTH, "--judged", "10", "--json"))

    found = json.loads(capsys.readouterr().out)
    # One minus 0.05 / 10 squared.
    assert found["checks"][1]["confidence"] == pytest.approx(0.9995)
    assert (code, found["judged"]) == (0, 10)


def test_the_verdict_is_on_the_first_line_and_every_check_below_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(gate(*BOTH))

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "PASS: 1,200 rows; 2 checks, 0 failed, 0 undecided"
    assert lines[1] == "  pass          roc_auc at least 0.6"
    assert lines[3] == "  pass          roc_auc at most 0.005 worse than the champion (95% confidence)"


# --- What cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: pd.concat([table, table.head(3)]), "3 keys stand more than once, such as 'row-0' (2 times)"),
        (
            lambda table: table.assign(id=table["id"].where(table.index != 4)),
            "1 of 1,200 rows have no 'id', first row 5",
        ),
        (lambda table: table.assign(label=table["label"].where(table.index > 1)), "2 of 1,200 rows have no 'label'"),
        (lambda table: table.drop(columns="label"), "there is no label column (target or label or truth)"),
        (lambda table: table.drop(columns="score"), "there is no score column"),
        (lambda table: table.assign(label=[[1]] * ROWS), "'label' holds lists or records"),
        (lambda table: table.assign(origin=table["id"]), "'origin' has 1,200 values, and at most 100 are measured"),
        (lambda table: table.assign(score="high"), "'score' predicts 'high', which is none of the labels False, True"),
        (lambda table: table.assign(label=table.index.map(lambda row: "abc"[row % 3])), "which is none of the labels"),
    ],
)
def test_files_that_cannot_be_used_end_with_64(
    change: Any, words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(predicted(noise=0.2)).to_parquet(here / "candidate.parquet")

    code = main(gate(*BOTH, "--rule", "roc_auc>=0.5 by origin"))

    said = capsys.readouterr()
    assert (code, said.out) == (64, "")
    assert words in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gate", "--candidate", "candidate.parquet"], "no rule is given"),
        (gate("--key", "nothing"), "there is no key column (nothing)"),
        (gate("--weight", "nothing"), "there is no column 'nothing' (evaluation.weight)"),
        (gate("--weight", "origin"), "'origin' holds something else than numbers"),
        (gate("--cluster", "nothing"), "there is no column 'nothing' to cluster by"),
        (gate("--time", "origin", "--cluster", "day"), "'origin' holds no moments"),
        (gate("--champion", "absent.parquet"), "absent.parquet: there is no such file"),
        (gate("--judged", "0"), "0 is not 1 or more"),
        (gate(*BOTH, "--first-release"), "there is a champion"),
        (gate("--positive", "late"), "the positive label 'late' is none of False, True"),
        (["gate", "--rules", "absent.yaml", "--candidate", "candidate.parquet"], "absent.yaml:1:1: cannot be read"),
        (["gate", "--rules", "bad.yaml", "--candidate", "candidate.parquet"], "bad.yaml:2:14: gate[0].metric"),
        (["gate", "--rule", "rmse<=3", "--candidate", "candidate.parquet"], "rmse"),
        (["evaluate", "--predictions", "candidate.parquet", "--slices", "dest"], "there is no column 'dest'"),
        (["evaluate", "--model", "model.json", *BOTH], "--champion means nothing beside --model"),
        (
            ["gate", "--evaluation", "e.json", "--rule", "f1>=0.5", *BOTH],
            "--champion means nothing beside --evaluation",
        ),
    ],
)
def test_a_wrong_question_ends_with_64(
    arguments: list[str], words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.yaml").write_text("gate:\n  - {metric: roc_ac, at_least: 0.6}\n")

    code = main(arguments)

    said = capsys.readouterr()
    assert words in said.err
    assert (code, said.out) == (64, "")


def test_all_mistakes_of_a_rules_file_are_told_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "rules.yaml").write_text(
        "metrcs: [roc_auc]\n"
        "metrics: [cost]\n"
        "data: {keys: id}\n"
        "gate:\n"
        "  - {metric: roc_auc}\n"
        "  - {metric: roc_ac, at_least: 0.6}\n"
        "  - {metric: roc_auc, at_least: high}\n"
        "  - {metric: bias, versus: champion}\n"
    )

    code = main(gate(*BOTH))

    places = [line.partition(": ")[0] for line in capsys.readouterr().err.splitlines()]
    assert places == [f"rules.yaml:{place}" for place in ("1:1", "3:8", "5:5", "6:14", "7:33", "8:14")]
    assert code == 64


# --- Labels of all kinds ---------------------------------------------------------------------------------------------


def test_numbers_are_judged_as_a_regression(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = np.arange(40.0)
    errors = np.where(np.arange(40) % 2, 0.5, 1.5)
    pd.DataFrame({"key": range(40), "target": truth, "prediction": truth + errors}).to_csv("numbers.csv", index=False)

    code = main(["gate", "--rule", "mae<=1.5", "--rule", "rmse<=1.5", "--candidate", "numbers.csv", "--json"])

    observed = [check["observed"] for check in json.loads(capsys.readouterr().out)["checks"]]
    # The root of the mean of 0.25 and 2.25.
    assert observed == pytest.approx([1.0, 1.25**0.5])
    assert code == 0


def test_predicted_labels_of_three_classes_are_judged(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["ok", "late", "lost", "ok"] * 50
    predictions = ["ok", "late", "lost", "late"] * 50
    pd.DataFrame({"key": range(200), "label": labels, "prediction": predictions}).to_csv("three.csv", index=False)

    main(["evaluate", "--predictions", "three.csv", "--metrics", "accuracy", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["accuracy"]["value"] == 0.75
    assert (found["task"], found["classes"]) == ("multiclass", ["late", "lost", "ok"])


def test_probabilities_of_three_classes_are_taken_by_the_names_of_their_columns(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.DataFrame({"key": range(4), "label": ["a", "b", "c", "a"]})
    for place, label in enumerate("abc"):
        table[f"score:{label}"] = np.eye(3)[[0, 1, 2, 2]][:, place]
    table[["key", "score:c", "score:a", "label", "score:b"]].to_csv("three.csv", index=False)

    main(["evaluate", "--predictions", "three.csv", "--metrics", "accuracy", "--json"])

    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] == 0.75


def test_the_positive_label_may_be_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame({"key": range(4), "label": ["bad", "good", "bad", "good"], "score": [0.9, 0.2, 0.8, 0.1]})
    table.to_csv("named.csv", index=False)

    main(["evaluate", "--predictions", "named.csv", "--metrics", "accuracy", "--positive", "bad", "--json"])

    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] == 1.0


def test_however_a_file_stores_its_columns_they_are_the_same_rows(here: Path) -> None:
    table = predicted(noise=0.2)
    stored = table.convert_dtypes().assign(
        id=table["id"].astype("category"),
        origin=table["origin"].astype("category"),
        label=table["label"].map({True: "late", False: "in time"}).astype("category"),
        score=[Decimal(f"{score:.6f}") for score in table["score"]],
    )
    stored.to_parquet(here / "candidate.parquet")
    champion = predicted(noise=3.0)
    champion.assign(label=np.where(champion["label"], "late", "in time")).to_csv("champion.csv", index=False)

    assert main(gate(*BOTH, "--rule", "roc_auc>=0.6 by origin")) == 0


def test_a_champions_file_that_holds_the_candidates_scores_says_the_same(here: Path) -> None:
    numbered = predicted(noise=0.2).assign(id=range(ROWS))
    numbered.to_parquet(here / "candidate.parquet")
    numbered.assign(id=numbered["id"].astype("float64")).to_parquet(here / "floats.parquet")
    numbered.sample(frac=1, random_state=1).to_csv(here / "texts.csv", index=False)
    (here / "rules.yaml").write_text("gate:\n  - {metric: roc_auc, versus: champion}\n")

    assert main(gate("--champion", "floats.parquet")) == 0
    assert main(gate("--champion", "texts.csv")) == 0


def test_the_same_label_written_otherwise_is_the_same_holdout(here: Path) -> None:
    table = predicted(noise=3.0)
    table.assign(label=table["label"].astype(int)).to_csv("champion.csv", index=False)

    assert main(gate(*BOTH)) == 0


def test_a_baseline_may_be_a_column_or_a_file(here: Path) -> None:
    (here / "rules.yaml").write_text("baseline: usual\ngate:\n  - {metric: log_loss, versus: baseline}\n")
    predicted(noise=0.2).assign(usual=0.5).to_parquet(here / "candidate.parquet")
    predicted(noise=0.2).assign(score=0.5).to_parquet(here / "baseline.parquet")

    assert main(gate()) == 0
    assert main(gate("--baseline", "baseline.parquet")) == 0


def test_a_version_that_a_rule_names_has_a_file_of_its_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "rules.yaml").write_text("gate:\n  - {metric: roc_auc, versus: 3, margin: 0.01}\n")

    assert main(gate()) == 2
    assert "no file holds what version 3 predicts" in capsys.readouterr().out
    assert main(gate("--against", "3=champion.csv")) == 0
    assert main(gate("--against", "champion.csv")) == 64


def test_the_report_for_people_is_written_beside_the_verdict(here: Path) -> None:
    code = main(gate(*BOTH, "--html", "report.html"))

    page = (here / "report.html").read_text()
    assert "Content-Security-Policy" in page
    assert "ROC AUC at least 0.6" in page
    assert "a file of predictions tells nothing of it" in page
    assert not any(claim in page for claim in ("no row stands in both parts", "version 0", "first release", "; 0 rows"))
    assert code == 0


def test_a_file_is_measured_by_slice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["evaluate", "--predictions", "candidate.parquet", "--slices", "origin", *BOTH])

    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if line.startswith("roc_auc")] == [
        "roc_auc",
        "roc_auc, better than the champion by",
        "roc_auc for origin=JFK",
        "roc_auc for origin=LGA",
    ]
    assert code == 0


def test_no_gain_is_told_where_nobody_says_which_way_is_better(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        ["evaluate", "--predictions", "candidate.parquet", "--metrics", "brier,selection_rate", *BOTH, "--json"]
    )

    champion = json.loads(capsys.readouterr().out)["champion"]
    assert [*champion["metrics"]] == ["brier", "selection_rate"]
    assert [*champion["differences"]] == ["brier"]
    assert code == 0


def test_measuring_says_which_file_is_about_other_rows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted(noise=3.0).iloc[7:].to_parquet(here / "champion.parquet")
    arguments = ["evaluate", "--predictions", "candidate.parquet", "--champion", "champion.parquet"]

    code = main(arguments)

    assert "not compared: different holdouts: 7 of the candidate's 1,200 keys" in capsys.readouterr().out
    assert code == 0
