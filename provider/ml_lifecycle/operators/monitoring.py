"""A scored partition in; drift, performance and what follows from them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from ml_lifecycle.core.contracts import Stream
from ml_lifecycle.hooks.notify import alert_owner
from ml_lifecycle.hooks.tasks import Handed
from ml_lifecycle.links import ReportLink
from ml_lifecycle.operators.assets import announce, retrain_asset
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class DetectDriftOperator(LifecycleOperator):
    """Compare a partition with what the champion was trained on; returns a ``DriftReport``.

    :param source: The rows, ``{"uri": "flights/{{ partition }}.parquet"}``.
    :param columns: ``{"key": ..., "time": ..., "target": ...}``.
    :param related: Tables that the features need beside the rows, by name.
    :param threshold: Distance above which a column has drifted, 0 to 1.
    :param share: Share of drifted columns at which the data has drifted, 0 to 1.
    """

    stream: Stream = "monitor"
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        source: Mapping[str, Any],
        columns: Mapping[str, Any],
        related: Mapping[str, Mapping[str, Any]] | None = None,
        threshold: float = 0.1,
        share: float = 0.3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.columns = columns
        self.related = related
        self.threshold = threshold
        self.share = share

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The drift report, as plain JSON."""
        from ml_lifecycle.stages import monitoring

        job = self.job(
            monitoring.DriftJob,
            request=self.resolved(context, tools),
            source=self.source,
            related=self.related or {},
            columns=self.columns,
            threshold=self.threshold,
            share=self.share,
        )
        report = self.conclude(monitoring.detect_drift, job, tools)
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
    :param min_rows: With fewer labelled rows, nothing is known.
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
        min_rows: int = 30,
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
        self.min_rows = min_rows
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
            min_rows=self.min_rows,
        )
        return self.conclude(performance.measure_performance, job, tools).to_xcom()


class RespondToMonitoringOperator(LifecycleOperator):
    """Decide what the reports call for; returns a ``MonitoringResponse`` and emits the ``retrain`` asset.

    The task is skipped where no training is asked for; its return value then says why.

    :param drift: What :class:`DetectDriftOperator` returned, or ``None``.
    :param performance: What :class:`MonitorPerformanceOperator` returned, or ``None``.
    :param on_drift: What follows drift or lost performance: ``retrain``, ``alert`` or ``nothing``.
    :param cooldown: Least time between two requests, in seconds or as an ISO 8601 duration such as ``P7D``.
    :param stop_after: Requests in a row without a new champion, after which only an alert follows.
    :param contact: Where people reach the model's team; an alert tells it to the deployment's notifiers.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "drift", "performance")
    stream: Stream = "monitor"

    def __init__(
        self,
        *,
        model: str,
        drift: Handed | None = None,
        performance: Handed | None = None,
        on_drift: str = "retrain",
        cooldown: str | float = "P7D",
        stop_after: int = 3,
        contact: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, **{"outlets": [retrain_asset(model)], **kwargs})
        self.drift = drift
        self.performance = performance
        self.on_drift = on_drift
        self.cooldown = cooldown
        self.stop_after = stop_after
        self.contact = contact

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The response, as plain JSON."""
        from ml_lifecycle.stages import monitoring

        job = self.job(
            monitoring.ResponseJob,
            request=self.resolved(context, tools),
            drift=self.drift,
            performance=self.performance,
            on_drift=self.on_drift,
            cooldown=self.cooldown,
            stop_after=self.stop_after,
        )
        response = self.conclude(monitoring.respond, job, tools)
        if response.action == "alert":
            alert_owner(context, model=self.model, contact=self.contact, event="alert", what=response.reason)
        if response.action != "retrain":
            # A skipped task returns nothing, and what was found should still be readable beside it.
            context["ti"].xcom_push(key="return_value", value=response.to_xcom())
            raise AirflowSkipException(f"{response.action}: {response.reason}")
        # Not as "partition": what is trained on is the newest data with labels, not the data that drifted.
        extra = {"model": self.model, "observed": response.partition, "reason": response.reason}
        announce(context, retrain_asset(self.model), extra)
        return response.to_xcom()
