"""Two versions' answers to the same requests: how far they lie apart, and how sure that is.

Answers are arrays ``(requests,)``, or ``(requests, classes)`` of more than two classes. Of classes, each is looked at
alone, the one that moved furthest is told, and its p-value and bounds pay for the others (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.core.contracts import PairedScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

RESAMPLES: Final = 999
"""Of the p-value and of the bounds; the least p-value is one over one more."""
UNSURE: Final = 0.05
"""How often the bounds may miss."""
THRESHOLD: Final = 0.5
"""Probability from which on the second of two classes is the answer."""
_AT_ONCE: Final = 2_000_000
"""Numbers that are held while resampling."""
_SLACK: Final = 1e-12
"""Sums of shares that are equal may differ by rounding."""
_QUANTILE: Final = 1.959964
"""Of the normal distribution, for two-sided 95%."""


def compare(old: Values, new: Values, *, decides: bool) -> PairedScores:
    """Compare finite answers, row by row of the same request.

    :param decides: Whether an answer is a probability that decides on a label, or else a number.
    """
    import numpy as np

    rows = len(old)
    if rows == 0:
        return PairedScores(rows=0, detail="there is no request that both versions answered")
    before, after = (np.asarray(side, dtype=np.float64).reshape(rows, -1) for side in (old, new))
    classes = before.shape[1]
    columns = [_Column.of(before[:, place], after[:, place]) for place in range(classes)]
    furthest = max(columns, key=lambda one: one.distance)
    slack = furthest.slack(UNSURE / classes)
    middle, half = _mean(furthest.old, furthest.new)
    return PairedScores(
        rows=rows,
        distance=furthest.distance,
        p_value=min(1.0, classes * furthest.p_value()),
        distance_low=max(0.0, furthest.distance - slack),
        distance_high=min(1.0, furthest.distance + slack),
        mean_difference=middle,
        low=None if half is None or middle is None else middle - half,
        high=None if half is None or middle is None else middle + half,
        flipped=float((_labels(before) != _labels(after)).mean()) if decides else None,
        old_quantiles=quantiles(furthest.old),
        new_quantiles=quantiles(furthest.new),
    )


def quantiles(values: Values, points: int = 21) -> tuple[float, ...]:
    """Evenly spaced quantiles, each one of the values, the least and the greatest among them; empty of nothing."""
    import numpy as np

    shares = np.linspace(0, 1, points)
    return tuple(map(float, np.quantile(values, shares, method="inverted_cdf"))) if len(values) else ()


def _labels(scores: Values) -> Any:
    """The place of each row's class."""
    return scores[:, 0] >= THRESHOLD if scores.shape[1] == 1 else scores.argmax(axis=1)


def _mean(old: Values, new: Values) -> tuple[float | None, float | None]:
    """The mean of new minus old, and half of its 95% interval by the normal approximation.

    ``None`` where they are no numbers.
    """
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        differences = new - old
        middle = float(differences.mean())
        half = (
            _QUANTILE * float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else None
        )
    if half is not None and not math.isfinite(half):
        half = None
    return (middle if math.isfinite(middle) else None), half


@dataclass(frozen=True)
class _Column:
    """One score of both versions, with what its distance is worked out from."""

    old: Values
    new: Values
    order: NDArray[np.int64]
    """Of the old scores followed by the new ones, from the least on."""
    ends: NDArray[np.int64]
    """Where in that order each value stands last."""
    gaps: Values
    """Share of the new scores up to each value, minus that of the old ones."""

    @classmethod
    def of(cls, old: Values, new: Values) -> _Column:
        """Sort the scores once."""
        import numpy as np

        both = np.concatenate([old, new])
        order = np.argsort(both, kind="stable")
        values = both[order]
        ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # the last one ends, too
        column = cls(old, new, order, ends, np.empty(0))
        return cls(old, new, order, ends, column._curves(np.ones((len(old), 1)))[:, 0])

    @property
    def distance(self) -> float:
        """Kolmogorov-Smirnov: the greatest difference of the shares of scores up to some value."""
        return float(abs(self.gaps).max())

    def p_value(self) -> float:
        """Chance of such a distance if it were all the same which version gave which of the two answers.

        The versions change places request by request, at random: the answers to one request belong together, and the
        textbook's test of two independent samples would not see that (Lehmann and Romano 2005, Testing Statistical
        Hypotheses, 15.2).
        """
        import numpy as np

        rng, found = np.random.default_rng(0), 0
        for count in self._portions():
            signs = np.where(rng.integers(0, 2, size=(len(self.old), count)) == 1, 1.0, -1.0)
            found += int((abs(self._curves(signs)).max(axis=0) >= self.distance - _SLACK).sum())
        return (found + 1) / (RESAMPLES + 1)

    def slack(self, unsure: float) -> float:
        """How far the distance may lie from the one of all requests.

        A band around the whole curve, by weighing the requests at random (multiplier bootstrap: van der Vaart and
        Wellner 1996, Weak Convergence and Empirical Processes, 2.9). It is never narrower than what could have escaped
        so many requests (the rule of three: Hanley and Lippman-Hand, JAMA 249 (1983)).
        """
        import numpy as np

        rng, found = np.random.default_rng(1), []
        for count in self._portions():
            weights = rng.standard_normal(size=(len(self.old), count))
            found.append(abs(self._curves(weights - weights.mean(axis=0))).max(axis=0))
        band = float(np.quantile(np.concatenate(found), 1 - unsure))
        escaped: float = 1 - unsure ** (1 / len(self.old))
        return max(band, escaped)

    def _curves(self, weights: Values) -> Values:
        """The curve of differences with a weight for each request, for each column of ``weights``."""
        import numpy as np

        both = np.concatenate([-weights, weights])[self.order]
        curves: Values = np.cumsum(both, axis=0)[self.ends] / len(self.old)
        return curves

    def _portions(self) -> Iterator[int]:
        """How many resamples at a time."""
        most = max(1, _AT_ONCE // (2 * len(self.old)))
        for first in range(0, RESAMPLES, most):
            yield min(most, RESAMPLES - first)
