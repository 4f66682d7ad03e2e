"""An approved version in, a signed archive for apps and devices out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.contracts import Stream
from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class ExportBundleOperator(LifecycleOperator):
    """Publish an approved version as a signed archive below the data root; returns an ``ExportedBundle``.

    :param version: Which one; left out, the one that the request names.
    :param onnx: Whether the archive can also answer by ONNX, without scikit-learn.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "version")
    stream: Stream = "release"

    def __init__(self, *, version: int | str | None = None, onnx: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.onnx = onnx

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """Where it is published, as plain JSON."""
        from ml_lifecycle.stages import export

        request = self.resolved(context, tools)
        job = self.job(export.ExportJob, request=request, version=self._number(request.version), onnx=self.onnx)
        made = self.conclude(export.export, job, tools)
        self.log.info("%s: %d bytes, signed by key %s", made.uri, made.size, made.signed_by)
        return made.to_xcom()

    def _number(self, requested: int | None) -> int:
        text = str(self.version if self.version is not None else requested or "")
        if not text.isdecimal() or int(text) < 1:
            raise RequestError(
                f"{text[:40]!r} is no version", where=f"task {self.task_id!r}", way_out="name a number such as 7"
            )
        return int(text)
