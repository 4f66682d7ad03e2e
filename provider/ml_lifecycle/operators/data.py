"""Partitions in, one immutable snapshot out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class SnapshotDatasetOperator(LifecycleOperator):
    """Copy partitions into an immutable dataset with a fingerprint; returns a ``DatasetRef``.

    :param source: ``{"uri": "flights/{{ partition }}.parquet"}``, below the deployment's data root.
    :param columns: ``{"key": ..., "time": ..., "target": ...}``.
    :param labels: Where the target lives when it arrives later than the rows.
    :param related: Tables that the features need beside the rows, by name.
    :param drop: ``[{"column": ..., "equals": ..., "because": ...}, ...]``: rows that are left out, and counted.
    :param labelled: Whether the target is needed.
    :param partitions: What to copy, oldest first, where no request says it.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "partitions")

    def __init__(
        self,
        *,
        source: Mapping[str, Any],
        columns: Mapping[str, Any],
        labels: Mapping[str, Any] | None = None,
        related: Mapping[str, Mapping[str, Any]] | None = None,
        drop: Sequence[Mapping[str, Any]] = (),
        labelled: bool = True,
        partitions: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.columns = columns
        self.labels = labels
        self.related = related
        self.drop = drop
        self.labelled = labelled
        self.partitions = partitions

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The dataset's reference, as plain JSON."""
        from ml_lifecycle.stages import data

        request = self.resolved(context, tools)
        partitions = tuple(self.partitions) or request.partitions
        if not partitions:
            raise RequestError(
                "neither the request nor the task names a partition",
                where=f"task {self.task_id!r}",
                way_out="hand it a request, or partitions=[...]",
            )
        job = self.job(
            data.SnapshotJob,
            model=self.model,
            partitions=partitions,
            source=self.source,
            labels=self.labels,
            related=self.related or {},
            columns=self.columns,
            drop=self.drop,
            labelled=self.labelled,
        )
        return self.conclude(data.snapshot, job, tools).to_xcom()
