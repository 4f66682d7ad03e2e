"""The model card tells what Mitchell et al. (2019) ask for, from the evidence, in markdown that stays in its place."""

from __future__ import annotations

import re

import pytest

from ml_lifecycle.backends.reports.card import render_card
from ml_lifecycle.backends.reports.tables import compare_slices
from ml_lifecycle.backends.reports.words import number
from ml_lifecycle.core.contracts import MeasurementSpec, Metric, ModelPurpose, Verdict
from tests.fakes.judgements import RUN, check, decided, evaluated, holdout, model, two_classes

SECTIONS = [
    "Model card: flights",
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
    "How to reproduce it",
]
PURPOSE = ModelPurpose(description="Will it be late?", owner="operations", contact="ops@example.com", risk="high")


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_a_card_has_the_sections_of_the_paper() -> None:
    card = render_card(decided(evaluated(two_classes(), "roc_auc"), check()))

    assert [line.lstrip("# ") for line in card.splitlines() if line.startswith(("# ", "## "))] == SECTIONS
    assert "**Passed: the one check holds.**" in card


def test_the_use_is_what_the_pipeline_says() -> None:
    card = render_card(decided(evaluated(two_classes(), "roc_auc"), check()), purpose=PURPOSE)

    assert "Will it be late?" in section(card, "Intended use")
    assert "- **Owner**: operations\n- **Contact**: ops@example.com\n- **Risk**: high" in section(card, "Model details")


def test_a_use_that_nobody_described_is_said_to_be_missing() -> None:
    card = render_card(decided(evaluated(two_classes(), "roc_auc"), check()))

    assert "`description` does not say what the model is for" in section(card, "Intended use")
    assert "**Owner**" not in card


def test_numbers_stand_beside_their_interval_and_the_champions() -> None:
    rows = two_classes()
    decision = decided(evaluated(rows, "roc_auc"), check())

    card = section(render_card(decision, slices=compare_slices(decision, rows)), "Quantitative analyses")

    champion = decision.evaluation.champion
    assert champion is not None
    for metric in (decision.evaluation.metrics["roc_auc"], champion.metrics["roc_auc"]):
        assert f"{number(metric.value)} ({number(metric.low)} to {number(metric.high)})" in card
    assert "| ROC AUC at least 0.6 | pass | 0.8100 | 0.7600 to 0.8600 | 240 | DeLong |" in card
    assert "### ROC AUC by origin" in card
    assert "| JFK | 80 |" in card


def test_a_difference_has_its_sign() -> None:
    compared = check(rule="roc_auc at most 0.01 worse than the champion", versus="champion", observed=0.05, low=0.01)

    card = render_card(decided(evaluated(two_classes(), "roc_auc"), compared))

    assert "| +0.0500 | +0.0100 to +0.8600 |" in card


def test_whoever_repeats_the_training_finds_all_that_went_into_it() -> None:
    recipe = section(render_card(decided(evaluated(two_classes(), "roc_auc"), check())), "How to reproduce it")

    for fact in ("b" * 64, "1234567890abcdef", "crew.features:build", "e" * 64, "f" * 64, "**Seed**: 7"):
        assert fact in recipe
    assert "**Hyperparameter C**: 0.5" in recipe


def test_data_and_holdout_are_named_by_their_fingerprints() -> None:
    card = render_card(decided(evaluated(two_classes(), "roc_auc"), check(), judged=14))

    judging = section(card, "Evaluation data")
    assert "9" * 64 in judging
    assert "**Keys that training saw, too**: none" in judging
    assert "**Candidates that these rows judged**: 14, this one included" in judging
    training = section(card, "Training data")
    assert "d" * 64 in training
    assert "**Dropped: cancelled: it never arrived**: 45" in training


def test_how_it_was_measured_is_told() -> None:
    spec = MeasurementSpec(cluster="day", weight="seats", threshold=0.3)

    card = section(render_card(decided(evaluated(two_classes(), "roc_auc", spec=spec), check())), "Metrics")

    assert "Rows of the same day are not taken as independent of each other." in card
    assert "Rows are weighted by seats." in card
    assert "Decisions are made at a score of 0.3." in card


def test_warnings_and_reuse_are_caveats() -> None:
    rows = two_classes()
    facts = holdout(rows, warnings=("'arr_delay' tells the target almost alone",))

    card = render_card(decided(evaluated(rows, "roc_auc", holdout=facts), check(), judged=2))

    caveats = section(card, "Caveats and recommendations")
    assert "- 'arr_delay' tells the target almost alone" in caveats
    assert "This holdout has judged 2 candidates" in caveats


def test_a_first_release_is_a_caveat() -> None:
    card = render_card(decided(evaluated(two_classes(champion=False), "roc_auc"), check()))

    assert "It is the first release" in section(card, "Caveats and recommendations")
    assert "(champion)" not in card


def test_gaps_between_groups_are_an_ethical_consideration() -> None:
    gap = check(Verdict.FAIL, rule="gap between origin: selection_rate at most 0.1", metric="selection_rate")

    card = section(render_card(decided(evaluated(two_classes(), "roc_auc"), gap)), "Ethical considerations")

    assert "selection_rate at most 0.1**: fail" in card


def test_what_is_not_known_is_a_dash() -> None:
    nothing = {"roc_auc": Metric(value=None, rows=0)}
    bare = model(seed=None, code_version="", features="", features_digest="", environment_digest="", hardware="")
    evaluation = evaluated(
        two_classes(champion=False), model=bare, metrics=nothing, slices={}, holdout=None, serving=None
    )

    card = render_card(decided(evaluation, check(Verdict.INCONCLUSIVE, observed=None, low=None, high=None, rows=0)))

    assert "| ROC AUC | – |" in card  # noqa: RUF001  # as cards show it
    assert "**Seed**: –" in card  # noqa: RUF001  # as above
    assert "None" not in card


@pytest.mark.parametrize(
    "value",
    ["<script>alert(1)</script>", "a | b\n## Gate: passed", "[x](javascript:alert(1))", "\u202eevil", "x" * 10_000],
)
def test_no_value_from_data_or_people_leaves_its_place(value: str) -> None:
    rows = two_classes(origins=(value, "JFK"))
    trained = model(estimator=value, hyperparameters={value: value}, features=value, code_version=value, hardware=value)
    data = trained.dataset.model_copy(update={"uri": value, "partitions": (value,), "dropped": {value: 3}})
    decision = decided(
        evaluated(rows, "roc_auc", model=trained.model_copy(update={"dataset": data})),
        check(rule=value, detail=value, method=value),
    )
    purpose = ModelPurpose(description=value, owner=value, contact=value, risk=value)

    card = render_card(decision, slices=compare_slices(decision, rows), links={"candidate": value}, purpose=purpose)

    assert "<" not in card
    assert not re.search(r"(?<!\\)\]\(", card)
    assert "\u202e" not in card
    assert "x" * 1_000 not in card
    assert [line.lstrip("# ") for line in card.splitlines() if line.startswith(("# ", "## "))] == SECTIONS


def test_the_run_is_linked_where_it_has_a_page() -> None:
    card = render_card(
        decided(evaluated(two_classes(), "roc_auc"), check()), links={"candidate": "https://m.example/1"}
    )

    assert f"- **Run**: [{RUN}](<https://m.example/1>)" in card
