"""Waiting for labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException

from ml_lifecycle.core.data import LABELS_GRACE
from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.hooks.tasks import Handed
from ml_lifecycle.sensors.base import LifecycleSensor, tools_of_probe
from ml_lifecycle.triggers import Status

if TYPE_CHECKING:
    from airflow.sdk import Context


class LabelsReadySensor(LifecycleSensor):
    """Wait until enough of a scored partition's predictions have labels; returns how many have.

    The value holds ``partition``, ``predictions``, ``labelled_rows``, ``coverage`` and ``late``. With ``labels_after``
    the wait ends when labels are overdue, whenever the task began: the task fails, is skipped with ``soft_fail``, or
    with ``go_on`` returns what there is.

    :param model: Name of the registered model, for people.
    :param scored: Folder of the predictions, ``{"uri": "scored/{{ partition }}"}``.
    :param labels: The labels, ``{"uri": "labels/{{ partition }}.parquet"}``.
    :param columns: ``{"key": ..., "target": ...}``.
    :param drop: Rows that never get a label, ``[{"column": ..., "equals": ..., "because": ...}, ...]``.
    :param partition: The partition's name; left out, the request's.
    :param request: What :class:`~ml_lifecycle.operators.request.ResolveRequestOperator` returned.
    :param coverage: Share of the predictions that must have a label, above 0 and up to 1.
    :param labels_after: How long after the partition's end labels are promised, also in seconds.
    :param grace: How much later they may come, also in seconds.
    :param go_on: Whether to go on with what there is when labels are overdue.
    :param timeout: Seconds after which the wait is over in any case; left out, as long as labels have.
    """

    template_fields: Sequence[str] = ("partition", "request")
    probe = "ml_lifecycle.sensors.labels:look_at_labels"

    def __init__(
        self,
        *,
        model: str,
        scored: Mapping[str, Any],
        labels: Mapping[str, Any],
        columns: Mapping[str, Any],
        drop: Sequence[Mapping[str, Any]] = (),
        partition: str | None = None,
        request: Handed | None = None,
        coverage: float = 0.95,
        labels_after: timedelta | float | None = None,
        grace: timedelta | float = LABELS_GRACE,
        go_on: bool = False,
        **kwargs: Any,
    ) -> None:
        if labels_after is not None:
            kwargs = {"timeout": _seconds(labels_after) + _seconds(grace), **kwargs}
        super().__init__(**kwargs)
        self.model = model
        self.scored = scored
        self.labels = labels
        self.columns = columns
        self.drop = drop
        self.partition = partition
        self.request = request
        self.coverage = coverage
        self.labels_after = labels_after
        self.grace = grace
        self.go_on = go_on

    def waits_for(self) -> str:
        """The labels and the share of them."""
        return f"labels of {self.coverage:.0%} of the predictions of {self.model} for {self._partition()}"

    def arguments(self, context: Context) -> Mapping[str, Any]:  # noqa: ARG002  # each sensor gets it
        """What is to have labels."""
        if not self._partition():
            raise RequestError(
                "neither the request nor the task names a partition",
                where=f"task {self.task_id!r}",
                way_out="hand it a request, or partition=...",
            )
        job = {
            "partition": self._partition(),
            "scored": dict(self.scored),
            "labels": dict(self.labels),
            "columns": dict(self.columns),
            "drop": [dict(rule) for rule in self.drop],
            "coverage": self.coverage,
            "labels_after": None if self.labels_after is None else _seconds(self.labels_after),
            "grace": _seconds(self.grace),
        }
        return {"job": job}

    def finished(self, value: Any) -> Any:
        """How many have a label; where they are overdue, only for those who go on."""
        if not value["late"] or self.go_on:
            return value
        text = f"{self.waits_for()} are overdue: {value['coverage']:.1%} are there"
        if self.soft_fail:
            raise AirflowSkipException(text)
        raise AirflowSensorTimeout(text)

    def _partition(self) -> str:
        request = self.request if isinstance(self.request, dict) else {}
        return str(self.partition or request.get("partition") or "")


def look_at_labels(*, project: str, run: str, job: dict[str, Any]) -> Status:
    """Whether there are enough labels, or they are overdue."""
    from ml_lifecycle.stages.labels import LabelsJob, look_for_labels

    asked = LabelsJob.model_validate(job)
    found = look_for_labels(asked, tools_of_probe(project, run))
    value = {
        "partition": asked.partition,
        "predictions": found.predictions,
        "labelled_rows": found.labelled,
        "coverage": found.coverage,
        "late": found.late and not found.ready,
    }
    return Status(found.ready or found.late, found.seen, value)


def _seconds(length: timedelta | float) -> float:
    return length.total_seconds() if isinstance(length, timedelta) else float(length)
