"""What people read about a rollout: how it stands, in words; each check with its bounds; safe to open."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from ml_lifecycle.backends.reports.rollout import rollout_page, step_table
from ml_lifecycle.core.contracts import (
    AnalysisPolicy,
    Move,
    PairedScores,
    QualityPolicy,
    StepCheck,
    StepEvidence,
    StepReport,
    TrafficShift,
    Verdict,
)
from ml_lifecycle.core.rollout import judge, verdict_of
from tests.fakes.pages import HOSTILE, Page, runs_nothing
from tests.fakes.rollouts import BEGAN, losses, seen, step

POLICY = AnalysisPolicy(quality=QualityPolicy(), latency_p95_ms=50, max_prediction_shift=0.1)
LIGHT = 100_000
"""Characters of a page that opens at once."""


def report(*steps: StepEvidence, final: bool = False, **changes: Any) -> StepReport:
    checks = judge(POLICY, steps, final=final)
    told: dict[str, Any] = {
        "model": "flights",
        "environment": "prod",
        "epoch": 4,
        "version": 7,
        "percent": steps[-1].percent,
        "verdict": verdict_of(checks),
        "checks": checks,
        "evidence": steps[-1],
        "policy": POLICY,
        "traffic": {"7": steps[-1].percent, "6": 100 - steps[-1].percent},
        "looks": 42,
    }
    return StepReport(**(told | changes))


def shifts(*percents: int, because: str = "step") -> list[dict[str, Any]]:
    return [
        {
            "at": BEGAN + timedelta(minutes=10 * place),
            "content": TrafficShift(
                model="flights", environment="prod", epoch=4, version=7, percent=percent, because=because
            ).to_xcom(),
        }
        for place, percent in enumerate(percents)
    ]


def labelled(percent: int, requests: int, **changes: Any) -> StepEvidence:
    others = requests * (100 - percent) // percent
    known = {"new_losses": losses(7, requests), "old_losses": losses(6, others)}
    return step(percent, requests, **(known | changes))


SHADOW = step(0, paired=PairedScores(rows=2_000, distance=0.03))
TENTH, HALF = labelled(10, 1_000), labelled(50, 1_000)
BAD = labelled(50, 2_000, new=seen(7, 2_000, errors=80, retried=60))


def back(reason: str = "version 7 failed") -> Move:
    return Move(
        model="flights",
        environment="prod",
        epoch=5,
        kind="rollback",
        version=6,
        digest="a" * 64,
        uri="models/6",
        moved_by="analysis",
        reason=reason,
        moved_at=BEGAN + timedelta(minutes=25),
    )


def page_of(reports: Sequence[StepReport], rows: Sequence[dict[str, Any]] = (), **more: Any) -> Page:
    return runs_nothing(rollout_page(reports, rows, **more))


# --- How it stands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reports", "asked", "ended", "said"),
    [
        ([], (), None, "No step has been looked at yet."),
        ([report(SHADOW)], (0,), None, "Passed at the shadow."),
        ([report(SHADOW, HALF, final=True)], (0, 50), None, "Undecided at 50% of the traffic: loss of quality."),
        (
            [report(SHADOW, BAD)],
            (0, 50),
            None,
            "Failed at 50% of the traffic: error rate. All traffic goes back.",
        ),
        (
            [report(SHADOW, BAD)],
            (0, 50),
            back(),
            "Rolled back from 50% of the traffic: version 6 has all traffic again.",
        ),
        ([report(SHADOW, TENTH)], (0, 10, 100), None, "Every step has passed: version 7 has all traffic."),
    ],
)
def test_the_page_begins_with_how_the_rollout_stands(
    reports: list[StepReport], asked: tuple[int, ...], ended: Move | None, said: str
) -> None:
    assert said in page_of(reports, shifts(*asked), back=ended).text


def test_the_page_tells_what_serves() -> None:
    text = page_of([report(SHADOW, TENTH)], shifts(0, 10)).text

    assert "What serves version 7 10%, version 6 90%" in text


def test_after_a_rollback_the_old_version_serves_and_the_page_says_why() -> None:
    text = page_of([report(SHADOW, BAD)], shifts(0, 50), back=back("too many errors")).text

    assert "What serves version 6 too many errors" in text


def test_of_several_looks_at_a_step_the_last_one_counts() -> None:
    text = page_of([report(SHADOW, BAD), report(SHADOW, HALF, looks=43)]).text

    assert "43 looks" in text
    assert "42 looks" not in text


def test_the_newest_step_stands_first() -> None:
    html = page_of([report(SHADOW), report(SHADOW, TENTH), report(SHADOW, TENTH, HALF)]).html

    assert html.index("<h2>50% of") < html.index("<h2>10% of") < html.index("<h2>Shadow")


# --- The split -------------------------------------------------------------------------------------------------------


def test_the_split_is_drawn_over_time_and_told_in_words() -> None:
    html = page_of([report(SHADOW, TENTH)], shifts(0, 10, 50)).html

    assert "2013-02-01 12:00:00: 0%; 2013-02-01 12:10:00: 10%; 2013-02-01 12:20:00: 50%" in html
    assert html.count("<circle") >= 3


def test_a_rollback_ends_the_split_in_red() -> None:
    html = page_of([report(SHADOW, BAD)], shifts(0, 50), back=back(), until=BEGAN + timedelta(hours=1)).html

    assert "2013-02-01 12:25:00: 0%" in html
    assert html.count('<circle class="f"') == 1


def test_shifts_that_come_in_any_order_are_drawn_in_that_of_time() -> None:
    rows = shifts(0, 10, 50)

    assert page_of([report(SHADOW)], rows[::-1]).html == page_of([report(SHADOW)], rows).html


def test_one_moment_is_drawn_too() -> None:
    assert page_of([report(SHADOW)], shifts(0)).html.count('<svg class="chart"') == 1


def test_without_a_shift_there_is_no_drawing_of_the_split() -> None:
    assert "Traffic" not in page_of([report(SHADOW)]).text.split()


# --- The checks ------------------------------------------------------------------------------------------------------


def test_each_check_tells_what_was_seen_its_bounds_and_its_limit() -> None:
    text = page_of([report(SHADOW, BAD)]).text

    assert "Error rate fail 4.00% 2." in text
    assert "at most 1.00% 80 of 2,000 requests failed; 60 of them answered by the old version" in text
    assert "1.00 times" in text
    assert "at most 50.0 ms" in text
    assert "less than 2.00%" in text


def test_checks_with_bounds_are_drawn_and_the_others_are_not() -> None:
    # Error rate, 95th percentile, its ratio, quality and predictions; the target and the answers have none.
    assert page_of([report(SHADOW, TENTH)]).html.count('<svg class="interval"') == 5


def test_bounds_that_lie_far_out_leave_the_limit_to_be_seen() -> None:
    wide = StepCheck(
        name="latency ratio", verdict=Verdict.INCONCLUSIVE, observed=1.1, low=0.5, high=90.0, limit=1.25, detail="few"
    )

    html = page_of([report(SHADOW, checks=(wide,))]).html

    place = float(html.split('class="limit" x1="')[1].split('"')[0])
    assert 20 < place < 120


@pytest.mark.parametrize(("low", "high"), [(None, 1.2), (0.8, None), (None, None)])
def test_a_bound_that_nobody_knows_is_told_as_such(low: float | None, high: float | None) -> None:
    check = StepCheck(
        name="latency ratio", verdict=Verdict.INCONCLUSIVE, observed=1.0, low=low, high=high, detail="few"
    )

    page = page_of([report(SHADOW, checks=(check,))])

    assert ("?" in page.text) == (low is not None or high is not None)


def test_losses_that_are_no_shares_are_told_in_their_own_unit() -> None:
    policy = AnalysisPolicy(quality=QualityPolicy(metric="absolute_error", margin=12.5))
    check = StepCheck(
        name="quality", verdict=Verdict.PASS, observed=3.25, low=1.0, high=5.5, limit=12.5, detail="minutes"
    )

    text = page_of([report(SHADOW, checks=(check,), policy=policy)]).text

    assert "3.25" in text
    assert "325" not in text


def test_the_counts_behind_each_step_are_on_the_page() -> None:
    text = page_of([report(SHADOW, BAD)]).text

    assert "new, version 7 2,000 80 60 22.8 ms 2,000 0.1000" in text
    assert "old, version 6 2,000 0 0 22.8 ms 2,000 0.1000" in text


def test_what_nobody_counted_is_a_dash() -> None:
    silent = step(10, 1_000, new=None, old=seen(6, 9_000, latency=None), old_losses=losses(6, 0))

    text = page_of([report(silent)]).text

    assert "old, version 6 9,000 0 0 – 0 –" in text  # noqa: RUF001  # as reports show it
    assert "new, version" not in text


def test_why_something_is_not_known_is_on_the_page() -> None:
    noted = step(10, 1_000, notes=("the labels of Monday are late",))

    assert "the labels of Monday are late" in page_of([report(noted)]).text


def test_the_policy_and_the_meaning_of_the_numbers_are_on_the_page() -> None:
    text = page_of([report(SHADOW, TENTH)]).text

    for told in ("5% at most", "1.25 times the old version's at most", "50 ms at most", "500 at least", "How to read"):
        assert told in text


# --- As text ---------------------------------------------------------------------------------------------------------


def test_a_step_as_text_has_a_line_per_check() -> None:
    lines = step_table(report(SHADOW, BAD)).splitlines()

    assert lines[0] == "flights version 7, 50% of the traffic: fail"
    assert len(lines) == 2 + 7
    assert lines[4].split()[:5] == ["Error", "rate", "fail", "4.00%", "2.46%"]
    assert not [line for line in lines if line != line.rstrip()]


def test_no_text_in_a_log_forges_a_line() -> None:
    hostile = step(10, 1_000, fault="died\n[2013-02-01] INFO all is well\x1b[31m")

    table = step_table(report(hostile))

    assert len(table.splitlines()) == len(step_table(report(step(10, 1_000))).splitlines())
    assert "\x1b" not in table


# --- Safe to open ----------------------------------------------------------------------------------------------------


def hurt(value: str) -> str:
    """A page all of whose texts are this one."""
    evidence = step(10, 1_000, fault=value or "x", notes=(value,))
    check = StepCheck(name="target", verdict=Verdict.FAIL, detail=value)
    told = report(evidence, checks=(check,), model=value, environment=value, traffic={value: 100})
    return rollout_page([told], shifts(0, 10, because=value), back=back(value))


@pytest.mark.parametrize("value", HOSTILE)
def test_no_name_or_value_leaves_its_place(value: str) -> None:
    page = runs_nothing(hurt(value))

    unhurt = Page(hurt("; harmless"))
    assert page.tags == unhurt.tags or not value.strip()
    assert {name for name, _ in page.attributes} <= {name for name, _ in unhurt.attributes}
    assert page.addresses == []


def test_a_rollout_of_twenty_steps_opens_at_once() -> None:
    percents = range(5, 101, 5)
    reports = [report(*[labelled(one, 1_000) for one in percents if one <= last]) for last in percents]

    html = page_of(reports, shifts(*percents)).html

    assert html.count("<h2>") == 20 + 3
    assert len(html) < 2 * LIGHT
