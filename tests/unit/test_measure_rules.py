"""Every rule measured in every place, and what the gate makes of it."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.backends.evaluation.rows import ScoredRows, Task
from ml_lifecycle.backends.evaluation.rules import measure_rules
from ml_lifecycle.core.contracts import (
    ChampionResult,
    DatasetRef,
    Evaluation,
    GateRule,
    HoldoutSpec,
    Measured,
    MeasurementSpec,
    ServingCheck,
    TrainedModel,
    Verdict,
)
from ml_lifecycle.core.errors import UnknownMetricError
from ml_lifecycle.core.evaluation import decide

D = "0" * 64


def evaluation(**more: Any) -> Evaluation:
    dataset = DatasetRef(uri="d", rows=1, fingerprint=D, columns={"key": "id"}, partitions=("p",))
    model = TrainedModel(
        name="m", uri="u", digest=D, training_key=D, run_id="r", dataset=dataset, holdout=HoldoutSpec(), training_rows=1
    )
    champion = ChampionResult(version=1, digest=D, metrics={}, differences={})
    found = {"champion": champion, "metrics": {}, "predictions_uri": "u", "predictions_digest": D, **more}
    return Evaluation(model=model, **found)


def rows_of(truth: Any, task: Task = "binary", *, slices: Any = None, **more: Any) -> ScoredRows:
    truth = np.asarray(truth, dtype="float64")
    optional = {name: np.asarray(more.pop(name)) for name in ("cluster", "weight") if name in more}
    return ScoredRows(
        task=task,
        truth=truth,
        scores={name: np.asarray(score, dtype="float64") for name, score in more.items()},
        keys=np.arange(len(truth)),
        classes={"binary": ("0", "1"), "multiclass": ("a", "b", "c"), "regression": ()}[task],
        slices={name: np.asarray(values, dtype=object) for name, values in (slices or {}).items()},
        **optional,
    )


def right_and_wrong(gains: int, losses: int, both: int, neither: int = 0, **more: Any) -> ScoredRows:
    """Rows that only the candidate is right about, only the champion, both, and neither."""
    counts = (gains, losses, both, neither)
    candidate, champion = np.repeat([1, 0, 1, 0], counts), np.repeat([0, 1, 1, 0], counts)
    return rows_of(np.ones(sum(counts)), candidate=candidate, champion=champion, **more)


def measured(rule: GateRule, rows: ScoredRows, **more: Any) -> Measured:
    judged, own = more.pop("judged", 1), more.pop("own", {})
    (found,) = measure_rules([rule], evaluation(**more), rows, judged=judged, own=own)
    return found


def verdict(rule: GateRule, rows: ScoredRows, *, judged: int = 1, **more: Any) -> Verdict:
    judgement = evaluation(**more)
    return decide([rule], judgement, measure_rules([rule], judgement, rows, judged=judged), judged=judged).verdict


NOT_WORSE = GateRule(metric="accuracy", versus="champion", margin=0.005)


# --- Against the champion --------------------------------------------------------------------------------------------


def test_a_difference_is_turned_so_that_positive_is_better() -> None:
    rows = rows_of([1.0, 2.0, 3.0, 4.0], "regression", candidate=[1.1, 2.0, 3.2, 4.0], champion=[2.0, 3.5, 3.0, 4.0])

    found = measured(GateRule(metric="mae", versus="champion"), rows)

    assert found.value == pytest.approx(2.5 / 4 - 0.3 / 4)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_a_clear_gain_passes_a_clear_loss_fails_and_the_rest_is_left_open() -> None:
    assert verdict(NOT_WORSE, right_and_wrong(80, 20, 900)) is Verdict.PASS
    assert verdict(NOT_WORSE, right_and_wrong(20, 80, 900)) is Verdict.FAIL
    assert verdict(NOT_WORSE, right_and_wrong(5, 4, 41)) is Verdict.INCONCLUSIVE


def test_a_candidate_that_says_what_the_champion_says_is_no_worse_and_no_better() -> None:
    same = right_and_wrong(0, 0, 90, 10)

    assert verdict(GateRule(metric="accuracy", versus="champion"), same) is Verdict.PASS
    assert verdict(GateRule(metric="accuracy", versus="champion", claim="superior"), same) is not Verdict.PASS


def test_bounds_are_one_sided_at_the_rules_confidence() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(4000)
    candidate, champion = (truth + spread * rng.normal(size=4000) for spread in (0.1, 0.12))
    gains = (champion - truth) ** 2 - (candidate - truth) ** 2
    own = {"a:mse": lambda truth, score: -float(((score - truth) ** 2).mean())}
    rule = GateRule(metric="a:mse", versus="champion", better="higher", confidence=0.9, margin=0.001)

    found = measured(rule, rows_of(truth, "regression", candidate=candidate, champion=champion), own=own)

    assert found.value == pytest.approx(gains.mean())
    assert found.low == pytest.approx(gains.mean() - 1.2816 * stats.sem(gains), rel=0.1)
    assert found.high == pytest.approx(gains.mean() + 1.2816 * stats.sem(gains), rel=0.1)


def test_a_holdout_that_has_judged_before_asks_more_of_a_pass_and_no_more_of_a_failure() -> None:
    rows = right_and_wrong(60, 40, 900)

    first, fifth = (measured(NOT_WORSE, rows, judged=judged) for judged in (1, 5))

    assert fifth.low is not None
    assert first.low is not None
    assert fifth.low < first.low
    assert fifth.high == first.high
    assert fifth.p_broken == first.p_broken


def test_of_a_metric_that_may_not_be_large_the_upper_bound_is_what_a_pass_needs() -> None:
    rule, rows = GateRule(metric="brier", at_most=0.3), rows_of([0, 1] * 50, candidate=[0.2, 0.6, 0.3, 0.9] * 25)

    first, fifth = (measured(rule, rows, judged=judged) for judged in (1, 5))

    assert fifth.high is not None
    assert first.high is not None
    assert fifth.high > first.high
    assert fifth.low == first.low


def test_at_a_confidence_of_one_half_the_estimate_decides() -> None:
    rule = GateRule(metric="accuracy", at_least=0.6, confidence=0.5)

    assert verdict(rule, rows_of(np.ones(10), candidate=[1] * 6 + [0] * 4)) is Verdict.PASS
    assert verdict(rule, rows_of(np.ones(10), candidate=[1] * 5 + [0] * 5)) is Verdict.FAIL
    assert measured(rule, rows_of(np.ones(10), candidate=[1] * 6 + [0] * 4)).low == 0.6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.0, 0.01, 0.05]), st.sampled_from([0.8, 0.95]))
def test_the_p_value_is_small_exactly_where_the_upper_bound_shows_a_loss(
    gains: int, losses: int, margin: float, confidence: float
) -> None:
    if gains == losses == 0:
        return
    rule = GateRule(metric="accuracy", versus="champion", margin=margin, confidence=confidence)

    found = measured(rule, right_and_wrong(gains, losses, 300))

    assert found.high is not None
    assert found.p_broken is not None
    if abs(found.high + margin) > 1e-9:
        assert (found.p_broken < 1 - confidence) == (found.high < -margin)


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "f1", "average_precision", "calibration_error"])
def test_for_every_method_the_p_value_and_the_bound_say_the_same(metric: str) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 400)
    scores = {name: np.clip(0.3 * truth + 0.7 * rng.random(400), 0.01, 0.99) for name in ("candidate", "champion")}
    rows = rows_of(truth, "binary", **scores)

    for margin in (0.0, 0.02, 0.05, 0.1):
        found = measured(GateRule(metric=metric, versus="champion", margin=margin), rows)
        assert found.high is not None
        assert found.p_broken is not None
        assert (found.p_broken < 0.05) == (found.high < -margin)


def test_another_version_and_the_baseline_are_compared_with_by_name() -> None:
    truth = np.tile([0, 1], 50)
    rows = rows_of(truth, "binary", candidate=0.2 + 0.6 * truth, baseline=np.full(100, 0.5), **{"3": 0.4 + 0.3 * truth})

    version = measured(GateRule(metric="brier", versus=3), rows)
    baseline = measured(GateRule(metric="brier", versus="baseline"), rows)

    assert version.value == pytest.approx((0.4**2 + 0.3**2) / 2 - 0.2**2)
    assert baseline.value == pytest.approx(0.25 - 0.04)


def test_a_rate_needs_to_be_told_which_way_is_better() -> None:
    rows = right_and_wrong(20, 5, 75)

    silent = measured(GateRule(metric="selection_rate", versus="champion"), rows)
    lower = measured(GateRule(metric="selection_rate", versus="champion", better="lower"), rows)

    assert silent.value is None
    assert silent.detail == "nothing says which way selection_rate is better"
    assert lower.value == pytest.approx(-0.15)


# --- Places ----------------------------------------------------------------------------------------------------------


def test_a_rule_for_each_value_is_measured_on_the_rows_of_that_value() -> None:
    origin = ["JFK"] * 40 + ["LGA"] * 60
    rows = rows_of(np.ones(100), candidate=[1] * 30 + [0] * 10 + [1] * 15 + [0] * 45, slices={"origin": origin})

    found = measure_rules([GateRule(metric="accuracy", each="origin", at_least=0.5)], evaluation(), rows)

    assert [(one.place, one.value, one.rows) for one in found] == [("origin=JFK", 0.75, 40), ("origin=LGA", 0.25, 60)]


def test_slices_with_few_rows_are_pooled_where_the_rule_says_so() -> None:
    origin = ["JFK"] * 40 + ["LGA"] * 6 + ["EWR"] * 4
    rows = rows_of(np.ones(50), candidate=[1] * 40 + [0] * 5 + [1] * 5, slices={"origin": origin})
    rule = GateRule(metric="accuracy", each="origin", at_least=0.5, few_rows="pool", min_rows=10)

    found = measure_rules([rule], evaluation(), rows)

    assert [(one.place, one.rows, one.value) for one in found] == [
        ("origin=JFK", 40, 1.0),
        ("origin=(few rows)", 10, 0.5),
    ]


def test_a_slice_with_few_rows_is_left_to_the_gate_where_it_is_not_pooled() -> None:
    rows = rows_of(np.ones(45), candidate=np.ones(45), slices={"origin": ["JFK"] * 40 + ["LGA"] * 5})

    assert verdict(GateRule(metric="accuracy", each="origin", at_least=0.5), rows) is Verdict.INCONCLUSIVE
    ignoring = GateRule(metric="accuracy", each="origin", at_least=0.5, few_rows="ignore")
    assert verdict(ignoring, rows) is Verdict.PASS


def test_a_column_that_was_not_kept_says_so() -> None:
    found = measured(GateRule(metric="accuracy", each="origin", at_least=0.5), rows_of([1], candidate=[1]))

    assert found.value is None
    assert found.detail == "the predictions have no column 'origin' to slice by"


def test_one_bad_slice_of_twenty_fails_and_twenty_good_ones_hardly_ever_do() -> None:
    rng = np.random.default_rng(3)
    origin = np.repeat([f"S{place:02d}" for place in range(20)], 200)
    rule = GateRule(metric="accuracy", each="origin", at_least=0.9)
    failures = 0
    for _ in range(60):
        good = rows_of(np.ones(4000), candidate=rng.random(4000) < 0.9, slices={"origin": origin})
        failures += verdict(rule, good) is Verdict.FAIL
    bad = rng.random(4000) < np.where(origin == "S07", 0.7, 0.92)

    assert verdict(rule, rows_of(np.ones(4000), candidate=bad, slices={"origin": origin})) is Verdict.FAIL
    assert failures <= 9


def test_a_gap_is_measured_between_groups_that_have_enough_rows() -> None:
    group = ["a"] * 100 + ["b"] * 100 + ["c"] * 5
    selected = [1] * 60 + [0] * 40 + [1] * 30 + [0] * 70 + [0] * 5
    rows = rows_of(np.ones(205), candidate=selected, slices={"group": group})

    found = measured(GateRule(metric="selection_rate", between="group", at_most=0.1), rows)

    assert found.value == pytest.approx(0.3)
    assert found.rows == 200
    assert found.detail == "0.6 for a, 0.3 for b"
    assert found.p_broken is not None
    assert found.p_broken < 0.01


def test_a_gap_of_one_group_is_unknown() -> None:
    rows = rows_of(np.ones(60), candidate=np.ones(60), slices={"group": ["a"] * 55 + ["b"] * 5})

    found = measured(GateRule(metric="selection_rate", between="group", at_most=0.1), rows)

    assert found.value is None
    assert found.detail == "fewer than two groups of group have 30 rows"


def test_groups_of_equal_rates_pass_with_enough_rows_and_are_left_open_with_few() -> None:
    rule = GateRule(metric="selection_rate", between="group", at_most=0.1)

    def rows(many: int) -> ScoredRows:
        return rows_of(
            np.ones(2 * many), candidate=np.tile([0, 1], many), slices={"group": np.repeat(["a", "b"], many)}
        )

    assert verdict(rule, rows(1000)) is Verdict.PASS
    assert verdict(rule, rows(50)) is Verdict.INCONCLUSIVE


def test_days_that_lift_both_groups_alike_leave_their_gap_well_known() -> None:
    rng = np.random.default_rng(4)
    day = np.tile(np.repeat(np.arange(40), 25), 2)
    chance = np.clip(0.5 + 0.2 * rng.normal(size=40), 0.05, 0.95)[day]
    slices = {"group": np.repeat(["a", "b"], 1000)}
    drawn = rng.random(2000) < chance
    rule = GateRule(metric="selection_rate", between="group", at_most=0.1)

    shared = measured(rule, rows_of(np.ones(2000), candidate=drawn, cluster=day, slices=slices))
    apart = measured(
        rule, rows_of(np.ones(2000), candidate=drawn, cluster=day + 40 * np.repeat([0, 1], 1000), slices=slices)
    )

    assert shared.high is not None
    assert apart.high is not None
    assert shared.value == apart.value
    assert shared.high < apart.high


# --- What cannot be measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "accuracy", "f1", "average_precision"])
@pytest.mark.parametrize("flaw", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_never_passes(metric: str, flaw: float) -> None:
    truth = [0, 1] * 50
    rows = rows_of(truth, candidate=[0.1, 0.9] * 49 + [0.1, flaw], champion=[0.4, 0.6] * 50)

    assert verdict(GateRule(metric=metric, versus="champion", margin=0.5), rows) is Verdict.INCONCLUSIVE
    assert verdict(GateRule(metric=metric, at_least=0.0), rows) is Verdict.FAIL
    assert "missing or not finite" in measured(GateRule(metric=metric, at_least=0.0), rows).detail


def test_a_champion_whose_scores_are_missing_leaves_it_open() -> None:
    rows = rows_of([0, 1] * 50, candidate=[0.1, 0.9] * 50)

    found = measured(NOT_WORSE, rows)

    assert found.value is None
    assert found.detail == "champion has no predictions on these rows"
    assert verdict(NOT_WORSE, rows) is Verdict.INCONCLUSIVE


def test_truth_that_is_missing_is_named() -> None:
    found = measured(GateRule(metric="accuracy", at_least=0.1), rows_of([1, float("nan")], candidate=[1, 1]))

    assert found.value is None
    assert found.detail == "the truth is missing or not finite in 1 rows"


def test_one_class_only_is_named() -> None:
    rows = rows_of(np.ones(50), candidate=np.linspace(0.1, 0.9, 50), champion=np.linspace(0.2, 0.8, 50))

    for rule in (GateRule(metric="roc_auc", at_least=0.5), GateRule(metric="roc_auc", versus="champion")):
        found = measured(rule, rows)
        assert found.value is None
        assert found.detail == "the rows hold one class only"


@pytest.mark.parametrize("weight", [1e-200, 1e200, 1.7e308])
def test_weights_beyond_all_measure_pass_nothing(weight: float) -> None:
    rows = rows_of([0, 0, 1, 1], candidate=[0.1, 0.1, 0.9, 0.9], weight=[weight] * 4)

    found = measured(GateRule(metric="false_positive_rate", at_most=0.01), rows)

    assert (found.value, found.detail) == (None, "the weights are too large or too small to count with")


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "accuracy", "true_positive_rate"])
def test_two_rows_that_carry_all_the_weight_show_nothing_about_a_model_that_guesses(metric: str) -> None:
    rng = np.random.default_rng(3)
    truth, score, weight = np.tile([0.0, 1.0], 200), rng.random(400), np.ones(400)
    # It knows one row of each class, which count as a billion others.
    score[:2], weight[:2] = [0, 1], 1e9
    rows = rows_of(truth, candidate=score, weight=weight, champion=1 - score)

    found = measured(GateRule(metric=metric, at_least=0.9), rows)
    apart = measured(GateRule(metric=metric, versus="champion"), rows)

    assert (found.low, found.detail) == (None, "too few independent rows for an error")
    assert apart.low is None


def test_weights_that_are_about_even_are_enough_on_few_rows() -> None:
    rows = rows_of([0, 1, 0, 1], candidate=[0.1, 0.9, 0.9, 0.9], weight=[1.0, 1.2, 0.9, 1.1])

    found = measured(GateRule(metric="accuracy", at_least=0.9), rows)

    assert found.low is not None


@pytest.mark.parametrize("metric", ["log_loss", "brier", "calibration_error"])
def test_a_model_that_is_certain_of_every_class_at_once_is_not_measured_by_its_probabilities(metric: str) -> None:
    sure = np.random.default_rng(1).uniform(0.98, 1.0, (300, 3))
    rows = rows_of([0, 1, 2] * 100, "multiclass", candidate=sure)

    found = measured(GateRule(metric=metric, at_most=0.5), rows)

    assert found.value is None
    assert found.detail == "the scores of candidate are no probabilities: in 300 rows they do not sum to 1"


def test_scores_beyond_one_have_an_order_and_no_log_loss() -> None:
    rows = rows_of([0, 1], candidate=[-3.0, 4.0])

    assert measured(GateRule(metric="roc_auc", at_least=0.5), rows).value == 1
    assert measured(GateRule(metric="log_loss", at_most=0.5), rows).detail.endswith("2 are below 0 or above 1")


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "balanced_accuracy"])
def test_a_candidate_that_is_right_about_two_weighted_rows_is_not_shown_to_be_better(metric: str) -> None:
    few = rows_of([0, 1], candidate=[0, 1], champion=[1, 0], weight=[1.0, 1.0])
    many = rows_of([0, 1] * 20, candidate=[0, 1] * 20, champion=[1, 0] * 20, weight=[1.0] * 40)
    rule = GateRule(metric=metric, versus="champion")

    assert verdict(rule, few) is Verdict.INCONCLUSIVE
    assert verdict(rule, many) is Verdict.PASS


def test_no_rows_at_all_are_named() -> None:
    found = measured(GateRule(metric="brier", at_most=1.0), rows_of([], candidate=[]))

    assert (found.value, found.detail) == (None, "there are no rows")


def test_a_value_whose_error_is_not_known_never_passes() -> None:
    rows = rows_of([0, 1] * 50, candidate=[0.1, 0.9] * 50, cluster=np.zeros(100))

    assert measured(GateRule(metric="brier", at_most=0.9), rows).value == pytest.approx(0.01)
    assert verdict(GateRule(metric="brier", at_most=0.9), rows) is Verdict.INCONCLUSIVE


def test_a_metric_that_does_not_fit_the_task_is_refused() -> None:
    with pytest.raises(UnknownMetricError, match="'rmse' is not a metric of a binary model"):
        measured(GateRule(metric="rmse", at_most=1.0), rows_of([0, 1], candidate=[0, 1]))


def test_a_metric_of_ones_own_that_raises_says_what() -> None:
    def broken(truth: Any, score: Any) -> float:
        raise ValueError("no such thing")

    found = measured(GateRule(metric="a:b", at_least=1.0), rows_of([0, 1], candidate=[0, 1]), own={"a:b": broken})

    assert found.value is None
    assert found.detail == "it raised ValueError: no such thing"


def test_a_metric_of_ones_own_cannot_change_the_rows_that_others_are_measured_on() -> None:
    def flattering(truth: Any, score: Any, weight: Any) -> float:
        score[:] = truth
        truth[:] = weight[:] = 1
        return 1.0

    rows = rows_of([0, 1] * 50, candidate=[0.9, 0.1] * 50, weight=[1.0, 2.0] * 50)
    rules = (GateRule(metric="m:flattering", at_least=0.5), GateRule(metric="roc_auc", at_least=0.6))

    found = measure_rules(rules, evaluation(), rows, own={"m:flattering": flattering})

    assert found[1].value == 0


def test_a_metric_of_ones_own_that_ends_the_program_ends_only_itself() -> None:
    def leave(truth: Any, score: Any) -> float:
        raise SystemExit(0)

    found = measured(
        GateRule(metric="m:leave", at_least=0.5), rows_of([0, 1], candidate=[0, 1]), own={"m:leave": leave}
    )

    assert found.detail == "it raised SystemExit: 0"


def test_what_a_metric_of_ones_own_prints_is_no_part_of_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    def talkative(truth: Any, score: Any) -> float:
        sys.stdout.write("working")
        return 1.0

    measured(GateRule(metric="m:say", at_least=0.5), rows_of([0, 1], candidate=[0, 1]), own={"m:say": talkative})

    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("working")


def test_a_metric_of_ones_own_that_was_not_loaded_is_not_measured() -> None:
    rows = rows_of([0, 1], candidate=[0, 1], champion=[0, 1])

    for rule in (GateRule(metric="a:b", at_least=1.0), GateRule(metric="a:b", versus="champion", better="higher")):
        assert measured(rule, rows).value is None
        assert measured(rule, rows).detail == "a:b was not loaded"


def test_costs_of_labels_that_no_row_can_have_are_named() -> None:
    spec = MeasurementSpec(costs={"yes": {"no": 5.0}})

    found = measured(GateRule(metric="cost", at_most=1.0), rows_of([0, 1], candidate=[0, 1]), spec=spec)

    assert found.value is None
    assert found.detail == "the costs speak of no, yes, and the classes are 0, 1"


BINARY = (
    "roc_auc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "log_loss", "brier",
    "calibration_error", "cost", "selection_rate", "false_positive_rate", "mean_prediction", "bias",
)  # fmt: skip
CLASSES = (
    "roc_auc", "accuracy", "balanced_accuracy", "f1", "precision", "recall", "log_loss", "brier", "calibration_error",
    "cost",
)  # fmt: skip
NUMBERS = ("mae", "rmse", "mape", "wape", "r2", "mean_prediction", "bias")


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]),
            st.sampled_from([0.0, 0.3, 0.5, 1.0]),
            st.integers(0, 3),
            st.sampled_from([0.0, 1.0, 1e-9, 5.0]),
            st.sampled_from("ab"),
        ),
        min_size=0,
        max_size=14,
    ),
    clustered=st.booleans(),
    weighted=st.booleans(),
    judged=st.sampled_from([1, 50]),
)
def test_whatever_the_rows_are_like_every_rule_gets_an_answer(
    rows: list[tuple[Any, ...]], *, clustered: bool, weighted: bool, judged: int
) -> None:
    truth, candidate, champion, cluster, weight, group = zip(*rows, strict=True) if rows else ((),) * 6
    optional = {"cluster": np.asarray(cluster, dtype="int64")} if clustered else {}
    optional |= {"weight": np.asarray(weight, dtype="float64")} if weighted else {}
    scored = rows_of(truth, "binary", candidate=candidate, champion=champion, slices={"group": group}, **optional)
    measure_everything(BINARY, scored, judged=judged)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_rows_of_several_classes_are_like_every_rule_gets_an_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure = np.array([[1, 0, 0], [0, 1, 0], [0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    many = int(rng.integers(0, 14))
    scores = {name: sure[rng.integers(0, 4, many)] for name in ("candidate", "champion")}
    truth, slices = rng.integers(0, 3, many), {"group": rng.choice(["a", "b"], many)}

    measure_everything(CLASSES, rows_of(truth, "multiclass", slices=slices, **scores, **oddities(rng, many)))


@pytest.mark.parametrize("seed", range(25))
def test_whatever_rows_of_numbers_are_like_every_rule_gets_an_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    many, values = int(rng.integers(0, 14)), [0.0, 1.0, -3.0, 1e6, 1e-12]
    scores = {name: rng.choice(values, many) for name in ("candidate", "champion")}
    truth, slices = rng.choice(values, many), {"group": rng.choice(["a", "b"], many)}

    measure_everything(NUMBERS, rows_of(truth, "regression", slices=slices, **scores, **oddities(rng, many)))


def oddities(rng: np.random.Generator, many: int) -> dict[str, Any]:
    """Few clusters and strange weights, each in half of the cases."""
    odd = {"cluster": rng.integers(0, 4, many), "weight": rng.choice([0.0, 1.0, 1e-9, 5.0], many)}
    return {name: values for name, values in odd.items() if rng.random() < 0.5}


def measure_everything(metrics: tuple[str, ...], rows: ScoredRows, *, judged: int = 1) -> None:
    """Each kind of rule for each metric: numbers are finite, bounds in order, and what is not known has a reason."""
    rules = [
        rule
        for metric in metrics
        for rule in (
            GateRule(metric=metric, at_least=0.5),
            GateRule(metric=metric, versus="champion", better="higher", margin=0.1),
            GateRule(metric=metric, each="group", at_most=0.5, min_rows=1),
            GateRule(metric=metric, between="group", at_most=0.5, min_rows=2),
        )
    ]
    costs = {name: {other: 3.0 for other in rows.classes if other != name} for name in rows.classes}

    found = measure_rules(rules, evaluation(spec=MeasurementSpec(costs=costs, resamples=200)), rows, judged=judged)

    assert {one.rule for one in found} == set(range(len(rules)))
    for one in found:
        numbers = [number for number in (one.value, one.low, one.high, one.standard_error) if number is not None]
        assert all(math.isfinite(number) for number in numbers)
        assert (one.low is None) == (one.high is None) == (one.p_broken is None)
        assert one.low is not None or one.detail
        assert one.low is None or one.high is None or one.low <= one.high


# --- Of the package --------------------------------------------------------------------------------------------------


def test_what_was_measured_once_has_no_bounds() -> None:
    serving = ServingCheck(verdict=Verdict.PASS, rows=5, latency_p95_ms=12.0, model_mb=3.0)

    found = measured(GateRule(metric="latency_p95_ms", at_most=20), rows_of([], candidate=[]), serving=serving)

    assert (found.value, found.low, found.high, found.p_broken) == (12.0, None, None, None)
    assert verdict(GateRule(metric="model_mb", at_most=2.0), rows_of([], candidate=[]), serving=serving) is Verdict.FAIL


@pytest.mark.parametrize("serving", [None, ServingCheck(verdict=Verdict.FAIL, rows=0, detail="it would not load")])
def test_a_package_that_was_not_served_has_no_latency(serving: ServingCheck | None) -> None:
    found = measured(GateRule(metric="latency_p95_ms", at_most=20), rows_of([], candidate=[]), serving=serving)

    assert found.value is None
    assert found.detail == ("it would not load" if serving else "the packaged model was not tried")


# --- How often it is wrong -------------------------------------------------------------------------------------------


def test_of_simulated_challengers_the_worse_are_stopped_and_the_better_let_through() -> None:
    """The short form of ``make bench-gates``: both decide differently on 6 of 100 rows."""
    rng = np.random.default_rng(5)

    def promoted(effect: float, rows: int, times: int) -> float:
        gain = (0.06 + effect) / 2
        share = [gain, 0.06 - gain, 0.9 - 0.06 + gain, 0.1 - gain]
        drawn = (right_and_wrong(*map(int, rng.multinomial(rows, share))) for _ in range(times))
        return sum(verdict(NOT_WORSE, one) is Verdict.PASS for one in drawn) / times

    assert promoted(-0.01, 500, 300) <= 0.06
    assert promoted(0.02, 1000, 300) >= 0.87
    assert promoted(0.02, 5000, 100) >= 0.97


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "log_loss", "f1", "calibration_error"])
def test_a_holdout_that_was_used_beyond_all_measure_asks_for_more_and_gives_an_answer(metric: str) -> None:
    rows = rows_of([0, 0, 1, 1] * 50, candidate=[0.1, 0.6, 0.4, 0.9] * 50)
    rule = (
        GateRule(metric=metric, at_most=1.0)
        if metric in ("log_loss", "calibration_error")
        else GateRule(metric=metric, at_least=0.4)
    )

    once, often = measured(rule, rows), measured(rule, rows, judged=10**12)

    assert None not in (once.low, once.high, often.low, often.high)
    assert (often.low, often.high) != (once.low, once.high)


def test_a_holdout_that_was_used_a_thousand_times_still_gives_a_bound() -> None:
    found = measured(NOT_WORSE, right_and_wrong(30, 30, 940), judged=1000)

    assert found.low is not None
    assert math.isfinite(found.low)
    assert found.low < -0.02
