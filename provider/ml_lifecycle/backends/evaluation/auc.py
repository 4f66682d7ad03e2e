"""Areas under curves, with what each row contributes to their error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.evaluation.bootstrap import sums_by

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Codes = NDArray[np.int64]
    Flags = NDArray[np.bool_]

_TWO: Final = 2


@dataclass(frozen=True)
class Area:
    """An area and each row's influence on it; the influences sum to 0."""

    value: float
    influence: Numbers


def roc_area(positive: Flags, score: Numbers, weight: Numbers | None) -> Area | None:
    """The area under the ROC curve: the chance that a positive row scores above a negative one; ``None`` on one class.

    The influences are the structural components of DeLong et al., Biometrics 44 (1988), found by sorting as in Sun
    and Xu, IEEE Signal Processing Letters 21 (2014).
    """
    import numpy as np

    counts = np.ones(len(score)) if weight is None else weight
    hits, misses = np.where(positive, counts, 0.0), np.where(positive, 0.0, counts)
    all_hits, all_misses = float(hits.sum()), float(misses.sum())
    if all_hits <= 0 or all_misses <= 0:
        return None
    order = np.argsort(score)
    starts = _tie_starts(score[order])
    lengths = np.diff(np.append(starts, len(score)))
    below = np.empty(len(score))
    below[order] = np.repeat(_midway(misses[order], starts), lengths) / all_misses
    above = np.empty(len(score))
    above[order] = 1 - np.repeat(_midway(hits[order], starts), lengths) / all_hits
    value = float((hits * below).sum()) / all_hits
    influence = np.where(positive, hits * (below - value) / all_hits, misses * (above - value) / all_misses)
    return Area(min(1.0, max(0.0, value)), influence)


def macro_roc_area(truth: Codes, scores: Numbers, weight: Numbers | None) -> Area | None:
    """The mean area of each class against the rest; ``None`` where a class of the scores has no row."""
    areas = [roc_area(truth == place, scores[:, place], weight) for place in range(scores.shape[1])]
    known = [area for area in areas if area is not None]
    if len(known) < len(areas):
        return None
    influence = sum((area.influence for area in known[1:]), known[0].influence) / len(known)
    return Area(sum(area.value for area in known) / len(known), influence)


def precision_area(positive: Flags, score: Numbers, weight: Numbers | None) -> Area | None:
    """Average precision: precision at each score, weighted by the recall that is gained there; ``None`` on one class.

    The influences are derivatives by each row's weight: the infinitesimal jackknife, Efron, The Jackknife, the
    Bootstrap and Other Resampling Plans (1982), chapter 6.
    """
    import numpy as np

    counts = np.ones(len(score)) if weight is None else weight
    all_hits = float(counts[positive].sum())
    if all_hits <= 0 or float(counts.sum()) <= all_hits:
        return None
    order = np.argsort(-score)
    starts = _tie_starts(score[order])
    lengths = np.diff(np.append(starts, len(score)))
    gained = np.add.reduceat(np.where(positive, counts, 0.0)[order], starts)
    found, shown = np.cumsum(gained), np.cumsum(np.add.reduceat(counts[order], starts))
    shown = np.where(shown > 0, shown, 1.0)
    precision, recalled = found / shown, gained / all_hits
    value = float((recalled * precision).sum())
    # What one more row at a score adds to the precision there and at every lower score.
    as_hit = np.cumsum((recalled / shown)[::-1])[::-1] + (precision - value) / all_hits
    as_row = -np.cumsum((recalled * found / shown**2)[::-1])[::-1]
    slope = np.empty(len(score))
    slope[order] = np.repeat(as_row, lengths)
    hits = np.empty(len(score))
    hits[order] = np.repeat(as_hit, lengths)
    return Area(value, counts * (slope + np.where(positive, hits, 0.0)))


def delong_error(influence: Numbers, positive: Flags, cluster: Codes | None) -> float | None:
    """The standard error from structural components; ``None`` with fewer than two rows or clusters of a class.

    With clusters their sums, as in Obuchowski, Biometrics 53 (1997): classes share clusters, so that their sums'
    covariance counts too.
    """
    import numpy as np

    if cluster is None:
        sizes = int(positive.sum()), int((~positive).sum())
        if min(sizes) < _TWO:
            return None
        return math.sqrt(
            sum(
                size / (size - 1) * float((influence[rows] ** 2).sum())
                for size, rows in zip(sizes, (positive, ~positive), strict=True)
            )
        )
    count = int(cluster.max()) + 1
    sums = [sums_by(cluster, np.where(rows, influence, 0.0), count) for rows in (positive, ~positive)]
    held = [len(np.unique(cluster[rows])) for rows in (positive, ~positive)]
    if min(held) < _TWO:
        return None
    variance = sum(size / (size - 1) * float((one**2).sum()) for size, one in zip(held, sums, strict=True))
    variance += 2 * count / (count - 1) * float((sums[0] * sums[1]).sum())
    return math.sqrt(max(0.0, variance))


def linear_error(influence: Numbers, cluster: Codes | None) -> float | None:
    """The standard error of a sum of influences; ``None`` with fewer than two independent ones.

    Between clusters, as in Liang and Zeger, Biometrika 73 (1986), with the factor for few of them.
    """
    sums = influence if cluster is None else sums_by(cluster, influence, int(cluster.max()) + 1)
    count = len(sums)
    if count < _TWO:
        return None
    return math.sqrt(count / (count - 1) * float(((sums - sums.mean()) ** 2).sum()))


def _tie_starts(ordered: Numbers) -> Codes:
    """Where each run of equal values begins."""
    import numpy as np

    return np.append(0, np.nonzero(np.diff(ordered))[0] + 1)


def _midway(ordered: Numbers, starts: Codes) -> Numbers:
    """Of each run of ties: everything before it, and half of what is in it."""
    import numpy as np

    inside = np.add.reduceat(ordered, starts)
    return np.cumsum(inside) - inside / 2
