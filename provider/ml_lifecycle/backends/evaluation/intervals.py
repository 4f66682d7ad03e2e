"""Metrics and paired differences with their 95% intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

from ml_lifecycle.backends.evaluation.metrics import measure
from ml_lifecycle.backends.evaluation.rows import ScoredRows
from ml_lifecycle.backends.models.metrics import paired_difference
from ml_lifecycle.core.contracts import Difference, MeasurementSpec, Metric


def metric_of(
    name: str,
    rows: ScoredRows,
    contender: str,
    *,
    spec: MeasurementSpec,
    own: Mapping[str, Callable[..., Any]] = {},  # noqa: B006  # never written to
) -> Metric:
    """The metric with its two-sided 95% interval."""
    return Metric(value=measure(name, rows, contender, spec=spec, own=own), rows=len(rows))


def difference(
    name: str,
    rows: ScoredRows,
    new: str,
    old: str,
    *,
    spec: MeasurementSpec,
    own: Mapping[str, Callable[..., Any]] = {},  # noqa: B006  # never written to
) -> Difference:
    """How much better ``new`` is than ``old`` on the same rows, with its two-sided 95% interval."""
    if new not in rows.scores or old not in rows.scores:
        return Difference(estimate=None, standard_error=None, rows=len(rows))
    found = paired_difference(name, rows.truth, rows.scores[new], rows.scores[old])
    if found.estimate is None or found.standard_error is None:
        return found
    reach = NormalDist().inv_cdf(0.975) * found.standard_error
    return found.model_copy(update={"low": found.estimate - reach, "high": found.estimate + reach, "method": "normal"})
