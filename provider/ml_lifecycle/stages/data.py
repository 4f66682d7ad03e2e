"""Partitions in, one immutable snapshot out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ml_lifecycle.backends.data.base import DataStore, FileState
from ml_lifecycle.backends.files import file_digest, write_parquet
from ml_lifecycle.core.contracts import Columns, Contract, DatasetRef, DropRule, RunRequest, Source, digest_of
from ml_lifecycle.core.data import render
from ml_lifecycle.core.errors import (
    ColumnError,
    DataError,
    LabelsMissingError,
    NoRowsError,
    PartitionMissingError,
    PartitionUnreadableError,
    PassingError,
    did_you_mean,
)
from ml_lifecycle.stages.runner import Tools

if TYPE_CHECKING:
    import pandas as pd

_PLAIN = ("boolean", "date", "decimal", "large number", "nothing", "number", "text", "timestamp")
_LARGEST = 2**63 - 1
"""Hashes as unsigned 64-bit keys go beyond it, and would silently turn negative."""

LAYOUT = 1
"""Part of every snapshot's name: a change of what a snapshot holds makes other names, and never mixes with old ones."""


class SnapshotJob(Contract):
    """What a snapshot is made of."""

    model: str
    partitions: tuple[str, ...]
    """Oldest first."""
    source: Source
    labels: Source | None = None
    """Where the target lives when it arrives later than the rows: joined by key."""
    related: dict[str, Source] = Field(default_factory=dict)
    """Tables that the features need beside the rows, such as weather; handed to the features by these names."""
    columns: Columns
    drop: tuple[DropRule, ...] = ()
    labelled: bool = True
    """Whether the target is needed: join the labels, apply the drop rules, refuse a dataset without a target."""

    @classmethod
    def unlabelled(
        cls, request: RunRequest, source: Source, related: Mapping[str, Source], columns: Columns
    ) -> SnapshotJob:
        """One partition as it is scored: monitoring that asks the same way gets the same snapshot, and so its bytes."""
        return cls(
            model=request.model,
            partitions=(request.partition,),
            source=source,
            related=dict(related),
            columns=columns,
            labelled=False,
        )


class ReadinessJob(Contract):
    """Which files of a partition have to be there, whole, and no longer growing."""

    partition: str
    sources: tuple[Source, ...]
    settle_seconds: float = 5.0
    """How long a file must have kept its size and modification time."""


def snapshot(job: SnapshotJob, tools: Tools) -> DatasetRef:
    """Copy the partitions into an immutable dataset, joined with their labels and cleared by the drop rules.

    The same files and the same job give the same dataset: what is published already is returned as it is.

    :raises PartitionMissingError: a file is not there.
    :raises PartitionUnreadableError: a file is empty, truncated, or not what its name promises.
    :raises ColumnError: a column is missing, renamed, of another type, or clashes; a key is missing or not unique.
    :raises LabelsMissingError: the target is missing, or holds one value only.
    :raises NoRowsError: the drop rules leave no row.
    """
    check_names(job)
    files = files_of(job)
    before = {uri: tools.data.state(uri) for _, uri in files}
    digests = {uri: tools.data.file_digest(uri) for _, uri in files}
    uri = f"snapshots/{job.model}/{snapshot_key(job, digests)[:16]}"
    if tools.data.published(uri) is None:
        rows, dropped, label_columns = _rows(job, tools.data)
        related = {name: stack(tools.data, _uris(source, job.partitions)) for name, source in job.related.items()}
        for file, state in before.items():
            check_unchanged(tools.data, file, state)
        sources = [{"role": role, "uri": file, "sha256": digests[file]} for role, file in files]
        origin = {
            "layout": LAYOUT,
            "job": job.model_dump(mode="json"),
            "sources": sources,
            "rows": len(rows),
            "dropped": dropped,
            "label_columns": label_columns,
        }
        publish_dataset(tools.data, uri, {"data": rows, **related}, origin)
    return dataset_ref(tools.data, uri)


