"""Late labels are joined by key, and each row counts once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_lifecycle.backends.monitoring.labels import Joined, join_once, lag_s, moments
from ml_lifecycle.core.errors import ColumnError


def joined(keys: Any, labels: dict[str, Any], **options: Any) -> Joined:
    """Predictions with these keys, whose scores are 0, 1, 2 ..., and their labels."""
    predictions = pd.DataFrame({"trip": keys, "score": [float(place) for place in range(len(keys))]})
    return join_once(predictions, pd.DataFrame(labels), key="trip", target="late", where="late.parquet", **options)


def pairs(found: Joined) -> dict[Any, Any]:
    """Each joined prediction's label, by its score."""
    return dict(zip(found.rows["score"].tolist(), found.rows["late"].tolist(), strict=True))


def test_labels_find_their_rows_whatever_order_they_come_in() -> None:
    found = joined(list("abc"), {"trip": list("ca"), "late": [True, False]})

    assert pairs(found) == {0.0: False, 2.0: True}
    assert (found.predictions, found.duplicates, found.strangers, len(found.contradicted)) == (3, 0, 0, 0)


def test_a_label_that_is_said_again_counts_once() -> None:
    found = joined(list("ab"), {"trip": list("aaab"), "late": [True, True, True, False]})

    assert pairs(found) == {0.0: True, 1.0: False}
    assert found.duplicates == 2


def test_a_row_that_labels_contradict_each_other_about_is_left_out() -> None:
    found = joined(list("ab"), {"trip": list("aaab"), "late": [True, False, True, False]})

    assert pairs(found) == {1.0: False}
    assert found.contradicted["trip"].tolist() == ["a"]
    assert found.duplicates == 0


def test_a_missing_label_contradicts_nothing() -> None:
    late = pd.array([None, True, None], dtype="boolean")

    found = joined(list("ab"), {"trip": list("aab"), "late": late})

    assert found.rows["late"].tolist() == [True, pd.NA]
    assert (found.duplicates, len(found.contradicted)) == (0, 0)


def test_labels_have_to_agree_on_what_drop_rules_look_at() -> None:
    labels = {"trip": list("aabb"), "late": [True, True, False, False], "cancelled": ["no", "yes", "no", "no"]}

    found = joined(list("ab"), labels, decides=["cancelled"])

    assert pairs(found) == {1.0: False}
    assert found.contradicted["trip"].tolist() == ["a"]


def test_labels_of_rows_that_were_not_predicted_are_passed_over_and_counted() -> None:
    found = joined(list("ab"), {"trip": ["a", "x", None], "late": [True, True, True]})

    assert pairs(found) == {0.0: True}
    assert found.passed_over == ("1 labels are of rows that were not predicted", "1 labels have no key")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([7, 8], [7, 8]),
        ([7, 8], [7.0, 8.0]),
        ([7, 8], pd.array([7, 8], dtype="Int64")),
        (np.array([7, 8], dtype="uint64"), np.array([7, 8], dtype="int32")),
        ([7, 8], np.array([7, 8], dtype=object)),
        (["a", "b"], pd.Categorical(["a", "b"])),
        (pd.to_datetime(["2013-01-01", "2013-01-02"], utc=True), pd.to_datetime(["2013-01-01", "2013-01-02"])),
        (
            pd.to_datetime(["2013-01-01T00:00Z", "2013-01-02T00:00Z"], utc=True),
            pd.to_datetime(["2013-01-01", "2013-01-02"]).tz_localize("UTC").tz_convert("Europe/Berlin"),
        ),
        ([Decimal("1.5"), Decimal(2)], [Decimal("1.50"), Decimal("2.0")]),
    ],
)
def test_a_key_is_the_same_whatever_type_holds_it(ours: Any, theirs: Any) -> None:
    found = joined(ours, {"trip": theirs, "late": [True, False]})

    assert pairs(found) == {0.0: True, 1.0: False}


def test_whole_keys_are_found_among_missing_ones() -> None:
    found = joined([7, 8], {"trip": [8.0, None], "late": [True, False]})

    assert pairs(found) == {1.0: True}
    assert found.keyless == 1


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([1, 2], ["1", "2"], "is text in the labels and number in the predictions"),
        (["1", "2"], [1.0, 2.0], "is number in the labels and text in the predictions"),
        ([1, 2], [True, False], "is boolean in the labels and number in the predictions"),
        ([1, 2], [1.5, 2.0], "is 1.5, which names no row for certain"),
        ([1, 2], [2.0**60, 2.0], "which names no row for certain"),
        ([1, 1], [1, 2], "missing or not unique in 1 predictions"),
        (["a", None], ["a", "b"], "missing or not unique in 1 predictions"),
        ([[1], [2]], [[1], [2]], "holds mixed values"),
    ],
)
def test_keys_that_cannot_be_compared_are_refused(ours: Any, theirs: Any, said: str) -> None:
    with pytest.raises(ColumnError, match=said):
        joined(ours, {"trip": theirs, "late": [True, False]})


