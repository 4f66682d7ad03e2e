"""Where a channel lies: a folder that apps see, or a bucket."""

from __future__ import annotations

import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ml_lifecycle.backends.files import inside, publish_file
from ml_lifecycle.backends.s3 import ANOTHER_WAS_FIRST, NOTHING_THERE, is_address, s3_errors, split_address

_LOCK: Final = ".lock"


class ChannelPlace(ABC):
    """A few files side by side, which appear whole or not at all."""

    @property
    @abstractmethod
    def where(self) -> str:
        """What a person calls it."""

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Its files, sorted."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A file's bytes, or ``None`` where there is none."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """A file's bytes, counted; ``None`` where there is none."""

    @abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Write a file over what was there."""

    @abstractmethod
    def swap(self, name: str, before: bytes | None, after: bytes) -> bool:
        """Write a file if it still holds ``before`` (``None``: if there is none); tells whether it did."""

    @abstractmethod
    def clear(self) -> None:
        """Remove every file."""


def place_at(folder: str, *parts: str, client: Any = None) -> ChannelPlace:
    """The place below a folder, or below an address such as ``s3://bucket/prefix``.

    :param client: boto3's for ``s3``, where it is an address.
    """
    if not is_address(folder):
        return FolderPlace(Path(folder).joinpath(*parts))
    bucket, prefix = split_address(folder)
    return BucketPlace(client, bucket, prefix + "".join(f"{part}/" for part in parts))


class FolderPlace(ChannelPlace):
    """A folder on a disk; writers wait for each other, readers never."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    def names(self) -> tuple[str, ...]:
        """Its files, without hidden ones."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(one.name for one in self.folder.iterdir() if one.is_file() and one.name[0] != "."))

    def read(self, name: str) -> bytes | None:
        """A file's bytes; a link is no file of ours."""
        path = inside(self.folder, name)
        try:
            return path.read_bytes() if not path.is_symlink() else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def size(self, name: str) -> int | None:
        """A file's bytes, counted."""
        path = inside(self.folder, name)
        return path.stat().st_size if path.is_file() and not path.is_symlink() else None

    def put(self, name: str, content: bytes) -> None:
        """Write a draft beside it, and rename it."""
        publish_file(inside(self.folder, name), lambda draft: draft.write_bytes(content))

    def swap(self, name: str, before: bytes | None, after: bytes) -> bool:
        """Compare and write under a lock."""
        with self._locked():
            if self.read(name) != before:
                return False
            self.put(name, after)
            return True

    def clear(self) -> None:
        """Remove its files, and the folder where nothing else lies in it."""
        with self._locked():
            for name in self.names():
                (self.folder / name).unlink()
            with suppress(OSError):
                self.folder.rmdir()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Beside the folder: whoever clears it must not remove what others wait for.
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder.parent / f".{self.folder.name}{_LOCK}", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


class BucketPlace(ChannelPlace):
    """Objects below a prefix. S3 itself compares when it writes (``If-Match``, ``If-None-Match``).

    See https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix

    @property
    def where(self) -> str:
        """The address."""
        return f"s3://{self.bucket}/{self.prefix}"

    def names(self) -> tuple[str, ...]:
        """Its objects, without those in folders below it."""
        with s3_errors(self.where):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
            keys = [one["Key"].removeprefix(self.prefix) for page in pages for one in page.get("Contents", ())]
        return tuple(sorted(key for key in keys if "/" not in key))

    def read(self, name: str) -> bytes | None:
        """An object's bytes."""
        return self._get(name)[0]

    def size(self, name: str) -> int | None:
        """An object's bytes, counted."""
        with s3_errors(self.where, *NOTHING_THERE):
            return int(self.client.head_object(**self._at(name))["ContentLength"])
        return None

    def put(self, name: str, content: bytes) -> None:
        """One request: an object appears whole."""
        with s3_errors(self.where):
            self.client.put_object(**self._at(name), Body=content)

    def swap(self, name: str, before: bytes | None, after: bytes) -> bool:
        """S3 writes only over the object that was compared."""
        found, tag = self._get(name)
        if found != before:
            return False
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        with s3_errors(self.where, *ANOTHER_WAS_FIRST, *NOTHING_THERE) as refused:
            self.client.put_object(**self._at(name), Body=after, **condition)
        return not refused

    def clear(self) -> None:
        """Remove every object."""
        for name in self.names():
            with s3_errors(self.where):
                self.client.delete_object(**self._at(name))

    def _get(self, name: str) -> tuple[bytes | None, str | None]:
        with s3_errors(self.where, *NOTHING_THERE):
            answer = self.client.get_object(**self._at(name))
            return answer["Body"].read(), answer["ETag"]
        return None, None

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}{name}"}
