"""Metrics as functions of sums over rows.

Each definition gives per-row columns and a function from the columns' sums to the value, which takes any number of sums
at once: ``(..., columns)`` to ``(...)``. Where the value is undefined it is NaN, here and nowhere further out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ml_lifecycle.core.contracts import MeasurementSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Codes = NDArray[np.int64]
    Flags = NDArray[np.bool_]

BINS: Final = 10
"""Of the calibration error, of equal weight: Nixon et al., Measuring Calibration in Deep Learning (CVPR workshops,
2019), section 3."""


@dataclass(frozen=True)
class Sums:
    """Columns of rows, and what their sums come to."""

    columns: tuple[Numbers, ...]
    value: Callable[[Numbers], Numbers]


@dataclass(frozen=True)
class Share:
    """A proportion: the rows that are so, among those that count."""

    so: Flags
    among: Flags | None = None
    """``None``: all rows count."""
    fixed: bool = True
    """Whether the truth alone says which rows count, so that two models share them."""


@dataclass(frozen=True)
class Scored:
    """Arrays that a definition reads: the truth, one model's scores, and what a row counts."""

    truth: Numbers
    score: Numbers
    weight: Numbers | None
    classes: tuple[str, ...]
    spec: MeasurementSpec

    @property
    def weights(self) -> Numbers:
        """What each row counts: 1 where nothing was declared."""
        import numpy as np

        return np.ones(len(self.truth)) if self.weight is None else self.weight

    @property
    def truth_codes(self) -> Codes:
        """The true class's place."""
        codes: Codes = self.truth.astype("int64")
        return codes

    @property
    def said(self) -> Codes:
        """The decided class's place: by the threshold, or the most probable one."""
        if self.score.ndim == 1:
            decided: Codes = (self.score >= self.spec.threshold).astype("int64")
            return decided
        most: Codes = self.score.argmax(axis=1)
        return most


# --- Proportions -----------------------------------------------------------------------------------------------------


def _accuracy(rows: Scored) -> Share:
    return Share(rows.said == rows.truth_codes)


def _selection_rate(rows: Scored) -> Share:
    return Share(rows.said == 1)


def _true_positive_rate(rows: Scored) -> Share:
    return Share(rows.said == 1, rows.truth == 1)


def _false_positive_rate(rows: Scored) -> Share:
    return Share(rows.said == 1, rows.truth == 0)


def _precision(rows: Scored) -> Share:
    return Share(rows.truth == 1, rows.said == 1, fixed=False)


def as_sums(share: Share, weight: Numbers) -> Sums:
    """A proportion as a ratio of two sums."""
    import numpy as np

    among = weight if share.among is None else np.where(share.among, weight, 0.0)
    return Sums((among, np.where(share.so, among, 0.0)), _ratio)


# --- Means over rows -------------------------------------------------------------------------------------------------


def _mean(per_row: Callable[[Scored], Numbers]) -> Callable[[Scored], Sums]:
    def of(rows: Scored) -> Sums:
        weight = rows.weights
        return Sums((weight, weight * per_row(rows)), _ratio)

    return of


def _log_loss(rows: Scored) -> Numbers:
    import numpy as np

    smallest = float(np.finfo(np.float64).eps)
    # What the model gives to what came true.
    given = np.where(rows.truth == 1, rows.score, 1 - rows.score) if rows.score.ndim == 1 else _of_truth(rows)
    losses: Numbers = -np.log(np.clip(given, smallest, 1.0))
    return losses


def _of_truth(rows: Scored) -> Numbers:
    import numpy as np

    given: Numbers = rows.score[np.arange(len(rows.truth)), rows.truth_codes]
    return given


def _brier(rows: Scored) -> Numbers:
    """Squared distance from the truth; of several classes its sum (Brier, Monthly Weather Review 78 (1950))."""
    if rows.score.ndim == 1:
        return (rows.score - rows.truth) ** 2
    losses: Numbers = (rows.score**2).sum(axis=1) - 2 * _of_truth(rows) + 1
    return losses