def test_columns_that_clash_or_are_absent_are_told() -> None:
    with pytest.raises(ColumnError, match="did you mean 'late'"):
        join_once(
            pd.DataFrame({"trip": ["a"], "score": [1.0]}),
            pd.DataFrame({"trip": ["a"], "late": [True]}),
            key="trip",
            target="lately",
            where="late.parquet",
        )
    with pytest.raises(ColumnError, match="'score' is in the predictions and in the labels"):
        joined(["a"], {"trip": ["a"], "late": [True], "score": [1]}, also=["score"])


def test_labels_of_lists_are_refused() -> None:
    with pytest.raises(ColumnError, match="holds lists or records"):
        joined(["a"], {"trip": ["a", "a"], "late": [[1], [2]]})


def test_no_labels_and_labels_without_any_key_join_nothing() -> None:
    none = joined(list("ab"), {"trip": pd.Series([], dtype=object), "late": []})
    keyless = joined(list("ab"), {"trip": [None, None], "late": [True, True]})

    assert (len(none.rows), len(keyless.rows), keyless.keyless) == (0, 0, 2)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, "early", "late"])), max_size=40),
    st.sets(st.integers(0, 9)),
)
def test_a_row_has_a_label_exactly_if_all_known_labels_of_it_agree(said: list[tuple[int, Any]], rows: set[int]) -> None:
    labels = {"trip": pd.Series([key for key, _ in said], dtype="int64"), "late": [label for _, label in said]}

    found = joined(pd.Series(sorted(rows), dtype="int64"), labels)

    known = {key: {label for of, label in said if of == key and label} for key in rows}
    labelled = found.rows[found.rows["late"].notna()]
    assert dict(zip(labelled["trip"], labelled["late"], strict=True)) == {
        key: next(iter(labels)) for key, labels in known.items() if len(labels) == 1
    }
    assert set(found.contradicted["trip"]) == {key for key, labels in known.items() if len(labels) > 1}
    assert found.strangers == sum(key not in rows for key, _ in said)
    assert found.rows["trip"].is_unique


# --- When labels came ------------------------------------------------------------------------------------------------


def test_the_lag_is_the_median_over_rows_of_the_first_moment_that_a_label_was_known() -> None:
    labels = {
        "trip": list("aab"),
        "late": [True, True, False],
        "told": ["2013-01-03", "2013-01-02", "2013-01-05T12:00Z"],
    }
    found = joined(list("ab"), labels, labelled_at="told")
    rows = found.rows.assign(leaves=pd.to_datetime(["2013-01-01", "2013-01-01"]))

    # One day, and four and a half.
    assert lag_s(rows, time="leaves", labelled_at="told") == (2.75 * 86_400, 0)


def test_labels_that_are_older_than_their_rows_do_not_count_for_the_lag() -> None:
    rows = pd.DataFrame(
        {
            "leaves": pd.to_datetime(["2013-03-31T01:30Z", "2013-03-31T01:30Z"], utc=True),
            "told": pd.to_datetime(["2013-03-31T01:00Z", "2013-03-31T01:31Z"], utc=True),
        }
    )

    assert lag_s(rows, time="leaves", labelled_at="told") == (60.0, 1)
    assert lag_s(rows, time=None, labelled_at="told") == (None, 0)
    assert lag_s(rows[:0], time="leaves", labelled_at="told") == (None, 0)


def test_the_hour_that_a_clock_repeats_is_told_apart_by_its_zone() -> None:
    # New York, 3 November 2013: 01:30 comes twice.
    texts = pd.Series(["2013-11-03T01:30:00-04:00", "2013-11-03T01:30:00-05:00", "2013-11-03T01:30:00", "soon", None])

    found = moments(texts)

    assert found.dt.strftime("%d %H:%M").tolist()[:3] == ["03 05:30", "03 06:30", "03 01:30"]
    assert found.isna().tolist() == [False, False, False, True, True]


def test_numbers_are_no_moments() -> None:
    with pytest.raises(ColumnError, match="holds numbers, not moments"):
        moments(pd.Series([1_356_998_400], name="told"))
