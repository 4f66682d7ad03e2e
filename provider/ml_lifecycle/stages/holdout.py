"""Which rows judge a model, and what is proven about them before they do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation.leakage import signs_of_leakage
from ml_lifecycle.core.contracts import Columns, HoldoutFacts, HoldoutSpec, TrainedModel
from ml_lifecycle.core.errors import ColumnError, NoRowsError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ml_lifecycle.backends.evaluation.rows import ScoredRows

_HELD: Final = frozenset({"true", "1", "1.0", "holdout"})
"""What a column of a given split marks a held row by, in small letters."""
_EXAMPLES: Final = 3


# --- The split -------------------------------------------------------------------------------------------------------


def split(rows: pd.DataFrame, columns: Columns, holdout: HoldoutSpec) -> NDArray[np.bool_]:
    """Which rows are held back, as one boolean per row; rows of the same time or group stay together.

    :raises ColumnError: the column that the split goes by is missing or has gaps.
    :raises NoRowsError: one of the parts would be empty.
    """
    import numpy as np

    ways = {"time": _held_by_time, "random": _held_by_key, "group": _held_by_group, "given": _held_as_given}
    held = ways[holdout.by](rows, columns, holdout)
    if held.all() or not held.any():
        part = "training" if held.all() else "the holdout"
        given = holdout.by == "given"
        by = f"column: {holdout.column}" if given else f"share: {holdout.share:g}"
        raise NoRowsError(
            f"no row is left for {part} of {len(rows):,}",
            where=f"holdout {{by: {holdout.by}, {by}}}",
            way_out="mark some rows and not all" if given else "read more partitions, or change the share",
        )
    return np.asarray(held, dtype=np.bool_)


def _held_by_time(rows: pd.DataFrame, columns: Columns, holdout: HoldoutSpec) -> Any:
    if columns.time is None or columns.time not in rows.columns:
        raise ColumnError(
            f"the holdout is by time, but there is no column {columns.time!r}",
            way_out="declare data.time, or write holdout: {by: random}",
        )
    times = rows[columns.time]
    gaps = int(times.isna().sum())
    if gaps:
        raise ColumnError(f"{columns.time!r} is missing in {gaps:,} rows", way_out="drop these rows by a rule")
    ordered = times.sort_values(kind="stable")
    return (times >= ordered.iloc[int(len(rows) * (1 - holdout.share))]).to_numpy()


def _held_by_key(rows: pd.DataFrame, columns: Columns, holdout: HoldoutSpec) -> Any:
    if columns.key not in rows.columns:
        raise ColumnError(f"there is no key column {columns.key!r}", way_out="declare data.key")
    return _drawn(rows[columns.key], holdout.share)


def _held_by_group(rows: pd.DataFrame, columns: Columns, holdout: HoldoutSpec) -> Any:  # noqa: ARG001  # as all ways
    return _drawn(_complete(rows, holdout), holdout.share)


def _held_as_given(rows: pd.DataFrame, columns: Columns, holdout: HoldoutSpec) -> Any:  # noqa: ARG001  # as all ways
    return _complete(rows, holdout).map(lambda value: str(value).lower() in _HELD).to_numpy(bool)


def _complete(rows: pd.DataFrame, holdout: HoldoutSpec) -> pd.Series[Any]:
    """The column that the split goes by; a gap would put a row on a side by accident."""
    where = f"holdout {{by: {holdout.by}, column: {holdout.column}}}"
    if holdout.column is None or holdout.column not in rows.columns:
        raise ColumnError(
            f"there is no column {holdout.column!r} to split by",
            where=where,
            way_out=f"name one of {', '.join(map(str, rows.columns))}",
        )
    column = rows[holdout.column]
    if gaps := int(column.isna().sum()):
        raise ColumnError(
            f"{holdout.column!r} is missing in {gaps:,} rows", where=where, way_out="drop these rows by a rule"
        )
    return column


def _drawn(values: pd.Series[Any], share: float) -> Any:
    """The same values in each run, and all rows of a value together."""
    limit = int(share * 2**64)
    chosen = {value: _hash64(str(value)) < limit for value in values.unique()}
    return values.map(chosen).to_numpy(bool)


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


# --- The proof -------------------------------------------------------------------------------------------------------


def prove(
    rows: pd.DataFrame,
    features: pd.DataFrame,
    held: NDArray[np.bool_],
    model: TrainedModel,
    scored: ScoredRows,
) -> HoldoutFacts:
    """What is known about the held rows, once it is certain that training saw none of them.

    :param rows: The whole dataset, row by row as ``features`` and ``held``.
    :param scored: The held rows with their truth.
    :raises ColumnError: a key, a group or a moment stands on both sides.
    """
    columns, spec, training = model.dataset.columns, model.holdout, rows[~held]
    _refuse_shared(training, rows[held], columns.key, "keys", "name a column that is unique as data.key")
    if spec.by == "group" and spec.column is not None:
        _refuse_shared(training, rows[held], spec.column, "groups", "give each group one way of writing it")
    times = times_of(rows, columns.time)
    until, first, last = _span(times, held)
    if spec.by == "time":
        _refuse_time_leak(training[columns.time], rows.loc[held, columns.time])
    warnings = list(signs_of_leakage(features[~held], training[columns.target], training[columns.key]))
    if spec.by == "given" and until is not None and first is not None and until >= first:
        span = f"up to {until:%Y-%m-%d %H:%M}, and the holdout begins {first:%Y-%m-%d %H:%M}"
        warnings.append(f"training reads rows {span}: it may know what was to come")
    return HoldoutFacts(
        fingerprint=fingerprint_of(scored),
        spec=spec,
        rows=int(held.sum()),
        training_rows=len(training),
        training_until=until,
        first=first,
        last=last,
        warnings=tuple(warnings),
    )


def fingerprint_of(rows: ScoredRows) -> str:
    """Digest over each row's key and truth, whatever order the rows stand in.

    Whoever weighs the same rows otherwise judges by the same holdout.
    """
    import numpy as np

    truth: Iterable[object] = rows.truth.tolist()
    if rows.classes:
        truth = [rows.classes[int(place)] if np.isfinite(place) else "" for place in rows.truth]
    # A repr has no line break, so that no value can pass for two lines.
    lines = [f"{str(key)!r} {value!r}" for key, value in zip(rows.keys, truth, strict=True)]
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogatepass")).hexdigest()


def times_of(rows: pd.DataFrame, time: str | None) -> NDArray[np.datetime64] | None:
    """Each row's moment in UTC without a zone; ``None`` where there is no time column, or it holds no moments."""
    import pandas as pd
    from pandas.api import types

    if time is None or time not in rows.columns or types.is_numeric_dtype(rows[time].dtype):
        return None
    try:
        # Without a format, pandas guesses: day or month first as it may come.
        moments = pd.to_datetime(rows[time], utc=True, format="ISO8601")
    except (TypeError, ValueError):
        return None
    found: NDArray[np.datetime64] = moments.dt.tz_localize(None).to_numpy("datetime64[ns]")
    return found


