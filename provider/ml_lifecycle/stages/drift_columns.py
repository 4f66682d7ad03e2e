"""What a look for drift found of each column: kept as a table, and the foremost of them in a report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from ml_lifecycle.core.contracts import ColumnDrift, DriftPolicy, DriftReport
from ml_lifecycle.core.errors import ColumnError, DataError, did_you_mean
from ml_lifecycle.core.monitoring import by_certainty

if TYPE_CHECKING:
    import pyarrow as pa

TABLE: Final = "columns.parquet"
LARGEST_REPORT: Final = 16 * 1024
"""Bytes of JSON: some deployments' XCom takes no more."""
_MOST_COLUMNS: Final = 20
_MOST_PARTITIONS: Final = 40
_MOST_WARNINGS: Final = 10
_LONGEST_WARNING: Final = 300
_LONGEST_DETAIL: Final = 200
_STAMP: Final = ("model", "version", "partition")


def chosen_columns(names: Sequence[str], policy: DriftPolicy) -> list[str]:
    """Those of a reference's columns that are compared.

    :raises ColumnError: the policy names another one.
    """
    for asked in (*policy.columns, *policy.ignore, *policy.categorical):
        if asked not in names:
            raise ColumnError(
                f"the reference has no column {asked!r}",
                where="the drift policy",
                way_out=f"it has {', '.join(names[:40])}{did_you_mean(asked, names)}",
            )
    return [name for name in names if (not policy.columns or name in policy.columns) and name not in policy.ignore]


def judged_columns(columns: Sequence[ColumnDrift], judged: Sequence[ColumnDrift]) -> tuple[ColumnDrift, ...]:
    """All windows of all columns, with what was judged of those that say most."""
    said = {(one.role, one.column, one.window): one for one in judged}
    return tuple(said.get((one.role, one.column, one.window), one) for one in columns)


def foremost(columns: Sequence[ColumnDrift]) -> list[ColumnDrift]:
    """Each column in the window that says most about it: drifted ones first, then by certainty and distance."""
    found: dict[tuple[str, str], ColumnDrift] = {}
    for one in sorted(columns, key=by_certainty):
        found.setdefault((one.role, one.column), one)
    return list(found.values())


def weighted(columns: Iterable[ColumnDrift]) -> float | None:
    """Distances of the drifted columns, each weighed by its importance; ``None`` where that is not known.

    :param columns: Each column once.
    """
    drifted = [one for one in columns if one.drifted and one.role == "feature"]
    if any(one.importance is None for one in drifted):
        return None
    return min(sum((one.importance or 0.0) * (one.distance or 0.0) for one in drifted), 1.0)


# --- The table -------------------------------------------------------------------------------------------------------


def write_columns(path: Path, columns: Sequence[ColumnDrift], *, model: str, version: int, partition: str) -> None:
    """A row per column and window, under one schema whatever the values: many such files are read as one table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stamp = {"model": model, "version": version, "partition": partition}
    rows = [{**stamp, **one.model_dump(mode="json")} for one in columns]
    pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), path, compression="zstd")


def read_columns(path: Path) -> tuple[ColumnDrift, ...]:
    """What :func:`write_columns` wrote.

    :raises DataError: it is not that.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows = file.read().to_pylist()
        return tuple(
            ColumnDrift.model_validate({name: value for name, value in row.items() if name not in _STAMP})
            for row in rows
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{TABLE} cannot be read ({type(error).__name__})",
            where=str(path.parent.name),
            way_out="remove the folder and measure again",
        ) from error


@cache
def _schema() -> pa.Schema:
    import pyarrow as pa

    types: dict[Any, Any] = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}

    def type_of(annotation: Any) -> Any:
        # "float | None" holds a float, and a literal its words.
        inner = next((one for one in get_args(annotation) if one in types), str)
        return types.get(annotation, types[inner])

    fields = [("model", pa.string()), ("version", pa.int64()), ("partition", pa.string())]
    fields += [(name, type_of(field.annotation)) for name, field in ColumnDrift.model_fields.items()]
    return pa.schema(fields)


# --- The report ------------------------------------------------------------------------------------------------------


def fitting(report: DriftReport) -> DriftReport:
    """The report with as many of its columns, the foremost first, as XCom takes."""
    shown = foremost(report.columns)[:_MOST_COLUMNS]
    short = report.model_copy(
        update={
            "columns": tuple(_rounded(one) for one in shown),
            "reference_partitions": report.reference_partitions[-_MOST_PARTITIONS:],
            "warnings": tuple(text[:_LONGEST_WARNING] for text in report.warnings[:_MOST_WARNINGS]),
        }
    )
    while short.columns and len(json.dumps(short.to_xcom()).encode()) >= LARGEST_REPORT:
        short = short.model_copy(update={"columns": short.columns[:-1]})
    return short


def _rounded(column: ColumnDrift) -> ColumnDrift:
    """Six digits are more than anybody reads."""
    values = {name: float(f"{value:.6g}") for name, value in column if isinstance(value, float)}
    return column.model_copy(update={**values, "detail": column.detail[:_LONGEST_DETAIL]})
