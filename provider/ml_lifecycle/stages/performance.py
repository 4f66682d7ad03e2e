"""Published predictions in, what they were worth by their labels out; an estimate where labels are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from ml_lifecycle.backends.callables import own_metrics
from ml_lifecycle.backends.evaluation import intervals
from ml_lifecycle.backends.evaluation.metrics import Part, check_metric
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows, Task, cluster_codes
from ml_lifecycle.backends.evaluation.rules import held_against
from ml_lifecycle.backends.files import read_parquet
from ml_lifecycle.backends.models.inputs import probability_columns
from ml_lifecycle.backends.monitoring.estimation import estimate
from ml_lifecycle.backends.monitoring.labels import Joined, join_once, lag_s
from ml_lifecycle.backends.monitoring.prediction_log import label_table, order_of
from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    DropRule,
    Evaluation,
    GateCheck,
    GateRule,
    MeasurementSpec,
    Metric,
    PerformanceEstimate,
    PerformanceReport,
    RunRequest,
    Scalar,
    ScoredPartition,
    Source,
    Verdict,
    digest_of,
)
from ml_lifecycle.core.data import render
from ml_lifecycle.core.errors import (
    ColumnError,
    DataError,
    LifecycleError,
    PassingError,
    RequestError,
)
from ml_lifecycle.core.evaluation import PERIODS, judge_limit
from ml_lifecycle.stages.contenders import class_places, task_of
from ml_lifecycle.stages.data import apply_drop_rules, require_columns
from ml_lifecycle.stages.evaluation import read_predictions
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scored_files import PREDICTIONS, read_inputs
from ml_lifecycle.stages.scoring import scored_at
from ml_lifecycle.stages.scoring_log import log_origin, write_to_log

if TYPE_CHECKING:
    import pandas as pd


_OF_NUMBERS: Final = ("mae", "rmse", "mape", "wape", "r2")
"""Metrics that a target of numbers is measured by, whatever made the predictions."""
_OF_EITHER: Final = ("mean_prediction", "bias")
"""Metrics of numbers and of two classes."""
_TWO: Final = 2


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


@dataclass(frozen=True)
class _Published:
    """The predictions of one partition, as scoring left them."""

    scored: ScoredPartition
    table: pd.DataFrame


@dataclass(frozen=True)
class _Labelled:
    """Predictions beside their labels, and what became of the others."""

    rows: pd.DataFrame
    joined: Joined
    dropped: int
    digest: str
    """Of the file that the labels were read from."""

    @property
    def unlabelled(self) -> int:
        """Predictions without a label so far, those that labels contradict each other about among them."""
        return self.joined.predictions - self.dropped - len(self.rows)

    @property
    def coverage(self) -> float:
        """Share of the predictions that have a label, of those that no rule drops."""
        asked = self.joined.predictions - self.dropped
        return len(self.rows) / asked if asked else 0.0


def measure_performance(job: PerformanceJob, tools: Tools) -> PerformanceReport:
    """Join the published predictions with their labels and judge; inconclusive while labels are missing.

    Whether there are labels or not, the performance is estimated from the predictions alone where that can be done.

    :raises DigestMismatchError: the predictions are not the bytes that scoring published.
    :raises UnknownMetricError: no metric of this model's task is called so.
    :raises PassingError: the labels changed while they were read.
    """
    if not job.request.partition:
        raise RequestError("no partition was asked for", where=job.request.model, way_out="name one, such as 2013-04")
    _target(job)
    published = _published(job, tools)
    if isinstance(published, str):
        return _report(job, None, detail=published)
    _check_metric(job, published.scored.classes)
    report = _report(job, published.scored.version, rows=len(published.table))
    report = report.model_copy(update={"estimate": _estimate(job, published, tools)})
    labelled = _labelled(job, published.table, tools)
    if isinstance(labelled, str):
        return report.model_copy(update={"detail": labelled})
    _log(job, published, labelled, tools)
    return report.model_copy(update=_measured(job, published, labelled, tools))


def _check_metric(job: PerformanceJob, classes: Sequence[Scalar]) -> None:
    """Refuse a metric that does not fit the model before anybody waits for labels."""
    if classes and job.metric not in _OF_NUMBERS:
        check_metric(job.metric, task_of(classes))


def _report(job: PerformanceJob, version: int | None, *, rows: int = 0, detail: str = "") -> PerformanceReport:
    """What is said before anything was measured."""
    return PerformanceReport(
        model=job.request.model,
        version=version,
        partition=job.request.partition,
        verdict=Verdict.INCONCLUSIVE,
        metrics={job.metric: Metric(value=None, rows=0)},
        labelled_rows=0,
        predictions=rows,
        unlabelled_rows=rows,
        detail=detail,
        at_least=job.at_least,
        at_most=job.at_most,
    )


def _target(job: PerformanceJob) -> str:
    if job.columns.target is None:
        raise RequestError(
            "performance needs a target",
            where=job.request.model,
            way_out="declare data.target, or leave performance out",
        )
    return job.columns.target


# --- Predictions and their labels ------------------------------------------------------------------------------------


def _published(job: PerformanceJob, tools: Tools) -> _Published | str:
    """The published predictions, or why there are none."""
    uri = render(job.scored.uri, job.request.partition)
    scored = scored_at(uri, job.request.model, tools)
    if isinstance(scored, str):
        return scored
    with tools.data.folder(uri, scored.fingerprint) as folder:
        table = read_parquet(folder / PREDICTIONS)
        beside = _beside(job, table, folder)
    names = [job.columns.key, "score", *probability_columns(scored.classes)]
    require_columns(table, names, where=uri, role="the predictions' column")
    time = [job.columns.time] if job.columns.time in table.columns else []
    return _Published(scored, table[[*names, *time]].assign(**beside))


def _beside(job: PerformanceJob, table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Columns that the metric is measured by, where the model's inputs have them."""
    wanted = [name for name in _asked_for(job, table) if name != job.columns.key]
    found = read_inputs(folder, wanted) if wanted else None
    return {} if found is None else {str(name): found[name].to_numpy() for name in found.columns}


