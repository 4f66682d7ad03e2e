"""``ml-lifecycle backtest``: recorded candidates under another policy, against what later labels showed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # tests make tables
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.core.backtest import Replayed, judge, summarise, summarise_then, turn
from ml_lifecycle.core.contracts import Difference

ROWS = 600
RULES = """\
gate:
  - {metric: accuracy, at_least: 0.5}
  - {metric: accuracy, versus: champion, margin: 0.01}
"""


def right_in(share: float, *, shift: int = 0, rows: int = ROWS) -> pd.DataFrame:
    """Rows of which this share is predicted rightly; another shift, and others are."""
    number = np.arange(rows)
    label = number % 2
    right = (number * 37 + shift) % rows < share * rows
    made: pd.DataFrame = pd.DataFrame({"key": number, "label": label, "score": np.where(right, label, 1 - label)})
    return made


def record(
    history: Path,
    name: str,
    *,
    candidate: float,
    champion: float | None = 0.8,
    later: tuple[float, float] | None = None,
    then: dict[str, str] | None = None,
) -> None:
    """One recorded candidate, by the accuracies of its holdout and of what came later."""
    folder = history / name
    folder.mkdir(parents=True)
    right_in(candidate).to_parquet(folder / "candidate.parquet")
    if champion is not None:
        right_in(champion, shift=300).to_parquet(folder / "champion.parquet")
    if later is not None:
        rows = right_in(later[0]).rename(columns={"score": "candidate"})
        rows.assign(champion=right_in(later[1], shift=300)["score"]).to_csv(folder / "later.csv", index=False)
    if then is not None:
        (folder / "decision.json").write_text(json.dumps(then))


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five candidates: a first one, a right and a wrong promotion, a held gain and a refused loss."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(RULES)
    folder = tmp_path / "history"
    record(folder, "2013-01", candidate=0.8, champion=None, then={"verdict": "pass"})
    record(folder, "2013-02", candidate=0.95, later=(0.95, 0.8), then={"outcome": "promoted"})
    record(folder, "2013-03", candidate=0.95, later=(0.7, 0.8), then={"outcome": "promoted"})
    record(folder, "2013-04", candidate=0.81, later=(0.95, 0.8), then={"outcome": "held"})
    record(folder, "2013-05", candidate=0.6, later=(0.6, 0.8), then={"outcome": "refused"})
    (folder / "notes").mkdir()
    return folder


def run(*more: str) -> int:
    return main(["backtest", "--policy", "policy.yaml", "--history", "history", *more])


def difference(estimate: float, low: float | None, high: float | None) -> Difference:
    return Difference(estimate=estimate, standard_error=0.01, rows=100, low=low, high=high)


# --- The judgement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "turned_out", "promoted", "held"),
    [
        (difference(0.02, 0.01, 0.03), "better", "right promotion", "missed gain"),
        (difference(-0.02, -0.03, -0.01), "worse", "wrong promotion", "saved loss"),
        (difference(0.02, -0.01, 0.05), "no difference shown", "no difference shown", "no difference shown"),
        (difference(0.02, 0.0, 0.04), "no difference shown", "no difference shown", "no difference shown"),
        (difference(0.02, None, None), "not known", "not known", "not known"),
        (None, "not known", "not known", "not known"),
    ],
)
def test_a_decision_is_judged_by_what_the_interval_of_later_labels_shows(
    later: Difference | None, turned_out: str, promoted: str, held: str
) -> None:
    found = (turn(later), judge("promoted", later), judge("held", later), judge("refused", later))

    assert found == (turned_out, promoted, held, held)


def test_a_summary_counts_and_adds_what_promotions_gained() -> None:
    def one(outcome: Any, estimate: float | None, then: Any = None) -> Replayed:
        later = None if estimate is None else difference(estimate, estimate - 0.01, estimate + 0.01)
        return Replayed(candidate="x", outcome=outcome, then=then, rows=1, checks=(), later=later)

    found = summarise([one("promoted", 0.05), one("promoted", -0.02), one("held", 0.04), one("promoted", None)])

    assert found.outcomes == {"promoted": 3, "held": 1, "refused": 0}
    assert {name: count for name, count in found.judgements.items() if count} == {
        "right promotion": 1,
        "wrong promotion": 1,
        "missed gain": 1,
        "not known": 1,
    }
    assert found.later_gain == pytest.approx(0.03)
    assert summarise_then([one("held", None, "held"), one("held", None)]) is None


# --- The command -----------------------------------------------------------------------------------------------------


def test_every_candidate_is_judged_again_and_held_against_later_labels(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("--json")

    found = json.loads(capsys.readouterr().out)
    told = [(one["candidate"], one["then"], one["outcome"], one["judgement"]) for one in found["candidates"]]
    assert told == [
        ("2013-01", "promoted", "promoted", "not known"),
        ("2013-02", "promoted", "promoted", "right promotion"),
        ("2013-03", "promoted", "promoted", "wrong promotion"),
        ("2013-04", "held", "held", "missed gain"),
        ("2013-05", "refused", "refused", "saved loss"),
    ]
    assert found["candidates"][1]["later"]["estimate"] == pytest.approx(0.15)
    assert found["summary"] == found["then"]
    assert found["summary"]["later_gain"] == pytest.approx(0.15 - 0.1)
    assert code == 0


def test_another_policy_decides_otherwise(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (history.parent / "policy.yaml").write_text(RULES.replace("0.01", "0.3"))

    run("--json")

    found = json.loads(capsys.readouterr().out)
    assert [one["outcome"] for one in found["candidates"]] == ["promoted"] * 5
    assert found["summary"]["judgements"]["wrong promotion"] == 2
    assert found["then"]["judgements"]["wrong promotion"] == 1


def test_rules_about_the_package_are_left_out_and_named(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (history.parent / "policy.yaml").write_text(f"{RULES}  - {{metric: latency_p95_ms, at_most: 20}}\n")

    run("--json")

    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == ["latency_p95_ms at most 20"]
    assert [one["outcome"] for one in found["candidates"]].count("promoted") == 3


def test_people_read_a_table_and_two_summaries(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()

    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split("  ")[0] == "candidate"
    assert lines[2].startswith("2013-02    promoted  promoted")
    assert lines[2].endswith("right promotion")
    assert lines[-2].startswith(
        "under this policy: 3 promoted, 1 held, 1 refused; 1 right promotion, 1 wrong promotion"
    )
    assert lines[-1].startswith("as decided then: 3 promoted")
    assert said.err.splitlines()[0] == "1 of 5: 2013-01"


def test_a_holdout_that_judges_again_is_counted(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--json")

    assert [one["judged"] for one in json.loads(capsys.readouterr().out)["candidates"]] == [1, 2, 3, 4, 5]


def test_a_history_without_decisions_has_no_summary_of_then(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (history / "2013-02" / "decision.json").unlink()

    run("--json")

    found = json.loads(capsys.readouterr().out)
    assert (found["then"], found["candidates"][1]["then"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "policy.yaml", "--history", "absent"], "absent: there is no such folder"),
        (["--policy", "policy.yaml", "--history", "history/notes"], "no folder in it holds a candidate.parquet"),
        (["--policy", "absent.yaml", "--history", "history"], "absent.yaml:1:1: cannot be read"),
        (["--policy", "policy.yaml", "--history", "history", "--metric", "rmse"], "rmse"),
    ],
)
def test_what_cannot_be_replayed_ends_with_64(
    arguments: list[str], words: str, history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["backtest", *arguments])

    assert words in capsys.readouterr().err
    assert code == 64


@pytest.mark.parametrize("content", ['{"outcome": "shipped"}', '{"verdict": "great"}', "[]", "{", "{}"])
def test_a_decision_that_says_nothing_is_refused_with_its_place(
    content: str, history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (history / "2013-02" / "decision.json").write_text(content)

    code = run()

    assert "history/2013-02/decision.json: the outcome is " in capsys.readouterr().err
    assert code == 64


def test_broken_rows_are_named_with_their_file(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_parquet(history / "2013-03" / "candidate.parquet")
    pd.concat([table, table.head(1)]).to_parquet(history / "2013-03" / "candidate.parquet")

    code = run()

    assert "2013-03/candidate.parquet: 1 keys stand more than once" in capsys.readouterr().err
    assert code == 64
