"""Evidently's page draws what matters, says what the verdict says, and runs nothing that the data wrote."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.monitoring.evidently import MOST_CATEGORIES, MOST_COLUMNS, evidently_page
from ml_lifecycle.core.contracts import ColumnDrift
from ml_lifecycle.core.errors import MissingLibraryError
from tests.fakes.looks import column
from tests.fakes.pages import HOSTILE, RIGHT_TO_LEFT

ROWS = 60
WORST = "".join(text for text in HOSTILE if len(text) < 1_000)


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its scripts and the text that people read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.handlers: list[str] = []
        self.scripts = 0
        self.text = ""
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.scripts += tag == "script"
        self.handlers += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in {"script", "style"}:
            self.text += data


def table(**columns: Any) -> pd.DataFrame:
    usual = {"miles": np.arange(ROWS, dtype="float64"), "kind": ["taxi", "bus", "taxi"] * (ROWS // 3)}
    made: pd.DataFrame = pd.DataFrame(usual | columns)
    return made


def kind(name: str = "kind", **changes: Any) -> ColumnDrift:
    return column(name, **{"kind": "category", "method": "total_variation", **changes})


def page_of(reference: pd.DataFrame, current: pd.DataFrame, *columns: ColumnDrift, title: str = "June") -> str:
    return evidently_page(reference, current, columns, title=title)


def said(html: str) -> list[tuple[str, str]]:
    """What Evidently says of each column: whether it drifted, and by which method."""
    return re.findall(r"Data drift ([a-z ]*)\. Drift detection method: ([^.]*)\.", html)


def test_each_columns_words_follow_the_verdict_by_one_named_method() -> None:
    far = table(miles=np.arange(ROWS) + 100.0)

    html = page_of(table(), far, column("miles", drifted=False), kind(drifted=True))

    assert said(html) == [
        ("not detected", "Wasserstein distance (normed)"),
        ("detected", "Jensen-Shannon distance"),
    ]
    assert "June" in Page(html).text


def test_only_the_columns_that_were_asked_for_are_drawn() -> None:
    html = page_of(table(), table(), column("miles"))

    assert len(said(html)) == 1
    assert "taxi" not in html


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([None] * ROWS, [None] * ROWS, id="all null"),
        pytest.param([np.nan] * ROWS, [1.0] * ROWS, id="NaN on one side"),
        pytest.param([np.inf] * ROWS, [-np.inf] * ROWS, id="only infinite"),
        pytest.param([7.0] * ROWS, [7.0] * ROWS, id="constant"),
        pytest.param(["a", "b"] * (ROWS // 2), ["c"] * ROWS, id="texts where numbers were said to be"),
    ],
)
def test_what_says_nothing_side_by_side_is_named_and_not_drawn(before: list[Any], after: list[Any]) -> None:
    html = page_of(table(odd=before), table(odd=after), column("odd"))

    assert said(html) == []
    assert "Not drawn: odd" in Page(html).text


@pytest.mark.parametrize("what", ["identifier", "time", ""])
def test_a_column_of_another_kind_or_that_is_absent_is_named_and_not_drawn(what: str) -> None:
    html = page_of(table(), table(), column("kind", kind=what), column("gone"))

    assert said(html) == []
    assert "Not drawn: kind, gone" in Page(html).text


@pytest.mark.parametrize("after", [[np.nan, np.inf, 1.0] * (ROWS // 3), [8.0] * ROWS, pd.array([1, None, 3] * 20)])
def test_missing_infinite_and_constant_numbers_are_drawn_beside_others(after: Any) -> None:
    html = page_of(table(), table(miles=after), column("miles"))

    assert len(said(html)) == 1


def test_a_category_that_is_missing_is_one_of_its_own() -> None:
    html = page_of(table(), table(kind=["taxi", None, "bus"] * (ROWS // 3)), kind())

    assert "(missing)" in html


def test_thousands_of_categories_are_drawn_as_the_most_frequent_and_others() -> None:
    many = table(kind=[f"v{number}" for number in range(ROWS)])
    more = pd.concat([many, pd.DataFrame({"kind": [f"w{number}" for number in range(3_000)] + ["often"] * 9})])

    html = page_of(more, more, kind())

    assert "(other)" in html
    assert "often" in html
    assert len(set(re.findall(r"[vw]\d+", "".join(re.findall(r'"[vw]\d+"', html))))) < MOST_CATEGORIES


def test_more_columns_than_people_look_at_are_named() -> None:
    names = [f"n{place:02d}" for place in range(MOST_COLUMNS + 25)]
    rows = table(**dict.fromkeys(names, [1.0] * ROWS))

    text = Page(page_of(rows, rows, *map(column, names))).text

    assert f"{names[MOST_COLUMNS - 1]} and 25 more" in text


def test_the_tables_stay_as_they_were() -> None:
    before, after = table(), table(kind=["bus"] * ROWS)

    page_of(before, after, column("miles"), kind())

    pd.testing.assert_frame_equal(before, table())
    pd.testing.assert_frame_equal(after, table(kind=["bus"] * ROWS))


def test_without_evidently_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evidently", None)

    with pytest.raises(MissingLibraryError, match=r"ml-lifecycle\[evidently\]"):
        page_of(table(), table(), column("miles"))


# --- Safe in an origin of its own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_titles_and_names_that_are_not_drawn_are_shown_as_text(hostile: str) -> None:
    html = page_of(table(), table(), column(hostile), title=hostile)

    page = Page(html)
    assert (page.handlers, page.scripts) == ([], 0)
    assert RIGHT_TO_LEFT not in html
    assert "x" * 1_000 not in html


@pytest.mark.parametrize("place", ["name", "value"])
def test_hostile_names_and_values_that_are_drawn_run_nothing(place: str) -> None:
    def page(words: tuple[str, ...]) -> tuple[Page, str]:
        if place == "value":
            rows = pd.DataFrame({"kind": [*words, "b"] * 3})
            html = page_of(rows, rows, kind())
        else:
            rows = pd.DataFrame({word: ["a", "b"] * 20 for word in words})
            html = page_of(rows, rows, *map(kind, words))
        return Page(html), html

    (hurt, html), (unhurt, _) = page((*HOSTILE[:18], WORST)), page(tuple(f"w{number}" for number in range(19)))

    assert hurt.handlers == unhurt.handlers
    assert hurt.scripts == unhurt.scripts
    assert "alert(1)</script>" not in html
    assert "<img src=" not in html.replace("<img src=data", "")
    assert RIGHT_TO_LEFT not in html


def test_names_that_look_alike_once_they_are_harmless_stay_apart() -> None:
    rows = pd.DataFrame({"<b>": ["a", "b"] * 20, "\u2039b\u203a": ["a", "c"] * 20})

    html = page_of(rows, rows, kind("<b>"), kind("\u2039b\u203a"))

    assert len(said(html)) == 2
