"""Counting files, arrow datasets and tables in memory with DuckDB, one column at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.monitoring.base import Profiler, shown_address
from ml_lifecycle.backends.monitoring.frames import (
    CATEGORIES,
    LONGEST_CATEGORY,
    MOST_BLOCKS,
    NO_BLOCK,
    NO_BLOCK_KEY,
    SAMPLE_ROWS,
    Blocks,
    Grouped,
    Moments,
    category_frame,
    column_profile,
    known_columns,
    number_frame,
    time_frame,
    uncounted_frame,
)
from ml_lifecycle.backends.monitoring.profiles import ColumnFrame, ColumnProfile, Frame, Profile, merge
from ml_lifecycle.core.errors import ColumnError, DataError, MissingLibraryError, NoRowsError, PartitionUnreadableError
from ml_lifecycle.core.evaluation import PERIODS

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds

    from ml_lifecycle.backends.monitoring.base import Table

    Derive = Callable[[pd.DataFrame], pd.DataFrame]

_BATCH_ROWS: Final = 100_000
"""How many rows a declared callable is handed at once."""
_VECTOR_ROWS: Final = 2048
_LEAST_VECTORS: Final = 10
"""Of each file, so that a sample of them is spread over all of it."""
_GLOB: Final = frozenset("*?[]{}")
_SUFFIXES: Final = (".parquet", ".csv")
_NESTED: Final = ("BLOB", "STRUCT", "MAP", "UNION", "INTERVAL", "BIT", "VARIANT", "GEOMETRY")
_WIDE: Final = 300.0
"""Where numbers have such an inverse hyperbolic sine, their squares overflow."""
_INTEGERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")


@dataclass(frozen=True)
class _Source:
    """What a query reads from."""

    relation: str
    sample: Callable[[int], str]
    """The same with every k-th row."""
    where: str
    """How people call it."""


class DuckDbProfiler(Profiler):
    """Counts in a process of its own memory bounds: files larger than memory stream through it.

    The frame is decided on every k-th row, or every k-th run of rows in long files: about 100,000 together.

    :param threads: ``None`` for one per core.
    :param memory: What DuckDB may hold, such as ``1GB``; beyond that it writes into a temporary folder.
    :param derive: Makes the columns that are counted of those that are there, batch by batch: of an embedding or a
        text, the numbers that say something of it.
    :param progress: Told after each column how many were counted, and of how many; with ``derive``, batch by batch.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        memory: str = "1GB",
        derive: Derive | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.threads, self.memory, self.derive, self.progress = threads, memory, derive, progress

    def frame(self, table: Table, *, columns: Sequence[str] = (), categorical: Sequence[str] = ()) -> Frame:
        """Bins from the quantiles of a sample; text that is nearly unique in it names single rows."""
        if self.derive is not None:
            table = _in_memory(self.sample(table))
        with self._connection() as connection, _reading(table):
            source = _open(connection, table)
            types = _types(connection, source.relation)
            names = known_columns((*columns, *categorical), types, source.where) if columns or categorical else ()
            chosen = names[: len(columns)] if columns else tuple(types)
            step = max(1, _rows(connection, source) // SAMPLE_ROWS)
            maker = _FrameMaker(connection, source, step, source.sample(step))
            return Frame(columns=tuple(maker.frame(name, types[name], name in categorical) for name in chosen))

    def names(self, table: Table) -> tuple[str, ...]:
        """The columns that can be counted, in order; of files, only what they say of themselves is read."""
        if self.derive is not None:
            table = _in_memory(self.sample(table))
        with self._connection() as connection, _reading(table):
            return tuple(_types(connection, _open(connection, table).relation))

    def sample(self, table: Table) -> pd.DataFrame:
        """Every k-th row of a table, about 100,000 together, with the columns that are made of them."""
        rows: pd.DataFrame = self._sample(table).to_pandas()
        return rows if self.derive is None else self.derive(rows)

    def profile(self, table: Table, frame: Frame, *, block: str | None = None, time: str | None = None) -> Profile:
        """One query per column; with blocks it groups by bin and by block and cell in the same pass."""
        if self.derive is None:
            return self._counted(table, frame, block, time)
        total: Profile | None = None
        for batch in self._batches(table):
            part = self._counted(_in_memory(self.derive(batch.to_pandas())), frame, block, time)
            total = part if total is None else merge([total, part])
        if total is None:
            raise NoRowsError("the table has no row", where=_called(table), way_out="check which rows were selected")
        return total

    def _counted(self, table: Table, frame: Frame, block: str | None, time: str | None) -> Profile:
        with self._connection() as connection, _reading(table):
            source = _open(connection, table)
            types = _types(connection, source.relation)
            grouping = _Grouping.of(block, time, types, source.where)
            known_columns([one.name for one in frame.columns], types, source.where)
            blocks = _blocks(connection, source, grouping)
            counter = _Counter(connection, source, grouping, blocks)
            columns = {}
            for one in frame.columns:
                columns[one.name] = counter.count(one, types[one.name])
                if self.progress is not None:
                    self.progress(len(columns), len(frame.columns))
            return Profile(rows=blocks.total, blocks=blocks.names, columns=columns, by=block)

    def _sample(self, table: Table) -> pa.Table:
        with self._connection() as connection, _reading(table):
            source = _open(connection, table)
            step = max(1, _rows(connection, source) // SAMPLE_ROWS)
            return connection.sql(f"SELECT * FROM {source.sample(step)}").to_arrow_table()  # noqa: S608  # quoted

    def _batches(self, table: Table) -> Iterator[pa.Table]:
        import pyarrow as pa

        with self._connection() as connection, _reading(table):
            source = _open(connection, table)
            reader = connection.sql(f"SELECT * FROM {source.relation}").to_arrow_reader(_BATCH_ROWS)  # noqa: S608
            for batch in reader:
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])

    @contextmanager
    def _connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database in memory that loads nothing from anywhere and leaves nothing behind."""
        try:
            import duckdb
        except ImportError:
            raise MissingLibraryError("duckdb", "duckdb") from None
        with tempfile.TemporaryDirectory(prefix="ml-lifecycle-profile-") as folder:
            config: dict[str, Any] = {
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "memory_limit": self.memory,
                "preserve_insertion_order": False,
                "temp_directory": folder,
            }
            if self.threads is not None:
                config["threads"] = self.threads
            with duckdb.connect(config=config) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                yield connection


# --- What is read ----------------------------------------------------------------------------------------------------


def _open(connection: duckdb.DuckDBPyConnection, table: Table) -> _Source:
    """How a query reads the table."""
    found = _resolved(table)
    if isinstance(found, list):
        if found[0].suffix == ".parquet":
            return _parquet(connection, found, table)
        relation = f"read_csv({_texts(found)}, union_by_name = true, sample_size = 100000)"
        return _Source(relation, _streamed(connection, relation), _called(table))
    connection.register("given", found)
    if hasattr(found, "take") and hasattr(found, "slice"):
        return _Source("given", _taken(connection, found), _called(table))
    return _Source("given", _streamed(connection, "given"), _called(table))


def _parquet(connection: duckdb.DuckDBPyConnection, files: list[Path], table: Table) -> _Source:
    options = "union_by_name = true, hive_types_autocast = false, hive_partitioning = "
    options += "true" if isinstance(table, (str, Path)) and Path(table).is_dir() else "false"
    relation = f"read_parquet({_texts(files)}, {options})"

    def sample(step: int) -> str:
        if step == 1:
            return relation
        if "file_row_number" in {name.lower() for name in _types(connection, relation)}:
            return _streamed(connection, relation)(step)
        numbered = f"read_parquet({_texts(files)}, {options}, file_row_number = true)"
        # Of few and long files whole vectors are taken, as DuckDB skips whole ones at less than half the cost.
        width = _VECTOR_ROWS if _LEAST_VECTORS * _VECTOR_ROWS * len(files) <= SAMPLE_ROWS else 1
        place = f"(file_row_number // {width}) % {step}"
        chosen = f"SELECT * EXCLUDE file_row_number FROM {numbered} WHERE {place} = 0"  # noqa: S608  # quoted
        connection.execute(f"CREATE TEMP TABLE sampled AS {chosen}")
        return "sampled"

    return _Source(relation, sample, _called(table))


def _taken(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> Callable[[int], str]:
    def sample(step: int) -> str:
        import numpy as np

        connection.register("sampled", table if step == 1 else table.take(np.arange(0, table.num_rows, step)))
        return "sampled"

    return sample


def _streamed(connection: duckdb.DuckDBPyConnection, relation: str) -> Callable[[int], str]:
    """What has no row numbers is read once in its order, and every k-th row is kept."""

    def sample(step: int) -> str:
        import numpy as np
        import pyarrow as pa

        if step == 1:
            return relation
        connection.execute("SET preserve_insertion_order = true")
        reader = connection.sql(f"SELECT * FROM {relation}").to_arrow_reader(_BATCH_ROWS)  # noqa: S608  # quoted
        kept, seen = [], 0
        for batch in reader:
            kept.append(batch.take(pa.array(np.arange(-seen % step, batch.num_rows, step))))
            seen += batch.num_rows
        connection.execute("SET preserve_insertion_order = false")
        connection.register("sampled", pa.Table.from_batches(kept, schema=reader.schema))
        return "sampled"

    return sample


def _resolved(table: Table) -> list[Path] | pa.Table | ds.Dataset:
    """The table's files, all of one format, or something that arrow reads."""
    if isinstance(table, str) and "://" in table:
        return _remote(table)
    if isinstance(table, (str, Path)):
        files, base = _files(Path(table)), Path(table)
    elif isinstance(table, Sequence):
        files, base = [file for one in table for file in _files(Path(one))], None
    else:
        return _of_arrow(table)
    if len({file.suffix for file in files}) != 1:
        raise DataError("the files are of several formats", where=_called(table), way_out="hand in those of one")
    above = base is not None and base.is_dir() and "=" in str(base.resolve())
    if any(_GLOB & set(str(file)) for file in files) or above:
        import pyarrow.dataset as ds

        # DuckDB would take the names for patterns, or folders above the table for columns of it.
        partitioning = {"partitioning": "hive", "partition_base_dir": str(base)} if base and base.is_dir() else {}
        return ds.dataset([str(file) for file in files], format=files[0].suffix[1:], **partitioning)
    return files


