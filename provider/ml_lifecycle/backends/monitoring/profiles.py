"""What is kept of a table so that it can be compared: counts per column, which add up over files and days.

How a column's values are cut into bins is decided once, on the reference (:class:`Frame`). Whatever is counted in the
same frame can be merged and compared without an error of its own.
"""

from __future__ import annotations

import json
import math
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ml_lifecycle.core.contracts import Contract, digest_of
from ml_lifecycle.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]

Kind = Literal["number", "category", "identifier", "time"]
"""Of an identifier (a text that names single rows) and of a time (which only ever moves on) missing values are counted,
and nothing else."""


_GREATEST_T: Final = 710.0
"""The hyperbolic sine of more overflows."""


class ColumnFrame(Contract):
    """How one column's values are cut into bins.

    A number ``x`` falls into bin ``floor(steps * t)``, with ``t = asinh((x - center) / scale)`` where ``curved``, else
    ``t = (x - center) / scale``: fine steps where the rows are, and wide ones far out, however far that is. Beyond
    ``first`` and ``last`` it falls into these. Of categories, bin ``i`` is the ``i``-th one, and the last bin, which
    comes after all of them, holds every other value.
    """

    name: str
    kind: Kind
    curved: bool = True
    center: float = 0.0
    scale: float = 1.0
    steps: float = 1.0
    first: int = 0
    last: int = 0
    categories: tuple[str, ...] = ()
    """Most frequent first."""
    complete: bool = True
    """Whether the reference holds no other category."""
    cells: tuple[int, ...] = ()
    """Tests count in few wide cells: the last bin of each, counted from 0, ascending; the last one is the last bin."""
    note: str = ""
    """What is special about the column, in words."""

    @property
    def bins(self) -> int:
        """How many bins there are, 1 for columns of which only missing values are counted."""
        if self.kind == "number":
            return self.last - self.first + 1
        return len(self.categories) + 1 if self.kind == "category" else 1

    def edge(self, place: int) -> float:
        """Where bin ``place``, counted from 0, begins, in the column's own unit; numbers only, and always finite."""
        t = (self.first + place) / self.steps
        z = math.sinh(max(min(t, _GREATEST_T), -_GREATEST_T)) if self.curved else t
        return max(min(self.center + self.scale * z, sys.float_info.max), -sys.float_info.max)


class Frame(Contract):
    """How a table's columns are cut into bins."""

    columns: tuple[ColumnFrame, ...]

    @property
    def digest(self) -> str:
        """Names the frame: only profiles of one frame are compared."""
        return digest_of(self.model_dump(mode="json"))


@dataclass(frozen=True)
class ColumnProfile:
    """One column's counts."""

    frame: ColumnFrame
    counts: Counts
    """Rows per bin, ``(frame.bins,)``; rows without a value are in no bin."""
    blocks: Counts
    """Rows per block, cell and, in the last place, without a value: ``(blocks, len(frame.cells) + 1)``."""
    mean: float | None = None
    """Of the finite values; numbers only."""
    deviation: float | None = None
    """Standard deviation of the finite values (over n)."""
    low: float | None = None
    """Least finite value."""
    high: float | None = None
    infinite: int = 0
    """Rows with an infinite value: in the outermost bins, and in no mean."""

    @property
    def present(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum())

    @property
    def missing(self) -> int:
        """Rows without a value; NaN is none."""
        return int(self.blocks[:, -1].sum())

    def quantile(self, share: float) -> float | None:
        """The value that this share of the values does not exceed, as exact as its bin; ``None`` where there is none.

        :param share: Above 0, up to 1; columns of numbers only.
        """
        import numpy as np

        if not self.present or self.low is None or self.high is None:
            return None
        below = np.cumsum(self.counts)
        target = share * self.present
        place = int(np.searchsorted(below, target))
        value = self.frame.edge(place)
        if self.frame.curved:
            inside = (target - (below[place] - self.counts[place])) / self.counts[place]
            value = value * (1 - inside) + self.frame.edge(place + 1) * inside
        return float(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class Profile:
    """A table's counts."""

    rows: int
    blocks: tuple[str, ...]
    """Names of the blocks that rows fall into, ascending, such as ``2013-01-31``; one called ``""`` where rows stand
    for themselves."""
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict)
    by: str | None = None
    """What made the blocks: a column's name, or hour, day, week or month; ``None`` where rows stand for themselves."""

    @property
    def frame(self) -> Frame:
        """How the columns were cut."""
        return Frame(columns=tuple(column.frame for column in self.columns.values()))


LAYOUT: Final = 1
"""Part of every stored profile: a change of what it holds is not read as if nothing had changed."""
_COUNTS: Final = "counts.npz"
_FACTS: Final = "profile.json"


def merge(profiles: Sequence[Profile]) -> Profile:
    """The profile of all the rows together; blocks of one name become one.

    :raises DataError: they were not counted in one frame or by the same blocks, or there is none.
    """
    if not profiles:
        raise DataError("there is no profile to merge", way_out="hand in at least one")
    first = profiles[0]
    if any(one.frame != first.frame or one.by != first.by for one in profiles):
        raise DataError(
            "the profiles were not counted in one frame", way_out="count them in the frame of one reference"
        )
    if len(profiles) == 1:
        return first
    names = tuple(sorted({name for one in profiles for name in one.blocks}))
    columns = {name: _merged([one.columns[name] for one in profiles], profiles, names) for name in first.columns}
    return Profile(rows=sum(one.rows for one in profiles), blocks=names, columns=columns, by=first.by)


