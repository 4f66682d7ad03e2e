"""Files of predictions, made by whatever tool, as rows that rules can be held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ml_lifecycle.backends.data.local import read_table_file
from ml_lifecycle.backends.evaluation.rows import (
    BASELINE,
    CANDIDATE,
    CHAMPION,
    MOST_SLICE_VALUES,
    ScoredRows,
    Task,
    cluster_codes,
    slice_values,
)
from ml_lifecycle.core.contracts import Contract, MeasurementSpec
from ml_lifecycle.core.errors import ColumnError, LabelsMissingError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

KEYS: Final = ("key", "id")
TARGETS: Final = ("target", "label", "truth")
SCORES: Final = ("score", "prediction", "probability")
"""Names of columns that need not be declared, the first one that a file has."""
_TWO: Final = 2
_SAME: Final = {"0": "False", "1": "True", "False": "0", "True": "1"}
"""How another file may write the same label."""
_OPPOSITE: Final = {"0": "1", "1": "0", "False": "True", "True": "False"}


class FileColumns(Contract):
    """What the columns of prediction files mean."""

    key: str | None = None
    """Names a row uniquely; ``None``: the first of :data:`KEYS` that the candidate's file has."""
    time: str | None = None
    """When the row's event takes place."""
    target: str | None = None
    """What turned out; ``None``: the first of :data:`TARGETS`."""
    score: str | None = None
    """What was predicted: a probability, a number or a label, or the start of one column per class, such as
    ``score:late``; ``None``: the first of :data:`SCORES`."""
    task: Literal["binary", "multiclass", "regression"] | None = None
    """``None``: by the columns and the labels."""
    positive: str | None = None
    """Of two labels, the one that the score is the probability of; ``None``: the greater one."""


@dataclass(frozen=True)
class Files:
    """Which file holds whose predictions of the same rows."""

    candidate: Path
    others: Mapping[str, Path] = field(default_factory=dict)
    """By ``champion``, ``baseline`` or a version's number."""
    scores: Mapping[str, str] = field(default_factory=dict)
    """Whose predictions stand in a column of another name than the candidate's."""


@dataclass(frozen=True)
class FileRows:
    """Rows of files, joined by key."""

    files: Files
    columns: FileColumns
    """With the names that were found."""
    rows: ScoredRows
    apart: Mapping[str, str] = field(default_factory=dict)
    """By contender: why it was not measured on these rows, in a sentence."""


def named(contender: str) -> str:
    """Such as ``the champion`` or ``version 3``."""
    return f"the {contender}" if contender in (CHAMPION, BASELINE) else f"version {contender}"


# --- Read ------------------------------------------------------------------------------------------------------------


def read_files(files: Files, columns: FileColumns, *, spec: MeasurementSpec, slices: Sequence[str] = ()) -> FileRows:
    """The rows of all files, joined by key, each exactly once.

    :raises ColumnError: a column is missing or cannot be used, or keys are missing or stand more than once.
    :raises LabelsMissingError: a row has no label.
    """
    table = read_table_file(files.candidate)
    found = _found_columns(table, columns, str(files.candidate))
    keys = _keys(table, found, files.candidate)
    labels = _labels(table, found, files.candidate)
    reader = _reader(table, labels, found, files.candidate)
    scores = {CANDIDATE: reader.scores(table, found.score, files.candidate)}
    truth = reader.truth(labels, files.candidate)
    apart: dict[str, str] = {}
    for name, path in files.others.items():
        column = files.scores.get(name, columns.score)
        score, why = _aligned(reader, keys, truth, found, name=name, path=path, score=column)
        if score is None:
            apart[name] = why
        else:
            scores[name] = score
    if spec.baseline is not None and BASELINE not in files.others:
        _check_columns(table, [spec.baseline], files.candidate, "evaluation.baseline")
        scores[BASELINE] = reader.values(table[spec.baseline], spec.baseline, files.candidate)
    _check_slices(table, slices, files.candidate)
    timed = _timed(table, found, files.candidate)
    rows = ScoredRows(
        task=reader.task,
        truth=truth,
        scores=scores,
        keys=keys.to_numpy(object),
        classes=reader.classes,
        slices={column: slice_values(table[column]) for column in slices},
        weight=_weights(table, spec.weight, files.candidate),
        cluster=cluster_codes(timed, spec.cluster, time=found.time),
        time=_moments(timed, found),
    )
    return FileRows(files, found, rows, apart)


