"""Roots of data stores as upstream systems see them: they land files, and somebody may change them."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.data.base import DataStore
from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.data.s3 import S3Store
from tests.fakes.s3 import bucket_at, client_at

if TYPE_CHECKING:
    import pandas as pd

CREDENTIALS = SimpleNamespace(access_key="test", secret_key="test", token=None)


class DataRoot(ABC):
    """A store, and what lies below its root."""

    store: DataStore

    @abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Write a file by its full name below the root."""

    @abstractmethod
    def get(self, name: str) -> bytes:
        """A file's bytes."""

    @abstractmethod
    def names(self) -> list[str]:
        """Every file, hidden ones among them, sorted."""

    def land(self, uri: str, content: bytes | pd.DataFrame, **options: Any) -> None:
        """Put a file where the store looks for it, the way an upstream system would."""
        if not isinstance(content, bytes):
            buffer = io.BytesIO()
            content.to_parquet(buffer, **options)
            content = buffer.getvalue()
        self.put(uri, content)

    def find(self, ending: str) -> str:
        """The one file whose name ends like this."""
        (found,) = [name for name in self.names() if name.endswith(ending)]
        return found


class FolderRoot(DataRoot):
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = LocalStore(folder)

    def put(self, name: str, content: bytes) -> None:
        """Write it in place."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def get(self, name: str) -> bytes:
        """Read it."""
        return (self.folder / name).read_bytes()

    def names(self) -> list[str]:
        """Every file below."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


class BucketRoot(DataRoot):
    """A prefix in a bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client, self.bucket, self.prefix = client, bucket, "some/data/"
        self.store = S3Store(client, bucket, self.prefix, credentials=lambda: CREDENTIALS)

    def put(self, name: str, content: bytes) -> None:
        """One request."""
        self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}{name}", Body=content)

    def get(self, name: str) -> bytes:
        """One request."""
        answer = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}{name}")
        content: bytes = answer["Body"].read()
        return content

    def names(self) -> list[str]:
        """Every object below."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return sorted(one["Key"].removeprefix(self.prefix) for page in pages for one in page.get("Contents", ()))


@contextmanager
def bucket_root(address: str) -> Iterator[BucketRoot]:
    """A bucket of its own at a server's address."""
    client = client_at(address)
    try:
        yield BucketRoot(client, bucket_at(client))
    finally:
        client.close()
