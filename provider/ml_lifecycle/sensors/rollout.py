"""What the tasks of a rollout wait for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.contracts import Verdict
from ml_lifecycle.core.errors import StaleEpochError
from ml_lifecycle.sensors.base import LifecycleSensor, tools_of_probe
from ml_lifecycle.triggers import Status

if TYPE_CHECKING:
    from airflow.sdk import Context


def look_at_target(*, project: str, run: str, model: str, target: Mapping[str, Any]) -> Status:
    """Whether the target is where it was asked to be, or will not get there."""
    from ml_lifecycle.backends.deployment import target_from
    from ml_lifecycle.stages.champion import means_of

    serving = target_from(target).status(model, means_of(tools_of_probe(project, run)))
    shares = ", ".join(f"version {version}: {share}%" for version, share in sorted(serving.traffic.items()))
    seen = serving.fault or serving.detail or shares or "nothing serves"
    return Status(ready=serving.settled or bool(serving.fault), seen=seen)


def look_at_step(*, project: str, run: str, job: Mapping[str, Any]) -> Status:
    """Whether a step of a rollout has passed or failed."""
    from ml_lifecycle.stages.rollout import StepJob, answered, look, why_not

    step, tools = StepJob.model_validate(job), tools_of_probe(project, run)
    report, answer = look(step, tools), answered(step, tools)
    if report.verdict is not Verdict.INCONCLUSIVE:
        return Status(ready=True, seen=report.verdict.value)
    seen = f"{answer.outcome} by {answer.decided_by}" if answer else why_not(report)
    return Status(ready=answer is not None, seen=seen)


def look_at_held(*, project: str, run: str, job: Mapping[str, Any]) -> Status:
    """Whether a step has ended, or has waited as long as it may."""
    from ml_lifecycle.stages.rollout import StepJob
    from ml_lifecycle.stages.step_approval import held

    try:
        report = held(StepJob.model_validate(job), tools_of_probe(project, run))
    except StaleEpochError as over:
        return Status(ready=True, seen=str(over))
    return Status(ready=report is not None, seen=report.verdict.value if report else "the step goes on")


class RolloutOverSensor(LifecycleSensor):
    """Wait until no version of the model is being rolled out: two at a time could not be told apart.

    :param model: Name of the registered model.
    """

    probe = "ml_lifecycle.sensors.rollout:look_at_rollout"

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def waits_for(self) -> str:
        """The end of the rollout."""
        return f"the rollout of {self.model} to end"

    def arguments(self, context: Context) -> Mapping[str, Any]:  # noqa: ARG002  # each sensor gets it
        """The model."""
        return {"model": self.model}


def look_at_rollout(*, project: str, run: str, model: str) -> Status:
    """Whether no rollout is open."""
    from ml_lifecycle.core.deployment import is_rolling_out

    ledger = (tools := tools_of_probe(project, run)).ledger
    head = ledger.head(model, tools.environment)
    if head is None or not is_rolling_out(head, ledger.deployment_states(head)):
        return Status(ready=True, seen="no rollout is open")
    return Status(ready=False, seen=f"version {head.version} is being rolled out at epoch {head.epoch}")


def look_at_warm(*, project: str, run: str, job: Mapping[str, Any], until: str) -> Status:
    """Whether the version before has been kept ready long enough, or the new one has failed."""
    from ml_lifecycle.stages.rollout import RetirementJob, watch

    if fault := watch(RetirementJob.model_validate(job), tools_of_probe(project, run)):
        return Status(ready=True, seen=fault)
    return look_at_clock(until=until)


def look_at_clock(*, until: str) -> Status:
    """Whether it is time."""
    return Status(ready=datetime.now(timezone.utc) >= datetime.fromisoformat(until), seen=f"waiting until {until}")
