"""What models answered, out of prediction logs: streamed, with no more rows in memory than are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.deployment.sagemaker_endpoint import variant_name, version_in
from ml_lifecycle.backends.monitoring.prediction_log import INPUT, Root, Tree, log_days, reading, stacked

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyarrow.fs import FileSystem

Roots = Sequence[Root]
"""Logs that are read as one."""

_ROWS: Final = 8192
"""That are decoded at a time."""
_SAID: Final = ("score", "label", "probabilities", "recorded")
_ANSWER: Final = (
    *("prediction_id", "at", "model_version", "model_digest", "variant", "request_id"),
    *_SAID,
)
_LABEL: Final = ("prediction_id", "label", "value", "recorded")


@dataclass(frozen=True)
class Answerer:
    """The model whose answers are meant."""

    digest: str
    version: int | None = None
    """``None``: the digest alone tells."""
    is_alone: bool = False
    """Whether answers are meant too that do not tell who gave them, such as those captured at somebody's endpoint."""

    def is_variant(self, name: str) -> bool:
        """Whether a variant of an endpoint of SageMaker, which captures no more than its name, is this model."""
        version = version_in(name)
        if version is None:
            return self.is_alone
        return self.version is not None and name == variant_name(self.version, self.digest)


def newest_answers(
    roots: Roots, endpoint: str, who: Answerer, *, count: int, since: datetime | None = None
) -> pd.DataFrame:
    """The newest answers of a model, each once, oldest first, with what it was asked in columns ``input_<name>``.

    Of answers at the same moment, those of the first ids: the same log always gives the same rows.

    :raises DataError: the log cannot be read.
    """
    import pandas as pd

    newest = _Newest(who, count, since)
    for files in log_days(roots, "predictions", endpoint, _day(since) if since is not None else None):
        for system, path in files:
            for batch in _batches(system, path, _is_asked, lambda: newest.oldest):
                with reading(path):
                    newest.add(batch)
        if newest.is_full:
            # A day's folder holds the rows of that day, so that all others are older.
            break
    if newest.held is None:
        empty: pd.DataFrame = pd.DataFrame(columns=list(_ANSWER))
        return empty
    rows: pd.DataFrame = newest.held.to_pandas().iloc[::-1].reset_index(drop=True)
    return rows


def labelled_answers(
    roots: Roots, endpoint: str, answerers: Mapping[str, Answerer], since: datetime
) -> dict[str, pd.DataFrame]:
    """By what each model is called here: what it answered to requests from then on whose labels are in, each once.

    What scoring predicted is left out: it was no request that might as well have reached another version. The columns
    ``truth`` and ``truth_value`` say what turned out, as in
    :func:`ml_lifecycle.backends.monitoring.prediction_log.join`.

    :raises DataError: the log cannot be read.
    """
    import pandas as pd

    labels = _labels(roots, endpoint, since)
    found: dict[str, list[pa.Table]] = {name: [] for name in answerers}
    for batch in _all("predictions", _ANSWER, roots, endpoint, since) if labels.num_rows else ():
        requests = _requested(_from(batch, since))
        for name, who in answerers.items():
            if (told := _labelled(_of(requests, who), labels)).num_rows:
                found[name].append(told)
    empty = pd.DataFrame(columns=[*_SAID, "truth", "truth_value"])
    return {name: _once(stacked(parts), "id").to_pandas() if parts else empty for name, parts in found.items()}


class _Newest:
    """The newest answers among those that were seen so far, newest first."""

    def __init__(self, who: Answerer, count: int, since: datetime | None) -> None:
        self._who, self._count, self._since = who, count, since
        self.held: pa.Table | None = None

    @property
    def is_full(self) -> bool:
        """Whether there are as many as are wanted."""
        return self.held is not None and self.held.num_rows >= self._count

    @property
    def oldest(self) -> datetime | None:
        """Before which no answer is wanted any more."""
        if self.held is None or not self.is_full:
            return self._since
        last: datetime = self.held.column("at")[-1].as_py()
        return last

    def add(self, batch: pa.Table) -> None:
        """See further answers."""
        found = _of(_from(batch, self.oldest), self._who)
        if not found.num_rows:
            return
        both = _once(found if self.held is None else stacked([self.held, found]))
        ordered = both.sort_by([("at", "descending"), ("prediction_id", "ascending")])
        self.held = ordered.slice(0, self._count).combine_chunks()


# --- Rows ------------------------------------------------------------------------------------------------------------


def _day(since: datetime) -> date:
    """The log's days are those of UTC."""
    return since.astimezone(timezone.utc).date()


def _is_asked(name: str) -> bool:
    return name in _ANSWER or name.startswith(INPUT)


def _from(table: pa.Table, since: datetime | None) -> pa.Table:
    """Rows from then on; one without a moment is among none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    at = table.column("at")
    if since is None:
        return table.filter(pc.is_valid(at))
    # Gaps are dropped by the filter.
    return table.filter(pc.greater_equal(at, pa.scalar(since, at.type)))


def _requested(table: pa.Table) -> pa.Table:
    """Answers to requests: a server names the request, and a capture the endpoint's variant."""
    import pyarrow.compute as pc

    return table.filter(pc.or_(pc.is_valid(table.column("request_id")), pc.is_valid(table.column("variant"))))


