"""A dataset in, a report on its promises out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.contracts import Stream
from ml_lifecycle.core.errors import DataRejectedError
from ml_lifecycle.hooks.tasks import Handed
from ml_lifecycle.links import ReportLink
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class ValidateDatasetOperator(LifecycleOperator):
    """Hold a dataset to its expectation suite; returns a ``ValidationReport``.

    :param dataset: What :class:`~ml_lifecycle.operators.data.SnapshotDatasetOperator` returned.
    :param suite: Great Expectations suite, a JSON file below the project folder.
    :param on_failure: ``block`` fails the task, ``quarantine`` sets failing rows aside, ``warn`` only says so.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "dataset")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, dataset: Handed, suite: str, on_failure: str = "block", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.suite = suite
        self.on_failure = on_failure

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:  # noqa: ARG002  # each step gets both
        """The report, as plain JSON."""
        from ml_lifecycle.stages import validation

        job = self.job(
            validation.ValidationJob,
            model=self.model,
            dataset=self.dataset,
            suite=self.suite,
            on_failure=self.on_failure,
        )
        try:
            report = self.conclude(validation.validate, job, tools)
        except DataRejectedError as error:
            self.report_uri = error.report_uri
            raise
        self.report_uri = report.report_uri
        return report.to_xcom()


class CheckQualityOperator(LifecycleOperator):
    """Hold a partition to what training data is held to, before its labels are in; returns a ``ValidationReport``.

    What the suite says of the labels and of the table as a whole is left out. It never blocks: what follows is for
    :class:`~ml_lifecycle.operators.monitoring.RespondToMonitoringOperator` to say.

    :param source: The rows, ``{"uri": "flights/{{ partition }}.parquet"}``.
    :param columns: ``{"key": ..., "time": ..., "target": ...}``.
    :param suite: Great Expectations suite, a JSON file below the project folder.
    :param related: Tables that the features need beside the rows, by name.
    """

    stream: Stream = "monitor"
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        source: Mapping[str, Any],
        columns: Mapping[str, Any],
        suite: str,
        related: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.columns = columns
        self.suite = suite
        self.related = related

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The report, as plain JSON."""
        from ml_lifecycle.stages import validation

        job = self.job(
            validation.QualityJob,
            request=self.resolved(context, tools),
            source=self.source,
            related=self.related or {},
            columns=self.columns,
            suite=self.suite,
        )
        report = self.conclude(validation.check_quality, job, tools)
        self.report_uri = report.report_uri
        return report.to_xcom()