def _labelled(job: PerformanceJob, predictions: pd.DataFrame, tools: Tools) -> _Labelled | str:
    """Predictions beside their labels, without the rows that the rules drop; or why there are none."""
    uri, target = render(job.labels.uri, job.request.partition), _target(job)
    try:
        before = tools.data.state(uri)
        digest, labels = tools.data.file_digest(uri), tools.data.read_table(uri)
        if tools.data.state(uri) != before:
            raise PassingError("the labels changed while they were read", where=uri, way_out="try again")
        joined = join_once(
            predictions,
            labels,
            key=job.columns.key,
            target=target,
            decides=[rule.column for rule in job.drop],
            also=_asked_for(job, predictions),
            labelled_at=job.labelled_at,
            where=uri,
        )
        kept, dropped = apply_drop_rules(joined.rows, job.drop, where=uri)
    except ColumnError as error:
        return f"the labels cannot be joined: {error}"
    except DataError as error:
        return f"the labels are not there yet: {error}"
    rows = kept[kept[target].notna()].reset_index(drop=True)
    return _Labelled(rows, joined, sum(dropped.values()), digest)


def _asked_for(job: PerformanceJob, predictions: pd.DataFrame) -> list[str]:
    """Columns that the metric is measured by, and that do not stand beside the predictions."""
    by_time = job.spec.cluster in PERIODS and job.columns.time in predictions.columns
    named = [None if by_time else job.spec.cluster, job.spec.weight]
    return [name for name in named if name is not None and name not in predictions.columns]


def _log(job: PerformanceJob, published: _Published, labelled: _Labelled, tools: Tools) -> None:
    """Bring the labels into the log; those that contradict each other take back what was said of their rows."""
    import pandas as pd

    predicted, target = log_origin(published.scored, tools), _target(job)
    before = tools.ledger.results(
        tools.environment, job.request.model, "measure_performance", partition=job.request.partition
    )
    known = [digest for entry in before if (digest := entry["content"].get("labels_digest"))]
    origin = replace(
        predicted,
        data_digest=digest_of([predicted.name, labelled.digest]),
        recorded=order_of(known, labelled.digest),
    )
    rows, back = labelled.rows, labelled.joined.contradicted
    if rows.empty and back.empty:
        return
    names = [name for name in (job.columns.key, job.columns.time, job.labelled_at) if name in rows.columns]
    nothing = [None] * len(back)
    columns = {name: [*rows[name], *(back[name] if name in back.columns else nothing)] for name in names}
    columns[target] = [*_as_classes(rows[target], published.scored.classes), *nothing]
    table = label_table(
        pd.DataFrame(columns),
        origin,
        key=job.columns.key,
        time=job.columns.time,
        target=target,
        predicted=predicted,
        labelled_at=job.labelled_at,
    )
    write_to_log(tools, "labels", origin, table)


