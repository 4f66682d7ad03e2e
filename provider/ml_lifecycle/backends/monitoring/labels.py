"""Predictions and the labels that came later, joined by key so that each row counts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.core.errors import ColumnError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_EXAMPLES: Final = 3
_LARGEST_EXACT: Final = 2.0**53
"""Beyond it a float stands for several whole numbers, and so for several keys."""
_ZONE: Final = r"[T ].*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
_PLACE, _KNOWN = "__place", "__known"
_KINDS: Final = {
    "string": "text",
    "boolean": "boolean",
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "decimal",
    "date": "date",
    "datetime": "timestamp",
    "empty": "nothing",
}
"""By what pandas infers of an object column."""


@dataclass(frozen=True)
class Joined:
    """Predictions that labels speak of, each with one label beside it."""

    rows: pd.DataFrame
    """In the predictions' order. A row whose label is there and missing is among them: a drop rule may speak of it."""
    contradicted: pd.DataFrame
    """Predictions that labels contradict each other about."""
    predictions: int
    duplicates: int
    """Labels that said the same of a row again."""
    strangers: int
    """Labels of rows that were not predicted."""
    keyless: int
    """Labels without a key."""

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What was left out, in words."""
        said = {
            f"{self.strangers:,} labels are of rows that were not predicted": self.strangers,
            f"{self.keyless:,} labels have no key": self.keyless,
        }
        return tuple(text for text, count in said.items() if count)


def join_once(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    key: str,
    target: str,
    decides: Sequence[str] = (),
    also: Sequence[str] = (),
    labelled_at: str | None = None,
    where: str,
) -> Joined:
    """Put each prediction's label beside it.

    A label that is missing says nothing where another one is known. Labels that agree count once, at the earliest
    moment that one of them names; a row that labels contradict each other about is left out. Whole numbers are one key
    whatever type holds them.

    :param decides: Further columns of the labels that labels have to agree on, such as those of drop rules.
    :param also: Further columns of the labels that stand beside them, whatever they hold.
    :param labelled_at: Column of the labels that says when each became known.
    :param where: The labels' file, for errors.
    :raises ColumnError: a column is missing or in both tables, keys are of different types, or a prediction's key is
        missing or not unique.
    """
    import pandas as pd

    names = [key, target, *decides, *also, *([labelled_at] if labelled_at else [])]
    labels = _narrowed(predictions, labels, names, key, where)
    ours, theirs = _comparable_keys(predictions[key], labels[key], where=where)
    _require_unique(ours, key)
    keyless = int(theirs.isna().sum())
    labels, theirs = labels[theirs.notna().to_numpy()], theirs.dropna()
    place = pd.Index(ours).get_indexer(pd.Index(theirs))
    known = place >= 0
    said = labels[known].drop(columns=[key]).assign(**{_PLACE: place[known]})
    if labelled_at is not None:
        said = said.assign(**{labelled_at: moments(said[labelled_at])})
    said, duplicates, contradicted = _one_each(said, [target, *decides], labelled_at, where)
    rows = predictions.iloc[said[_PLACE].to_numpy()].reset_index(drop=True)
    beside = said.drop(columns=[_PLACE]).reset_index(drop=True)
    return Joined(
        rows=pd.concat([rows, beside], axis=1),
        contradicted=predictions.iloc[contradicted].reset_index(drop=True),
        predictions=len(predictions),
        duplicates=duplicates,
        strangers=int((~known).sum()),
        keyless=keyless,
    )


def lag_s(rows: pd.DataFrame, *, time: str | None, labelled_at: str | None) -> tuple[float | None, int]:
    """The median of the seconds from a row's event to its label, and how many labels are older than their rows.

    Those come from clocks that disagree, and are left out of the median; ``None`` where no row has both moments.
    """
    if time is None or labelled_at is None or time not in rows.columns or labelled_at not in rows.columns:
        return None, 0
    seconds = (moments(rows[labelled_at]) - moments(rows[time])).dt.total_seconds().dropna()
    plausible = seconds[seconds >= 0]
    return (float(plausible.median()) if len(plausible) else None), int((seconds < 0).sum())


def moments(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column's moments in UTC, to the microsecond; one without a zone is read as UTC, and what is none is missing.

    :raises ColumnError: the column holds numbers, whose unit would be a guess.
    """
    import pandas as pd
    from pandas.api import types

    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if types.is_numeric_dtype(column.dtype) and column.notna().any():
        raise ColumnError(
            f"{str(column.name)!r} holds numbers, not moments", way_out="write them as 2013-01-31T07:15:00Z"
        )
    if not types.is_datetime64_any_dtype(column.dtype):
        column = _parsed(column)
    found: pd.Series[Any] = pd.to_datetime(column, utc=True).dt.floor("us").astype("datetime64[us, UTC]")
    return found


def _parsed(column: pd.Series[Any]) -> pd.Series[Any]:
    """Texts as moments."""
    import pandas as pd

    texts = column.astype(object).where(column.notna(), None).map(str, na_action="ignore").astype("string")
    zoned = texts.str.contains(_ZONE, na=False)
    # Among texts with offsets, pandas gives one without the offset of the one before it.
    with_zone, without = (
        pd.to_datetime(texts.where(chosen), utc=True, format="ISO8601", errors="coerce") for chosen in (zoned, ~zoned)
    )
    found: pd.Series[Any] = with_zone.fillna(without)
    return found


