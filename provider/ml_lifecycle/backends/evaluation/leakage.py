"""Signs that a model's input holds the answer: sentences for a person, never a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

SUSPICIOUS: Final = 0.98
"""ROC AUC, or absolute correlation, from which one input alone is too good to be true."""
_SAMPLE: Final = 20_000
_FEWEST: Final = 50
_FEWEST_IN_CLASS: Final = 10
_MOST_CLASSES: Final = 20


def signs_of_leakage(features: pd.DataFrame, target: pd.Series[Any], keys: pd.Series[Any]) -> tuple[str, ...]:
    """What should be looked at, one sentence per input; at most 20,000 rows, evenly spaced, are read.

    Numbers are told by the ROC AUC of each class against the others, or by the rank correlation with a target of
    numbers; a missing value counts as the smallest, so that what is only known afterwards is found too. Categories are
    told by values that each stand with one class only.

    :param features: The model's input of the training rows.
    :param keys: Of the same rows: keys that follow the target were given out after the fact.
    """
    step = max(1, -(-len(target) // _SAMPLE))
    truth = _Truth.of(target.iloc[::step])
    if truth is None:
        return ()
    return (*_of_features(features.iloc[::step], truth), *_of_keys(keys.iloc[::step], truth))


class _Truth:
    """The target as the checks take it."""

    def __init__(self, places: Numbers, classes: tuple[str, ...]) -> None:
        self.places = places
        """A class's place, or the rank of a number."""
        self.classes = classes
        """Empty for a target of numbers."""

    @classmethod
    def of(cls, target: pd.Series[Any]) -> _Truth | None:
        """``None`` where there are too few rows, or too few of a class, to say anything."""
        import numpy as np
        import pandas as pd
        from pandas.api import types

        if len(target) < _FEWEST or target.isna().any():
            return None
        codes, labels = pd.factorize(target, sort=True)
        if len(labels) > _MOST_CLASSES:
            is_number = types.is_numeric_dtype(target.dtype)
            return cls(target.rank().to_numpy("float64"), ()) if is_number else None
        if len(labels) <= 1 or np.bincount(codes).min() < _FEWEST_IN_CLASS:
            return None
        return cls(codes.astype("float64"), tuple(map(str, labels)))

    def told_by(self, values: Numbers) -> str:
        """How the values give the target away; empty where they do not."""
        import numpy as np
        from scipy.stats import rankdata

        ranks = rankdata(np.nan_to_num(values, nan=-np.inf, neginf=-np.finfo("float64").max))
        if not self.classes:
            found = _correlation(ranks, self.places)
            return f"follows the target (rank correlation {found:.3f})" if abs(found) >= SUSPICIOUS else ""
        for place in range(1 if len(self.classes) == 2 else 0, len(self.classes)):  # noqa: PLR2004  # of two, one tells
            area = _area(ranks, self.places == place)
            if area >= SUSPICIOUS or area <= 1 - SUSPICIOUS:
                return f"tells {self.classes[place]!r} from the rest by itself (ROC AUC {area:.3f})"
        return ""


def _of_features(features: pd.DataFrame, truth: _Truth) -> Iterator[str]:
    from pandas.api import types

    for name in features.columns:
        column = features[name]
        if types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype):
            told = truth.told_by(column.to_numpy("float64", na_value=float("nan")))
        else:
            told = "determines the target: each of its values stands with one class" if _pure(column, truth) else ""
        if told:
            yield f"the input {str(name)!r} {told}; check that it is known before the prediction is made"


def _of_keys(keys: pd.Series[Any], truth: _Truth) -> Iterator[str]:
    import pandas as pd

    codes, _ = pd.factorize(keys, sort=True)
    if told := truth.told_by(codes.astype("float64")):
        yield f"the key {str(keys.name)!r} {told}: rows may have been numbered by their answer"


def _pure(column: pd.Series[Any], truth: _Truth) -> bool:
    """Whether each value that stands in enough rows has one class; they cover half of the rows, and not one class."""
    import numpy as np
    import pandas as pd

    if not truth.classes:
        return False
    codes, values = pd.factorize(column, use_na_sentinel=False)
    table = np.zeros((len(values), len(truth.classes)))
    np.add.at(table, (codes, truth.places.astype("int64")), 1)
    told = table[table.sum(axis=1) >= _FEWEST_IN_CLASS]
    covers = told.sum() >= len(column) / 2
    return bool(covers and ((told > 0).sum(axis=1) == 1).all() and ((told > 0).any(axis=0)).sum() > 1)


def _area(ranks: Numbers, positive: NDArray[np.bool_]) -> float:
    """ROC AUC from midranks: Hanley and McNeil, Radiology 143 (1982)."""
    hits = int(positive.sum())
    misses = len(positive) - hits
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _correlation(first: Numbers, second: Numbers) -> float:
    import numpy as np

    spread = first.std() * second.std()
    return (
        float(((first - first.mean()) * (second - second.mean())).mean() / spread)
        if np.isfinite(spread) and spread
        else 0.0
    )
