"""Whatever happened to an endpoint, a rollback brings the old version back, and destroying it leaves nothing."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_lifecycle.backends.deployment.sagemaker_endpoint import Fence, Wanted, endpoint_name, percents
from ml_lifecycle.core.errors import LifecycleError, PassingError
from tests.fakes.aws_server import Amazon
from tests.fakes.places import MODEL, Place
from tests.fakes.sagemaker_place import DirectCloud, place_in, without_pauses


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)


class Storm:
    """A release that nothing goes well for."""

    def __init__(self, place: Place, amazon: Amazon, seed: int) -> None:
        self.place, self.amazon, self.luck = place, amazon, random.Random(seed)  # noqa: S311  # no secret
        self.version, self.epoch = 1, 1

    def rage(self) -> None:
        """One thing that a release, SageMaker or bad luck does."""
        often = [self.deploy, self.split, self.look, self.look] * 2
        once = [
            self.release,
            self.promote,
            self.retire,
            self.go_back,
            self.take_back,
            self.stick,
            self.mix,
            self.throttle,
        ]
        self.luck.choice([*often, *once])()

    def release(self) -> None:
        self.version, self.epoch = self.luck.choice([1, 2, 3]), self.epoch + 1
        self.deploy()

    def deploy(self) -> None:
        self.place.target.deploy(self.place.move(self.version, self.epoch), self.place.means)

    def split(self) -> None:
        self.place.split(self.place.move(self.version, self.epoch), self.luck.choice([0, 10, 50, 100]))

    def promote(self) -> None:
        self.place.target.promote(self.place.move(self.version, self.epoch), self.place.means)

    def retire(self) -> None:
        self.place.retire(self.place.move(self.version, self.epoch))

    def go_back(self) -> None:
        self.version, self.epoch = 1, self.epoch + 1
        self.promote()

    def take_back(self) -> None:
        self.amazon.taken_back = "bad luck"

    def stick(self) -> None:
        self.amazon.stuck = not self.amazon.stuck

    def mix(self) -> None:
        self.amazon.broken_rollback = True

    def throttle(self) -> None:
        self.amazon.throttled = self.luck.randint(1, 2)

    def look(self) -> None:
        for _ in range(self.luck.randint(1, 4)):
            seen = self.place.target.status(MODEL, self.place.means)
        assert sum(seen.traffic.values()) in (0, 100)
        assert not (seen.settled and seen.fault)

    def calm(self) -> None:
        """SageMaker does what it is asked for again."""
        self.amazon.taken_back, self.amazon.stuck, self.amazon.broken_rollback, self.amazon.throttled = (
            "",
            False,
            False,
            0,
        )


@pytest.mark.parametrize("seed", range(100))
def test_after_any_storm_one_rollback_makes_the_old_version_serve_alone(tmp_path: Path, seed: int) -> None:
    cloud = DirectCloud(Amazon(looks=seed % 3))
    place = place_in(cloud, tmp_path, autoscaling={"max": 3}, package_group="flights-models")
    storm = Storm(place, cloud.amazon, seed)
    for _ in range(25):
        with suppress(LifecycleError):
            storm.rage()
    storm.calm()

    for _ in range(3):
        with suppress(PassingError):
            storm.go_back()
            break
    seen = place.settled()

    assert (dict(seen.traffic), seen.epoch, seen.fault) == ({1: 100}, storm.epoch, "")
    for _ in range(2):
        storm.retire()
        place.settled()
    held = cloud.inventory()
    assert [len(held[kind]) for kind in ("endpoints", "configs", "models")] == [1, 1, 1]
    place.target.destroy(MODEL, "test", place.means)
    assert cloud.inventory() == {}


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=60), max_size=6))
def test_no_tags_are_too_strange_to_be_read(tags: dict[str, str]) -> None:
    held = {f"ml-lifecycle:{name}": text for name, text in tags.items()}

    found = Fence.read({**held, "ml-lifecycle:model": "flights", "ml-lifecycle:environment": "test"})

    assert found is not None
    assert found.epoch >= 0
    assert found.asked.tzinfo is not None


@given(
    st.integers(0, 10**6), st.dictionaries(st.from_regex(r"v[1-9]-[0-9a-f]{8}", fullmatch=True), st.integers(1, 100))
)
def test_what_the_tags_hold_is_what_was_asked_for(epoch: int, weights: dict[str, int]) -> None:
    tags = {"model": "m", "environment": "e", "epoch": str(epoch), "wanted": Wanted(weights).shown(), "config": "c"}

    found = Fence.read({f"ml-lifecycle:{name}": text for name, text in tags.items()})

    assert found is not None
    assert (found.epoch, dict(found.wanted.weights), found.wanted.config) == (epoch, weights, "c")
    assert Fence.read(found.tags()) == found


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 1e6), max_size=5))
def test_percentages_sum_to_a_hundred_and_lie_next_to_the_weights(weights: dict[str, float]) -> None:
    found = percents(weights)

    total = sum(weights.values())
    assert sum(found.values()) == (100 if total > 0 else 0)
    assert all(abs(found.get(name, 0) - 100 * weight / total) < 1 for name, weight in weights.items() if total > 0)


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True))
def test_every_models_name_makes_a_name_that_sagemaker_takes(model: str) -> None:
    name = endpoint_name(model)

    assert 1 <= len(name) <= 44
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name.strip("-") == name
    assert "--" not in name
