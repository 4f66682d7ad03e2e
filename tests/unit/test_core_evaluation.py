"""The gate's decisions, by hand-worked tables."""

from __future__ import annotations

import pytest

from ml_lifecycle.core.contracts import (
    ChampionResult,
    Columns,
    DatasetRef,
    Difference,
    Evaluation,
    GateRule,
    HoldoutSpec,
    Metric,
    TrainedModel,
    Verdict,
)
from ml_lifecycle.core.evaluation import decide, policy_digest
from ml_lifecycle.core.training import training_key

D = "d" * 64
DATASET = DatasetRef(uri="snapshots/x", rows=10, fingerprint=D, columns=Columns(key="id"), partitions=("2013-01",))
MODEL = TrainedModel(
    name="flights",
    uri="runs:/1/model",
    digest=D,
    training_key=D,
    run_id="1",
    dataset=DATASET,
    holdout=HoldoutSpec(),
    training_rows=8,
)
VERSUS = GateRule(metric="roc_auc", versus="champion", margin=0.005, confidence=0.95)


def measured(
    value: float | None = 0.7,
    *,
    difference: tuple[float | None, float | None] | None = None,
    by_origin: dict[str, tuple[float | None, int]] | None = None,
) -> Evaluation:
    champion = None
    if difference is not None:
        champion = ChampionResult(
            version=1,
            digest=D,
            metrics={"roc_auc": Metric(value=0.7, rows=1000)},
            differences={"roc_auc": Difference(estimate=difference[0], standard_error=difference[1], rows=1000)},
        )
    slices = {
        "origin": {
            name: {"roc_auc": Metric(value=found, rows=rows)} for name, (found, rows) in (by_origin or {}).items()
        }
    }
    return Evaluation(
        model=MODEL,
        metrics={"roc_auc": Metric(value=value, rows=1000)},
        slices=slices,
        champion=champion,
        predictions_uri="runs:/1/evaluation/predictions.parquet",
        predictions_digest=D,
    )


@pytest.mark.parametrize(
    ("rule", "value", "verdict"),
    [
        (GateRule(metric="roc_auc", at_least=0.6), 0.61, Verdict.PASS),
        (GateRule(metric="roc_auc", at_least=0.6), 0.6, Verdict.PASS),
        (GateRule(metric="roc_auc", at_least=0.6), 0.59, Verdict.FAIL),
        (GateRule(metric="roc_auc", at_most=0.6), 0.6, Verdict.PASS),
        (GateRule(metric="roc_auc", at_most=0.6), 0.61, Verdict.FAIL),
        (GateRule(metric="roc_auc", at_least=0.6, at_most=0.8), 0.9, Verdict.FAIL),
        (GateRule(metric="roc_auc", at_least=0.6), None, Verdict.FAIL),
        (GateRule(metric="log_loss", at_most=0.5), 0.7, Verdict.FAIL),
        (GateRule(metric="roc_auc"), 0.9, Verdict.INCONCLUSIVE),
    ],
)
def test_a_limit_is_held_to_the_measured_value(rule: GateRule, value: float | None, verdict: Verdict) -> None:
    assert decide([rule], measured(value)).verdict is verdict


# The bound reaches 1.645 standard errors; the margin is 0.005.
@pytest.mark.parametrize(
    ("estimate", "error", "verdict"),
    [
        (0.01, 0.005, Verdict.PASS),  # low = 0.01 - 0.0082 = 0.0018
        (0.0, 0.003, Verdict.PASS),  # low = -0.0049
        (0.0, 0.0031, Verdict.INCONCLUSIVE),  # low = -0.0051
        (-0.02, 0.005, Verdict.FAIL),  # high = -0.0118
        (-0.02, 0.01, Verdict.INCONCLUSIVE),  # high = -0.0036
        (0.0, 0.0, Verdict.PASS),
        (-0.006, 0.0, Verdict.FAIL),
        (-0.005, 0.0, Verdict.INCONCLUSIVE),
        (None, None, Verdict.INCONCLUSIVE),
        (0.1, None, Verdict.INCONCLUSIVE),
    ],
)
def test_the_bounds_of_the_difference_are_held_to_the_margin(
    estimate: float | None, error: float | None, verdict: Verdict
) -> None:
    assert decide([VERSUS], measured(difference=(estimate, error))).verdict is verdict


def test_without_a_margin_a_model_is_no_worse_than_itself() -> None:
    rule = GateRule(metric="roc_auc", versus="champion")

    assert decide([rule], measured(difference=(0.0, 0.0))).verdict is Verdict.PASS


