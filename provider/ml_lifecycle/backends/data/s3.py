"""Objects in a bucket of S3, or of a service that speaks its protocol.

A file is an object, which S3 shows whole or not at all. A published folder is a set of objects below a name that comes
from their bytes, ``<uri>/<first 16 digits of the digest>/<path>``, and a marker, ``<uri>/.published.json``, that is
written last and only where there is none. S3 answers every read with the newest write
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel), so whoever sees the marker sees
all files; whoever does not sees nothing published. Of two publishers the marker of one is written, and the other one
removes its own objects.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ml_lifecycle.backends.data.base import DataStore, FileState
from ml_lifecycle.backends.data.local import LocalStore, values_by_footer
from ml_lifecycle.backends.files import manifest_of, parts_of, verify_folder
from ml_lifecycle.backends.s3 import ANOTHER_WAS_FIRST, NOTHING_THERE, s3_errors
from ml_lifecycle.core.contracts import canonical_json, digest_of
from ml_lifecycle.core.data import PLACEHOLDER, partition_of
from ml_lifecycle.core.errors import (
    ConfigurationError,
    DataError,
    LifecycleError,
    PartitionMissingError,
    PartitionUnreadableError,
    ServiceUnavailableError,
)

if TYPE_CHECKING:
    import pandas as pd
    from pyarrow.fs import FileSystem

MARKER: Final = ".published.json"
"""No name that a uri may hold begins with a dot."""
_DIGITS: Final = 16
"""Of a folder's digest, in its objects' keys."""
_NAMED = re.compile(f"[0-9a-f]{{{_DIGITS}}}")
_END_BYTES: Final = 1 << 20
"""Of a file's begin and end, where its ends are looked at."""
_BLOCK: Final = 1 << 20
_AT_ONCE: Final = 1000
"""Keys that S3 deletes in one request."""
_AMAZON: Final = (".amazonaws.com", ".amazonaws.com.cn")


class Credentials(Protocol):
    """As botocore names them."""

    access_key: str
    secret_key: str
    token: str | None


def no_credentials() -> Credentials:
    """The credentials of whoever gave none.

    :raises ConfigurationError: always.
    """
    raise ConfigurationError("no credentials were handed to the data store", way_out="hand them in beside the client")


