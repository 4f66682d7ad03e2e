"""What each column of a parquet file is over all of its rows: a batch gets the types that the whole would have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.stages.data import as_kind, kind_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

_LARGEST: Final = 2**63 - 1
_LOOK: Final = 8192
"""Rows that are looked at together."""


@dataclass(frozen=True)
class Shape:
    """One column."""

    kind: str
    """As :func:`ml_lifecycle.stages.data.kind_of` says of the whole column."""
    gaps: bool | None
    """Whether numbers and booleans need a type that has room for missing ones; ``None`` of other kinds."""
    sample: pd.Series[Any]
    """Some of its values, at least one that is not missing where there is one."""
    is_whole: bool = False
    """Whether its values are whole numbers, or booleans."""

    def without_gaps(self) -> Shape:
        """Of the same column where no value is missing."""
        return replace(self, gaps=False) if self.is_whole and self.gaps is not None else self


def shapes_of(file: pq.ParquetFile) -> dict[str, Shape]:
    """Every column's, by its name, as :func:`ml_lifecycle.backends.files.read_parquet` calls it."""
    samples: dict[str, pd.Series[Any]] = {}
    open_ones: list[str] | None = None
    for batch in file.iter_batches(batch_size=_LOOK):
        table = _plain(batch)
        open_ones = list(table.columns) if open_ones is None else open_ones
        for name in list(open_ones):
            known = table[name].notna()
            if known.any() or name not in samples:
                samples[name] = table[name][known] if known.any() else table[name]
            if known.any():
                open_ones.remove(name)
        if not open_ones:
            break
    return {name: _shape(file, name, sample) for name, sample in samples.items()}


def table_of(raw: pa.Table, shapes: Mapping[str, Shape]) -> pd.DataFrame:
    """Some rows of a file, each column in the one type that a snapshot of all its rows would hold it in.

    :param shapes: Of the columns that are wanted.
    """
    import pandas as pd

    is_named = set(shapes) <= set(raw.column_names)
    table = _plain(raw.select([name for name in raw.column_names if name in shapes]) if is_named else raw)
    held: pd.DataFrame = pd.DataFrame(
        {name: as_kind(table[name], shape.kind, gaps=shape.gaps) for name, shape in shapes.items()}
    )
    return held


def _plain(raw: pa.Table | pa.RecordBatch) -> pd.DataFrame:
    """As :func:`ml_lifecycle.backends.files.read_parquet` hands out a whole file."""
    import pandas as pd

    table: pd.DataFrame = raw.to_pandas()
    # What a file says about its index is about all of its rows; as a column, an index of some rows would be another.
    table = table.reset_index(drop=isinstance(table.index, pd.RangeIndex))
    table.columns = [str(name) for name in table.columns]
    return table


def _shape(file: pq.ParquetFile, name: str, sample: pd.Series[Any]) -> Shape:
    import pyarrow as pa

    kind = kind_of(sample)
    held = file.schema_arrow.field(name).type if name in file.schema_arrow.names else None
    whole = held is not None and (pa.types.is_integer(held) or pa.types.is_boolean(held))
    if held == pa.uint64() and kind != "nothing":
        kind = "large number" if _greatest(file, name) > _LARGEST else "number"
    if kind not in {"number", "boolean", "large number"}:
        return Shape(kind, None, sample)
    gaps = not whole or _missing(file, name) > 0
    # Large numbers beside missing ones are held as floats, as all numbers with gaps are.
    return Shape("number" if gaps and kind == "large number" else kind, gaps, sample, whole)


def _missing(file: pq.ParquetFile, name: str) -> int:
    """How many values are missing: by the footer, or where that does not say so by reading the column."""
    found = _statistics(file, name)
    if all(one is not None and one.has_null_count for one in found):
        return sum(one.null_count for one in found)
    return sum(batch.column(0).null_count for batch in file.iter_batches(columns=[name]))


def _greatest(file: pq.ParquetFile, name: str) -> int:
    import pyarrow.compute as pc

    found = _statistics(file, name)
    if all(one is not None and one.has_min_max for one in found):
        return max(int(one.max) for one in found)
    values = (pc.max(batch.column(0)).as_py() for batch in file.iter_batches(columns=[name]))
    return max((value for value in values if value is not None), default=0)


def _statistics(file: pq.ParquetFile, name: str) -> list[Any]:
    footer = file.metadata
    place = next(number for number in range(footer.num_columns) if footer.schema.column(number).path == name)
    return [footer.row_group(number).column(place).statistics for number in range(footer.num_row_groups)]
