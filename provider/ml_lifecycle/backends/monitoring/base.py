"""Reading a table once, into counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ml_lifecycle.backends.monitoring.profiles import Frame, Profile
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds

    Table: TypeAlias = str | Path | Sequence[Path] | pd.DataFrame | pa.Table | ds.Dataset
    """Files (parquet or csv, larger than memory), a table in memory, an arrow dataset on any file system, or, for a
    database, a table's name."""


def shown_address(uri: str) -> str:
    """An address as reports and messages may name it: without its query, which may be signed.

    :raises RequestError: it holds credentials.
    """
    scheme, _, rest = uri.partition("?")[0].partition("://")
    host = rest.partition("/")[0]
    # A secret with a slash in it looks like a port that is no number.
    port = "" if host.endswith("]") else host.partition(":")[2]
    if "@" in host or (port and not port.isdigit()):
        raise RequestError(
            "the address holds credentials, which every report would show",
            where=f"{scheme}://...{rest.rpartition('@')[2] if '@' in rest else ''}",
            way_out="leave them out, and let the environment or a profile name them",
        )
    return f"{scheme}://{rest}"


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
