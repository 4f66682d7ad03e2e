"""Files on a disk that every worker sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.data.base import DataStore, FileState
from ml_lifecycle.backends.files import (
    digest_of_folder,
    file_digest,
    inside,
    publish_file,
    publish_folder,
    read_parquet,
    remove_folder,
    verify_folder,
)
from ml_lifecycle.core.data import PLACEHOLDER, partition_of
from ml_lifecycle.core.errors import DataError, MissingLibraryError, PartitionMissingError, PartitionUnreadableError

if TYPE_CHECKING:
    import pandas as pd
    from pyarrow.fs import FileSystem

_MAGIC = b"PAR1"
_SHORTEST_PARQUET = 12
"""Both marks and the footer's length; see https://parquet.apache.org/docs/file-format/."""

TABLE_FORMATS: Final = (".parquet", ".csv")


def check_table_file(path: Path) -> None:
    """Refuse a file that is not there, or is no table.

    :raises DataError: with the way out.
    """
    if path.suffix not in TABLE_FORMATS:
        raise DataError(
            f"the file's name ends in {path.suffix or 'nothing'}", where=str(path), way_out="hand in .parquet or .csv"
        )
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), way_out="check the path")


def read_table_file(path: Path) -> pd.DataFrame:
    """One file, wherever it lies, as a table with a plain row index.

    :raises DataError: it is not there, is no table, or holds none.
    """
    check_table_file(path)
    return LocalStore(path.resolve().parent).read_table(path.name)


class LocalStore(DataStore):
    """A tree of files below ``root``, an absolute folder that need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def state(self, uri: str) -> FileState | None:
        """Size and modification time of a plain file; a folder is no file."""
        path = inside(self.root, uri)
        if not path.is_file():
            return None
        found = path.stat()
        return FileState(size=found.st_size, modified_at=found.st_mtime)

    def partitions(self, template: str) -> tuple[str, ...]:
        """Names of the partitions that exist, sorted; half-written files are never among them."""
        inside(self.root, PLACEHOLDER.sub("x", template))
        base = self.root.resolve()
        paths = base.glob(PLACEHOLDER.sub("*", template))
        names = (partition_of(template, path.relative_to(base).as_posix()) for path in paths)
        return tuple(sorted({name for name in names if name is not None}))

    def check_complete(self, uri: str) -> None:
        """Look at a parquet file's marks and footer, or at a csv file's header and last line end.

        Where pyarrow is not installed, what the footer says is left to whoever reads the file.
        """
        path = self._existing(uri)
        if path.suffix == ".parquet":
            _check_parquet(path)
        elif path.suffix == ".csv":
            _check_csv(path)
        else:
            raise PartitionUnreadableError(
                f"files that end in {path.suffix!r} are not read", where=str(path), way_out="write .parquet or .csv"
            )

    def read_table(self, uri: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The file as a table with a plain row index."""
        self.check_complete(uri)
        path = inside(self.root, uri)
        table = _read(path, columns)
        # Of columns that the file does not have there is nothing to say.
        if table.empty and (columns is None or len(table.columns)):
            raise _unreadable(path, "has no row")
        return table

    def count_rows(self, uri: str, column: str | None = None) -> int:
        """By the footer of a parquet file, where that says how many values are missing; else by reading."""
        self.check_complete(uri)
        counted = values_by_footer(inside(self.root, uri), column)
        return super().count_rows(uri, column) if counted is None else counted

    def filesystem(self, uri: str) -> tuple[FileSystem, str]:
        """This machine's, and the path on it."""
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), str(inside(self.root, uri))

    def file_digest(self, uri: str) -> str:
        """SHA-256 of the file's bytes."""
        return file_digest(self._existing(uri))

    @contextmanager
    def file(self, uri: str) -> Iterator[Path]:
        """The file itself: read it, never write into it."""
        yield self._existing(uri)

    def write_file(self, uri: str, content: bytes) -> None:
        """Write a draft beside the target, and rename it."""

        def write(draft: Path) -> None:
            draft.write_bytes(content)

        publish_file(inside(self.root, uri), write)

    def publish_file(self, uri: str, write: Callable[[Path], object]) -> None:
        """Let ``write`` fill a draft beside the target, and rename it."""
        publish_file(inside(self.root, uri), write)

    def publish(self, uri: str, write: Callable[[Path], None]) -> str:
        """Publish by a draft folder beside the target and one rename; of two publishers the first one wins."""
        target = inside(self.root, uri)
        if not target.is_dir():
            publish_folder(target, write)
        return digest_of_folder(target)

    def published(self, uri: str) -> str | None:
        """Digest of a published folder's bytes, or ``None`` where nothing is published."""
        path = inside(self.root, uri)
        return digest_of_folder(path) if path.is_dir() else None

    @contextmanager
    def folder(self, uri: str, digest: str | None = None) -> Iterator[Path]:
        """The published folder itself: read it, never write into it."""
        path = inside(self.root, uri)
        if not path.is_dir():
            raise PartitionMissingError(
                "nothing is published here", where=str(path), way_out="run the stage that publishes it"
            )
        if digest is not None:
            verify_folder(path, digest, where=str(path))
        yield path

    def discard(self, uri: str) -> None:
        """Rename the folder away at once, then remove it."""
        remove_folder(inside(self.root, uri))

    def _existing(self, uri: str) -> Path:
        path = inside(self.root, uri)
        if path.is_dir():
            raise PartitionUnreadableError("is a folder, not a file", where=str(path), way_out="name one file")
        if not path.is_file():
            raise PartitionMissingError(
                "the file is not there",
                where=str(path),
                way_out=f"{_beside(path)}; land it, or ask for another partition",
            )
        return path


