"""What readers of a bucket may see, and what becomes of S3's refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.data.s3 import MARKER, S3Store
from ml_lifecycle.backends.s3 import s3_errors, split_address
from ml_lifecycle.core.errors import (
    ConfigurationError,
    DataError,
    DigestMismatchError,
    PartitionUnreadableError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from tests.fakes.data_roots import BucketRoot, bucket_root
from tests.fakes.s3 import client_at, s3_server

ONE = "results/one"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture
def root(address: str) -> Iterator[BucketRoot]:
    with bucket_root(address) as found:
        yield found


def write(text: str) -> Any:
    return lambda folder: (folder / "a.txt").write_text(text)


def markers(root: BucketRoot) -> list[str]:
    return [name for name in root.names() if name.endswith(MARKER)]


# --- What readers see ------------------------------------------------------------------------------------------------


def test_until_the_marker_is_there_nothing_is_published(root: BucketRoot) -> None:
    root.store.publish(ONE, write("one"))
    (marker,) = markers(root)
    content = root.get(marker)
    root.client.delete_object(Bucket=root.bucket, Key=f"{root.prefix}{marker}")

    before = root.store.published(ONE), root.store.state(f"{ONE}/a.txt")
    root.put(marker, content)

    assert before == (None, None)
    assert root.store.published(ONE) is not None


def test_a_publisher_that_was_killed_leaves_nothing_that_counts_and_the_next_one_removes_it(root: BucketRoot) -> None:
    root.put(f"{ONE}/{'0' * 16}/a.txt", b"half")

    digest = root.store.publish(ONE, write("one"))

    assert len(root.names()) == 2
    with root.store.folder(ONE, digest) as folder:
        assert (folder / "a.txt").read_text() == "one"


def test_whoever_comes_second_gets_the_first_ones_result_and_removes_its_own(root: BucketRoot, address: str) -> None:
    with_another = S3Store(client_at(address), root.bucket, root.prefix)
    made: list[str] = []

    def slow(folder: Path) -> None:
        write("late")(folder)
        made.append(with_another.publish(ONE, write("first")))

    digest = root.store.publish(ONE, slow)
    with_another.client.close()

    assert made == [digest]
    assert len(root.names()) == 2
    with root.store.folder(ONE, digest) as folder:
        assert (folder / "a.txt").read_text() == "first"


def test_a_published_file_that_somebody_changes_changes_the_digest(root: BucketRoot) -> None:
    digest = root.store.publish(ONE, write("one"))
    name = root.find("a.txt")

    root.put(name, b"owe")
    changed = root.store.published(ONE)
    root.put(name, b"one")

    assert changed not in (None, digest)
    assert root.store.published(ONE) == digest


@pytest.mark.parametrize("extra", ["b.txt", "deeper/b.txt"])
def test_a_published_folder_that_somebody_adds_to_is_refused(root: BucketRoot, extra: str) -> None:
    digest = root.store.publish(ONE, write("one"))
    root.put(f"{root.find('a.txt').removesuffix('a.txt')}{extra}", b"more")

    with pytest.raises(DigestMismatchError), root.store.folder(ONE, digest):
        pass


@pytest.mark.parametrize("name", ["../../x", "", "b..", "..", "A" * 16, "0" * 15])
def test_a_marker_that_names_another_place_is_refused(root: BucketRoot, name: str) -> None:
    root.store.publish(ONE, write("one"))
    (marker,) = markers(root)
    root.put(marker, f'{{"folder": "{name}"}}'.encode())

    for use in (root.store.published, lambda uri: root.store.publish(uri, write("two"))):
        with pytest.raises(DataError, match="not what was published"):
            use(ONE)


def test_a_key_that_leads_out_of_the_folder_is_not_fetched(root: BucketRoot) -> None:
    root.store.publish(ONE, write("one"))
    root.put(f"{root.find('a.txt').removesuffix('a.txt')}../../../evil", b"x")

    with pytest.raises(DataError, match="no path below the data root"), root.store.folder(ONE):
        pass


def test_a_discarded_folder_is_gone_whole_with_its_markers_first(root: BucketRoot) -> None:
    for name in ("a", "b"):
        root.store.publish(f"unfinished/{name}", write(name))
    removed: list[list[str]] = []
    delete = root.client.delete_objects

    def listed(**asked: Any) -> Any:
        removed.append([one["Key"] for one in asked["Delete"]["Objects"]])
        return delete(**asked)

    root.client.delete_objects = listed

    root.store.discard("unfinished")

    assert [all(key.endswith(MARKER) for key in keys) for keys in removed] == [True, False]
    assert root.names() == []


# --- Files -----------------------------------------------------------------------------------------------------------


def test_only_the_ends_of_a_large_file_are_fetched_to_see_that_it_is_whole(root: BucketRoot) -> None:
    import numpy as np

    table = pd.DataFrame({"x": np.random.default_rng(0).normal(size=400_000), "late": [1.0, None] * 200_000})
    root.land("large.parquet", table, row_group_size=50_000)
    fetched: list[str] = []
    get = root.client.get_object

    def listed(**asked: Any) -> Any:
        fetched.append(asked["Range"])
        return get(**asked)

    root.client.get_object = listed

    root.store.check_complete("large.parquet")
    counted = root.store.count_rows("large.parquet", "late")

    size = root.store.state("large.parquet")
    assert counted == 200_000
    assert size is not None
    assert size.size > 3_000_000
    assert len(fetched) == 4
    assert {one.partition("-")[0] for one in fetched} == {"bytes=0", f"bytes={size.size - (1 << 20)}"}


def test_a_footer_larger_than_a_files_end_is_read_whole(root: BucketRoot) -> None:
    table = pd.DataFrame({f"{'column' * 40}{number}": [1.0, 2.0] for number in range(3000)})
    root.land("wide.parquet", pd.concat([table] * 2), row_group_size=1)

    root.store.check_complete("wide.parquet")

    assert root.store.count_rows("wide.parquet") == 4


def test_an_upload_of_many_parts_appears_at_its_end(root: BucketRoot) -> None:
    size = 20_000_000

    root.store.publish_file("log/one.parquet", lambda draft: draft.write_bytes(size * b"x"))

    state = root.store.state("log/one.parquet")
    assert state is not None
    assert state.size == size


def test_readers_of_many_files_get_a_file_system(root: BucketRoot) -> None:
    for day in ("01", "02"):
        root.land(f"log/dt={day}/a.parquet", pd.DataFrame({"x": [1, 2]}))
    import pyarrow.dataset as ds

    files, path = root.store.filesystem("log")

    assert ds.dataset(path, filesystem=files, partitioning="hive").count_rows() == 4
    with pytest.raises(DataError):
        root.store.filesystem("../log")


def test_a_store_without_credentials_says_so(root: BucketRoot) -> None:
    with pytest.raises(ConfigurationError, match="no credentials"):
        S3Store(root.client, root.bucket).filesystem("log")


def test_errors_name_the_object_and_no_file_of_this_machine(root: BucketRoot) -> None:
    root.put("flights/2013-01.parquet", b"PAR1 and no more")

    with pytest.raises(PartitionUnreadableError) as refused:
        root.store.read_table("flights/2013-01.parquet")

    assert str(refused.value).startswith(f"s3://{root.bucket}/some/data/flights/2013-01.parquet: ")
    assert "/tmp" not in str(refused.value)  # noqa: S108  # what must not be shown


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, ServiceRefusedError),
        ("NoSuchBucket", 404, ServiceRefusedError),
        ("SlowDown", 503, ServiceUnavailableError),
        ("InternalError", 500, ServiceUnavailableError),
        ("RequestTimeout", 400, ServiceUnavailableError),
        ("Throttled", 429, ServiceUnavailableError),
    ],
)
def test_what_may_pass_is_told_from_what_stays(code: str, status: int, kind: type[Exception]) -> None:
    from botocore.exceptions import ClientError

    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    with pytest.raises(kind, match=code), s3_errors("s3://bucket/x"):
        raise ClientError(answer, "GetObject")


def test_a_bucket_that_is_not_there_and_a_server_that_is_down_are_told_apart(address: str) -> None:
    for place, kind in ((address, ServiceRefusedError), ("http://127.0.0.1:9", ServiceUnavailableError)):
        store = S3Store(client_at(place), "no-such-bucket")
        with pytest.raises(kind):
            store.write_file("a.txt", b"x")
        with pytest.raises(kind):
            store.publish_file("a.txt", lambda draft: draft.write_bytes(b"x"))
        store.client.close()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://my.bucket-1/a/b", ("my.bucket-1", "a/b/")),
        ("s3://bucket/a/b/", ("bucket", "a/b/")),
    ],
)
def test_an_address_is_a_bucket_and_a_prefix(text: str, parts: tuple[str, str]) -> None:
    assert split_address(text) == parts