def _files(path: Path) -> list[Path]:
    """A file, or the files below a folder whose names hide nothing.

    :raises DataError: there is none.
    """
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise DataError(
                f"the file's name ends in {path.suffix or 'nothing'}",
                where=str(path),
                way_out="hand in .parquet or .csv",
            )
        return [path]
    if path.is_dir():
        for suffix in _SUFFIXES:
            found = sorted(file for file in path.rglob(f"*{suffix}") if file.is_file())
            shown = [file for file in found if not any(part[0] in "._" for part in file.relative_to(path).parts)]
            if shown:
                return shown
        raise DataError("the folder holds no .parquet and no .csv file", where=str(path), way_out="check the path")
    raise DataError("there is no such file", where=str(path), way_out="check the path")


def _remote(uri: str) -> ds.Dataset:
    """A file or a folder of parquet in a store that arrow knows, such as ``s3://bucket/flights``."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow import fs

    shown = shown_address(uri)
    try:
        system, path = fs.FileSystem.from_uri(uri)
        return ds.dataset(path, filesystem=system, format="parquet", partitioning="hive", partition_base_dir=path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"it cannot be read ({type(error).__name__})", where=shown, way_out="check the address and the credentials"
        ) from None


def _of_arrow(table: pd.DataFrame | pa.Table | ds.Dataset) -> pa.Table | ds.Dataset:
    import pyarrow as pa
    import pyarrow.dataset as ds

    if isinstance(table, ds.Dataset):
        return table
    return _plain(table) if isinstance(table, pa.Table) else _in_memory(table)


def _in_memory(table: pd.DataFrame) -> pa.Table:
    """A table of pandas as one of arrow; where a column mixes types, its values are compared as texts."""
    import pyarrow as pa

    names = [str(name) for name in table.columns]
    arrays = []
    for place in range(len(names)):
        column = table.iloc[:, place]
        try:
            arrays.append(pa.Array.from_pandas(column))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            arrays.append(pa.Array.from_pandas(column.map(str, na_action="ignore"), type=pa.string()))
    return _plain(pa.table(arrays, names=names))


def _plain(table: pa.Table) -> pa.Table:
    """The table with types that DuckDB reads, and a name of its own for each column."""
    import pyarrow as pa

    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise ColumnError(f"two columns are called {twice[0]!r}", way_out="rename one of them")
    for place, field in enumerate(table.schema):
        if pa.types.is_float16(field.type) or pa.types.is_decimal(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.float64()))
        elif pa.types.is_null(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    return table


def _called(table: Table) -> str:
    """The table's name for people; empty for one in memory."""
    if isinstance(table, (str, Path)):
        return str(table)
    if isinstance(table, Sequence) and len(table):
        return f"{table[0]} and {len(table) - 1} more" if len(table) > 1 else str(table[0])
    return ""


