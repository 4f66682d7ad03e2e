"""How far two tables lie apart, from their counts in one frame.

Counts lie along the last axis and may have any axes before it; one answer comes back for each. None is ever NaN: where
only one side has rows, nothing is in common and a distance from 0 to 1 is 1; where neither has, it is 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ml_lifecycle.backends.monitoring.profiles import ColumnProfile

    Values = NDArray[np.float64]
    Counts = NDArray[Any]

PSEUDO_ROWS: Final = 0.5
"""Added to each cell of both sides, so that an empty one has a finite logarithm (Jeffreys' prior of a multinomial)."""


def psi(reference: Counts, current: Counts) -> Values:
    """Population stability index: the sum of ``(c - r) * log(c / r)`` over shares, each cell with half a row more.

    Without drift it is about ``(cells - 1) * (1 / rows + 1 / reference rows)``, so it needs few cells (Yurdakul 2018,
    Statistical Properties of Population Stability Index).
    """
    import numpy as np

    before, after = shares(reference + PSEUDO_ROWS), shares(current + PSEUDO_ROWS)
    distance: Values = ((after - before) * np.log(after / before)).sum(axis=-1)
    return distance


def jensen_shannon(reference: Counts, current: Counts) -> Values:
    """Jensen-Shannon distance with base 2: the square root of the divergence, 0 to 1 (Endres and Schindelin 2003)."""
    import numpy as np

    before, after = shares(reference), shares(current)
    middle = (before + after) / 2

    def entropy_to_middle(side: Values) -> Values:
        ratio = np.divide(side, middle, out=np.ones_like(middle), where=side > 0)
        total: Values = (side * np.log2(ratio)).sum(axis=-1)
        return total

    divergence = (entropy_to_middle(before) + entropy_to_middle(after)) / 2
    return _in_common(np.sqrt(np.clip(divergence, 0.0, 1.0)), reference, current)


def ks(reference: Counts, current: Counts) -> Values:
    """Kolmogorov-Smirnov distance: the greatest difference of the cumulated shares over the bins.

    Equal values share a bin, so ties are exact. It is never above the distance of the raw values, and below it by no
    more than the share of rows in one bin.
    """
    import numpy as np

    apart = np.cumsum(shares(current) - shares(reference), axis=-1)
    return _in_common(np.clip(np.abs(apart).max(axis=-1), 0.0, 1.0), reference, current)


def total_variation(reference: Counts, current: Counts) -> Values:
    """The share of rows that would have to lie elsewhere to make both sides equal, 0 to 1."""
    import numpy as np

    moved = np.abs(shares(current) - shares(reference)).sum(axis=-1) / 2
    return _in_common(np.clip(moved, 0.0, 1.0), reference, current)


def chi_square(reference: Counts, current: Counts) -> Values:
    """Pearson's statistic of two samples: about ``cells - 1`` where both are of one distribution."""
    import numpy as np

    rows = np.stack([np.asarray(side, dtype=np.float64).sum(axis=-1) for side in (reference, current)])
    both = np.asarray(reference + current, dtype=np.float64)
    apart = (shares(current) - shares(reference)) ** 2
    scaled = np.divide(apart, both, out=np.zeros_like(apart), where=both > 0).sum(axis=-1)
    statistic: Values = scaled * rows[0] * rows[1]
    return statistic


def shares(counts: Counts) -> Values:
    """Counts over their sum; zeros where nothing was counted."""
    import numpy as np

    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum(axis=-1, keepdims=True)
    answer: Values = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return answer


def wasserstein(reference: ColumnProfile, current: ColumnProfile) -> float | None:
    """Wasserstein-1 distance of the finite values, in standard deviations of the reference.

    The area between the two cumulated shares, straight within each bin; the outermost bins, infinite values with them,
    end at the smallest and the greatest finite value. It is never below the difference of the means, which the profiles
    know exactly. ``None`` where a side has no finite value, where the reference is constant and the current data is not
    the same constant, and where the values are too large for their standard deviation to be a number.
    """
    import numpy as np

    sides = (reference, current)
    if any(side.mean is None or side.low is None or side.high is None or not side.present for side in sides):
        return None
    low, high = min(float(side.low or 0) for side in sides), max(float(side.high or 0) for side in sides)
    if low == high:
        return 0.0
    scale = reference.deviation
    if not scale or not math.isfinite(scale):
        return None
    edges = _edges(reference, low, high) / scale
    if not np.isfinite(edges).all():
        return None
    apart = np.concatenate([[0.0], np.cumsum(shares(current.counts) - shares(reference.counts))])
    means = abs(float(current.mean or 0) / scale - float(reference.mean or 0) / scale)
    distance = max(_area(apart, np.diff(edges)), means)
    return distance if math.isfinite(distance) else None


def _edges(column: ColumnProfile, low: float, high: float) -> Values:
    """Where the bins begin, and where the last one ends."""
    import numpy as np

    frame = column.frame
    t = np.arange(frame.first, frame.first + frame.bins + 1) / frame.steps
    with np.errstate(over="ignore"):
        edges = frame.center + frame.scale * (np.sinh(t) if frame.curved else t)
    edges[0], edges[-1] = low, high
    return np.clip(edges, low, high)


def _area(heights: Values, widths: Values) -> float:
    """The area below the absolute value of a line through ``heights``, exact where it crosses zero."""
    import numpy as np

    left, right = heights[:-1], heights[1:]
    size = np.abs(left) + np.abs(right)
    crossing = left * right < 0
    mean = np.where(crossing, (left**2 + right**2) / np.where(size > 0, 2 * size, 1.0), size / 2)
    return float((mean * widths).sum())


def _in_common(distance: Values, reference: Counts, current: Counts) -> Values:
    """1 where only one side has rows."""
    import numpy as np

    has_rows = np.asarray(reference).sum(axis=-1) > 0, np.asarray(current).sum(axis=-1) > 0
    answer: Values = np.where(has_rows[0] == has_rows[1], distance, 1.0)
    return answer
