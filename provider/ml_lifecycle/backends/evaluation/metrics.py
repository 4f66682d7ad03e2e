"""Metrics on scored rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows, Task
from ml_lifecycle.backends.models import metrics as arrays
from ml_lifecycle.core.contracts import MeasurementSpec
from ml_lifecycle.core.errors import UnknownBackendError
from ml_lifecycle.core.evaluation import METRICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

roc_curve = arrays.roc_curve


def check_metric(name: str, task: Task) -> None:
    """Refuse a metric that is unknown, or that does not fit the task.

    :raises UnknownBackendError: no metric of this task is called so.
    """
    if ":" not in name and name not in METRICS:
        raise UnknownBackendError(f"{task} metric", name, METRICS)


def measure(
    name: str,
    rows: ScoredRows,
    contender: str = CANDIDATE,
    *,
    spec: MeasurementSpec = MeasurementSpec(),  # noqa: B008  # frozen
    own: Mapping[str, Callable[..., Any]] = {},  # noqa: B006  # never written to
) -> float | None:
    """The metric's value, or ``None`` where it is undefined."""
    if contender not in rows.scores:
        return None
    if name in own:
        return float(own[name](rows.truth, rows.scores[contender]))
    return arrays.measure(name, rows.truth, rows.scores[contender])


def calibration_curve(
    rows: ScoredRows, contender: str = CANDIDATE, *, bins: int = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean score, share that came true, and rows, of bins of equal weight from the lowest scores to the highest."""
    import numpy as np

    score = rows.scores[contender]
    parts = [part for part in np.array_split(np.argsort(score, kind="stable"), bins) if len(part)]
    return (
        np.array([score[part].mean() for part in parts]),
        np.array([rows.truth[part].mean() for part in parts]),
        np.array([float(len(part)) for part in parts]),
    )
