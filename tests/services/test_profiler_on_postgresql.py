"""What only a real PostgreSQL can show of counting in a database; the shared suite runs on it too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text

from ml_lifecycle.backends.monitoring.frames import SAMPLE_ROWS
from ml_lifecycle.backends.monitoring.sql import SqlProfiler
from ml_lifecycle.core.errors import PartitionMissingError
from private_postgresql import Server

pytestmark = pytest.mark.services


@pytest.fixture
def database(postgresql: Server) -> Iterator[Engine]:
    engine = create_engine(postgresql.new_database())
    yield engine
    engine.dispose()


def run(database: Engine, *statements: str) -> None:
    with database.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_every_type_has_a_kind(database: Engine) -> None:
    run(
        database,
        """CREATE TABLE given (s smallint, b bigint, r real, n numeric(9, 2), f boolean, t text, v varchar(9), u uuid,
           d date, z timestamptz, m timestamp, h time, j jsonb, y bytea, a double precision[], i interval)""",
        """INSERT INTO given VALUES (1, 9223372036854775807, 1.5, 2.50, true, 'a', '', gen_random_uuid(), '2026-03-01',
           'infinity', '2026-03-01 12:00', '12:00', '{}', 'x', '{1,2}', '1 day'), (NULL, 0, 'NaN', NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)""",
    )
    profiler = SqlProfiler(database)

    found = profiler.profile("given", profiler.frame("given")).columns

    assert {one.frame.kind for name, one in found.items() if name in "sbrn"} == {"number"}
    assert {one.frame.kind for name, one in found.items() if name in "ftvu"} == {"category"}
    assert {one.frame.kind for name, one in found.items() if name in "dzmh"} == {"time"}
    assert {one.frame.kind for name, one in found.items() if name in "jyai"} == {"identifier"}
    assert {one.missing for name, one in found.items() if name != "b"} == {1}
    assert found["f"].frame.categories == ("true",)


def test_days_are_those_of_utc_whatever_the_session_thinks(database: Engine) -> None:
    run(
        database,
        "CREATE TABLE given (x int, z timestamptz)",
        """INSERT INTO given VALUES (1, '2026-03-29 00:30+01'), (2, '2026-03-29 03:30+02'), (3, 'infinity'),
           (4, NULL)""",
    )
    with database.connect() as connection:
        connection.execute(text("SET TIME ZONE 'Asia/Tokyo'"))
        profiler = SqlProfiler(connection)
        frame = profiler.frame("given", columns=["x"])

        days = profiler.profile("given", frame, block="day", time="z")

    assert days.blocks == ("(none)", "2026-03-28", "2026-03-29")
    assert days.columns["x"].blocks.sum(axis=1).tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("said", "block"),
    [
        ("2026-03-28T23:30:00", "2026-03-28"),
        ("2026-03-29 00:30:00.5+0100", "2026-03-28"),
        ("2024-02-29", "2024-02-29"),
        ("2026-02-29", "(none)"),
        ("1900-02-29 12:00", "(none)"),
        ("2026-02-30", "(none)"),
        ("2026-04-31", "(none)"),
        ("2026-13-01", "(none)"),
        ("2026-01-01 25:00", "(none)"),
        ("2026-01-01 12:00+99", "(none)"),
        ("0000-01-01", "(none)"),
        ("infinity", "(none)"),
        ("now", "(none)"),
        ("", "(none)"),
    ],
)
def test_a_text_that_is_no_day_has_no_block(database: Engine, said: str, block: str) -> None:
    run(database, "CREATE TABLE given (x int, s text)", f"INSERT INTO given VALUES (1, '{said}')")  # noqa: S608  # ours
    profiler = SqlProfiler(database)

    assert profiler.profile("given", profiler.frame("given"), block="day", time="s").blocks == (block,)


def test_a_table_of_another_schema_is_found_and_a_missing_one_is_named(database: Engine) -> None:
    run(database, "CREATE SCHEMA sales", 'CREATE TABLE sales."a.b" (x int)', 'INSERT INTO sales."a.b" VALUES (1)')
    run(database, "CREATE TABLE sales.plain (x int)", "INSERT INTO sales.plain VALUES (1), (2)")
    profiler = SqlProfiler(database)

    assert profiler.profile("sales.plain", profiler.frame("sales.plain")).rows == 2
    with pytest.raises(PartitionMissingError, match="no such table"):
        profiler.frame("sales.gone")


def test_a_large_table_is_sampled_the_same_way_each_time(database: Engine) -> None:
    rows = 5 * SAMPLE_ROWS
    run(database, f"CREATE TABLE given AS SELECT sqrt(i) AS x, 'c' || i % 7 AS c FROM generate_series(1, {rows}) i")  # noqa: S608  # ours
    profiler = SqlProfiler(database)

    frame = profiler.frame("given")
    found = profiler.profile("given", frame).columns

    assert profiler.frame("given").digest == frame.digest
    assert (found["x"].present, found["c"].present) == (rows, rows)
    assert min(found["x"].blocks[0, :-1]) > 0.08 * rows
    assert found["x"].quantile(0.5) == pytest.approx((rows / 2) ** 0.5, rel=0.001)


def test_nothing_is_written_and_no_transaction_is_left(database: Engine) -> None:
    run(database, "CREATE TABLE given AS SELECT 1.5::float8 AS x")
    with database.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = on"))
        connection.commit()
        profiler = SqlProfiler(connection)

        profile = profiler.profile("given", profiler.frame("given"))

    assert profile.columns["x"].mean == 1.5
