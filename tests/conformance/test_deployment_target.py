"""What every deployment target holds to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment import known_targets
from ml_lifecycle.core.errors import ServiceRefusedError, StaleEpochError, TargetRefusedError
from tests.fakes.bundle_place import bundle_in_bucket, bundle_place
from tests.fakes.http_place import http_place
from tests.fakes.kserve_place import kserve_place
from tests.fakes.local_place import local_place
from tests.fakes.places import Place, alias_place
from tests.fakes.sagemaker_place import sagemaker_place

PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "alias": alias_place,
    "bundle": bundle_place,
    "bundle in a bucket": bundle_in_bucket,
    "http": http_place,
    "local": local_place,
    "kserve": kserve_place,
    "sagemaker": sagemaker_place,
}
LONG_AGO = datetime(2026, 1, 1, tzinfo=timezone.utc)
NAMES_ONLY = {"alias", "bundle", "bundle in a bucket"}
"""Places that say which version is to be used, and share no traffic."""
NEEDS_DEBIAN = ("local",)


def _named(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.services) if name in NEEDS_DEBIAN else name for name in names]


@pytest.fixture(params=_named(sorted(PLACES)))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as found:
        yield found


@pytest.fixture(params=_named(sorted(set(PLACES) - NAMES_ONLY)))
def splitting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place with version 1 serving and version 2 beside it."""
    with PLACES[request.param](tmp_path) as found:
        found.serve(1)
        found.target.deploy(found.move(2, epoch=2), found.means)
        found.settled()
        yield found


def test_every_target_is_held_to_this_suite() -> None:
    assert {name.split()[0] for name in PLACES} == set(known_targets())


def test_its_name_is_the_one_that_it_is_found_by(place: Place) -> None:
    assert place.target.backend in known_targets()


# --- One version -----------------------------------------------------------------------------------------------------


def test_before_the_first_move_nothing_serves(place: Place) -> None:
    seen = place.settled()

    assert (dict(seen.traffic), seen.epoch, seen.fault) == ({}, 0, "")


def test_a_move_makes_its_version_serve_alone(place: Place) -> None:
    place.serve(2)

    seen = place.settled()
    assert (dict(seen.traffic), seen.epoch, seen.environment, seen.fault) == ({2: 100}, 1, "test", "")
    assert 2 in seen.ready


def test_doing_it_twice_does_what_doing_it_once_does(place: Place) -> None:
    for _ in range(2):
        place.serve(2)

    assert place.traffic() == {2: 100}


def test_a_version_that_is_not_deployed_can_be_promoted(place: Place) -> None:
    place.target.promote(place.move(3), place.means)

    assert place.traffic() == {3: 100}


def test_the_last_move_counts_forth_and_back(place: Place) -> None:
    for epoch, version in enumerate((1, 3, 2), start=1):
        place.serve(version, epoch)

    assert place.traffic() == {2: 100}


def test_a_version_that_is_not_registered_leaves_the_champion(place: Place) -> None:
    place.serve(1)

    with pytest.raises(ServiceRefusedError, match="9"):
        place.target.deploy(place.move(9, epoch=2), place.means)

    assert place.traffic() == {1: 100}


def test_models_do_not_touch_each_other(place: Place) -> None:
    place.serve(1)

    assert place.traffic("trains") == {}


# --- Epochs and environments -----------------------------------------------------------------------------------------


def test_an_older_move_is_refused_once_a_newer_one_was_there(place: Place) -> None:
    place.serve(2, epoch=2)
    old = place.move(1, epoch=1)

    for write in (place.target.deploy, place.target.promote):
        with pytest.raises(StaleEpochError, match="epoch 2, not 1"):
            write(old, place.means)

    assert place.traffic() == {2: 100}


def test_deploying_a_newer_move_fences_the_older_one_out(splitting: Place) -> None:
    with pytest.raises(StaleEpochError, match="epoch 2, not 1"):
        splitting.target.promote(splitting.move(1, epoch=1), splitting.means)

    assert splitting.traffic() == {1: 100}


def test_it_tells_the_epoch_that_it_serves_under(place: Place) -> None:
    place.serve(2, epoch=5)

    seen = place.settled()
    assert (seen.epoch, seen.environment, place.settled("trains").epoch) == (5, "test", 0)


def test_another_environment_finds_the_place_taken(place: Place) -> None:
    place.target.promote(place.move(2, environment="prod"), place.means)
    place.settled()

    for write in (place.target.deploy, place.target.promote, place.target.restore):
        with pytest.raises(TargetRefusedError, match="belongs to the environment 'prod', not 'test'"):
            write(place.move(1, epoch=9), place.means)
    with pytest.raises(TargetRefusedError, match="belongs to the environment 'prod', not 'test'"):
        place.target.destroy("flights", "test", place.means)

    assert place.traffic() == {2: 100}


def test_the_ledgers_head_is_restored_whatever_the_target_claims(place: Place) -> None:
    place.serve(2, epoch=9)

    place.target.restore(place.move(1, epoch=3), place.means)

    assert place.traffic() == {1: 100}
    assert place.settled().epoch == 3


