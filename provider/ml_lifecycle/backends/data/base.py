"""Where partitions, snapshots and published results live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from pyarrow.fs import FileSystem


@dataclass(frozen=True)
class FileState:
    """What can be seen of a file without reading it."""

    size: int
    """Bytes."""
    modified_at: float
    """Seconds since the epoch."""


class DataStore(ABC):
    """A tree of files below one root. Every ``uri`` is relative to it, and none leads out of it."""

    @abstractmethod
    def state(self, uri: str) -> FileState | None:
        """The file's state, or ``None`` where nothing is."""

    @abstractmethod
    def partitions(self, template: str) -> tuple[str, ...]:
        """Names of the partitions that exist, sorted, such as ``("2013-01", "2013-02")``.

        :param template: As in a source's ``uri``: ``flights/{{ partition }}.parquet``.
        """

    @abstractmethod
    def check_complete(self, uri: str) -> None:
        """Look at the file's ends, not at its rows.

        :raises PartitionMissingError: nothing is there.
        :raises PartitionUnreadableError: it is empty, truncated, or not of the format that its name promises.
        """

    @abstractmethod
    def read_table(self, uri: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The file as a table; parquet or csv by its ending.

        :param columns: Only those of them that the file has; ``None`` for all.
        :raises PartitionMissingError: nothing is there.
        :raises PartitionUnreadableError: it cannot be read as a table, or has no row.
        """

    def count_rows(self, uri: str, column: str | None = None) -> int:
        """How many rows the file has, or how many of them hold a value in a column; 0 where there is no such column.

        :raises PartitionMissingError: nothing is there.
        :raises PartitionUnreadableError: it cannot be read as a table, or has no row.
        """
        table = self.read_table(uri)
        if column is None:
            return len(table)
        return int(table[column].notna().sum()) if column in table.columns else 0

    @abstractmethod
    def filesystem(self, uri: str) -> tuple[FileSystem, str]:
        """For readers of many small files, such as the prediction log: a file system, and the path on it."""

    @abstractmethod
    def file_digest(self, uri: str) -> str:
        """SHA-256 of the file's bytes."""

    @abstractmethod
    @contextmanager
    def file(self, uri: str) -> Iterator[Path]:
        """One file as a local path, whole, for whoever reads it piece by piece; it is gone or not ours afterwards.

        :raises PartitionMissingError: nothing is there.
        :raises PartitionUnreadableError: it is a folder.
        """

    @abstractmethod
    def write_file(self, uri: str, content: bytes) -> None:
        """Make a small file appear whole or not at all, over what was there."""

    @abstractmethod
    def publish_file(self, uri: str, write: Callable[[Path], object]) -> None:
        """As :meth:`write_file`, for a file larger than memory: ``write`` fills a local draft that becomes the file."""

    @abstractmethod
    def publish(self, uri: str, write: Callable[[Path], None]) -> str:
        """Publish a folder whole or not at all, and return its digest.

        ``write`` fills an empty local folder. Where ``uri`` is already published, nothing is written and the digest
        of what is there is returned: publishing twice does what publishing once does.
        """

    @abstractmethod
    def published(self, uri: str) -> str | None:
        """Digest of a published folder's bytes, or ``None`` where nothing is published."""

    @abstractmethod
    @contextmanager
    def folder(self, uri: str, digest: str | None = None) -> Iterator[Path]:
        """A published folder as a local path, its bytes checked against ``digest`` where one is given.

        :raises DigestMismatchError: the bytes are not what the digest says.
        :raises PartitionMissingError: nothing is published there.
        """

    @abstractmethod
    def discard(self, uri: str) -> None:
        """Remove a folder with all that lies below it, such as unfinished work; of what is not there, nothing is said.

        Discarding twice does what discarding once does. A published folder is never seen with only some of its files.
        """
