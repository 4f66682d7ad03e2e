"""Two tables in, wherever they lie; how far one has moved from the other out: no model, no ledger, no server."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.monitoring.comparison import compare
from ml_lifecycle.backends.monitoring.profiles import ColumnProfile, Profile, is_stored, load
from ml_lifecycle.core.contracts import ColumnDrift, Columns, DatasetRef, DriftPolicy, DriftReport
from ml_lifecycle.core.data import Every
from ml_lifecycle.core.errors import ColumnError, RequestError, did_you_mean
from ml_lifecycle.core.evaluation import PERIODS
from ml_lifecycle.core.monitoring import alpha_of, judge
from ml_lifecycle.stages.drift_columns import chosen_columns, fitting, foremost
from ml_lifecycle.stages.profiles import chosen, count_in, default_profiler

if TYPE_CHECKING:
    import pandas as pd

    from ml_lifecycle.backends.monitoring.duckdb import DuckDbProfiler

ONE_LOOK: Final = 0.05
"""What a comparison that is made once may spend."""
_ABSENT: Final = "the current data has no such column"
_NAMED: Final = 10
_LEAST_NUMBERED: Final = 100
_SUMMED: Final = 1e-6
"""Sums over millions of rows lose their last digits."""


@dataclass(frozen=True)
class FileDrift:
    """How far one table has moved from another."""

    report: DriftReport
    columns: tuple[ColumnDrift, ...]
    """All that were compared, drifted ones first."""
    reference: Profile
    current: Profile


@dataclass(frozen=True)
class Files:
    """How tables are read: what their columns mean, and what is made of them first."""

    key: str | None = None
    """Names a row, and so says nothing: it is left out."""
    time: str | None = None
    """When a row's event takes place."""
    derive: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    """Makes the columns that are compared of those that are there, batch by batch."""
    progress: Callable[[int, int], None] | None = None
    """Told after each column how many were counted, and of how many."""


def compare_files(
    reference: str | Path,
    current: str | Path,
    *,
    policy: DriftPolicy = DriftPolicy(),  # noqa: B008  # frozen
    every: Every | None = None,
    files: Files = Files(),  # frozen
) -> FileDrift:
    """Compare parquet or csv, a folder of either, an address such as ``s3://...``, or a stored profile.

    A column that the current table lacks counts as one that lost all its values; one that the reference lacks is named
    and not compared.

    :param every: How often somebody looks, which makes a look's share of the budget; ``None`` for a single comparison.
    :raises ColumnError: a column that is asked for is missing, or the tables share none.
    :raises DataError: one of them cannot be read, or they were not counted in one frame.
    """
    sides = _Reading(policy, files).sides(reference, current)
    found = compare(sides.reference, sides.current, min_effect=policy.min_effect)
    columns = [one.model_copy(update={"detail": _ABSENT}) if one.column in sides.absent else one for one in found]
    alpha = ONE_LOOK if every is None else alpha_of(policy.false_alarms, every)
    judgement = judge(columns, alpha=alpha)
    drifted = sum(one.drifted for one in judgement.columns)
    report = DriftReport(
        model=_name(current),
        version=0,
        partition=f"against {_name(reference)}",
        verdict=judgement.verdict,
        drifted_share=drifted / len(columns) if columns else None,
        columns=judgement.columns,
        reference=_as_dataset(reference, sides.reference, files),
        current=_as_dataset(current, sides.current, files),
        policy=policy,
        compared=len(columns),
        drifted=drifted,
        alpha=alpha,
        warnings=tuple(sides.warnings()),
    )
    return FileDrift(fitting(report), tuple(foremost(judgement.columns)), sides.reference, sides.current)


def profile_file(
    table: str | Path | Sequence[Path],
    *,
    policy: DriftPolicy = DriftPolicy(),  # noqa: B008  # frozen
    files: Files = Files(),  # frozen
    like: str | Path | None = None,
) -> Profile:
    """Count a table once, so that it can be compared later without it.

    :param like: A stored profile whose frame is taken; ``None`` for one of the table's own.
    :raises ColumnError: a column that is asked for is missing.
    :raises DataError: it cannot be read.
    """
    reading = _Reading(policy, files)
    if like is None:
        return reading.reference(table)
    before = _stored(like)
    if before is None:
        raise RequestError("there is no stored profile", where=str(like), way_out="name what `profile --out` wrote")
    return reading.current(table, before)[0]


def sample_of(table: str | Path, files: Files) -> pd.DataFrame:
    """Some of a table's rows, spread over all of it, for whoever draws them.

    :raises RequestError: it is a stored profile, which holds no rows.
    """
    if _stored(table) is not None:
        raise RequestError(
            "a stored profile holds no rows to draw",
            where=str(table),
            way_out="hand in the table, or leave the page out",
        )
    return default_profiler(files.derive).sample(table)