@contextmanager
def _reading(table: Table) -> Iterator[None]:
    """DuckDB's and arrow's complaints as ours."""
    import duckdb

    try:
        yield
    except (duckdb.Error, OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0][:300]
        raise PartitionUnreadableError(
            f"it cannot be counted: {first}", where=_called(table), way_out="check that it is whole, and its format"
        ) from error


# --- SQL -------------------------------------------------------------------------------------------------------------


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _texts(files: Sequence[Path]) -> str:
    return f"[{', '.join(_text(str(file)) for file in files)}]"


def _listed(values: Sequence[str]) -> str:
    """A relation ``known`` of names and their places."""
    rows = ", ".join(f"({_text(value)}, {place})" for place, value in enumerate(values))
    return f"(VALUES {rows}) AS known(name, place)" if rows else "(SELECT '' AS name, 0 AS place LIMIT 0) AS known"


def _types(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    rows = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()  # noqa: S608  # quoted
    return {str(row[0]): str(row[1]) for row in rows}


def _rows(connection: duckdb.DuckDBPyConnection, source: _Source) -> int:
    """:raises NoRowsError: there is none."""
    rows = int(_one(connection, f"SELECT count(*) FROM {source.relation}")[0])  # noqa: S608  # quoted
    if not rows:
        raise NoRowsError("the table has no row", where=source.where, way_out="check which rows were selected")
    return rows


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The answer of a query that has one row; all of it is fetched, or the connection would wait for more."""
    return tuple(connection.execute(query).fetchall()[0])


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(_NESTED)


def _is_integer(kind: str) -> bool:
    return kind.removeprefix("U") in _INTEGERS


def _is_number(kind: str) -> bool:
    return _is_integer(kind) or kind in {"FLOAT", "DOUBLE"} or kind.startswith("DECIMAL")


def _is_time(kind: str) -> bool:
    return kind.startswith(("TIMESTAMP", "DATE", "TIME"))


def _as_number(name: str, kind: str) -> str:
    """A column as a float; whatever is no number is missing."""
    if kind in {"DOUBLE", "FLOAT"}:
        return f"CAST({_quoted(name)} AS DOUBLE)"
    readable = _is_number(kind) or kind in {"VARCHAR", "BOOLEAN"} or kind.startswith("ENUM")
    return f"TRY_CAST({_quoted(name)} AS DOUBLE)" if readable else "CAST(NULL AS DOUBLE)"


def _as_text(name: str, kind: str) -> str:
    """A column as a category's name: 3 and 3.0 are the same one."""
    column = _quoted(name)
    if _is_nested(kind):
        return "CAST(NULL AS VARCHAR)"
    if kind in {"FLOAT", "DOUBLE"} or kind.startswith("DECIMAL"):
        number = f"CAST({column} AS DOUBLE)"
        whole = f"abs({number}) < 9007199254740992 AND {number} = floor({number})"
        plain = f"CAST(CAST({number} AS BIGINT) AS VARCHAR)"
        return f"CASE WHEN isnan({number}) THEN NULL WHEN {whole} THEN {plain} ELSE CAST({column} AS VARCHAR) END"
    return column if kind == "VARCHAR" else f"CAST({column} AS VARCHAR)"


def _is_boolean(frame: ColumnFrame) -> bool:
    return bool(frame.categories) and set(frame.categories) <= {"true", "false"}


def _as_boolean(name: str, kind: str) -> str:
    """Numbers as categories of a boolean: many stores keep 1 for true."""
    number = f"CAST({_quoted(name)} AS DOUBLE)"
    return f"CASE WHEN {number} = 1 THEN 'true' WHEN {number} = 0 THEN 'false' ELSE {_as_text(name, kind)} END"


def _as_time(name: str, kind: str) -> str:
    """A column as a point in time in UTC."""
    column = _quoted(name)
    if kind.startswith("TIMESTAMP") and ("TZ" in kind or "ZONE" in kind):
        return f"timezone('UTC', CAST({column} AS TIMESTAMPTZ))"
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return f"CAST({column} AS TIMESTAMP)"
    if kind == "VARCHAR" or kind.startswith("ENUM"):
        return f"timezone('UTC', TRY_CAST(CAST({column} AS VARCHAR) AS TIMESTAMPTZ))"
    return "CAST(NULL AS TIMESTAMP)"


def _is_there(frame: ColumnFrame, kind: str) -> str:
    """Whether a row has a value, for columns of which nothing else is counted."""
    column = _quoted(frame.name)
    if frame.kind == "time":
        return f"{column if _is_time(kind) else _as_time(frame.name, kind)} IS NOT NULL"
    return f"({column} IS NOT NULL AND NOT isnan({column}))" if kind in {"FLOAT", "DOUBLE"} else f"{column} IS NOT NULL"


def _place(frame: ColumnFrame) -> str:
    """The whole number that says which bin ``z`` falls into; one of ``first`` and ``last`` may be beyond them."""
    if not frame.curved:
        return f"floor(least(greatest({frame.steps!r}::DOUBLE * z, {frame.first}.0::DOUBLE), {frame.last}.0::DOUBLE))"
    # The inverse hyperbolic sine in half its time, but for squares that overflow, and up to the last digit of 1.
    narrow = max(abs(frame.first), abs(frame.last)) < _WIDE * frame.steps
    t = "sign(z) * ln(abs(z) + sqrt(z * z + 1.0::DOUBLE))" if narrow else "asinh(z)"
    # The curve leaves few places beyond the ends, so that they are cheaper put together later.
    return f"floor({frame.steps!r}::DOUBLE * {t})"


# --- A frame ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _FrameMaker:
    """Looks at a sample, a column at a time."""

    connection: duckdb.DuckDBPyConnection
    source: _Source
    step: int
    sampled: str

    def frame(self, name: str, kind: str, categorical: bool) -> ColumnFrame:  # noqa: FBT001  # private
        if _is_number(kind) and not categorical:
            return number_frame(name, self._numbers(name, kind))
        if _is_nested(kind):
            note = f"values of type {kind.lower()[:60]} are compared by what a declared callable makes of them"
            return uncounted_frame(name, f"{note}; only missing values are counted")
        if _is_time(kind):
            return time_frame(name)
        return self._categories(name, kind)

    def _numbers(self, name: str, kind: str) -> Any:
        import numpy as np

        query = f"SELECT coalesce({_as_number(name, kind)}, 'nan'::DOUBLE) AS x FROM {self.sampled}"  # noqa: S608
        return np.asarray(self.connection.execute(query).fetchnumpy()["x"], dtype=float)

    def _categories(self, name: str, kind: str) -> ColumnFrame:
        values = f"(SELECT {_as_text(name, kind)} AS v FROM {self.sampled})"  # noqa: S608  # quoted
        present, distinct = _one(self.connection, f"SELECT count(v), count(DISTINCT v) FROM {values}")  # noqa: S608
        found = self.connection.execute(
            f"SELECT v, count(*) AS n FROM {values} WHERE v IS NOT NULL AND length(v) <= {LONGEST_CATEGORY}"  # noqa: S608
            f" GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {CATEGORIES}"
        ).fetchall()
        known = [(str(value), int(rows)) for value, rows in found]
        complete = distinct == len(known) and (self.step == 1 or self._holds_no_other(name, kind, known))
        return category_frame(name, known, present=present, distinct=distinct, complete=complete)

    def _holds_no_other(self, name: str, kind: str, known: Sequence[tuple[str, int]]) -> bool:
        """Whether the whole table has the sample's categories only."""
        values = f"(SELECT {_as_text(name, kind)} AS v FROM {self.source.relation})"  # noqa: S608  # quoted
        names = _listed([value for value, _ in known])
        query = f"SELECT count(*) FROM {values} ANTI JOIN {names} ON v = name WHERE v IS NOT NULL"  # noqa: S608
        return not _one(self.connection, query)[0]


# --- Counts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grouping:
    """What makes a row's block."""

    key: str | None
    """SQL of a whole number of microseconds, or of a text; ``None``: there are no blocks."""
    unit: str | None = None

    @classmethod
    def of(cls, block: str | None, time: str | None, types: dict[str, str], where: str) -> _Grouping:
        if block is None:
            return cls(None)
        if block in PERIODS and time is not None:
            known_columns([time], types, where)
            if not (_is_time(types[time]) or types[time] == "VARCHAR" or types[time].startswith("ENUM")):
                raise ColumnError(f"{time!r} holds no points in time but {types[time].lower()}", where=where)
            moment = _as_time(time, types[time])
            inside = f"{moment} >= TIMESTAMP '0001-01-01' AND {moment} < TIMESTAMP '9999-12-31'"
            key = f"CASE WHEN {inside} THEN epoch_us(date_trunc('{block}', {moment})) ELSE {NO_BLOCK_KEY} END"
            return cls(key, block)
        if block in PERIODS and block not in types:
            raise ColumnError(f"blocks by {block} need a time column", where=where, way_out="name one as time")
        known_columns([block], types, where)
        return cls(f"coalesce({_as_text(block, types[block])}, {_text(NO_BLOCK)})")


def _blocks(connection: duckdb.DuckDBPyConnection, source: _Source, grouping: _Grouping) -> Blocks:
    """Which blocks there are, and how many rows."""
    if grouping.key is None:
        return Blocks.none(_rows(connection, source))
    query = f"SELECT {grouping.key} AS b, count(*) FROM {source.relation} GROUP BY 1 LIMIT {MOST_BLOCKS + 1}"  # noqa: S608
    found = connection.execute(query).fetchall()
    return Blocks.of([(key, int(rows)) for key, rows in found], unit=grouping.unit, where=source.where)


@dataclass(frozen=True)
class _Counter:
    """Counts one column after the other."""

    connection: duckdb.DuckDBPyConnection
    source: _Source
    grouping: _Grouping
    blocks: Blocks

    def count(self, frame: ColumnFrame, kind: str) -> ColumnProfile:
        """One column's counts; its type may be another than the reference's."""
        if frame.kind == "number":
            return self._number(frame, kind)
        if frame.kind == "category":
            return self._category(frame, kind)
        there = f"(SELECT 0 AS bin{self._key()} FROM {self.source.relation} WHERE {_is_there(frame, kind)})"  # noqa: S608
        return column_profile(frame, self.blocks, self._grouped(frame, there))

    def _number(self, frame: ColumnFrame, kind: str) -> ColumnProfile:
        x, b = _as_number(frame.name, kind), ", b" if self.grouping.key is not None else ""
        # NaN is the greatest number: neither it nor NULL is below it, and files skip what fails so plain a condition.
        relation = (
            f"(SELECT {_place(frame)} AS bin, x, z{b}"  # noqa: S608  # quoted
            f" FROM (SELECT x, (x - {frame.center!r}::DOUBLE) / {frame.scale!r}::DOUBLE AS z{b}"
            f" FROM (SELECT {x} AS x{self._key()} FROM {self.source.relation}) WHERE x < 'nan'::DOUBLE))"
        )
        grouped = self._grouped(frame, relation, ", sum(z) AS s, sum(z * z) AS q, min(x) AS low, max(x) AS high")
        moments = grouped.moments(frame)
        return column_profile(frame, self.blocks, grouped, moments or self._exact_moments(x))

    def _exact_moments(self, x: str) -> Moments:
        """Slower, for columns that hold infinite values, or are too wide for sums of squares."""
        values = f"(SELECT {x} AS x FROM {self.source.relation})"  # noqa: S608  # quoted
        finite = f"(SELECT x FROM {values} WHERE isfinite(x))"  # noqa: S608
        infinite = _one(self.connection, f"SELECT count(*) FROM {values} WHERE isinf(x)")[0]  # noqa: S608
        rows, low, high = _one(self.connection, f"SELECT count(*), min(x), max(x) FROM {finite}")  # noqa: S608
        if not rows:
            return Moments(infinite=infinite)
        size = max(abs(low), abs(high)) or 1.0
        mean = _one(self.connection, f"SELECT avg(x / {size!r}::DOUBLE) FROM {finite}")[0]  # noqa: S608
        away = f"(x / {size!r}::DOUBLE - {mean!r}::DOUBLE)"
        deviation = _one(self.connection, f"SELECT sqrt(avg({away} * {away})) FROM {finite}")[0]  # noqa: S608
        return Moments(mean=mean * size, deviation=deviation * size, low=low, high=high, infinite=infinite)

    def _category(self, frame: ColumnFrame, kind: str) -> ColumnProfile:
        last = len(frame.categories)
        key, b = self._key(), ", b" if self.grouping.key is not None else ""
        name = _as_boolean(frame.name, kind) if _is_boolean(frame) and _is_number(kind) else _as_text(frame.name, kind)
        values = f"(SELECT {name} AS v{key} FROM {self.source.relation})"  # noqa: S608  # quoted
        # Of few categories, their rows are counted before they are looked up: files keep them in a dictionary.
        rows = f"(SELECT v{b}, count(*) AS c FROM {values} GROUP BY ALL)" if frame.complete else values  # noqa: S608
        relation = (
            f"(SELECT coalesce(place, {last}) AS bin{b}, {'c' if frame.complete else '1'} AS c"  # noqa: S608  # quoted
            f" FROM {rows} LEFT JOIN {_listed(frame.categories)} ON v = name WHERE v IS NOT NULL)"
        )
        return column_profile(frame, self.blocks, self._grouped(frame, relation, rows="CAST(sum(c) AS BIGINT)"))

    def _key(self) -> str:
        return f", {self.grouping.key} AS b" if self.grouping.key is not None else ""

    def _grouped(self, frame: ColumnFrame, relation: str, sums: str = "", rows: str = "count(*)") -> Grouped:
        """Rows per bin and, where there are blocks, per block and cell."""
        if self.grouping.key is None:
            query = f"SELECT bin, {rows} AS n{sums} FROM {relation} GROUP BY bin"  # noqa: S608  # quoted
            return Grouped.of(self._arrays(query), frame)
        ends = [end + frame.first for end in frame.cells[:-1]]
        branches = " ".join(f"WHEN bin <= {end} THEN {cell}" for cell, end in enumerate(ends))
        cell = f"CASE {branches} ELSE {len(ends)} END" if branches else "0"
        query = (
            f"SELECT bin, cell, b, {rows} AS n{sums} FROM (SELECT *, {cell} AS cell FROM {relation})"  # noqa: S608
            " GROUP BY GROUPING SETS ((bin), (b, cell))"
        )
        return Grouped.of(self._arrays(query), frame)

    def _arrays(self, query: str) -> dict[str, Any]:
        return dict(self.connection.execute(query).fetchnumpy())
