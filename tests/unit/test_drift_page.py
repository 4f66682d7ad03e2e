"""What people read about one look at drift: the verdict in words, shapes from counts, safe to open, and light."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml_lifecycle.backends.reports.drift import budget, chance, render_drift
from ml_lifecycle.backends.reports.histograms import BARS, TOP, histogram
from ml_lifecycle.core.contracts import ColumnDrift, DriftPolicy, Rate, Verdict
from tests.fakes.looks import categories, column, numbers, profile, report
from tests.fakes.pages import HOSTILE, Page, runs_nothing

LIGHT = 400_000
"""Characters of a page that opens at once, wherever somebody reads it."""


def page_of(*columns: ColumnDrift, **changes: Any) -> Page:
    return Page(render_drift(report(*columns, **changes), columns))


# --- The verdict in words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "changes", "said"),
    [
        ((column(), column("wind", drifted=False)), {}, "Drift: 1 of 2 columns moved."),
        ((column("wind", drifted=False),), {}, "No drift: none of 1 column moved."),
        (
            (column(drifted=False, p_value=None, adjusted=None), column("wind", drifted=False)),
            {"verdict": Verdict.INCONCLUSIVE},
            "Inconclusive: 1 of 2 columns cannot be judged.",
        ),
        ((), {"verdict": Verdict.INCONCLUSIVE}, "Inconclusive: nothing was compared."),
    ],
)
def test_the_page_begins_with_the_verdict_in_words(
    columns: tuple[ColumnDrift, ...], changes: dict[str, Any], said: str
) -> None:
    assert said in page_of(*columns, **changes).text


def test_a_look_without_drift_says_how_often_an_alarm_is_false() -> None:
    text = page_of(column(drifted=False)).text

    assert "A false alarm is expected once a quarter at most." in text


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (Rate(), "once a quarter"),
        (Rate(count=2, per="year"), "twice a year"),
        (Rate(count=0.5, per="month"), "0.5 times a month"),
    ],
)
def test_a_budget_is_told_as_people_say_it(rate: Rate, said: str) -> None:
    assert budget(rate) == said


@pytest.mark.parametrize(
    ("p_value", "said"),
    [
        (None, "–"),  # noqa: RUF001  # as reports show it
        (1.0, "100%"),
        (0.0111, "1.1%"),
        (0.001, "0.1%"),
        (2e-6, "1 in 500,000"),
        (3e-5, "1 in 34,000"),
        (5e-8, "1 in 20 million"),
        (0.0, "below 1 in a billion"),
    ],
)
def test_a_chance_is_told_as_people_say_it(p_value: float | None, said: str) -> None:
    assert chance(p_value) == said


def test_predictions_that_moved_are_told_at_the_top_and_first() -> None:
    page = page_of(column(importance=0.9), column("score", role="prediction", distance=0.05))

    assert "What the model answers has moved, too" in page.text
    assert page.html.index("<strong><bdi>score") < page.html.index("<strong><bdi>temp")


def test_predictions_that_stayed_are_told_beside_columns_that_moved() -> None:
    text = page_of(column(), column("score", role="prediction", drifted=False)).text

    assert "What the model answers has not moved." in text


def test_nobody_says_that_predictions_stayed_which_cannot_be_judged() -> None:
    unknown = column("score", role="prediction", drifted=False, p_value=None, adjusted=None)

    assert "What the model answers has not moved" not in page_of(column(), unknown).text


# --- The columns -----------------------------------------------------------------------------------------------------


def test_what_moved_and_matters_to_the_model_stands_first() -> None:
    page = page_of(
        column("far", distance=0.9, importance=0.01),
        column("still", drifted=False),
        column("used", distance=0.2, importance=0.5),
    )

    assert page.html.index("<bdi>used") < page.html.index("<bdi>far") < page.html.index("<bdi>still")


def test_columns_that_did_not_move_are_folded_away_where_others_did() -> None:
    page = page_of(column(), column("wind", drifted=False))

    assert page.html.index("<details>") < page.html.index("<bdi>wind")
    assert page.html.index("<bdi>temp") < page.html.index("<details>")


def test_columns_are_shown_at_once_where_none_of_a_few_moved() -> None:
    assert "<details open>" in page_of(column(drifted=False)).html


def test_a_column_that_nobody_can_judge_is_not_told_as_unmoved() -> None:
    unknown = column("visib", drifted=False, distance=None, p_value=None, adjusted=None, detail="no value in June")

    page = page_of(unknown, verdict=Verdict.INCONCLUSIVE)

    assert "What nobody can say" in page.text
    assert "visib number no value in June not measured" in page.text
    assert "<details" not in page.html


def test_a_column_tells_how_far_how_certain_how_important_and_what_is_missing() -> None:
    moved = column(
        distance=0.123, importance=0.31, psi=0.25, wasserstein=1.5, missing_before=0.001, missing=0.034, unseen=0.02
    )

    text = page_of(moved).text

    for told in ("12%", "KS, PSI 0.25, Wasserstein 1.5", "1 in 50 million", "31%", "0.1% → 3.4%", "2% in unseen"):
        assert told in text


def test_a_column_over_several_windows_is_one_line_that_tells_each() -> None:
    page = page_of(
        column(drifted=False, distance=0.02, adjusted=0.3), column(window=7, distance=0.05, adjusted=1e-3), drifted=1
    )

    assert page.html.count("<bdi>temp") == 1
    assert "newest partition: 2%, 30%" in page.text
    assert "last 7 partitions: 5%, 0.1%" in page.text


def test_the_policy_and_warnings_are_on_the_page() -> None:
    policy = DriftPolicy(
        block="day", windows=(1, 7), reference="same_weekday", false_alarms=Rate(count=2), min_effect=0.05
    )

    text = page_of(column(), policy=policy, warnings=("the reference has 9 blocks",), weighted_drift=0.21).text

    for told in (
        "twice a quarter at most",
        "5% of the rows",
        "day",
        "1, 7",
        "the same weekdays before",
        "the reference has 9 blocks",
        "21.0% of its input moved",
    ):
        assert told in text


# --- Shapes ----------------------------------------------------------------------------------------------------------


def heights(drawing: str, kind: str) -> list[float]:
    """Heights of the bars of one table, as shares of the highest bar."""
    found = re.search(rf'<path class="{kind}" d="([^"]*)"', drawing)
    assert found is not None
    return [round(1 - float(top) / 56, 2) for top in re.findall(r"V([0-9.]+)H", found[1])]


def test_few_values_with_room_between_them_are_bars_of_their_own() -> None:
    counts = [0] * 100
    before, after = list(counts), list(counts)
    before[10], before[50] = 300, 100
    after[10], after[50] = 10, 30

    drawn = str(histogram(numbers("x", before), numbers("x", after)))

    # Shares 3/4 and 1/4 before, 1/4 and 3/4 now.
    assert heights(drawn, "was") == [1.0, 0.33]
    assert heights(drawn, "is") == [0.33, 1.0]


def test_many_values_are_thirty_bars_of_equal_width() -> None:
    drawn = str(histogram(numbers("x", [10] * 90), numbers("x", [5] * 90)))

    assert heights(drawn, "was") == [1.0] * BARS == heights(drawn, "is")


def test_rows_far_out_do_not_press_the_others_into_one_bar() -> None:
    counts = [10] * 90 + [0] * 900 + [1]

    drawn = str(histogram(numbers("x", counts), numbers("x", counts)))

    assert heights(drawn, "was") == pytest.approx([1.0] * BARS, abs=0.01)
    assert '<text class="r" x="240" y="68">90</text>' in drawn


def test_bins_that_reach_beyond_all_numbers_end_where_the_values_end() -> None:
    wide: dict[str, Any] = {"curved": True, "steps": 1.0, "first": -900, "last": 900, "cells": (1800,)}
    column_ = dataclasses.replace(numbers("x", [50, *([0] * 1799), 50], **wide), low=-3.0, high=7.0)

    drawn = str(histogram(column_, column_))

    assert "nan" not in drawn
    assert "inf" not in drawn
    assert ">-3</text>" in drawn
    assert ">7</text>" in drawn


def test_the_largest_categories_and_those_that_changed_most_are_drawn_and_the_rest_is_one_line() -> None:
    counted = {f"c{place:02d}": 100 - place for place in range(20)}
    moved = {**counted, "c15": 0, "c17": 200}

    drawn = str(histogram(categories("kind", counted), categories("kind", moved, names=list(counted))))

    named = re.findall(r">(c\d\d)</text>", drawn)
    assert named[0] == "c17"
    assert {"c00", "c01", "c02", "c15", "c17"} <= set(named)
    assert len(named) == TOP
    assert "all others</text>" in drawn


def test_all_of_a_few_categories_are_drawn() -> None:
    drawn = str(histogram(categories("kind", {"a": 3, "b": 1}), categories("kind", {"a": 1, "b": 1})))

    assert "all others" not in drawn
    assert "a: 75.0% before, 50.0% now; b: 25.0% before, 50.0% now" in drawn


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (numbers("x", [0, 0]), numbers("x", [1, 1])),
        (numbers("x", [1, 1]), numbers("x", [0, 0])),
        (numbers("x", [1, 1]), numbers("x", [1, 1, 1])),
    ],
)
def test_what_cannot_stand_side_by_side_is_not_drawn(before: Any, after: Any) -> None:
    assert str(histogram(before, after)) == ""


@given(
    counted=st.lists(
        st.tuples(st.integers(0, 3) | st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=300
    ),
    curved=st.booleans(),
    steps=st.sampled_from([0.01, 1.0, 500.0]),
)
@example(counted=[(7, 7)], curved=False, steps=1.0)
@example(counted=[(1, 0)] + 60 * [(0, 0)] + [(0, 1)], curved=True, steps=1.0)
def test_every_shape_stays_on_its_drawing(counted: list[tuple[int, int]], *, curved: bool, steps: float) -> None:
    sides = [numbers("x", [pair[side] for pair in counted], curved=curved, steps=steps) for side in (0, 1)]

    drawn = str(histogram(*sides))

    assert "nan" not in drawn
    assert "inf" not in drawn
    tops = [float(top) for top in re.findall(r"V([0-9.e+-]+)", drawn)]
    rights = [float(right) for right in re.findall(r"H([0-9.e+-]+)", drawn)]
    assert all(0 <= top <= 56 for top in tops)
    assert all(-1 <= right <= 241 for right in rights)


def test_the_page_draws_a_columns_shapes_from_its_counts() -> None:
    before, after = profile(numbers("temp", [1] * 90)), profile(numbers("temp", list(range(90))))

    html = render_drift(report(column()), [column()], reference=before, current=after)

    assert html.count('<svg class="shape"') == 1


# --- Safe to open, and light -----------------------------------------------------------------------------------------


def hurt(value: str) -> str:
    """A page all of whose texts are this one."""
    counted = {value: 5, f"{value}b": 2, "c": 1}
    names = (value, f"{value} too")
    sides = [profile(*(categories(name, counted, other=other) for name in names)) for other in (0, 3)]
    columns = [
        column(names[0], method=value, kind="category", detail=value, unseen=0.3),
        column(names[1], role="prediction", kind=value, detail=value),
        column(f"{value} three", drifted=False, distance=None, p_value=None, adjusted=None, detail=value),
    ]
    found = report(
        *columns,
        model=value,
        partition=value,
        warnings=(value,),
        reference_partitions=(value, value),
        policy=DriftPolicy(block=value),
    )
    links = {value: "https://mlflow.example/1", "a run": value}
    return render_drift(found, columns, reference=sides[0], current=sides[1], links=links)


@pytest.mark.parametrize("value", HOSTILE)
def test_no_name_or_value_leaves_its_place(value: str) -> None:
    page = runs_nothing(hurt(value))

    unhurt = Page(hurt("; harmless"))
    assert set(page.tags) <= set(unhurt.tags)
    assert page.tags == unhurt.tags or not value.strip()
    assert {name for name, _ in page.attributes} <= {name for name, _ in unhurt.attributes}
    assert page.addresses == ["https://mlflow.example/1"]


@pytest.mark.parametrize(
    ("address", "linked"),
    [
        ("evidently.html", True),
        ("https://mlflow.example/runs/1", True),
        ("javascript:alert(1)", False),
        ("//evil.example/x.html", False),
        ("../../other/index.html", False),
        ("data:text/html", False),
    ],
)
def test_only_web_pages_and_files_beside_the_page_are_linked(address: str, *, linked: bool) -> None:
    page = Page(render_drift(report(column()), [column()], links={"more": address}))

    assert page.addresses == ([address] if linked else [])


def test_numbers_that_are_nowhere_known_are_dashes() -> None:
    nothing = ColumnDrift(column="x", method="ks", distance=None, threshold=0.0, drifted=False)

    page = runs_nothing(render_drift(report(nothing, alpha=None, verdict=Verdict.INCONCLUSIVE), [nothing]))

    assert "x not measured –" in page.text  # noqa: RUF001  # as reports show it
    assert "nan" not in page.text.lower()


def test_a_page_of_three_hundred_columns_opens_at_once() -> None:
    rng = np.random.default_rng(1)
    names = [f"feature_{place:03d}" for place in range(300)]
    columns = [column(name, drifted=place % 2 == 0, psi=0.123, importance=0.01) for place, name in enumerate(names)]
    windows = [one.model_copy(update={"window": 7}) for one in columns]
    sides = [profile(*(numbers(name, rng.poisson(50, 400).tolist()) for name in names)) for _ in range(2)]

    html = render_drift(report(*columns[:20]), [*columns, *windows], reference=sides[0], current=sides[1])

    assert html.count("<bdi>feature_") == 300
    assert len(html) < LIGHT