def _found_columns(table: pd.DataFrame, columns: FileColumns, where: str) -> FileColumns:
    """The columns by the names that the file has."""
    return columns.model_copy(
        update={
            "key": _first(table, columns.key, KEYS, "key", where),
            "target": _first(table, columns.target, TARGETS, "label", where),
            "score": _first(table, columns.score, SCORES, "score", where, by_class=True),
        }
    )


def _first(
    table: pd.DataFrame, given: str | None, usual: Sequence[str], what: str, where: str, *, by_class: bool = False
) -> str:
    names = [given] if given is not None else usual
    for name in names:
        if name in table.columns or (by_class and _classes(table, name)):
            return name
    raise ColumnError(
        f"there is no {what} column ({' or '.join(names)})",
        where=where,
        way_out=f"the file has {', '.join(map(str, table.columns))}; name the one by data or by an option",
    )


def _classes(table: pd.DataFrame, score: str | None) -> list[str]:
    """The labels that columns of probabilities are named by."""
    start = f"{score}:"
    return [name[len(start) :] for name in map(str, table.columns) if name.startswith(start)]


def _check_columns(table: pd.DataFrame, names: Sequence[str], path: Path, what: str) -> None:
    absent = [repr(name) for name in names if name not in table.columns]
    if absent:
        raise ColumnError(
            f"there is no column {', '.join(absent)} ({what})",
            where=str(path),
            way_out=f"the file has {', '.join(map(str, table.columns))}",
        )


def _check_slices(table: pd.DataFrame, slices: Sequence[str], path: Path) -> None:
    _check_columns(table, slices, path, "evaluation.slices")
    for column in slices:
        values = table[column].map(str).nunique()
        if values > MOST_SLICE_VALUES:
            raise ColumnError(
                f"{column!r} has {values:,} values, and at most {MOST_SLICE_VALUES} are measured apart",
                where=str(path),
                way_out="slice by a coarser column",
            )


def _keys(table: pd.DataFrame, columns: FileColumns, path: Path) -> pd.Series[str]:
    """Each row's key as text: a file that was csv once names the same rows."""
    column = table[columns.key]
    if gaps := int(column.isna().sum()):
        row = int(column.isna().to_numpy().argmax())
        raise ColumnError(
            f"{gaps:,} of {len(table):,} rows have no {columns.key!r}, first row {row + 1}",
            where=str(path),
            way_out="write each row with its key",
        )
    # A number that was brought among missing ones once is stored as a float: 7.0 names the row 7.
    keys: pd.Series[str] = column.map(_plain if column.dtype.kind == "f" else str)
    twice = keys[keys.duplicated()]
    if len(twice):
        raise ColumnError(
            f"{twice.nunique():,} keys stand more than once, such as {twice.iloc[0]!r} "
            f"({int((keys == twice.iloc[0]).sum())} times)",
            where=str(path),
            way_out="write each row once",
        )
    return keys


def _labels(table: pd.DataFrame, columns: FileColumns, path: Path) -> pd.Series[Any]:
    labels = table[columns.target]
    if gaps := int(labels.isna().sum()):
        raise LabelsMissingError(
            f"{gaps:,} of {len(table):,} rows have no {columns.target!r}",
            where=str(path),
            way_out="leave rows out whose truth is not known, or hand the files in later",
        )
    return labels


def _weights(table: pd.DataFrame, name: str | None, path: Path) -> NDArray[np.float64] | None:
    import numpy as np

    if name is None:
        return None
    _check_columns(table, [name], path, "evaluation.weight")
    weights = _numbers(table[name], name, path)
    wrong = int((~(weights >= 0) | np.isinf(weights)).sum())
    if wrong or not weights.sum():
        what = f"{name!r} is negative or missing in {wrong:,} rows" if wrong else f"{name!r} is 0 in all rows"
        raise ColumnError(what, where=str(path), way_out="a weight is a number of 0 or more")
    return weights


