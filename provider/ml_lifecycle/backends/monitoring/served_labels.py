"""What turned out, brought to the requests that servers answered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ml_lifecycle.backends.files import publish_file
from ml_lifecycle.backends.monitoring.labels import kind_of, plain_keys
from ml_lifecycle.backends.monitoring.prediction_log import (
    Origin,
    Root,
    key_texts,
    label_text,
    log_days,
    reading,
    write_log,
)
from ml_lifecycle.core.contracts import digest_of
from ml_lifecycle.core.errors import ColumnError

if TYPE_CHECKING:
    import pandas as pd

_NAMED: Final = ("prediction_id", "key", "at")


class Labelled(NamedTuple):
    """What became of a file of labels."""

    predictions: int
    """That have a label now; one key may have been asked for several times."""
    keys: int
    """Labels that belong to a prediction."""
    unknown: int
    """Labels of keys that nobody asked for, as far as the log goes."""
    conflicting: int
    """Keys whose labels contradict each other: their predictions get none."""
    files: tuple[str, ...]
    """That were written, below the log's root."""


def label_answers(
    log: Path,
    endpoint: str,
    labels: pd.DataFrame,
    *,
    key: str,
    label: str,
    recorded: int,
    first_day: date | None = None,
) -> Labelled:
    """Write labels beside every logged prediction of the same key; doing it again changes nothing.

    :param log: The log's folder, which holds ``predictions`` and ``labels``.
    :param recorded: Of two labels of one prediction the one with the greater number counts.
    :param first_day: From which day on predictions are looked for.
    :raises ColumnError: a column is missing.
    :raises DataError: the log cannot be read.
    """
    import pandas as pd

    known, conflicting = _plain(labels, key, label)
    found = [
        part.merge(known, on="key", how="inner", validate="many_to_one")
        for part in _answered(log, endpoint, first_day)
        if len(part)
    ]
    joined = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*_NAMED, "label", "value"])
    joined = joined.drop_duplicates("prediction_id")
    written = _write(log, endpoint, joined, recorded) if len(joined) else ()
    keys = int(joined["key"].nunique())
    return Labelled(len(joined), keys, len(known) - keys, conflicting, written)


def _plain(labels: pd.DataFrame, key: str, label: str) -> tuple[pd.DataFrame, int]:
    """Keys as the log holds them with their labels, each once; and how many contradict themselves."""
    import pandas as pd

    missing = [name for name in (key, label) if name not in labels.columns]
    if missing:
        raise ColumnError(
            f"the labels lack {', '.join(map(repr, missing))}",
            where=", ".join(map(str, labels.columns)),
            way_out="name the columns of the key and of the label",
        )
    values = labels[label]
    numbers = pd.to_numeric(values, errors="coerce") if kind_of(values) == "number" else None
    table = pd.DataFrame(
        {
            "key": key_texts(plain_keys(labels[key])),
            "label": values.map(label_text, na_action="ignore").astype(object),
            "value": numbers,
        }
    ).dropna(subset=["key", "label"])
    several = table.groupby("key")["label"].nunique()
    contradicting = several[several > 1].index
    kept = table[~table["key"].isin(contradicting)].drop_duplicates("key")
    return kept, len(contradicting)


def _answered(log: Root, endpoint: str, first_day: date | None) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet as pq

    for files in log_days([log], "predictions", endpoint, first_day):
        for system, path in files:
            with reading(path):
                table = pq.read_table(path, columns=list(_NAMED), filesystem=system, partitioning=None)
            yield table.to_pandas()


def _write(log: Path, endpoint: str, joined: pd.DataFrame, recorded: int) -> tuple[str, ...]:
    import pyarrow as pa

    rows = len(joined)
    table = pa.table(
        {
            "prediction_id": pa.array(joined["prediction_id"], pa.string()),
            "endpoint": pa.array([endpoint] * rows, pa.string()),
            "key": pa.array(joined["key"], pa.string()),
            "at": pa.array(joined["at"], pa.timestamp("us", "UTC"), from_pandas=True),
            "label": pa.array(joined["label"], pa.string()),
            "value": pa.array(joined["value"], pa.float64(), from_pandas=True),
            "labelled_at": pa.nulls(rows, pa.timestamp("us", "UTC")),
            "recorded": pa.array([recorded] * rows, pa.int64()),
        }
    )
    told: Any = sorted(zip(joined["prediction_id"], joined["label"], strict=True))
    origin = Origin(endpoint=endpoint, partition="labels", data_digest=digest_of(told), recorded=recorded)
    return write_log(
        lambda name, content: publish_file(log / name, lambda draft: draft.write_bytes(content)),
        "labels",
        origin,
        table,
    )
