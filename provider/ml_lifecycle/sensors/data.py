"""Waiting for data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.hooks.tasks import Handed
from ml_lifecycle.sensors.base import LifecycleSensor, tools_of_probe
from ml_lifecycle.triggers import Status

if TYPE_CHECKING:
    from airflow.sdk import Context


class DatasetReadySensor(LifecycleSensor):
    """Wait until a partition's files are there, whole, and no longer growing.

    :param sources: ``[{"uri": "flights/{{ partition }}.parquet"}, ...]``, below the deployment's data root.
    :param partition: The partition's name; left out, the request's.
    :param request: What :class:`~ml_lifecycle.operators.request.ResolveRequestOperator` returned.
    :param settle_seconds: How long a file must have kept its size and time of change.
    """

    template_fields: Sequence[str] = ("partition", "request")
    probe = "ml_lifecycle.sensors.data:look_at_partition"

    def __init__(
        self,
        *,
        sources: Sequence[Mapping[str, str]],
        partition: str | None = None,
        request: Handed | None = None,
        settle_seconds: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sources = sources
        self.partition = partition
        self.request = request
        self.settle_seconds = settle_seconds

    def waits_for(self) -> str:
        """The partition and its files."""
        return f"partition {self._partition()} of {', '.join(source['uri'] for source in self.sources)}"

    def arguments(self, context: Context) -> Mapping[str, Any]:  # noqa: ARG002  # each sensor gets it
        """The partition and its files."""
        if not self._partition():
            raise RequestError(
                "neither the request nor the task names a partition",
                where=f"task {self.task_id!r}",
                way_out="hand it a request, or partition=...",
            )
        job = {
            "partition": self._partition(),
            "sources": [dict(source) for source in self.sources],
            "settle_seconds": self.settle_seconds,
        }
        return {"job": job}

    def _partition(self) -> str:
        request = self.request if isinstance(self.request, dict) else {}
        return str(self.partition or request.get("partition") or "")


def look_at_partition(*, project: str, run: str, job: dict[str, Any]) -> Status:
    """Whether the partition can be read; returns its name."""
    from ml_lifecycle.stages.data import ReadinessJob, readiness

    asked = ReadinessJob.model_validate(job)
    missing = readiness(asked, tools_of_probe(project, run))
    return Status(missing is None, missing or f"partition {asked.partition} is complete", asked.partition)