class S3Store(DataStore):
    """A tree of objects below ``s3://<bucket>/<prefix>``.

    :param client: boto3's for ``s3``, with time-outs.
    :param prefix: Empty, or ends with a slash.
    :param credentials: Those of the client, at the moment of asking: for readers of many small files, which go past it.
    """

    def __init__(
        self, client: Any, bucket: str, prefix: str = "", *, credentials: Callable[[], Credentials] = no_credentials
    ) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix
        self.credentials = credentials
        self._hashes: dict[tuple[str, str, int], str] = {}

    @property
    def where(self) -> str:
        """The root's address."""
        return f"s3://{self.bucket}/{self.prefix}"

    # --- Files -------------------------------------------------------------------------------------------------------

    def state(self, uri: str) -> FileState | None:
        """Size and moment of the newest write of an object."""
        found = self._find(uri)
        if found is None:
            return None
        return FileState(size=int(found["ContentLength"]), modified_at=found["LastModified"].timestamp())

    def partitions(self, template: str) -> tuple[str, ...]:
        """Names of the partitions that exist, sorted; an object that is being written does not exist."""
        parts_of(PLACEHOLDER.sub("x", template), where=self.where)
        start = PLACEHOLDER.split(template)[0]
        names = (partition_of(template, key) for key in self._keys(start))
        return tuple(sorted({name for name in names if name is not None}))

    def check_complete(self, uri: str) -> None:
        """Look at the first and the last megabyte, and at a parquet file's footer."""
        with self._ends(uri) as (local, _):
            local.check_complete(uri)

    def read_table(self, uri: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The file as a table with a plain row index; it is fetched whole."""
        self.check_complete(uri)
        with self._fetched(uri) as (local, _):
            return local.read_table(uri, columns)

    def count_rows(self, uri: str, column: str | None = None) -> int:
        """By the footer of a parquet file, where that says how many values are missing; else by reading."""
        with self._ends(uri) as (local, path):
            local.check_complete(uri)
            counted = values_by_footer(path, column)
        return super().count_rows(uri, column) if counted is None else counted

    def filesystem(self, uri: str) -> tuple[FileSystem, str]:
        """That of pyarrow for S3, with the credentials of this moment, and the path on it."""
        from pyarrow.fs import S3FileSystem

        parts_of(uri, where=self.where)
        held, meta = self.credentials(), self.client.meta
        scheme, _, host = str(meta.endpoint_url).rstrip("/").partition("://")
        return S3FileSystem(
            access_key=held.access_key,
            secret_key=held.secret_key,
            session_token=held.token,
            region=meta.region_name,
            scheme=scheme,
            endpoint_override=None if host.endswith(_AMAZON) else host,
            connect_timeout=meta.config.connect_timeout,
            request_timeout=meta.config.read_timeout,
        ), f"{self.bucket}/{self.prefix}{uri}"

    def file_digest(self, uri: str) -> str:
        """SHA-256 of the object's bytes, which are read."""
        found = self._existing(uri)
        return self._hash(found["Key"], found["ETag"], int(found["ContentLength"]))

    @contextmanager
    def file(self, uri: str) -> Iterator[Path]:
        """A copy on this machine."""
        with self._fetched(uri) as (_, path):
            yield path

    def write_file(self, uri: str, content: bytes) -> None:
        """One request."""
        key = self._key(uri)
        with s3_errors(self._address(uri)):
            self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def publish_file(self, uri: str, write: Callable[[Path], object]) -> None:
        """Let ``write`` fill a local draft, and upload it: an upload in parts appears when its last part is there."""
        key = self._key(uri)
        with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
            draft = Path(temporary) / Path(uri).name
            write(draft)
            self._upload(draft, key)

    # --- Published folders -------------------------------------------------------------------------------------------

    def publish(self, uri: str, write: Callable[[Path], None]) -> str:
        """Upload the files, then write the marker where there is none; of two publishers the first marker counts."""
        parts_of(uri, where=self.where)
        if self._marker(uri) is None:
            with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
                folder = Path(temporary) / "draft"
                folder.mkdir()
                write(folder)
                self._publish(uri, folder)
        published = self.published(uri)
        if published is None:
            raise ServiceUnavailableError("what was published is gone again", where=self._address(uri))
        return published

    def published(self, uri: str) -> str | None:
        """Digest of a published folder's bytes, which are read; ``None`` where there is no marker."""
        parts_of(uri, where=self.where)
        marker = self._marker(uri)
        if marker is None:
            return None
        base = f"{uri}/{marker}/"
        manifest = [
            {"path": key.removeprefix(base), "size": size, "sha256": self._hash(f"{self.prefix}{key}", tag, size)}
            for key, (tag, size) in self._keys(base).items()
        ]
        return digest_of(sorted(manifest, key=lambda entry: str(entry["path"])))

    @contextmanager
    def folder(self, uri: str, digest: str | None = None) -> Iterator[Path]:
        """A copy on this machine."""
        parts_of(uri, where=self.where)
        marker = self._marker(uri)
        if marker is None:
            raise PartitionMissingError(
                "nothing is published here", where=self._address(uri), way_out="run the stage that publishes it"
            )
        base = f"{uri}/{marker}/"
        with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
            folder = Path(temporary) / "folder"
            folder.mkdir()
            for key in self._keys(base):
                path = folder.joinpath(*parts_of(key.removeprefix(base), where=self._address(uri)))
                path.parent.mkdir(parents=True, exist_ok=True)
                self._download(f"{self.prefix}{key}", path)
            if digest is not None:
                verify_folder(folder, digest, where=self._address(uri))
            yield folder

    def discard(self, uri: str) -> None:
        """Remove the markers first, so that nothing is seen with only some of its files."""
        parts_of(uri, where=self.where)
        keys = list(self._keys(f"{uri}/"))
        self._delete([key for key in keys if key.endswith(f"/{MARKER}")])
        self._delete([key for key in keys if not key.endswith(f"/{MARKER}")])

    def _publish(self, uri: str, folder: Path) -> None:
        manifest = manifest_of(folder)
        if not manifest:
            raise DataError(
                "nothing was written to publish", where=self._address(uri), way_out="write at least one file"
            )
        name = digest_of(manifest)[:_DIGITS]
        for entry in manifest:
            self._upload(folder / entry["path"], f"{self.prefix}{uri}/{name}/{entry['path']}")
        with s3_errors(self._address(uri), *ANOTHER_WAS_FIRST):
            self.client.put_object(
                Bucket=self.bucket,
                Key=f"{self.prefix}{uri}/{MARKER}",
                Body=canonical_json({"folder": name, "files": manifest}).encode(),
                IfNoneMatch="*",
            )
        self._sweep(uri)

    def _sweep(self, uri: str) -> None:
        """Remove the objects of publishers that came second, or were killed."""
        marker = self._marker(uri)
        if marker is None:
            return
        names = ((key, key.removeprefix(f"{uri}/").partition("/")[0]) for key in self._keys(f"{uri}/"))
        self._delete([key for key, name in names if _NAMED.fullmatch(name) and name != marker])

    def _marker(self, uri: str) -> str | None:
        """The folder that a marker names."""
        with s3_errors(self._address(uri), *NOTHING_THERE):
            answer = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}{uri}/{MARKER}")
            return self._named(answer["Body"].read(), uri)
        return None

    def _named(self, content: bytes, uri: str) -> str:
        try:
            name = json.loads(content)["folder"]
        except (ValueError, KeyError, TypeError):
            name = ""
        if not isinstance(name, str) or not _NAMED.fullmatch(name):
            raise DataError(
                f"{MARKER} is not what was published", where=self._address(uri), way_out="discard it, and publish again"
            )
        return name

    # --- Objects -----------------------------------------------------------------------------------------------------

    def _address(self, uri: str) -> str:
        return f"{self.where}{uri}"

    def _key(self, uri: str) -> str:
        parts_of(uri, where=self.where)
        return f"{self.prefix}{uri}"

    def _find(self, uri: str) -> dict[str, Any] | None:
        """An object's head with its key: by its own name, or as a file of a published folder."""
        parts = parts_of(uri, where=self.where)
        found = self._head(uri)
        for cut in range(len(parts) - 1, 0, -1):
            if found is not None:
                break
            above = "/".join(parts[:cut])
            marker = self._marker(above)
            if marker is not None:
                return self._head(f"{above}/{marker}/{'/'.join(parts[cut:])}")
        return found

    def _head(self, uri: str) -> dict[str, Any] | None:
        key = f"{self.prefix}{uri}"
        with s3_errors(self._address(uri), *NOTHING_THERE):
            return {**self.client.head_object(Bucket=self.bucket, Key=key), "Key": key}
        return None

    def _existing(self, uri: str) -> dict[str, Any]:
        found = self._find(uri)
        if found is not None:
            return found
        if next(iter(self._keys(f"{uri}/")), None) is not None:
            raise PartitionUnreadableError("is a folder, not a file", where=self._address(uri), way_out="name one file")
        raise PartitionMissingError(
            "the file is not there",
            where=self._address(uri),
            way_out=f"{self._beside(uri)}; land it, or ask for another partition",
        )

    def _beside(self, uri: str) -> str:
        """What lies where the file was looked for."""
        folder, _, name = f"/{uri}".rpartition("/")
        base, ending = f"{folder[1:]}/" if folder else "", Path(name).suffix
        names = sorted(key.removeprefix(base) for key in self._keys(base) if key.endswith(ending))
        names = [name for name in names if "/" not in name and not name.startswith(".")]
        if not names:
            return f"there is no {ending} object beside it"
        if len(names) == 1:
            return f"beside it is only {names[0]}"
        return f"the folder holds {names[0]} to {names[-1]} ({len(names)} files)"

    def _keys(self, start: str) -> dict[str, tuple[str, int]]:
        """ETag and size of every object whose key, below the root, starts like this."""
        with s3_errors(self._address(start)):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=f"{self.prefix}{start}"
            )
            return {
                one["Key"].removeprefix(self.prefix): (one["ETag"], int(one["Size"]))
                for page in pages
                for one in page.get("Contents", ())
            }

    def _hash(self, key: str, tag: str, size: int) -> str:
        """SHA-256 of an object's bytes; those that were read once are not read again, as others have another tag."""
        known = self._hashes.get((key, tag, size))
        if known is not None:
            return known
        digest = hashlib.sha256()
        with s3_errors(f"s3://{self.bucket}/{key}", *ANOTHER_WAS_FIRST) as changed:
            body = self.client.get_object(Bucket=self.bucket, Key=key, IfMatch=tag)["Body"]
            for block in body.iter_chunks(_BLOCK):
                digest.update(block)
        if changed:
            raise ServiceUnavailableError("it is being changed while it is read", where=f"s3://{self.bucket}/{key}")
        return self._hashes.setdefault((key, tag, size), digest.hexdigest())

    def _upload(self, path: Path, key: str) -> None:
        from boto3.exceptions import S3UploadFailedError

        with s3_errors(f"s3://{self.bucket}/{key}"):
            try:
                self.client.upload_file(str(path), self.bucket, key)
            except S3UploadFailedError as error:
                # It hides what S3 answered, which says whether another try helps.
                raise error.__context__ or error from None

    def _download(self, key: str, path: Path) -> None:
        with s3_errors(f"s3://{self.bucket}/{key}"):
            self.client.download_file(self.bucket, key, str(path))

    def _delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _AT_ONCE):
            named = [{"Key": f"{self.prefix}{key}"} for key in keys[start : start + _AT_ONCE]]
            with s3_errors(self.where):
                self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": named, "Quiet": True})

    # --- On this machine ---------------------------------------------------------------------------------------------

    @contextmanager
    def _fetched(self, uri: str) -> Iterator[tuple[LocalStore, Path]]:
        """A store on this machine that holds a copy of the file; what it says of it is told of the object."""
        with self._copy(uri) as (local, path, found):
            self._download(found["Key"], path)
            yield local, path

    @contextmanager
    def _ends(self, uri: str) -> Iterator[tuple[LocalStore, Path]]:
        """As :meth:`_fetched`, but only the file's ends: what lies between them is empty, and takes no space."""
        with self._copy(uri) as (local, path, found):
            size = int(found["ContentLength"])
            with path.open("wb") as file:
                file.truncate(size)
                self._range(found, file, 0, min(size, _END_BYTES))
                self._range(found, file, max(size - _END_BYTES, _END_BYTES), size)
                self._footer(found, path, file, size)
            yield local, path

    def _footer(self, found: dict[str, Any], path: Path, file: Any, size: int) -> None:
        """What of a parquet file's footer lies before its last megabyte."""
        file.flush()
        with path.open("rb") as written:
            written.seek(max(size - 8, 0))
            length = int.from_bytes(written.read(4), "little")
        begin = size - 8 - length
        if path.suffix == ".parquet" and _END_BYTES <= begin < size - _END_BYTES:
            self._range(found, file, begin, size - _END_BYTES)

    def _range(self, found: dict[str, Any], file: Any, begin: int, end: int) -> None:
        if begin >= end:
            return
        with s3_errors(f"s3://{self.bucket}/{found['Key']}"):
            answer = self.client.get_object(
                Bucket=self.bucket, Key=found["Key"], Range=f"bytes={begin}-{end - 1}", IfMatch=found["ETag"]
            )
            file.seek(begin)
            file.write(answer["Body"].read())

    @contextmanager
    def _copy(self, uri: str) -> Iterator[tuple[LocalStore, Path, dict[str, Any]]]:
        found = self._existing(uri)
        with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
            root = Path(temporary).resolve()
            path = root / uri
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield LocalStore(root), path, found
            except LifecycleError as error:
                error.where = error.where.replace(f"{root}/", self.where)
                raise
