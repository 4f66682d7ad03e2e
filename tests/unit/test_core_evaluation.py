"""The gate's decisions, by hand-worked tables."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ml_lifecycle.core.contracts import (
    ChampionResult,
    Columns,
    DatasetRef,
    Evaluation,
    GateRule,
    HoldoutSpec,
    Measured,
    MeasurementSpec,
    Metric,
    ServingCheck,
    TrainedModel,
    Verdict,
)
from ml_lifecycle.core.evaluation import decide, in_words, pass_confidence, policy_digest
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
LIMIT = GateRule(metric="roc_auc", at_least=0.6)
VERSUS = GateRule(metric="roc_auc", versus="champion", margin=0.005, confidence=0.95)
BY_ORIGIN = GateRule(metric="roc_auc", each="origin", at_least=0.55)


def an_evaluation(value: float | None = 0.7, *, champion: bool = False, **others: Any) -> Evaluation:
    metrics = {"roc_auc": Metric(value=value, rows=1000)}
    serving = ChampionResult(version=1, digest=D, metrics=metrics, differences={}) if champion else None
    return Evaluation(
        model=MODEL,
        metrics=metrics,
        champion=serving,
        predictions_uri="runs:/1/evaluation/predictions.parquet",
        predictions_digest=D,
        **others,
    )


def one(value: float | None, low: float | None = None, high: float | None = None, **others: Any) -> Measured:
    return Measured(**{"rule": 0, "value": value, "low": low, "high": high, "rows": 1000, **others})


def verdict_of(rule: GateRule, *measured: Measured, champion: bool = True) -> Verdict:
    return decide([rule], an_evaluation(champion=champion), measured).verdict


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.63, 0.61, 0.65, Verdict.PASS),
        (0.62, 0.6, 0.64, Verdict.PASS),
        (0.61, 0.59, 0.63, Verdict.INCONCLUSIVE),
        (0.59, 0.57, 0.61, Verdict.INCONCLUSIVE),
        (0.57, 0.55, 0.59, Verdict.FAIL),
        (None, None, None, Verdict.FAIL),
        (0.7, 0.5, math.inf, Verdict.INCONCLUSIVE),
        (0.7, math.nan, 0.8, Verdict.INCONCLUSIVE),
    ],
)
def test_a_least_value_is_held_to_the_lower_bound(
    value: float | None, low: float | None, high: float | None, verdict: Verdict
) -> None:
    measured = Measured.model_construct(rule=0, place="", value=value, low=low, high=high, rows=1000, detail="")

    assert decide([LIMIT], an_evaluation(), [measured]).verdict is verdict


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_never_passes(value: float) -> None:
    measured = Measured.model_construct(rule=0, place="", value=value, low=0.9, high=0.9, rows=1000, detail="")

    assert decide([LIMIT], an_evaluation(), [measured]).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, Verdict.PASS), (0.1, 0.3, Verdict.INCONCLUSIVE), (0.26, 0.3, Verdict.FAIL)],
)
def test_a_greatest_value_is_held_to_the_upper_bound(low: float, high: float, verdict: Verdict) -> None:
    rule = GateRule(metric="brier", at_most=0.25)

    assert verdict_of(rule, one((low + high) / 2, low, high)) is verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(49.9, Verdict.PASS), (50.0, Verdict.PASS), (50.1, Verdict.FAIL), (None, Verdict.FAIL)]
)
def test_a_value_without_error_is_compared_as_it_is(value: float | None, verdict: Verdict) -> None:
    rule = GateRule(metric="latency_p95_ms", at_most=50)

    assert verdict_of(rule, one(value)) is verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.0018, 0.0182, Verdict.PASS),
        (-0.0049, 0.0049, Verdict.PASS),
        (-0.005, 0.005, Verdict.INCONCLUSIVE),
        (-0.0282, -0.0118, Verdict.FAIL),
        (-0.0364, -0.0036, Verdict.INCONCLUSIVE),
        (0.0, 0.0, Verdict.PASS),
        (-0.006, -0.006, Verdict.FAIL),
        (-0.005, -0.005, Verdict.INCONCLUSIVE),
    ],
)
def test_the_bounds_of_the_difference_are_held_to_the_margin(low: float, high: float, verdict: Verdict) -> None:
    assert verdict_of(VERSUS, one((low + high) / 2, low, high)) is verdict


def test_a_difference_that_could_not_be_measured_is_left_to_a_human() -> None:
    check = decide([VERSUS], an_evaluation(champion=True), [one(None, detail="other rows")]).checks[0]

    assert (check.verdict, check.detail) == (Verdict.INCONCLUSIVE, "other rows")


def test_without_a_margin_a_model_is_no_worse_than_itself_and_not_better_either() -> None:
    no_worse = GateRule(metric="roc_auc", versus="champion")
    better = GateRule(metric="roc_auc", versus="champion", claim="superior")

    assert verdict_of(no_worse, one(0.0, 0.0, 0.0)) is Verdict.PASS
    assert verdict_of(better, one(0.0, 0.0, 0.0)) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("claim", "low", "high", "verdict"),
    [
        ("superior", 0.001, 0.01, Verdict.PASS),
        ("superior", -0.001, 0.01, Verdict.INCONCLUSIVE),
        ("superior", -0.01, -0.001, Verdict.FAIL),
        ("not_worse", -0.01, 0.001, Verdict.PASS),
        ("not_worse", -0.01, -0.001, Verdict.FAIL),
    ],
)
def test_a_claim_says_what_has_to_be_shown(claim: Any, low: float, high: float, verdict: Verdict) -> None:
    rule = GateRule(metric="roc_auc", versus="champion", claim=claim)

    assert verdict_of(rule, one((low + high) / 2, low, high)) is verdict


def test_an_inconclusive_comparison_says_how_many_more_rows_would_decide_it() -> None:
    measured = one(0.0, -0.01645, 0.01645, standard_error=0.01)

    check = decide([VERSUS], an_evaluation(champion=True), [measured]).checks[0]

    # ((1.6449 + 0.8416) * 0.01 / 0.005)^2 = 24.73 times the 1,000 rows.
    assert check.more_rows == 23731
    assert check.detail == "about 24,000 more rows would decide it"


def test_an_estimate_on_the_margin_promises_no_number_of_rows() -> None:
    measured = one(-0.005, -0.02, 0.01, standard_error=0.01)

    check = decide([VERSUS], an_evaluation(champion=True), [measured]).checks[0]

    assert check.more_rows is None
    assert "more rows would hardly decide it" in check.detail


def test_a_first_release_is_not_compared_with_a_champion() -> None:
    decision = decide([LIMIT, VERSUS], an_evaluation(), [one(0.7, 0.65, 0.75)])

    assert decision.verdict is Verdict.PASS
    assert decision.checks[1].detail == "first release: no champion to compare with"


def test_a_first_release_that_only_a_champion_could_judge_is_left_to_a_human() -> None:
    assert decide([VERSUS], an_evaluation(), []).verdict is Verdict.INCONCLUSIVE


def test_a_first_release_without_a_metric_fails() -> None:
    assert decide([VERSUS], an_evaluation(None), []).verdict is Verdict.FAIL


def test_a_first_release_can_be_held_to_a_baseline() -> None:
    rule = GateRule(metric="roc_auc", versus="baseline", claim="superior")

    assert verdict_of(rule, one(0.1, 0.05, 0.15), champion=False) is Verdict.PASS


def test_without_rules_nothing_is_known() -> None:
    decision = decide([], an_evaluation(), [])

    assert (decision.verdict, decision.checks) == (Verdict.INCONCLUSIVE, ())


def test_a_rule_that_was_not_measured_is_inconclusive() -> None:
    assert decide([LIMIT], an_evaluation(), []).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("rule", [GateRule(metric="roc_auc"), GateRule(metric="roc_auc", at_least=0.5, at_most=0.9)])
def test_a_rule_that_says_nothing_or_two_things_is_inconclusive(rule: GateRule) -> None:
    assert verdict_of(rule, one(0.7, 0.65, 0.75)) is Verdict.INCONCLUSIVE


def test_one_failing_slice_fails_the_candidate() -> None:
    slices = [one(0.7, 0.6, 0.8, place="origin=EWR"), one(0.4, 0.3, 0.5, place="origin=JFK", p_broken=0.001)]

    decision = decide([BY_ORIGIN], an_evaluation(), slices)

    assert decision.verdict is Verdict.FAIL
    assert [(check.rule, check.verdict) for check in decision.checks] == [
        ("roc_auc at least 0.55 for origin=EWR", Verdict.PASS),
        ("roc_auc at least 0.55 for origin=JFK", Verdict.FAIL),
    ]


def test_of_many_slices_one_has_to_be_shown_worse_more_clearly() -> None:
    slices = [one(0.5, 0.4, 0.54, place=f"origin={number}", p_broken=p) for number, p in enumerate((0.012, 0.02, 0.3))]

    corrected = decide([BY_ORIGIN], an_evaluation(), slices)
    plain = decide([BY_ORIGIN.model_copy(update={"correction": "none"})], an_evaluation(), slices)

    # Holm at 5%: 0.012 < 0.05 / 3, 0.02 < 0.05 / 2, 0.3 > 0.05.
    assert [check.verdict.value for check in corrected.checks] == ["fail", "fail", "inconclusive"]
    assert [check.verdict.value for check in plain.checks] == ["fail", "fail", "inconclusive"]


def test_a_slice_that_fails_alone_may_be_luck_among_many() -> None:
    slices = [one(0.5, 0.4, 0.54, place="a", p_broken=0.03), one(0.7, 0.6, 0.8, place="b", p_broken=0.9)]

    corrected = decide([BY_ORIGIN], an_evaluation(), slices)
    plain = decide([BY_ORIGIN.model_copy(update={"correction": "none"})], an_evaluation(), slices)

    assert [check.verdict.value for check in corrected.checks] == ["inconclusive", "pass"]
    assert [check.verdict.value for check in plain.checks] == ["fail", "pass"]


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
    assert verdict_of(BY_ORIGIN, one(value, value, value, rows=rows, place="origin=EWR")) is verdict


def test_slices_with_too_few_rows_can_be_left_out() -> None:
    rule = BY_ORIGIN.model_copy(update={"few_rows": "ignore"})

    assert verdict_of(rule, one(0.1, 0.1, 0.1, rows=29), one(0.7, 0.6, 0.8, rows=500)) is Verdict.PASS
    assert verdict_of(rule, one(0.7, 0.6, 0.8, rows=29)) is Verdict.INCONCLUSIVE


def test_a_failure_weighs_more_than_what_is_unknown() -> None:
    rules = [VERSUS, GateRule(metric="roc_auc", at_least=0.9)]
    measured = [one(None), one(0.7, 0.65, 0.75, rule=1)]

    assert decide(rules, an_evaluation(champion=True), measured).verdict is Verdict.FAIL


# The chance of a wrong pass is 5% for the first candidate, 5% / 4 for the second, 5% / 100 for the tenth.
@pytest.mark.parametrize(("judged", "confidence"), [(1, 0.95), (2, 0.9875), (10, 0.9995)])
def test_a_holdout_that_was_used_before_asks_for_more_confidence(judged: int, confidence: float) -> None:
    decision = decide([VERSUS], an_evaluation(champion=True), [one(0.01, 0.005, 0.02)], judged=judged)

    assert pass_confidence(VERSUS, judged) == pytest.approx(confidence)
    assert decision.judged == judged
    assert decision.checks[0].confidence == pytest.approx(confidence)


def test_all_wrong_passes_on_one_holdout_together_stay_below_a_bound() -> None:
    together = sum(1 - pass_confidence(VERSUS, judged) for judged in range(1, 100_000))

    assert together == pytest.approx(0.05 * math.pi**2 / 6, rel=1e-4)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_a_model_that_would_not_serve_does_not_pass(verdict: Verdict) -> None:
    serving = ServingCheck(verdict=verdict, rows=64, detail="it cannot be loaded")

    decision = decide([LIMIT], an_evaluation(serving=serving), [one(0.7, 0.65, 0.75)])

    assert decision.verdict is verdict
    assert decision.checks[-1].detail == "it cannot be loaded"


def test_that_a_model_serves_does_not_make_it_good_enough() -> None:
    serving = ServingCheck(verdict=Verdict.PASS, rows=64)

    assert decide([], an_evaluation(serving=serving), []).verdict is Verdict.INCONCLUSIVE


def test_other_rules_or_another_measurement_are_another_policy() -> None:
    first, second = LIMIT, LIMIT.model_copy(update={"at_least": 0.61})
    by_day = MeasurementSpec(cluster="day")

    assert policy_digest([first]) != policy_digest([second])
    assert policy_digest([first], by_day) != policy_digest([first])
    assert policy_digest([first], MeasurementSpec()) == policy_digest([first])
    assert policy_digest([first]) == decide([first], an_evaluation(), []).policy_digest


@pytest.mark.parametrize(
    ("rule", "place", "words"),
    [
        (LIMIT, "", "roc_auc at least 0.6"),
        (VERSUS, "", "roc_auc at most 0.005 worse than the champion (95% confidence)"),
        (GateRule(metric="f1", versus=3, claim="superior"), "", "f1 better than version 3 (95% confidence)"),
        (
            GateRule(metric="f1", versus="baseline", claim="not_worse", confidence=0.9),
            "origin=JFK",
            "f1 not shown to be worse than the baseline (90% confidence) for origin=JFK",
        ),
        (
            GateRule(metric="selection_rate", between="origin", at_most=0.1),
            "between origin",
            "gap between origin: selection_rate at most 0.1",
        ),
    ],
)
def test_a_rule_reads_like_a_sentence(rule: GateRule, place: str, words: str) -> None:
    assert in_words(rule, place) == words


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
