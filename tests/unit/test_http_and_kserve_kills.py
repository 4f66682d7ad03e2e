"""A rollout whose task is killed at any call ends where it would have ended."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.endpoint_service import MemoryEndpoint, endpoint_service
from tests.fakes.http_place import means_for
from tests.fakes.kserve_place import cluster_place
from tests.fakes.kube_api import Cluster
from tests.fakes.places import Place


class Killed(BaseException):
    """What no code of ours catches."""


class Calls:
    """Counts calls to the outside, and kills the one that is to be the last: before it is sent, or after."""

    def __init__(self) -> None:
        self.count, self.last, self.sent = 0, -1, False

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if number == self.last and not self.sent:
                raise Killed
            answer = call(*arguments, **options)
            if number == self.last:
                raise Killed
            return answer

        return counted

    @contextmanager
    def killed_at(self, last: int, *, sent: bool) -> Iterator[None]:
        self.count, self.last, self.sent = 0, last, sent
        with suppress(Killed):
            yield
        self.last = -1


@contextmanager
def http_calls(folder: Path) -> Iterator[tuple[Place, Calls]]:
    from ml_lifecycle.backends.deployment.http import HttpTarget

    with endpoint_service(folder / "adapter", MemoryEndpoint(slow=1)) as url:
        means, calls = means_for(url, folder), Calls()
        session = means.client("http", "")
        session.request = calls.around(session.request)
        yield Place(HttpTarget(), means), calls
        session.close()


@contextmanager
def kserve_calls(folder: Path) -> Iterator[tuple[Place, Calls]]:
    calls = Calls()
    with cluster_place(folder, Cluster(slow=1, unrouted=0)) as place:
        client = place.means.client("kubernetes", "")
        client.call_api = calls.around(client.call_api)
        yield place, calls


PLACES: dict[str, Callable[[Path], AbstractContextManager[tuple[Place, Calls]]]] = {
    "http": http_calls,
    "kserve": kserve_calls,
}


STRIDE = {"http": 1, "kserve": 2}
"""A rollout on Kubernetes is some forty calls; every second one is killed."""


def settle(place: Place) -> None:
    """Look until it is there; without a pause, so that only calls count."""
    while not place.target.status("flights", place.means).settled:
        pass


def roll_out(place: Place) -> None:
    """What the tasks of a release do, one after the other."""
    move = place.move(2, epoch=2)
    place.target.deploy(move, place.means)
    settle(place)
    for percent in (10, 50, 100):
        place.split(move, percent)
        settle(place)
    place.target.promote(move, place.means)
    settle(place)


def roll_back(place: Place) -> None:
    """One write, and a look."""
    place.target.promote(place.move(1, epoch=3), place.means)
    settle(place)


@pytest.mark.parametrize("name", sorted(PLACES))
def test_a_rollout_that_is_killed_anywhere_and_run_again_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    ended = []
    for last in itertools.count(0, STRIDE[name]):
        with PLACES[name](tmp_path / str(last)) as (place, calls):
            place.serve(1)
            with calls.killed_at(last, sent=last // STRIDE[name] % 2 == 0):
                roll_out(place)
            over = calls.count <= last
            between = place.target.status("flights", place.means)
            roll_out(place)
            after = place.target.status("flights", place.means)
        assert sum(between.traffic.values()) == 100, last
        ended.append((dict(after.traffic), after.ready, after.epoch, after.fault))
        if over:
            break

    assert len(ended) > 10
    assert ended == [({2: 100}, (1, 2), 2, "")] * len(ended)


@pytest.mark.parametrize("name", sorted(PLACES))
def test_a_rollout_that_is_killed_anywhere_is_rolled_back(name: str, tmp_path: Path) -> None:
    ended = []
    for last in itertools.count(1, STRIDE[name]):
        with PLACES[name](tmp_path / str(last)) as (place, calls):
            place.serve(1)
            with calls.killed_at(last, sent=last // STRIDE[name] % 2 == 0):
                roll_out(place)
            over = calls.count <= last
            roll_back(place)
            after = place.target.status("flights", place.means)
        ended.append((dict(after.traffic), after.epoch, after.fault))
        if over:
            break

    assert len(ended) > 10
    assert ended == [({1: 100}, 3, "")] * len(ended)
