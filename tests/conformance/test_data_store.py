"""What every data store promises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest
from pyarrow.fs import FileSelector, FileType  # noqa: TID253  # as above

from ml_lifecycle.backends.data.base import DataStore
from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.monitoring.logged_answers import Answerer, newest_answers
from ml_lifecycle.backends.monitoring.prediction_log import Origin, prediction_table, write_log
from ml_lifecycle.core.errors import (
    DataError,
    DigestMismatchError,
    PartitionMissingError,
    PartitionUnreadableError,
)
from tests.fakes.data_roots import DataRoot, FolderRoot, bucket_root
from tests.fakes.s3 import s3_server

FLIGHTS = "flights/{{ partition }}.parquet"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, address: str) -> Iterator[DataRoot]:
    if request.param == "local":
        yield FolderRoot(tmp_path / "data")
        return
    with bucket_root(address) as found:
        yield found


@pytest.fixture
def store(root: DataRoot) -> DataStore:
    return root.store


@pytest.fixture
def land(root: DataRoot) -> Callable[[str, bytes | pd.DataFrame], None]:
    """Puts a file where the store looks for it, the way an upstream system would."""
    return root.land


Land = Callable[[str, bytes | pd.DataFrame], None]


def rows(count: int = 2) -> pd.DataFrame:
    table: pd.DataFrame = pd.DataFrame({"key": [f"k{number}" for number in range(count)], "x": range(count)})
    return table


def write_one(folder: Path) -> None:
    (folder / "a.txt").write_text("one")


def test_partitions_are_listed_in_order_without_half_written_files(store: DataStore, land: Land) -> None:
    for name in ("2013-02.parquet", "2013-01.parquet", ".2013-03.parquet.draft", "2013-04.csv", "notes.parquet.txt"):
        land(f"flights/{name}", b"x")

    assert store.partitions(FLIGHTS) == ("2013-01", "2013-02")


def test_partitions_may_be_folders_of_a_path(store: DataStore, land: Land) -> None:
    land("dt=2013-01/flights.csv", b"x")
    land("dt=2013-02/other.csv", b"x")

    assert store.partitions("dt={{ partition }}/flights.csv") == ("2013-01",)


def test_an_empty_store_has_no_partitions_and_no_state(store: DataStore) -> None:
    assert store.partitions(FLIGHTS) == ()
    assert store.state("flights/2013-01.parquet") is None


@pytest.mark.parametrize("name", ["counted.parquet", "counted.csv"])
def test_rows_and_the_values_of_a_column_are_counted(store: DataStore, land: Land, name: str) -> None:
    table = pd.DataFrame({"key": list("abcd"), "late": [1.0, None, 0.0, None], "empty": [None] * 4})
    land(name, table if name.endswith("parquet") else table.to_csv(index=False).encode())

    counted = {column: store.count_rows(name, column) for column in (None, "key", "late", "empty", "absent")}

    assert counted == {None: 4, "key": 4, "late": 2, "empty": 0, "absent": 0}


def test_values_are_counted_where_the_footer_does_not_say_how_many_are_missing(
    store: DataStore, root: DataRoot
) -> None:
    root.land("plain.parquet", pd.DataFrame({"late": [1.0, None, 0.0]}), write_statistics=False)

    assert store.count_rows("plain.parquet", "late") == 2


def test_rows_of_a_file_that_is_broken_or_absent_are_not_counted(store: DataStore, land: Land) -> None:
    land("broken.parquet", b"PAR1 and no more")

    with pytest.raises(PartitionUnreadableError):
        store.count_rows("broken.parquet")
    with pytest.raises(PartitionMissingError):
        store.count_rows("absent.parquet")


def test_a_files_state_is_its_size_and_time(store: DataStore, land: Land) -> None:
    land("flights/2013-01.csv", b"a\n1\n")

    state = store.state("flights/2013-01.csv")

    assert state is not None
    assert state.size == 4
    assert state.modified_at > 1_000_000_000


def test_a_table_reads_the_same_from_parquet_and_csv(store: DataStore, land: Land) -> None:
    land("flights/2013-01.parquet", rows())
    land("flights/2013-01.csv", b"key,x\nk0,0\nk1,1\n")

    pd.testing.assert_frame_equal(store.read_table("flights/2013-01.parquet"), store.read_table("flights/2013-01.csv"))


def test_a_missing_file_is_told_with_what_is_there(store: DataStore, land: Land) -> None:
    land("flights/2013-01.parquet", rows())
    land("flights/2013-02.parquet", rows())

    with pytest.raises(PartitionMissingError) as missing:
        store.read_table("flights/2013-03.parquet")

    assert "flights/2013-03.parquet" in str(missing.value)
    assert "2013-01.parquet to 2013-02.parquet (2 files)" in str(missing.value)


def broken_files() -> list[tuple[str, bytes, str]]:
    import io

    buffer = io.BytesIO()
    rows(500).to_parquet(buffer)
    whole = buffer.getvalue()
    garbled = whole[:-40] + b"\xff" * 32 + whole[-8:]
    empty = io.BytesIO()
    rows(0).to_parquet(empty)
    return [
        ("empty.parquet", b"", "is empty"),
        ("text.parquet", b"key,x\nk0,0\n", "is not parquet"),
        ("tiny.parquet", b"PAR1", "is truncated"),
        ("cut.parquet", whole[:-1], "is truncated"),
        ("half.parquet", whole[: len(whole) // 2], "is truncated"),
        ("lying.parquet", b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1", "is truncated"),
        ("garbled.parquet", garbled, "has a broken parquet footer"),
        ("norows.parquet", empty.getvalue(), "has no row"),
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\nk0,0\n", "has no header"),
        ("header.csv", b"key,x\n", "has a header and no row"),
        ("cut.csv", b"key,x\nk0,0\nk1", "is truncated"),
        ("table.xlsx", b"PK", "are not read"),
    ]


@pytest.mark.parametrize(("name", "content", "message"), broken_files(), ids=lambda value: str(value)[:20])
def test_an_incomplete_file_is_refused_by_its_ends(
    store: DataStore, land: Land, name: str, content: bytes, message: str
) -> None:
    land(f"flights/{name}", content)

    for look in (store.check_complete, store.read_table):
        with pytest.raises(PartitionUnreadableError, match=message) as refused:
            look(f"flights/{name}")
        assert f"flights/{name}" in str(refused.value)


@pytest.mark.parametrize("content", [b"a,b\n1,2,3\n4\n5,6,7,8\n", b'a,b\n"1,2\n', b"a,b\n\xff\xfe,1\n"])
def test_a_csv_that_is_no_table_is_refused_without_a_foreign_error(
    store: DataStore, land: Land, content: bytes
) -> None:
    land("flights/bad.csv", content)

    with pytest.raises(PartitionUnreadableError, match="cannot be read as csv"):
        store.read_table("flights/bad.csv")


def test_a_parquet_file_with_spoilt_rows_is_refused_without_a_foreign_error(store: DataStore, root: DataRoot) -> None:
    root.land("flights/2013-01.parquet", rows(5000))
    content = bytearray(root.get("flights/2013-01.parquet"))
    content[4:200] = b"\xff" * 196
    root.put("flights/2013-01.parquet", bytes(content))

    with pytest.raises(PartitionUnreadableError, match="cannot be read as parquet"):
        store.read_table("flights/2013-01.parquet")


def test_publishing_twice_does_what_publishing_once_does(store: DataStore) -> None:
    first = store.publish("results/one", write_one)

    again = store.publish("results/one", lambda _: pytest.fail("written again"))

    assert first == again == store.published("results/one")


def test_a_failed_publication_leaves_nothing(store: DataStore, root: DataRoot) -> None:
    def fails(folder: Path) -> None:
        write_one(folder)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.publish("results/one", fails)

    assert store.published("results/one") is None
    assert root.names() == []


def test_concurrent_publishers_agree_on_one_result(store: DataStore) -> None:
    start = threading.Barrier(4)
    digests: list[str] = []

    def publish(number: int) -> None:
        def write(folder: Path) -> None:
            start.wait(timeout=10)
            (folder / "who").write_text(str(number))

        digests.append(store.publish("results/one", write))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)

    assert len(digests) == 4
    assert set(digests) == {store.published("results/one")}


def test_a_folder_is_handed_out_only_with_the_bytes_that_its_digest_names(store: DataStore, root: DataRoot) -> None:
    digest = store.publish("results/one", write_one)
    with store.folder("results/one", digest) as folder:
        text = (folder / "a.txt").read_text()
    root.put(root.find("a.txt"), b"owe")

    with pytest.raises(DigestMismatchError), store.folder("results/one", digest):
        pass
    assert text == "one"


def test_what_is_not_published_cannot_be_opened(store: DataStore) -> None:
    with pytest.raises(PartitionMissingError, match="nothing is published here"), store.folder("results/none"):
        pass


def refuse_everywhere(store: DataStore, uri: str) -> None:
    for use in (store.state, store.check_complete, store.read_table, store.file_digest, store.published, store.discard):
        with pytest.raises(DataError):
            use(uri)
    with pytest.raises(DataError):
        store.publish(uri, write_one)
    for hand_out in (store.folder, store.file):
        with pytest.raises(DataError), hand_out(uri):
            pass


@pytest.mark.parametrize("uri", ["../secret", "/etc/passwd", "a/../../b", ".hidden", "a//b", "a/", ""])
def test_nothing_is_read_or_written_outside_the_root(store: DataStore, root: DataRoot, uri: str) -> None:
    refuse_everywhere(store, uri)

    assert root.names() == []


def test_no_link_leads_out_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")

    refuse_everywhere(LocalStore(tmp_path / "data"), "link/file.csv")

    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_of_a_published_folder_is_found_by_its_name(store: DataStore) -> None:
    store.publish("results/one", write_one)

    state = store.state("results/one/a.txt")

    assert state is not None
    assert state.size == 3
    # sha256 of b"one"
    assert store.file_digest("results/one/a.txt") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_columns_may_be_read_alone(store: DataStore, land: Land, ending: str) -> None:
    table = rows(3)
    land(f"flights/2013-01.{ending}", table if ending == "parquet" else table.to_csv(index=False).encode())

    some, none = (store.read_table(f"flights/2013-01.{ending}", names) for names in (["x", "absent"], ["absent"]))

    assert some["x"].tolist() == [0, 1, 2]
    assert list(some.columns) == ["x"]
    assert list(none.columns) == []


def test_a_file_is_written_over_what_was_there(store: DataStore) -> None:
    store.write_file("provenance/flights/1.json", b"one")
    store.write_file("provenance/flights/1.json", b"two")

    # sha256 of b"two"
    assert store.file_digest("provenance/flights/1.json") == (
        "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
    )
    with pytest.raises(DataError):
        store.write_file("../1.json", b"three")


def test_a_file_is_handed_out_as_a_path_for_whoever_reads_it_piece_by_piece(store: DataStore, land: Land) -> None:
    land("flights/2013-01.csv", b"a\n1\n")

    with store.file("flights/2013-01.csv") as path:
        content = path.read_bytes()

    assert content == b"a\n1\n"
    with pytest.raises(PartitionMissingError, match="is not there"), store.file("flights/2013-02.csv"):
        pass
    with pytest.raises(DataError), store.file("../2013-01.csv"):
        pass


def test_a_large_file_appears_whole_or_not_at_all(store: DataStore, tmp_path: Path) -> None:
    def fails(draft: Path) -> None:
        draft.write_bytes(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.publish_file("log/one.parquet", fails)
    nothing = store.state("log/one.parquet")
    store.publish_file("log/one.parquet", lambda draft: draft.write_bytes(b"one"))
    store.publish_file("log/one.parquet", lambda draft: draft.write_bytes(b"two"))

    assert nothing is None
    with store.file("log/one.parquet") as path:
        assert path.read_bytes() == b"two"
    with pytest.raises(DataError):
        store.publish_file("../one.parquet", fails)


def test_unfinished_work_is_discarded_with_all_below_it_and_nothing_beside_it(store: DataStore) -> None:
    for uri in ("unfinished/a/one", "unfinished/a/two", "unfinished/ab/one"):
        store.publish(uri, write_one)

    for _ in range(2):
        store.discard("unfinished/a")

    assert [store.published(f"unfinished/{name}") for name in ("a/one", "a/two")] == [None, None]
    assert store.published("unfinished/ab/one") is not None
    with pytest.raises(DataError):
        store.discard("../elsewhere")


def test_readers_of_many_small_files_find_what_was_written(store: DataStore) -> None:
    store.write_file("log/day=1/one.txt", b"one")
    store.write_file("log/day=2/two.txt", b"two")

    system, base = store.filesystem("log")

    found = system.get_file_info(FileSelector(base, recursive=True))
    files = sorted(one.path for one in found if one.type == FileType.File)
    assert [path.removeprefix(f"{base}/") for path in files] == ["day=1/one.txt", "day=2/two.txt"]
    with system.open_input_stream(files[1]) as stream:
        assert stream.read() == b"two"
    with pytest.raises(DataError):
        store.filesystem("../elsewhere")


def test_the_prediction_log_is_read_wherever_the_store_keeps_it(store: DataStore) -> None:
    origin = Origin(endpoint="flights", partition="2013-01", model_digest="1" * 64, model_version=1)
    table = pd.DataFrame({"key": ["a", "b"], "at": ["2013-01-01T07:00Z", "2013-01-02T07:00Z"], "score": [0.1, 0.9]})
    logged = prediction_table(table, origin, key="key", time="at", inputs=pd.DataFrame({"hour": [7.0, 8.0]}))
    write_log(lambda name, content: store.write_file(f"log/{name}", content), "predictions", origin, logged)

    found = newest_answers([store.filesystem("log")], "flights", Answerer("1" * 64, 1), count=5)
    none = newest_answers([store.filesystem("log")], "trains", Answerer("1" * 64, 1), count=5)

    assert found[["score", "input_hour"]].to_numpy().tolist() == [[0.1, 7.0], [0.9, 8.0]]
    assert none.empty
