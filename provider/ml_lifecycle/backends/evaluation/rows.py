"""The same rows under each model: what every metric and every comparison starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ml_lifecycle.core.errors import ColumnError
from ml_lifecycle.core.evaluation import PERIODS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Task = Literal["binary", "multiclass", "regression"]

CANDIDATE: Final = "candidate"
CHAMPION: Final = "champion"
BASELINE: Final = "baseline"
_PERIOD_CODES: Final = {"hour": "h", "day": "D", "week": "W", "month": "M"}
MISSING: Final = "(missing)"
"""The slice of rows without a value."""
MOST_SLICE_VALUES: Final = 100
"""Slices travel with the evaluation over XCom and are read by people."""
_KEY, _TRUTH, _WEIGHT, _CLUSTER, _TIME = "key", "truth", "weight", "cluster", "time"
_SCORE, _SLICE = "score", "by"


@dataclass(frozen=True)
class ScoredRows:
    """Rows with their truth and what each contender says about them; every array is as long as ``truth``."""

    task: Task
    truth: NDArray[np.float64]
    """0 and 1; a class's place in ``classes``; or the number itself."""
    scores: Mapping[str, NDArray[np.float64]]
    """By contender (``candidate``, ``champion``, ``baseline``, a version's number): the second class's probability
    ``(rows,)``, a probability per class ``(rows, classes)``, or the predicted number ``(rows,)``."""
    keys: NDArray[Any]
    classes: tuple[str, ...] = ()
    """Labels as text; empty for a regression."""
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """By column: each row's value as text."""
    weight: NDArray[np.float64] | None = None
    cluster: NDArray[np.int64] | None = None
    """Rows of the same number are not independent of each other; ``None``: all are."""
    time: NDArray[np.datetime64] | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, chosen: slice | NDArray[Any]) -> ScoredRows:
        """The chosen rows alone: by a mask or a slice in their order, by places in the places' order."""
        return ScoredRows(
            task=self.task,
            truth=self.truth[chosen],
            scores={contender: score[chosen] for contender, score in self.scores.items()},
            keys=self.keys[chosen],
            classes=self.classes,
            slices={name: values[chosen] for name, values in self.slices.items()},
            weight=self.weight[chosen] if self.weight is not None else None,
            cluster=self.cluster[chosen] if self.cluster is not None else None,
            time=self.time[chosen] if self.time is not None else None,
        )

    def to_table(self) -> pd.DataFrame:
        """The rows as the parquet file ``predictions.parquet`` holds them."""
        import pandas as pd

        columns: dict[str, Any] = {_KEY: self.keys, _TRUTH: self.truth}
        optional = {_TIME: self.time, _WEIGHT: self.weight, _CLUSTER: self.cluster}
        columns |= {name: values for name, values in optional.items() if values is not None}
        for contender, score in self.scores.items():
            if score.ndim == 1:
                columns[f"{_SCORE}:{contender}"] = score
            else:
                columns |= {f"{_SCORE}:{contender}:{place}": score[:, place] for place in range(score.shape[1])}
        columns |= {f"{_SLICE}:{name}": values for name, values in self.slices.items()}
        table: pd.DataFrame = pd.DataFrame(columns)
        return table

    @classmethod
    def from_table(cls, table: pd.DataFrame, *, task: Task, classes: tuple[str, ...]) -> ScoredRows:
        """The rows that :meth:`to_table` laid out.

        :raises ColumnError: a column is missing.
        """
        if absent := [name for name in (_KEY, _TRUTH) if name not in table.columns]:
            raise ColumnError(
                f"the predictions have no column {', '.join(map(repr, absent))}",
                way_out="evaluate again; the file was not written by this product",
            )
        return cls(
            task=task,
            truth=table[_TRUTH].to_numpy("float64"),
            scores=_scores(table),
            keys=table[_KEY].to_numpy(),
            classes=classes,
            slices={
                name.partition(":")[2]: table[name].to_numpy(object)
                for name in map(str, table.columns)
                if name.startswith(f"{_SLICE}:")
            },
            weight=table[_WEIGHT].to_numpy("float64") if _WEIGHT in table.columns else None,
            cluster=table[_CLUSTER].to_numpy("int64") if _CLUSTER in table.columns else None,
            time=table[_TIME].to_numpy("datetime64[ns]") if _TIME in table.columns else None,
        )


def _scores(table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Columns by contender; those of several classes stand side by side, in order."""
    found: dict[str, list[str]] = {}
    for name in map(str, table.columns):
        kind, _, rest = name.partition(":")
        if kind == _SCORE:
            found.setdefault(rest.partition(":")[0], []).append(name)
    return {
        contender: table[names[0]].to_numpy("float64")
        if names == [f"{_SCORE}:{contender}"]
        else table[sorted(names, key=_place)].to_numpy("float64")
        for contender, names in found.items()
    }


def _place(name: object) -> int:
    return int(str(name).rpartition(":")[2])


def cluster_codes(table: pd.DataFrame, cluster: str | None, *, time: str | None) -> NDArray[np.int64] | None:
    """A number per row that rows of the same cluster share; ``None`` where every row stands for itself.

    :param cluster: A column, or one of :data:`~ml_lifecycle.core.evaluation.PERIODS` of the ``time`` column; a column
        of that name wins.
    :raises ColumnError: there is no such column, or it has gaps.
    """
    import pandas as pd

    if cluster is None:
        return None
    if cluster in table.columns:
        values = table[cluster]
    elif cluster in PERIODS and time is not None and time in table.columns:
        values = _moments(table[time]).dt.tz_localize(None).dt.to_period(_PERIOD_CODES[cluster])
    else:
        raise ColumnError(
            f"there is no column {cluster!r} to cluster by",
            where="evaluation.cluster",
            way_out=f"name a column, or one of {', '.join(PERIODS)} where data.time is declared",
        )
    if gaps := int(values.isna().sum()):
        raise ColumnError(f"{cluster!r} is missing in {gaps:,} rows", where="evaluation.cluster")
    try:
        codes: NDArray[np.int64] = pd.factorize(values)[0].astype("int64")
    except TypeError:
        raise ColumnError(
            f"{cluster!r} holds lists or records", where="evaluation.cluster", way_out="write one value per row"
        ) from None
    return codes


def _moments(column: pd.Series[Any]) -> pd.Series[Any]:
    """Moments in the zone that they are stored in; texts in UTC."""
    import pandas as pd
    from pandas.api import types

    if types.is_datetime64_any_dtype(column.dtype):
        return column
    try:
        return pd.to_datetime(column.astype("string"), utc=True, format="ISO8601")
    except (TypeError, ValueError):
        raise ColumnError(
            f"{str(column.name)!r} holds no moments",
            where="evaluation.cluster",
            way_out="land them as 2013-01-31T07:00:00Z, or cluster by a column",
        ) from None


def slice_values(column: pd.Series) -> NDArray[Any]:
    """Each row's value as text, a missing one as :data:`MISSING`."""
    texts: NDArray[Any] = column.astype(object).where(column.notna(), MISSING).map(str).to_numpy(object)
    return texts