def _refuse_shared(training: pd.DataFrame, held: pd.DataFrame, column: str, what: str, way_out: str) -> None:
    on_both = held[column][held[column].isin(training[column])].unique()
    if len(on_both):
        examples = ", ".join(repr(value) for value in on_both[:_EXAMPLES].tolist())
        raise ColumnError(
            f"{len(on_both):,} {what} stand in the training rows and in the holdout, such as {examples}",
            where=f"column {column}",
            way_out=way_out,
        )


def _refuse_time_leak(training: pd.Series[Any], held: pd.Series[Any]) -> None:
    newest, oldest = training.max(), held.min()
    if not newest < oldest:
        raise ColumnError(
            f"training reads rows up to {newest}, and the holdout begins {oldest}",
            where=f"column {training.name}",
            way_out="train again: the model was not trained on the rows that this split leaves",
        )


def _span(times: NDArray[np.datetime64] | None, held: NDArray[np.bool_]) -> tuple[datetime | None, ...]:
    """The newest training row's moment, the oldest and the newest held row's."""
    import pandas as pd

    if times is None:
        return None, None, None
    training, tested = pd.Series(times[~held], dtype="datetime64[us]"), pd.Series(times[held], dtype="datetime64[us]")
    found = (training.max(), tested.min(), tested.max())
    return tuple(None if pd.isna(one) else one.tz_localize("UTC").to_pydatetime() for one in found)
