"""Folders that are named by their bytes, and paths that stay below their root."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ml_lifecycle.core.contracts import digest_of
from ml_lifecycle.core.errors import DataError, DigestMismatchError, MissingLibraryError

if TYPE_CHECKING:
    import pandas as pd

_PART = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.,=@+-]{0,199}")
_ABANDONED_S = 86400.0


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of_folder(folder: Path) -> str:
    """SHA-256 over the canonical JSON of the folder's manifest: ``[{path, size, sha256}, ...]``, sorted by path.

    :raises DataError: the folder holds a link or anything else that is not a plain file or folder: such an entry can
        change what it holds without a change of its own bytes.
    """
    return digest_of(manifest_of(folder))


def manifest_of(folder: Path) -> list[dict[str, Any]]:
    """Every file below a folder as ``{path, size, sha256}``, sorted by path.

    :raises DataError: the folder holds a link or a special file.
    """
    manifest = [
        {"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": file_digest(path)}
        for path in _files(folder)
    ]
    return sorted(manifest, key=lambda entry: str(entry["path"]))


def verify_folder(folder: Path, digest: str, *, where: str) -> None:
    """Refuse a folder whose bytes are not what the digest says.

    :param where: What a person calls the folder.
    :raises DigestMismatchError: they differ.
    """
    found = digest_of_folder(folder)
    if found != digest:
        raise DigestMismatchError(
            "the folder",
            expected=digest,
            found=found,
            where=where,
            way_out="its files were changed after they were published; restore them, or run the stage that made them",
        )


def parts_of(uri: str, *, where: str) -> list[str]:
    """The names that a uri joins, none of which leads out of where it begins.

    :param where: What a person calls that.
    :raises DataError: the uri is absolute, or holds ``..`` or an unusual character.
    """
    parts = uri.split("/")
    if not all(_PART.fullmatch(part) for part in parts):
        raise DataError(
            f"{uri!r} is no path below the data root",
            where=where,
            way_out="join names of letters, digits and _.,=@+- by '/'; no leading '/', no '..', no hidden names",
        )
    return parts


def inside(root: Path, uri: str) -> Path:
    """The path of ``uri`` below ``root``, which no name and no link leads out of.

    :raises DataError: the uri is absolute, holds ``..`` or an unusual character, or a link leads elsewhere.
    """
    parts = parts_of(uri, where=str(root))
    base = root.resolve()
    path = base.joinpath(*parts)
    if not path.resolve().is_relative_to(base):
        raise DataError(
            f"a link in {uri!r} leads out of the data root",
            where=str(root),
            way_out="put the files below the data root",
        )
    return path


def publish_folder(target: Path, write: Callable[[Path], None]) -> bool:
    """Let ``write`` fill an empty folder, and make it appear as ``target`` whole or not at all.

    Returns ``False``, with what was written thrown away, where another publisher came first.

    :raises DataError: ``write`` left the folder empty, or something that is no folder lies at ``target``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    # The leading dot keeps a half-written folder out of every listing, and `inside` refuses its name.
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".draft", dir=target.parent))
    try:
        write(draft)
        if not any(_files(draft)):
            raise DataError("nothing was written to publish", where=str(target), way_out="write at least one file")
        draft.chmod(0o755)
        _flush(draft)
        return _rename(draft, target)
    finally:
        # After a successful rename nothing is left here; else the draft must not stay behind.
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove what publishers of this target left that were killed; one that still writes is never that old."""
    for draft in target.parent.glob(f".{target.name[:100]}.*.draft"):
        with suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(draft, ignore_errors=True)


def remove_folder(target: Path) -> None:
    """Let a folder disappear at once, and then its files; where none is there, nothing is done.

    :raises DataError: something that is no folder lies there.
    """
    # The name is a draft's: what a killed remover leaves is swept as abandoned drafts are.
    away = target.parent / f".{target.name[:100]}.{uuid4().hex}.draft"
    try:
        target.rename(away)
    except FileNotFoundError:
        return
    if not away.is_dir():
        away.rename(target)
        raise DataError("a file lies where a folder is to be removed", where=str(target), way_out="move it away")
    shutil.rmtree(away, ignore_errors=True)


def publish_file(target: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file, and make it appear as ``target`` whole or not at all, over what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".draft", dir=target.parent)
    os.close(handle)
    draft = Path(name)
    try:
        write(draft)
        draft.chmod(0o644)
        _fsync(draft)
        draft.replace(target)
        _fsync(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """One parquet file as a table with a plain row index and texts as column names.

    :param columns: Only those of them that the file has; ``None`` for all.
    :raises MissingLibraryError: pandas or pyarrow is not installed.
    """
    try:
        import pandas as pd
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingLibraryError(error.name or "pyarrow", "pandas") from None
    # pandas.read_parquet would take column values out of folder names such as dt=2013-01.
    with pq.ParquetFile(path) as file:
        names = None if columns is None else [name for name in file.schema_arrow.names if name in columns]
        table: pd.DataFrame = file.read(names).to_pandas()
    table = table if isinstance(table.index, pd.RangeIndex) else table.reset_index()
    table.columns = [str(name) for name in table.columns]
    return table


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """The table's columns, without its index: the same table gives the same bytes.

    :raises DataError: a column holds values that parquet has no type for.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingLibraryError(error.name or "pyarrow", "pandas") from None
    try:
        converted = pa.Table.from_pandas(table, preserve_index=False)
    except pa.ArrowException as error:
        raise DataError(
            f"the table cannot be written as parquet ({str(error)[:200]})",
            where=str(path.name),
            way_out="give every value of a column the same type",
        ) from error
    pq.write_table(converted, path, compression="zstd")


def _files(folder: Path) -> Iterator[Path]:
    """Every file below the folder, in no order; links and special files are refused."""
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        path = Path(entry.path)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _files(path)
        elif stat.S_ISREG(mode):
            yield path
        else:
            raise DataError(
                f"{entry.name!r} is a link or a special file", where=str(folder), way_out="publish plain files only"
            )


def _flush(folder: Path) -> None:
    for path in _files(folder):
        _fsync(path)
    for name, _, _ in os.walk(folder):
        _fsync(Path(name))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(draft: Path, target: Path) -> bool:
    try:
        draft.rename(target)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        if error.errno == errno.ENOTDIR:
            raise DataError(
                "a file lies where a folder is to be published", where=str(target), way_out="move it away"
            ) from None
        raise
    with suppress(OSError):
        # The folder has appeared; a parent that cannot be flushed must not turn that into a failure.
        _fsync(target.parent)
    return True
