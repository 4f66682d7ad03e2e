"""How a sample of a column decides its bins, and how counts of groups become a profile: the same for every engine."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.monitoring.profiles import ColumnFrame, ColumnProfile
from ml_lifecycle.core.errors import ColumnError, DataError, NoRowsError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Values = NDArray[np.float64]

SAMPLE_ROWS: Final = 100_000
"""About how many rows of a reference decide its frame."""
CATEGORIES: Final = 200
"""How many categories are told apart, the most frequent ones."""
LONGEST_CATEGORY: Final = 200
"""Longer texts are no names: they are counted among the others."""
NO_BLOCK: Final = "(none)"
"""The block of the rows that have none."""
MOST_BLOCKS: Final = 20_000
"""A little more than the hours of two years."""

NO_BLOCK_KEY: Final = -(2**62)
"""Its key where blocks are of a unit of time; no timestamp of a four-digit year reaches it."""

_BINS: Final = 2048
_MOST_BINS: Final = 8192
_LEAST_STEPS: Final = 256
"""Bins per unit of the curve: where heavy tails stretch it, the middle keeps this many."""
_MARGIN: Final = 1 / 16
"""What the bins go on beyond the sample, as a share of what it spans, on either side."""
_WHOLE_SPAN: Final = 1024
"""Whole numbers that span no more than this have a bin each."""
_WHOLE_LIMIT: Final = 2.0**52
"""Below it, a float tells a whole number from the next one."""
_LEAST_SPAN: Final = 1e-300
"""Its inverse is still a float."""
_CELLS: Final = 10
_LEAST_SHARE: Final = 0.02
"""A cell of its own needs this share of the rows."""
_NAMES_ROWS: Final = 0.9
_LEAST_NAMED: Final = 100
_NORMAL_QUARTILES: Final = 1.3489795003921634
"""The interquartile range of a normal distribution, in standard deviations."""


def cell_of_bin(frame: ColumnFrame) -> Counts:
    """The cell of each bin, ``(frame.bins,)``."""
    import numpy as np

    return np.searchsorted(np.asarray(frame.cells), np.arange(frame.bins)).astype(np.int64)


# --- Numbers ---------------------------------------------------------------------------------------------------------


def number_frame(name: str, sample: Values) -> ColumnFrame:
    """Bins and cells of a column of numbers; NaN and infinite values of the sample decide nothing."""
    import numpy as np

    values = sample[np.isfinite(sample)]
    frame = number_bins(name, values, whole=bool(np.all(values == np.floor(values))))
    return with_cells(frame, np.bincount(bin_of(frame, values), minlength=frame.bins))


def number_bins(name: str, values: Values, *, whole: bool) -> ColumnFrame:
    """Bins of a column of numbers, without cells.

    :param values: A sample, or quantiles that lie equally far apart; all of them finite.
    :param whole: All of the sample's values are whole numbers.
    """
    import numpy as np

    if not len(values):
        return _constant_frame(name, 0.0)
    # Adding nothing makes one zero of both: which of them is in the middle would depend on the rows' order.
    values = np.sort(values) + 0.0
    low, high = float(values[0]), float(values[-1])
    if whole and max(abs(low), abs(high)) < _WHOLE_LIMIT and high - low <= _WHOLE_SPAN:
        return ColumnFrame(name=name, kind="number", curved=False, first=int(low) - 1, last=int(high) + 1)
    return _constant_frame(name, low) if high - low < _LEAST_SPAN else _curved_frame(name, values)


def with_cells(frame: ColumnFrame, counts: Counts) -> ColumnFrame:
    """The frame with cells that share these rows."""
    return frame.model_copy(update={"cells": _number_cells(counts)})


def bin_of(frame: ColumnFrame, values: Values) -> Counts:
    """The bin of each number, counted from 0; NaN has none and is not allowed."""
    import numpy as np

    with np.errstate(over="ignore"):
        z = (values - frame.center) / frame.scale
        t = np.arcsinh(z) if frame.curved else z
        return (np.clip(np.floor(frame.steps * t), frame.first, frame.last) - frame.first).astype(np.int64)


def _constant_frame(name: str, value: float) -> ColumnFrame:
    scale = abs(value) if math.isfinite(1 / value if value else math.inf) else 1.0
    return ColumnFrame(
        name=name,
        kind="number",
        center=value,
        scale=scale,
        steps=float(_LEAST_STEPS),
        first=-_LEAST_STEPS,
        last=_LEAST_STEPS,
    )


def _curved_frame(name: str, values: Values) -> ColumnFrame:
    """Fine steps around the median; ``values`` are finite, ascending, and not all the same."""
    import numpy as np

    center = float(values[(len(values) - 1) // 2])
    scale = _spread(values, center)
    with np.errstate(over="ignore"):
        ends = np.arcsinh((values[[0, -1]] - center) / scale)
    ends = np.clip(ends, -1500.0, 1500.0)
    span = float(ends[1] - ends[0])
    steps = min(max(_BINS / span, _LEAST_STEPS), _MOST_BINS / span)
    margin = span * _MARGIN
    first, last = math.floor(steps * (ends[0] - margin)), math.floor(steps * (ends[1] + margin))
    return ColumnFrame(name=name, kind="number", center=center, scale=scale, steps=steps, first=first, last=last)


def _spread(values: Values, center: float) -> float:
    """The standard deviation that a normal distribution of this interquartile range has.

    Where half of the rows are one value, the typical distance of the others stands for it.
    """
    import numpy as np

    # Halved, so that the distance of the greatest floats is one, too.
    quarter, three = np.quantile(values, (0.25, 0.75), method="inverted_cdf") / 2
    spread = float(three - quarter) / _NORMAL_QUARTILES * 2
    if not (spread > 0 and math.isfinite(1 / spread)):
        with np.errstate(over="ignore"):
            away = np.abs(values - center)
        away = away[(away > 0) & np.isfinite(away)]
        # One of the distances itself: half the sum of the middle two may be infinite.
        spread = float(np.quantile(away, 0.5, method="inverted_cdf")) if len(away) else abs(center)
    return spread if spread > 0 and math.isfinite(spread) and math.isfinite(1 / spread) else 1.0


def _number_cells(counts: Counts) -> tuple[int, ...]:
    """Last bins of about ten cells of equal share; fewer where many rows share a bin."""
    import numpy as np

    taken = np.flatnonzero(counts)
    last = len(counts) - 1
    if not len(taken):
        return (last,)
    if len(taken) == 1:
        return tuple(sorted({max(int(taken[0]) - 1, 0), int(taken[0]), last}))
    rest, left, held = int(counts.sum()), _CELLS, 0
    least = rest / _CELLS
    ends: list[int] = []
    for before, place in zip(taken[:-1].tolist(), taken[1:].tolist(), strict=True):
        held += int(counts[before])
        # The nearest to an equal share of what is left, and no cell that is next to nothing.
        if held >= least / 5 and held + counts[place] / 2 > rest / left:
            ends.append(before)
            rest, left, held = rest - held, max(left - 1, 1), 0
    if ends and rest < least / 2:
        ends.pop()
    return (*ends, last)


# --- Categories and the rest -----------------------------------------------------------------------------------------


def category_frame(
    name: str, found: Sequence[tuple[str, int]], *, present: int, distinct: int, complete: bool
) -> ColumnFrame:
    """Bins and cells of a column of categories.

    :param found: The most frequent values of the sample with their rows, and no more than are told apart.
    :param present: The sample's rows with a value.
    :param distinct: How many values the sample has.
    :param complete: Whether the table holds no other value.
    """
    if present >= _LEAST_NAMED and distinct >= _NAMES_ROWS * present:
        return uncounted_frame(name, "its texts name single rows, so only missing values are compared")
    ordered = sorted(found, key=lambda pair: (-pair[1], pair[0]))
    own = sum(rows >= _LEAST_SHARE * present for _, rows in ordered)
    last = len(ordered)
    pooled = (last - 1,) if last > own else ()
    return ColumnFrame(
        name=name,
        kind="category",
        categories=tuple(value for value, _ in ordered),
        complete=complete,
        cells=(*range(own), *pooled, last),
    )


def uncounted_frame(name: str, note: str) -> ColumnFrame:
    """A column of which only missing values are counted."""
    return ColumnFrame(name=name, kind="identifier", cells=(0,), note=note)


def time_frame(name: str) -> ColumnFrame:
    """A column of points in time."""
    return ColumnFrame(name=name, kind="time", cells=(0,))


# --- Counts ----------------------------------------------------------------------------------------------------------


def known_columns(names: Sequence[str], known: Collection[str], where: str) -> tuple[str, ...]:
    """The names, all of which the table has.

    :raises ColumnError: it has not.
    """
    missing = [name for name in dict.fromkeys(names) if name not in known]
    if missing:
        listed = ", ".join(repr(name) for name in missing)
        hint = did_you_mean(missing[0], known).removeprefix(", ")
        raise ColumnError(f"the table has no column {listed}", where=where, way_out=hint)
    return tuple(names)


@dataclass(frozen=True)
class Blocks:
    """The blocks of one table."""

    names: tuple[str, ...]
    rows: tuple[int, ...]
    places: Mapping[str | int, int] | None = None
    """Each block's place by the key that the engine knows it by; ``None`` where rows stand for themselves."""

    @classmethod
    def none(cls, rows: int) -> Blocks:
        """Rows stand for themselves."""
        return cls(("",), (rows,))

    @classmethod
    def of(cls, found: Sequence[tuple[str | int, int]], *, unit: str | None, where: str) -> Blocks:
        """Blocks by their keys, with their rows; those of a unit of time are microseconds since 1970.

        :raises DataError: they are too many.
        :raises NoRowsError: there is none.
        """
        if not found:
            raise NoRowsError("the table has no row", where=where, way_out="check which rows were selected")
        if len(found) > MOST_BLOCKS:
            raise DataError(
                f"the rows fall into more than {MOST_BLOCKS:,} blocks", where=where, way_out="choose wider blocks"
            )
        named = {key: _block_name(key, unit) for key, _ in found}
        names = tuple(sorted(set(named.values())))
        places = {name: place for place, name in enumerate(names)}
        rows = [0] * len(names)
        for key, number in found:
            rows[places[named[key]]] += number
        return cls(names, tuple(rows), {key: places[name] for key, name in named.items()})

    @property
    def total(self) -> int:
        """Rows of all of them."""
        return sum(self.rows)


