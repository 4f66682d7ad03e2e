"""What the tasks of a rollout wait for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ml_lifecycle.core.contracts import Verdict
from ml_lifecycle.sensors.base import tools_of_probe
from ml_lifecycle.triggers import Status


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
    from ml_lifecycle.stages.rollout import StepJob, look, why_not

    report = look(StepJob.model_validate(job), tools_of_probe(project, run))
    decided = report.verdict is not Verdict.INCONCLUSIVE
    return Status(ready=decided, seen=report.verdict.value if decided else why_not(report))


def look_at_warm(*, project: str, run: str, job: Mapping[str, Any], until: str) -> Status:
    """Whether the version before has been kept ready long enough, or the new one has failed."""
    from ml_lifecycle.stages.rollout import RetirementJob, watch

    if fault := watch(RetirementJob.model_validate(job), tools_of_probe(project, run)):
        return Status(ready=True, seen=fault)
    return look_at_clock(until=until)


def look_at_clock(*, until: str) -> Status:
    """Whether it is time."""
    return Status(ready=datetime.now(timezone.utc) >= datetime.fromisoformat(until), seen=f"waiting until {until}")
