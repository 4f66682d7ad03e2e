"""Which rows are held back, and what is proven about them."""

from __future__ import annotations

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.core.contracts import Columns, HoldoutSpec
from ml_lifecycle.core.errors import ColumnError, NoRowsError
from ml_lifecycle.stages.holdout import split
from tests.fakes.small_model import COLUMNS

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