def _as_classes(target: pd.Series[Any], classes: Sequence[Scalar]) -> list[Any]:
    """Labels as the model calls its classes: 1 may stand in the file for True."""
    if not classes:
        return target.tolist()
    places = class_places(target, classes)
    return [
        value if place != place else classes[int(place)]  # noqa: PLR0124  # a place that is NaN is none
        for value, place in zip(target.tolist(), places.tolist(), strict=True)
    ]


# --- The measurement -------------------------------------------------------------------------------------------------


def _measured(job: PerformanceJob, published: _Published, labelled: _Labelled, tools: Tools) -> dict[str, Any]:
    """What is known from labels, as fields of the report."""
    lag, early = lag_s(labelled.rows, time=job.columns.time, labelled_at=job.labelled_at)
    metric, verdict, detail = _judged(job, published, labelled, tools)
    notes = (*labelled.joined.passed_over, *([f"{early:,} labels are older than their rows"] if early else []))
    return {
        "verdict": verdict,
        "metrics": {job.metric: metric},
        "labelled_rows": len(labelled.rows),
        "unlabelled_rows": labelled.unlabelled,
        "duplicate_labels": labelled.joined.duplicates,
        "conflicting_labels": len(labelled.joined.contradicted),
        "dropped_rows": labelled.dropped,
        "lag_s": lag,
        "labels_digest": labelled.digest,
        "detail": "; ".join(text for text in (detail, *notes) if text),
    }


def _judged(
    job: PerformanceJob, published: _Published, labelled: _Labelled, tools: Tools
) -> tuple[Metric, Verdict, str]:
    """The metric with its interval, the verdict, and why it is not known."""
    unknown = Verdict.INCONCLUSIVE
    if labelled.rows.empty:
        uri = render(job.labels.uri, job.request.partition)
        nobody = f"none of the {labelled.joined.predictions:,} predictions has a label in {uri}"
        return Metric(value=None, rows=0), unknown, nobody
    rows = _as_scored_rows(job, labelled.rows, published.scored.classes)
    if isinstance(rows, str):
        return Metric(value=None, rows=len(labelled.rows)), unknown, rows
    check_metric(job.metric, rows.task)
    own = own_metrics((job.metric,), tools.project)
    found = intervals.estimate(job.metric, Part(rows, job.spec), CANDIDATE, own=own)
    metric = intervals.as_metric(found)
    if (few := _too_few(job, labelled)) or found.value is None:
        undefined = f"{job.metric} is undefined on these rows" + (f": {found.detail}" if found.detail else "")
        return metric, unknown, few or undefined
    checks = [judge_limit(rule, held_against(rule, found)) for rule in _rules(job)]
    if not checks:
        return metric, unknown, "no limit was set"
    return metric, Verdict.worst(check.verdict for check in checks), "; ".join(filter(None, map(_in_words, checks)))


def _rules(job: PerformanceJob) -> list[GateRule]:
    """A limit each, as a gate would hold them: monitoring and gates judge in one way."""
    limits = {"at_least": job.at_least, "at_most": job.at_most}
    return [
        GateRule.model_validate({"metric": job.metric, "confidence": job.confidence, name: limit})
        for name, limit in limits.items()
        if limit is not None
    ]


def _in_words(check: GateCheck) -> str:
    """What was held against what, where it does not pass."""
    if check.observed is None or check.low is None or check.high is None:
        return check.detail
    if check.verdict is Verdict.PASS:
        return ""
    if check.verdict is Verdict.INCONCLUSIVE:
        detail = f" ({check.detail})" if check.detail else ""
        return f"{check.low:.4g} to {check.high:.4g} neither meets nor breaks {check.rule}{detail}"
    bound = f"at least {check.low:.4g}" if check.at_most else f"at most {check.high:.4g}"
    return f"{check.observed:.4g}, {bound} at {check.confidence or 0:.0%} confidence, breaks {check.rule}"


def _too_few(job: PerformanceJob, labelled: _Labelled) -> str:
    """Why so few labels say nothing; empty where they may."""
    if len(labelled.rows) < job.min_rows:
        return f"only {len(labelled.rows):,} rows have labels, {job.min_rows} are needed"
    if labelled.coverage < job.min_coverage:
        return (
            f"only {labelled.coverage:.1%} of the predictions have a label, {job.min_coverage:.1%} are needed: "
            "labels that come early may be of other rows than those that come late"
        )
    return ""