def _block_name(key: str | int, unit: str | None) -> str:
    if isinstance(key, str) or unit is None:
        return str(key)
    if key == NO_BLOCK_KEY:
        return NO_BLOCK
    at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=key)
    if unit == "week":
        year, week, _ = at.isocalendar()
        return f"{year:04}-W{week:02}"
    return at.isoformat()[: {"hour": 13, "day": 10, "month": 7}[unit]]


@dataclass(frozen=True)
class Moments:
    """What is known of the finite values of a column."""

    mean: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    infinite: int = 0


_STEADY_DIGITS: Final = 12
_MOST_CANCELLED: Final = 1e6
"""Where a squared mean is so many times the variance, sums of squares say too little of it."""


@dataclass(frozen=True)
class Grouped:
    """An engine's answer: rows per bin, and per block and cell."""

    bins: Counts
    """Of rows with a value."""
    rows: Counts
    sums: Mapping[str, Values]
    """Per bin: of z, of its square, least and greatest value; empty for what is no number."""
    block_keys: Sequence[Any] = ()
    block_cells: Sequence[int] = ()
    block_rows: Sequence[int] = ()

    @classmethod
    def of(cls, columns: Mapping[str, Any], frame: ColumnFrame) -> Grouped:
        """Take the answer of grouping by ``floor(steps * t)``, or by a category's bin.

        With a column ``b``, it also is one of grouping by block and cell, where there is no bin.
        """
        import numpy as np

        rows = np.asarray(columns["n"], dtype=np.int64)
        found = np.ma.asarray(columns["bin"])
        ours = ~np.ma.getmaskarray(found)
        bins = np.clip(np.ma.getdata(found)[ours], frame.first, frame.first + frame.bins - 1) - frame.first
        sums = {
            name: np.ma.filled(np.ma.asarray(columns[name]).astype(float), np.nan)[ours]
            for name in ("s", "q", "low", "high", "large")
            if name in columns
        }
        if "b" not in columns:
            return cls(bins.astype(np.int64), rows[ours], sums)
        return cls(
            bins.astype(np.int64),
            rows[ours],
            sums,
            np.ma.getdata(columns["b"])[~ours].tolist(),
            np.ma.getdata(columns["cell"])[~ours].tolist(),
            rows[~ours].tolist(),
        )

    def with_blocks(self, found: Sequence[tuple[Any, int, int]]) -> Grouped:
        """The same with blocks, cells and their rows."""
        keys, cells, rows = zip(*found, strict=True) if found else ((), (), ())
        return replace(self, block_keys=keys, block_cells=cells, block_rows=rows)

    def moments(self, frame: ColumnFrame) -> Moments | None:
        """Mean and deviation from the sums; ``None`` where these say too little."""
        import numpy as np

        rows = int(self.rows.sum())
        if not rows:
            return Moments()
        with np.errstate(over="ignore", invalid="ignore"):
            # Groups come in any order, and sums of floats depend on theirs.
            mean = float(np.sort(self.sums["s"]).sum()) / rows
            square = float(np.sort(self.sums["q"]).sum()) / rows
        low, high = float(self.sums["low"].min()), float(self.sums["high"].max())
        known = all(math.isfinite(value) for value in (mean, square, low, high, frame.scale * mean + frame.center))
        known = known and not ("large" in self.sums and self.sums["large"].any())
        variance = square - mean * mean
        if not known or (low < high and mean * mean > _MOST_CANCELLED * variance):
            return None
        deviation = frame.scale * math.sqrt(max(variance, 0.0)) if low < high else 0.0
        return Moments(frame.center + frame.scale * mean if low < high else low, deviation, low, high)


