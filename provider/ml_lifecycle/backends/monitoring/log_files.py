"""Predictions into the log a piece at a time: one file per day, however large, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.growing_parquet import GrowingParquet
from ml_lifecycle.backends.monitoring.prediction_log import Origin, Tree, by_day

if TYPE_CHECKING:
    import pyarrow as pa

MOST_OPEN: Final = 128
"""Files that are written side by side; of more days the tables are read again."""


def write_log_streamed(
    publish: Callable[[str, Callable[[Path], object]], None],
    tree: Tree,
    origin: Origin,
    tables: Callable[[], Iterator[pa.Table]],
) -> tuple[str, ...]:
    """As :func:`ml_lifecycle.backends.monitoring.prediction_log.write_log`, of more rows than memory holds.

    :param publish: Makes a file of this name appear whole, out of a local draft that is filled.
    :param tables: The same tables, as often as it is called.
    """
    written: dict[str, str] = {}
    is_more = True
    while is_more:
        with tempfile.TemporaryDirectory(prefix="ml-lifecycle-log-") as folder:
            drafts, is_more = _drafted(Path(folder), tables(), frozenset(written))
            for day, draft in sorted(drafts.items()):
                written[day] = f"{tree}/endpoint={origin.endpoint}/dt={day}/{origin.name}.parquet"
                publish(written[day], partial(shutil.copyfile, draft))
    return tuple(written[day] for day in sorted(written))


def _drafted(folder: Path, tables: Iterator[pa.Table], done: frozenset[str]) -> tuple[dict[str, Path], bool]:
    """A file for each of so many days that are not done, and whether there are more."""
    files: dict[str, GrowingParquet] = {}
    is_more = False
    try:
        for table in tables:
            for day, part in by_day(table):
                if day in done:
                    continue
                if day not in files and len(files) == MOST_OPEN:
                    is_more = True
                    continue
                files.setdefault(day, GrowingParquet(folder / f"{day}.parquet")).add(part)
    finally:
        for file in files.values():
            file.close()
    return {day: folder / f"{day}.parquet" for day in files}, is_more
