"""Waiting for what monitoring finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.sensors.base import LifecycleSensor, tools_of_probe
from ml_lifecycle.triggers import Status

if TYPE_CHECKING:
    from airflow.sdk import Context

DETECTED = "detect_drift"
"""What the ledger knows drift reports as."""
NAMED = 5
"""How many drifted columns a summary names."""


class DriftSensor(LifecycleSensor):
    """Wait until a look at a model's data finds drift; returns the report's summary.

    The summary holds ``model``, ``version``, ``partition``, ``verdict``, ``drifted`` and ``compared`` (columns),
    ``columns`` (those that moved most), ``report_uri`` and ``at``. Of several reports, it is the newest one's.

    :param model: Name of the registered model.
    :param partition: Only looks at this partition or a later one.
    :param since: Only looks from this moment on, in ISO 8601 with its offset from UTC, such as
        ``{{ data_interval_start }}``.
    :param verdict: ``fail`` waits for drift, ``any`` for whatever a look finds.
    """

    template_fields: Sequence[str] = ("partition", "since")
    probe = "ml_lifecycle.sensors.monitoring:look_at_drift"

    def __init__(
        self,
        *,
        model: str,
        partition: str | None = None,
        since: str | None = None,
        verdict: str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.partition = partition
        self.since = since
        self.verdict = verdict

    def waits_for(self) -> str:
        """The model, and from when on."""
        what = "drift" if self.verdict == "fail" else "a look for drift"
        partition = f", partition {self.partition} or later" if self.partition else ""
        return f"{what} of {self.model}{partition}{f', since {self.since}' if self.since else ''}"

    def arguments(self, context: Context) -> Mapping[str, Any]:  # noqa: ARG002  # each sensor gets it
        """The model, and from when on."""
        if not self.partition and not self.since:
            raise RequestError(
                "neither a partition nor a moment says which looks count",
                where=f"task {self.task_id!r}",
                way_out="give partition='2013-04' or since='{{ data_interval_start }}'",
            )
        if self.verdict not in ("fail", "any"):
            raise RequestError(
                f"verdict {self.verdict!r} is not waited for", where=f"task {self.task_id!r}", way_out="fail or any"
            )
        since = self._moment().isoformat() if self.since else None
        partition = str(self.partition) if self.partition else None
        return {"model": self.model, "partition": partition, "since": since, "verdict": self.verdict}

    def _moment(self) -> datetime:
        try:
            moment = datetime.fromisoformat(str(self.since).replace("Z", "+00:00"))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise RequestError(
                f"{self.since!r} is no moment with its offset from UTC",
                where=f"task {self.task_id!r}",
                way_out="write it like 2013-04-01T00:00:00+00:00",
            )
        return moment


def look_at_drift(
    *, project: str, run: str, model: str, partition: str | None, since: str | None, verdict: str
) -> Status:
    """Whether there is a report from then on; returns its summary."""
    tools = tools_of_probe(project, run)
    only: dict[str, Any] = {"verdict": verdict} if verdict != "any" else {}
    found = [
        entry
        for entry in tools.ledger.results(tools.environment, model, DETECTED, **only)
        if (partition is None or entry["content"]["partition"] >= partition)
        and (since is None or entry["at"] >= datetime.fromisoformat(since))
    ]
    if not found:
        return Status(ready=False, seen="no look found it yet" if only else "nobody has looked yet")
    summary = _summary(found[-1])
    return Status(ready=True, seen=f"{summary['verdict']} on {summary['partition']}", value=summary)


def _summary(entry: Mapping[str, Any]) -> dict[str, Any]:
    content = entry["content"]
    moved = [column for column in content["columns"] if column["drifted"]]
    moved.sort(key=lambda column: (-(column["distance"] or 0), column["column"]))
    names = ("model", "version", "partition", "verdict", "compared", "report_uri")
    return {
        **{name: content.get(name) for name in names},
        "drifted": content.get("drifted") or len(moved),
        "columns": list(dict.fromkeys(column["column"] for column in moved))[:NAMED],
        "at": entry["at"].isoformat(),
    }