def _as_scored_rows(job: PerformanceJob, labelled: pd.DataFrame, classes: Sequence[Scalar]) -> ScoredRows | str:
    """The rows as metrics take them, or why they cannot be."""
    target = labelled[_target(job)]
    names = probability_columns(classes)
    task = _task(target, job.metric, classes)
    try:
        truth = _truth(target, task, classes)
        if not truth.notna().all():
            strange = sorted({str(value) for value in target[truth.isna()]})
            return f"the labels hold {', '.join(strange[:3])[:200]}, which the model does not know"
        rows = ScoredRows(
            task=task,
            truth=truth.to_numpy("float64"),
            scores={CANDIDATE: labelled[names or "score"].to_numpy("float64")},
            keys=labelled[job.columns.key].to_numpy(),
            classes=tuple(map(str, classes)) if task != "regression" else (),
            weight=None if job.spec.weight is None else labelled[job.spec.weight].to_numpy("float64"),
        )
        return replace(rows, cluster=cluster_codes(labelled, job.spec.cluster, time=job.columns.time))
    except (ColumnError, TypeError, ValueError) as error:
        return f"the labels cannot be measured: {error}"


def _task(target: pd.Series[Any], metric: str, classes: Sequence[Scalar]) -> Task:
    """What is measured: predictions that name no classes are numbers, unless metric and labels say otherwise."""
    if len(classes) > _TWO:
        return "multiclass"
    if metric in _OF_NUMBERS:
        return "regression"
    of_any = ":" in metric or metric in _OF_EITHER
    return "binary" if classes or not of_any or _is_two(target) else "regression"


def _truth(target: pd.Series[Any], task: Task, classes: Sequence[Scalar]) -> pd.Series[Any]:
    """The target as numbers; of two classes, scores are about the second one, whichever of them the labels hold."""
    from pandas.api import types

    is_number = types.is_numeric_dtype(target.dtype)
    if classes and not (is_number and task == "regression"):
        return class_places(target, classes)
    if is_number and (task == "regression" or _is_two(target)):
        return target.astype("float64")
    values = target if is_number else target.astype(str)
    hits: pd.Series[Any] = values.eq(values.max()).astype("float64")
    return hits


def _is_two(target: pd.Series[Any]) -> bool:
    from pandas.api import types

    return not types.is_numeric_dtype(target.dtype) or bool(target.isin([0, 1]).all())


# --- The estimate ----------------------------------------------------------------------------------------------------


def _estimate(job: PerformanceJob, published: _Published, tools: Tools) -> PerformanceEstimate:
    """What the metric probably is, from the predictions alone and what the holdout says of their scores."""
    scored, table, spec = published.scored, published.table, job.spec
    numbers = job.metric in _OF_NUMBERS
    if absent := _asked_for(job, table):
        condition = f"Not estimated: {absent[0]!r}, which it is measured by, comes with the labels at best."
        return PerformanceEstimate(metric=job.metric, value=None, rows=len(table), condition=condition)
    try:
        cluster = cluster_codes(table, spec.cluster, time=job.columns.time)
        weight = None if spec.weight is None else table[spec.weight].to_numpy("float64")
    except (ColumnError, TypeError, ValueError) as error:
        condition = f"Not estimated: {error}."
        return PerformanceEstimate(metric=job.metric, value=None, rows=len(table), condition=condition)
    return estimate(
        job.metric,
        table[probability_columns(scored.classes) or "score"].to_numpy("float64"),
        classes=() if numbers else tuple(map(str, scored.classes)),
        spec=spec,
        cluster=cluster,
        weight=weight,
        holdout=None if numbers or not scored.classes else _holdout(scored, tools),
    )


def _holdout(scored: ScoredPartition, tools: Tools) -> ScoredRows | None:
    """What the model said of its holdout; ``None`` where nobody measured it, or the rows cannot be read."""
    measured = tools.ledger.results(tools.environment, scored.model, "evaluate", model__digest=scored.digest, limit=1)
    if not measured:
        return None
    try:
        return read_predictions(Evaluation.model_validate(measured[-1]["content"]), tools)
    except PassingError:
        raise
    except LifecycleError:
        # The estimate is a hint without it, and says so; the labels are what judges.
        return None
