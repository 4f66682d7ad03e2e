"""Which rows are held back, and what is proven about them."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.evaluation.rows import ScoredRows
from ml_lifecycle.core.contracts import Columns, DatasetRef, Evaluation, HoldoutFacts, HoldoutSpec, TrainedModel
from ml_lifecycle.core.errors import ColumnError, NoRowsError
from ml_lifecycle.stages.evaluation import EvaluationJob, evaluate
from ml_lifecycle.stages.holdout import fingerprint_of, prove, split, times_of
from ml_lifecycle.stages.runner import Tools
from tests.fakes.small_model import COLUMNS, dataset, rows, trained, with_project


@pytest.fixture
def tools(tools: Tools, tmp_path: Path) -> Tools:
    return with_project(tools, tmp_path / "project")


def evaluated(tools: Tools, table: pd.DataFrame, holdout: HoldoutSpec) -> Evaluation:
    model = trained(tools, dataset(tools, table), holdout=holdout)
    return evaluate(EvaluationJob(model=model, metrics=("brier",), rehearse=False), tools)


# --- The split -------------------------------------------------------------------------------------------------------


def times(*hours: int) -> pd.DataFrame:
    start = pd.Timestamp("2013-01-01")
    at = [start + pd.Timedelta(hours=hour) for hour in hours]
    table: pd.DataFrame = pd.DataFrame({"id": range(len(hours)), "at": at})
    return table


def test_the_last_fifth_by_time_is_held_back_in_whatever_order_the_rows_are() -> None:
    held = split(times(9, 8, 7, 6, 5, 4, 3, 2, 1, 0), COLUMNS, HoldoutSpec(share=0.2))

    assert held.tolist() == [True, True] + [False] * 8


def test_rows_of_the_same_time_stay_together() -> None:
    held = split(times(0, 1, 2, 3, 4, 5, 6, 7, 7, 7), COLUMNS, HoldoutSpec(share=0.2))

    assert held.tolist() == [False] * 7 + [True] * 3


def test_rows_that_all_have_one_time_cannot_be_split_by_it() -> None:
    with pytest.raises(NoRowsError, match="no row is left for training of 4"):
        split(times(5, 5, 5, 5), COLUMNS, HoldoutSpec())


def test_a_missing_time_is_refused() -> None:
    table = times(0, 1, 2, 3)
    table.loc[1, "at"] = pd.NaT

    with pytest.raises(ColumnError, match="'at' is missing in 1 rows"):
        split(table, COLUMNS, HoldoutSpec())


def test_a_split_by_time_needs_a_time() -> None:
    with pytest.raises(ColumnError, match=r"by: random"):
        split(times(1, 2), Columns(key="id"), HoldoutSpec())


def test_a_random_row_is_held_back_by_its_key_alone() -> None:
    table = pd.DataFrame({"id": [f"k{number}" for number in range(5000)]})
    spec = HoldoutSpec(by="random", share=0.2)

    held = split(table, COLUMNS, spec)
    turned = split(table.iloc[::-1], COLUMNS, spec)

    np.testing.assert_array_equal(held, turned[::-1])
    assert 0.18 < held.mean() < 0.22


GROUPS = HoldoutSpec(by="group", column="plane", share=0.25)
GIVEN = HoldoutSpec(by="given", column="part")


def test_groups_are_never_split() -> None:
    table = pd.DataFrame({"id": range(4000), "plane": np.arange(4000) % 400})

    held = split(table, COLUMNS, GROUPS)
    turned = split(table.iloc[::-1], COLUMNS, GROUPS)

    assert not set(table["plane"][held]) & set(table["plane"][~held])
    assert 0.15 < held.mean() < 0.35
    np.testing.assert_array_equal(held, turned[::-1])


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([True, False, True], [True, False, True]),
        ([1, 0, 2], [True, False, False]),
        ([1.0, 0.0, 0.0], [True, False, False]),
        (["holdout", "train", "Holdout"], [True, False, True]),
        (["true", "false", "1"], [True, False, True]),
    ],
)
def test_given_marks_say_which_rows_are_held_back(marks: list[object], expected: list[bool]) -> None:
    assert split(pd.DataFrame({"id": [1, 2, 3], "part": marks}), COLUMNS, GIVEN).tolist() == expected


def test_marks_that_hold_nothing_back_are_refused() -> None:
    table = pd.DataFrame({"id": [1, 2], "part": ["train", "test"]})

    with pytest.raises(NoRowsError, match=r"by: given, column: part.*mark some rows and not all"):
        split(table, COLUMNS, GIVEN)


@pytest.mark.parametrize("spec", [GROUPS, GIVEN, HoldoutSpec(by="group")])
def test_a_split_by_a_column_that_is_not_there_names_those_that_are(spec: HoldoutSpec) -> None:
    with pytest.raises(ColumnError, match=r"to split by.*name one of id, at"):
        split(times(1, 2), COLUMNS, spec)


def test_a_row_without_a_group_is_refused() -> None:
    table = pd.DataFrame({"id": [1, 2], "plane": ["N1", None]})

    with pytest.raises(ColumnError, match="'plane' is missing in 1 rows"):
        split(table, COLUMNS, GROUPS)


# --- The proof -------------------------------------------------------------------------------------------------------


def test_an_evaluation_says_what_was_proven_about_its_rows(tools: Tools) -> None:
    found = evaluated(tools, rows(), HoldoutSpec()).holdout

    assert found is not None
    assert (found.rows, found.training_rows) == (80, 320)
    # Two rows an hour from the first of January on: the 320th stands in hour 159, the 321st in hour 160.
    assert found.training_until == datetime(2013, 1, 7, 15, tzinfo=timezone.utc)
    assert found.first == datetime(2013, 1, 7, 16, tzinfo=timezone.utc)
    assert found.last == datetime(2013, 1, 9, 7, tzinfo=timezone.utc)
    assert found.warnings == ()


def test_a_key_on_both_sides_is_refused(tools: Tools) -> None:
    table = rows()
    table.loc[[390, 391], "id"] = ["f00003", "f00004"]

    with pytest.raises(ColumnError, match=r"2 keys stand in the training rows and in the holdout, such as 'f00003'"):
        evaluated(tools, table, HoldoutSpec())


def test_a_key_that_repeats_on_one_side_is_no_leak(tools: Tools) -> None:
    table = rows()
    table.loc[391, "id"] = "f00390"

    assert evaluated(tools, table, HoldoutSpec()).holdout is not None


@pytest.mark.parametrize("spec", [HoldoutSpec(by="random"), HoldoutSpec(by="group", column="day", share=0.5)])
def test_rows_that_are_drawn_are_proven_too(spec: HoldoutSpec, tools: Tools) -> None:
    found = evaluated(tools, rows(), spec).holdout

    assert found is not None
    assert found.spec == spec
    assert found.rows + found.training_rows == 400


HELD = np.array([False, False, True, True])


def proven(table: pd.DataFrame, spec: HoldoutSpec) -> HoldoutFacts:
    """What is proven where the last two of four rows are held back."""
    columns = Columns(key="id", time="at", target="y")
    found = DatasetRef(uri="d", rows=4, fingerprint="0" * 64, columns=columns, partitions=("2013",))
    model = TrainedModel(
        name="flights",
        uri="runs:/1/model",
        digest="1" * 64,
        training_key="2" * 64,
        run_id="1",
        dataset=found,
        holdout=spec,
        training_rows=2,
    )
    scored = ScoredRows(task="regression", truth=np.zeros(2), scores={}, keys=table["id"][HELD].to_numpy())
    return prove(table, table[["id"]], HELD, model, scored)


def test_a_training_row_of_a_held_moment_is_refused() -> None:
    table = times(0, 1, 2, 3).assign(y=0.0)
    table.loc[1, "at"] = table.loc[2, "at"]

    with pytest.raises(ColumnError, match=r"training reads rows up to 2013-01-01 02:00:00, and the holdout begins"):
        proven(table, HoldoutSpec())


def test_a_group_on_both_sides_is_refused() -> None:
    table = times(0, 1, 2, 3).assign(y=0.0, plane=["N1", "N2", "N2", "N3"])

    with pytest.raises(ColumnError, match=r"1 groups stand in the training rows and in the holdout, such as 'N2'"):
        proven(table, GROUPS)


def test_given_rows_that_are_older_than_the_training_are_told() -> None:
    table = times(3, 2, 1, 0).assign(y=0.0, part=[0, 0, 1, 1])

    found = proven(table, GIVEN)

    span = "up to 2013-01-01 03:00, and the holdout begins 2013-01-01 00:00"
    assert found.warnings == (f"training reads rows {span}: it may know what was to come",)


def test_rows_without_moments_have_no_span() -> None:
    assert times_of(pd.DataFrame({"at": [1, 2]}), "at") is None
    assert times_of(pd.DataFrame({"at": ["soon", "later"]}), "at") is None
    assert times_of(pd.DataFrame({"id": [1]}), None) is None


# --- The fingerprint -------------------------------------------------------------------------------------------------


def labelled(keys: list[object], truth: list[float], **more: Any) -> ScoredRows:
    given = {"task": "binary", "classes": ("no", "yes"), "scores": {}, **more}
    return ScoredRows(keys=np.array(keys, dtype=object), truth=np.array(truth), **given)


def test_the_same_rows_in_another_order_are_the_same_holdout() -> None:
    assert fingerprint_of(labelled(["a", "b"], [0, 1])) == fingerprint_of(labelled(["b", "a"], [1, 0]))


def test_who_weighs_the_same_rows_otherwise_judges_by_the_same_holdout() -> None:
    weighed = labelled(["a", "b"], [0, 1], weight=np.array([1.0, 2.0]))

    assert fingerprint_of(weighed) == fingerprint_of(labelled(["a", "b"], [0, 1]))


def test_what_the_contenders_say_is_no_part_of_the_holdout() -> None:
    said = labelled(["a", "b"], [0, 1], scores={"candidate": np.array([0.1, 0.9])})

    assert fingerprint_of(said) == fingerprint_of(labelled(["a", "b"], [0, 1]))


@pytest.mark.parametrize(
    "other",
    [
        labelled(["a", "b"], [1, 0]),
        labelled(["a", "c"], [0, 1]),
        labelled(["a"], [0]),
        labelled(["a", "b"], [0, 1], classes=("no", "perhaps")),
        labelled(["a", "b"], [0.0, float("nan")]),
        labelled(["a 'no'\nb", "b"], [0, 1]),
    ],
)
def test_another_key_or_truth_is_another_holdout(other: ScoredRows) -> None:
    assert fingerprint_of(other) != fingerprint_of(labelled(["a", "b"], [0, 1]))
