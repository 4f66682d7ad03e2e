"""SageMaker as a place for the conformance suite: a small Amazon on this machine, and moto's S3."""

from __future__ import annotations

import atexit
import copy
import functools
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment import sagemaker, sagemaker_writer
from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.deployment.sagemaker import SageMakerTarget
from tests.fakes.aws_server import Amazon, AmazonServer, RefusedError
from tests.fakes.places import MODEL, Place, registry_at

BUCKET = "models"
REGION = "eu-west-1"


@dataclass(frozen=True)
class Cloud:
    """An account, and clients that reach it."""

    amazon: Amazon
    addresses: tuple[str, str]
    """Of Amazon and of its S3."""

    def client(self, service: str, connection: str = "aws_default") -> Any:
        """A plain client, as a hook hands it out."""
        return _client(service, self.addresses[service == "s3"])

    def imitated(self, service: str) -> Any:
        """A client of the service as moto imitates it."""
        return _client(service, self.addresses[1])

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


@cache
def _servers() -> tuple[AmazonServer, str]:
    """Both servers run as long as the process does: making clients for new addresses takes longer than most tests."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    amazon, s3 = AmazonServer(), ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    atexit.register(amazon.stop)
    atexit.register(s3.stop)
    host, port = s3.get_host_and_port()
    return amazon, f"http://{host}:{port}"


@contextmanager
def running_cloud(amazon: Amazon | None = None) -> Iterator[Cloud]:
    """An account with one empty bucket."""
    server, s3 = _servers()
    client = _client("s3", s3)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    try:
        with server.serving(amazon or Amazon()) as serving:
            yield Cloud(serving, (server.address, s3))
    finally:
        for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=one["Key"])
        client.delete_bucket(Bucket=BUCKET)


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


def place_in(cloud: Cloud | DirectCloud, folder: Path, *, package: Any = text_package, **options: Any) -> Place:
    """A target in an account."""
    means = Means(registry=registry_at(folder), package=package, client=cloud.client)
    return Place(target(**options), means, ask=functools.partial(asked, cloud))


def asked(cloud: Cloud | DirectCloud, user: str) -> int:
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


# --- Without a network: thousands of calls a second ------------------------------------------------------------------


def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits looks a hundred times, at once."""
    for module in (sagemaker, sagemaker_writer):
        monkeypatch.setattr(module, "waits", lambda _: iter([None] * 100))


@dataclass(frozen=True)
class DirectCloud:
    """An account that is called without HTTP and boto3."""

    amazon: Amazon = field(default_factory=lambda: Amazon(looks=0))
    store: dict[str, bytes] = field(default_factory=dict)
    """What the bucket holds, by key."""

    def client(self, service: str, connection: str = "aws_default") -> Any:
        """Whatever is asked of it, is asked of the account."""
        return _Store(self.store) if service == "s3" else _Direct(self.amazon, service)

    def inventory(self) -> dict[str, list[str]]:
        """Names of all that costs or clutters."""
        held = self.amazon.inventory()
        return {**held, "objects": sorted(self.store)} if self.store else held


@dataclass(frozen=True)
class _Direct:
    amazon: Amazon
    service: str

    def __getattr__(self, operation: str) -> Any:
        def call(**asked: Any) -> dict[str, Any]:
            name = "".join(part.capitalize() for part in operation.split("_"))
            _refuse_malformed(self.service, name, asked)
            try:
                answer = self.amazon.call(name, copy.deepcopy(asked))
            except RefusedError as error:
                raise _client_error(name, error.code, str(error)) from None
            timed = {key: value for key, value in answer.items() if key.endswith("Time")}
            moments = {key: datetime.fromtimestamp(value, timezone.utc) for key, value in timed.items()}
            return copy.deepcopy({**answer, **moments})

        return call


@dataclass(frozen=True)
class _Store:
    held: dict[str, bytes]

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803  # as boto3 has it
        if Key not in self.held:
            raise _client_error("HeadObject", "404", "Not Found")
        return {"ContentLength": len(self.held[Key])}

    def put_object(self, *, Bucket: str, Key: str, Body: Any) -> dict[str, Any]:  # noqa: N803  # as boto3 has it
        self.held[Key] = Body.read()
        return {}

    def list_objects_v2(self, *, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:  # noqa: N803  # as above
        return {"Contents": [{"Key": key} for key in sorted(self.held) if key.startswith(Prefix)][:MaxKeys]}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:  # noqa: N803  # as above
        for one in Delete["Objects"]:
            self.held.pop(one["Key"], None)
        return {}


@cache
def _service(name: str) -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model(name)


def _refuse_malformed(service: str, operation: str, asked: dict[str, Any]) -> None:
    """What boto3 would not send."""
    from botocore.exceptions import ParamValidationError
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(asked, _service(service).operation_model(operation).input_shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())


def _client_error(operation: str, code: str, message: str) -> Exception:
    from botocore.exceptions import ClientError

    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    made: Exception = ClientError(answer, operation)
    return made
