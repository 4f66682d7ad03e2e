"""Published predictions in, what they were worth by their labels out; an estimate where labels are missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ml_lifecycle.backends.files import read_parquet
from ml_lifecycle.core import monitoring as core
from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    DropRule,
    MeasurementSpec,
    Metric,
    PerformanceReport,
    RunRequest,
    Scalar,
    Source,
    Verdict,
)
from ml_lifecycle.core.data import render
from ml_lifecycle.core.errors import ColumnError, DataError, DigestMismatchError, RequestError
from ml_lifecycle.stages.data import apply_drop_rules, join_labels, require_columns
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scoring import probability_columns

if TYPE_CHECKING:
    import pandas as pd

    from ml_lifecycle.backends.evaluation.rows import ScoredRows

_OF_NUMBERS = ("mae", "rmse", "mape", "wape", "r2")
"""Metrics that a target of numbers is measured by, whatever made the predictions."""


class PerformanceJob(Contract):
    """Which published predictions are held against their labels."""

    request: RunRequest
    scored: Source
    labels: Source
    columns: Columns
    drop: tuple[DropRule, ...] = ()
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    min_rows: int = Field(default=30, ge=1)
    """With fewer labelled rows, nothing is known."""
    min_coverage: float = Field(default=0.0, ge=0, le=1)
    """Share of the predictions that must have a label before anything is judged: early labels are often biased."""
    labelled_at: str | None = None
    """Column of the labels that says when each became known."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """One-sided, of the bounds that decide; at 0.5 the metric itself decides."""
    spec: MeasurementSpec = MeasurementSpec()
    """How the metric is measured and bounded."""


def measure_performance(job: PerformanceJob, tools: Tools) -> PerformanceReport:
    """Join the published predictions with their labels and judge; inconclusive while labels are missing.

    :raises DigestMismatchError: the predictions are not the bytes that scoring published.
    :raises UnknownMetricError: no metric of this model's task is called so.
    """
    from ml_lifecycle.backends.evaluation.metrics import measure

    if not job.request.partition:
        raise RequestError("no partition was asked for", where=job.request.model, way_out="name one, such as 2013-04")
    scored = _scored(job, tools)
    if isinstance(scored, str):
        return _performance(job, None, detail=scored)
    version, classes, predictions = scored
    labelled = _labelled(job, predictions, tools)
    if isinstance(labelled, str):
        return _performance(job, version, detail=labelled)
    value = measure(job.metric, _as_scored_rows(job, labelled, classes))
    verdict = core.judge_performance(value, at_least=job.at_least, at_most=job.at_most)
    detail = "" if value is not None else f"{job.metric} is undefined on these rows"
    if len(labelled) < job.min_rows:
        verdict, detail = Verdict.INCONCLUSIVE, f"only {len(labelled):,} rows have labels, {job.min_rows} are needed"
    elif value is not None and verdict is Verdict.INCONCLUSIVE:
        detail = "no limit was set"
    metric = Metric(value=value, rows=len(labelled))
    return _performance(job, version, verdict=verdict, metric=metric, rows=len(labelled), detail=detail)


def _performance(
    job: PerformanceJob,
    version: int | None,
    *,
    verdict: Verdict = Verdict.INCONCLUSIVE,
    metric: Metric | None = None,
    rows: int = 0,
    detail: str = "",
) -> PerformanceReport:
    return PerformanceReport(
        model=job.request.model,
        version=version,
        partition=job.request.partition,
        verdict=verdict,
        metrics={job.metric: metric or Metric(value=None, rows=rows)},
        labelled_rows=rows,
        detail=detail,
    )


def _target(job: PerformanceJob) -> str:
    if job.columns.target is None:
        raise RequestError(
            "performance needs a target",
            where=job.request.model,
            way_out="declare data.target, or leave performance out",
        )
    return job.columns.target


def _scored(job: PerformanceJob, tools: Tools) -> tuple[int, Sequence[Scalar], pd.DataFrame] | str:
    """The published predictions with the version that made them and its classes, or why there are none."""
    uri = render(job.scored.uri, job.request.partition)
    found = tools.data.published(uri)
    if found is None:
        return f"no predictions are published at {uri}"
    known = [entry["content"] for entry in tools.ledger.results(tools.environment, job.request.model, "score", uri=uri)]
    if not known:
        return f"the ledger knows of no scoring that published {uri}"
    content = known[-1]
    if found not in {entry["fingerprint"] for entry in known}:
        raise DigestMismatchError(
            "the published predictions",
            expected=content["fingerprint"],
            found=found,
            where=uri,
            way_out="they were changed after scoring; restore them, or remove the folder and score again",
        )
    content = next(entry for entry in reversed(known) if entry["fingerprint"] == found)
    with tools.data.folder(uri, found) as folder:
        table = read_parquet(folder / "predictions.parquet")
    classes = content.get("classes") or ()
    names = [job.columns.key, "score", *probability_columns(classes)]
    require_columns(table, names, where=uri, role="the predictions' column")
    return int(content["version"]), classes, table[names]


def _labelled(job: PerformanceJob, predictions: pd.DataFrame, tools: Tools) -> pd.DataFrame | str:
    """Predictions beside their labels, without the rows that the rules drop; or why there are none."""
    uri, target = render(job.labels.uri, job.request.partition), _target(job)
    try:
        labels = tools.data.read_table(uri)
        require_columns(labels, [target], where=uri, role="the target")
        joined = join_labels(predictions, labels, key=job.columns.key, where=uri)
        if joined[target].isna().all():
            return f"none of the {len(joined):,} predictions has a label in {uri}"
        kept, _ = apply_drop_rules(joined, job.drop, where=uri)
    except ColumnError as error:
        return f"the labels cannot be joined: {error}"
    except DataError as error:
        return f"the labels are not there yet: {error}"
    labelled: pd.DataFrame = kept[kept[target].notna()]
    if labelled.empty:
        return f"none of the {len(predictions):,} predictions has a label in {uri}"
    return labelled


def _as_scored_rows(job: PerformanceJob, labelled: pd.DataFrame, classes: Sequence[Scalar]) -> ScoredRows:
    from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows

    target = labelled[_target(job)]
    keys = labelled[job.columns.key].to_numpy()
    if names := probability_columns(classes):
        places = {_as_label(label): float(place) for place, label in enumerate(classes)}
        truth = target.map(lambda value: places.get(_as_label(value), float("nan"))).to_numpy("float64")
        scores = labelled[names].to_numpy("float64")
        labels = tuple(map(str, classes))
        return ScoredRows(task="multiclass", truth=truth, scores={CANDIDATE: scores}, keys=keys, classes=labels)
    return ScoredRows(
        task="regression" if job.metric in _OF_NUMBERS else "binary",
        truth=_as_numbers(target, job.metric, classes).to_numpy("float64"),
        scores={CANDIDATE: labelled["score"].to_numpy("float64")},
        keys=keys,
    )


def _as_numbers(target: pd.Series[Any], metric: str, classes: Sequence[Scalar]) -> pd.Series[Any]:
    """The target as numbers; of two classes, scores are about the second one, whichever of them the labels hold."""
    from pandas.api import types

    is_number = types.is_numeric_dtype(target.dtype)
    if classes and not (is_number and metric in _OF_NUMBERS):
        hits = target.map(_as_label).eq(_as_label(classes[1]))
    elif is_number and (metric in _OF_NUMBERS or target.isin([0, 1]).all()):
        hits = target
    else:
        values = target if is_number else target.astype(str)
        hits = values.eq(values.max())
    numbers: pd.Series[Any] = hits.astype("float64")
    return numbers


def _as_label(value: Any) -> str:
    """True, 1 and 1.0 are one label, however a file stores it."""
    return value if isinstance(value, str) else str(float(value))
