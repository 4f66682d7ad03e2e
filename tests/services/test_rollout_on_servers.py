"""A rollout on real model servers: what the ledger says, what HAProxy does, and what a kill costs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.serving_home.home import Home
from ml_lifecycle.core.contracts import Verdict
from ml_lifecycle.core.errors import NoDecisionError, StaleEpochError, StillSettlingError
from ml_lifecycle.core.invariants import violations
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import deploy
from ml_lifecycle.stages.reconciliation import snapshot
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.rollout import RetirementJob, StepJob, begin, conclude_step, promote, retire, shift
from ml_lifecycle.stages.runner import Tools, record
from serving_drills import home_up, write_package
from tests.fakes.champions import decided, registered
from tests.fakes.local_place import ask

pytestmark = pytest.mark.services

TARGET: dict[str, Any] = {
    "backend": "local",
    "steps": [30, 60, 100],
    # Limits that are soon decided, and that machines which do other things as well keep.
    "analysis": {"min_requests": 30, "max_error_rate": "20%", "max_latency_ratio": 100, "false_rollbacks": "50%"},
}
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with home_up() as found:
        yield found


@pytest.fixture
def place(tools: Tools, home: Home, tmp_path: Path) -> Iterator[Tools]:
    """A deployment where version 1 serves on real servers."""
    found = replace(tools, serving_home=home.folder)
    first = approved(found, tmp_path, 1)
    settling(lambda: deploy(first, found))
    yield found
    target_from(TARGET).destroy("flights", "test", means_of(found))


def approved(tools: Tools, folder: Path, number: int) -> DeploymentJob:
    """An approval of a real, small model."""
    version = registered(tools, folder, number, write=write_package)
    job = decided(tools, version).model_copy(update={"target": TARGET})
    record("resolve", job.request, tools, model="flights")
    return job


def settling(step: Callable[[], Any]) -> Any:
    """Do a step again until the target is where it was asked to be, as its task does."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        with suppress(StillSettlingError):
            return step()
        time.sleep(0.2)
    return step()


def step(job: DeploymentJob, percent: int) -> StepJob:
    return StepJob(**dict(job), percent=percent)


def asked(home: Home, count: int) -> list[int]:
    """Which versions answered as many users."""
    return [ask(home, f"user {number}") for number in range(count)]


def server_of(home: Home, version: int) -> int:
    """The process of a version's server."""
    (found,) = [one.pid for name, one in home.supervisor.processes().items() if name.startswith(f"flights.{version}.")]
    return found


def concluded(job: StepJob, tools: Tools) -> Any:
    """Conclude the step as soon as its evidence decides."""
    deadline = time.monotonic() + WITHIN_S
    while (report := conclude_step(job, tools)).verdict is Verdict.INCONCLUSIVE:
        assert time.monotonic() < deadline, report
        time.sleep(0.2)
    return report


def test_a_good_version_gets_all_traffic_and_no_request_fails(place: Tools, home: Home, tmp_path: Path) -> None:
    job = approved(place, tmp_path, 2)
    settling(lambda: begin(job, place))
    answered = []
    for percent, users in ((30, 900), (60, 500)):
        settling(partial(shift, step(job, percent), place))
        answered.append(asked(home, users))
        report = conclude_step(step(job, percent), place)
        record("conclude_step", report, place, model="flights")
        assert report.verdict is Verdict.PASS, report.checks

    deployment = settling(lambda: promote(job, place))

    assert (deployment.traffic, set(asked(home, 20))) == ({"2": 100}, {2})
    assert 0.23 < answered[0].count(2) / 900 < 0.37
    assert violations(snapshot("flights", place, target=TARGET)) == ()


@pytest.mark.parametrize("percent", [30, 60])
def test_a_new_version_that_is_killed_is_rolled_back_and_no_request_fails(
    place: Tools, home: Home, tmp_path: Path, percent: int
) -> None:
    job = approved(place, tmp_path, 2)
    settling(lambda: begin(job, place))
    for one in (30, 60):
        settling(partial(shift, step(job, one), place))
        asked(home, 900 if one == 30 else 500)
        if one == percent:
            break
        record("conclude_step", concluded(step(job, one), place), place, model="flights")

    os.kill(server_of(home, 2), signal.SIGKILL)
    after = asked(home, 100)
    report = concluded(step(job, percent), place)

    head = place.ledger.head("flights", "test")
    assert head is not None
    assert len(after) == 100
    assert report.verdict is Verdict.FAIL
    assert (head.kind, head.version, head.moved_by) == ("rollback", 1, "analysis")
    assert set(asked(home, 20)) == {1}
    for late in (lambda: shift(step(job, 60), place), lambda: promote(job, place)):
        with pytest.raises((NoDecisionError, StaleEpochError)):
            late()
    assert violations(snapshot("flights", place, target=TARGET)) == ()


def test_a_version_that_is_killed_after_its_promotion_is_rolled_back_at_once(
    place: Tools, home: Home, tmp_path: Path
) -> None:
    job = approved(place, tmp_path, 2)
    settling(lambda: begin(job, place))
    for percent, users in ((30, 900), (60, 500)):
        settling(partial(shift, step(job, percent), place))
        asked(home, users)
        record("conclude_step", concluded(step(job, percent), place), place, model="flights")
    deployment = settling(lambda: promote(job, place))

    os.kill(server_of(home, 2), signal.SIGKILL)
    answered = asked(home, 100)
    end = RetirementJob(request=job.request, deployment=deployment)
    deadline = time.monotonic() + WITHIN_S
    while set(dict(target_from(TARGET).status("flights", means_of(place)).traffic)) != {1}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    serves = settling(lambda: retire(end, place))

    assert len(answered) == 100
    assert (serves.champion.kind, serves.champion.version, set(asked(home, 20))) == ("rollback", 1, {1})
    assert violations(snapshot("flights", place, target=TARGET)) == ()