# --- Two versions ----------------------------------------------------------------------------------------------------


def test_what_serves_alone_gets_all_of_any_split(splitting: Place) -> None:
    splitting.target.destroy("flights", "test", splitting.means)
    move = splitting.move(1)
    splitting.target.deploy(move, splitting.means)
    splitting.settled()

    splitting.split(move, 10)

    assert splitting.traffic() == {1: 100}


def test_an_older_rollout_can_neither_split_nor_retire(splitting: Place) -> None:
    old = splitting.move(1, epoch=1)

    with pytest.raises(StaleEpochError, match="epoch 2, not 1"):
        splitting.split(old, 50)
    with pytest.raises(StaleEpochError, match="epoch 2, not 1"):
        splitting.retire(old)

    assert splitting.traffic() == {1: 100}


def test_a_deployed_version_waits_without_traffic(splitting: Place) -> None:
    seen = splitting.settled()

    assert (dict(seen.traffic), sorted(seen.ready), seen.epoch) == ({1: 100}, [1, 2], 2)


def test_traffic_shifts_step_by_step(splitting: Place) -> None:
    move, found = splitting.move(2, epoch=2), []
    for percent in (10, 50, 50, 100):
        splitting.split(move, percent)
        found.append(splitting.traffic())

    assert found == [{1: 90, 2: 10}, {1: 50, 2: 50}, {1: 50, 2: 50}, {2: 100}]


def test_a_split_can_be_taken_back(splitting: Place) -> None:
    move = splitting.move(2, epoch=2)
    splitting.split(move, 50)
    splitting.settled()

    splitting.split(move, 0)

    assert splitting.traffic() == {1: 100}


def test_a_rollback_in_the_middle_brings_the_old_version_back_and_outdates_the_rollout(splitting: Place) -> None:
    move = splitting.move(2, epoch=2)
    splitting.split(move, 50)
    splitting.settled()

    splitting.target.promote(splitting.move(1, epoch=3), splitting.means)

    assert splitting.traffic() == {1: 100}
    with pytest.raises(StaleEpochError, match="epoch 3, not 2"):
        splitting.split(move, 100)
    assert splitting.traffic() == {1: 100}


def test_after_promotion_the_old_version_stays_ready_until_it_is_retired(splitting: Place) -> None:
    move = splitting.move(2, epoch=2)
    splitting.target.promote(move, splitting.means)
    warm = splitting.settled()

    splitting.retire(move)

    assert (dict(warm.traffic), sorted(warm.ready)) == ({2: 100}, [1, 2])
    assert (splitting.traffic(), splitting.settled().ready) == ({2: 100}, (2,))


def test_retiring_leaves_whatever_gets_traffic(splitting: Place) -> None:
    move = splitting.move(2, epoch=2)
    splitting.split(move, 50)
    splitting.settled()

    splitting.retire(move)

    assert splitting.traffic() == {1: 50, 2: 50}


def test_a_third_version_takes_the_place_of_one_without_traffic(splitting: Place) -> None:
    third = splitting.move(3, epoch=3)
    splitting.target.deploy(third, splitting.means)
    splitting.settled()

    splitting.split(third, 50)

    assert splitting.traffic() == {1: 50, 3: 50}


def test_what_versions_did_is_told_of_those_that_are_deployed(splitting: Place) -> None:
    splitting.split(splitting.move(2, epoch=2), 50)
    splitting.settled()

    seen = splitting.observe(LONG_AGO)

    assert set(seen) == {1, 2}
    assert [one.version for one in seen.values()] == list(seen)
    assert all(one.errors <= one.requests for one in seen.values())


def test_answers_come_from_the_versions_that_have_traffic(splitting: Place) -> None:
    move = splitting.move(2, epoch=2)
    splitting.split(move, 50)
    splitting.settled()
    users = [f"user {number}" for number in range(60)]

    half = [splitting.ask(user) for user in users]
    again = [splitting.ask(user) for user in users]
    splitting.target.promote(move, splitting.means)
    splitting.settled()

    assert set(half) == {1, 2}
    assert half == again or not splitting.sticky
    assert {splitting.ask(user) for user in users} == {2}


# --- Ends and rehearsals ---------------------------------------------------------------------------------------------


def test_a_destroyed_place_is_as_if_nothing_had_been_there(place: Place) -> None:
    place.serve(2, epoch=7)

    for _ in range(2):
        place.target.destroy("flights", "test", place.means)

    seen = place.settled()
    assert (dict(seen.traffic), seen.epoch) == ({}, 0)
    place.serve(1, epoch=1)
    assert place.traffic() == {1: 100}


def test_a_rehearsal_serves_nobody_and_leaves_nothing(place: Place) -> None:
    place.serve(2, epoch=2)

    assert dict(place.target.rehearse(place.move(1), place.means)) == {1: 100}

    seen = place.settled()
    assert (dict(seen.traffic), seen.epoch) == ({2: 100}, 2)


def test_a_rehearsal_of_a_version_that_is_gone_is_refused(place: Place) -> None:
    with pytest.raises(ServiceRefusedError, match="9"):
        place.target.rehearse(place.move(9), place.means)
