"""SageMaker as a place for the conformance suite: a small Amazon on this machine, and moto's S3."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.deployment.sagemaker import SageMakerTarget
from tests.fakes.aws_server import Amazon, running_amazon
from tests.fakes.places import MODEL, Place, registry_at

BUCKET = "models"
REGION = "eu-west-1"


@dataclass(frozen=True)
class Cloud:
    """An account, and clients that reach it."""

    amazon: Amazon
    s3: str
    """Address of the S3."""

    def client(self, service: str, connection: str = "aws_default") -> Any:
        """A plain client, as a hook hands it out."""
        return _client(service, self.s3 if service == "s3" else self.amazon.address)

    def objects(self) -> list[str]:
        """Keys in the bucket."""
        return [one["Key"] for one in self.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", ())]


@cache
def _client(service: str, address: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=5, read_timeout=30)
    return boto3.client(
        service,
        endpoint_url=address,
        region_name=REGION,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=config,
    )


@contextmanager
def running_s3() -> Iterator[str]:
    """An S3 with one empty bucket; its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    client = _client("s3", address)
    try:
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield address
        # What moto holds belongs to the process, not to the server.
        for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=one["Key"])
        client.delete_bucket(Bucket=BUCKET)
    finally:
        server.stop()


@contextmanager
def running_cloud(amazon: Amazon | None = None) -> Iterator[Cloud]:
    """A small Amazon with its S3."""
    with running_s3() as s3, running_amazon(amazon or Amazon()) as running:
        yield Cloud(running, s3)


def target(**options: Any) -> SageMakerTarget:
    """A target with what every one needs."""
    needed = {
        "role_arn": "arn:aws:iam::123456789012:role/serving",
        "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/model-server@sha256:" + "0" * 64,
        "bucket": BUCKET,
    }
    return SageMakerTarget.model_validate({**needed, **options})


@contextmanager
def text_package(uri: str, digest: str) -> Iterator[Path]:
    """A package that holds nothing but its name."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "package.json").write_text(digest)
        yield Path(folder)


def place_in(cloud: Cloud, folder: Path, *, package: Any = text_package, **options: Any) -> Place:
    """A target in an account."""
    means = Means(registry=registry_at(folder), package=package, client=cloud.client)
    return Place(target(**options), means, ask=functools.partial(asked, cloud))


def asked(cloud: Cloud, user: str) -> int:
    """Send a request, and read from the variant's name who answered."""
    answer = cloud.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=MODEL, Body=b'{"user": "%s"}' % user.encode(), ContentType="application/json"
    )
    found = re.match("v([0-9]+)-", answer["InvokedProductionVariant"])
    assert found is not None
    return int(found[1])


@contextmanager
def sagemaker_place(tmp_path: Path) -> Iterator[Place]:
    """An endpoint in a small Amazon on this machine."""
    with running_cloud() as cloud:
        yield place_in(cloud, tmp_path)
