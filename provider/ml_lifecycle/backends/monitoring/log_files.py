"""Predictions into the log a piece at a time: one file per day, however large, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ml_lifecycle.backends.growing_parquet import GrowingParquet
from ml_lifecycle.backends.monitoring.prediction_log import Origin, Tree, by_day

if TYPE_CHECKING:
    import pyarrow as pa

Publish: TypeAlias = Callable[[str, Callable[[Path], object]], None]
_DISTINCT: Final = ("prediction_id", "key")
MOST_OPEN: Final = 128
"""Files that are written side by side; of more days the tables are read again."""


class DailyDrafts:
    """Files of the log that are written piece by piece into a folder of this machine, one per day.

    :param done: Days that are left out.
    """

    def __init__(self, folder: Path, done: Collection[str] = ()) -> None:
        self._folder, self._done = folder, done
        self._files: dict[str, GrowingParquet] = {}
        self.is_whole = True
        """Whether every day has a file, but those that are left out; they may be more than can be open."""

    def add(self, table: pa.Table) -> None:
        """Write some rows, each into its day's file."""
        for day, part in by_day(table):
            if day in self._done:
                continue
            if day not in self._files and len(self._files) == MOST_OPEN:
                self.is_whole = False
                continue
            if day not in self._files:
                self._files[day] = GrowingParquet(self._path(day), _DISTINCT)
            self._files[day].add(part)

    def publish(self, publish: Publish, tree: Tree, origin: Origin) -> dict[str, str]:
        """Bring the files into the log, and return what each day's is called there; the folder holds none any more."""
        self.close()
        named = {day: f"{tree}/endpoint={origin.endpoint}/dt={day}/{origin.name}.parquet" for day in self._files}
        for day in sorted(named):
            publish(named[day], partial(_move, self._path(day)))
        return named

    def close(self) -> None:
        """Write the files' ends."""
        for file in self._files.values():
            file.close()

    def _path(self, day: str) -> Path:
        return self._folder / f"{day}.parquet"


def write_log_streamed(
    publish: Publish, tree: Tree, origin: Origin, tables: Callable[[], Iterator[pa.Table]]
) -> tuple[str, ...]:
    """As :func:`ml_lifecycle.backends.monitoring.prediction_log.write_log`, of more rows than memory holds.

    :param publish: Makes a file of this name appear whole, out of a local draft that is filled.
    :param tables: The same tables, as often as it is called.
    """
    written: dict[str, str] = {}
    is_whole = False
    while not is_whole:
        with tempfile.TemporaryDirectory(prefix="ml-lifecycle-log-") as folder, _drafts(folder, written) as drafts:
            for table in tables():
                drafts.add(table)
            written |= drafts.publish(publish, tree, origin)
            is_whole = drafts.is_whole
    return tuple(written[day] for day in sorted(written))


def _drafts(folder: str, done: Collection[str]) -> closing[DailyDrafts]:
    return closing(DailyDrafts(Path(folder), frozenset(done)))


def _move(draft: Path, target: Path) -> None:
    """Within one file system nothing is copied."""
    shutil.move(draft, target)
