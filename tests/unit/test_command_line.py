"""The command line: pipeline files are linted, and stages chain on files without Airflow or a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # tests make tables
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.__main__ import main

PROJECT = Path(__file__).resolve().parents[2]
DEMO = PROJECT / "dags" / "flight_delays.yaml"


def table(rows: int = 300, *, shift: float = 0.0) -> pd.DataFrame:
    """Rows whose label follows ``x``; equal for equal arguments."""
    random = np.random.default_rng(7)
    x = random.normal(size=rows)
    made: pd.DataFrame = pd.DataFrame(
        {
            "id": range(rows),
            "at": pd.date_range("2013-01-01", periods=rows, freq="h", tz="UTC"),
            "x": x + shift,
            "noise": random.normal(size=rows),
            "origin": random.choice(["JFK", "LGA"], rows),
            "late": x + 0.5 * random.normal(size=rows) > 0,
        }
    )
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two months of data, and the place where commands run."""
    table().to_parquet(tmp_path / "january.parquet")
    table(shift=5).to_parquet(tmp_path / "february.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def project(folder: Path, *, change: tuple[str, str] = ("", "")) -> Path:
    """A small project whose pipeline has ``change`` made to it; returns the pipeline's file."""
    (folder / "dags").mkdir()
    (folder / "include").mkdir()
    (folder / "include" / "features_of_lint.py").write_text("def build(rows):\n    return rows\n")
    suite = {"name": "s", "expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}}]}
    (folder / "include" / "suite.json").write_text(json.dumps(suite))
    text = DEMO.read_text().replace("include/flight_delays/expectations.json", "include/suite.json")
    text = text.replace("include.flight_delays.features:build", "include.features_of_lint:build")
    assert change[0] in text
    file = folder / "dags" / "flights.yaml"
    file.write_text(text.replace(change[0], change[1], 1) if change[0] else text)
    return file


def train(*more: str) -> list[str]:
    return [
        *("train", "--data", "january.parquet", "--key", "id", "--time", "at", "--target", "late"),
        *("--estimator", "sklearn.linear_model.LogisticRegression", *more),
    ]


def output(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# --- lint and schema -------------------------------------------------------------------------------------------------


def test_the_demos_pipeline_has_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["lint", str(DEMO)])

    assert capsys.readouterr().out == "0 mistakes in 1 file\n"
    assert code == 0


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (("suite.json", "absent.json"), "validation.suite", "cannot be read"),
        (("lint:build", "lint:biuld"), "training.features", "did you mean 'build'"),
        (("features_of_lint", "features_of_lit"), "training.features", "there is no module"),
        (("HistGradientBoostingClassifier", "HistGradientBostingClassifier"), "training.estimator", "did you mean"),
        (("sklearn.ensemble", "sklearn.ensembel"), "training.estimator", "there is no module 'sklearn.ensembel'"),
        (("sklearn.ensemble.Hist", "os.path.Hist"), "training.estimator", "none of scikit-learn's estimators"),
        (("max_iter:", "max_itr:"), "training.hyperparameters.max_itr", "did you mean 'max_iter'?"),
    ],
)
def test_lint_looks_at_what_the_file_names(
    change: tuple[str, str], path: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project(tmp_path, change=change)

    code = main(["lint", str(file), "--json"])

    mistakes = output(capsys)["files"][0]["mistakes"]
    assert [(one["path"], words in f"{one['what']}; {one['way_out']}") for one in mistakes] == [(path, True)]
    assert change[1] in file.read_text().splitlines()[mistakes[0]["line"] - 1]
    assert code == 1


def test_lint_names_an_unknown_expectation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = project(tmp_path)
    suite = {"name": "s", "expectations": [{"type": "expect_column_to_be_nice", "kwargs": {}}]}
    (tmp_path / "include" / "suite.json").write_text(json.dumps(suite))

    code = main(["lint", str(file)])

    assert "expect_column_to_be_nice" in capsys.readouterr().out
    assert code == 1


def test_lint_tells_the_mistakes_of_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("model: x\nowner: y\n")

    code = main(["lint", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"), str(tmp_path / "absent.yaml")])

    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "a.yaml:1:1: contact: is missing" in line]) == 1
    assert len([line for line in lines if "b.yaml:1:1: data: is missing; add `data:`" in line]) == 1
    assert any("absent.yaml:1:1: cannot be read" in line for line in lines)
    assert code == 1


def test_the_schema_is_json_and_its_page_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert output(capsys)["title"] == "Pipeline"

    assert main(["schema", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# The pipeline file\n")


# --- Stages ----------------------------------------------------------------------------------------------------------


def test_a_model_goes_from_data_to_scores_by_commands_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train("--param", "C=0.5", "--json")) == 0
    (here / "model.json").write_text(capsys.readouterr().out)
    assert main(["evaluate", "--model", "model.json", "--slices", "origin", "--json"]) == 0
    (here / "evaluation.json").write_text(capsys.readouterr().out)

    assert main(["gate", "--evaluation", "evaluation.json", "--rule", "roc_auc>=0.6", "--rule", "log_loss <= 0.6"]) == 0
    assert main(["gate", "--evaluation", "evaluation.json", "--rule", "roc_auc>=0.999"]) == 1
    assert (
        main(
            [
                "gate",
                "--evaluation",
                "evaluation.json",
                "--rule",
                "roc_auc>=0.5 by origin",
                "--rule",
                "roc_auc>=0.5 by day",
            ]
        )
        == 2
    )
    capsys.readouterr()
    assert main(["score", "--model", "model.json", "--data", "february.parquet", "--output", "scores.parquet"]) == 0

    assert capsys.readouterr().out == "scored 300 rows into scores.parquet\n"
    scores = pd.read_parquet("scores.parquet")
    assert scores["id"].tolist() == list(range(300))
    assert scores["score"].between(0, 1).all()


def test_a_model_is_evaluated_and_gated_by_a_rules_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "rules.yaml").write_text(
        "cluster: day\nmetrics: [brier]\ngate:\n  - {metric: accuracy, at_least: 0.5}\n"
        "  - {metric: log_loss, versus: baseline}\n  - {metric: roc_auc, each: origin, at_least: 0.5}\n"
    )
    (here / "otherwise.yaml").write_text("gate:\n  - {metric: accuracy, at_least: 0.5}\n")
    main(train("--json"))
    (here / "model.json").write_text(capsys.readouterr().out)

    assert main(["evaluate", "--model", "model.json", "--rules", "rules.yaml", "--json"]) == 0
    (here / "evaluation.json").write_text(capsys.readouterr().out)
    code = main(["gate", "--evaluation", "evaluation.json", "--rules", "rules.yaml"])

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "accuracy at least 0.5" in line] == ["  pass          accuracy at least 0.5"]
    assert any("than the baseline" in line for line in lines)
    # Three days are held back: too few for a verdict on every slice, and never a failure of so good a model.
    assert code in (0, 2)
    assert main(["gate", "--evaluation", "evaluation.json", "--rules", "otherwise.yaml"]) == 64
    assert "evaluate again with --rules otherwise.yaml" in capsys.readouterr().err


