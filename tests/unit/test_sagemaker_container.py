"""A whole release on SageMaker, with real model servers behind the endpoint that were handed nothing but an archive."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.backends.deployment import sagemaker
from ml_lifecycle.backends.deployment.sagemaker_endpoint import variant_name
from ml_lifecycle.backends.deployment.sagemaker_model import write_archive
from ml_lifecycle.backends.files import digest_of_folder
from tests.fakes.aws_server import Amazon, Container, Plain
from tests.fakes.places import MODEL, Place
from tests.fakes.sagemaker_place import BUCKET, Cloud, place_in, running_cloud
from tests.fakes.served_model import ModelServer, fitted, started, write_package

ROW = {"dataframe_records": [{"distance": 0.3, "carrier": "AA", "temp": 1.0}]}
WHOLE: dict[str, Any] = {
    "autoscaling": {"min": 1, "max": 3},
    "package_group": "flights-models",
    "data_capture": {"percent": 10},
    "alarms": ["errors"],
    "network": {"subnets": ["subnet-1"], "security_groups": ["sg-1"], "isolated": True},
    "kms_key": "alias/models",
    "tags": {"team": "flights"},
}


@dataclass(frozen=True)
class Served:
    """A container: the model server as SageMaker starts it."""

    server: ModelServer
    ending: ExitStack

    def answer(self, body: bytes, content_type: str) -> tuple[int, bytes]:
        found = self.server.invoke(body, content_type)
        return found.status, found.body

    def stop(self) -> None:
        self.ending.close()


@dataclass
class Launcher:
    """Starts containers: the archive unpacked into a folder, the model's environment, and the word ``serve``."""

    folder: Path
    plain: tuple[str, ...] = ()
    """Versions that need no process of their own."""
    client: Any = None
    """For S3."""

    def __call__(self, model: Mapping[str, Any]) -> Container:
        container = model["PrimaryContainer"]
        if container["Environment"]["ML_LIFECYCLE_VERSION"] in self.plain:
            return Plain(container["Environment"])
        place = self.folder / f"container-{len(list(self.folder.glob('container-*')))}"
        place.mkdir()
        key = container["ModelDataUrl"].removeprefix(f"s3://{BUCKET}/")
        self.client.download_file(BUCKET, key, str(place / "model.tar.gz"))
        with tarfile.open(place / "model.tar.gz") as archive:
            archive.extractall(place / "model", filter="data")
        with ExitStack() as ending:
            environment = {**container["Environment"], "SM_MODEL_DIR": str(place / "model")}
            server = ending.enter_context(started(place, "serve", environment=environment))
            return Served(server, ending.pop_all())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, str]]:
    """Two real packages and their digests, by version."""
    folder, found = tmp_path_factory.mktemp("packages"), {}
    for version, strength in ((1, 1.0), (2, 0.01)):
        found[version] = (
            folder / str(version),
            write_package(folder / str(version), fitted(LogisticRegression(C=strength))),
        )
    return found


@pytest.fixture
def place(tmp_path: Path, packages: dict[int, tuple[Path, str]]) -> Iterator[tuple[Place, Cloud]]:
    folders = {digest: folder for folder, digest in packages.values()}

    @contextmanager
    def package(uri: str, digest: str) -> Iterator[Path]:
        yield folders[digest]

    launch = Launcher(tmp_path)
    with running_cloud(Amazon(looks=1, launch=launch)) as cloud:
        launch.client = cloud.client("s3")
        made = place_in(cloud, tmp_path, package=package, **WHOLE)
        yield replace(made, digests={version: digest for version, (_, digest) in packages.items()}), cloud


def ask(cloud: Cloud, times: int) -> tuple[Counter[str], set[bytes]]:
    """Who answered how often, and what."""
    client, who, answers = cloud.client("sagemaker-runtime"), Counter[str](), set()
    for _ in range(times):
        found = client.invoke_endpoint(EndpointName=MODEL, Body=json.dumps(ROW), ContentType="application/json")
        who[found["InvokedProductionVariant"]] += 1
        answers.add(found["Body"].read())
    return who, answers


def test_a_release_with_real_servers_from_the_first_request_to_the_last(
    place: tuple[Place, Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, cloud = place
    old, new = (variant_name(version, where.digests[version]) for version in (1, 2))
    where.serve(1)
    move = where.move(2, epoch=2)
    where.target.deploy(move, where.means)
    where.settled()
    shares, told = {}, {}

    before = ask(cloud, 20)
    for percent in (10, 50):
        where.split(move, percent)
        where.settled()
        shares[percent], told[percent] = ask(cloud, 40)
    later = datetime.now(timezone.utc) + timedelta(minutes=5)
    monkeypatch.setattr(sagemaker, "_now", lambda: later)
    cloud.amazon.requests[:] = [replace(one, at=one.at + 120) for one in cloud.amazon.requests[-40:]]
    seen = where.observe(datetime(2026, 1, 1, tzinfo=timezone.utc))
    where.target.promote(move, where.means)
    where.settled()
    after = ask(cloud, 20)

    assert (before[0], after[0]) == ({old: 20}, {new: 20})
    assert shares == {10: {old: 36, new: 4}, 50: {old: 20, new: 20}}
    assert before[1] != after[1]
    assert told[50] == before[1] | after[1]
    assert {version: (one.requests, one.errors) for version, one in seen.items()} == {1: (20, 0), 2: (20, 0)}
    assert all(one.latency is not None and sum(one.latency.counts) == 20 for one in seen.values())
    where.target.destroy(MODEL, "test", where.means)
    assert (cloud.amazon.inventory(), cloud.objects()) == ({}, [])


def test_an_archive_that_somebody_changed_never_serves(
    place: tuple[Place, Cloud], packages: Any, tmp_path: Path
) -> None:
    where, cloud = place
    cloud.amazon.launch.plain = ("1",)  # type: ignore[attr-defined]
    where.serve(1)
    other = tmp_path / "other.tar.gz"
    write_archive(packages[1][0], other)
    key = f"ml-lifecycle/{MODEL}/{where.digests[2]}/model.tar.gz"
    cloud.client("s3").upload_file(str(other), BUCKET, key)

    where.target.deploy(where.move(2, epoch=2), where.means)

    for _ in range(3):
        seen = where.target.status(MODEL, where.means)
    assert "was taken back" in seen.fault
    assert "has digest" in seen.fault or "did not start" in seen.fault
    assert dict(seen.traffic) == {1: 100}
    assert ask(cloud, 5)[0] == {variant_name(1, where.digests[1]): 5}


def test_an_archive_is_the_same_bytes_whenever_it_is_written_and_unpacks_to_the_same_digest(
    packages: dict[int, tuple[Path, str]], tmp_path: Path
) -> None:
    folder, digest = packages[1]
    for name in ("one", "two"):
        write_archive(folder, tmp_path / name)

    with tarfile.open(tmp_path / "one") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert digest_of_folder(tmp_path / "unpacked") == digest
