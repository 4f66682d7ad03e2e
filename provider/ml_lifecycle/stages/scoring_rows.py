"""A partition's rows as scoring reads them: a batch at a time, each column as a snapshot of the whole would hold it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.files import file_digest, write_parquet
from ml_lifecycle.core.contracts import Columns
from ml_lifecycle.core.data import render
from ml_lifecycle.core.errors import ColumnError, PartitionUnreadableError
from ml_lifecycle.stages.column_shapes import Shape, shapes_of, table_of
from ml_lifecycle.stages.data import (
    SnapshotJob,
    as_kind,
    check_names,
    check_plain,
    check_unchanged,
    files_of,
    require_columns,
    snapshot_key,
    stack,
)
from ml_lifecycle.stages.repeated_keys import repeated_keys
from ml_lifecycle.stages.runner import Tools

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

_BATCH_BYTES: Final = 64 << 20
"""Of a batch as the file holds it, unpacked: wide rows make shorter batches."""
_FEWEST: Final = 1024
"""Rows of a batch, however wide."""


@dataclass(frozen=True)
class BadRow:
    """Why a row cannot be scored."""

    because: str
    """One of few texts, which rows are counted under."""
    detail: str | None = None


@dataclass
class Batch:
    """Some rows, one after the other."""

    first: int
    """Place of the first one in the partition, from 0."""
    raw: pa.Table
    """As the file holds them."""
    rows: pd.DataFrame
    """Those that can be told apart, as a snapshot would hold them; a plain index, and columns that are needed."""
    places: NDArray[np.int64]
    """Of ``rows`` in ``raw``."""
    bad: dict[int, BadRow] = field(default_factory=dict)
    """By the place in ``raw``."""

    def keys(self, name: str, chosen: NDArray[np.int64]) -> pa.Array:
        """The keys of some rows, by their places in ``rows``: texts as they are, others as a snapshot holds them."""
        import pyarrow as pa

        if not is_plain_text(self.raw.schema.field(name).type):
            return pa.array(self.rows[name].iloc[chosen], from_pandas=True)
        column = self.raw.column(name)
        is_all = len(chosen) == self.raw.num_rows
        return (column if is_all else column.take(pa.array(self.places[chosen]))).combine_chunks()


@dataclass(frozen=True)
class PartitionRows:
    """One partition's file, open."""

    job: SnapshotJob
    tools: Tools
    file: pq.ParquetFile
    where: str
    """The file's uri."""
    needed: dict[str, Shape]
    """The columns that somebody looks at."""
    fingerprint: str
    """Digest over the job and the bytes of all files that it reads."""
    batch_rows: int
    check_unchanged: Callable[[], None]
    """Raises a ``PassingError`` where one of the files is no longer what it was."""

    @property
    def count(self) -> int:
        """Rows of the partition."""
        return int(self.file.metadata.num_rows)

    @property
    def columns(self) -> Columns:
        """Those that carry meaning for the lifecycle."""
        return self.job.columns

    @cached_property
    def related(self) -> Mapping[str, pd.DataFrame]:
        """The tables beside the rows, whole."""
        uris = {name: render(source.uri, self.job.partitions[0]) for name, source in self.job.related.items()}
        return {name: stack(self.tools.data, [uri]) for name, uri in uris.items()}

    @cached_property
    def repeated(self) -> NDArray[np.int64]:
        """Places of all rows whose key another row has, too."""
        names = [self.columns.key]
        return repeated_keys(lambda: (table.column(0) for table in self.read(0, self.count, columns=names)))

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The rows from ``first`` to before ``last``."""
        place = first
        for raw in self.read(first, last):
            yield self._batch(raw, place)
            place += raw.num_rows

    def read(self, first: int, last: int, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Tables of ``batch_rows`` rows, the last one shorter.

        :raises PartitionUnreadableError: the file is spoilt.
        """
        import pyarrow as pa

        try:
            yield from self._read(first, last, columns)
        except (pa.ArrowException, OSError) as error:
            text = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise PartitionUnreadableError(
                f"the file cannot be read as parquet ({text})", where=self.where, way_out="write it again, whole"
            ) from error

    def _read(self, first: int, last: int, columns: list[str] | None) -> Iterator[pa.Table]:
        import pyarrow as pa

        place, groups = _groups(self.file, first, last)
        held: list[pa.Table] = []
        for found in self.file.iter_batches(batch_size=self.batch_rows, row_groups=groups, columns=columns):
            low, high = max(first - place, 0), min(last - place, found.num_rows)
            place += found.num_rows
            if low < high:
                held.append(pa.Table.from_batches([found.slice(low, high - low)]))
            if sum(table.num_rows for table in held) >= self.batch_rows:
                table = pa.concat_tables(held)
                yield table.slice(0, self.batch_rows)
                held = [table.slice(self.batch_rows)]
            if place >= last:
                break
        rest = pa.concat_tables(held) if held else None
        while rest is not None and rest.num_rows:
            yield rest.slice(0, self.batch_rows)
            rest = rest.slice(self.batch_rows)

    def _batch(self, raw: pa.Table, first: int) -> Batch:
        import numpy as np
        import pyarrow.compute as pc

        key = self.columns.key
        missing = pc.is_null(raw.column(key), nan_is_null=True).to_numpy()
        again = np.zeros(raw.num_rows, dtype=bool)
        low, high = np.searchsorted(self.repeated, [first, first + raw.num_rows])
        again[self.repeated[low:high] - first] = True
        again &= ~missing
        bad = {int(place): BadRow(f"the key {key!r} is missing") for place in np.flatnonzero(missing)}
        bad |= {int(place): BadRow(f"the key {key!r} is not unique") for place in np.flatnonzero(again)}
        places = np.flatnonzero(~(missing | again))
        usable = raw if len(places) == raw.num_rows else raw.take(places)
        batch = Batch(first, raw, table_of(usable, self.needed), places, bad)
        if self.columns.time is not None:
            _take_times(batch, self.columns.time)
        return batch


