"""The prediction log: every prediction that was made, by endpoint and day, and in a parallel tree what turned out.

``predictions/endpoint=<model>/dt=<YYYY-MM-DD>/<partition>-<digest>.parquet`` and the same below ``labels``. Names come
from what a file holds, and each appears whole: writing twice does what writing once does. ``docs/guides/
prediction-log.md`` lists the columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ml_lifecycle.backends.monitoring.base import shown_address
from ml_lifecycle.backends.monitoring.labels import kind_of, moments, plain_keys
from ml_lifecycle.core.contracts import Scalar, digest_of
from ml_lifecycle.core.data import every_of, start_of
from ml_lifecycle.core.errors import DataError, LifecycleError, RequestError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyarrow.fs import FileSystem

Tree = Literal["predictions", "labels"]
Root: TypeAlias = "str | Path | tuple[FileSystem, str]"
"""A log: a folder, an address such as ``s3://bucket/log``, or a path on a file system."""

FOLDER: Final = "log"
"""Below the data root."""
INPUT: Final = "input_"
"""Before the name of each of the model's inputs."""
UNKNOWN_DAY: Final = "__HIVE_DEFAULT_PARTITION__"
"""Where rows go whose day nobody knows; the name that Hive and its readers have for it."""
_LAYOUT: Final = 1
_DIGITS: Final = 12
_ORIGIN_DIGITS: Final = 16
_TWO: Final = 2
_NO_DAY: Final = 2**31 - 1
"""Sorts behind every day there is."""


@dataclass(frozen=True)
class Origin:
    """Where the predictions of one file come from."""

    endpoint: str
    """The model's name, or the endpoint's."""
    partition: str
    model_digest: str = ""
    model_version: int | None = None
    data_digest: str = ""
    """What was scored: with the model's digest and the partition it names the file."""
    recorded: int = 0
    """Counts what was recorded for the partition, from 0: of two files about one prediction the later one counts."""

    @property
    def name(self) -> str:
        """The file's, without its ending."""
        told = {"layout": _LAYOUT, "model": self.model_digest, "partition": self.partition, "data": self.data_digest}
        return f"{self.partition}-{digest_of(told)[:_DIGITS]}"


def order_of(known: Sequence[str], ours: str) -> int:
    """How many different things were recorded before ours, oldest first in ``known``: a retry finds its own place."""
    changes = [name for name, _ in groupby(known)]
    return len(changes) - 1 if changes and changes[-1] == ours else len(changes)


def key_texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Keys as the log holds them: a whole number without a point, a moment in UTC.

    :raises ColumnError: a key is no single value.
    """
    if kind_of(column) == "timestamp":
        return moments(column).map(lambda moment: moment.isoformat(), na_action="ignore").astype(object)
    return plain_keys(column).map(str, na_action="ignore").astype(object)


def prediction_ids(keys: pa.Array, origin: Origin) -> pa.Array:
    """What names each prediction: the same model, partition and key always have the same id, and no two share one.

    :param keys: Texts. The id is 16 hex digits for model and partition, a dash, and the key itself.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    told = f"{origin.model_digest}\n{origin.partition}\n".encode()
    start = hashlib.sha256(told).hexdigest()[:_ORIGIN_DIGITS]
    ids: pa.Array = pc.binary_join_element_wise(pa.scalar(start), keys, "-")
    return ids


# --- Write -----------------------------------------------------------------------------------------------------------


