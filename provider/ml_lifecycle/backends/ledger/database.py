"""A database that can be looked at and added to, and nothing else."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ml_lifecycle.core.errors import LedgerError, ServiceUnavailableError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Table

Row = dict[str, Any]
Result = TypeVar("Result")

WAIT_S = 30
"""How long a writer waits for another one."""
_TRIES = 5
_PAUSE_S = 0.02
_WRITES = "ml_lifecycle_writes"
_LIBPQ = ("postgresql+psycopg", "postgresql+psycopg2")


class Transaction:
    """Look-ups by equality, and inserts: what is written can be neither changed nor removed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, table: str, *order: str, **equals: Any) -> list[Row]:
        """All rows whose columns have these values, sorted."""
        found = self._connection.execute(self._select(table, equals).order_by(*(self._column(table, o) for o in order)))
        return [dict(row) for row in found.mappings()]

    def newest_rows(
        self, table: str, by: str, limit: int | None, held: Mapping[str, str | int] | None = None, **equals: Any
    ) -> list[Row]:
        """The rows with the highest values of ``by``, highest first; all of them without a limit.

        :param held: Values that the JSON in ``content`` holds, by their path, such as ``dataset.fingerprint``.
        """
        conditions = [self._held(table, path) == self._as_held(value) for path, value in (held or {}).items()]
        statement = self._select(table, equals).where(*conditions).order_by(self._column(table, by).desc()).limit(limit)
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def row(self, table: str, **equals: Any) -> Row | None:
        """One row whose columns have these values."""
        found = self._connection.execute(self._select(table, equals).limit(1)).mappings().first()
        return dict(found) if found is not None else None

    def newest(self, table: str, by: str, **equals: Any) -> Row | None:
        """The row with the highest value of ``by``."""
        return next(iter(self.newest_rows(table, by, 1, **equals)), None)

    def values(self, table: str, column: str, **equals: Any) -> list[Any]:
        """The different values of one column, sorted."""
        from sqlalchemy import select

        wanted = self._column(table, column)
        conditions = (self._column(table, name) == value for name, value in equals.items())
        return list(self._connection.execute(select(wanted).distinct().where(*conditions).order_by(wanted)).scalars())

    def add(self, table: str, row: Row) -> None:
        """Insert one row."""
        self._connection.execute(_table(table).insert().values(row))

    @contextmanager
    def undone_by_an_error(self) -> Iterator[None]:
        """What was added within is taken back where it ends with an error; the transaction goes on."""
        with self._connection.begin_nested():
            yield

    def _held(self, table: str, path: str) -> Any:
        """The value at a path of a row's content, as text."""
        from sqlalchemy import Text, cast, func
        from sqlalchemy.dialects.postgresql import JSONB

        content = self._column(table, "content")
        if self._connection.dialect.name == "sqlite":
            return cast(func.json_extract(content, f"$.{path}"), Text)
        return func.jsonb_extract_path_text(cast(content, JSONB), *path.split("."))

    def _as_held(self, value: str | int) -> str:
        """A value as the text that the database makes of it: SQLite has 1 and 0 for true and false."""
        if isinstance(value, bool) and self._connection.dialect.name != "sqlite":
            return str(value).lower()
        return str(int(value) if isinstance(value, bool) else value)

    def _select(self, table: str, equals: Row) -> Any:
        return _table(table).select().where(*(self._column(table, name) == value for name, value in equals.items()))

    @staticmethod
    def _column(table: str, name: str) -> Any:
        return _table(table).c[name]


