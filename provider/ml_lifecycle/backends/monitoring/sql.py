"""Counting a database's own tables inside it: only counts and the quantiles of a sample leave it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchTableError

from ml_lifecycle.backends.monitoring.base import Profiler
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
    number_bins,
    time_frame,
    uncounted_frame,
    with_cells,
)
from ml_lifecycle.backends.monitoring.profiles import ColumnFrame, ColumnProfile, Frame, Profile
from ml_lifecycle.core.errors import ColumnError, ConfigurationError, DataError, NoRowsError, PartitionMissingError
from ml_lifecycle.core.evaluation import PERIODS

if TYPE_CHECKING:
    from ml_lifecycle.backends.monitoring.base import Table

_QUANTILES: Final = 2000
"""A sample's curve is drawn through the ends of so many groups of equal size."""
_LARGE: Final = 1e300
_HALF: Final = 8e307
"""Two of them are still a float."""
_SQUARES: Final = 1e100
"""Larger numbers are not squared and summed: PostgreSQL ends the query where a float overflows."""
_NUMBER: Final = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?\s*$"
_NO_DAY: Final = r"^0000|^[0-9]{4}-(02-3|(04|06|09|11)-31)"
_LEAP_DAY: Final = r"^[0-9]{4}-02-29"
_TIME: Final = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?(Z|[-+](0[0-9]|1[0-5])(:?[0-5][0-9])?)?)?$"
)

Expression = sa.ColumnElement[Any]


