"""What every deployment target holds to."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from ml_lifecycle.backends.deployment import known_targets, target_from
from ml_lifecycle.backends.deployment.base import DeploymentTarget
from ml_lifecycle.backends.tracking.base import Registry
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import Move
from ml_lifecycle.core.errors import ServiceRefusedError, StaleEpochError, TargetRefusedError


@pytest.fixture(params=known_targets())
def target(request: pytest.FixtureRequest) -> DeploymentTarget:
    return target_from({"backend": request.param})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry with three versions."""
    tracking = LocalTracking(tmp_path)
    for number in ("1", "2", "3"):
        tracking.ensure_version("flights", training_key=number * 64, uri="runs:/1/model", run_id="1", tags={})
    return tracking


def move(version: int, epoch: int = 1, model: str = "flights", environment: str = "test") -> Move:
    return Move(
        model=model,
        environment=environment,
        epoch=epoch,
        kind="release",
        version=version,
        digest=str(version) * 64,
        uri="runs:/1/model",
        moved_by="ada",
        moved_at=datetime(2026, 3, 1, 12, tzinfo=timezone.utc),
    )


def test_its_name_is_the_one_that_it_is_found_by(target: DeploymentTarget) -> None:
    assert target.backend in known_targets()


def test_before_the_first_move_nothing_serves(target: DeploymentTarget, registry: Registry) -> None:
    assert dict(target.observe("flights", registry)) == {}


def test_a_move_makes_its_version_serve_alone(target: DeploymentTarget, registry: Registry) -> None:
    target.deploy(move(2), registry)

    assert dict(target.observe("flights", registry)) == {2: 100}


def test_deploying_twice_does_what_deploying_once_does(target: DeploymentTarget, registry: Registry) -> None:
    for _ in range(2):
        target.deploy(move(2), registry)

    assert dict(target.observe("flights", registry)) == {2: 100}


def test_the_last_move_counts_forth_and_back(target: DeploymentTarget, registry: Registry) -> None:
    for epoch, version in enumerate((1, 3, 2), start=1):
        target.deploy(move(version, epoch), registry)

    assert dict(target.observe("flights", registry)) == {2: 100}


def test_a_version_that_is_not_registered_leaves_the_champion(target: DeploymentTarget, registry: Registry) -> None:
    target.deploy(move(1), registry)

    with pytest.raises(ServiceRefusedError, match="9"):
        target.deploy(move(9, epoch=2), registry)

    assert dict(target.observe("flights", registry)) == {1: 100}


def test_models_do_not_touch_each_other(target: DeploymentTarget, registry: Registry) -> None:
    target.deploy(move(1), registry)

    assert dict(target.observe("trains", registry)) == {}


def test_an_older_move_is_refused_once_a_newer_one_was_there(target: DeploymentTarget, registry: Registry) -> None:
    target.deploy(move(2, epoch=2), registry)

    with pytest.raises(StaleEpochError, match="a newer move is in force: epoch 2, not 1"):
        target.deploy(move(1, epoch=1), registry)

    assert dict(target.observe("flights", registry)) == {2: 100}


def test_it_tells_the_epoch_that_it_serves_under(target: DeploymentTarget, registry: Registry) -> None:
    before = target.epoch("flights", "test", registry)
    target.deploy(move(2, epoch=5), registry)

    assert (before, target.epoch("flights", "test", registry)) == (0, 5)
    assert target.epoch("flights", "prod", registry) == target.epoch("trains", "test", registry) == 0


def test_another_environment_finds_the_place_taken(target: DeploymentTarget, registry: Registry) -> None:
    target.deploy(move(2, environment="prod"), registry)

    for reach in (target.deploy, target.restore):
        with pytest.raises(TargetRefusedError, match="belongs to the environment 'prod', not 'test'"):
            reach(move(1, epoch=9), registry)

    assert dict(target.observe("flights", registry)) == {2: 100}


def test_the_ledgers_head_is_restored_whatever_the_target_claims(target: DeploymentTarget, registry: Registry) -> None:
    target.deploy(move(2, epoch=9), registry)

    target.restore(move(1, epoch=3), registry)

    assert dict(target.observe("flights", registry)) == {1: 100}
    assert target.epoch("flights", "test", registry) == 3


def test_a_rehearsal_serves_nobody_and_leaves_nothing(target: DeploymentTarget, registry: Registry) -> None:
    target.deploy(move(2, epoch=2), registry)

    assert dict(target.rehearse(move(1), registry)) == {1: 100}

    assert dict(target.observe("flights", registry)) == {2: 100}
    assert target.epoch("flights", "test", registry) == 2


def test_a_rehearsal_of_a_version_that_is_gone_is_refused(target: DeploymentTarget, registry: Registry) -> None:
    with pytest.raises(ServiceRefusedError, match="9"):
        target.rehearse(move(9), registry)
