"""What every profiler counts, checked against counts by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253  # tests make tables
import pandas as pd  # noqa: TID253  # as above
import pyarrow as pa  # noqa: TID253  # as above
import pyarrow.parquet as pq  # noqa: TID253  # as above
import pytest
from sqlalchemy import Engine, create_engine

from ml_lifecycle.backends.monitoring.base import Profiler
from ml_lifecycle.backends.monitoring.duckdb import DuckDbProfiler
from ml_lifecycle.backends.monitoring.profiles import ColumnFrame, ColumnProfile, merge
from ml_lifecycle.backends.monitoring.sql import SqlProfiler
from ml_lifecycle.core.errors import ColumnError, DataError, NoRowsError
from private_postgresql import Server

if TYPE_CHECKING:
    from ml_lifecycle.backends.monitoring.base import Table

HOSTILE = "\"; drop table x; --\n'%(a)s:b"


class Store(ABC):
    """Where a table lies, and what counts it there."""

    profiler: Profiler

    @abstractmethod
    def put(self, table: pd.DataFrame, name: str = "given") -> Table: ...


class Memory(Store):
    def __init__(self) -> None:
        self.profiler = DuckDbProfiler()

    def put(self, table: pd.DataFrame, name: str = "given") -> Table:
        return table


class Files(Store):
    def __init__(self, folder: Path) -> None:
        self.folder, self.profiler = folder, DuckDbProfiler()

    def put(self, table: pd.DataFrame, name: str = "given") -> Table:
        file = self.folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), file, row_group_size=777)
        return file


class Database(Store):
    def __init__(self, engine: Engine) -> None:
        self.engine, self.profiler = engine, SqlProfiler(engine)

    def put(self, table: pd.DataFrame, name: str = "given") -> Table:
        table.to_sql(name, self.engine, index=False, if_exists="replace")
        return name


@pytest.fixture(params=["memory", "files", "sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield Memory()
    elif request.param == "files":
        yield Files(tmp_path)
    else:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / 'tables.db'}"
        else:
            server: Server = request.getfixturevalue("postgresql")
            url = server.new_database()
        engine = create_engine(url)
        yield Database(engine)
        engine.dispose()


def column(store: Store, values: Any, **options: Any) -> ColumnProfile:
    """One column, counted in its own frame."""
    return profiled(store, pd.DataFrame({"x": values}), **options)["x"]


def profiled(store: Store, table: pd.DataFrame, **options: Any) -> dict[str, ColumnProfile]:
    given = store.put(table)
    frame = store.profiler.frame(given, **options)
    return dict(store.profiler.profile(given, frame).columns)


def bins_by_hand(frame: ColumnFrame, values: np.ndarray) -> np.ndarray:
    t = (values[~np.isnan(values)] - frame.center) / frame.scale
    t = np.floor(frame.steps * (np.arcsinh(t) if frame.curved else t))
    places = np.clip(t, frame.first, frame.last).astype(int) - frame.first
    return np.bincount(places, minlength=frame.last - frame.first + 1)


def shapes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        "normal": rng.normal(100, 3, 4000),
        "lognormal": rng.lognormal(2, 2, 4000),
        "cauchy": rng.standard_cauchy(4000),
        "zero inflated": np.where(rng.random(4000) < 0.8, 0.0, rng.gamma(2, 3, 4000)),
        "two far hills": np.concatenate([rng.normal(-1e6, 1, 2000), rng.normal(1e6, 1, 2000)]),
        "two hills": np.concatenate([rng.normal(0, 1, 2000), rng.normal(200, 1, 2000)]),
        "large integers": rng.integers(-(10**9), 10**9, 4000).astype(float),
        "small integers": rng.integers(3, 9, 4000).astype(float),
        "ties": np.round(rng.normal(0, 1, 4000), 1),
        "tiny": rng.normal(0, 1e-300, 4000),
        "huge": rng.normal(0, 1e300, 4000),
        "with holes": np.where(rng.random(4000) < 0.3, np.nan, rng.normal(size=4000)),
    }


@pytest.mark.parametrize("shape", shapes())
def test_numbers_are_counted_as_by_hand(store: Store, shape: str) -> None:
    values = shapes()[shape]

    found = column(store, values)

    assert found.counts.tolist() == bins_by_hand(found.frame, values).tolist()
    assert (found.present, found.missing) == (np.isfinite(values).sum(), np.isnan(values).sum())


@pytest.mark.parametrize("shape", shapes())
def test_mean_deviation_and_ends_are_those_of_the_values(store: Store, shape: str) -> None:
    values = shapes()[shape]

    found = column(store, values)

    size = np.nanmax(np.abs(values))
    assert found.mean == pytest.approx(np.nanmean(values / size) * size, rel=1e-9, abs=size * 1e-12)
    assert found.deviation == pytest.approx(np.nanstd(values / size) * size, rel=1e-9)
    assert (found.low, found.high) == (np.nanmin(values), np.nanmax(values))


@pytest.mark.parametrize("shape", sorted(set(shapes()) - {"small integers", "ties", "zero inflated", "two far hills"}))
def test_cells_hold_about_a_tenth_each(store: Store, shape: str) -> None:
    found = column(store, shapes()[shape])

    cells = found.blocks[0, :-1]
    assert len(cells) == 10
    assert cells.min() >= 0.08 * found.present
    assert cells.max() <= 0.12 * found.present


def test_ties_are_never_split(store: Store) -> None:
    found = column(store, [1.5] * 600 + [2.25] * 300 + [7.125] * 100)

    assert sorted(found.counts[found.counts > 0]) == [100, 300, 600]
    assert found.blocks.tolist() == [[600, 300, 100, 0]]


def test_small_whole_numbers_have_a_bin_each_and_one_on_either_side(store: Store) -> None:
    found = column(store, [3, 3, 4, 6])

    assert found.counts.tolist() == [0, 2, 1, 0, 1, 0]
    assert [found.frame.edge(place) for place in range(6)] == [2, 3, 4, 5, 6, 7]


def test_whole_numbers_with_holes_are_whole_numbers(store: Store) -> None:
    found = column(store, [3.0, None, 4.0, 6.0])

    assert found.counts.tolist() == [0, 1, 1, 0, 1, 0]
    assert found.missing == 1


def test_what_lies_beyond_the_reference_falls_into_the_end_bins(store: Store) -> None:
    reference = store.put(pd.DataFrame({"x": [3, 4, 6]}), "reference")
    frame = store.profiler.frame(reference)
    current = store.put(pd.DataFrame({"x": [-1000, 2, 8, 900, 3]}), "current")

    found = store.profiler.profile(current, frame).columns["x"]

    assert found.counts.tolist() == [2, 1, 0, 0, 0, 2]


def test_infinite_values_are_counted_apart_from_the_mean(store: Store) -> None:
    found = column(store, [-np.inf, 1.5, 2.5, np.inf, np.inf])

    assert (found.counts[0], found.counts[-1], found.infinite) == (1, 2, 3)
    assert (found.mean, found.deviation, found.low, found.high) == (2.0, 0.5, 1.5, 2.5)


@pytest.mark.parametrize("value", [0.0, 1.5, -1e300, 5e-324, 2.0**60])
def test_a_constant_column_is_one_bin_between_two_cells(store: Store, value: float) -> None:
    found = column(store, [value] * 30)

    assert found.blocks.tolist() == [[0, 30, 0, 0]]
    assert (found.mean, found.deviation, found.low, found.high) == (value, 0.0, value, value)


def test_a_constant_that_moved_a_little_lies_in_another_cell(store: Store) -> None:
    frame = store.profiler.frame(store.put(pd.DataFrame({"x": [1.5] * 30}), "reference"))

    found = store.profiler.profile(store.put(pd.DataFrame({"x": [1.49, 1.51, 1.5]}), "current"), frame)

    assert found.columns["x"].blocks[0, 0] == 1


def test_the_greatest_floats_are_counted(store: Store) -> None:
    values = [-1.7976931348623157e308, -1e308, 0.5, 1e308, 1.7976931348623157e308]

    found = column(store, values)

    assert (found.present, found.missing, found.infinite) == (5, 0, 0)
    assert found.deviation == pytest.approx(np.std(np.array(values) / 1e300) * 1e300)


def test_integers_at_the_ends_of_their_range_are_counted(store: Store) -> None:
    found = column(store, np.array([-(2**63), 0, 1, 2**63 - 1], dtype=np.int64))

    assert (found.present, found.low, found.high) == (4, -(2.0**63), 2.0**63)


@pytest.mark.parametrize("values", [[None, None], [np.nan, np.nan]])
def test_a_column_without_any_value_has_no_numbers(store: Store, values: list[Any]) -> None:
    found = column(store, values)

    assert (found.present, found.missing, found.mean, found.deviation) == (0, 2, None, None)


def test_one_row_is_a_table(store: Store) -> None:
    found = profiled(store, pd.DataFrame({"x": [2.5], "c": ["a"]}))

    assert (found["x"].present, found["c"].counts.tolist()) == (1, [1, 0])


def test_a_table_without_rows_is_refused(store: Store) -> None:
    full = store.put(pd.DataFrame({"x": [1.5, 2.5]}), "reference")
    frame = store.profiler.frame(full)
    empty = store.put(pd.DataFrame({"x": np.array([], dtype=float)}), "current")

    with pytest.raises(NoRowsError, match="no row"):
        store.profiler.frame(empty)
    with pytest.raises(NoRowsError, match="no row"):
        store.profiler.profile(empty, frame)


# --- Categories and the rest -----------------------------------------------------------------------------------------


def test_categories_are_the_most_frequent_first_with_a_bin_for_others(store: Store) -> None:
    frame = store.profiler.frame(store.put(pd.DataFrame({"x": ["b"] * 5 + ["a"] * 5 + ["c"]}), "reference"))

    found = store.profiler.profile(store.put(pd.DataFrame({"x": ["c", "d", "", None, "a"]}), "current"), frame)

    assert frame.columns[0].categories == ("a", "b", "c")
    assert frame.columns[0].complete
    assert found.columns["x"].counts.tolist() == [1, 0, 1, 2]
    assert found.columns["x"].missing == 1


def test_an_empty_text_is_a_category_and_not_missing(store: Store) -> None:
    found = column(store, ["", "", "a", None])

    assert (found.frame.categories, found.missing) == (("", "a"), 1)


def test_rare_categories_share_a_cell(store: Store) -> None:
    values = ["a"] * 60 + ["b"] * 36 + ["c", "d", "e", "f"]

    found = column(store, values)

    assert found.blocks.tolist() == [[60, 36, 4, 0, 0]]


def test_beyond_two_hundred_categories_the_rest_are_others(store: Store) -> None:
    values = [f"value {place % 300:03}" for place in range(3000)]

    found = column(store, values)

    assert len(found.frame.categories) == 200
    assert not found.frame.complete
    assert found.counts[-1] == 1000


def test_texts_that_name_single_rows_are_no_categories(store: Store) -> None:
    found = column(store, [f"flight {place}" for place in range(500)] + [None])

    assert found.frame.kind == "identifier"
    assert found.frame.note
    assert (found.present, found.missing) == (500, 1)


def test_numbers_may_be_declared_to_be_names(store: Store) -> None:
    found = column(store, [7, 7, 3], categorical=["x"])

    assert found.frame.categories == ("7", "3")


def test_a_name_is_the_same_number_with_and_without_holes(store: Store) -> None:
    frame = store.profiler.frame(store.put(pd.DataFrame({"x": [7, 7, 3]}), "reference"), categorical=["x"])

    found = store.profiler.profile(store.put(pd.DataFrame({"x": [7.0, None, 3.0, 3.5]}), "current"), frame)

    assert found.columns["x"].counts.tolist() == [1, 1, 1]


def test_times_are_counted_where_they_are_missing(store: Store) -> None:
    found = column(store, pd.to_datetime(pd.Series(["2026-03-01 12:00", None, "2026-03-29 02:30"])))

    assert (found.frame.kind, found.present, found.missing) == ("time", 2, 1)


# --- A column that is another one than in the reference --------------------------------------------------------------


def test_a_number_that_became_text_counts_where_it_can_be_read(store: Store) -> None:
    frame = store.profiler.frame(store.put(pd.DataFrame({"x": [1.5, 2.5, 3.5]}), "reference"))

    found = store.profiler.profile(store.put(pd.DataFrame({"x": ["1.5", "late", "", None]}), "current"), frame)

    assert (found.columns["x"].present, found.columns["x"].missing) == (1, 3)
    assert found.columns["x"].mean == 1.5


def test_a_number_that_became_a_time_is_missing(store: Store) -> None:
    frame = store.profiler.frame(store.put(pd.DataFrame({"x": [1.5, 2.5, 3.5]}), "reference"))

    found = store.profiler.profile(store.put(pd.DataFrame({"x": pd.to_datetime(["2026-03-01"])}), "current"), frame)

    assert found.columns["x"].missing == 1


def test_a_text_that_became_a_number_is_another_category(store: Store) -> None:
    frame = store.profiler.frame(store.put(pd.DataFrame({"x": ["a", "b", "7"]}), "reference"))

    found = store.profiler.profile(store.put(pd.DataFrame({"x": [7, 8, 9]}), "current"), frame)

    assert found.columns["x"].counts.tolist() == [1, 0, 0, 2]


def test_a_missing_column_is_named_with_the_nearest(store: Store) -> None:
    frame = store.profiler.frame(store.put(pd.DataFrame({"distance": [1.5], "origin": ["JFK"]}), "reference"))
    current = store.put(pd.DataFrame({"distanse": [1.5]}), "current")

    with pytest.raises(ColumnError, match=r"'distance', 'origin'.*did you mean 'distanse'"):
        store.profiler.profile(current, frame)


def test_an_unknown_column_is_no_column_of_a_frame(store: Store) -> None:
    given = store.put(pd.DataFrame({"distance": [1.5]}))

    with pytest.raises(ColumnError, match="did you mean 'distance'"):
        store.profiler.frame(given, columns=["distanse"])


def test_a_hostile_name_is_a_name(store: Store) -> None:
    table = pd.DataFrame({HOSTILE: [1.5, 2.5, None], "b": ["x", "'); drop table given; --", "x"], "x": [1, 2, 3]})
    given = store.put(table)

    profile = store.profiler.profile(given, store.profiler.frame(given), block=HOSTILE)

    assert set(profile.columns) == set(table)
    assert profile.columns[HOSTILE].missing == 1
    assert profile.columns["b"].counts.tolist() == [2, 1, 0]
    assert profile.blocks == ("(none)", "1.5", "2.5")


def test_only_the_chosen_columns_are_counted_and_in_their_order(store: Store) -> None:
    given = store.put(pd.DataFrame({"a": [1], "b": [2], "c": [3]}))

    frame = store.profiler.frame(given, columns=["c", "a"])

    assert [one.name for one in frame.columns] == ["c", "a"]


# --- Blocks ----------------------------------------------------------------------------------------------------------


def test_blocks_of_a_column_are_counted_apart(store: Store) -> None:
    given = store.put(pd.DataFrame({"x": [1, 1, 2, None, 2], "shop": ["n", "n", "s", "s", None]}))

    profile = store.profiler.profile(given, store.profiler.frame(given), block="shop")

    assert (profile.blocks, profile.by, profile.rows) == (("(none)", "n", "s"), "shop", 5)
    assert profile.columns["x"].blocks.tolist() == [[0, 1, 0], [2, 0, 0], [0, 1, 1]]
    assert profile.columns["x"].counts.tolist() == [0, 2, 2, 0]


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("hour", ("2025-12-28T23", "2025-12-29T00", "2026-01-01T05")),
        ("day", ("2025-12-28", "2025-12-29", "2026-01-01")),
        ("week", ("2025-W52", "2026-W01")),
        ("month", ("2025-12", "2026-01")),
    ],
)
def test_blocks_of_a_time_are_named_so_that_they_sort(store: Store, unit: str, names: tuple[str, ...]) -> None:
    times = pd.to_datetime(
        pd.Series(["2026-01-01 05:59:59.999", "2025-12-28 23:59:59", "2025-12-29 00:00:00", None]), format="ISO8601"
    )
    given = store.put(pd.DataFrame({"x": [1, 2, 3, 4], "t": times}))

    profile = store.profiler.profile(given, store.profiler.frame(given), block=unit, time="t")

    assert profile.blocks == ("(none)", *names)
    assert profile.by == unit
    assert profile.columns["x"].blocks[:, :-1].sum() == 4


def test_a_time_may_be_a_text_with_or_without_its_zone(store: Store) -> None:
    times = ["2026-03-01T23:30:00", "2026-03-01 23:30:00Z", "2026-03-02 00:30:00+02:00", "2026-03-01", "soon", None]
    given = store.put(pd.DataFrame({"x": range(6), "t": times}))

    profile = store.profiler.profile(given, store.profiler.frame(given, columns=["x"]), block="day", time="t")

    assert profile.blocks == ("(none)", "2026-03-01")
    assert profile.columns["x"].blocks.sum(axis=1).tolist() == [2, 4]


def test_a_block_needs_its_column(store: Store) -> None:
    given = store.put(pd.DataFrame({"x": [1, 2], "t": [1, 2]}))
    frame = store.profiler.frame(given, columns=["x"])

    with pytest.raises(ColumnError, match="no column 'shop'"):
        store.profiler.profile(given, frame, block="shop")
    with pytest.raises(ColumnError, match="need a time column"):
        store.profiler.profile(given, frame, block="day")
    with pytest.raises(ColumnError, match="no points in time"):
        store.profiler.profile(given, frame, block="day", time="t")


def test_parts_that_are_merged_are_the_whole(store: Store) -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "x": np.where(rng.random(900) < 0.1, np.nan, rng.lognormal(size=900)),
            "c": rng.choice(list("abc"), 900),
            "day": rng.choice(["mon", "tue", "wed"], 900),
        }
    )
    frame = store.profiler.frame(store.put(table, "whole"))
    whole = store.profiler.profile(store.put(table, "whole"), frame, block="day")
    parts = (table[:100], table[100:101], table[101:])

    merged = merge([store.profiler.profile(store.put(part, "part"), frame, block="day") for part in parts])

    assert (merged.rows, merged.blocks) == (whole.rows, whole.blocks)
    for name, one in whole.columns.items():
        assert merged.columns[name].counts.tolist() == one.counts.tolist()
        assert merged.columns[name].blocks.tolist() == one.blocks.tolist()
    assert merged.columns["x"].mean == pytest.approx(whole.columns["x"].mean)
    assert merged.columns["x"].deviation == pytest.approx(whole.columns["x"].deviation)
    assert merged.columns["x"].high == whole.columns["x"].high


def test_too_many_blocks_are_refused(store: Store) -> None:
    given = store.put(pd.DataFrame({"x": range(20_001)}))

    with pytest.raises(DataError, match="more than 20,000 blocks"):
        store.profiler.profile(given, store.profiler.frame(given), block="x")


def test_the_same_rows_always_give_the_same_frame(store: Store) -> None:
    given = store.put(pd.DataFrame(shapes()))

    assert store.profiler.frame(given).digest == store.profiler.frame(given).digest