def prediction_table(
    predictions: pd.DataFrame | pa.Table,
    origin: Origin,
    *,
    key: str,
    time: str | None,
    classes: Sequence[Scalar] = (),
    inputs: pd.DataFrame | None = None,
    names: pd.Series[Any] | None = None,
) -> pa.Table:
    """Published predictions in the log's columns.

    :param predictions: ``key``, ``score``, ``label`` for classifiers, and ``score_<class>`` of more than two classes.
        Of an arrow table, columns that the log holds as they are take no detour.
    :param inputs: What the model saw, row by row as the predictions.
    :param names: What ids are made of, where keys may come again.
    :raises ColumnError: a key is no single value, or the time column holds numbers.
    """
    import pyarrow as pa

    rows = len(predictions)
    keys = _keys(predictions[key])
    columns: dict[str, Any] = {
        "prediction_id": prediction_ids(keys if names is None else pa.array(names, pa.string()), origin),
        "endpoint": pa.repeat(pa.scalar(origin.endpoint, pa.string()), rows),
        "key": keys,
        "at": _times(predictions, time, origin.partition),
        "model_version": pa.repeat(pa.scalar(origin.model_version, pa.int64()), rows),
        "model_digest": pa.repeat(pa.scalar(origin.model_digest or None, pa.string()), rows),
        "partition": pa.repeat(pa.scalar(origin.partition, pa.string()), rows),
        "score": pa.array(_plain(predictions["score"]), pa.float64(), from_pandas=True),
        "label": _texts(predictions["label"] if "label" in _names(predictions) else None, rows),
        "probabilities": _probabilities(predictions, classes),
        "recorded": pa.repeat(pa.scalar(origin.recorded, pa.int64()), rows),
    }
    for name in [] if inputs is None else inputs.columns:
        columns[f"{INPUT}{name}"] = pa.array(inputs[name], from_pandas=True)  # type: ignore[index]  # not None here
    return pa.table(columns)


def label_table(
    labelled: pd.DataFrame,
    origin: Origin,
    *,
    key: str,
    time: str | None,
    target: str,
    predicted: Origin,
    labelled_at: str | None = None,
) -> pa.Table:
    """Joined labels in the log's columns; one that is missing takes back what an earlier file said.

    :param predicted: Where the predictions come from that the labels are of.
    """
    import pandas as pd
    import pyarrow as pa

    keys, rows = _keys(labelled[key]), len(labelled)
    target_values = labelled[target]
    told = (
        moments(labelled[labelled_at])
        if labelled_at is not None
        else pd.Series([pd.NaT] * rows, dtype="datetime64[us, UTC]")
    )
    numbers = pd.to_numeric(target_values, errors="coerce") if kind_of(target_values) == "number" else None
    return pa.table(
        {
            "prediction_id": prediction_ids(keys, predicted),
            "endpoint": pa.array([origin.endpoint] * rows, pa.string()),
            "key": keys,
            "at": _times(labelled, time, origin.partition),
            "label": _texts(target_values, rows),
            "value": pa.array([None] * rows if numbers is None else numbers, pa.float64(), from_pandas=True),
            "labelled_at": pa.array(told, pa.timestamp("us", "UTC"), from_pandas=True),
            "recorded": pa.array([origin.recorded] * rows, pa.int64()),
        }
    )


def write_log(write: Callable[[str, bytes], None], tree: Tree, origin: Origin, table: pa.Table) -> tuple[str, ...]:
    """Write a table into the log, one file per day of ``at`` in UTC; returns the files' names below the log's root.

    :param write: Makes a file of this name and content appear whole.
    """
    written = []
    for day, part in by_day(table):
        uri = f"{tree}/endpoint={origin.endpoint}/dt={day}/{origin.name}.parquet"
        write(uri, _bytes(part))
        written.append(uri)
    return tuple(written)


