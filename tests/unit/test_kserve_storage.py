"""Model packages where the pods of a cluster fetch them from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment.base import Means, no_client
from ml_lifecycle.backends.deployment.package_storage import publish
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.core.contracts import Move
from ml_lifecycle.core.errors import ServiceRefusedError
from tests.fakes.kserve_place import target
from tests.fakes.places import Place, registry_at


class Packages:
    """One package in a folder, and how often it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, 0
        (folder / "deep").mkdir(parents=True)
        (folder / "model.skops").write_bytes(b"weights")
        (folder / "deep" / "package.json").write_text("{}")
        self.digest = digest_of_folder(folder)

    @contextmanager
    def package(self, uri: str, digest: str) -> Iterator[Path]:
        assert digest == self.digest
        self.asked += 1
        yield self.folder


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    return Packages(tmp_path / "package")


def moved(packages: Packages, tmp_path: Path, client: Any = no_client) -> tuple[Move, Means]:
    """A move to the package, and the means to get at it."""
    means = Means(registry=registry_at(tmp_path / "registry"), package=packages.package, client=client)
    return Place(target(), means, digests={1: packages.digest}).move(1), means


def test_a_folder_holds_each_package_whole_under_its_digest(packages: Packages, tmp_path: Path) -> None:
    move, means = moved(packages, tmp_path)
    claim = tmp_path / "claim" / "flights"

    for _ in range(2):
        publish(move, "pvc://models/flights", connection="", folder=str(claim), means=means)

    assert [path.name for path in claim.iterdir()] == [packages.digest]
    assert digest_of_folder(claim / packages.digest) == packages.digest
    assert packages.asked == 1


def test_a_package_that_was_changed_in_its_folder_is_put_there_anew(packages: Packages, tmp_path: Path) -> None:
    move, means = moved(packages, tmp_path)
    claim = tmp_path / "claim"
    publish(move, "pvc://models", connection="", folder=str(claim), means=means)
    (claim / packages.digest / "model.skops").write_bytes(b"poison")

    publish(move, "pvc://models", connection="", folder=str(claim), means=means)

    assert digest_of_folder(claim / packages.digest) == packages.digest
    assert [path.name for path in claim.iterdir()] == [packages.digest]


def test_where_somebody_else_uploads_nothing_is_asked_for(packages: Packages, tmp_path: Path) -> None:
    move, means = moved(packages, tmp_path)

    publish(move, "s3://models/flights", connection="", folder="", means=means)

    assert packages.asked == 0


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("s3", region_name="eu-central-1")
        client.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield client


def test_a_bucket_holds_each_package_whole_under_its_digest(packages: Packages, tmp_path: Path, s3: Any) -> None:
    asked: list[tuple[str, str]] = []

    def client(service: str, connection: str) -> Any:
        asked.append((service, connection))
        return s3

    move, means = moved(packages, tmp_path, client)

    for _ in range(2):
        publish(move, "s3://models/flights", connection="aws", folder="", means=means)

    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="models")["Contents"]]
    assert keys == [f"flights/{packages.digest}/{name}" for name in ("deep/package.json", "model.skops")]
    assert set(asked) == {("s3", "aws")}
    assert s3.get_object(Bucket="models", Key=keys[1])["Body"].read() == b"weights"


def test_a_bucket_that_is_not_there_is_named(packages: Packages, tmp_path: Path, s3: Any) -> None:
    move, means = moved(packages, tmp_path, lambda *_: s3)

    with pytest.raises(
        ServiceRefusedError, match=r"s3://nowhere, connection 'aws': .* not be uploaded \(NoSuchBucket\)"
    ):
        publish(move, "s3://nowhere", connection="aws", folder="", means=means)
