"""Batch scoring by SageMaker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.contracts import Stream
from ml_lifecycle.core.errors import ServiceRefusedError
from ml_lifecycle.hooks.tasks import parse, plain_errors
from ml_lifecycle.hooks.tools import place_of
from ml_lifecycle.operators.base import LifecycleOperator, wait

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools

TRANSFORM = "ml_lifecycle.sensors.transform:look_at_transform"
STOP = "ml_lifecycle.sensors.transform:stop_transform"
LOOK_EVERY_S = 30.0
WITHIN = timedelta(days=2)
"""SageMaker ends jobs by itself after five."""


class TransformBatchOperator(LifecycleOperator):
    """Score a folder of S3 by a transform job of SageMaker; returns how it ended, ``{name, state, detail}``.

    The job's name says what it does: a try that comes after one that was killed finds it again. Whoever ends the task
    ends the job.

    :param transform: ``{"model": ..., "source": "s3://...", "output": "s3://...", "instance_type": ...}``.
    :param aws_conn_id: Airflow's connection; empty for the machine's own role.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "transform")
    stream: Stream = "score"

    def __init__(self, *, transform: Mapping[str, Any], aws_conn_id: str = "aws_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transform = transform
        self.aws_conn_id = aws_conn_id
        self._stop: Callable[[], None] | None = None

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """How it ended, as plain JSON.

        :raises TaskDeferred: it runs.
        """
        from ml_lifecycle.backends.deployment.sagemaker_transform import TransformJob, start, stop

        def client(service: str) -> Any:
            return tools.client(service, self.aws_conn_id)

        found = start(parse(TransformJob, self.transform, task_id=self.task_id), client)
        self._stop = partial(stop, found.name, client)
        arguments = {**place_of(context), "name": found.name, "aws_conn_id": self.aws_conn_id}
        if found.state == "running":
            self.log.info("Waiting for the transform job %s", found.name)
            wait(self, TRANSFORM, arguments, then="execute_complete", within=WITHIN, every_s=LOOK_EVERY_S, stop=STOP)
        return self._ended(found.to_xcom())

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002  # Airflow's
        """How it ended."""
        with plain_errors(self.log):
            return self._ended(event["value"] or {"name": "", "state": event["status"], "detail": event["seen"]})

    def on_kill(self) -> None:
        """End the job that this try has started."""
        if self._stop is not None:
            self._stop()

    def _ended(self, found: Mapping[str, Any]) -> dict[str, Any]:
        if found["state"] != "done":
            why = found["detail"] or "no reason was given"
            raise ServiceRefusedError(
                f"the transform job {found['name']} ended as {found['state']}: {why}",
                where=f"task {self.task_id!r}",
                way_out="see its log group in CloudWatch, then clear the task",
            )
        return dict(found)
