"""Reading a table once, into counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ml_lifecycle.backends.monitoring.profiles import Frame, Profile

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds

    Table: TypeAlias = str | Path | Sequence[Path] | pd.DataFrame | pa.Table | ds.Dataset
    """Files (parquet or csv, larger than memory), a table in memory, an arrow dataset on any file system, or, for a
    database, a table's name."""


class Profiler(ABC):
    """Cuts a reference into a frame, and counts any table in it."""

    @abstractmethod
    def frame(self, table: Table, *, columns: Sequence[str] = (), categorical: Sequence[str] = ()) -> Frame:
        """How the columns of a reference are cut: the same rows always give the same frame.

        :param columns: Which ones; empty for all.
        :param categorical: Numbers that are names.
        :raises ColumnError: the table has no such column.
        :raises NoRowsError: it has no row.
        """

    @abstractmethod
    def profile(self, table: Table, frame: Frame, *, block: str | None = None, time: str | None = None) -> Profile:
        """Count a table in a frame, reading each of its columns once.

        :param block: Rows that share this are not independent of each other: a column, or ``hour``, ``day``, ``week``
            or ``month`` of ``time``, in UTC.
        :raises ColumnError: a column of the frame, or the one that makes the blocks, is missing.
        :raises NoRowsError: there is no row.
        """
