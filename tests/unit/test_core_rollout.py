"""Whether a step of a rollout shows the new version to be worse, or rules it out."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_lifecycle.core.contracts import (
    AnalysisPolicy,
    Histogram,
    Observation,
    PairedScores,
    QualityPolicy,
    StepCheck,
    StepEvidence,
    Verdict,
)
from ml_lifecycle.core.rollout import judge, verdict_of
from tests.fakes.rollouts import BOUNDS, losses, seen, step, times

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
QUALITY = AnalysisPolicy(quality=QualityPolicy(margin=0.02))


def checks(*steps: StepEvidence, policy: AnalysisPolicy | None = None, final: bool = False) -> dict[str, StepCheck]:
    return {check.name: check for check in judge(policy or AnalysisPolicy(), steps, final=final)}


def verdict(*steps: StepEvidence, policy: AnalysisPolicy | None = None, final: bool = False) -> Verdict:
    return verdict_of(judge(policy or AnalysisPolicy(), steps, final=final))


def labelled(rows: int, wrong: float, *, percent: int = 50, old_wrong: float = 0.1, **changes: Any) -> StepEvidence:
    others = rows * (100 - percent) // percent
    return step(percent, rows, new_losses=losses(7, rows, wrong), old_losses=losses(6, others, old_wrong), **changes)


# --- The whole -------------------------------------------------------------------------------------------------------


def test_a_version_that_does_as_well_as_the_old_one_passes() -> None:
    assert verdict(step(10, 2_000)) is PASS


def test_one_failing_check_fails_the_step() -> None:
    assert verdict(step(10, 2_000, fault="version 7 died")) is FAIL


def test_nothing_known_is_inconclusive() -> None:
    assert verdict() is INCONCLUSIVE
    assert verdict_of([]) is INCONCLUSIVE
    assert verdict(step(10, 2_000, old=None, new=None)) is INCONCLUSIVE


def test_every_check_says_what_was_seen_within_which_bounds_and_against_what() -> None:
    policy = AnalysisPolicy(quality=QualityPolicy(), latency_p95_ms=50)

    found = checks(labelled(8_000, 0.1), policy=policy, final=True)

    assert list(found) == ["target", "answers", "error rate", "latency", "latency ratio", "quality"]
    for name in ("error rate", "latency", "latency ratio", "quality"):
        check = found[name]
        assert check.verdict is PASS
        assert check.observed is not None
        assert check.limit is not None
        assert check.detail
        low, high = check.low or 0.0, check.high
        assert high is not None
        assert low <= check.observed <= high <= check.limit


def test_a_target_that_found_a_fault_fails_the_step_with_its_words() -> None:
    check = checks(step(fault="the server of version 7 exited"))["target"]

    assert (check.verdict, check.detail) == (FAIL, "the server of version 7 exited")


# --- Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("requests", "said"), [(500, PASS), (499, INCONCLUSIVE), (0, INCONCLUSIVE)])
def test_a_step_waits_for_its_least_answers(requests: int, said: Verdict) -> None:
    assert checks(step(10, 1_000, new=seen(7, requests)))["answers"].verdict is said


def test_requests_that_failed_are_no_answers() -> None:
    assert checks(step(10, 1_000, new=seen(7, 502, errors=3)))["answers"].observed == 499


# --- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "requests", "said"),
    [
        (0, 500, PASS),
        (0, 300, INCONCLUSIVE),
        (5, 500, INCONCLUSIVE),
        (40, 1_000, FAIL),
        (1, 2_000, PASS),
        (20, 20, FAIL),
    ],
)
def test_errors_are_held_against_one_percent(errors: int, requests: int, said: Verdict) -> None:
    now = step(50, requests, new=seen(7, requests, errors=errors))

    assert checks(now)["error rate"].verdict is said


def test_errors_that_another_version_answered_count() -> None:
    hidden = seen(7, 1_000, errors=0, retried=40)

    check = checks(step(50, 1_000, new=hidden))["error rate"]

    assert check.verdict is FAIL
    assert check.observed == pytest.approx(0.04)
    assert "40 of them answered by the old version" in check.detail


def test_an_incident_that_hits_both_versions_rolls_nothing_back_and_lets_nothing_pass() -> None:
    both = step(50, 1_000, new=seen(7, 1_000, errors=80), old=seen(6, 1_000, errors=80))

    check = checks(both)["error rate"]

    assert check.verdict is INCONCLUSIVE
    assert "not shown to be worse" in check.detail


def test_where_all_traffic_goes_to_it_the_limit_alone_decides_with_what_the_old_one_did_before() -> None:
    before = step(50, 1_000)
    bad = step(100, 1_000, new=seen(7, 1_000, errors=40), old=seen(6, 0))

    assert checks(before, bad)["error rate"].verdict is FAIL
    assert checks(bad)["error rate"].verdict is FAIL


def test_a_version_that_breaks_down_under_more_load_fails_though_it_did_well_before() -> None:
    good, bad = step(10, 20_000), step(50, 400, new=seen(7, 400, errors=60))

    assert checks(good, bad)["error rate"].verdict is FAIL


def test_an_earlier_steps_answers_do_not_make_a_later_step_pass() -> None:
    assert checks(step(10, 20_000), step(50, 100))["error rate"].verdict is INCONCLUSIVE


@pytest.mark.parametrize("new", [None, seen(7, 0, latency=None)])
def test_a_new_version_that_nobody_asks_is_inconclusive(new: Any) -> None:
    found = checks(step(10, 1_000, new=new))

    assert found["answers"].verdict is INCONCLUSIVE
    assert found["error rate"].verdict is INCONCLUSIVE
    assert found["latency ratio"].verdict is INCONCLUSIVE


def test_more_errors_than_requests_are_not_believed() -> None:
    assert checks(step(50, 1_000, new=seen(7, 10, errors=11)))["error rate"].verdict is INCONCLUSIVE


def test_counters_that_began_anew_count_from_there() -> None:
    # The server started again: what it counted before is gone, and nothing is below zero.
    before, after = step(10, 5_000), step(10, 200)

    assert verdict(before) is PASS
    assert verdict(after) is INCONCLUSIVE


# --- Latency ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slower", "said"), [(1.0, PASS), (1.5, FAIL), (0.6, PASS), (1.25, INCONCLUSIVE)])
def test_latency_is_held_against_the_old_versions(slower: float, said: Verdict) -> None:
    check = checks(step(50, 3_000, new=seen(7, 3_000, slower=slower)))["latency ratio"]

    assert check.verdict is said
    assert check.observed == pytest.approx(slower, rel=0.02)


def test_a_few_requests_say_nothing_about_latency() -> None:
    check = checks(step(50, 60, new=seen(7, 60, slower=1.3)))["latency ratio"]

    assert check.verdict is INCONCLUSIVE


def test_a_step_at_which_both_are_slow_is_not_held_against_the_new_version() -> None:
    calm, busy = step(10, 1_000), step(50, 2_000, new=seen(7, 2_000, slower=3), old=seen(6, 2_000, slower=3))

    assert checks(calm, busy)["latency ratio"].verdict is PASS


@pytest.mark.parametrize("which", ["new", "old"])
def test_latency_that_nobody_tells_is_inconclusive(which: str) -> None:
    silent = seen(7 if which == "new" else 6, 2_000, latency=None)

    check = checks(step(50, 2_000, **{which: silent}))["latency ratio"]

    assert check.verdict is INCONCLUSIVE
    assert which in check.detail


def test_a_histogram_that_cannot_be_read_is_inconclusive() -> None:
    torn = Histogram(bounds_ms=(5.0, 1.0), counts=(1, 2, 3))

    assert checks(step(50, 2_000, new=seen(7, 2_000, latency=torn)))["latency ratio"].verdict is INCONCLUSIVE


def test_requests_beyond_the_histogram_are_slow() -> None:
    endless = Histogram(bounds_ms=BOUNDS, counts=(*(0 for _ in BOUNDS), 2_000))

    found = checks(step(50, 2_000, new=seen(7, 2_000, latency=endless)))["latency ratio"]

    assert found.verdict is FAIL
    assert found.observed is None


def test_an_old_version_beyond_the_histogram_cannot_be_compared_with() -> None:
    endless = Histogram(bounds_ms=BOUNDS, counts=(*(0 for _ in BOUNDS), 2_000))

    assert checks(step(50, 2_000, old=seen(6, 2_000, latency=endless)))["latency ratio"].verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("limit", "new", "old", "said"),
    [
        (40, 1.0, 1.0, PASS),  # the 95th percentile is 22.8 ms
        (30, 2.0, 1.0, FAIL),
        (20, 1.0, 1.0, INCONCLUSIVE),  # too slow, and so is the old one
        (23, 1.0, 1.0, INCONCLUSIVE),
    ],
)
def test_latency_is_held_against_a_limit(limit: float, new: float, old: float, said: Verdict) -> None:
    now = step(50, 3_000, new=seen(7, 3_000, slower=new), old=seen(6, 3_000, slower=old))

    assert checks(now, policy=AnalysisPolicy(latency_p95_ms=limit))["latency"].verdict is said


def test_where_all_traffic_goes_to_it_latency_is_held_against_its_limit_alone() -> None:
    found = checks(
        step(50, 2_000),
        step(100, 3_000, new=seen(7, 3_000, slower=2), old=None),
        policy=AnalysisPolicy(latency_p95_ms=30),
    )

    assert "latency ratio" not in found
    assert found["latency"].verdict is FAIL


# --- Quality ---------------------------------------------------------------------------------------------------------


def test_a_version_two_points_worse_fails_once_enough_labels_are_in() -> None:
    check = checks(labelled(12_000, 0.12), policy=QUALITY)["quality"]

    assert check.verdict is FAIL
    assert check.observed == pytest.approx(0.02)
    assert check.low is not None
    assert check.low > 0


@pytest.mark.parametrize(("rows", "said"), [(12_000, PASS), (2_000, INCONCLUSIVE)])
def test_before_all_traffic_a_loss_has_to_be_ruled_out(rows: int, said: Verdict) -> None:
    assert checks(labelled(rows, 0.1), policy=QUALITY, final=True)["quality"].verdict is said


def test_an_earlier_step_waits_for_no_labels() -> None:
    without, few = step(10, 2_000), labelled(300, 0.1, percent=10)

    for now in (without, few):
        check = checks(now, policy=QUALITY)["quality"]
        assert check.verdict is PASS
        assert "has to be decided before all traffic goes there" in check.detail


def test_a_loss_that_is_shown_fails_an_early_step_too() -> None:
    assert checks(labelled(2_000, 0.2, percent=10), policy=QUALITY)["quality"].verdict is FAIL


def test_before_all_traffic_missing_labels_are_no_pass() -> None:
    assert checks(step(50, 2_000), policy=QUALITY, final=True)["quality"].verdict is INCONCLUSIVE


def test_a_loss_that_is_not_worth_a_rollback_is_none() -> None:
    tolerant = AnalysisPolicy(quality=QualityPolicy(margin=0.02, tolerance=0.015))

    assert checks(labelled(12_000, 0.12), policy=tolerant)["quality"].verdict is PASS
    assert checks(labelled(12_000, 0.12), policy=tolerant, final=True)["quality"].verdict is INCONCLUSIVE


def test_a_better_version_is_told_sooner_than_one_that_is_as_good() -> None:
    better, as_good = labelled(3_500, 0.07), labelled(3_500, 0.1)

    assert checks(better, policy=QUALITY, final=True)["quality"].verdict is PASS
    assert checks(as_good, policy=QUALITY, final=True)["quality"].verdict is INCONCLUSIVE


def test_steps_are_compared_within_themselves_and_pooled() -> None:
    # Monday is easy and gets 10%, Tuesday is hard and gets 50%: all in all the new version looks 8 points worse.
    easy = labelled(2_000, 0.05, percent=10, old_wrong=0.05)
    hard = labelled(10_000, 0.2, percent=50, old_wrong=0.2)

    check = checks(easy, hard, policy=QUALITY, final=True)["quality"]

    assert check.observed == pytest.approx(0.0, abs=1e-9)
    assert check.verdict is not FAIL


def test_quality_is_the_difference_of_means_weighed_by_what_each_step_knows() -> None:
    # Variances by hand: pooled wrong shares p of each step, p(1-p)(1/new + 1/old).
    first, second = labelled(1_000, 0.14, percent=10), labelled(1_000, 0.10, percent=50)

    observed = checks(first, second, policy=QUALITY)["quality"].observed

    weights = []
    for new, old, share_new in ((1_000, 9_000, 0.14), (1_000, 1_000, 0.10)):
        wrong = (share_new * new + 0.1 * old + 1) / (new + old + 1)
        variances = [max(share * (1 - share), wrong * (1 - wrong)) for share in (share_new, 0.1)]
        weights.append(1 / (variances[0] / new + variances[1] / old))
    assert observed == pytest.approx(0.04 * weights[0] / sum(weights))


def test_two_versions_without_a_wrong_answer_are_told_apart_by_nothing_but_enough_of_them() -> None:
    assert checks(labelled(150, 0.0, old_wrong=0.0), policy=QUALITY, final=True)["quality"].verdict is INCONCLUSIVE
    assert checks(labelled(2_000, 0.0, old_wrong=0.0), policy=QUALITY, final=True)["quality"].verdict is PASS


def test_answers_that_are_no_numbers_are_the_worst_answers() -> None:
    broken = losses(7, 1_500, 0.1).model_copy(update={"unusable": 500})

    check = checks(step(50, 2_000, new_losses=broken, old_losses=losses(6, 2_000)), policy=QUALITY, final=True)[
        "quality"
    ]

    assert check.verdict is FAIL
    assert check.observed == pytest.approx(650 / 2_000 - 0.1)


def test_where_a_loss_has_no_worst_value_answers_that_are_no_numbers_leave_it_open() -> None:
    policy = AnalysisPolicy(quality=QualityPolicy(metric="absolute_error", margin=1.0))
    broken = losses(7, 2_000, 0.1).model_copy(update={"unusable": 1})

    check = checks(step(50, 2_000, new_losses=broken, old_losses=losses(6, 2_000)), policy=policy)["quality"]

    assert "no numbers" in check.detail
    assert checks(step(50, 2_000, new_losses=broken, old_losses=losses(6, 2_000)), policy=policy, final=True)[
        "quality"
    ].verdict is INCONCLUSIVE  # fmt: skip


def test_sums_that_cannot_be_are_not_believed() -> None:
    torn = losses(7, 1_000).model_copy(update={"total": 900.0, "squares": 10.0})

    check = checks(step(50, 1_000, new_losses=torn, old_losses=losses(6, 1_000)), policy=QUALITY, final=True)["quality"]

    assert (check.verdict, check.low) == (INCONCLUSIVE, None)


def test_quality_needs_a_step_that_users_see() -> None:
    found = checks(step(0), policy=QUALITY, final=True)

    assert found["quality"].verdict is INCONCLUSIVE
    assert "begin with a step" in found["quality"].detail
    assert checks(step(100, 5_000, old=None), policy=QUALITY)["quality"].verdict is INCONCLUSIVE


def test_labels_that_come_after_all_traffic_went_there_can_still_roll_back() -> None:
    late = labelled(12_000, 0.12)

    assert checks(late, step(100, 5_000, old=None), policy=QUALITY)["quality"].verdict is FAIL


def test_an_old_version_that_ought_to_be_there_is_not_left_out() -> None:
    assert checks(step(10, 2_000, old=None))["latency ratio"].verdict is INCONCLUSIVE


# --- The shadow ------------------------------------------------------------------------------------------------------


def paired(**changes: Any) -> PairedScores:
    return PairedScores(**{"rows": 2_000, "distance": 0.03, **changes})


def test_a_shadow_is_judged_by_what_was_answered_again() -> None:
    found = checks(step(0, paired=paired()))

    assert list(found) == ["target", "answers", "error rate", "prediction shift"]
    assert verdict(step(0, paired=paired())) is PASS


@pytest.mark.parametrize(
    ("scores", "check", "said"),
    [
        (paired(rows=300), "answers", INCONCLUSIVE),
        (paired(failed=200), "error rate", FAIL),
        (paired(rows=0, distance=None), "prediction shift", PASS),
        (paired(rows=0, distance=None), "answers", INCONCLUSIVE),
        (None, "answers", INCONCLUSIVE),
    ],
)
def test_a_shadow_that_says_too_little_or_something_bad(scores: Any, check: str, said: Verdict) -> None:
    assert checks(step(0, paired=scores))[check].verdict is said


@pytest.mark.parametrize(
    ("distance", "said"), [(0.03, PASS), (0.09, INCONCLUSIVE), (0.2, FAIL), (None, INCONCLUSIVE), (0.12, INCONCLUSIVE)]
)
def test_predictions_may_shift_by_so_much(distance: float | None, said: Verdict) -> None:
    policy = AnalysisPolicy(max_prediction_shift=0.1)

    assert checks(step(0, paired=paired(distance=distance)), policy=policy)["prediction shift"].verdict is said


def test_without_a_limit_a_shift_is_told_and_decides_nothing() -> None:
    check = checks(step(0, paired=paired(distance=0.9)))["prediction shift"]

    assert (check.verdict, check.observed, check.limit) == (PASS, 0.9, None)
    assert "no limit was set" in check.detail


def test_why_a_shadow_says_nothing_is_told() -> None:
    why = "the log is empty; serve first"
    policy = AnalysisPolicy(max_prediction_shift=0.1)

    check = checks(step(0, paired=paired(detail=why)), policy=policy)["prediction shift"]

    assert (check.verdict, check.detail) == (INCONCLUSIVE, why)


def test_later_steps_go_by_what_the_shadow_found() -> None:
    policy = AnalysisPolicy(max_prediction_shift=0.1)

    found = checks(step(0, paired=paired()), step(10, 2_000), policy=policy)

    assert found["prediction shift"].verdict is PASS


def test_a_shift_that_is_limited_and_never_measured_is_no_pass() -> None:
    check = checks(step(10, 2_000), policy=AnalysisPolicy(max_prediction_shift=0.1))["prediction shift"]

    assert check.verdict is INCONCLUSIVE
    assert "begin with shadow" in check.detail


# --- Whatever comes --------------------------------------------------------------------------------------------------


counts = st.integers(0, 5_000)
observations = st.none() | st.builds(
    lambda requests, errors, slower: seen(1, requests, errors=errors, latency=times(requests, slower=slower)),
    counts,
    counts,
    st.sampled_from([0.001, 1.0, 1.5, 1e5]),
)
loss = st.none() | st.builds(lambda rows, wrong: losses(1, rows, wrong), counts, st.floats(0, 1))
evidence = st.builds(
    StepEvidence,
    percent=st.sampled_from([0, 10, 50, 100]),
    began_at=st.just(step().began_at),
    old=observations,
    new=observations,
    old_losses=loss,
    new_losses=loss,
    paired=st.none() | st.builds(PairedScores, rows=counts, distance=st.none() | st.floats(0, 1), failed=counts),
    fault=st.just(""),
)


@given(steps=st.lists(evidence, min_size=1, max_size=3), final=st.booleans())
def test_whatever_a_target_tells_every_check_has_a_verdict_with_finite_numbers(
    steps: list[StepEvidence], *, final: bool
) -> None:
    policy = AnalysisPolicy(quality=QualityPolicy(), latency_p95_ms=50, max_prediction_shift=0.1)

    for check in judge(policy, steps, final=final):
        numbers = [check.observed, check.low, check.high]
        assert all(number is None or math.isfinite(number) for number in numbers)
        assert check.detail


@given(evidence)
def test_no_step_passes_without_the_least_answers(now: StepEvidence) -> None:
    answered = now.paired.rows if now.percent == 0 and now.paired else now.new.requests if now.new else 0

    if now.percent and answered < 500:
        assert verdict(now) is not PASS


def test_a_target_that_tells_no_latencies_can_be_judged_without_them() -> None:
    step = StepEvidence(
        percent=10,
        began_at=datetime(2026, 3, 1, tzinfo=timezone.utc),
        old=Observation(version=1, requests=45_000, errors=10),
        new=Observation(version=2, requests=5_000, errors=1),
    )

    with_them = verdict_of(judge(AnalysisPolicy(), [step], final=True))
    without = verdict_of(judge(AnalysisPolicy(max_latency_ratio=None), [step], final=True))

    assert (with_them, without) == (Verdict.INCONCLUSIVE, Verdict.PASS)