@dataclass(frozen=True)
class _Sides:
    """Two tables, counted in one frame."""

    reference: Profile
    current: Profile
    absent: Sequence[str] = ()
    """Columns that the current table lacks."""
    unknown: Sequence[str] = ()
    """Columns that the reference lacks."""
    numbers: Sequence[str] = ()
    """Columns that count the reference's rows."""

    def warnings(self) -> Iterator[str]:
        """What is not compared, and why."""
        for names, why in ((self.unknown, "the reference has no such column"), (self.numbers, "they number the rows")):
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                yield f"not compared, as {why}: {', '.join(names[:_NAMED])}{more}"


class _Reading:
    """Tables of one kind, counted in one way."""

    def __init__(self, policy: DriftPolicy, files: Files) -> None:
        self._policy, self._files = policy, files
        self._profiler: DuckDbProfiler = default_profiler(files.derive, files.progress)

    def sides(self, reference: str | Path, current: str | Path) -> _Sides:
        """Both tables, of which a stored one is not counted again."""
        before, after = _stored(reference), _stored(current)
        if before is not None or after is not None:
            # What was stored may hold more than is asked for.
            before = before or self.reference(reference, after)
            names = [name for name in before.columns if name != self._files.key]
            before = chosen(before, chosen_columns(names, self._policy))
        else:
            before = self.reference(reference)
        numbers = [name for name, one in before.columns.items() if _numbers_rows(one)]
        if numbers and not self._policy.columns:
            before = chosen(before, [name for name in before.columns if name not in numbers])
        if after is None:
            after, absent, unknown = self.current(current, before)
            return _Sides(before, after, absent, [one for one in unknown if one not in numbers], numbers)
        return _Sides(before, chosen(after, [name for name in before.columns if name in after.columns]))

    def reference(self, table: str | Path | Sequence[Path], after: Profile | None = None) -> Profile:
        """Counted in a frame of its own, or in that of a stored profile that it is compared with."""
        if after is not None:
            return self._profiler.profile(table, after.frame, **self._block(after.by))
        there = self._profiler.names(table)
        if self._files.key is not None and self._files.key not in there:
            raise ColumnError(
                f"there is no key column {self._files.key!r}",
                where=str(table),
                way_out=f"it has {', '.join(there[:40])}{did_you_mean(self._files.key, there)}",
            )
        names = [name for name in there if name not in (self._files.key, self._policy.block)]
        columns = chosen_columns(names, self._policy)
        if not columns:
            raise ColumnError("no column is left to compare", where=str(table), way_out="leave fewer of them out")
        categorical = [name for name in self._policy.categorical if name in columns]
        frame = self._profiler.frame(table, columns=columns, categorical=categorical)
        return self._profiler.profile(table, frame, **self._block(self._policy.block))

    def current(self, table: str | Path | Sequence[Path], before: Profile) -> tuple[Profile, list[str], list[str]]:
        """The profile, the columns that the table lacks, and those that the reference lacks."""
        names = self._profiler.names(table)
        profile = count_in(before.frame, table, self._block(before.by), profiler=self._profiler, names=names)
        left_out = {self._files.key, before.by, *self._policy.ignore}
        asked = self._policy.columns
        unknown = [one for one in names if one not in before.columns and one not in left_out and not asked]
        return profile, [one for one in before.columns if one not in names], unknown

    def _block(self, by: str | None) -> dict[str, str]:
        if by is None:
            return {}
        time = self._files.time
        if by in PERIODS and time is None:
            raise RequestError(
                f"rows of one {by} are taken together, and no column says when they happened",
                way_out="name the column of the rows' time",
            )
        return {"block": by} if time is None else {"block": by, "time": time}


def _stored(place: str | Path) -> Profile | None:
    """A profile that was stored there, if one was."""
    folder = Path(place)
    return load(folder) if "://" not in str(place) and is_stored(folder) else None


def _numbers_rows(column: ColumnProfile) -> bool:
    """Whether the values are consecutive whole numbers, each there once: mean and deviation give that away."""
    rows, low, high, mean, deviation = column.present, column.low, column.high, column.mean, column.deviation
    if low is None or high is None or mean is None or deviation is None or column.missing or rows < _LEAST_NUMBERED:
        return False
    if high - low + 1 != rows or not math.isclose(deviation, math.sqrt((rows**2 - 1) / 12), rel_tol=_SUMMED):
        return False
    return math.isclose(mean - low, (high - low) / 2, rel_tol=_SUMMED)


def _name(place: str | Path) -> str:
    return str(place).rstrip("/").rpartition("/")[2]


def _as_dataset(place: str | Path, profile: Profile, files: Files) -> DatasetRef:
    """What a report says of a table that no snapshot was made of: its fingerprint names the counts."""
    digest = hashlib.sha256(profile.frame.digest.encode())
    for one in profile.columns.values():
        digest.update(one.counts.tobytes())
        digest.update(one.blocks.tobytes())
    columns = Columns(key=files.key or "", time=files.time)
    return DatasetRef(uri=str(place), rows=profile.rows, fingerprint=digest.hexdigest(), columns=columns, partitions=())
