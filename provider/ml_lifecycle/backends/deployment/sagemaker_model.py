"""A model package as SageMaker takes it: an archive in S3, and a model that names it and the image that serves it."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls
from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.core.contracts import Move

ARCHIVE: Final = "model.tar.gz"

_MODE: Final = 0o644


@dataclass(frozen=True)
class Container:
    """What every model of an endpoint has in common."""

    endpoint: str
    image: str
    role_arn: str
    bucket: str
    prefix: str
    kms_key: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    isolated: bool = False
    trusted_types: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where in the bucket the archives of this endpoint lie."""
        return f"{self.prefix.strip('/')}/{self.endpoint}/".lstrip("/")

    def archive(self, digest: str) -> str:
        """Where a package lies: its key in the bucket."""
        return f"{self.folder}{digest}/{ARCHIVE}"

    def model(self, move: Move) -> dict[str, Any]:
        """The request that makes the model; its name ends in a hash of everything else that it says."""
        asked: dict[str, Any] = {
            "ExecutionRoleArn": self.role_arn,
            "PrimaryContainer": {
                "Image": self.image,
                "ModelDataUrl": f"s3://{self.bucket}/{self.archive(move.digest)}",
                "Environment": self._environment(move),
            },
            "EnableNetworkIsolation": self.isolated,
        }
        if self.subnets:
            asked["VpcConfig"] = {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.security_groups)}
        return {
            "ModelName": f"{self.endpoint}-v{move.version}-{hash_of(asked, 10)}",
            **asked,
            "Tags": tag_list(self.tags),
        }

    def _environment(self, move: Move) -> dict[str, str]:
        """What the model server reads beside its command line."""
        told = {
            "ML_LIFECYCLE_MODEL": move.model,
            "ML_LIFECYCLE_VERSION": str(move.version),
            "ML_LIFECYCLE_DIGEST": move.digest,
        }
        return {**told, "ML_LIFECYCLE_TRUSTED_TYPES": ",".join(self.trusted_types)} if self.trusted_types else told


def ensure_model(container: Container, move: Move, calls: AmazonCalls, means: Means) -> str:
    """The name of the SageMaker model that serves the move's version, made unless it is there already.

    Its package is fetched, held against its digest and copied only where S3 does not have it.
    """
    asked = container.model(move)
    if calls.find("sagemaker", "describe_model", ModelName=asked["ModelName"]) is None:
        _ensure_archive(container, move, calls, means)
        calls.ensure("sagemaker", "create_model", **asked)
    return str(asked["ModelName"])


def write_archive(folder: Path, file: Path) -> None:
    """A folder's files as ``.tar.gz``: the same bytes for the same files, whoever writes it and when."""
    with (
        file.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size, entry.mode = path.stat().st_size, _MODE
            with path.open("rb") as source:
                archive.addfile(entry, source)


def hash_of(value: Any, digits: int) -> str:
    """The first hexadecimal digits of a value's SHA-256: the end of a name that says what it stands for."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:digits]


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as Amazon takes them."""
    return [{"Key": name, "Value": text} for name, text in sorted(tags.items())]


def _ensure_archive(container: Container, move: Move, calls: AmazonCalls, means: Means) -> None:
    key = container.archive(move.digest)
    if calls.find("s3", "head_object", Bucket=container.bucket, Key=key) is not None:
        return
    sealed = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": container.kms_key} if container.kms_key else {}
    with (
        tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary,
        means.package(move.uri, move.digest) as folder,
    ):
        file = Path(temporary) / ARCHIVE
        write_archive(folder, file)
        with file.open("rb") as body:
            calls("s3", "put_object", Body=body, Bucket=container.bucket, Key=key, **sealed)
