from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pyarrow as pa  # noqa: TID253  # as above
import pyarrow.parquet as pq  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.core.errors import PartitionMissingError, PartitionUnreadableError


def test_a_killed_publisher_leaves_nothing_that_is_seen(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from ml_lifecycle.backends.data.local import LocalStore\n"
        "def write(folder):\n"
        "    (folder / 'data.parquet').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "LocalStore(Path(sys.argv[1])).publish('results/2013-01', write)\n"
    )
    source_root = Path(sys.modules["ml_lifecycle"].__file__ or "").parent.parent

    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source_root, check=False, timeout=60)

    store = LocalStore(tmp_path)
    assert ended.returncode == -9
    assert store.published("results/2013-01") is None
    assert store.partitions("results/{{ partition }}") == ()


def test_a_folder_in_a_files_place_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "flights" / "2013-01.parquet").mkdir(parents=True)

    with pytest.raises(PartitionUnreadableError, match="is a folder"):
        LocalStore(tmp_path).read_table("flights/2013-01.parquet")


@pytest.mark.parametrize(
    ("there", "said"),
    [(None, "there is no folder"), ([], "holds no .parquet file"), (["2013-01"], "holds only 2013-01.parquet")],
)
def test_a_missing_file_says_what_lies_beside_it(tmp_path: Path, there: list[str] | None, said: str) -> None:
    if there is not None:
        (tmp_path / "flights").mkdir()
        for name in there:
            pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "flights" / f"{name}.parquet")

    with pytest.raises(PartitionMissingError, match=said):
        LocalStore(tmp_path).check_complete("flights/2013-09.parquet")


def test_a_csv_column_has_one_type_whatever_its_length(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("x\n" + "1\n" * 300_000 + "a\n")

    values = LocalStore(tmp_path).read_table("long.csv")["x"]

    assert values.map(type).unique().tolist() == [str]


def test_a_number_of_a_csv_file_is_the_one_that_was_written(tmp_path: Path) -> None:
    written = [0.1 + 0.2, 1 / 3, 0.84147098480789650665, 5e-324]
    (tmp_path / "rows.csv").write_text("x\n" + "".join(f"{number!r}\n" for number in written))

    assert LocalStore(tmp_path).read_table("rows.csv")["x"].tolist() == written


def test_a_file_with_a_column_twice_cannot_be_read(tmp_path: Path) -> None:
    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), tmp_path / "rows.parquet")

    with pytest.raises(PartitionUnreadableError, match="has the column 'x' twice"):
        LocalStore(tmp_path).read_table("rows.parquet")


def test_without_pyarrow_a_whole_file_is_told_from_a_cut_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"key": ["a", "b"]}).to_parquet(tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)

    LocalStore(tmp_path).check_complete("whole.parquet")

    with pytest.raises(PartitionUnreadableError, match="is truncated"):
        LocalStore(tmp_path).check_complete("cut.parquet")