def _beside(path: Path) -> str:
    """What lies where the file was looked for: ``the folder holds 2013-01.parquet to 2013-06.parquet (6 files)``."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    names = sorted(
        other.name for other in path.parent.iterdir() if other.suffix == path.suffix and not other.name.startswith(".")
    )
    if not names:
        return f"the folder holds no {path.suffix} file"
    if len(names) == 1:
        return f"the folder holds only {names[0]}"
    return f"the folder holds {names[0]} to {names[-1]} ({len(names)} files)"


def _unreadable(path: Path, what: str) -> PartitionUnreadableError:
    return PartitionUnreadableError(f"the file {what}", where=str(path), way_out="write it again, whole")


def _check_parquet(path: Path) -> None:
    size = path.stat().st_size
    if size == 0:
        raise _unreadable(path, "is empty (0 bytes)")
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
        file.seek(max(size - 8, 0))
        tail = file.read(8)
    if head != _MAGIC[: len(head)]:
        raise _unreadable(path, f"is not parquet: it begins with {head!r}")
    footer = int.from_bytes(tail[:4], "little")
    if size < _SHORTEST_PARQUET or tail[4:] != _MAGIC or footer + _SHORTEST_PARQUET > size:
        raise _unreadable(path, f"is truncated: its {size} bytes do not end with a parquet footer")
    if _rows_by_footer(path) == 0:
        raise _unreadable(path, "has no row")


def _rows_by_footer(path: Path) -> int | None:
    """Rows that the footer tells of; ``None`` without pyarrow: a triggerer waits for files that it never reads."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, f"has a broken parquet footer ({_first_line(error)})") from error


def values_by_footer(path: Path, column: str | None) -> int | None:
    """Rows, or values of a column, that a footer tells of; ``None`` where it does not."""
    if path.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    footer = pq.read_metadata(path)
    if column is None:
        return int(footer.num_rows)
    place = next((number for number, name in enumerate(footer.schema.names) if name == column), None)
    if place is None:
        return 0 if len(footer.schema.names) == footer.num_columns else None
    found = [footer.row_group(number).column(place).statistics for number in range(footer.num_row_groups)]
    if any(one is None or not one.has_null_count for one in found):
        return None
    return int(footer.num_rows - sum(one.null_count for one in found))


def _check_csv(path: Path) -> None:
    size = path.stat().st_size
    if size == 0:
        raise _unreadable(path, "is empty (0 bytes)")
    with path.open("rb") as file:
        if not file.readline().strip():
            raise _unreadable(path, "has no header in its first line")
        if not file.read(1):
            raise _unreadable(path, "has a header and no row")
        file.seek(size - 1)
        if file.read(1) != b"\n":
            raise _unreadable(path, "is truncated: its last line has no end")


def _read(path: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    try:
        import pandas as pd
        import pyarrow as pa
    except ImportError as error:
        raise MissingLibraryError(error.name or "pandas", "pandas") from None
    try:
        # Types are guessed once for the whole column, and a number is the one that was written, to its last digit.
        is_csv = path.suffix == ".csv"
        asked = None if columns is None else frozenset(columns).__contains__
        table = (
            pd.read_csv(path, low_memory=False, float_precision="round_trip", usecols=asked)
            if is_csv
            else read_parquet(path, columns)
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        # ParserError, EmptyDataError and UnicodeDecodeError are ValueErrors.
        raise _unreadable(path, f"cannot be read as {path.suffix[1:]} ({_first_line(error)})") from error
    if not table.columns.is_unique:
        raise _unreadable(path, f"has the column {table.columns[table.columns.duplicated()][0]!r} twice")
    return table


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