def _groups(file: pq.ParquetFile, first: int, last: int) -> tuple[int, list[int]]:
    """The row groups that hold these rows, and the place of their first row."""
    groups: list[int] = []
    start, place = 0, 0
    for number in range(file.num_row_groups):
        rows = file.metadata.row_group(number).num_rows
        if place < last and place + rows > first:
            start = start if groups else place
            groups.append(number)
        place += rows
    return start, groups


def _take_times(batch: Batch, name: str) -> None:
    """Times in UTC; rows without one are bad."""
    import pandas as pd

    column = batch.rows[name]
    is_time = pd.api.types.is_datetime64_any_dtype(column.dtype)
    times = column if is_time else pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
    lost = times.isna().to_numpy()
    if lost.any():
        absent = column.isna().to_numpy()
        for place in lost.nonzero()[0]:
            what = "is missing" if absent[place] else "is no timestamp"
            batch.bad[int(batch.places[place])] = BadRow(f"the time {name!r} {what}")
        batch.rows, batch.places = batch.rows[~lost].reset_index(drop=True), batch.places[~lost]
        times = times[~lost].reset_index(drop=True)
    batch.rows[name] = as_kind(times, "timestamp")


@contextmanager
def open_rows(
    job: SnapshotJob, tools: Tools, *, batch_rows: int, needed: Collection[str] | None = None
) -> Iterator[PartitionRows]:
    """One partition, to be read a batch at a time.

    A csv file is read whole and kept beside: only parquet can be larger than memory.

    :param batch_rows: At most so many rows a batch, fewer where they are wide.
    :param needed: Columns that are looked at, beside the time; ``None``: all.
    :raises PartitionMissingError: a file is not there.
    :raises PartitionUnreadableError: a file is empty, truncated, or not what its name promises.
    :raises ColumnError: the key or the time column is missing, or of a type that cannot be one.
    """
    import pyarrow.parquet as pq

    check_names(job)
    uri = render(job.source.uri, job.partitions[0])
    uris = [uri for _, uri in files_of(job)]
    before = {uri: tools.data.state(uri) for uri in uris}
    tools.data.check_complete(uri)

    def unchanged() -> None:
        for each, state in before.items():
            check_unchanged(tools.data, each, state)

    with ExitStack() as stacked:
        path = stacked.enter_context(tools.data.file(uri))
        digests = {each: file_digest(path) if each == uri else tools.data.file_digest(each) for each in uris}
        file = stacked.enter_context(pq.ParquetFile(_as_parquet(path, uri, tools, stacked), pre_buffer=False))
        _check_names(file, uri)
        shapes = shapes_of(file)
        _check_columns(file, shapes, job.columns, where=uri)
        fingerprint = snapshot_key(job, digests)
        shapes = _needed(_with_whole_keys(shapes, job), file, job.columns, needed)
        yield PartitionRows(job, tools, file, uri, shapes, fingerprint, _size(file, batch_rows), unchanged)


def _as_parquet(path: Path, uri: str, tools: Tools, stacked: ExitStack) -> Path:
    if path.suffix == ".parquet":
        return path
    folder = Path(stacked.enter_context(tempfile.TemporaryDirectory(prefix="ml-lifecycle-")))
    write_parquet(stack(tools.data, [uri]), folder / "rows.parquet")
    return folder / "rows.parquet"


def _check_names(file: pq.ParquetFile, where: str) -> None:
    names = file.schema_arrow.names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PartitionUnreadableError(
            f"the file has the column {twice!r} twice", where=where, way_out="write it again, whole"
        )


def _check_columns(file: pq.ParquetFile, shapes: Mapping[str, Shape], columns: Columns, *, where: str) -> None:
    """The key and the time as they may be; what single rows lack is found when they are read."""
    import pandas as pd

    empty: pd.DataFrame = pd.DataFrame(columns=list(shapes))
    require_columns(empty, [columns.key], where=where, role="the key")
    check_plain(shapes[columns.key].sample, where=where, role="the key")
    if columns.time is None:
        return
    require_columns(empty, [columns.time], where=where, role="the time column")
    kind = shapes[columns.time].kind
    if kind not in {"timestamp", "text", "nothing"}:
        held = file.schema_arrow.field(columns.time).type
        raise ColumnError(
            f"the time column {columns.time!r} is {kind} ({held})", where=where, way_out="write timestamps into it"
        )


def _with_whole_keys(shapes: dict[str, Shape], job: SnapshotJob) -> dict[str, Shape]:
    """Rows without a key are taken out before: whole numbers stay whole beside them."""
    key = shapes[job.columns.key]
    return {**shapes, job.columns.key: key.without_gaps()}


def _needed(
    shapes: dict[str, Shape], file: pq.ParquetFile, columns: Columns, needed: Collection[str] | None
) -> dict[str, Shape]:
    """Without columns that nobody looks at: to make Python's texts of them costs more than all of the numbers."""
    held = file.schema_arrow
    if needed is None or not set(shapes) <= set(held.names):
        return shapes
    asked = {*needed, columns.time}
    if not is_plain_text(held.field(columns.key).type):
        asked.add(columns.key)
    return {name: shape for name, shape in shapes.items() if name in asked}


def is_plain_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts in the type that they are published in."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind))


def _size(file: pq.ParquetFile, most: int) -> int:
    footer: Any = file.metadata
    packed = sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
    width = max(1, packed // max(1, footer.num_rows))
    return int(max(1, min(most, max(_FEWEST, _BATCH_BYTES // width))))
