"""A file of rules is read as strictly as a pipeline."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ml_lifecycle.core.contracts import MeasurementSpec
from ml_lifecycle.core.errors import PipelineError
from ml_lifecycle.pipeline.loader import read_pipeline
from ml_lifecycle.pipeline.rules import read_rules

PROJECT = Path(__file__).resolve().parents[2]
GUIDE = (PROJECT / "docs" / "guides" / "gates.md").read_text()
RULES_OF_THE_GUIDE = re.findall(r"\| `(\{metric: .*?\})`", GUIDE)


def written(folder: Path, text: str) -> Path:
    file = folder / "rules.yaml"
    file.write_text(text)
    return file


def mistakes_of(file: Path) -> list[str]:
    with pytest.raises(PipelineError) as refused:
        read_rules(file)
    return [mistake.removeprefix(f"{file}:") for mistake in refused.value.mistakes]


@pytest.mark.parametrize("rule", RULES_OF_THE_GUIDE)
def test_every_rule_of_the_guide_is_one(rule: str, tmp_path: Path) -> None:
    file = written(tmp_path, f"costs: {{'True': {{'False': 5}}}}\ngate:\n  - {rule}\n")

    rules = read_rules(file)

    assert len(rules.gate) == 1


@pytest.mark.parametrize("block", [one for one in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL) if "data:" in one])
def test_the_guides_rules_file_is_one(block: str, tmp_path: Path) -> None:
    rules = read_rules(written(tmp_path, block))

    assert (rules.columns.key, rules.columns.score, rules.spec.cluster) == ("flight_id", "probability", "day")


def test_metrics_and_slices_are_those_that_are_listed_and_those_that_rules_name(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "metrics: [brier]\n"
        "slices: [dest]\n"
        "gate:\n"
        "  - {metric: roc_auc, each: origin, at_least: 0.5}\n"
        "  - {metric: recall, between: carrier, at_most: 0.1}\n"
        "  - {metric: latency_p95_ms, at_most: 20}\n",
    )

    rules = read_rules(file)

    assert rules.metrics == ("brier", "roc_auc", "recall")
    assert rules.slices == ("dest", "origin", "carrier")


def test_a_pipelines_rules_are_its_gates(tmp_path: Path) -> None:
    pipeline = read_pipeline(PROJECT / "dags" / "flight_delays.yaml")

    rules = read_rules(PROJECT / "dags" / "flight_delays.yaml")

    assert rules.gate == pipeline.evaluation.gate
    assert rules.spec == pipeline.evaluation.spec
    assert (rules.columns.key, rules.columns.time, rules.columns.target) == (
        "flight_id",
        "scheduled_departure",
        "delayed",
    )


def test_a_pipeline_with_a_mistake_is_refused_as_lint_does(tmp_path: Path) -> None:
    text = (PROJECT / "dags" / "flight_delays.yaml").read_text().replace("at_least: 0.60", "at_leest: 0.60")

    found = mistakes_of(written(tmp_path, text))

    assert any("unknown key 'at_leest', did you mean 'at_least'?" in one for one in found)


def test_an_empty_file_of_rules_sets_none(tmp_path: Path) -> None:
    rules = read_rules(written(tmp_path, "metrics: [roc_auc]\n"))

    assert (rules.gate, rules.metrics, rules.spec) == ((), ("roc_auc",), MeasurementSpec())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "1:1: is empty"),
        ("- roc_auc\n", "1:1: is not a mapping"),
        ("gate: roc_auc\n", "1:7: gate: must be a list"),
        ("gate: &g []\n", "the anchor &g is not accepted"),
        ("gate: []\ngate: []\n", "2:1: gate: the key 'gate' is written twice"),
        ("gate:\n  - {metric: roc_auc, at_least: .nan}\n", ".nan is not a number to count with"),
        ("gate:\n  - {metric: roc_auc, at_least: 0.5, versus: champion}\n", "says at_least and versus"),
        ("gate:\n  - {metric: roc_auc, versus: champion, confidence: 1}\n", "write a number below 1"),
        ("gate:\n  - {metric: cost, at_most: 3}\n", "costs"),
        ("metrics: [cost]\n", "costs: is missing, but the cost is measured"),
        ("resamples: 10\n", "write a number of at least 200"),
        ("data: {task: ranking}\n", "data.task: 'ranking' is not one of the values"),
    ],
)
def test_what_a_file_of_rules_may_not_say_is_told_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    found = mistakes_of(written(tmp_path, text))

    assert any(words in one for one in found), found