class Database:
    """Short transactions, each on a connection of its own, so that a forked process shares none.

    :param url: ``sqlite:////absolute/path.db`` or ``postgresql+<driver>://user:password@host/name``.
    :raises LedgerError: the URL is none of these.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._prepared = False
        self._made: Engine | None = None

    @property
    def where(self) -> str:
        """The database as a person may see it: without user, password and options."""
        from sqlalchemy import URL

        url = self._url
        return URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Do the work on one consistent state of the tables."""
        self._prepare()
        with self._translated(), self._engine.connect() as connection:
            if not self._is_sqlite:
                # Of several look-ups in one transaction, each would else see what was committed in between.
                connection.execution_options(isolation_level="REPEATABLE READ")
            return work(Transaction(connection))

    def write(self, work: Callable[[Transaction], Result], *, lock: str) -> Result:
        """Do the work in one transaction; when another writer was first, do it again on what that one wrote.

        :param lock: Writers with the same word wait for each other.
        """
        from sqlalchemy.exc import IntegrityError

        self._prepare()
        for _ in range(_TRIES):
            try:
                return self._transact(work, lock)
            except IntegrityError as error:  # noqa: PERF203  # a lost race is found by running into it
                reason = self._safe(error)
        raise ServiceUnavailableError(
            f"the ledger did not take a row after {_TRIES} tries: {reason}", where=self.where, way_out="try again"
        )

    def _transact(self, work: Callable[[Transaction], Result], lock: str) -> Result:
        with self._translated(), self._engine.connect() as plain:
            connection = plain.execution_options(**{_WRITES: True})
            with connection.begin():
                self._wait_for(connection, lock)
                return work(Transaction(connection))

    def _wait_for(self, connection: Connection, lock: str) -> None:
        if self._is_sqlite:
            return  # BEGIN IMMEDIATE has waited already
        from sqlalchemy import text

        for limit in ("lock_timeout", "statement_timeout"):
            connection.execute(text("SELECT set_config(:limit, :most, true)"), {"limit": limit, "most": f"{WAIT_S}s"})
        key = int.from_bytes(hashlib.sha256(lock.encode()).digest()[:8], "big", signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    # --- The first use -----------------------------------------------------------------------------------------------

    def prepare(self) -> tuple[int | None, int]:
        """Bring the tables to this package's version, and refuse those of a newer one.

        :returns: The versions before and after; ``None`` where there were no tables.
        """
        from sqlalchemy.exc import IntegrityError

        newest = _newest_version()
        if self._is_sqlite:
            self._prepare_file(Path(str(self._url.database)))
        before = self._look(self._version)
        if before != newest:
            try:
                self._transact(self._upgrade, "schema")
            except IntegrityError as error:
                raise LedgerError(f"the tables cannot be made: {self._safe(error)}", where=self.where) from None
        self._prepared = True
        return before, newest

    def _prepare(self) -> None:
        """Once per process is enough."""
        if not self._prepared:
            self.prepare()

    def _look(self, work: Callable[[Transaction], Result]) -> Result:
        with self._translated(), self._engine.connect() as connection:
            return work(Transaction(connection))

    def _prepare_file(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"the folder {str(file.parent)!r} cannot be made: {error.strerror}",
                where=self.where,
                way_out="name a file in a folder that this user may write",
            ) from None
        with self._translated():
            self._patiently(self._keep_a_log)

    def _keep_a_log(self) -> None:
        """A write-ahead log lets readers read while somebody writes; the file remembers it."""
        with self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            if driver is not None:
                driver.execute("PRAGMA journal_mode=WAL").close()

    def _patiently(self, work: Callable[[], None]) -> None:
        """SQLite's own patience does not cover the switch to the log, which several first users may try at once."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:  # noqa: PERF203  # as in write
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)

    def _version(self, transaction: Transaction) -> int | None:
        """Of the schema that the database holds; ``None`` where it holds none."""
        from sqlalchemy import inspect

        from ml_lifecycle.backends.ledger import schema

        if not inspect(transaction._connection).has_table(schema.schema_version.name):  # noqa: SLF001  # same module
            return None
        newest = transaction.newest("schema_version", "version")
        version = newest["version"] if newest else None
        if version is not None and version > schema.VERSION:
            raise LedgerError(
                f"the ledger has schema version {version}, this package knows {schema.VERSION}",
                where=self.where,
                way_out="use the version of this package that wrote it, or a newer one",
            )
        return version

    def _upgrade(self, transaction: Transaction) -> None:
        from ml_lifecycle.backends.ledger.upgrade import upgrade

        version = self._version(transaction)
        if version != _newest_version():
            upgrade(transaction._connection, version=version)  # noqa: SLF001  # same module

    # --- Connections -------------------------------------------------------------------------------------------------

    @property
    def _engine(self) -> Engine:
        if self._made is None:
            self._made = self._make_engine()
        return self._made

    def _make_engine(self) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.exc import NoSuchModuleError
        from sqlalchemy.pool import NullPool

        arguments: Row = {"timeout": WAIT_S} if self._is_sqlite else {}
        if self._url.drivername in _LIBPQ:
            arguments = {"connect_timeout": WAIT_S}
        try:
            engine = create_engine(self._url, poolclass=NullPool, connect_args=arguments, hide_parameters=True)
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"the database driver {error.name!r} is not installed in this environment",
                where=self.where,
                way_out=f"pip install {error.name}",
            ) from None
        except NoSuchModuleError:
            raise LedgerError(
                f"SQLAlchemy knows no driver {self._url.drivername!r}",
                where=self.where,
                way_out="name an installed one",
            ) from None
        if self._is_sqlite:
            event.listen(engine, "connect", _configure)
            event.listen(engine, "begin", _begin)
        return engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Foreign errors as ours; a lost race stays what it is, for :meth:`write` to try again."""
        from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

        try:
            yield
        except IntegrityError:
            raise
        except (OperationalError, InterfaceError, sqlite3.OperationalError) as error:
            raise ServiceUnavailableError(
                f"the ledger's database did not do its work: {self._safe(error)}",
                where=self.where,
                way_out="check that it runs, can be reached and may be written",
            ) from None
        except (DBAPIError, sqlite3.DatabaseError) as error:
            raise LedgerError(f"the ledger cannot be used: {self._safe(error)}", where=self.where) from None

    def _safe(self, error: Exception) -> str:
        """What the driver says, in one line without the password."""
        said = str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__]
        password = self._url.password
        return said[0].replace(str(password), "***") if password else said[0]


def _parsed(text: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    way_out = "write sqlite:////absolute/path.db or postgresql+<driver>://user:password@host/name"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise LedgerError("the ledger's URL cannot be read", way_out=way_out) from None
    backend = url.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise LedgerError(f"a ledger cannot be kept in {backend!r}", way_out=way_out)
    if backend == "sqlite" and not Path(url.database or "").is_absolute():
        raise LedgerError(
            f"the ledger's file {url.database or ':memory:'!r} is not an absolute path, so each process has another",
            way_out="write sqlite:////absolute/path.db, with four slashes",
        )
    return _with_driver(url) if url.drivername == "postgresql" else url


def _with_driver(url: URL) -> URL:
    """The PostgreSQL driver that is installed: SQLAlchemy's own choice is one in 2.0 and another in 2.1."""
    installed = (name for name in _LIBPQ if find_spec(name.partition("+")[2]) is not None)
    return url.set(drivername=next(installed, url.drivername))


def _table(name: str) -> Table:
    from ml_lifecycle.backends.ledger import schema

    return schema.metadata.tables[name]


def _newest_version() -> int:
    from ml_lifecycle.backends.ledger import schema

    return schema.VERSION


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions by itself, and not IMMEDIATE
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
