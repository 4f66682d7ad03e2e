"""Confidence curves: for every confidence a bound, and for every limit the evidence against it.

A curve answers two questions that have to agree: which bound holds at a confidence, and how small is the p-value of a
limit. Both are read from one monotone map from standard normal scores to values: ``at(-1.645)`` is the one-sided 95%
lower bound, ``at(1.645)`` the upper one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

NORMAL: Final = NormalDist()
_FARTHEST: Final = 12.0
"""In standard normal scores: its tail, 2e-33, is as good as none."""
_STEPS: Final = 60
_LARGEST_EXPONENT: Final = 600.0
"""On the logit scale: soon beyond it a float's exponential ends."""
FEW_DISCORDANT: Final = 25
"""Rows that only one of two is right about, below which the exact test is asked too: the usual rule for McNemar's."""
_OUTERMOST: Final = 5
"""Resamples beyond which the tail of a bootstrap distribution is taken as a normal one."""


class Bounds(ABC):
    """A value and how far it may be from the truth."""

    value: float

    def at(self, z: float) -> float:
        """The bound at a standard normal score: below 0 a lower, above 0 an upper one; never falls as ``z`` grows."""
        return self._at(z)

    @abstractmethod
    def _at(self, z: float) -> float: ...

    @property
    def error(self) -> float:
        """The standard error, or what takes its place: half of the central 68% interval."""
        return (self.at(1.0) - self.at(-1.0)) / 2

    def lower(self, confidence: float) -> float:
        """The one-sided lower bound; at a confidence of one half the estimate itself."""
        return self._bound(confidence, -1)

    def upper(self, confidence: float) -> float:
        """The one-sided upper bound; at a confidence of one half the estimate itself."""
        return self._bound(confidence, 1)

    def p_below(self, limit: float) -> float:
        """One-sided p-value of "at least ``limit``": small where the truth is shown to lie below."""
        return _tail(crossing(lambda z: self.at(z) >= limit, -_FARTHEST, _FARTHEST))

    def p_above(self, limit: float) -> float:
        """One-sided p-value of "at most ``limit``": small where the truth is shown to lie above."""
        return _tail(-crossing(lambda z: self.at(z) > limit, -_FARTHEST, _FARTHEST))

    def _bound(self, confidence: float, side: int) -> float:
        z = NORMAL.inv_cdf(confidence)
        return self.at(side * z) if z > 0 else self.value


def _tail(z: float) -> float:
    return min(1.0, max(0.0, 0.5 * math.erfc(z / math.sqrt(2))))