def test_an_inconclusive_comparison_says_how_many_more_rows_would_settle_it() -> None:
    # The reach of 1.645 * 0.01 has to shrink to the distance of 0.005: (3.29)^2 = 10.82 times the rows.
    check = decide([VERSUS], measured(difference=(0.0, 0.01))).checks[0]

    assert check.detail == "about 9,900 more rows needed"
    assert check.low == pytest.approx(-0.01645, abs=1e-5)
    assert check.high == pytest.approx(0.01645, abs=1e-5)


def test_an_estimate_on_the_margin_promises_no_number_of_rows() -> None:
    check = decide([VERSUS], measured(difference=(-0.005, 0.01))).checks[0]

    assert "no number of rows" in check.detail


def test_a_first_release_is_not_compared_with_a_champion() -> None:
    decision = decide([GateRule(metric="roc_auc", at_least=0.6), VERSUS], measured())

    assert decision.verdict is Verdict.PASS
    assert decision.checks[1].detail == "first release: no champion to compare with"


def test_a_first_release_that_only_a_champion_could_judge_is_left_to_a_human() -> None:
    assert decide([VERSUS], measured()).verdict is Verdict.INCONCLUSIVE


def test_a_first_release_without_a_metric_fails() -> None:
    assert decide([VERSUS], measured(None)).verdict is Verdict.FAIL


def test_without_rules_nothing_is_known() -> None:
    decision = decide([], measured())

    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.checks == ()


def test_one_failing_slice_fails_the_candidate() -> None:
    rule = GateRule(metric="roc_auc", each="origin", at_least=0.55)

    decision = decide([rule], measured(by_origin={"EWR": (0.7, 100), "JFK": (0.5, 100)}))

    assert decision.verdict is Verdict.FAIL
    assert [(check.rule, check.verdict) for check in decision.checks] == [
        ("roc_auc at least 0.55 for origin=EWR", Verdict.PASS),
        ("roc_auc at least 0.55 for origin=JFK", Verdict.FAIL),
    ]


@pytest.mark.parametrize(
    ("rows", "value", "verdict"),
    [
        (30, 0.7, Verdict.PASS),
        (29, 0.7, Verdict.INCONCLUSIVE),
        (29, 0.1, Verdict.INCONCLUSIVE),
        (30, None, Verdict.FAIL),
    ],
)
def test_a_slice_with_too_few_rows_tells_nothing(rows: int, value: float | None, verdict: Verdict) -> None:
    rule = GateRule(metric="roc_auc", each="origin", at_least=0.55)

    assert decide([rule], measured(by_origin={"EWR": (value, rows)})).verdict is verdict


def test_a_slice_column_that_was_not_measured_is_inconclusive() -> None:
    rule = GateRule(metric="roc_auc", each="carrier", at_least=0.55)

    assert decide([rule], measured()).verdict is Verdict.INCONCLUSIVE


def test_a_failure_weighs_more_than_what_is_unknown() -> None:
    rules = [VERSUS, GateRule(metric="roc_auc", at_least=0.9)]

    assert decide(rules, measured(difference=(None, None))).verdict is Verdict.FAIL


def test_other_rules_are_another_policy() -> None:
    first, second = GateRule(metric="roc_auc", at_least=0.6), GateRule(metric="roc_auc", at_least=0.61)

    assert policy_digest([first]) != policy_digest([second])
    assert policy_digest([first]) == decide([first], measured()).policy_digest


BASE = {
    "model": "flights",
    "dataset_fingerprint": D,
    "target": "delayed",
    "features": "include.features:build",
    "features_digest": D,
    "estimator": "sklearn.linear_model.LogisticRegression",
    "hyperparameters": {"C": 1.0, "max_iter": 100},
    "seed": 7,
    "holdout": HoldoutSpec(),
    "code_version": "abc",
    "environment_digest": D,
}


def test_the_same_inputs_have_the_same_training_key_in_any_order() -> None:
    turned = {**BASE, "hyperparameters": {"max_iter": 100, "C": 1.0}}

    assert training_key(**BASE) == training_key(**turned)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"dataset_fingerprint": "e" * 64},
        {"target": "cancelled"},
        {"features": None},
        {"features_digest": "e" * 64},
        {"estimator": "sklearn.linear_model.Ridge"},
        {"hyperparameters": {"C": 1.0}},
        {"seed": 8},
        {"holdout": HoldoutSpec(share=0.3)},
        {"code_version": "abd"},
        {"environment_digest": "e" * 64},
    ],
)
def test_every_input_counts_in_the_training_key(change: dict[str, object]) -> None:
    assert training_key(**BASE) != training_key(**{**BASE, **change})  # type: ignore[arg-type]