def _steady(value: float | None) -> float | None:
    """Without the last digits: threads add in any order, and the same rows have to give the same profile."""
    return None if value is None else float(f"{value:.{_STEADY_DIGITS}g}")


def column_profile(
    frame: ColumnFrame, blocks: Blocks, grouped: Grouped, moments: Moments | None = None
) -> ColumnProfile:
    """One column's counts in the places that its frame gives them."""
    import numpy as np

    counts = np.zeros(frame.bins, dtype=np.int64)
    np.add.at(counts, grouped.bins, grouped.rows)
    cells = np.zeros((len(blocks.names), len(frame.cells) + 1), dtype=np.int64)
    if blocks.places is None:
        np.add.at(cells[0], cell_of_bin(frame), counts)
    else:
        places = [blocks.places[key] for key in grouped.block_keys]
        np.add.at(cells, (places, list(grouped.block_cells)), list(grouped.block_rows))
    cells[:, -1] = np.asarray(blocks.rows) - cells.sum(axis=1)
    found = moments or Moments()
    return ColumnProfile(
        frame=frame,
        counts=counts,
        blocks=cells,
        mean=_steady(found.mean) if found.deviation else found.mean,
        deviation=_steady(found.deviation),
        low=found.low,
        high=found.high,
        infinite=found.infinite,
    )