def crossing(reached: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that stays true begins to hold, by bisection; ``high`` where it never does."""
    if reached(low):
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return high


def _quantile(z: float, freedom: int | None) -> float:
    """The quantile of Student's distribution that has the normal score's probability."""
    if freedom is None or z == 0:
        return z
    from scipy.special import ndtr, stdtrit

    return math.copysign(float(-stdtrit(freedom, ndtr(-abs(z)))), z)


@dataclass(frozen=True)
class Certain(Bounds):
    """A value without any error: two models that say the same about every row."""

    value: float

    def _at(self, z: float) -> float:  # noqa: ARG002  # the same at every confidence
        return self.value


@dataclass(frozen=True)
class Symmetric(Bounds):
    """The estimate and its standard error, with Student's quantiles where few clusters stand behind it."""

    value: float
    spread: float
    freedom: int | None = None

    def _at(self, z: float) -> float:
        return self.value + _quantile(z, self.freedom) * self.spread

    @property
    def error(self) -> float:
        """The standard error."""
        return self.spread


@dataclass(frozen=True)
class Logit(Bounds):
    """As :class:`Symmetric` on the logit scale, which keeps within 0 and 1.

    For areas near 1, where the sampling distribution is skewed: Pepe, The Statistical Evaluation of Medical Tests for
    Classification and Prediction (2003), section 5.2.3.
    """

    value: float
    spread: float
    freedom: int | None = None

    def _at(self, z: float) -> float:
        slope = self.value * (1 - self.value)
        # Student's quantiles of few clusters go beyond what exp() can hold.
        exponent = min(_LARGEST_EXPONENT, -_quantile(z, self.freedom) * self.spread / slope)
        return 1 / (1 + (1 / self.value - 1) * math.exp(exponent))

    @property
    def error(self) -> float:
        """The standard error."""
        return self.spread


@dataclass(frozen=True)
class Wilson(Bounds):
    """A proportion: Wilson, J. Am. Stat. Assoc. 22 (1927).

    :param rows: How many independent rows are worth as much: Korn and Graubard, Survey Methodology 24 (1998), put the
        effective number into an interval for independent rows.
    :param scale: What a row of the proportion counts, where it is a cost.
    """

    share: float
    rows: float
    freedom: int | None = None
    scale: float = 1.0

    @property
    def value(self) -> float:  # type: ignore[override]  # worked out, not stored
        """The estimate."""
        return self.scale * self.share

    def _at(self, z: float) -> float:
        quantile = _quantile(z, self.freedom)
        square = quantile**2 / self.rows
        root = math.sqrt(self.share * (1 - self.share) / self.rows + square / (4 * self.rows))
        found = (self.share + square / 2 + quantile * root) / (1 + square)
        return self.scale * min(1.0, max(0.0, found))


@dataclass(frozen=True)
class PairedProportions(Bounds):
    """The difference of two proportions on the same rows: the score interval of Tango, Statist. Med. 17 (1998).

    At 0 its test is McNemar's. With fewer than 25 discordant rows the bounds hold in the exact binomial test given
    their number too (Clopper and Pearson, Biometrika 26 (1934)), which McNemar's test approximates.

    :param gains: Rows that only the first is right about.
    :param losses: Rows that only the second is right about.
    """

    gains: int
    losses: int
    rows: int

    @property
    def value(self) -> float:  # type: ignore[override]  # worked out, not stored
        """The estimate."""
        return (self.gains - self.losses) / self.rows

    def _at(self, z: float) -> float:
        if z == 0:
            return self.value
        return crossing(lambda limit: self.score(limit) >= z, -1.0, 1.0)

    def p_below(self, limit: float) -> float:
        """As of any bounds, from the score itself."""
        return _tail(self.score(limit))

    def p_above(self, limit: float) -> float:
        """As of any bounds, from the score itself."""
        return _tail(-self.score(limit))

    def score(self, limit: float) -> float:
        """How far the limit lies above the estimate, in standard normal scores."""
        found = self._tango(limit)
        if self.gains + self.losses >= FEW_DISCORDANT or limit == self.value:
            return found
        exact = self._exact(limit)
        return max(found, exact) if limit < self.value else min(found, exact)

    def _tango(self, limit: float) -> float:
        rows, gains, losses = self.rows, self.gains, self.losses
        if abs(limit) >= 1:
            return math.copysign(math.inf, limit) if limit != self.value else 0.0
        # The likelihood's maximum for the losses, given the difference: the root of a quadratic (Tango, section 3).
        linear = -gains - losses + (2 * rows - gains + losses) * limit
        constant = -losses * limit * (1 - limit)
        share = (math.sqrt(max(0.0, linear**2 - 8 * rows * constant)) - linear) / (4 * rows)
        variance = rows * (2 * share + limit * (1 - limit))
        distance = rows * limit - (gains - losses)
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    def _exact(self, limit: float) -> float:
        from scipy.special import bdtr, bdtrc

        discordant = self.gains + self.losses
        if discordant == 0 or abs(limit) * self.rows >= discordant:
            return math.copysign(math.inf, limit - self.value)
        share = (1 + limit * self.rows / discordant) / 2
        if limit < self.value:
            as_many = float(bdtrc(self.gains - 1, discordant, share)) if self.gains else 1.0
            return min(0.0, _score(as_many))
        return max(0.0, -_score(float(bdtr(self.gains, discordant, share))))


def _score(probability: float) -> float:
    if probability <= 0:
        return -math.inf
    return NORMAL.inv_cdf(probability) if probability < 1 else math.inf


@dataclass(frozen=True)
class Alike(Bounds):
    """Two models that differ on all rows alike, or on none: what so many leave open.

    Of no difference it is Tango's interval for no discordant row. Otherwise the share of rows that are so has the exact
    bound of Clopper and Pearson, Biometrika 26 (1934), for all of them, and the others may say the utter opposite.

    :param scale: What a row counts at most, where it is a cost.
    """

    rows: int
    scale: float = 1.0
    value: float = 0.0

    def _at(self, z: float) -> float:
        if self.value == 0:
            return math.copysign(self.scale * z**2 / (self.rows + z**2), z)
        others = 1 - _tail(abs(z)) ** (1 / self.rows) if z else 0.0
        return self.value + others * (math.copysign(self.scale, z) - self.value)


class Bootstrap(Bounds):
    """The bootstrap: bias-corrected and accelerated (Efron, J. Am. Stat. Assoc. 82 (1987)), or plain percentiles.

    Quantiles are widened for few units as in Hesterberg, The American Statistician 69 (2015), section 4.3. Beyond the
    outermost resamples the tail goes on as a normal one, so that a confidence which needs more of them than there are
    still gets a bound.

    :param replicates: The value in each resample.
    :param units: How many independent units were drawn from.
    :param left_out: The value without each unit, from which the acceleration is taken; ``None``: plain percentiles.
    """

    def __init__(self, value: float, replicates: Numbers, units: int, left_out: Numbers | None = None) -> None:
        import numpy as np

        self.value = value
        self._quantiles, self._units = _Quantiles(np.sort(replicates)), units
        self._bias = _bias(value, replicates) if left_out is not None else None
        self._acceleration = _acceleration(left_out) if left_out is not None else 0.0

    @property
    def error(self) -> float:
        """The standard deviation of the resamples, made unbiased."""
        return self._quantiles.spread * math.sqrt(self._units / (self._units - 1))

    @property
    def corrected(self) -> bool:
        """Whether bias and acceleration are asked for and defined; else the bounds are plain percentiles."""
        return self._bias is not None

    def _at(self, z: float) -> float:
        wide = _widened(z, self._units)
        if self._bias is None:
            return self._quantiles.at(wide)
        moved = self._bias + wide
        scale = 1 - self._acceleration * moved
        corrected = self._bias + moved / scale if scale > 0 else math.copysign(_FARTHEST, moved)
        return self._quantiles.at(min(_FARTHEST, max(-_FARTHEST, corrected)))


class Folded(Bounds):
    """A bootstrap of something that cannot fall below 0, and whose resamples lie above the estimate for that reason.

    Upwards percentiles, which are then on the safe side; downwards they are mirrored at the estimate (the basic
    bootstrap of Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2).
    """

    def __init__(self, value: float, replicates: Numbers, units: int) -> None:
        import numpy as np

        self.value = value
        self._quantiles, self._units = _Quantiles(np.sort(replicates)), units

    @property
    def error(self) -> float:
        """The standard deviation of the resamples, made unbiased."""
        return self._quantiles.spread * math.sqrt(self._units / (self._units - 1))

    def _at(self, z: float) -> float:
        reach = max(self.value, self._quantiles.at(_widened(abs(z), self._units)))
        if z > 0:
            return reach
        return max(0.0, 2 * self.value - reach) if z < 0 else self.value


class _Quantiles:
    """Quantiles of sorted values by their normal score, with a normal distribution's tails."""

    def __init__(self, ordered: Numbers) -> None:
        import numpy as np
        from scipy.special import ndtri

        cut = min(_OUTERMOST, (len(ordered) - 1) // 2)
        inner = slice(cut, len(ordered) - cut)
        self._scores = ndtri(np.arange(1, len(ordered) + 1) / (len(ordered) + 1))[inner]
        self._values = ordered[inner]
        self.spread = float(ordered.std(ddof=1))

    def at(self, z: float) -> float:
        """The value at a normal score."""
        import numpy as np

        if z < self._scores[0]:
            return float(self._values[0] + (z - self._scores[0]) * self.spread)
        if z > self._scores[-1]:
            return float(self._values[-1] + (z - self._scores[-1]) * self.spread)
        return float(np.interp(z, self._scores, self._values))


def _widened(z: float, units: int) -> float:
    wide = _quantile(z, units - 1) * math.sqrt(units / (units - 1))
    return min(_FARTHEST, max(-_FARTHEST, wide))


def _bias(value: float, replicates: Numbers) -> float | None:
    """The normal score of the share of resamples below the estimate; ``None`` where all lie on one side."""
    below = float((replicates < value).mean() + (replicates == value).mean() / 2)
    return NORMAL.inv_cdf(below) if 0 < below < 1 else None


def _acceleration(left_out: Numbers) -> float:
    distance = left_out.mean() - left_out
    squares = float((distance**2).sum())
    return float((distance**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0


@dataclass(frozen=True)
class Gap(Bounds):
    """The greatest difference between any two groups.

    For each pair the bounds follow from those of its two groups (the method of variance estimates recovery: Zou and
    Donner, Statist. Med. 27 (2008)). That no pair differs by more than a limit is an intersection of claims, each
    tested on its own level; that some pair does is one out of many, for which Bonferroni's correction is made.

    :param correlation: Of the groups' errors, where clusters reach over groups.
    """

    groups: Sequence[Bounds]
    correlation: Numbers | None = None

    @property
    def value(self) -> float:  # type: ignore[override]  # worked out, not stored
        """The estimate."""
        values = [group.value for group in self.groups]
        return max(values) - min(values)

    def _at(self, z: float) -> float:
        import numpy as np

        pairs = len(self.groups) * (len(self.groups) - 1) / 2
        # As a share of the lower tail: the chance that any of the pairs' bounds is wrong.
        wide = -_score(max(1e-300, _tail(-z) / pairs)) if z < 0 else z
        wide = min(_FARTHEST, wide)
        value = np.array([group.value for group in self.groups])
        below = value - np.array([group.at(-wide) for group in self.groups])
        above = np.array([group.at(wide) for group in self.groups]) - value
        between = value[:, None] - value[None, :]
        first, second = (above, below) if z > 0 else (below, above)
        squares = first[:, None] ** 2 + second[None, :] ** 2
        if self.correlation is not None:
            squares = squares - 2 * self.correlation * first[:, None] * second[None, :]
        reach = np.sqrt(np.maximum(squares, 0.0))
        np.fill_diagonal(reach, 0.0)
        return float((between + reach).max()) if z > 0 else max(0.0, float((between - reach).max()))
