"""A release that goes step by step, at a place that is one in name only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from ml_lifecycle.backends.deployment import _TARGETS
from ml_lifecycle.core.contracts import StepReport
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import deploy
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.rollout import StepJob, conclude_step, shift
from ml_lifecycle.stages.runner import Tools, record, run
from tests.fakes.champions import NOON, decided, registered
from tests.fakes.noted_target import change, read, seen

TARGET: Final[dict[str, Any]] = {
    "backend": "noted",
    "steps": [10, 50, 100],
    "analysis": {"min_requests": 500, "max_error_rate": "1%"},
}
GOOD: Final = {"1": seen(45_000), "2": seen(5_000)}
FAILING: Final = {"1": seen(45_000), "2": seen(5_000, errors=400)}
FEW: Final = {"1": seen(450), "2": seen(50)}


def empty_place(tools: Tools, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """A deployment at noon whose place nobody serves at yet."""
    monkeypatch.setitem(_TARGETS, "noted", ("tests.fakes.noted_target", "NotedTarget"))
    return replace(tools, serving_home=folder / "serving", clock=lambda: NOON)


def serving_place(tools: Tools, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """A deployment at noon where version 1 serves."""
    found = empty_place(tools, folder, monkeypatch)
    first = decided(found, registered(found, folder, 1)).model_copy(update={"target": {"backend": "noted"}})
    assert deploy(first, found) is not None
    return found


def approved(place: Tools, folder: Path, version: int) -> DeploymentJob:
    """An approval of a version that is to go step by step."""
    found = decided(place, registered(place, folder, version)).model_copy(update={"target": TARGET})
    record("resolve", found.request, place, model="flights")
    return found


def step(job: DeploymentJob, percent: int) -> StepJob:
    """One step of the release."""
    return StepJob(**dict(job), percent=percent)


def passed(job: DeploymentJob, percent: int, tools: Tools) -> StepReport:
    """Shift and conclude, as the step's task does."""
    run(shift, step(job, percent), tools, model="flights")
    return run(conclude_step, step(job, percent), tools, model="flights")


def traffic(tools: Tools) -> dict[str, int]:
    """Percent by version, of those that get something."""
    return {version: percent for version, percent in read("flights", means_of(tools))["traffic"].items() if percent}


def observed(tools: Tools, what: dict[str, Any]) -> None:
    """Let the versions have done this."""
    change("flights", means_of(tools), seen=what)
