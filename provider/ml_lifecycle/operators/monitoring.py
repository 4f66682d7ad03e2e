"""A scored partition in; drift, performance and what follows from them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from ml_lifecycle.core.contracts import MonitoringResponse, Stream
from ml_lifecycle.hooks.notify import alert_owner
from ml_lifecycle.hooks.tasks import Handed
from ml_lifecycle.links import ReportLink
from ml_lifecycle.operators.assets import announce_response, retrain_asset, rollback_wanted_asset
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class DetectDriftOperator(LifecycleOperator):
    """Compare a partition with what the champion knows; returns a ``DriftReport``.

    :param source: The rows, ``{"uri": "flights/{{ partition }}.parquet"}``.
    :param columns: ``{"key": ..., "time": ..., "target": ...}``.
    :param related: Tables that the features need beside the rows, by name.
    :param every: How often a partition arrives: ``hourly``, ``daily`` or ``monthly``; left out, as its name says.
    :param policy: When data counts as drifted: fields of :class:`~ml_lifecycle.core.contracts.DriftPolicy`, such as
        ``{"false_alarms": {"count": 1, "per": "quarter"}, "block": "day"}``.
    :param scored: Folder of the predictions, ``{"uri": "scored/{{ partition }}"}``; left out, they are not compared.
    """

    stream: Stream = "monitor"
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        source: Mapping[str, Any],
        columns: Mapping[str, Any],
        related: Mapping[str, Mapping[str, Any]] | None = None,
        every: str | None = None,
        policy: Mapping[str, Any] | None = None,
        scored: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.columns = columns
        self.related = related
        self.every = every
        self.policy = policy
        self.scored = scored

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The drift report, as plain JSON."""
        from ml_lifecycle.stages import drift

        job = self.job(
            drift.DriftJob,
            request=self.resolved(context, tools),
            source=self.source,
            related=self.related or {},
            columns=self.columns,
            every=self.every,
            policy=self.policy or {},
            scored=self.scored,
        )
        report = self.conclude(drift.detect_drift, job, tools)
        self.report_uri = report.report_uri
        return report.to_xcom()


