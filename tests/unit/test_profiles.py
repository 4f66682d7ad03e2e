"""Counts that are kept, merged and read, and the files that they are made of."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # tests make tables
import pandas as pd  # noqa: TID253  # as above
import pyarrow as pa  # noqa: TID253  # as above
import pyarrow.dataset as ds  # noqa: TID253  # as above
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyarrow import fs  # noqa: TID253  # as above

from ml_lifecycle.backends.monitoring import duckdb as engine
from ml_lifecycle.backends.monitoring.duckdb import DuckDbProfiler
from ml_lifecycle.backends.monitoring.frames import Blocks, Grouped, bin_of, column_profile, number_frame
from ml_lifecycle.backends.monitoring.profiles import ColumnProfile, Profile, is_stored, load, merge, save
from ml_lifecycle.core.errors import ColumnError, DataError, NoRowsError, PartitionUnreadableError, RequestError


def counted(table: Any, **options: Any) -> Profile:
    profiler = DuckDbProfiler()
    return profiler.profile(table, profiler.frame(table), **options)


def kinds(profile: Profile) -> dict[str, str]:
    return {name: one.frame.kind for name, one in profile.columns.items()}


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "delay": np.where(rng.random(500) < 0.1, np.nan, rng.normal(10, 30, 500)),
            "origin": rng.choice(["EWR", "JFK", "LGA"], 500),
            "at": pd.date_range("2026-03-28", periods=500, freq="h"),
        }
    )
    file = tmp_path / "flights.parquet"
    table.to_parquet(file, index=False)
    return file


# --- Kept and read again ---------------------------------------------------------------------------------------------


def test_a_stored_profile_is_read_as_it_was(flights: Path, tmp_path: Path) -> None:
    profile = counted(flights, block="day", time="at")
    (tmp_path / "kept").mkdir()

    save(profile, tmp_path / "kept")
    found = load(tmp_path / "kept")

    assert (found.rows, found.blocks, found.by, found.frame) == (500, profile.blocks, "day", profile.frame)
    for name, one in profile.columns.items():
        assert found.columns[name].counts.tolist() == one.counts.tolist()
        assert found.columns[name].blocks.tolist() == one.blocks.tolist()
        assert (found.columns[name].mean, found.columns[name].deviation) == (one.mean, one.deviation)


def test_the_same_counts_are_the_same_bytes(flights: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save(counted(flights), tmp_path / name)
        contents.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})

    assert contents[0] == contents[1]
    assert is_stored(tmp_path / "first")


def other_layout(folder: Path) -> None:
    facts = json.loads((folder / "profile.json").read_text())
    (folder / "profile.json").write_text(json.dumps(facts | {"layout": 0}))


def fewer_bins(folder: Path) -> None:
    facts = json.loads((folder / "profile.json").read_text())
    facts["columns"][0]["frame"]["last"] -= 1
    (folder / "profile.json").write_text(json.dumps(facts))


def more_blocks(folder: Path) -> None:
    facts = json.loads((folder / "profile.json").read_text())
    (folder / "profile.json").write_text(json.dumps(facts | {"blocks": ["a", "b"]}))


def cut(folder: Path) -> None:
    (folder / "counts.npz").write_bytes((folder / "counts.npz").read_bytes()[:100])


def pickled(folder: Path) -> None:
    np.savez(folder / "counts.npz", counts_0=np.array([print], dtype=object))


def negative(folder: Path) -> None:
    with np.load(folder / "counts.npz") as found:
        held = dict(found)
    held["counts_0"] = held["counts_0"] - 1
    np.savez(folder / "counts.npz", **held)


def edited(**changes: Any) -> Callable[[Path], None]:
    """Other facts of the first column."""

    def change(folder: Path) -> None:
        facts = json.loads((folder / "profile.json").read_text())
        facts["columns"][0] |= changes
        (folder / "profile.json").write_text(json.dumps(facts))

    return change


def unnamed_blocks(folder: Path) -> None:
    facts = json.loads((folder / "profile.json").read_text())
    (folder / "profile.json").write_text(json.dumps(facts | {"by": 3}))


def twice(folder: Path) -> None:
    facts = json.loads((folder / "profile.json").read_text())
    facts["columns"][1] = facts["columns"][0]
    (folder / "profile.json").write_text(json.dumps(facts))


def bottomless(folder: Path) -> None:
    (folder / "profile.json").write_text("[" * 100_000)


def not_a_mapping(folder: Path) -> None:
    (folder / "profile.json").write_text("[1]")


def flat(folder: Path) -> None:
    facts = json.loads((folder / "profile.json").read_text())
    facts["columns"][0]["frame"]["scale"] = 0.0
    (folder / "profile.json").write_text(json.dumps(facts))


FACTS = [flat, edited(low=10**400), edited(mean="x"), edited(low="q"), edited(deviation=math.nan), edited(infinite="z")]


@pytest.mark.parametrize(
    "change",
    [
        other_layout,
        fewer_bins,
        more_blocks,
        cut,
        pickled,
        negative,
        not_a_mapping,
        *FACTS,
        unnamed_blocks,
        twice,
        bottomless,
    ],
)
def test_a_profile_that_was_changed_is_refused(flights: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    (tmp_path / "kept").mkdir()
    save(counted(flights), tmp_path / "kept")

    change(tmp_path / "kept")

    with pytest.raises(DataError, match="the profile"):
        load(tmp_path / "kept")


# --- Merged ----------------------------------------------------------------------------------------------------------

numbers = arrays(
    np.float64,
    st.integers(1, 40),
    elements=st.one_of(
        st.floats(-1e6, 1e6).map(lambda value: round(value, 6)),
        st.integers(-5, 5).map(float),
        st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0]),
    ),
)


def by_hand(values: Any, frame: Any) -> ColumnProfile:
    """Counts as an engine hands them in."""
    there = values[~np.isnan(values)]
    bins, rows = np.unique(bin_of(frame, there), return_counts=True)
    finite = there[np.isfinite(there)]
    grouped = Grouped(bins, rows, {})
    profile = column_profile(frame, Blocks.none(len(values)), grouped)
    facts = {"mean": None, "deviation": None, "low": None, "high": None}
    if len(finite):
        facts = {"mean": finite.mean(), "deviation": finite.std(), "low": finite.min(), "high": finite.max()}
    return ColumnProfile(frame, profile.counts, profile.blocks, **facts, infinite=len(there) - len(finite))


@settings(max_examples=150, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=4))
def test_merged_parts_are_the_whole(parts: list[Any]) -> None:
    whole = np.concatenate(parts)
    frame = number_frame("x", whole)

    merged = merge([Profile(len(part), ("",), {"x": by_hand(part, frame)}) for part in parts]).columns["x"]

    wanted = by_hand(whole, frame)
    assert merged.counts.tolist() == wanted.counts.tolist()
    assert (merged.missing, merged.infinite) == (wanted.missing, wanted.infinite)
    assert (merged.low, merged.high) == (wanted.low, wanted.high)
    for one, other in ((merged.mean, wanted.mean), (merged.deviation, wanted.deviation)):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-4) if other is not None else one is None


@settings(max_examples=150, deadline=None)
@given(
    arrays(
        np.float64, st.integers(0, 60), elements=st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
    )
)
def test_any_numbers_have_a_frame_that_holds_them(values: Any) -> None:
    frame = number_frame("x", values)

    places = bin_of(frame, values[~np.isnan(values)])

    assert frame.cells[-1] == frame.bins - 1 == frame.last - frame.first
    assert list(frame.cells) == sorted(set(frame.cells))
    assert all(np.isfinite([frame.center, frame.scale, frame.steps])) and frame.scale > 0 and frame.steps > 0  # noqa: PT018
    assert ((places >= 0) & (places < frame.bins)).all()
    assert frame.bins < 12_000
    assert np.isfinite([frame.edge(place) for place in (0, frame.bins // 2, frame.bins)]).all()


@settings(max_examples=10, deadline=None)
@given(numbers, numbers)
def test_duckdb_counts_what_numpy_counts(reference: Any, current: Any) -> None:
    profiler = DuckDbProfiler(threads=1)
    frame = profiler.frame(pa.table({"x": reference}))

    found = profiler.profile(pa.table({"x": current}), frame).columns["x"]

    wanted = by_hand(current, frame.columns[0])
    assert found.counts.tolist() == wanted.counts.tolist()
    assert (found.missing, found.infinite, found.low, found.high) == (
        wanted.missing,
        wanted.infinite,
        wanted.low,
        wanted.high,
    )
    if wanted.mean is not None:
        assert found.mean == pytest.approx(wanted.mean, rel=1e-9, abs=1e-6)
        assert found.deviation == pytest.approx(wanted.deviation, rel=1e-6, abs=1e-4)


def test_profiles_of_other_frames_are_not_merged(flights: Path) -> None:
    other = counted(pd.DataFrame({"delay": [1.5]}))

    with pytest.raises(DataError, match="not counted in one frame"):
        merge([counted(flights), other])
    with pytest.raises(DataError, match="no profile"):
        merge([])


def test_a_quantile_is_as_exact_as_its_bin(flights: Path) -> None:
    column = counted(flights).columns["delay"]

    delays = pd.read_parquet(flights)["delay"].dropna().to_numpy()

    for share in (0.01, 0.25, 0.5, 0.99, 1.0):
        assert column.quantile(share) == pytest.approx(np.quantile(delays, share, method="inverted_cdf"), abs=0.2)


def test_a_quantile_of_whole_numbers_is_one_of_them() -> None:
    column = counted(pd.DataFrame({"x": [1, 2, 2, 7]})).columns["x"]

    assert [column.quantile(share) for share in (0.25, 0.5, 0.75, 1)] == [1, 2, 2, 7]


def test_nothing_has_no_quantile() -> None:
    assert counted(pd.DataFrame({"x": [np.nan]})).columns["x"].quantile(0.5) is None


# --- Files -----------------------------------------------------------------------------------------------------------


def same_counts(one: Profile, other: Profile) -> bool:
    return one.rows == other.rows and all(
        one.columns[name].counts.tolist() == other.columns[name].counts.tolist() for name in one.columns
    )


def several(flights: Path, folder: Path) -> list[Path]:
    table: pd.DataFrame = pd.read_parquet(flights)
    paths = [folder / f"part {place}'s.parquet" for place in range(3)]
    for place, path in enumerate(paths):
        table.iloc[place::3].to_parquet(path, index=False)
    return paths


def test_several_files_are_one_table(flights: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    paths = several(flights, tmp_path / "parts")
    whole = counted(flights)

    assert same_counts(DuckDbProfiler().profile(paths, whole.frame), whole)
    assert same_counts(DuckDbProfiler().profile(tmp_path / "parts", whole.frame), whole)
    assert same_counts(DuckDbProfiler().profile(str(tmp_path / "parts"), whole.frame), whole)


@pytest.mark.parametrize("name", ["star*", "question?", "[brackets]", "o'clock", "a=b"])
def test_names_of_files_are_no_patterns(flights: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    path = tmp_path / name / f"{name}.parquet"
    path.write_bytes(flights.read_bytes())

    assert counted(path).rows == 500
    assert set(counted(tmp_path / name).columns) == {"delay", "origin", "at"}


def test_folders_named_after_values_are_columns(flights: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(flights)
    for origin, rows in table.groupby("origin"):
        folder = tmp_path / "tree" / f"origin={origin}" / "dt=2026-03-28"
        folder.mkdir(parents=True)
        rows.drop(columns="origin").to_parquet(folder / "rows.parquet", index=False)
    (tmp_path / "tree" / "_SUCCESS.parquet").write_text("not a table")

    found = counted(tmp_path / "tree")

    assert sorted(found.columns["origin"].frame.categories) == ["EWR", "JFK", "LGA"]
    assert found.columns["dt"].frame.categories == ("2026-03-28",)
    assert found.rows == 500


def test_folders_above_a_table_are_no_columns(flights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "endpoint=flights" / "dt=2026-03-28"
    folder.mkdir(parents=True)
    (folder / "rows.parquet").write_bytes(flights.read_bytes())

    assert set(counted(folder).columns) == {"delay", "origin", "at"}
    assert set(counted(tmp_path / "endpoint=flights").columns) == {"delay", "origin", "at", "dt"}


def test_a_csv_file_is_counted_as_its_parquet(flights: Path, tmp_path: Path) -> None:
    pd.read_parquet(flights).to_csv(tmp_path / "flights.csv", index=False)
    whole = counted(flights)

    assert same_counts(DuckDbProfiler().profile(tmp_path / "flights.csv", whole.frame), whole)


def test_an_arrow_dataset_of_any_file_system_is_counted(flights: Path, tmp_path: Path) -> None:
    system = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    dataset = ds.dataset("flights.parquet", filesystem=system, format="parquet")
    whole = counted(flights)

    assert same_counts(counted(dataset), whole)
    assert same_counts(counted(f"file://{flights}"), whole)


def test_files_of_other_schemas_are_one_table(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1.5], "y": [1]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"x": [2.5]}).to_parquet(tmp_path / "b.parquet")

    found = counted([tmp_path / "a.parquet", tmp_path / "b.parquet"])

    assert (found.columns["x"].present, found.columns["y"].missing) == (2, 1)


def test_what_is_no_table_is_refused(flights: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(flights.read_bytes()[:-20])
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a.csv").write_text("x\n1\n")

    with pytest.raises(PartitionUnreadableError, match="cannot be counted"):
        counted(tmp_path / "cut.parquet")
    for wrong, words in (("empty", "no .parquet"), ("notes.txt", "ends in .txt"), ("gone.parquet", "no such file")):
        with pytest.raises(DataError, match=words):
            counted(tmp_path / wrong)
    with pytest.raises(DataError, match="several formats"):
        counted([flights, tmp_path / "a.csv"])


def sampled_each_way(table: pd.DataFrame, folder: Path) -> list[Any]:
    table.to_parquet(folder / "t.parquet", index=False, row_group_size=900)
    table.to_csv(folder / "t.csv", index=False)
    return [table, folder / "t.parquet", folder / "t.csv", ds.dataset(folder / "t.parquet")]


def test_every_kind_of_table_is_sampled_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SAMPLE_ROWS", 1000)
    monkeypatch.setattr(engine, "_BATCH_ROWS", 700)
    table = pd.DataFrame({"x": np.arange(4999.0) / 8, "c": [str(place % 4) for place in range(4999)]})

    frames = [DuckDbProfiler().frame(one, categorical=["c"]) for one in sampled_each_way(table, tmp_path)]

    assert {frame.digest for frame in frames} == {frames[0].digest}
    # Every fourth row holds one category of four, so the sample saw one; the others were found in the whole table.
    assert frames[0].columns[1].categories == ("0",)
    assert not frames[0].columns[1].complete


def test_a_long_file_is_sampled_by_runs_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SAMPLE_ROWS", 100)
    monkeypatch.setattr(engine, "_VECTOR_ROWS", 10)
    table = pd.DataFrame({"x": np.arange(1000.0) / 8})
    table.to_parquet(tmp_path / "t.parquet", index=False)

    frame = DuckDbProfiler().frame(tmp_path / "t.parquet")

    assert frame == DuckDbProfiler().frame(table[np.arange(1000) // 10 % 10 == 0])


def test_columns_may_have_the_names_that_the_engine_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SAMPLE_ROWS", 10)
    names = ["file_row_number", "filename", "given", "sampled", "bin", "b", "x", "v", "name", "place", "cell", "n", "z"]
    table = pd.DataFrame({name: np.arange(90.0) + place for place, name in enumerate(names)})
    table.to_parquet(tmp_path / "t.parquet", index=False)

    for given_ in (table, tmp_path / "t.parquet"):
        found = counted(given_, block="b")

        assert [one.low for one in found.columns.values()] == list(range(len(names)))
        assert len(found.blocks) == 90


# --- Types -----------------------------------------------------------------------------------------------------------


def test_every_type_of_arrow_has_a_kind() -> None:
    table = pa.table(
        {
            "tiny": pa.array([1, None], pa.int8()),
            "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
            "half": pa.array(np.array([0.5, 1.5], dtype=np.float16)),
            "money": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
            "great money": pa.array([Decimal("1.50"), None], pa.decimal256(50, 2)),
            "flag": pa.array([True, None]),
            "name": pa.array(["a", "a"]).dictionary_encode(),
            "number name": pa.array([3, 4]).dictionary_encode(),
            "day": pa.array([date(2026, 3, 1), None]),
            "moment": pa.array([1, None], pa.timestamp("ns", "Europe/Berlin")),
            "hour": pa.array([1, None], pa.time64("us")),
            "bytes": pa.array([b"x", None]),
            "embedding": pa.array([[0.5, 1.5], None], pa.list_(pa.float32(), 2)),
            "record": pa.array([{"a": 1}, None]),
            "nothing": pa.array([None, None]),
        }
    )

    found = counted(table)

    assert kinds(found) == {
        "tiny": "number",
        "unsigned": "number",
        "half": "number",
        "money": "number",
        "great money": "number",
        "flag": "category",
        "name": "category",
        "number name": "number",
        "day": "time",
        "moment": "time",
        "hour": "time",
        "bytes": "identifier",
        "embedding": "identifier",
        "record": "identifier",
        "nothing": "category",
    }
    assert {name: one.missing for name, one in found.columns.items() if one.missing != 1} == {
        "unsigned": 0,
        "half": 0,
        "name": 0,
        "number name": 0,
        "nothing": 2,
    }
    assert found.columns["unsigned"].high == 2.0**64
    assert found.columns["flag"].frame.categories == ("true",)
    assert "declared callable" in found.columns["embedding"].frame.note


def test_a_column_of_mixed_types_is_one_of_texts() -> None:
    assert counted(pd.DataFrame({"x": [1, "a", None, 2.5]})).columns["x"].frame.categories == ("1", "2.5", "a")


@pytest.mark.parametrize("now", [[1, 0, 1, 7], [1.0, 0.0, 1.0, 7.0]], ids=["whole", "float"])
def test_a_boolean_that_comes_as_a_number_is_the_same(now: list[float]) -> None:
    frame = DuckDbProfiler().frame(pd.DataFrame({"x": [True, True, False]}))

    found = DuckDbProfiler().profile(pd.DataFrame({"x": now}), frame).columns["x"]

    assert found.frame.categories == ("true", "false")
    assert found.counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    "uri", ["s3://key:secret@bucket/x", "s3://key:sec/ret@bucket/x", "http://u:secret@host:1/x?sig=secret"]
)
def test_an_address_with_credentials_is_refused_without_showing_them(uri: str) -> None:
    with pytest.raises(RequestError, match="holds credentials") as caught:
        counted(uri)

    assert not any(part in str(caught.value) for part in ("sec", "ret@", "key"))


def test_a_signed_address_is_shown_without_its_signature() -> None:
    with pytest.raises(DataError) as caught:
        counted("nowhere://host:9000/x.parquet?signature=hidden")

    assert "nowhere://host:9000/x.parquet" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_long_texts_are_no_names() -> None:
    found = counted(pd.DataFrame({"x": ["a", "a", "b" * 201]})).columns["x"]

    assert found.frame.categories == ("a",)
    assert found.counts.tolist() == [2, 1]


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ColumnError, match="two columns are called 'x'"):
        counted(pd.DataFrame([[1, 2]], columns=["x", "x"]))


# --- Days ------------------------------------------------------------------------------------------------------------


def test_days_are_those_of_utc_wherever_the_clock_stood() -> None:
    # Berlin's clocks skip an hour on 2026-03-29 and repeat one on 2026-10-25.
    moments = pd.to_datetime(
        ["2026-03-28 23:30Z", "2026-03-29 00:30Z", "2026-03-29 22:30Z", "2026-10-25 00:30Z", "2026-10-25 01:30Z"]
    )
    local = pd.DataFrame({"x": range(5), "t": moments.tz_convert("Europe/Berlin")})
    naive = pd.DataFrame({"x": range(5), "t": moments.tz_localize(None)})

    profiles = [counted(table, block="hour", time="t") for table in (local, naive)]

    assert profiles[0].blocks == profiles[1].blocks
    assert profiles[0].blocks[-2:] == ("2026-10-25T00", "2026-10-25T01")
    assert counted(local, block="day", time="t").columns["x"].blocks.sum(axis=1).tolist() == [1, 2, 2]


def test_dates_and_texts_are_points_in_time() -> None:
    table = pd.DataFrame(
        {"x": [1, 2, 3], "d": [date(2026, 3, 1), date(2026, 3, 2), None], "s": ["2026-03-01", "", "?"]}
    )

    assert counted(table, block="day", time="d").blocks == ("(none)", "2026-03-01", "2026-03-02")
    assert counted(table, block="month", time="s").blocks == ("(none)", "2026-03")


def test_times_that_no_calendar_names_have_no_block() -> None:
    table = pa.table({"x": [1, 2, 3], "t": pa.array([2**62, -(2**62), 0], pa.timestamp("us"))})

    assert counted(table, block="day", time="t").blocks == ("(none)", "1970-01-01")


# --- A declared callable ---------------------------------------------------------------------------------------------


def lengths(rows: pd.DataFrame) -> pd.DataFrame:
    made: pd.DataFrame = pd.DataFrame(
        {"length": rows["text"].str.len(), "sum": [sum(one) for one in rows["embedding"]]}
    )
    return made


def test_a_declared_callable_makes_the_columns_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_BATCH_ROWS", 2048)
    table = pd.DataFrame(
        {"text": ["a" * (place % 7) for place in range(5000)], "embedding": [[0.5, place] for place in range(5000)]}
    )
    batches: list[int] = []

    def derive(rows: pd.DataFrame) -> pd.DataFrame:
        batches.append(len(rows))
        return lengths(rows)

    profiler = DuckDbProfiler(derive=derive)
    frame = profiler.frame(table)
    batches.clear()
    found = profiler.profile(table, frame)

    assert same_counts(found, DuckDbProfiler().profile(lengths(table), frame))
    assert len(batches) > 1
    assert found.rows == sum(batches) == 5000


def test_a_callable_over_no_rows_counts_nothing() -> None:
    table = pd.DataFrame({"text": ["a"], "embedding": [[1.0]]})
    profiler = DuckDbProfiler(derive=lengths)
    frame = profiler.frame(table)

    with pytest.raises(NoRowsError, match="no row"):
        profiler.profile(table[:0], frame)


def test_progress_is_told_after_each_column(flights: Path) -> None:
    told: list[Sequence[int]] = []
    profiler = DuckDbProfiler(progress=lambda done, of: told.append((done, of)))

    profiler.profile(flights, profiler.frame(flights))

    assert told == [(1, 3), (2, 3), (3, 3)]