def _of(table: pa.Table, who: Answerer) -> pa.Table:
    """The rows that this model answered: by digest and version, else by variant, as far as a row tells them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    digest, version, variant = (table.column(name) for name in ("model_digest", "model_version", "variant"))
    if who.version is None:
        version = pa.nulls(table.num_rows, pa.int64())
    either, yes = pc.or_(pc.is_valid(digest), pc.is_valid(version)), pa.scalar(value=True)
    both = pc.and_(
        pc.coalesce(pc.equal(digest, who.digest), yes), pc.coalesce(pc.equal(version, who.version or 0), yes)
    )
    names = [name for name in pc.unique(variant).to_pylist() if name is not None and who.is_variant(name)]
    named = pc.is_in(variant, value_set=pa.array(names, pa.string()))
    unnamed = pc.and_(pc.is_null(variant), pa.scalar(who.is_alone))
    return table.filter(pc.if_else(either, both, pc.or_(named, unnamed)))


def _once(table: pa.Table, name: str = "prediction_id") -> pa.Table:
    """Each prediction once: as it was recorded last, and of what was recorded alike what was read last."""
    import pyarrow as pa

    recorded = table.select([name, "recorded"]).to_pandas().sort_values("recorded", kind="stable")
    kept = recorded.drop_duplicates(name, keep="last").index.sort_values()
    return table.take(pa.array(kept)) if len(kept) < table.num_rows else table


def _labels(roots: Roots, endpoint: str, since: datetime) -> pa.Table:
    """The newest label of each prediction of these days, by ``id``; without those that were taken back."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [_compact(batch) for batch in _all("labels", _LABEL, roots, endpoint, since)]
    if not parts:
        return pa.table({"id": pa.array([], pa.uint64())})
    newest = _once(pa.concat_tables(parts), "id").sort_by("id")
    return newest.filter(pc.is_valid(newest.column("label"))).combine_chunks()


def _compact(labels: pa.Table) -> pa.Table:
    """A number for each prediction's id, which takes a tenth of its memory."""
    import pyarrow as pa

    kept = labels.select(["label", "value", "recorded"])
    return kept.append_column("id", pa.array(_numbers(labels), pa.uint64()))


def _labelled(answers: pa.Table, labels: pa.Table) -> pa.Table:
    """What the answers said that have a label, with it beside them."""
    import numpy as np
    import pyarrow as pa

    known, asked = labels.column("id").to_numpy(), _numbers(answers)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    found = known[place] == asked
    beside = labels.take(pa.array(place[found]))
    said = answers.select([name for name in _SAID if name in answers.column_names])
    table = said.append_column("id", pa.array(asked, pa.uint64())).filter(pa.array(found))
    for name, column in (("truth", "label"), ("truth_value", "value")):
        table = table.append_column(name, beside.column(column))
    return table


def _numbers(table: pa.Table) -> NDArray[np.uint64]:
    """The ids' hashes: two of a hundred million share one with a chance of one in four thousand."""
    import pandas as pd

    numbers: NDArray[np.uint64] = pd.util.hash_array(
        table.column("prediction_id").to_pandas().to_numpy(object), categorize=False
    )
    return numbers


# --- Files -----------------------------------------------------------------------------------------------------------


def _all(tree: Tree, columns: Sequence[str], roots: Roots, endpoint: str, since: datetime) -> Iterator[pa.Table]:
    """These columns of all rows of the days since then; of predictions, not of groups of rows that are all older."""
    # A label may tell no more than its prediction's day.
    oldest = since if tree == "predictions" else None
    for files in log_days(roots, tree, endpoint, _day(since)):
        for system, path in files:
            yield from _batches(system, path, columns.__contains__, lambda: oldest)


def _batches(
    system: FileSystem, path: str, asked: Callable[[str], bool], oldest: Callable[[], datetime | None]
) -> Iterator[pa.Table]:
    """A file's rows, some at a time; groups of rows that are all older are not read.

    :param oldest: Asked anew before each group.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(path), system.open_input_file(path) as handle, pq.ParquetFile(handle) as file:
        names = [name for name in file.schema_arrow.names if asked(name)]
        for group in range(file.num_row_groups):
            limit, newest = oldest(), _newest_in(file.metadata.row_group(group))
            if limit is not None and newest is not None and newest < limit:
                continue
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=names):
                yield _plain(pa.Table.from_batches([batch]), asked)


def _newest_in(group: Any) -> datetime | None:
    """The newest moment of a group of rows, where the file tells."""
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema == "at" and column.statistics is not None and column.statistics.has_min_max:
            newest: datetime = column.statistics.max
            return newest if newest.tzinfo is not None else None
    return None


def _plain(table: pa.Table, asked: Callable[[str], bool]) -> pa.Table:
    """The columns with the types that the log gives them; one that the file lacks is missing in all rows."""
    import pyarrow as pa

    place = table.schema.get_field_index("probabilities")
    if place >= 0 and not pa.types.is_map(table.schema.field(place).type):
        table = table.remove_column(place)

    kinds = {
        "prediction_id": pa.string(),
        "at": pa.timestamp("us", "UTC"),
        "model_version": pa.int64(),
        "model_digest": pa.string(),
        "variant": pa.string(),
        "request_id": pa.string(),
        "score": pa.float64(),
        "label": pa.string(),
        "value": pa.float64(),
        "recorded": pa.int64(),
    }
    for name, kind in kinds.items():
        place = table.schema.get_field_index(name)
        if place >= 0 and table.schema.field(place).type != kind:
            table = table.set_column(place, name, table.column(place).cast(kind))
        elif place < 0 and asked(name):
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    return table