def _cost(rows: Scored) -> Numbers:
    import numpy as np

    # Without labels, as for plain arrays, the costs speak of 0 and 1.
    labels = rows.classes or ("0", "1")
    table = np.array([[rows.spec.costs.get(true, {}).get(said, 0.0) for said in labels] for true in labels])
    costs: Numbers = table[rows.truth_codes, rows.said]
    return costs


def _score(rows: Scored) -> Numbers:
    return rows.score


def _too_high(rows: Scored) -> Numbers:
    return rows.score - rows.truth


def _absolute(rows: Scored) -> Numbers:
    errors: Numbers = abs(rows.score - rows.truth)
    return errors


def _absolute_share(rows: Scored) -> Numbers:
    """Of a row whose truth is 0 there is no share: NaN, and with it the whole is undefined."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Numbers = np.where(rows.truth == 0, np.nan, _absolute(rows) / abs(rows.truth))
    return shares


# --- Other functions of sums -----------------------------------------------------------------------------------------


def _rmse(rows: Scored) -> Sums:
    import numpy as np

    weight = rows.weights
    return Sums((weight, weight * (rows.score - rows.truth) ** 2), lambda sums: np.sqrt(_ratio(sums)))


def _wape(rows: Scored) -> Sums:
    """Absolute errors over absolute truth: Kolassa and Schuetz, Foresight 6 (2007)."""
    weight = rows.weights
    return Sums((weight * abs(rows.truth), weight * _absolute(rows)), _ratio)


def _r2(rows: Scored) -> Sums:
    import numpy as np

    weight = rows.weights
    # Around the mean: sums of squares of large numbers would cancel.
    centred = rows.truth - np.average(rows.truth, weights=weight)

    def value(sums: Numbers) -> Numbers:
        total = sums[..., 2] - _divide(sums[..., 1] ** 2, sums[..., 0])
        # What is left of a constant by rounding is no variation.
        varies = total > 1e-12 * np.maximum(sums[..., 2], 1e-300)
        return 1 - _divide(sums[..., 3], np.where(varies, total, 0.0))

    errors = weight * (rows.score - rows.truth) ** 2
    return Sums((weight, weight * centred, weight * centred**2, errors), value)


def _f1(rows: Scored) -> Sums:
    import numpy as np

    weight, said, true = rows.weights, rows.said == 1, rows.truth == 1
    both = np.where(said & true, weight, 0.0)
    either = np.where(said, weight, 0.0) + np.where(true, weight, 0.0)
    return Sums((either, 2 * both), _ratio)


def _balanced_accuracy(rows: Scored) -> Sums:
    """The mean of the classes' recalls, of those classes that the truth holds."""
    return _by_class(rows, lambda hits, true, said: _mean_where(_divide(hits, true), true > 0))  # noqa: ARG005


def _macro_recall(rows: Scored) -> Sums:
    return _by_class(rows, lambda hits, true, said: _mean_where(_divide(hits, true, 0.0), (true > 0) | (said > 0)))


def _macro_precision(rows: Scored) -> Sums:
    return _by_class(rows, lambda hits, true, said: _mean_where(_divide(hits, said, 0.0), (true > 0) | (said > 0)))


def _macro_f1(rows: Scored) -> Sums:
    return _by_class(rows, lambda hits, true, said: _mean_where(_divide(2 * hits, true + said), true + said > 0))


def _by_class(rows: Scored, value: Callable[[Numbers, Numbers, Numbers], Numbers]) -> Sums:
    """A function of each class's hits, true rows and decided rows."""
    import numpy as np

    count = max(2, len(rows.classes), rows.score.shape[1] if rows.score.ndim > 1 else 0)
    weight, said, true = rows.weights, rows.said, rows.truth_codes
    columns = [
        np.where(flags, weight, 0.0)
        for place in range(count)
        for flags in ((said == place) & (true == place), true == place, said == place)
    ]
    return Sums(tuple(columns), lambda sums: value(sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]))