def _timed(table: pd.DataFrame, columns: FileColumns, path: Path) -> pd.DataFrame:
    """The table with its time column as moments, however the file holds them."""
    import pandas as pd

    if columns.time is None:
        return table
    _check_columns(table, [columns.time], path, "data.time")
    column = table[columns.time]
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return table
    try:
        moments = pd.to_datetime(column.astype("string"), utc=True, format="ISO8601")
    except (TypeError, ValueError) as error:
        raise ColumnError(
            f"{columns.time!r} holds no moments ({type(error).__name__})",
            where=str(path),
            way_out="write them as 2013-01-31T07:00:00Z",
        ) from None
    timed: pd.DataFrame = table.assign(**{columns.time: moments})
    return timed


def _moments(table: pd.DataFrame, columns: FileColumns) -> NDArray[np.datetime64] | None:
    """In UTC, without a zone."""
    import pandas as pd

    if columns.time is None:
        return None
    found: NDArray[np.datetime64] = pd.to_datetime(table[columns.time], utc=True).dt.tz_localize(None).to_numpy()
    return found


def _aligned(
    reader: _Reader,
    keys: pd.Series[str],
    truth: NDArray[np.float64],
    columns: FileColumns,
    *,
    name: str,
    path: Path,
    score: str | None,
) -> tuple[NDArray[np.float64] | None, str]:
    """Another contender's scores in the candidate's order, or why it was not measured on the same rows."""
    import numpy as np
    import pandas as pd

    table = read_table_file(path)
    found = _found_columns(table, columns.model_copy(update={"score": score}), str(path))
    theirs = _keys(table, found, path)
    lacking, strange = ~keys.isin(theirs), ~theirs.isin(keys)
    if lacking.any() or strange.any():
        example = keys[lacking].iloc[0] if lacking.any() else theirs[strange].iloc[0]
        return None, (
            f"different holdouts: {int(lacking.sum()):,} of the candidate's {len(keys):,} keys are not in the file of "
            f"{named(name)}, and {int(strange.sum()):,} of its keys are not the candidate's, such as {example!r}"
        )
    order = pd.Index(theirs).get_indexer(pd.Index(keys))
    table = table.iloc[order].reset_index(drop=True)
    other = reader.truth(_labels(table, found, path), path)
    differ = ~np.isclose(other, truth, rtol=1e-9, atol=0.0, equal_nan=True)
    if differ.any():
        return None, (
            f"different holdouts: the labels of {int(differ.sum()):,} rows differ from those in the file of "
            f"{named(name)}, such as {keys.iloc[int(differ.argmax())]!r}"
        )
    return reader.scores(table, found.score, path), ""


# --- Labels and scores as numbers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reader:
    """How labels and predictions of these files become numbers."""

    task: Task
    classes: tuple[str, ...]

    def truth(self, labels: pd.Series[Any], path: Path) -> NDArray[np.float64]:
        """0 and 1, a class's place, or the number itself."""
        if self.task == "regression":
            return _numbers(labels, str(labels.name), path)
        same = _SAME if set(self.classes) <= set(_SAME) else {}
        places = {label: float(place) for place, label in enumerate(self.classes)}
        places |= {same[label]: place for label, place in places.items() if label in same and same[label] not in places}
        # A label that the candidate's file does not know is a truth of its own: it equals no other.
        found: NDArray[np.float64] = _texts(labels, path).map(places).fillna(-1.0).to_numpy("float64")
        return found

    def scores(self, table: pd.DataFrame, score: str | None, path: Path) -> NDArray[np.float64]:
        """What a file predicts for its rows."""
        import numpy as np

        if score in table.columns:
            return self.values(table[score], str(score), path)
        names = [f"{score}:{label}" for label in self.classes]
        _check_columns(table, names, path, "one per class")
        found = np.column_stack([_numbers(table[name], name, path) for name in names])
        return found[:, 1] if self.task == "binary" else found

    def values(self, column: pd.Series[Any], name: str, path: Path) -> NDArray[np.float64]:
        """One column of probabilities, numbers or predicted labels."""
        import numpy as np
        from pandas.api import types

        if self.task == "regression":
            return _numbers(column, name, path)
        is_number = types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)
        if self.task == "binary" and (is_number or types.infer_dtype(column) == "decimal"):
            return _numbers(column, name, path)
        labels = _texts(column, path)
        if strange := sorted(set(labels.dropna()) - set(self.classes)):
            raise ColumnError(
                f"{name!r} predicts {strange[0][:60]!r}, which is none of the labels {', '.join(self.classes)[:200]}",
                where=str(path),
                way_out=f"hand in probabilities: one column, or one per class, such as score:{self.classes[0]}",
            )
        chosen = np.column_stack([(labels == label).to_numpy("float64") for label in self.classes])
        chosen[labels.isna().to_numpy()] = np.nan
        return chosen[:, 1] if self.task == "binary" else chosen


