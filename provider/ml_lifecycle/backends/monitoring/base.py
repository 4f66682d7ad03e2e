"""Reading a table once, into counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ml_lifecycle.backends.monitoring.profiles import Frame, Profile
from ml_lifecycle.core.contracts import ColumnDrift

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


@dataclass(frozen=True)
class DriftResult:
    """Each column's distance, and a page for people."""

    columns: tuple[ColumnDrift, ...]
    html: str


class DriftDetector(ABC):
    """Compares a current table with a reference table, column by column, with named distances."""

    @abstractmethod
    def compare(
        self,
        reference: pd.DataFrame,
        current: pd.DataFrame,
        *,
        columns: Sequence[str],
        threshold: float,
        title: str,
    ) -> DriftResult:
        """Measure every column; a column that cannot be measured has distance ``None`` and has not drifted.

        :raises ColumnError: a column is missing from one of the tables.
        :raises NoRowsError: one of the tables is empty.
        """
