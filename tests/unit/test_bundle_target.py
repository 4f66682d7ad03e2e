"""A channel, and the devices that follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.base import Origin
from ml_lifecycle.backends.deployment.bundle import BundleTarget
from ml_lifecycle.backends.export import places
from ml_lifecycle.backends.export.loader import POINTER, BundleError, follow
from ml_lifecycle.backends.export.places import BucketPlace, ChannelPlace, FolderPlace
from ml_lifecycle.backends.signing.keys import generated
from ml_lifecycle.core.errors import ConfigurationError, ServiceUnavailableError, StaleEpochError
from tests.fakes.bundle_place import bundle_place, signing_key
from tests.fakes.places import Place
from tests.fakes.s3 import bucket_of

KEY = signing_key().public.text


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with bundle_place(tmp_path) as found:
        yield found


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return tmp_path / "channels/flights/stable"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "device.json"


def answer(channel: Path, state: Path) -> float:
    """What a device says to x = 1: each version answers its number."""
    ((value,),) = follow(channel, KEY, state=state).answer([{"x": 1.0}])
    return round(value, 6)


# --- Devices ---------------------------------------------------------------------------------------------------------


def test_devices_follow_releases_and_rollbacks(place: Place, channel: Path, state: Path) -> None:
    found = []
    for epoch, version in enumerate((1, 2, 1), start=1):
        place.target.promote(place.move(version, epoch), place.means)
        found.append(answer(channel, state))

    assert found == [1.0, 2.0, 1.0]


def test_a_deployed_version_reaches_no_device(place: Place, channel: Path, state: Path) -> None:
    place.serve(1)

    place.target.deploy(place.move(2, epoch=2), place.means)

    assert answer(channel, state) == 1.0
    assert place.settled().ready == (1, 2)


def test_an_older_pointer_is_refused_by_who_saw_a_newer_one(place: Place, channel: Path, state: Path) -> None:
    place.serve(1, epoch=1)
    old = (channel / POINTER).read_bytes()
    place.serve(2, epoch=2)
    answer(channel, state)

    (channel / POINTER).write_bytes(old)

    with pytest.raises(BundleError, match="shows epoch 1, and this device saw epoch 2"):
        answer(channel, state)
    (channel / POINTER).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        answer(channel, state)


def test_an_older_archive_under_the_newer_name_is_refused(place: Place, channel: Path, state: Path) -> None:
    place.serve(1, epoch=1)
    place.serve(2, epoch=2)
    one, two = sorted(channel.glob("v*.zip"))

    two.write_bytes(one.read_bytes())

    with pytest.raises(BundleError, match="not the archive that the channel points at"):
        answer(channel, state)
    seen = place.settled()
    assert (dict(seen.traffic), "not those that were published" in seen.fault) == ({}, True)


def test_a_pointer_by_another_key_is_refused(place: Place, channel: Path, state: Path) -> None:
    key = generated()
    place.target.promote(place.move(1), replace(place.means, signing_key=lambda: key))

    with pytest.raises(BundleError, match="none of its signatures"):
        answer(channel, state)
    assert "not signed by this deployment's key" in place.settled().fault


def test_another_channels_pointer_is_refused(place: Place, channel: Path, state: Path, tmp_path: Path) -> None:
    place.serve(1)
    answer(channel, state)
    other = BundleTarget(folder=str(tmp_path / "channels"), channel="nightly")
    other.promote(place.move(2, epoch=9), place.means)

    with pytest.raises(BundleError, match="follows the channel 'stable', not 'nightly'"):
        answer(channel.parent / "nightly", state)


def test_another_models_archive_is_refused(place: Place, channel: Path, state: Path) -> None:
    """Its pointer was signed for a move whose package is another model's, as a mistaken deployment might do."""
    place.target.promote(place.move(1, model="trains"), place.means)
    place.serve(1)
    trains = channel.parents[1] / "trains/stable"

    (channel / POINTER).write_bytes((trains / POINTER).read_bytes())
    for archive in trains.glob("v*.zip"):
        (channel / archive.name).write_bytes(archive.read_bytes())
    state.write_text(json.dumps({"model": "flights", "environment": "test", "channel": "stable", "epoch": 1}))

    with pytest.raises(BundleError, match="follows the model 'flights', not 'trains'"):
        answer(channel, state)


def test_a_spoilt_memory_is_not_taken_for_none(place: Place, channel: Path, state: Path) -> None:
    place.serve(1)
    state.write_text("{}")

    with pytest.raises(BundleError, match="not what this loader wrote"):
        answer(channel, state)


def test_a_device_may_fetch_over_whatever_it_likes(place: Place, channel: Path, state: Path) -> None:
    place.serve(2)
    asked: list[str] = []

    def fetch(name: str) -> bytes:
        asked.append(name)
        return (channel / name).read_bytes()

    follow(fetch, KEY, state=state)

    assert asked == [POINTER, next(channel.glob("v2-*.zip")).name]


# --- The channel -----------------------------------------------------------------------------------------------------


def test_a_bundle_names_the_approval_behind_a_rollback(place: Place, channel: Path, state: Path) -> None:
    means = replace(place.means, origin=lambda _: Origin(decision_id="b" * 64, dataset_fingerprint="c" * 64))

    place.target.promote(place.move(1), means)

    told = follow(channel, KEY, state=state).manifest
    assert (told["decision_id"], told["dataset_fingerprint"]) == ("b" * 64, "c" * 64)