def test_a_model_of_numbers_is_measured_by_what_is_usual_for_them(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table().assign(late=lambda rows: 3 * rows.x + rows.noise).to_parquet(here / "january.parquet")
    main(train("--estimator", "sklearn.linear_model.LinearRegression", "--json"))
    (here / "model.json").write_text(capsys.readouterr().out)

    code = main(["evaluate", "--model", "model.json"])

    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["rmse", "mae", "r2"]
    assert code == 0


def test_training_twice_trains_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(train("--json"))
    first = output(capsys)

    main(train("--json"))

    assert output(capsys) == first


@pytest.mark.parametrize(("least", "verdict", "code"), [(-100, "pass", 0), (0, "fail", 1)])
def test_a_suite_passes_or_fails_a_file(
    least: int, verdict: str, code: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expectation = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "min_value": least}}
    (here / "suite.json").write_text(json.dumps({"name": "s", "expectations": [expectation]}))

    found = main(["validate", "--suite", "suite.json", "--data", "january.parquet", "--json"])

    assert (output(capsys)["verdict"], found) == (verdict, code)


def test_drift_is_measured_between_any_two_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--reference", "january.parquet", "--current", "february.parquet"]

    assert main(["drift", *files, "--columns", "x", "--html", "drift.html", "--json"]) == 1
    assert output(capsys)["drifted_share"] == 1.0
    assert (here / "drift.html").read_text().lstrip().startswith("<")
    assert main(["drift", *files, "--columns", "noise,origin"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "--model", "absent.json"], "absent.json: it cannot be read"),
        (["evaluate", "--model", "model.json", "--cluster", "day"], "--cluster means nothing beside --model"),
        (["gate", "--evaluation", "x", "--rule", "f1>=1", "--first-release"], "--first-release means nothing beside"),
        (["evaluate", "--model", "january.parquet"], "hand in what `ml-lifecycle train --json` printed"),
        (["evaluate", "--model", "wrong.json"], "hand in what `ml-lifecycle train --json` printed"),
        (["gate", "--evaluation", "wrong.json", "--rule", "roc_auc>0.6"], "'roc_auc>0.6' is not a rule"),
        (["gate", "--evaluation", "wrong.json", "--rule", "roc_auc>=1.2.3"], "--rule 'roc_auc>=1.2.3'"),
        (["drift", "--reference", "january.parquet", "--current", "absent.parquet"], "there is no such file"),
        (["drift", "--reference", "january.parquet", "--current", "wrong.json"], "hand in .parquet or .csv"),
        (["drift", "--reference", "january.parquet", "--current", "torn.parquet"], "torn.parquet"),
        (
            ["drift", "--reference", "january.parquet", "--current", "january.parquet", "--min-effect", "2"],
            "--min-effect",
        ),
        (train("--param", "C"), "--param: 'C' has no name or no value"),
        (train("--param", "C=NaN"), "NaN is not a number to count with"),
        (train("--param", "depth=3"), "depth"),
        (train("--holdout", "1.5"), "--holdout"),
        (train("--name", "Not A Name"), "--name"),
        (train("--related", "weather=absent.csv"), "absent.csv: there is no such file"),
        (train("--workspace", "january.parquet"), "january.parquet"),
        (
            ["score", "--model", "wrong.json", "--data", "january.parquet", "--output", "x.txt"],
            "x.txt is no parquet file",
        ),
    ],
)
def test_an_error_names_value_place_and_way_out_without_a_traceback(
    arguments: list[str], words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "wrong.json").write_text('{"name": 3}')
    (here / "torn.parquet").write_bytes((here / "january.parquet").read_bytes()[:500])

    code = main(arguments)

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"ml-lifecycle {arguments[0]}: ")
    assert words in said.err
    assert "Traceback" not in said.err
    assert "; " in said.err
    assert code == 64


def test_a_model_that_the_workspace_never_trained_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(train("--json"))
    (here / "model.json").write_text(capsys.readouterr().out)

    code = main(["evaluate", "--model", "model.json", "--workspace", "other"])

    assert "is not a result that the ledger knows" in capsys.readouterr().err
    assert code == 64


# --- The command itself ----------------------------------------------------------------------------------------------


def test_help_is_told_without_any_heavy_library() -> None:
    code = (
        "import sys\nfrom ml_lifecycle.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as done:\n    assert done.code == 0\n"
        "heavy = {'airflow', 'pandas', 'numpy', 'sklearn', 'mlflow', 'great_expectations', 'evidently', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "a whole turn on files" in done.stdout


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])

    assert done.value.code == 0
    assert capsys.readouterr().out.startswith("ml-lifecycle 0.")


def test_a_defect_of_the_program_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ml_lifecycle.pipeline.schema.json_schema", lambda: 1 / 0)

    code = main(["schema"])

    assert "ZeroDivisionError" in capsys.readouterr().err
    assert code == 70


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["lint"]])
def test_wrong_usage_ends_with_code_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)

    assert done.value.code == 64
    assert "usage: ml-lifecycle" in capsys.readouterr().err
