from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.files import (
    digest_of_folder,
    file_digest,
    inside,
    publish_file,
    publish_folder,
    read_parquet,
    verify_folder,
    write_parquet,
)
from ml_lifecycle.core.errors import DataError, DigestMismatchError


def filled(folder: Path) -> Path:
    (folder / "b").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"one")
    (folder / "b" / "c.txt").write_bytes(b"two")
    return folder


def test_a_folders_digest_is_that_of_its_sorted_manifest(tmp_path: Path) -> None:
    folder = filled(tmp_path / "folder")
    one, two = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()
    manifest = f'[{{"path":"a.txt","sha256":"{one}","size":3}},{{"path":"b/c.txt","sha256":"{two}","size":3}}]'

    assert digest_of_folder(folder) == hashlib.sha256(manifest.encode()).hexdigest()


def test_a_digest_follows_names_and_bytes_but_not_times(tmp_path: Path) -> None:
    first, second = filled(tmp_path / "first"), filled(tmp_path / "second")
    os.utime(second / "a.txt", (0, 0))
    same = digest_of_folder(first) == digest_of_folder(second)

    (second / "a.txt").rename(second / "A.txt")

    assert same
    assert digest_of_folder(first) != digest_of_folder(second)


def test_a_file_as_large_as_several_blocks_has_its_plain_digest(tmp_path: Path) -> None:
    content = b"x" * (2**20 + 1)
    (tmp_path / "file").write_bytes(content)

    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("kind", ["link", "linked folder", "pipe"])
def test_links_and_special_files_have_no_digest(tmp_path: Path, kind: str) -> None:
    folder = filled(tmp_path / "folder")
    if kind == "pipe":
        os.mkfifo(folder / "odd")
    else:
        (folder / "odd").symlink_to(folder / ("a.txt" if kind == "link" else "b"))

    with pytest.raises(DataError, match="'odd' is a link or a special file"):
        digest_of_folder(folder)


def test_changed_bytes_are_told_from_what_was_published(tmp_path: Path) -> None:
    folder = filled(tmp_path / "folder")
    digest = digest_of_folder(folder)
    verify_folder(folder, digest, where="here")
    (folder / "a.txt").write_bytes(b"owe")

    with pytest.raises(DigestMismatchError, match=f"expected {digest[:12]}"):
        verify_folder(folder, digest, where="here")


@pytest.mark.parametrize(
    "uri",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", ".hidden", "a/\n", "~/x", "a\\b", "ä", "a/", "a" * 201],
)
def test_no_name_leads_out_of_the_root(tmp_path: Path, uri: str) -> None:
    with pytest.raises(DataError, match="is no path below the data root"):
        inside(tmp_path, uri)


def test_no_link_leads_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")

    with pytest.raises(DataError, match="leads out of the data root"):
        inside(tmp_path / "root", "link/file.csv")


def test_a_root_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")

    assert inside(tmp_path / "root", "origin=JFK/2013-01-31T07.csv") == tmp_path / "disk/origin=JFK/2013-01-31T07.csv"


def test_a_folder_that_failed_half_way_is_never_seen(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        publish_folder(tmp_path / "below" / "result", write)

    assert list((tmp_path / "below").iterdir()) == []


def test_nothing_written_is_nothing_published(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing was written"):
        publish_folder(tmp_path / "result", lambda folder: (folder / "empty").mkdir())

    assert list(tmp_path.iterdir()) == []


def test_of_two_publishers_the_first_wins_and_the_other_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "result"

    def fast(folder: Path) -> None:
        (folder / "who").write_text("fast")

    def slow(folder: Path) -> None:
        (folder / "who").write_text("slow")
        assert publish_folder(target, fast)

    won = publish_folder(target, slow)

    assert not won
    assert (target / "who").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_file_in_the_folders_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "result").write_text("mine")

    with pytest.raises(DataError, match="a file lies where a folder is to be published"):
        publish_folder(tmp_path / "result", filled_in)

    assert (tmp_path / "result").read_text() == "mine"


def filled_in(folder: Path) -> None:
    (folder / "file").write_text("text")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"

    def writes(path: Path) -> None:
        path.write_text("first")

    def fails(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError

    publish_file(target, writes)
    with pytest.raises(RuntimeError):
        publish_file(target, fails)

    assert target.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})

    write_parquet(table, tmp_path / "one.parquet")
    write_parquet(table.set_axis([5, 6]), tmp_path / "two.parquet")

    assert file_digest(tmp_path / "one.parquet") == file_digest(tmp_path / "two.parquet")


def test_an_index_that_was_stored_comes_back_as_a_column(tmp_path: Path) -> None:
    folder = tmp_path / "dt=2013-01"
    folder.mkdir()
    pd.DataFrame({7: [1]}, index=pd.Index(["x"], name="key")).to_parquet(folder / "file.parquet")

    assert read_parquet(folder / "file.parquet").to_dict("list") == {"key": ["x"], "7": [1]}


def test_a_table_that_parquet_cannot_hold_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written as parquet"):
        write_parquet(pd.DataFrame({"a": [1, "x", [2]]}), tmp_path / "file.parquet")


def test_what_a_killed_publisher_left_is_removed_by_a_later_one_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    old, busy = tmp_path / ".scored.a1b2.draft", tmp_path / ".scored.c3d4.draft"
    for draft in (old, busy):
        draft.mkdir()
        (draft / "half").write_text("of it")
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))

    publish_folder(tmp_path / "scored", lambda folder: write_parquet(pd.DataFrame({"a": [1]}), folder / "a.parquet"))

    assert sorted(path.name for path in tmp_path.iterdir()) == [busy.name, "scored"]
