"""A task that is killed at any call to Amazon, and run again, ends where one ends that was left alone."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.core.errors import ServiceUnavailableError
from tests.fakes.aws_server import Amazon
from tests.fakes.places import MODEL, Place
from tests.fakes.sagemaker_place import DirectCloud, place_in, running_cloud, without_pauses

MAKES = ("Create", "UpdateEndpoint")
HOW = ("launch", "before", "lock")
WHOLE = {"autoscaling": {"min": 1, "max": 3}, "package_group": "flights-models", "data_capture": {"percent": 10}}


class KilledError(BaseException):
    """The end of a task."""


@dataclass
class Doom:
    """Kills at one call, before it reaches Amazon or after."""

    at: int
    after: bool
    calls: int = 0

    def client(self, cloud: DirectCloud, service: str) -> Any:
        return _Doomed(cloud.client(service), self)


@dataclass(frozen=True)
class _Doomed:
    client: Any
    doom: Doom

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**asked: Any) -> Any:
            self.doom.calls += 1
            killed = self.doom.calls == self.doom.at
            if killed and not self.doom.after:
                raise KilledError
            answer = getattr(self.client, operation)(**asked)
            if killed:
                raise KilledError
            return answer

        return call


Step = Callable[[Place], object]
STEPS: dict[str, Step] = {
    "deploy": lambda place: place.target.deploy(place.move(2, epoch=2), place.means),
    "split": lambda place: place.split(place.move(2, epoch=2), 50),
    "promote": lambda place: place.target.promote(place.move(2, epoch=2), place.means),
    "retire": lambda place: place.retire(place.move(2, epoch=2)),
    "clean up": lambda place: place.retire(place.move(2, epoch=2)),
    "roll back": lambda place: place.target.promote(
        place.move(1, epoch=3).model_copy(update={"kind": "rollback"}), place.means
    ),
    "rehearse": lambda place: place.target.rehearse(place.move(3, epoch=4), place.means),
    "destroy": lambda place: place.target.destroy(MODEL, "test", place.means),
    "begin anew": lambda place: place.target.deploy(place.move(3, epoch=1), place.means),
}


@dataclass(frozen=True)
class Moment:
    """A step of a release that nobody killed."""

    before: DirectCloud
    calls: int
    inventory: dict[str, list[str]]
    traffic: dict[int, int]
    writes: Counter[str]


def copied(cloud: DirectCloud) -> DirectCloud:
    """The same account once more."""
    amazon = cloud.amazon
    held = {one.name: getattr(amazon, one.name) for one in dataclasses.fields(amazon) if one.name not in HOW}
    return DirectCloud(Amazon(**copy.deepcopy(held)), dict(cloud.store))


def run(step: Step, cloud: DirectCloud, place: Place, doom: Doom) -> tuple[dict[int, int], Counter[str]]:
    """The traffic after a step that is run again if it is killed, and what was written."""
    begun = cloud.amazon.done.copy()
    plain = dataclasses.replace(place.means, client=cloud.client)
    mortal = dataclasses.replace(place.means, client=lambda service, _: doom.client(cloud, service))
    try:
        step(dataclasses.replace(place, means=mortal))
    except KilledError:
        step(dataclasses.replace(place, means=plain))
    traffic = dict(dataclasses.replace(place, means=plain).settled().traffic)
    writes = cloud.amazon.done - begun
    return traffic, Counter({name: count for name, count in writes.items() if name.startswith(MAKES)})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place_in(DirectCloud(), tmp_path_factory.mktemp("registry"), **WHOLE)


@pytest.fixture(scope="module")
def whole(place: Place) -> dict[str, Moment]:
    cloud, moments = DirectCloud(), {}
    dataclasses.replace(place, means=dataclasses.replace(place.means, client=cloud.client)).serve(1)
    for name, step in STEPS.items():
        before, alive = copied(cloud), Doom(at=0, after=False)
        traffic, writes = run(step, cloud, place, alive)
        moments[name] = Moment(before, alive.calls, cloud.inventory(), traffic, writes)
    return moments


def test_a_release_that_is_left_alone_ends_as_it_should(whole: dict[str, Moment]) -> None:
    assert {name: moment.traffic for name, moment in whole.items()} == {
        "deploy": {1: 100},
        "split": {1: 50, 2: 50},
        "promote": {2: 100},
        "retire": {2: 100},
        "clean up": {2: 100},
        "roll back": {1: 100},
        "rehearse": {1: 100},
        "destroy": {},
        "begin anew": {3: 100},
    }
    assert whole["destroy"].inventory == {}


@pytest.mark.parametrize("when", ["before the call", "before its answer"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_killed_at_any_call_ends_the_same_when_it_is_run_again(
    whole: dict[str, Moment], place: Place, step: str, when: str
) -> None:
    moment = whole[step]
    for number in range(1, moment.calls + 1):
        cloud = copied(moment.before)

        traffic, writes = run(STEPS[step], cloud, place, Doom(at=number, after=when == "before its answer"))

        assert (cloud.inventory(), traffic) == (moment.inventory, moment.traffic), number
        # A rehearsal begins by removing what an earlier one left.
        assert writes == moment.writes or step == "rehearse", number


def test_what_amazon_throttles_is_asked_again_and_only_then_told(tmp_path: Path) -> None:
    with running_cloud(Amazon(looks=0)) as cloud:
        place = place_in(cloud, tmp_path)
        place.serve(1)
        cloud.amazon.throttled = 1
        place.target.deploy(place.move(2, epoch=2), place.means)
        place.settled()
        cloud.amazon.throttled = 100

        with pytest.raises(ServiceUnavailableError, match="Rate exceeded"):
            place.split(place.move(2, epoch=2), 50)

        cloud.amazon.throttled = 0
        place.split(place.move(2, epoch=2), 50)
        assert place.traffic() == {1: 50, 2: 50}
