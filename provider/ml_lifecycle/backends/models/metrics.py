"""Metrics on rows, and the paired difference of two models on the same rows.

A target is a column of 0 and 1 with scores between 0 and 1 for ``roc_auc``, ``log_loss``, ``brier`` and ``accuracy``,
and numbers in the target's own unit for ``mae`` and ``rmse``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.core.contracts import Difference
from ml_lifecycle.core.errors import UnknownBackendError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]

_TWO_ROWS: Final = 2


def measure(name: str, target: ArrayLike, score: ArrayLike) -> float | None:
    """The metric's value, or ``None`` where it is undefined: no rows, a missing score, AUC on one class."""
    metric = _metric(name)
    truth, found = _numbers(target), _numbers(score)
    return metric(truth, found) if _usable(truth, found) else None


def paired_difference(name: str, target: ArrayLike, candidate: ArrayLike, champion: ArrayLike) -> Difference:
    """Candidate minus champion, turned so that positive is better, with its paired standard error.

    ROC AUC: DeLong et al., Biometrics 44 (1988), with the midranks of Sun and Xu, IEEE Signal Processing Letters 21
    (2014). Means over rows: the standard error of the row-wise differences. RMSE: the same, through the root's
    derivative.
    """
    metric = _metric(name)
    truth, new, old = _numbers(target), _numbers(candidate), _numbers(champion)
    unknown = Difference(estimate=None, standard_error=None, rows=len(truth))
    if not (_usable(truth, new) and _usable(truth, old)):
        return unknown
    if metric is _roc_auc:
        estimate, error = _delong(truth, new, old)
    elif metric is _rmse:
        estimate, error = _rmse_difference(truth, new, old)
    else:
        estimate, error = _mean_difference(_ROW_LOSSES[name], truth, new, old)
    if estimate is None or error is None or not (math.isfinite(estimate) and math.isfinite(error)):
        return unknown
    return Difference(estimate=estimate, standard_error=error, rows=len(truth))


def roc_curve(target: ArrayLike, score: ArrayLike) -> tuple[Numbers, Numbers]:
    """False and true positive rates, from (0, 0) to (1, 1), one point per distinct score."""
    import numpy as np

    truth, found = _numbers(target), _numbers(score)
    order = np.argsort(-found, kind="stable")
    truth, found = truth[order], found[order]
    last = np.append(np.nonzero(np.diff(found))[0], len(found) - 1)
    hits, misses = np.cumsum(truth)[last], np.cumsum(1 - truth)[last]
    return np.append(0.0, misses / misses[-1]), np.append(0.0, hits / hits[-1])


def _numbers(values: ArrayLike) -> Numbers:
    import numpy as np

    return np.asarray(values, dtype=np.float64)


def _usable(truth: Numbers, found: Numbers) -> bool:
    import numpy as np

    return len(truth) > 0 and len(truth) == len(found) and bool(np.isfinite(truth).all() and np.isfinite(found).all())


def _metric(name: str) -> Callable[[Numbers, Numbers], float | None]:
    try:
        return _METRICS[name]
    except KeyError:
        raise UnknownBackendError("metric", name, _METRICS) from None


def _midranks(values: Numbers) -> Numbers:
    """Ranks from 1; equal values share the mean of their ranks."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.append(0, np.nonzero(np.diff(ordered))[0] + 1)
    counts = np.diff(np.append(starts, len(values)))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (counts + 1) / 2, counts)
    return ranks


def _placements(truth: Numbers, score: Numbers) -> tuple[Numbers, Numbers] | None:
    """Share of negatives below each positive, and of positives above each negative; ``None`` on one class."""
    positive = truth > 0
    hits, misses = int(positive.sum()), int((~positive).sum())
    if hits == 0 or misses == 0:
        return None
    among_all = _midranks(score)
    above = (among_all[positive] - _midranks(score[positive])) / misses
    below = 1 - (among_all[~positive] - _midranks(score[~positive])) / hits
    return above, below


def _roc_auc(truth: Numbers, score: Numbers) -> float | None:
    placements = _placements(truth, score)
    return None if placements is None else float(placements[0].mean())


def _delong(truth: Numbers, new: Numbers, old: Numbers) -> tuple[float | None, float | None]:
    first, second = _placements(truth, new), _placements(truth, old)
    if first is None or second is None:
        return None, None
    positives, negatives = first[0] - second[0], first[1] - second[1]
    if len(positives) < _TWO_ROWS or len(negatives) < _TWO_ROWS:
        return None, None
    variance = positives.var(ddof=1) / len(positives) + negatives.var(ddof=1) / len(negatives)
    return float(positives.mean()), math.sqrt(float(variance))


def _log_loss_rows(truth: Numbers, score: Numbers) -> Numbers:
    import numpy as np

    smallest = float(np.finfo(np.float64).eps)
    safe = np.clip(score, smallest, 1 - smallest)
    rows: Numbers = -np.where(truth > 0, np.log(safe), np.log1p(-safe))
    return rows


def _brier_rows(truth: Numbers, score: Numbers) -> Numbers:
    return (score - truth) ** 2


def _error_rows(truth: Numbers, score: Numbers) -> Numbers:
    import numpy as np

    rows: Numbers = ((score >= 0.5) != (truth > 0)).astype(np.float64)  # noqa: PLR2004  # the label's threshold
    return rows


def _absolute_rows(truth: Numbers, score: Numbers) -> Numbers:
    return abs(score - truth)


def _rmse(truth: Numbers, score: Numbers) -> float | None:
    return math.sqrt(float(_brier_rows(truth, score).mean()))


def _mean_difference(
    losses: Callable[[Numbers, Numbers], Numbers], truth: Numbers, new: Numbers, old: Numbers
) -> tuple[float | None, float | None]:
    gains = losses(truth, old) - losses(truth, new)
    if len(gains) < _TWO_ROWS:
        return None, None
    return float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(gains))


def _rmse_difference(truth: Numbers, new: Numbers, old: Numbers) -> tuple[float | None, float | None]:
    """The delta method: the error of ``sqrt(a) - sqrt(b)`` from that of ``a / (2 sqrt(a)) - b / (2 sqrt(b))``."""
    squares_new, squares_old = _brier_rows(truth, new), _brier_rows(truth, old)
    root_new, root_old = math.sqrt(float(squares_new.mean())), math.sqrt(float(squares_old.mean()))
    if len(truth) < _TWO_ROWS:
        return None, None
    if root_new == 0 or root_old == 0:
        return root_old - root_new, 0.0 if root_new == root_old else None
    influence: Any = squares_old / (2 * root_old) - squares_new / (2 * root_new)
    return root_old - root_new, float(influence.std(ddof=1)) / math.sqrt(len(truth))


def _mean_of(losses: Callable[[Numbers, Numbers], Numbers]) -> Callable[[Numbers, Numbers], float | None]:
    return lambda truth, score: float(losses(truth, score).mean())


def _accuracy(truth: Numbers, score: Numbers) -> float | None:
    return 1.0 - float(_error_rows(truth, score).mean())


_ROW_LOSSES: Final = {
    "log_loss": _log_loss_rows,
    "brier": _brier_rows,
    "accuracy": _error_rows,
    "mae": _absolute_rows,
}

_METRICS: Final[dict[str, Callable[[Numbers, Numbers], float | None]]] = {
    "roc_auc": _roc_auc,
    "log_loss": _mean_of(_log_loss_rows),
    "brier": _mean_of(_brier_rows),
    "accuracy": _accuracy,
    "mae": _mean_of(_absolute_rows),
    "rmse": _rmse,
}