class SqlProfiler(Profiler):
    """Counts a table of PostgreSQL or SQLite, named ``table`` or ``schema.table``, with one query per column.

    Other databases do where they have ``asinh`` and window functions.

    :param database: Whose tables are counted; nothing is written, and a connection's settings stay as they are.
    """

    def __init__(self, database: sa.Engine | sa.Connection) -> None:
        self.database = database

    def frame(self, table: Table, *, columns: Sequence[str] = (), categorical: Sequence[str] = ()) -> Frame:
        """Bins from the quantiles of a sample, which are computed there."""
        with self._opened(table) as opened:
            known_columns((*columns, *categorical), opened.types, opened.where)
            sample = opened.sampled(max(1, opened.rows() // SAMPLE_ROWS))
            names = tuple(columns) or tuple(opened.types)
            return Frame(columns=tuple(sample.frame(name, categorical=name in categorical) for name in names))

    def profile(self, table: Table, frame: Frame, *, block: str | None = None, time: str | None = None) -> Profile:
        """One query per column, and with blocks a second one."""
        with self._opened(table) as opened:
            key = opened.block_key(block, time)
            known_columns([one.name for one in frame.columns], opened.types, opened.where)
            blocks = opened.blocks(key, block if time is not None else None)
            columns = {one.name: opened.count(one, key, blocks) for one in frame.columns}
            return Profile(rows=blocks.total, blocks=blocks.names, columns=columns, by=block)

    @contextmanager
    def _opened(self, table: Table) -> Iterator[_Opened]:
        if not isinstance(table, str):
            raise DataError("a database counts its own tables only", way_out="hand in a table's name")
        try:
            if isinstance(self.database, sa.Connection):
                yield _open(self.database, table)
            else:
                with self.database.connect() as connection:
                    yield _open(connection, table)
        except DBAPIError as error:
            # The statement and its parameters, which the whole message repeats, may be long.
            first = str(error.orig).strip().partition("\n")[0][:300]
            raise DataError(f"it cannot be counted: {first}", where=table, way_out="check the table") from error


def _open(connection: sa.Connection, name: str) -> _Opened:
    """Look at a table's columns.

    :raises ConfigurationError: the database lacks a function.
    :raises PartitionMissingError: it has no such table.
    """
    dialect = _DIALECTS.get(connection.dialect.name, _Dialect)()
    schema, _, bare = name.rpartition(".")
    inspector = sa.inspect(connection)
    try:
        try:
            found = inspector.get_columns(name)
            schema, bare = "", name
        except NoSuchTableError:
            found = inspector.get_columns(bare, schema=schema or None)
    except NoSuchTableError:
        raise PartitionMissingError("there is no such table", where=name, way_out="check its name") from None
    _check_functions(connection)
    types = {str(one["name"]): one["type"] for one in found}
    columns = [sa.column(one, kind) for one, kind in types.items()]
    table = sa.table(bare, *columns, schema=schema) if schema else sa.table(bare, *columns)
    return _Opened(connection, dialect, table, types, name)


def _check_functions(connection: sa.Connection) -> None:
    try:
        with connection.begin_nested() if connection.in_transaction() else connection.begin():
            connection.execute(sa.select(sa.func.asinh(1.0)))
    except DBAPIError:
        raise ConfigurationError(
            f"this {connection.dialect.name} has no asinh()",
            way_out="export the table, and profile the file",
        ) from None


class _Dialect:
    """Standard SQL, as far as there is one."""

    def number(self, column: Expression) -> Expression:
        """A column as a float; whatever is no number is missing."""
        kind = column.type
        if isinstance(kind, sa.Boolean):
            return sa.case((column.is_(sa.true()), 1.0), (column.is_(sa.false()), 0.0))
        return (
            sa.cast(column, sa.Double)
            if isinstance(kind, sa.Numeric | sa.Float | sa.Integer)
            else sa.cast(sa.null(), sa.Double)
        )

    def text(self, column: Expression) -> Expression:
        """A column as a category's name."""
        kind = column.type
        if isinstance(kind, sa.Boolean):
            return sa.case((column.is_(sa.true()), "true"), (column.is_(sa.false()), "false"))
        if isinstance(kind, sa.Numeric | sa.Float):
            x = self.number(column)
            return sa.case(
                (self.is_nan(x), sa.null()),
                (self.is_whole(x), sa.cast(sa.cast(x, sa.BigInteger), sa.Text)),
                else_=sa.cast(column, sa.Text),
            )
        return sa.cast(column, sa.Text)

    def is_nan(self, x: Expression) -> Expression:
        """Whether a float, or nothing, is no number."""
        return x.is_(None)

    def is_infinite(self, x: Expression) -> Expression:
        return sa.func.abs(x) > 1.7976931348623157e308  # noqa: PLR2004  # the greatest float

    def floor(self, x: Expression) -> Expression:
        """The whole number at or below a float that is neither huge nor infinite."""
        return sa.func.floor(x)

    def is_whole(self, x: Expression) -> Expression:
        """Whether a float, or nothing, is a whole number that floats tell from the next one."""
        most = sa.literal(2.0**53)
        return sa.case((sa.and_(x < most, x > -most), x == self.floor(x)), else_=sa.false())

    def clamped(self, x: Expression, first: int, last: int) -> Expression:
        """A float within bounds; infinite ones, too."""
        return sa.case((x < first, float(first)), (x > last, float(last)), else_=x)

    def standardized(self, x: Expression, frame: ColumnFrame) -> Expression:
        """``(x - center) / scale``, kept between what a database may overflow or underflow."""
        x = sa.case((x > _HALF, _HALF), (x < -_HALF, -_HALF), else_=x)
        away = x - sa.literal(max(min(frame.center, _HALF), -_HALF), sa.Double)
        most, least = frame.scale * _LARGE, frame.scale / _LARGE
        branches: list[Any] = [(sa.func.abs(away) < least, 0.0)] if least > 0 else [(away == 0.0, 0.0)]
        if most < _LARGE:
            branches += [(away > most, _LARGE), (away < -most, -_LARGE)]
        return sa.case(*branches, else_=away / sa.literal(frame.scale, sa.Double))

    def every(self, table: sa.FromClause, step: int) -> sa.FromClause:  # noqa: ARG002  # others take a sample
        """About every k-th row, the same ones each time."""
        return table

    def moment(self, column: Expression, unit: str) -> Expression:  # noqa: ARG002  # others know both
        """The beginning of the unit of time, in microseconds since 1970; nothing for what is no point in time."""
        raise ConfigurationError("blocks of time are not counted in this database", way_out="name a column as block")

    def point(self, column: Expression) -> Expression:
        """Something that is missing where a column is no point in time."""
        return column if isinstance(column.type, sa.Date | sa.DateTime | sa.Time) else sa.null()


class _PostgreSql(_Dialect):
    def number(self, column: Expression) -> Expression:
        if isinstance(column.type, sa.String):
            readable = sa.and_(column.regexp_match(_NUMBER), sa.func.length(column) <= 40)  # noqa: PLR2004  # no overflow
            return sa.case((readable, sa.cast(column, sa.Double)))
        return super().number(column)

    def is_nan(self, x: Expression) -> Expression:
        return sa.or_(x.is_(None), x == sa.literal(float("nan"), sa.Double))

    def is_infinite(self, x: Expression) -> Expression:
        return sa.and_(super().is_infinite(x), x != sa.literal(float("nan"), sa.Double))

    def every(self, table: sa.FromClause, step: int) -> sa.FromClause:
        return sa.tablesample(table, sa.func.bernoulli(100 / step), seed=sa.literal(0), name="sampled")

    def point(self, column: Expression) -> Expression:
        if isinstance(column.type, sa.String):
            # A time without a zone is one in UTC.
            zoned = sa.case((column.regexp_match(r"(Z|[ T].*[-+][0-9:]+)$"), column), else_=column + sa.literal(" UTC"))
            year = sa.cast(sa.func.substr(column, 1, 4), sa.Integer)
            common = sa.or_(year % 4 != 0, sa.and_(year % 100 == 0, year % 400 != 0))
            # A text that only looks like a day would end the query; branches of CASE are tried in their order.
            return sa.case(
                (sa.not_(column.regexp_match(_TIME)), sa.null()),
                (column.regexp_match(_NO_DAY), sa.null()),
                (sa.case((column.regexp_match(_LEAP_DAY), common), else_=sa.false()), sa.null()),
                (column.is_not(None), sa.cast(zoned, sa.DateTime(timezone=True))),
            )
        return super().point(column)

    def moment(self, column: Expression, unit: str) -> Expression:
        point = self.point(column)
        if isinstance(column.type, sa.String) or getattr(column.type, "timezone", False):
            point = sa.func.timezone("UTC", point)
        point = sa.cast(point, sa.DateTime)
        inside = point.between(sa.text("TIMESTAMP '0001-01-01'"), sa.text("TIMESTAMP '9999-12-30'"))
        start = sa.extract("epoch", sa.func.date_trunc(unit, point))
        return sa.case((inside, sa.cast(start * 1_000_000, sa.BigInteger)))


class _Sqlite(_Dialect):
    def floor(self, x: Expression) -> Expression:
        # SQLAlchemy puts a function of Python in the place of floor().
        cut = sa.cast(x, sa.Integer)
        return sa.case((x < cut, cut - 1), else_=cut)

    def number(self, column: Expression) -> Expression:
        text = sa.func.trim(sa.cast(column, sa.Text))
        rest = sa.func.substr(text, 2)
        readable = sa.and_(
            sa.func.typeof(column) == "text",
            text.op("GLOB")("*[0-9]*"),
            sa.not_(text.op("GLOB")("*[^0-9.eE+-]*")),
            sa.not_(text.op("GLOB")("[eE]*")),
            sa.not_(text.op("GLOB")("*.*.*")),
            sa.not_(rest.op("GLOB")("*[0-9.][+-]*")),
        )
        if isinstance(column.type, sa.Date | sa.DateTime | sa.Time):
            return sa.cast(sa.null(), sa.Double)
        # A column of any type may hold values of any other one.
        return sa.case(
            (sa.func.typeof(column).in_(["integer", "real"]), sa.cast(column, sa.REAL)),
            (readable, sa.cast(text, sa.REAL)),
        )

    def text(self, column: Expression) -> Expression:
        if isinstance(column.type, sa.Boolean):
            return super().text(column)
        x = sa.cast(column, sa.REAL)
        whole = sa.and_(
            sa.func.typeof(column) == "real", sa.func.abs(x) < float(2**53), x == sa.cast(column, sa.Integer)
        )
        return sa.case((whole, sa.cast(sa.cast(column, sa.Integer), sa.Text)), else_=sa.cast(column, sa.Text))

    def standardized(self, x: Expression, frame: ColumnFrame) -> Expression:
        return (x - sa.literal(frame.center)) / sa.literal(frame.scale)

    def every(self, table: sa.FromClause, step: int) -> sa.FromClause:
        rows: Expression = sa.literal_column("rowid")
        return sa.select(*table.c).where(rows % step == 0).subquery("sampled")

    def point(self, column: Expression) -> Expression:
        # Without the pattern, SQLite reads "now" as the time of the query, and a number as a Julian day.
        likely = sa.cast(column, sa.Text).op("GLOB")("[0-9][0-9][0-9][0-9]-[0-9][0-9]-*")
        return sa.case((likely, sa.func.strftime("%Y-%m-%d %H:%M:%f", column)))

    def moment(self, column: Expression, unit: str) -> Expression:
        point = self.point(column)
        if unit == "hour":
            start = sa.func.strftime("%s", sa.func.strftime("%Y-%m-%d %H:00:00", point))
        elif unit == "week":
            start = sa.func.strftime("%s", point, "start of day", "-6 days", "weekday 1")
        else:
            start = sa.func.strftime("%s", point, f"start of {unit}")
        return sa.cast(start, sa.Integer) * 1_000_000


_DIALECTS: Final = {"postgresql": _PostgreSql, "sqlite": _Sqlite}


def _is_nested(kind: Any) -> bool:
    return isinstance(kind, sa.LargeBinary | sa.JSON | sa.ARRAY) or str(kind).startswith("INTERVAL")


def _is_time(kind: Any) -> bool:
    return isinstance(kind, sa.Date | sa.DateTime | sa.Time)


@dataclass(frozen=True)
class _Opened:
    """One table, and the connection that counts it."""

    connection: sa.Connection
    dialect: _Dialect
    table: sa.FromClause
    types: dict[str, Any]
    where: str
    step: int = 1

    def rows(self) -> int:
        """:raises NoRowsError: there is none."""
        found = int(self._one(sa.select(sa.func.count()).select_from(self.table))[0])
        if not found:
            raise NoRowsError("the table has no row", where=self.where, way_out="check which rows were selected")
        return found

    def sampled(self, step: int) -> _Opened:
        """The same with about every k-th row."""
        if step == 1:
            return self
        table = self.dialect.every(self.table, step)
        return _Opened(self.connection, self.dialect, table, self.types, self.where, step)

    # --- A frame -----------------------------------------------------------------------------------------------------

    def frame(self, name: str, *, categorical: bool) -> ColumnFrame:
        """How one column is cut."""
        kind = self.types[name]
        if isinstance(kind, sa.Numeric | sa.Float | sa.Integer) and not categorical:
            return self._number_frame(name)
        if _is_nested(kind):
            note = "such values are compared by what a declared callable makes of them; only missing values are counted"
            return uncounted_frame(name, note)
        return time_frame(name) if _is_time(kind) else self._category_frame(name)

    def _number_frame(self, name: str) -> ColumnFrame:
        import numpy as np

        x = self.dialect.number(self.table.c[name]).label("x")
        values = sa.select(x).subquery()
        finite = sa.and_(sa.not_(self.dialect.is_nan(values.c.x)), sa.not_(self.dialect.is_infinite(values.c.x)))
        group = sa.func.ntile(_QUANTILES).over(order_by=values.c.x).label("part")
        parts = sa.select(values.c.x, group).where(finite).subquery()
        ends = self.connection.execute(
            sa.select(sa.func.min(parts.c.x), sa.func.max(parts.c.x)).group_by(parts.c.part)
        ).all()
        broken = sa.select(sa.func.count()).where(finite, sa.not_(self.dialect.is_whole(values.c.x)))
        frame = number_bins(name, np.array(ends, dtype=float).ravel(), whole=not self._one(broken)[0])
        return with_cells(frame, column_profile(frame, Blocks.none(0), self._numbers(frame)).counts)

    def _category_frame(self, name: str) -> ColumnFrame:
        values = sa.select(self.dialect.text(self.table.c[name]).label("v")).subquery()
        present, distinct = self._one(sa.select(sa.func.count(values.c.v), sa.func.count(values.c.v.distinct())))
        rows = sa.func.count().label("n")
        found = self.connection.execute(
            sa.select(values.c.v, rows)
            .where(values.c.v.is_not(None), sa.func.length(values.c.v) <= LONGEST_CATEGORY)
            .group_by(values.c.v)
            .order_by(rows.desc(), values.c.v)
            .limit(CATEGORIES)
        ).all()
        known = [(str(value), int(number)) for value, number in found]
        complete = distinct == len(known) and self.step == 1
        return category_frame(name, known, present=present, distinct=distinct, complete=complete)

    # --- Counts ------------------------------------------------------------------------------------------------------

    def block_key(self, block: str | None, time: str | None) -> Expression | None:
        """What makes a row's block; ``None``: nothing."""
        if block is None:
            return None
        if block in PERIODS and time is not None:
            known_columns([time], self.types, self.where)
            if not (_is_time(self.types[time]) or isinstance(self.types[time], sa.String)):
                raise ColumnError(f"{time!r} holds no points in time but {self.types[time]}", where=self.where)
            return sa.func.coalesce(self.dialect.moment(self.table.c[time], block), NO_BLOCK_KEY)
        if block in PERIODS and block not in self.types:
            raise ColumnError(f"blocks by {block} need a time column", where=self.where, way_out="name one as time")
        known_columns([block], self.types, self.where)
        return sa.func.coalesce(self.dialect.text(self.table.c[block]), NO_BLOCK)

    def blocks(self, key: Expression | None, unit: str | None) -> Blocks:
        """Which blocks there are, and how many rows."""
        if key is None:
            return Blocks.none(self.rows())
        keys = sa.select(key.label("b")).subquery()
        query = sa.select(keys.c.b, sa.func.count()).group_by(keys.c.b).limit(MOST_BLOCKS + 1)
        found = [(one, int(rows)) for one, rows in self.connection.execute(query)]
        return Blocks.of(found, unit=unit if unit in PERIODS else None, where=self.where)

    def count(self, frame: ColumnFrame, key: Expression | None, blocks: Blocks) -> ColumnProfile:
        """One column's counts."""
        if frame.kind != "number":
            return column_profile(frame, blocks, self._grouped(self._others(frame), frame, key))
        grouped = self._numbers(frame, key)
        return column_profile(frame, blocks, grouped, grouped.moments(frame) or self._exact_moments(frame.name))

    def _others(self, frame: ColumnFrame) -> Expression:
        """The bin of a value that is no number; nothing where there is none."""
        column = self.table.c[frame.name]
        if frame.kind == "time":
            return sa.case((self.dialect.point(column).is_not(None), 0))
        if frame.kind == "identifier":
            return sa.case((column.is_not(None), 0))
        text = self.dialect.text(column) if not _is_nested(self.types[frame.name]) else sa.cast(sa.null(), sa.Text)
        if not frame.categories:
            return sa.case((text.is_not(None), 0))
        places = {value: place for place, value in enumerate(frame.categories)}
        return sa.case((text.is_not(None), sa.case(places, value=text, else_=len(places))))

    def _numbers(self, frame: ColumnFrame, key: Expression | None = None) -> Grouped:
        x = self.dialect.number(self.table.c[frame.name])
        keys = [] if key is None else [key.label("b")]
        values = sa.select(x.label("x"), *keys).subquery()
        shifted = sa.select(values, self.dialect.standardized(values.c.x, frame).label("z")).subquery()
        z, x = shifted.c.z, shifted.c.x
        t = sa.func.asinh(z) if frame.curved else z
        place = self.dialect.clamped(t * sa.literal(frame.steps, sa.Double), frame.first, frame.last)
        bin_of = sa.cast(self.dialect.floor(place), sa.Integer)
        bins = sa.case((sa.not_(self.dialect.is_nan(x)), bin_of))
        small = sa.and_(sa.func.abs(z) < _SQUARES, sa.func.abs(x) < _HALF)
        sums = [
            sa.func.sum(sa.case((small, z))).label("s"),
            sa.func.sum(sa.case((small, z * z))).label("q"),
            sa.func.min(x).label("low"),
            sa.func.max(x).label("high"),
            sa.func.count(sa.case((sa.not_(small), 1))).label("large"),
        ]
        return self._grouped(bins, frame, shifted.c.b if key is not None else None, sums)

    def _grouped(
        self, bins: Expression, frame: ColumnFrame, key: Expression | None, sums: Sequence[Expression] = ()
    ) -> Grouped:
        import numpy as np

        group = sa.select(bins.label("bin"), sa.func.count().label("n"), *sums).where(bins.is_not(None))
        rows = self.connection.execute(group.group_by(sa.text("1"))).all()
        columns = {name: [row._mapping[name] for row in rows] for name in ("bin", "n", *(one.name for one in sums))}  # noqa: SLF001
        found = Grouped.of({name: np.array(values, dtype=float) for name, values in columns.items()}, frame)
        if key is None:
            return found
        placed = sa.select(bins.label("bin"), key.label("b")).where(bins.is_not(None)).subquery()
        cell = sa.case(*((placed.c.bin <= end + frame.first, cell) for cell, end in enumerate(frame.cells)))
        query = sa.select(placed.c.b, cell.label("cell"), sa.func.count()).group_by(sa.text("1"), sa.text("2"))
        answer = self.connection.execute(query).all()
        return found.with_blocks([(one, int(place), int(number)) for one, place, number in answer])

    def _exact_moments(self, name: str) -> Moments:
        """Slower, for columns that hold infinite values, or are too wide for sums of squares."""
        values = sa.select(self.dialect.number(self.table.c[name]).label("x")).subquery()
        x, infinite = values.c.x, self.dialect.is_infinite(values.c.x)
        unbounded = int(self._one(sa.select(sa.func.count()).where(infinite))[0])
        finite = sa.and_(sa.not_(self.dialect.is_nan(x)), sa.not_(infinite))
        rows, low, high = self._one(sa.select(sa.func.count(), sa.func.min(x), sa.func.max(x)).where(finite))
        if not rows:
            return Moments(infinite=unbounded)
        size = max(abs(low), abs(high)) or 1.0
        # Beside the greatest value such small ones are nothing, and PostgreSQL ends a query where a float underflows.
        share = sa.case((sa.func.abs(x) < size / _SQUARES, 0.0), else_=x / sa.literal(size, sa.Double))
        mean = float(self._one(sa.select(sa.func.avg(share)).where(finite))[0])
        away = share - sa.literal(mean, sa.Double)
        square = sa.case((sa.func.abs(away) < 1 / _SQUARES, 0.0), else_=away * away)
        variance = float(self._one(sa.select(sa.func.avg(square)).where(finite))[0])
        return Moments(mean * size, math.sqrt(variance) * size, float(low), float(high), unbounded)

    def _one(self, query: sa.Executable) -> tuple[Any, ...]:
        return tuple(self.connection.execute(query).one())