def _merged(columns: Sequence[ColumnProfile], profiles: Sequence[Profile], names: tuple[str, ...]) -> ColumnProfile:
    import numpy as np

    places = {name: place for place, name in enumerate(names)}
    blocks = np.zeros((len(names), columns[0].blocks.shape[1]), dtype=np.int64)
    for column, profile in zip(columns, profiles, strict=True):
        np.add.at(blocks, [places[name] for name in profile.blocks], column.blocks)
    known = [one for one in columns if one.mean is not None and one.deviation is not None]
    mean, deviation = _pooled(known)
    return ColumnProfile(
        frame=columns[0].frame,
        counts=np.sum([one.counts for one in columns], axis=0),
        blocks=blocks,
        mean=mean,
        deviation=deviation,
        low=min((one.low for one in known if one.low is not None), default=None),
        high=max((one.high for one in known if one.high is not None), default=None),
        infinite=sum(one.infinite for one in columns),
    )


def _pooled(columns: Sequence[ColumnProfile]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of all rows, from those of the parts (Chan, Golub and LeVeque 1979)."""
    rows, mean, squares = 0, 0.0, 0.0
    for one in columns:
        finite = one.present - one.infinite
        if one.mean is None or one.deviation is None or not finite:
            continue
        total, step = rows + finite, one.mean - mean
        mean += step * (finite / total)
        squares += one.deviation**2 * finite + step**2 * (rows * finite / total)
        rows = total
    return (mean, math.sqrt(max(squares, 0.0) / rows)) if rows else (None, None)


def save(profile: Profile, folder: Path) -> None:
    """Write a profile into an empty folder: the same profile always gives the same bytes."""
    import numpy as np

    facts = {
        "layout": LAYOUT,
        "rows": profile.rows,
        "blocks": list(profile.blocks),
        "by": profile.by,
        "columns": [
            {
                "frame": one.frame.to_xcom(),
                "mean": one.mean,
                "deviation": one.deviation,
                "low": one.low,
                "high": one.high,
                "infinite": one.infinite,
            }
            for one in profile.columns.values()
        ],
    }
    (folder / _FACTS).write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    arrays: dict[str, Counts] = {}
    for place, one in enumerate(profile.columns.values()):
        arrays[f"counts_{place}"], arrays[f"blocks_{place}"] = one.counts, one.blocks
    # The member's time is fixed by numpy, so that equal counts are equal bytes.
    np.savez_compressed(folder / _COUNTS, **arrays)  # type: ignore[arg-type]  # its stub takes the switch only


def is_stored(folder: Path) -> bool:
    """Whether a profile lies in a folder, and not a table's files."""
    return (folder / _FACTS).is_file() and (folder / _COUNTS).is_file()


def load(folder: Path) -> Profile:
    """Read what :func:`save` wrote.

    :raises DataError: it is of another layout, or cannot be read.
    """
    import numpy as np

    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        if facts["layout"] != LAYOUT:
            raise DataError(
                f"the profile has layout {facts['layout']!r}, and this release reads {LAYOUT}",
                where=str(folder),
                way_out="remove it, and it is counted again",
            )
        # numpy leaves a file open that it cannot read.
        with (folder / _COUNTS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = {one["frame"]["name"]: _read(place, one, arrays) for place, one in enumerate(facts["columns"])}
        profile = Profile(rows=facts["rows"], blocks=tuple(facts["blocks"]), columns=columns, by=facts["by"])
        _check(profile, len(facts["columns"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, zipfile.BadZipFile) as error:
        raise DataError(
            f"the profile cannot be read ({type(error).__name__})",
            where=str(folder),
            way_out="remove it, and it is counted again",
        ) from error
    return profile


def _read(place: int, facts: Mapping[str, Any], arrays: Mapping[str, Counts]) -> ColumnProfile:
    return ColumnProfile(
        frame=ColumnFrame.model_validate(facts["frame"]),
        counts=arrays[f"counts_{place}"],
        blocks=arrays[f"blocks_{place}"],
        mean=facts["mean"],
        deviation=facts["deviation"],
        low=facts["low"],
        high=facts["high"],
        infinite=facts["infinite"],
    )


def _check(profile: Profile, columns: int) -> None:
    """:raises ValueError: the counts do not fit the frame, or each other, or a fact is none."""
    import numpy as np

    if len(profile.columns) != columns:
        raise ValueError("two columns of one name")
    texts = (*profile.blocks, profile.by or "")
    if not all(isinstance(text, str) for text in texts) or list(profile.blocks) != sorted(set(profile.blocks)):
        raise ValueError("blocks that are none")
    for one in profile.columns.values():
        numbers = (one.mean, one.deviation, one.low, one.high, one.infinite)
        if not all(one is None or (isinstance(one, (int, float)) and math.isfinite(one)) for one in numbers):
            raise ValueError("numbers that are none")
        fits = one.frame.scale > 0 and one.frame.steps > 0 and one.counts.shape == (one.frame.bins,)
        fits = fits and one.blocks.shape == (len(profile.blocks), len(one.frame.cells) + 1)
        fits = fits and all(np.issubdtype(counts.dtype, np.int64) for counts in (one.counts, one.blocks))
        if not fits or one.counts.min() < 0 or one.blocks.min() < 0:
            raise ValueError("counts of another shape")
        if one.counts.sum() != one.blocks[:, :-1].sum() or one.blocks.sum() != profile.rows:
            raise ValueError("counts that contradict each other")
