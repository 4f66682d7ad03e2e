"""A parquet file that is written piece by piece."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class GrowingParquet:
    """Takes tables one after the other, each as row groups of its own; where none comes, no file appears.

    The first table says what the columns are; the others are brought to their types.

    :param distinct: Columns whose values hardly ever come again, such as a key.
    """

    def __init__(self, path: Path, distinct: Collection[str] = ()) -> None:
        self._path, self._distinct = path, distinct
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Write a table; of an empty one nothing is written."""
        import pyarrow.parquet as pq

        if not table.num_rows:
            return
        if self._writer is None:
            table = table.replace_schema_metadata(None)
            self._writer = pq.ParquetWriter(
                self._path,
                table.schema,
                compression="zstd",
                use_dictionary=_repetitive(table.schema, self._distinct),
                # People look for a key or a time; nobody skips rows by the extremes of a measured number.
                write_statistics=[*self._distinct, *_moments(table.schema)] or False,
                column_encoding=dict.fromkeys(_moments(table.schema), "DELTA_BINARY_PACKED"),
            )
        self._writer.write_table(table.cast(self._writer.schema))
        self.rows += table.num_rows

    def close(self) -> None:
        """Write the file's end."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _repetitive(schema: pa.Schema, distinct: Collection[str]) -> list[str] | bool:
    """Columns that are held by their different values; where those hardly ever come again, the try costs a lot."""
    import pyarrow as pa

    moments = _moments(schema)
    return [
        field.name
        for field in schema
        if not (pa.types.is_floating(field.type) or field.name in distinct or field.name in moments)
    ] or False


def _moments(schema: pa.Schema) -> list[str]:
    """Columns that are held by their distances: rows that follow each other are often close in time."""
    import pyarrow as pa

    return [field.name for field in schema if pa.types.is_timestamp(field.type)]
