"""Putting model packages where the pods of a cluster fetch them from, each under its digest."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.core.contracts import Move
from ml_lifecycle.core.errors import LifecycleError, ServiceRefusedError, ServiceUnavailableError

_REFUSED: Final = frozenset({400, 401, 403, 404})


def publish(move: Move, storage: str, *, connection: str, folder: str, means: Means) -> None:
    """Put the move's package, held against its digest, below ``storage``; nothing happens where it is already.

    Whatever comes of it, a model server serves no bytes but those that its digest names.

    :param connection: Of the S3 that ``storage`` lies in; empty where somebody else uploads.
    :param folder: Where this machine sees ``storage``; empty where it does not.
    """
    if folder:
        _publish_to_folder(move, Path(folder), means)
    elif connection:
        _publish_to_s3(move, storage, connection, means)


def _publish_to_folder(move: Move, folder: Path, means: Means) -> None:
    final = folder / move.digest
    if final.is_dir() and digest_of_folder(final) == move.digest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with means.package(move.uri, move.digest) as package, TemporaryDirectory(dir=folder, prefix=".new-") as drafts:
        draft = Path(drafts) / move.digest
        shutil.copytree(package, draft)
        draft.chmod(0o755)
        if final.is_dir():
            final.replace(Path(drafts) / "old")
        try:
            draft.replace(final)
        except OSError:
            # Another try was faster, with the same bytes.
            if not final.is_dir():
                raise


def _publish_to_s3(move: Move, storage: str, connection: str, means: Means) -> None:
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = storage.removeprefix("s3://").partition("/")
    below = f"{prefix}/{move.digest}/" if prefix else f"{move.digest}/"
    client = means.client("s3", connection)
    try:
        with means.package(move.uri, move.digest) as package:
            there = _sizes(client, bucket, below)
            for file in sorted(path for path in package.rglob("*") if path.is_file()):
                key = f"{below}{file.relative_to(package).as_posix()}"
                if there.get(key) != file.stat().st_size:
                    client.upload_file(str(file), bucket, key)
    except (BotoCoreError, ClientError, S3UploadFailedError) as error:
        raise _told(error, f"{storage}, connection {connection!r}") from None


def _told(error: Exception, where: str) -> LifecycleError:
    """What a wrong name or missing rights refuse stays refused; the rest may pass."""
    answer = getattr(error, "response", {})
    status, code = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), answer.get("Error", {}).get("Code", "")
    what = f"the package could not be uploaded ({code or type(error).__name__})"
    kind = ServiceRefusedError if status in _REFUSED else ServiceUnavailableError
    return kind(what, where=where, way_out="let the connection list and write there")


def _sizes(client: Any, bucket: str, prefix: str) -> dict[str, int]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {str(one["Key"]): int(one["Size"]) for page in pages for one in page.get("Contents", [])}