def _reader(table: pd.DataFrame, labels: pd.Series[Any], columns: FileColumns, path: Path) -> _Reader:
    known = sorted(set(_texts(labels, path).unique()))
    told = [] if columns.score in table.columns else _classes(table, columns.score)
    task = columns.task or _task(labels, known, told)
    if task == "regression":
        return _Reader(task, ())
    classes = sorted(told) or known
    if strange := sorted(set(known) - set(classes)):
        raise ColumnError(
            f"the label {strange[0][:60]!r} has no column {columns.score}:{strange[0][:60]}",
            where=str(path),
            way_out="write one column of probabilities per class",
        )
    if task == "binary":
        classes = _two(classes, columns, path)
    elif len(classes) < _TWO:
        raise LabelsMissingError(
            f"all labels are {classes[0]!r}", where=str(path), way_out="there is nothing to tell apart"
        )
    return _Reader(task, tuple(classes))


def _task(labels: pd.Series[Any], known: Sequence[str], told: Sequence[str]) -> Task:
    from pandas.api import types

    if told:
        return "binary" if len(told) == _TWO else "multiclass"
    if types.is_numeric_dtype(labels.dtype) and not types.is_bool_dtype(labels.dtype):
        return "binary" if set(known) <= {"0", "1"} else "regression"
    return "binary" if len(known) <= _TWO else "multiclass"


def _two(classes: Sequence[str], columns: FileColumns, path: Path) -> list[str]:
    """The negative and the positive label; where only one occurs, the other one is told by its usual opposite."""
    found = sorted({*classes, *(_OPPOSITE[one] for one in classes if len(classes) == 1 and one in _OPPOSITE)})
    positive = _plain(columns.positive) if columns.positive is not None else found[-1]
    if len(found) != _TWO or positive not in found:
        raise ColumnError(
            f"a binary task has two labels, and there are {len(found)}: {', '.join(found)[:200]}"
            if len(found) != _TWO
            else f"the positive label {positive!r} is none of {', '.join(found)}",
            where=str(path),
            way_out=f"declare data.task, or write one column per class, such as score:{found[0]}",
        )
    return [next(one for one in found if one != positive), positive]


def _plain(label: Any) -> str:
    """A label's text: 1 and 1.0 are one, however a file stores it."""
    if hasattr(label, "item"):
        label = label.item()
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


def _texts(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """Every label's text; what is missing stays so."""
    values = column.astype(object)
    try:
        texts: pd.Series[Any] = values.map({label: _plain(label) for label in values.dropna().unique()})
    except TypeError:
        raise ColumnError(
            f"{str(column.name)!r} holds lists or records", where=str(path), way_out="write one label per row"
        ) from None
    return texts


def _numbers(column: pd.Series[Any], name: str, path: Path) -> NDArray[np.float64]:
    import numpy as np

    try:
        found: NDArray[np.float64] = column.to_numpy("float64", na_value=np.nan)
    except (TypeError, ValueError):
        raise ColumnError(
            f"{name!r} holds something else than numbers", where=str(path), way_out="write numbers only"
        ) from None
    return found
