"""Waiting for a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml_lifecycle.core.approval import REJECT, not_in_force
from ml_lifecycle.core.errors import ServiceUnavailableError
from ml_lifecycle.sensors.base import LifecycleSensor, tools_of_probe
from ml_lifecycle.triggers import Status

if TYPE_CHECKING:
    from airflow.sdk import Context


class ApprovalSensor(LifecycleSensor):
    """Wait until a decision about exactly this digest is in force, whichever way it came; returns it.

    An approval that has expired is waited past, as is one that contradicting answers took every right from.

    :param model: Name of the registered model.
    :param digest: Digest of the version that was asked about; of a dataset, its fingerprint.
    :param version: Only a decision about this version; left out, about any version that holds these bytes.
    :param kind: ``model`` or ``dataset``.
    :param on_reject: What a rejection does: ``skip`` the task, ``fail`` it, or ``return`` the decision.
    """

    template_fields: Sequence[str] = ("digest", "version")
    probe = "ml_lifecycle.sensors.approval:look_at_decision"

    def __init__(
        self,
        *,
        model: str,
        digest: str,
        version: int | str | None = None,
        kind: str = "model",
        on_reject: str = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.digest = digest
        self.version = version
        self.kind = kind
        self.on_reject = on_reject

    def waits_for(self) -> str:
        """What is decided about."""
        version = "" if self.version is None else f" version {self.version}"
        return f"a decision about the {self.kind} of {self.model}{version} {self.digest[:12]}"

    def arguments(self, context: Context) -> Mapping[str, Any]:  # noqa: ARG002  # each sensor gets it
        """What is decided about."""
        version = None if self.version is None else int(self.version)
        return {"model": self.model, "digest": self.digest, "version": version, "kind": self.kind}

    def finished(self, value: Any) -> Any:
        """The decision, unless it is a rejection that ends here."""
        if value["outcome"] == "approve" or self.on_reject == "return":
            return value
        text = f"{value['decided_by']} rejected it: {value['reason'] or 'no reason given'}"
        raise AirflowFailException(text) if self.on_reject == "fail" else AirflowSkipException(text)


def look_at_decision(
    *, project: str, run: str, model: str, digest: str, version: int | None = None, kind: str = "model"
) -> Status:
    """Whether somebody decided; returns the decision."""
    tools = tools_of_probe(project, run)
    decision = tools.ledger.decision_for(model, tools.environment, digest)
    if decision is None:
        return Status(ready=False, seen="nobody has decided yet")
    asked = tools.ledger.asked(decision.ask.ask_id)
    if why := not_in_force(decision, blocked=asked.blocked if asked else "", at=tools.clock()):
        return Status(ready=False, seen=why)
    if decision.ask.kind != kind or version not in (None, decision.ask.version):
        return Status(ready=False, seen=f"decided was about the {decision.ask.kind} version {decision.ask.version}")
    return Status(ready=True, seen=f"{decision.outcome} by {decision.decided_by}", value=decision.to_xcom())


def look_at_answers(*, showings: Sequence[str]) -> Status:
    """What Airflow records as chosen, by the id of the try that asked.

    Only the triggerer may look: a task's own token opens nothing but its own question.
    """
    recorded = {ti_id: _recorded_option(ti_id) for ti_id in showings}
    return Status(ready=True, seen=f"{len(recorded)} showings of the question", value=recorded)


def _recorded_option(ti_id: str) -> str | None:
    """``None`` where nobody answered, or the try was cleared since and its record went with it."""
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail

    try:
        detail = get_hitl_detail_content_detail(UUID(ti_id))
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == HTTPStatus.NOT_FOUND:
            return None
        raise ServiceUnavailableError(
            f"the API server does not say what was answered ({error})", where=f"task instance {ti_id}"
        ) from None
    chosen = list(detail.chosen_options or ())
    return REJECT if REJECT in chosen else next(iter(chosen), None)
