"""Waiting for a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml_lifecycle.sensors.base import LifecycleSensor, tools_of_probe
from ml_lifecycle.triggers import Status

if TYPE_CHECKING:
    from airflow.sdk import Context


class ApprovalSensor(LifecycleSensor):
    """Wait until a decision about exactly this digest stands in the ledger, whichever way it came; returns it.

    :param model: Name of the registered model.
    :param digest: Digest of the version that was asked about.
    :param on_reject: What a rejection does: ``skip`` the task, ``fail`` it, or ``return`` the decision.
    """

    template_fields: Sequence[str] = ("digest",)
    probe = "ml_lifecycle.sensors.approval:look_at_decision"

    def __init__(self, *, model: str, digest: str, on_reject: str = "skip", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.digest = digest
        self.on_reject = on_reject

    def waits_for(self) -> str:
        """The model and its digest."""
        return f"a decision about {self.model} {self.digest[:12]}"

    def arguments(self, context: Context) -> Mapping[str, Any]:  # noqa: ARG002  # each sensor gets it
        """The model and its digest."""
        return {"model": self.model, "digest": self.digest}

    def finished(self, value: Any) -> Any:
        """The decision, unless it is a rejection that ends here."""
        if value["outcome"] == "approve" or self.on_reject == "return":
            return value
        text = f"{value['decided_by']} rejected it: {value['reason'] or 'no reason given'}"
        raise AirflowFailException(text) if self.on_reject == "fail" else AirflowSkipException(text)


def look_at_decision(*, project: str, run: str, model: str, digest: str) -> Status:
    """Whether somebody decided; returns the decision."""
    tools = tools_of_probe(project, run)
    decision = tools.ledger.decision_for(model, tools.environment, digest)
    if decision is None:
        return Status(ready=False, seen="nobody has decided yet")
    return Status(ready=True, seen=f"{decision.outcome} by {decision.decided_by}", value=decision.to_xcom())
