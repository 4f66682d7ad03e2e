"""Two profiles in, how far each column has moved and how likely that is by chance out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.monitoring import distances
from ml_lifecycle.backends.monitoring.calibration import LEAST_BLOCKS, LEAST_ROWS, p_values
from ml_lifecycle.core.contracts import ColumnDrift
from ml_lifecycle.core.errors import DataError
from ml_lifecycle.core.evaluation import PERIODS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ml_lifecycle.backends.monitoring.profiles import ColumnProfile, Profile

    Counts = NDArray[np.int64]

_AT_ONCE: Final = 2_000_000
"""Counts that are compared at once: 16 MB a copy."""


def compare(reference: Profile, current: Profile, *, min_effect: float, window: int = 1) -> tuple[ColumnDrift, ...]:
    """Measure every column: distances, and the chance of such a difference without drift; none is judged yet.

    A missing value is a place of its own: a column that loses values has moved by as many. Of identifiers and times
    only that is compared. Where too little is there to tell chance from drift, ``p_value`` is ``None`` and ``detail``
    says what is needed.

    :param min_effect: Least distance that matters, 0 to 1.
    :param window: How many partitions ``current`` holds.
    :raises DataError: the profiles were not counted in one frame, or by the same blocks.
    """
    if reference.frame != current.frame or reference.by != current.by:
        raise DataError(
            "the two profiles were not counted in one frame",
            way_out="count the current data in the frame and by the blocks of its reference",
        )
    if not reference.columns:
        return ()
    unknown = _what_is_needed(reference, current)
    chances = [None] * len(reference.columns) if unknown else _chances(reference, current)
    return tuple(
        _measure(_Pair(before, current.columns[name], reference, current), chance, unknown, min_effect, window)
        for (name, before), chance in zip(reference.columns.items(), chances, strict=True)
    )


@dataclass(frozen=True)
class _Pair:
    """One column on both sides."""

    before: ColumnProfile
    after: ColumnProfile
    reference: Profile
    current: Profile

    @property
    def kind(self) -> str:
        """The column's kind."""
        return self.before.frame.kind

    @property
    def cells(self) -> tuple[Counts, Counts]:
        """Rows per cell, and last without a value."""
        return self.before.blocks.sum(axis=0), self.after.blocks.sum(axis=0)

    @property
    def bins(self) -> tuple[Counts, Counts]:
        """Rows per bin, and last without a value."""
        import numpy as np

        before, after = (np.append(side.counts, side.missing) for side in (self.before, self.after))
        return before, after


def _what_is_needed(reference: Profile, current: Profile) -> str:
    """Why no chance can be told; empty if it can."""
    for name, side in (("current data", current), ("reference", reference)):
        if side.rows < LEAST_ROWS:
            return f"only {_count(side.rows, 'row')} in the {name}; {LEAST_ROWS} are needed"
    if reference.by is not None and len(reference.blocks) < LEAST_BLOCKS:
        unit = reference.by if reference.by in PERIODS else "block"
        return f"only {_count(len(reference.blocks), unit)} in the reference; {LEAST_BLOCKS} are needed"
    return ""


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _chances(reference: Profile, current: Profile) -> list[tuple[float, float | None]]:
    """Each column's p-value and design effect, many columns at once."""
    names, by_blocks = list(reference.columns), reference.by is not None
    widest = max(column.blocks.shape[1] for column in reference.columns.values())
    step = max(_AT_ONCE // (widest * max(len(reference.blocks), len(current.blocks))), 1)
    chances: list[tuple[float, float | None]] = []
    for first in range(0, len(names), step):
        some = names[first : first + step]
        found, effects = p_values(_blocks(reference, some, widest), _blocks(current, some, widest))
        chances += [
            (float(chance), float(effect) if by_blocks else None) for chance, effect in zip(found, effects, strict=True)
        ]
    return chances


def _blocks(profile: Profile, names: Sequence[str], widest: int) -> Counts:
    """``(columns, blocks, cells)``; a cell that a column does not have is empty on both sides."""
    import numpy as np

    stacked = np.zeros((len(names), len(profile.blocks), widest), dtype=np.int64)
    for place, name in enumerate(names):
        blocks = profile.columns[name].blocks
        stacked[place, :, : blocks.shape[1]] = blocks
    return stacked


def _measure(
    pair: _Pair, chance: tuple[float, float | None] | None, unknown: str, min_effect: float, window: int
) -> ColumnDrift:
    frame, ordered = pair.before.frame, pair.kind == "number"
    has_rows = pair.reference.rows > 0 and pair.current.rows > 0
    return ColumnDrift(
        column=frame.name,
        method="ks" if ordered else "total_variation",
        distance=_distance(pair) if has_rows else None,
        threshold=min_effect,
        drifted=False,
        kind=pair.kind,
        p_value=chance[0] if chance else None,
        design_effect=chance[1] if chance else None,
        window=window,
        psi=float(distances.psi(*pair.cells)) if has_rows else None,
        jensen_shannon=float(distances.jensen_shannon(*(pair.cells if ordered else pair.bins))) if has_rows else None,
        wasserstein=distances.wasserstein(pair.before, pair.after) if ordered else None,
        missing=pair.after.missing / pair.current.rows if pair.current.rows else None,
        missing_before=pair.before.missing / pair.reference.rows if pair.reference.rows else None,
        unseen=_unseen(pair) if has_rows else None,
        rows=pair.current.rows,
        detail="; ".join(_said(pair, unknown)),
    )


def _distance(pair: _Pair) -> float:
    """Missing values stand at either end of an order, whichever makes the difference greater."""
    import numpy as np

    before, after = pair.bins
    if pair.kind != "number":
        return float(distances.total_variation(before, after))
    ends = distances.ks(before, after), distances.ks(np.roll(before, 1), np.roll(after, 1))
    return float(max(ends))


def _unseen(pair: _Pair) -> float | None:
    if pair.kind != "category" or not pair.before.frame.complete:
        return None
    return int(pair.after.counts[-1]) / pair.current.rows


def _said(pair: _Pair, unknown: str) -> Sequence[str]:
    """What is special, in words."""
    said = [unknown] if unknown else []
    note = pair.before.frame.note
    if pair.kind in ("identifier", "time"):
        said.append(note or f"{pair.kind}: only missing values are compared")
    elif note:
        said.append(note)
    if not pair.before.present and not pair.after.present:
        said.append("no value on either side")
    elif not pair.before.present or not pair.after.present:
        said.append(f"no value in the {'current data' if pair.before.present else 'reference'}")
    elif pair.kind in ("number", "category") and _is_constant(pair):
        said.append("constant on both sides")
    return said


def _is_constant(pair: _Pair) -> bool:
    """One and the same value everywhere."""
    both = pair.before.counts + pair.after.counts
    if pair.kind == "number":
        return pair.before.low == pair.before.high == pair.after.low == pair.after.high
    return bool((both > 0).sum() == 1) and not both[-1]