def publish_dataset(store: DataStore, uri: str, tables: Mapping[str, pd.DataFrame], origin: Mapping[str, Any]) -> str:
    """Publish a dataset's folder: one parquet file per table, ``data`` among them, and ``origin.json``.

    :param origin: Where it came from: at least ``job``, ``rows`` and ``dropped``.
    """

    def write(folder: Path) -> None:
        digests = {}
        for name, table in tables.items():
            write_parquet(table, folder / f"{name}.parquet")
            digests[name] = file_digest(folder / f"{name}.parquet")
        text = json.dumps({**origin, "tables": digests}, indent=2, sort_keys=True)
        (folder / "origin.json").write_text(text + "\n", encoding="utf-8")

    return store.publish(uri, write)


def dataset_ref(store: DataStore, uri: str) -> DatasetRef:
    """What a published dataset says of itself.

    :raises DataError: its files are not what they were when it was published.
    """
    with store.folder(uri) as folder:
        origin = _origin(folder, where=uri)
    return DatasetRef(
        uri=uri,
        rows=origin["rows"],
        fingerprint=store.published(uri) or "",
        columns=Columns.model_validate(origin["job"]["columns"]),
        partitions=tuple(origin["job"]["partitions"]),
        dropped=origin["dropped"],
        label_columns=tuple(origin.get("label_columns", ())),
    )


def _origin(folder: Path, *, where: str) -> dict[str, Any]:
    """The dataset's ``origin.json``, after a look at the tables that it names."""
    try:
        origin: dict[str, Any] = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        spoilt = [
            name for name, digest in origin["tables"].items() if file_digest(folder / f"{name}.parquet") != digest
        ]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"this is no dataset that was published here ({type(error).__name__}: {error})",
            where=where,
            way_out="remove the folder and take the snapshot again",
        ) from error
    if spoilt:
        raise DataError(
            f"{', '.join(f'{name}.parquet' for name in spoilt)} was changed after it was published",
            where=where,
            way_out="restore it, or remove the folder and take the snapshot again",
        )
    return origin


def readiness(job: ReadinessJob, tools: Tools) -> str | None:
    """Why the partition is not ready yet, or ``None`` when it is."""
    for source in job.sources:
        uri = render(source.uri, job.partition)
        state = tools.data.state(uri)
        if state is None:
            return f"{uri} is not there yet"
        try:
            tools.data.check_complete(uri)
        except (PartitionMissingError, PartitionUnreadableError) as error:
            return f"{uri}: {error.what}"
        quiet = tools.clock().timestamp() - state.modified_at
        if quiet < job.settle_seconds:
            return f"{uri} changed {max(quiet, 0):.1f} s ago, and has to rest for {job.settle_seconds:g} s"
    return None


def join_labels(rows: pd.DataFrame, labels: pd.DataFrame, *, key: str, where: str) -> pd.DataFrame:
    """The rows with their labels beside them; a row without a label keeps missing values.

    :param where: The labels' files, for errors.
    :raises ColumnError: a column is in both tables, or the labels' key is absent or not unique.
    """
    check_key(labels, key, where=where)
    if clash := sorted(set(rows.columns) & set(labels.columns) - {key}):
        raise ColumnError(
            f"columns {', '.join(map(repr, clash))} are in the rows and in the labels",
            where=where,
            way_out="rename or remove them on one side; only the key may be in both",
        )
    ours, theirs = kind_of(rows[key]), kind_of(labels[key])
    if ours != theirs:
        raise ColumnError(
            f"the key {key!r} is {theirs} in the labels and {ours} in the rows",
            where=where,
            way_out="write both with the same type",
        )
    joined: pd.DataFrame = rows.merge(labels, on=key, how="left", sort=False, validate="one_to_one")
    return joined