def plain_keys(column: pd.Series[Any], *, where: str = "") -> pd.Series[Any]:
    """Keys that can be compared: whole numbers as such, moments in UTC, texts as they are; missing stays missing.

    :raises ColumnError: a key is a fraction, or too large for the type that holds it, or no single value.
    """
    kind = kind_of(column)
    if kind == "timestamp":
        return moments(column)
    if kind == "number":
        return _whole(column, where)
    if kind not in ("text", "boolean", "date", "decimal", "nothing"):
        raise ColumnError(
            f"the key {str(column.name)!r} holds {kind} values",
            where=where,
            way_out="write texts, whole numbers or timestamps",
        )
    values: pd.Series[Any] = column.astype(object).where(column.notna(), None)
    return values


def kind_of(column: pd.Series[Any]) -> str:
    """What the values are, whatever type holds them: ``text``, ``number``, ``timestamp`` and the like."""
    import pandas as pd
    from pandas.api import types

    if column.isna().all():
        return "nothing"
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if types.is_bool_dtype(column.dtype):
        return "boolean"
    if types.is_numeric_dtype(column.dtype):
        return "number"
    if types.is_datetime64_any_dtype(column.dtype):
        return "timestamp"
    inferred = types.infer_dtype(column, skipna=True)
    return _KINDS.get(inferred, inferred)


def _narrowed(
    predictions: pd.DataFrame, labels: pd.DataFrame, names: Sequence[str], key: str, where: str
) -> pd.DataFrame:
    """Only what is asked for: other columns of the labels may be called as those of the predictions."""
    wanted, known = list(dict.fromkeys(names)), [str(name) for name in labels.columns]
    for name in wanted:
        if name not in known:
            raise ColumnError(
                f"{name!r} is not among the columns of the labels",
                where=where,
                way_out=f"there are {', '.join(known[:40])}{did_you_mean(name, known)}",
            )
    if clash := [name for name in wanted if name in predictions.columns and name != key]:
        raise ColumnError(
            f"the column {clash[0]!r} is in the predictions and in the labels", where=where, way_out="rename it"
        )
    narrowed: pd.DataFrame = labels[wanted]
    return narrowed


def _comparable_keys(
    ours: pd.Series[Any], theirs: pd.Series[Any], *, where: str
) -> tuple[pd.Series[Any], pd.Series[Any]]:
    kinds = kind_of(ours), kind_of(theirs)
    if "nothing" not in kinds and kinds[0] != kinds[1]:
        raise ColumnError(
            f"the key {str(ours.name)!r} is {kinds[1]} in the labels and {kinds[0]} in the predictions",
            where=where,
            way_out="write both with the same type",
        )
    return plain_keys(ours, where="the predictions"), plain_keys(theirs, where=where)


def _whole(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Whole numbers as Python has them: a column with a missing value may have come back as one of floats."""
    from pandas.api import types

    values: pd.Series[Any] = column.astype(object).where(column.notna(), None)
    whole = types.is_integer_dtype(column.dtype)
    broken = (
        [] if whole else [one for one in values.dropna() if not float(one).is_integer() or abs(one) > _LARGEST_EXACT]
    )
    if broken:
        raise ColumnError(
            f"the key {str(column.name)!r} is {broken[0]!r}, which names no row for certain",
            where=where,
            way_out="write keys as whole numbers or as texts",
        )
    numbers: pd.Series[Any] = values.map(int, na_action="ignore")
    return numbers


def _require_unique(keys: pd.Series[Any], name: str) -> None:
    again = keys[keys.duplicated() | keys.isna()]
    if len(again):
        examples = ", ".join(map(repr, again.unique()[:_EXAMPLES].tolist()))
        raise ColumnError(
            f"the key {name!r} is missing or not unique in {len(again):,} predictions, such as {examples}",
            way_out="score a partition whose rows have a key each",
        )


def _one_each(
    said: pd.DataFrame, decides: Sequence[str], labelled_at: str | None, where: str
) -> tuple[pd.DataFrame, int, NDArray[np.int64]]:
    """One label per place, how many repeated one, and the places that labels contradict each other about."""
    said = said.assign(**{_KNOWN: said[decides[0]].notna().to_numpy()})
    better = said.groupby(_PLACE)[_KNOWN].transform("max").astype(bool)
    said = said[said[_KNOWN].to_numpy() | ~better.to_numpy()].drop(columns=[_KNOWN])
    if labelled_at is not None:
        said = said.assign(**{labelled_at: said.groupby(_PLACE)[labelled_at].transform("min")})
    try:
        once = said.drop_duplicates([_PLACE, *dict.fromkeys(decides)])
    except TypeError:
        raise ColumnError(
            f"{' or '.join(map(repr, decides))} holds lists or records", where=where, way_out="write one value per row"
        ) from None
    many = once[_PLACE].duplicated(keep=False)
    contradicted: NDArray[np.int64] = once[_PLACE][many].unique()
    # Of a row that labels contradict each other about, none repeats another.
    repeated = said[_PLACE].value_counts().drop(contradicted) - 1
    return once[~many].sort_values(_PLACE), int(repeated.sum()), contradicted