def test_an_archive_that_is_gone_serves_nobody_until_it_is_published_again(place: Place, channel: Path) -> None:
    place.serve(1)
    next(channel.glob("v1-*.zip")).unlink()
    gone = place.settled()

    place.target.promote(place.move(1), place.means)

    assert (dict(gone.traffic), "is gone" in gone.fault) == ({}, True)
    assert place.traffic() == {1: 100}


def test_an_unreadable_pointer_claims_nothing_and_the_next_move_mends_it(place: Place, channel: Path) -> None:
    place.serve(1, epoch=5)
    (channel / POINTER).write_bytes(b"?")
    nothing = place.settled()

    place.serve(2, epoch=6)

    assert (dict(nothing.traffic), nothing.epoch) == ({}, 0)
    assert place.traffic() == {2: 100}


def test_nothing_is_published_without_a_key(place: Place, channel: Path) -> None:
    with pytest.raises(ConfigurationError, match="no key to sign bundles with"):
        place.target.promote(place.move(1), replace(place.means, signing_key=lambda: None))

    assert not channel.exists()


class Racing(FolderPlace):
    """Somebody else is always faster."""

    def __init__(self, folder: Path, others: list[bytes]) -> None:
        super().__init__(folder)
        self.others = others

    def swap(self, name: str, before: bytes | None, after: bytes) -> bool:
        if self.others:
            self.put(name, self.others.pop(0))
        return super().swap(name, before, after)


def raced(monkeypatch: pytest.MonkeyPatch, channel: Path, others: list[bytes]) -> None:
    at = "ml_lifecycle.backends.deployment.bundle.place_at"
    monkeypatch.setattr(at, lambda *_, **__: Racing(channel, others))


def test_a_newer_move_at_the_same_instant_wins(place: Place, channel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.serve(3, epoch=7)
    newer = (channel / POINTER).read_bytes()
    place.target.destroy("flights", "test", place.means)
    raced(monkeypatch, channel, [newer])

    with pytest.raises(StaleEpochError, match="epoch 7, not 6"):
        place.target.promote(place.move(2, epoch=6), place.means)

    assert (channel / POINTER).read_bytes() == newer


def test_a_pointer_that_never_holds_still_is_tried_again_later(
    place: Place, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raced(monkeypatch, channel, [f"{number}".encode() for number in range(9)])

    with pytest.raises(ServiceUnavailableError, match="others write"):
        place.target.promote(place.move(2), place.means)


@pytest.mark.parametrize(
    "options",
    [
        {"folder": "models"}, {"folder": "/srv/../etc"}, {"folder": "s3://"}, {"folder": "s3://Bucket/x"},
        {"folder": "s3://bucket/../x"}, {"folder": "/srv", "channel": "../x"}, {"folder": "/srv", "steps": [10, 100]},
        {},
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BundleTarget(**options)


def test_it_is_found_by_its_name() -> None:
    found = target_from({"backend": "bundle", "folder": "s3://bucket/models", "channel": "beta", "onnx": True})

    assert isinstance(found, BundleTarget)


# --- Places ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "bucket"])
def corner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChannelPlace]:
    if request.param == "folder":
        yield places.place_at(str(tmp_path), "flights", "stable")
        return
    with bucket_of() as (client, bucket):
        yield places.place_at(f"s3://{bucket}/x", "flights", "stable", client=client)


def test_a_file_is_swapped_only_for_the_one_that_was_looked_at(corner: ChannelPlace) -> None:
    done = [
        corner.swap("a", b"0", b"1"), corner.swap("a", None, b"1"), corner.swap("a", None, b"2"),
        corner.swap("a", b"0", b"2"), corner.swap("a", b"1", b"3"),
    ]  # fmt: skip

    assert done == [False, True, False, False, True]
    assert (corner.read("a"), corner.size("a"), corner.names()) == (b"3", 1, ("a",))


def test_what_is_not_there_is_nothing_and_clearing_twice_is_clearing_once(corner: ChannelPlace) -> None:
    assert (corner.read("a"), corner.size("a"), corner.names()) == (None, None, ())
    corner.put("a", b"1")

    for _ in range(2):
        corner.clear()

    assert corner.names() == ()


def test_clearing_a_channel_leaves_what_is_not_of_it(tmp_path: Path) -> None:
    (tmp_path / "flights/stable/deeper").mkdir(parents=True)
    (tmp_path / "flights/stable/deeper/b").write_text("theirs")
    corner = places.place_at(str(tmp_path), "flights", "stable")
    corner.put("a", b"1")

    corner.clear()

    assert corner.names() == ()
    assert (tmp_path / "flights/stable/deeper/b").read_text() == "theirs"


def test_s3_itself_compares_when_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket_of() as (client, bucket):
        corner = BucketPlace(client, bucket, "x/")
        corner.put("a", b"1")
        tag = client.head_object(Bucket=bucket, Key="x/a")["ETag"]
        # What it saw a moment ago.
        monkeypatch.setattr(corner, "_get", lambda _: (b"0", '"another tag"'))

        swapped = corner.swap("a", b"0", b"2")

        assert not swapped
        assert client.head_object(Bucket=bucket, Key="x/a")["ETag"] == tag


def test_a_link_in_a_channel_is_no_file_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "channel").mkdir()
    (tmp_path / "channel/v1.zip").symlink_to(tmp_path / "channel/v2.zip")
    (tmp_path / "channel/v2.zip").write_text("x")

    corner = FolderPlace(tmp_path / "channel")

    assert (corner.read("v1.zip"), corner.size("v1.zip")) == (None, None)