def by_day(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each day, in their order; the days by their names in the log."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    # Whole days since 1970 round towards the past, so that a moment before it stays in its own day.
    found = pc.floor_temporal(table.column("at").cast(pa.timestamp("us")), unit="day").cast(pa.date32())
    days = pc.fill_null(found.cast(pa.int32()), _NO_DAY).to_numpy()
    ends = [*np.flatnonzero(days[1:] != days[:-1]) + 1, len(days)] if len(days) else []
    if len(set(days.tolist())) < len(ends):
        order = np.argsort(days, kind="stable")
        yield from by_day(table.take(pa.array(order)))
        return
    runs = {int(days[first]): (first, last) for first, last in zip([0, *ends], ends, strict=False)}
    for day in sorted(runs):
        first, last = runs[day]
        name = UNKNOWN_DAY if day == _NO_DAY else f"{date(1970, 1, 1) + timedelta(days=day):%Y-%m-%d}"
        yield name, table.slice(first, last - first)


def _bytes(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    held = BytesIO()
    pq.write_table(table.replace_schema_metadata(None), held, compression="zstd")
    return held.getvalue()


def _names(table: pd.DataFrame | pa.Table) -> list[str]:
    import pandas as pd

    return list(table.columns) if isinstance(table, pd.DataFrame) else table.column_names


def _plain(column: pd.Series[Any] | pa.ChunkedArray) -> pd.Series[Any] | pa.Array:
    """Of an arrow column one piece."""
    import pyarrow as pa

    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _keys(column: pd.Series[Any] | pa.ChunkedArray) -> pa.Array:
    """As :func:`key_texts`, in arrow; texts and whole numbers that are held as such take no detour."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
            return _plain(column).cast(pa.string())
        column = column.to_pandas()
    return pa.array(key_texts(column), pa.string())


def _times(table: pd.DataFrame | pa.Table, time: str | None, partition: str) -> pa.Array:
    """When each row's event takes place; of a row that does not say so, the partition's beginning."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    held, start = pa.timestamp("us", "UTC"), _start(partition)
    if time is None or time not in _names(table):
        return pa.array([start] * len(table), held)
    column = table[time]
    if isinstance(column, pa.ChunkedArray):
        if pa.types.is_timestamp(column.type) and column.type.tz is not None:
            # Rounded towards the past, as `moments` does; the cast cuts nothing off any more.
            naive = _plain(column).cast(pa.timestamp(column.type.unit))
            known = pc.floor_temporal(naive, unit="microsecond").cast(held, safe=False)
            return known if start is None else pc.fill_null(known, pa.scalar(start, held))
        column = column.to_pandas()
    found = moments(column)
    return pa.array(found if start is None else found.fillna(pd.Timestamp(start)), held, from_pandas=True)


def _start(partition: str) -> datetime | None:
    try:
        return start_of(partition, every_of(partition))
    except RequestError:
        return None


def _texts(column: pd.Series[Any] | pa.ChunkedArray | None, rows: int) -> pa.Array:
    """Labels as texts: True, a class's name, 1 and 2.5."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pandas.api import types

    if column is None:
        return pa.nulls(rows, pa.string())
    if isinstance(column, pa.ChunkedArray):
        if pa.types.is_boolean(column.type):
            return pc.if_else(_plain(column), str(True), str(False))
        column = column.to_pandas()
    if types.infer_dtype(column, skipna=True) not in ("boolean", "integer", "floating", "string"):
        # Of several types, what is equal may still be called differently: 1 and True.
        return pa.array([None if _is_missing(value) else label_text(value) for value in column], pa.string())
    codes, values = column.factorize()
    texts = pa.array([label_text(value) for value in values], pa.string())
    return texts.take(pa.array(codes, mask=codes < 0))


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.isna(value)) if pd.api.types.is_scalar(value) else False


def label_text(value: Any) -> str:
    """A label as the log holds it: True, a class's name, 1 and 2.5."""
    plain = value.item() if hasattr(value, "item") else value
    return str(int(plain)) if isinstance(plain, float) and plain.is_integer() else str(plain)


def _probabilities(predictions: pd.DataFrame | pa.Table, classes: Sequence[Scalar]) -> pa.Array:
    """By class, of more than two: of two, the score tells both."""
    import numpy as np
    import pyarrow as pa

    kind = pa.map_(pa.string(), pa.float64())
    if len(classes) <= _TWO:
        return pa.nulls(len(predictions), kind)
    names = [f"score_{label}" for label in classes]
    values = np.column_stack([_plain(predictions[name]) for name in names]).astype("float64").ravel()
    texts = pa.array([label_text(label) for label in classes] * len(predictions), pa.string())
    offsets = np.arange(0, len(values) + 1, len(classes), dtype="int32")
    return pa.MapArray.from_arrays(pa.array(offsets), texts, pa.array(values))


# --- Read ------------------------------------------------------------------------------------------------------------


def read_predictions(
    root: str | Path,
    endpoint: str,
    first_day: date | None = None,
    last_day: date | None = None,
    *,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Each prediction once, both days included, oldest first.

    A column that files hold in several types is read as text.

    :param root: The log: a folder, or an address such as ``s3://bucket/log``.
    :param columns: Which ones; ``prediction_id`` and ``at`` are always read.
    :raises LifecycleError: the place cannot be read.
    """
    return _read(root, _Asked("predictions", endpoint, first_day, last_day), columns)


def read_labels(
    root: str | Path, endpoint: str, first_day: date | None = None, last_day: date | None = None
) -> pd.DataFrame:
    """Each prediction's newest label, of predictions of these days; without those that were taken back."""
    table = _read(root, _Asked("labels", endpoint, first_day, last_day), None)
    kept: pd.DataFrame = table[table["label"].notna()].reset_index(drop=True)
    return kept


def join(predictions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Predictions with what turned out beside them: ``truth``, ``truth_value`` for numbers, ``labelled_at``.

    A prediction without a label keeps missing values.
    """
    names = {"label": "truth", "value": "truth_value"}
    beside = labels[["prediction_id", *names, "labelled_at"]].rename(columns=names)
    joined: pd.DataFrame = predictions.merge(beside, on="prediction_id", how="left", validate="one_to_one")
    return joined


_LABEL_COLUMNS: Final = ("prediction_id", "endpoint", "key", "at", "label", "value", "labelled_at")
_COLUMNS: Final[Mapping[Tree, tuple[str, ...]]] = {
    "labels": _LABEL_COLUMNS,
    "predictions": (
        *("prediction_id", "endpoint", "key", "at", "model_version", "model_digest", "partition"),
        *("score", "label", "probabilities"),
    ),
}
"""What an empty log has."""


@dataclass(frozen=True)
class _Asked:
    """Which files of a log."""

    tree: Tree
    endpoint: str
    first: date | None
    last: date | None

    def takes(self, folder: str) -> bool:
        """Whether a day's folder is asked for; whoever asks for days does not get rows of an unknown one."""
        name, _, text = folder.partition("=")
        if name != "dt":
            return False
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return text == UNKNOWN_DAY and self.first is None and self.last is None
        return (self.first is None or day >= self.first) and (self.last is None or day <= self.last)


def _read(root: str | Path, asked: _Asked, columns: Sequence[str] | None) -> pd.DataFrame:
    import pandas as pd

    names = None if columns is None else list(dict.fromkeys(["prediction_id", "at", *columns]))
    with reading(root):
        read = None if names is None else [*names, "recorded"]
        tables = [_file(system, path, read) for system, path in _files(root, asked)]
    if not tables:
        empty: pd.DataFrame = pd.DataFrame(columns=list(_COLUMNS[asked.tree] if names is None else names))
        return empty
    table: pd.DataFrame = stacked(tables).to_pandas()
    # Stable: of files that were recorded alike, the one whose name sorts last.
    newest = table.sort_values("recorded", kind="stable").drop_duplicates("prediction_id", keep="last")
    ordered = newest.sort_values(["at", "prediction_id"], kind="stable").drop(columns=["recorded"])
    plain: pd.DataFrame = ordered.reset_index(drop=True)
    return plain


@contextmanager
def reading(place: str | Path) -> Iterator[None]:
    """Tell what goes wrong with a log's files as what is wrong with the log.

    :raises DataError: they cannot be read.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"the log cannot be read ({text})",
            where=str(place),
            way_out="check the place, and who may read it",
        ) from error


def endpoints(roots: Sequence[Root], tree: Tree) -> tuple[str, ...]:
    """Whose predictions or labels these logs hold, sorted.

    :raises LifecycleError: a place cannot be read.
    """
    from pyarrow.fs import FileSelector

    found: set[str] = set()
    for root in roots:
        with reading(root if isinstance(root, str | Path) else root[1]):
            system, base = place_of(root) if isinstance(root, str | Path) else root
            folders = system.get_file_info(FileSelector(f"{base}/{tree}", allow_not_found=True))
            found |= {str(one.base_name).removeprefix("endpoint=") for one in folders}
    return tuple(sorted(found))


def log_days(
    roots: Sequence[Root], tree: Tree, endpoint: str, first_day: date | None = None
) -> Iterator[list[tuple[FileSystem, str]]]:
    """The files of each day of all these logs, the newest day first; rows of an unknown day last.

    :raises LifecycleError: a place cannot be read.
    """
    days: dict[str, list[tuple[FileSystem, str]]] = {}
    for root in roots:
        with reading(root if isinstance(root, str | Path) else root[1]):
            for system, path in _files(root, _Asked(tree, endpoint, first_day, None)):
                days.setdefault(path.rsplit("/", 2)[-2].removeprefix("dt="), []).append((system, path))
    for day in sorted(days, key=lambda one: "" if one == UNKNOWN_DAY else one, reverse=True):
        yield days[day]


def _files(root: Root, asked: _Asked) -> Iterator[tuple[FileSystem, str]]:
    """The files that are asked for, in their names' order."""
    from pyarrow.fs import FileSelector, FileType

    system, base = place_of(root) if isinstance(root, str | Path) else root
    days = system.get_file_info(FileSelector(f"{base}/{asked.tree}/endpoint={asked.endpoint}", allow_not_found=True))
    for day in sorted(days, key=lambda one: str(one.base_name)):
        if day.type != FileType.Directory or not asked.takes(day.base_name):
            continue
        for file in sorted(system.get_file_info(FileSelector(day.path)), key=lambda one: str(one.base_name)):
            if file.base_name.endswith(".parquet") and not file.base_name.startswith("."):
                yield system, file.path


def place_of(root: str | Path) -> tuple[FileSystem, str]:
    """The file system of a folder or an address, and the path on it.

    :raises LifecycleError: nobody knows such an address.
    """
    from pyarrow.fs import FileSystem, LocalFileSystem

    if "://" not in str(root):
        return LocalFileSystem(), str(Path(root).absolute())
    shown = shown_address(str(root))
    try:
        system, path = FileSystem.from_uri(str(root))
    except (ValueError, OSError) as error:
        raise LifecycleError(
            f"no file system is known for this address ({type(error).__name__})",
            where=shown,
            way_out="name a folder, or an address such as s3://bucket/log",
        ) from error
    return system, str(path).rstrip("/")


def _file(system: FileSystem, path: str, columns: Sequence[str] | None) -> pa.Table:
    import pyarrow.parquet as pq

    with system.open_input_file(path) as handle, pq.ParquetFile(handle) as file:
        known = file.schema_arrow.names
        table: pa.Table = file.read(None if columns is None else [name for name in columns if name in known])
    return table


def stacked(tables: Sequence[pa.Table]) -> pa.Table:
    """One table: a column of several types as text, one that a file lacks as missing."""
    import pyarrow as pa

    types: dict[str, set[Any]] = {}
    for table in tables:
        for field in table.schema:
            types.setdefault(field.name, set()).add(field.type)
    mixed = [name for name, found in types.items() if len({one for one in found if not pa.types.is_null(one)}) > 1]
    for name in mixed:
        tables = [
            table.set_column(table.schema.get_field_index(name), name, table.column(name).cast(pa.string()))
            if name in table.schema.names
            else table
            for table in tables
        ]
    stacked: pa.Table = pa.concat_tables(tables, promote_options="default")
    return stacked
