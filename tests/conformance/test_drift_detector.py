"""What every drift detector promises."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.monitoring.base import DriftDetector, DriftResult
from ml_lifecycle.backends.monitoring.evidently import EvidentlyDetector
from ml_lifecycle.core.contracts import ColumnDrift
from ml_lifecycle.core.errors import ColumnError, NoRowsError

DETECTORS: dict[str, Callable[[], DriftDetector]] = {"evidently": EvidentlyDetector}
COLUMNS = ("miles", "kind", "belts", "gone")
HOSTILE = ("</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><b onclick=alert(1)>&lt;")


@pytest.fixture(params=DETECTORS)
def detector(request: pytest.FixtureRequest) -> DriftDetector:
    return DETECTORS[request.param]()


def table() -> pd.DataFrame:
    rows: pd.DataFrame = pd.DataFrame(
        {
            "miles": [float(number) for number in range(40)],
            "kind": ["taxi", "taxi", "bus", None] * 10,
            "belts": [0, 1] * 20,
            "gone": [None] * 40,
        }
    )
    return rows


def compared(detector: DriftDetector, current: pd.DataFrame, *columns: str, threshold: float = 0.1) -> DriftResult:
    return detector.compare(table(), current, columns=columns or COLUMNS, threshold=threshold, title="February")


def by_column(result: DriftResult) -> dict[str, ColumnDrift]:
    return {column.column: column for column in result.columns}


def drifted(result: DriftResult) -> set[str]:
    return {column.column for column in result.columns if column.drifted}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its scripts and the text that people read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.handlers += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data.strip())
        else:
            self.text += data


# --- Distances -------------------------------------------------------------------------------------------------------


def test_an_unmoved_copy_has_not_drifted(detector: DriftDetector) -> None:
    result = compared(detector, table())

    assert drifted(result) == set()
    assert [by_column(result)[name].distance for name in ("miles", "kind", "belts")] == pytest.approx([0, 0, 0])


def test_the_order_of_the_rows_is_no_drift(detector: DriftDetector) -> None:
    assert drifted(compared(detector, table().iloc[::-1])) == set()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        pytest.param("miles", [float(number + 40) for number in range(40)], id="numbers that are all larger"),
        pytest.param("kind", ["bus"] * 40, id="a category that took over"),
        pytest.param("kind", ["tram", "tram", "bus", None] * 10, id="a category that was never seen"),
    ],
)
def test_only_the_column_that_moved_has_drifted(detector: DriftDetector, name: str, values: list[Any]) -> None:
    result = compared(detector, table().assign(**{name: values}))

    assert drifted(result) == {name}


def test_a_longer_way_is_a_larger_distance(detector: DriftDetector) -> None:
    near, far = (
        by_column(compared(detector, table().assign(miles=table()["miles"] + shift), "miles"))["miles"].distance
        for shift in (10, 30)
    )

    assert near is not None
    assert far is not None
    assert 0 < near < far


def test_the_threshold_decides_and_is_told_with_the_name_of_the_distance(detector: DriftDetector) -> None:
    moved = table().assign(miles=table()["miles"] + 20)
    distance = by_column(compared(detector, moved, "miles"))["miles"].distance
    assert distance is not None

    at, above = (
        by_column(compared(detector, moved, "miles", threshold=threshold))["miles"]
        for threshold in (distance, distance + 0.001)
    )

    assert (at.drifted, at.threshold) == (True, distance)
    assert (above.drifted, above.threshold) == (False, distance + 0.001)
    assert at.distance == above.distance == distance
    assert at.method == above.method != ""


@pytest.mark.parametrize("values", [[None] * 40, [np.nan] * 40, [pd.NaT] * 40])
def test_a_column_without_a_value_is_not_measured(detector: DriftDetector, values: list[Any]) -> None:
    rows = table().assign(gone=values)

    result = detector.compare(rows, rows, columns=["gone"], threshold=0.1, title="February")

    (column,) = result.columns
    assert (column.distance, column.drifted) == (None, False)
    assert "February" in Page(result.html).text


def test_every_column_that_was_asked_for_is_there_once_in_order(detector: DriftDetector) -> None:
    names = ("gone", "miles", "belts")

    result = compared(detector, table().drop(columns="kind")[["belts", "gone", "miles"]], *names)

    assert tuple(column.column for column in result.columns) == names


def test_comparing_twice_says_the_same_and_leaves_the_tables_as_they_were(detector: DriftDetector) -> None:
    reference, current = table(), table().assign(kind="bus")

    first, second = (
        detector.compare(reference, current, columns=COLUMNS, threshold=0.1, title="February").columns for _ in range(2)
    )

    assert first == second
    pd.testing.assert_frame_equal(reference, table())
    pd.testing.assert_frame_equal(current, table().assign(kind="bus"))


# --- What cannot be compared -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["reference", "current"])
def test_a_missing_column_is_told_with_its_side(detector: DriftDetector, side: str) -> None:
    sides = {"reference": table(), "current": table(), side: table().drop(columns="miles")}

    with pytest.raises(ColumnError, match=rf"{side}.*'miles'"):
        detector.compare(**sides, columns=COLUMNS, threshold=0.1, title="February")


@pytest.mark.parametrize("side", ["reference", "current"])
def test_an_empty_table_is_told_with_its_side(detector: DriftDetector, side: str) -> None:
    sides = {"reference": table(), "current": table(), side: table().head(0)}

    with pytest.raises(NoRowsError, match=side):
        detector.compare(**sides, columns=COLUMNS, threshold=0.1, title="February")


# --- The page --------------------------------------------------------------------------------------------------------


def test_the_page_names_its_title_and_every_column(detector: DriftDetector) -> None:
    page = Page(compared(detector, table()).html)

    assert [name for name in ("February", *COLUMNS) if name not in page.text] == []


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_titles_and_names_of_unmeasured_columns_are_shown_as_text(
    detector: DriftDetector, hostile: str
) -> None:
    rows = pd.DataFrame({hostile: [None, None]})

    page = Page(detector.compare(rows, rows, columns=[hostile], threshold=0.1, title=hostile).html)

    assert page.text.count(hostile) >= 2
    assert (page.handlers, page.scripts) == ([], [])


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("place", ["name", "value"])
def test_hostile_names_and_values_of_measured_columns_run_nothing(
    detector: DriftDetector, place: str, hostile: str
) -> None:
    def page(word: str) -> Page:
        name, value = (word, "a") if place == "name" else ("kind", word)
        rows = pd.DataFrame({name: [value, "b"] * 20})
        return Page(detector.compare(rows, rows, columns=[name], threshold=0.1, title="February").html)

    hurt, unhurt = page(hostile), page("harmless")

    assert hurt.handlers == unhurt.handlers
    assert len(hurt.scripts) == len(unhurt.scripts)