def _calibration_error(rows: Scored) -> Sums:
    """How far stated probabilities are from what came true, on average over bins of equal weight.

    Expected calibration error: Naeini et al., AAAI (2015). Of several classes that of the most probable one: Guo et
    al., ICML (2017).
    """
    import numpy as np

    weight = rows.weights
    stated, came_true = stated_and_true(rows)
    bins = equal_bins(stated, weight, BINS)
    off = weight * (stated - came_true)
    columns = [np.where(bins == place, off, 0.0) for place in range(BINS)]

    def value(sums: Numbers) -> Numbers:
        return _divide(abs(sums[..., 1:]).sum(axis=-1), sums[..., 0])

    return Sums((weight, *columns), value)


def stated_and_true(rows: Scored) -> tuple[Numbers, Numbers]:
    """The probability that a model stated, and whether that came true."""
    if rows.score.ndim == 1:
        return rows.score, (rows.truth == 1).astype("float64")
    return rows.score.max(axis=1), (rows.said == rows.truth_codes).astype("float64")


def equal_bins(stated: Numbers, weight: Numbers, count: int) -> Codes:
    """Each row's bin, of equal weight, from the lowest to the highest; equal values share one."""
    import numpy as np

    order = np.argsort(stated, kind="stable")
    reached = np.cumsum(weight[order]) - weight[order] / 2
    place = np.minimum((reached / weight.sum() * count).astype("int64"), count - 1)
    ordered = stated[order]
    starts = np.append(0, np.nonzero(np.diff(ordered))[0] + 1)
    shared = np.repeat(place[starts], np.diff(np.append(starts, len(ordered))))
    bins = np.empty(len(stated), dtype="int64")
    bins[order] = shared
    return bins


def _ratio(sums: Numbers) -> Numbers:
    return _divide(sums[..., 1], sums[..., 0])


def _divide(above: Numbers, below: Numbers, otherwise: float = float("nan")) -> Numbers:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, otherwise)


def _mean_where(values: Numbers, counted: Flags) -> Numbers:
    import numpy as np

    return _divide(np.where(counted, values, 0.0).sum(axis=-1), counted.sum(axis=-1).astype("float64"))


SHARES: Final[Mapping[str, Mapping[str, Callable[[Scored], Share]]]] = {
    "binary": {
        "accuracy": _accuracy,
        "precision": _precision,
        "recall": _true_positive_rate,
        "selection_rate": _selection_rate,
        "true_positive_rate": _true_positive_rate,
        "false_positive_rate": _false_positive_rate,
    },
    "multiclass": {"accuracy": _accuracy},
    "regression": {},
}
"""By task and name."""
_PROBABILITIES: Final[Mapping[str, Callable[[Scored], Sums]]] = {
    "log_loss": _mean(_log_loss),
    "brier": _mean(_brier),
    "cost": _mean(_cost),
    "balanced_accuracy": _balanced_accuracy,
    "calibration_error": _calibration_error,
}
SUMS: Final[Mapping[str, Mapping[str, Callable[[Scored], Sums]]]] = {
    "binary": {
        **_PROBABILITIES,
        "f1": _f1,
        "mean_prediction": _mean(_score),
        "bias": _mean(_too_high),
    },
    "multiclass": {
        **_PROBABILITIES,
        "f1": _macro_f1,
        "precision": _macro_precision,
        "recall": _macro_recall,
    },
    "regression": {
        "mae": _mean(_absolute),
        "rmse": _rmse,
        "mape": _mean(_absolute_share),
        "wape": _wape,
        "r2": _r2,
        "mean_prediction": _mean(_score),
        "bias": _mean(_too_high),
    },
}
"""By task and name."""
BOUNDED: Final = ("balanced_accuracy", "f1", "precision", "recall")
"""Lie between 0 and 1, where they stop varying."""


def total(sums: Sums) -> float:
    """The value on all rows; NaN where it is undefined."""
    import numpy as np

    return float(sums.value(np.array([float(column.sum()) for column in sums.columns])))


def columns_of(parts: Sequence[Sums]) -> tuple[Numbers, ...]:
    """The columns of several values side by side."""
    return tuple(column for part in parts for column in part.columns)