class MonitorPerformanceOperator(LifecycleOperator):
    """Hold published predictions against their labels; returns a ``PerformanceReport``.

    :param scored: Folder of the predictions, ``{"uri": "scored/{{ partition }}"}``.
    :param labels: The labels, ``{"uri": "labels/{{ partition }}.parquet"}``.
    :param columns: ``{"key": ..., "time": ..., "target": ...}``.
    :param metric: What is measured.
    :param at_least: Least good value.
    :param at_most: Greatest good value.
    :param confidence: One-sided, of the bounds that decide, 0.5 to below 1.
    :param min_rows: With fewer labelled rows, nothing is known.
    :param min_coverage: Share of the predictions that must have a label before anything is judged, 0 to 1.
    :param labelled_at: Column of the labels that says when each became known.
    :param measurement: How the metric is measured and bounded: fields of
        :class:`~ml_lifecycle.core.contracts.MeasurementSpec`.
    :param drop: Rows that do not count, ``[{"column": ..., "equals": ..., "because": ...}, ...]``.
    """

    stream: Stream = "monitor"

    def __init__(
        self,
        *,
        scored: Mapping[str, Any],
        labels: Mapping[str, Any],
        columns: Mapping[str, Any],
        metric: str,
        at_least: float | None = None,
        at_most: float | None = None,
        confidence: float = 0.95,
        min_rows: int = 30,
        min_coverage: float = 0.0,
        labelled_at: str | None = None,
        measurement: Mapping[str, Any] | None = None,
        drop: Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scored = scored
        self.labels = labels
        self.columns = columns
        self.metric = metric
        self.at_least = at_least
        self.at_most = at_most
        self.confidence = confidence
        self.min_rows = min_rows
        self.min_coverage = min_coverage
        self.labelled_at = labelled_at
        self.measurement = measurement
        self.drop = drop

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The performance report, as plain JSON."""
        from ml_lifecycle.stages import performance

        job = self.job(
            performance.PerformanceJob,
            request=self.resolved(context, tools),
            scored=self.scored,
            labels=self.labels,
            columns=self.columns,
            drop=self.drop,
            metric=self.metric,
            at_least=self.at_least,
            at_most=self.at_most,
            confidence=self.confidence,
            min_rows=self.min_rows,
            min_coverage=self.min_coverage,
            labelled_at=self.labelled_at,
            spec=self.measurement or {},
        )
        return self.conclude(performance.measure_performance, job, tools).to_xcom()


class RespondToMonitoringOperator(LifecycleOperator):
    """Decide what the reports call for; returns a ``MonitoringResponse`` and emits ``retrain`` or ``rollback_wanted``.

    The task is skipped where neither is asked for; its return value then says why. Two tasks that decide at the same
    moment, in whatever runs, ask for one training.

    :param drift: What :class:`DetectDriftOperator` returned, or ``None``.
    :param performance: What :class:`MonitorPerformanceOperator` returned, or ``None``.
    :param quality: What :class:`~ml_lifecycle.operators.validation.CheckQualityOperator` returned, or ``None``.
    :param on_drift: What follows drift: ``retrain``, ``rollback``, ``alert`` or ``nothing``.
    :param on_performance: What follows lost performance; left out, what follows drift.
    :param on_quality: What follows data that fails its suite: ``alert`` or ``nothing``.
    :param limits: Of retraining: ``cooldown`` and ``remind_after`` (seconds or an ISO 8601 duration such as ``P7D``),
        ``stop_after``, ``budget`` (``{"count": 4, "per": "quarter"}``) and ``new_rows``.
    :param data: What a training reads, so that somebody looks whether there is anything new: ``source``, ``labels``,
        ``related``, ``columns``, ``every`` and ``window``. Left out, nobody looks.
    :param runbook: Where people read what to do.
    :param contact: Where people reach the model's team; an alert tells it to the deployment's notifiers.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "drift", "performance", "quality")
    stream: Stream = "monitor"
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        model: str,
        drift: Handed | None = None,
        performance: Handed | None = None,
        quality: Handed | None = None,
        on_drift: str = "retrain",
        on_performance: str | None = None,
        on_quality: str = "alert",
        limits: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        runbook: str = "",
        contact: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, **{"outlets": [retrain_asset(model), rollback_wanted_asset(model)], **kwargs})
        self.drift = drift
        self.performance = performance
        self.quality = quality
        self.on_drift = on_drift
        self.on_performance = on_performance
        self.on_quality = on_quality
        self.limits = limits
        self.data = data
        self.runbook = runbook
        self.contact = contact

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The response, as plain JSON."""
        from ml_lifecycle.stages import response

        job = self.job(
            response.ResponseJob,
            request=self.resolved(context, tools),
            drift=self.drift,
            performance=self.performance,
            quality=self.quality,
            on_drift=self.on_drift,
            on_performance=self.on_performance,
            on_quality=self.on_quality,
            runbook=self.runbook,
            **(self.limits or {}),
            **(self.data or {}),
        )
        found = self.conclude(response.respond, job, tools)
        trend = self._show_trend(found, tools)
        if found.told:
            shown = (*found.evidence, *([trend] if trend else ()))
            alert_owner(
                context,
                model=self.model,
                contact=self.contact,
                event="alert",
                what=found.reason,
                evidence=[tools.report_url(uri) or uri for uri in shown],
                runbook=found.runbook,
                prepared=found.prepared,
            )
        announce_response(context, found)
        if found.action not in ("retrain", "rollback"):
            # A skipped task returns nothing, and what was found should still be readable beside it.
            context["ti"].xcom_push(key="return_value", value=found.to_xcom())
            raise AirflowSkipException(f"{found.action}: {found.reason}")
        return found.to_xcom()

    def _show_trend(self, found: MonitoringResponse, tools: Tools) -> str:
        """Put the page behind the task's button and return its uri; what was decided stands without it."""
        from ml_lifecycle.stages.trend import publish_trend

        try:
            self.report_uri = publish_trend(self.model, found.partition, tools)
        except Exception:
            self.log.exception("The trend could not be drawn")
            return ""
        return self.report_uri