def apply_drop_rules(
    table: pd.DataFrame, rules: Sequence[DropRule], *, where: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows that no rule drops, and how many each rule dropped: a row counts for the first rule that fits.

    :raises ColumnError: a rule names a column that is not there.
    """
    dropped: dict[str, int] = {}
    for rule in rules:
        require_columns(table, [rule.column], where=where, role="a drop rule's column")
        column = table[rule.column]
        hit = column.isna() if rule.equals is None else (column == rule.equals).fillna(value=False).astype(bool)
        dropped[rule.because] = dropped.get(rule.because, 0) + int(hit.sum())
        table = table[~hit]
    return table.reset_index(drop=True), dropped


def check_key(table: pd.DataFrame, key: str, *, where: str) -> None:
    """Refuse a table whose key is absent, missing in a row, or not unique.

    :raises ColumnError: it is.
    """
    require_columns(table, [key], where=where, role="the key")
    column = table[key]
    check_plain(column, where=where, role="the key")
    if missing := int(column.isna().sum()):
        raise ColumnError(
            f"the key {key!r} is missing in {missing} of {len(table)} rows",
            where=where,
            way_out="give every row a key before it lands",
        )
    if (again := column.duplicated()).any():
        examples = ", ".join(repr(value) for value in column[again].unique()[:3].tolist())
        raise ColumnError(
            f"the key {key!r} is not unique: {int(again.sum())} rows repeat one, such as {examples}",
            where=where,
            way_out="name a column that is, or remove the repeated rows",
        )


def check_plain(column: pd.Series[Any], *, where: str, role: str) -> None:
    """Refuse lists, mappings and mixtures where single values are compared."""
    kind = kind_of(column)
    if kind not in _PLAIN:
        raise ColumnError(
            f"{role} {column.name!r} holds {kind} values", where=where, way_out="write texts, numbers or timestamps"
        )


def require_columns(table: pd.DataFrame, names: Sequence[str], *, where: str, role: str) -> None:
    """Refuse a table that lacks a column.

    :param role: What the columns are to the pipeline, such as ``the key``.
    :raises ColumnError: one is missing; the nearest name that is there is suggested.
    """
    known = [str(name) for name in table.columns]
    for name in names:
        if name not in known:
            raise ColumnError(
                f"{role} {name!r} is not among the columns",
                where=where,
                way_out=f"there are {', '.join(known[:40])}{did_you_mean(name, known)}",
            )


def check_names(job: SnapshotJob) -> None:
    """Refuse a related table that cannot be handed over by its name, and a job without partitions."""
    for name in job.related:
        if not name.isidentifier() or name == "data":
            raise DataError(
                f"{name!r} cannot name a related table",
                where=f"model {job.model}: data.related",
                way_out="use a Python name other than 'data': the features receive the table as an argument",
            )
    if not job.partitions:
        raise NoRowsError("no partition was asked for", where=f"model {job.model}", way_out="name at least one")


def check_unchanged(store: DataStore, uri: str, before: FileState | None) -> None:
    """Refuse what was read of a file that changed meanwhile; it may pass."""
    if store.state(uri) != before:
        raise PassingError(
            "the file changed while it was read", where=uri, way_out="try again when it has been written to its end"
        )


def _roles(job: SnapshotJob) -> dict[str, Source]:
    labels = {"labels": job.labels} if job.labels is not None and job.labelled else {}
    return {"rows": job.source, **labels, **{f"related:{name}": source for name, source in job.related.items()}}


def _uris(source: Source, partitions: Sequence[str]) -> list[str]:
    """One file per partition; a uri without a placeholder names one file for all of them."""
    return list(dict.fromkeys(render(source.uri, partition) for partition in partitions))


def files_of(job: SnapshotJob) -> list[tuple[str, str]]:
    """Every file that the job reads, beside what it is to it."""
    return [(role, uri) for role, source in _roles(job).items() for uri in _uris(source, job.partitions)]


def snapshot_key(job: SnapshotJob, digests: Mapping[str, str]) -> str:
    """Names what a job makes of files with these digests."""
    return digest_of({"layout": LAYOUT, "job": job.model_dump(mode="json"), "files": dict(digests)})


def _rows(job: SnapshotJob, store: DataStore) -> tuple[pd.DataFrame, dict[str, int], list[str]]:
    """The joined and cleared rows, how many each rule dropped, and the columns that came with the labels."""
    uris = _uris(job.source, job.partitions)
    where = _span(uris)
    rows = stack(store, uris)
    check_key(rows, job.columns.key, where=where)
    if job.columns.time is not None:
        rows[job.columns.time] = times_of(rows, job.columns.time, where=where)
    if not job.labelled:
        return rows, {}, []
    label_columns: list[str] = []
    if job.labels is not None:
        label_uris = _uris(job.labels, job.partitions)
        labels = stack(store, label_uris)
        label_columns = [str(name) for name in labels.columns if name != job.columns.key]
        where = f"{where} with {_span(label_uris)}"
        rows = join_labels(rows, labels, key=job.columns.key, where=where)
    _check_any_label(rows, job.columns.target, where=where)
    before = len(rows)
    rows, dropped = apply_drop_rules(rows, job.drop, where=where)
    if rows.empty:
        counts = ", ".join(f"{count} {because}" for because, count in dropped.items())
        raise NoRowsError(
            f"the drop rules leave none of {before} rows ({counts})",
            where=where,
            way_out="check the rules against the data",
        )
    return _with_target(rows, job.columns.target, where=where), dropped, label_columns


def _check_any_label(rows: pd.DataFrame, target: str | None, *, where: str) -> None:
    if target is None:
        return
    require_columns(rows, [target], where=where, role="the target")
    check_plain(rows[target], where=where, role="the target")
    if rows[target].isna().all():
        raise LabelsMissingError(
            f"the target {target!r} is missing in all {len(rows)} rows",
            where=where,
            way_out="wait until the labels have arrived, and check that their keys are the rows' keys",
        )


def _with_target(rows: pd.DataFrame, target: str | None, *, where: str) -> pd.DataFrame:
    """The rows with a target that a model can learn from: there in each row, and not always the same."""
    if target is None:
        return rows
    if missing := int(rows[target].isna().sum()):
        raise LabelsMissingError(
            f"the target {target!r} is missing in {missing} of {len(rows)} rows",
            where=where,
            way_out=f"add a drop rule for {target!r} if such rows are to be left out",
        )
    if rows[target].nunique() < 2:  # noqa: PLR2004  # a model needs two values to tell apart
        raise LabelsMissingError(
            f"the target {target!r} is {rows[target].iloc[0]} in all {len(rows)} rows",
            where=where,
            way_out="read a wider window: nothing can be learned from one class",
        )
    rows[target] = as_kind(rows[target], kind_of(rows[target]))
    return rows


def times_of(rows: pd.DataFrame, name: str, *, where: str) -> pd.Series[Any]:
    """The time column in UTC; text is parsed, numbers are refused because their unit is a guess."""
    import pandas as pd

    require_columns(rows, [name], where=where, role="the time column")
    column = rows[name]
    kind = kind_of(column)
    if kind not in {"timestamp", "text"}:
        raise ColumnError(
            f"the time column {name!r} is {kind} ({column.dtype})", where=where, way_out="write timestamps into it"
        )
    try:
        times = pd.to_datetime(column, utc=True, format="ISO8601") if kind == "text" else column
    except ValueError:
        bad = column[pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce").isna()]
        raise ColumnError(
            f"the time column {name!r} holds {bad.iloc[0]!r}, which is no timestamp",
            where=where,
            way_out="write timestamps, or text like 2013-01-31T07:15:00Z",
        ) from None
    if missing := int(times.isna().sum()):
        raise ColumnError(
            f"the time column {name!r} is missing in {missing} of {len(rows)} rows",
            where=where,
            way_out="give every row a time before it lands",
        )
    return as_kind(times, "timestamp")


def stack(store: DataStore, uris: Sequence[str]) -> pd.DataFrame:
    """The files' rows one after the other, with one type per column whatever file it was read from."""
    import pandas as pd

    tables = {uri: store.read_table(uri) for uri in uris}
    first = next(iter(tables))
    names = [str(name) for name in tables[first].columns]
    for uri, table in tables.items():
        _check_same_columns(table, uri, names, first)
    kinds = {name: _common_kind(tables, name) for name in names}
    # pandas would choose another type for a column that one file holds no value of.
    gaps = {
        name: any(table[name].isna().any() for table in tables.values()) or not _all_whole(tables, name)
        for name, kind in kinds.items()
        if kind in {"number", "boolean"}
    }
    uniform = [
        pd.DataFrame({name: as_kind(table[name], kinds[name], gaps=gaps.get(name)) for name in names})
        for table in tables.values()
    ]
    stacked: pd.DataFrame = pd.concat(uniform, ignore_index=True)
    return stacked


def _check_same_columns(table: pd.DataFrame, uri: str, names: Sequence[str], first: str) -> None:
    found = [str(name) for name in table.columns]
    if len(set(found)) < len(found):
        again = next(name for name in found if found.count(name) > 1)
        raise ColumnError(f"two columns are called {again!r}", where=uri, way_out="rename one of them")
    require_columns(table, names, where=uri, role=f"a column of {first},")
    if extra := [name for name in found if name not in names]:
        raise ColumnError(
            f"the column {extra[0]!r} is not in {first}{did_you_mean(extra[0], names)}",
            where=uri,
            way_out="give all partitions of the window the same columns, or choose a window that has them",
        )


def _common_kind(tables: Mapping[str, pd.DataFrame], name: str) -> str:
    """The one kind of a column over all files; a file that holds no value of it has no say."""
    said = {uri: kind for uri, table in tables.items() if (kind := kind_of(table[name])) != "nothing"}
    if not said:
        return "nothing"
    first = next(iter(said))
    for uri, kind in said.items():
        if kind != said[first]:
            raise ColumnError(
                f"the column {name!r} holds {kind} ({tables[uri][name].dtype}), "
                f"but {said[first]} ({tables[first][name].dtype}) in {first}",
                where=uri,
                way_out="write it with the same type in all partitions",
            )
    return said[first]


def kind_of(column: pd.Series[Any]) -> str:
    """What the values are, whatever type holds them."""
    import pandas as pd
    from pandas.api import types

    if column.isna().all():
        return "nothing"
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if types.is_bool_dtype(column.dtype):
        return "boolean"
    if types.is_numeric_dtype(column.dtype):
        return "large number" if column.max() > _LARGEST else "number"
    if types.is_datetime64_any_dtype(column.dtype):
        return "timestamp"
    inferred = types.infer_dtype(column, skipna=True)
    names = {"string": "text", "boolean": "boolean", "integer": "number", "floating": "number", "datetime": "timestamp"}
    return names.get(inferred, inferred)


def _all_whole(tables: Mapping[str, pd.DataFrame], name: str) -> bool:
    from pandas.api import types

    return all(
        types.is_integer_dtype(table[name].dtype) or types.is_bool_dtype(table[name].dtype) for table in tables.values()
    )


def as_kind(column: pd.Series[Any], kind: str, *, gaps: bool | None = None) -> pd.Series[Any]:
    """The column in the one type that snapshots hold this kind in.

    :param gaps: Whether numbers need a type that has room for missing or broken values; ``None``: as the column does.
    """
    import pandas as pd

    if kind == "timestamp":
        # Moments that are held as such are not looked through for some that come again.
        is_held = pd.api.types.is_datetime64_any_dtype(column.dtype)
        return pd.to_datetime(column, utc=True, cache=not is_held).astype("datetime64[ns, UTC]")
    if kind == "boolean":
        return column.astype("boolean" if gaps or column.isna().any() else "bool")
    if kind == "number":
        whole = pd.api.types.is_integer_dtype(column.dtype)
        asked: Literal["float64", "int64"] = "float64" if gaps or not whole or column.isna().any() else "int64"
        return column if column.dtype == asked else column.astype(asked)
    if kind == "large number":
        return column.astype(
            "float64" if pd.api.types.is_float_dtype(column.dtype) or column.isna().any() else "uint64"
        )
    if kind == "nothing":
        return pd.Series([None] * len(column), index=column.index, dtype=object, name=column.name)
    known, held = column.notna(), column.astype(object)
    return held if known.all() else held.where(known, None)


def _span(uris: Sequence[str]) -> str:
    return uris[0] if len(uris) == 1 else f"{uris[0]} to {uris[-1]}"
