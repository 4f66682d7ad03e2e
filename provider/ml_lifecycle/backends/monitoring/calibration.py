"""How likely a difference is without drift, at the sizes at hand and for rows that are alike within their block.

Counts of a column lie along the last axis, blocks along the one before; whatever axes come first are columns, looks or
replicates, and are broadcast against each other.

The null: blocks of rows, each with its own shares around common ones. A block of ``n`` rows varies by its rows, which
is known, and by itself, which is estimated from the reference's blocks: ``cov = (diag(p) - p p') / n + G``. Pearson's
statistic of the two sums of blocks then is a sum of chi-squares, weighted by the eigenvalues of that covariance (Rao
and Scott 1981, 1984; Brier 1980). Its first two moments give degrees of freedom (Satterthwaite 1946), and its
estimated scale an F instead of a chi-square distribution (Thomas and Rao 1987). The answer is never less strict than
for independent rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.monitoring.distances import chi_square, shares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Counts = NDArray[Any]

LEAST_ROWS: Final = 20
"""With fewer rows on a side, nothing can be told."""
LEAST_BLOCKS: Final = 8
"""With fewer blocks in the reference, nobody knows how much blocks differ."""
LEAST_EXPECTED: Final = 5.0
"""Cells where fewer rows are expected on the smaller side are counted as one (Cochran 1954)."""
MOST_CORRELATED: Final = 0.9


@dataclass(frozen=True)
class Dispersion:
    """How much the reference's blocks differ, per axis before blocks and cells."""

    effect: Values
    """Trace of the blocks' own covariance ``G``, in units of ``diag(p) - p p'``."""
    squares: Values
    """Trace of its square."""
    correlation: Values
    """Of a block's own part with that of the next block, 0 to :data:`MOST_CORRELATED`."""
    typical: Values
    """Rows of a block, weighed as the estimate weighs them."""
    dimensions: Values
    """Cells that vary, less one."""
    freedom: Values
    """How many independent blocks the estimate is worth."""
    design_effect: Values
    """How many times more the shares of a typical block vary than those of as many independent rows; at least 1."""

    @property
    def trace_of_square(self) -> Values:
        """Of the square of what a typical block's covariance is, rows and block together."""
        return self.dimensions + 2 * self.typical * self.effect + self.typical**2 * self.squares


def p_values(reference: Counts, current: Counts) -> tuple[Values, Values]:
    """Chance of a difference like this without drift, and the reference's design effect.

    :param reference: Rows per block and cell, ``(..., blocks, cells)``; a single block stands for independent rows.
    :param current: The same, of other blocks; its axes before blocks and cells broadcast with the reference's.
    """
    import numpy as np

    reference, current = np.asarray(reference), np.asarray(current)
    tail = _Tail.of(*_wide_cells(*np.broadcast_arrays(reference.sum(axis=-2), current.sum(axis=-2))))
    independent = tail.independent()
    if reference.shape[-2] == 1:
        return independent, np.ones(independent.shape)
    spread = dispersion(reference)
    chance = np.maximum(independent, tail.with_blocks(spread, reference.sum(axis=-1), current.sum(axis=-1)))
    return chance, np.broadcast_to(spread.design_effect, independent.shape)


def dispersion(blocks: Counts) -> Dispersion:
    """What the blocks' own part is, by moments: nothing where they vary as their rows alone make them.

    The trace of the square is free of bias for normal blocks (Srivastava 2005, Some tests concerning the covariance
    matrix in high dimensional data, eq. 2.7), the correlation to the order of 1 / blocks (Marriott and Pope 1954).
    """
    import numpy as np

    blocks = np.asarray(blocks, dtype=np.float64)
    rows, count = blocks.sum(axis=-1), blocks.shape[-2]
    total = rows.sum(axis=-1)
    keep, target = _plan(blocks.sum(axis=-2), np.full(total.shape, 1.0 / count))
    cells = _cut(blocks, keep[..., None, :], target[..., None])
    share = shares(cells.sum(axis=-2))
    dimensions = np.maximum((share > 0).sum(axis=-1) - 1.0, 1.0)
    unit = np.divide(1.0, np.sqrt(share), out=np.zeros_like(share), where=share > 0)
    weight = np.sqrt(rows)[..., None]
    apart = (shares(cells) - share[..., None, :]) * unit[..., None, :] * weight
    typical = np.maximum((total - (rows**2).sum(axis=-1) / np.maximum(total, 1.0)) / (count - 1), 1.0)
    between = np.einsum("...bk,...bk->...", apart, apart) / (count - 1)
    excess = np.maximum(between - dimensions, 0.0)
    matrix = np.einsum("...bk,...bl->...kl", apart, apart) / (count - 1)
    correlation = _correlation(apart, excess)
    # The blocks' mean follows them: what they vary around it is less than what they vary.
    effect = excess / typical / _kept(correlation, count)
    freedom = _freedom(rows, effect / dimensions, correlation, count)
    square = freedom**2 / ((freedom - 1) * (freedom + 2)) * ((matrix**2).sum(axis=(-2, -1)) - between**2 / freedom)
    squares = (square - 2 * between + dimensions) / typical**2
    return Dispersion(
        effect=effect,
        squares=np.clip(squares, effect**2 / dimensions, effect**2),
        correlation=correlation,
        typical=typical,
        dimensions=dimensions,
        freedom=freedom,
        design_effect=1.0 + typical * effect / dimensions,
    )


def _correlation(apart: Values, excess: Values) -> Values:
    """Of neighbouring blocks' own parts: their rows' part is independent, so only the product's scale holds it."""
    import numpy as np

    count = apart.shape[-2]
    product = np.einsum("...bk,...bk->...", apart[..., 1:, :], apart[..., :-1, :]) / (count - 1)
    raw = np.divide(product, excess, out=np.zeros_like(product), where=excess > 0)
    corrected: Values = np.clip((count * raw + 1) / (count - 4), 0.0, MOST_CORRELATED)
    return corrected


def _kept(correlation: Values, count: int) -> Values:
    """Share of the blocks' variance that is left around their own mean."""
    return 1 - (inflation(correlation, count) - 1) / (count - 1)


def inflation(correlation: Values, count: int) -> Values:
    """How many times more the mean of so many consecutive blocks varies than that of independent ones (AR(1))."""
    rest = 1 - correlation
    return (1 + correlation) / rest - 2 * correlation * (1 - correlation**count) / (count * rest**2)


def _freedom(rows: Values, effect: Values, correlation: Values, count: int) -> Values:
    """Independent blocks of one size that the estimate is worth (Satterthwaite 1946; Bartlett 1946), 3 at least."""
    import numpy as np

    own = rows * effect[..., None]
    scale = 1 + own
    unequal = scale.mean(axis=-1) ** 2 / (scale**2).mean(axis=-1)
    part = own.mean(axis=-1) / scale.mean(axis=-1)
    repeated = 1 + part**2 * 2 * correlation**2 / (1 - correlation**2)
    least: Values = np.maximum((count - 1) * unequal / repeated, 3.0)
    return least


def _correlation_variance(spread: Dispersion) -> Values:
    """Of the estimated correlation: the more directions blocks vary in, the less (Bartlett 1946)."""
    import numpy as np

    directions = (spread.dimensions + spread.typical * spread.effect) ** 2 / np.maximum(spread.trace_of_square, 1e-12)
    part = spread.typical * spread.effect / (spread.dimensions + spread.typical * spread.effect)
    spare: Values = (1 - spread.correlation**2) / np.maximum(spread.freedom * directions * part**2, 1e-12)
    return spare


def _block_weight(rows: Values, correlation: Values) -> Values:
    """What part of ``G`` the variance of the blocks' common shares is."""
    import numpy as np

    alone = (rows**2).sum(axis=-1) / np.maximum(rows.sum(axis=-1), 1.0) ** 2
    weight: Values = alone * inflation(correlation, rows.shape[-1])
    return weight


def _slope(rows: Values, correlation: Values) -> Values:
    """How fast the weight grows with the correlation."""
    step = 1e-3
    slope: Values = (_block_weight(rows, correlation + step) - _block_weight(rows, correlation)) / step
    return slope


@dataclass(frozen=True)
class _Tail:
    """Pearson's statistic of two samples, with its moments for independent rows."""

    before: Values
    after: Values
    statistic: Values
    mean: Values
    half_variance: Values

    @classmethod
    def of(cls, before: Values, after: Values) -> _Tail:
        return cls(before, after, chi_square(before, after), *_moments(before, after))

    def independent(self) -> Values:
        """For independent rows: a chi-square with the statistic's own two moments.

        Where all rows but a few have one value, the few are counted instead (Fisher's exact test, twice the smaller
        tail).
        """
        import numpy as np
        from scipy import special

        varies = self.mean > 0
        half = np.where(varies, self.half_variance, 1.0)
        tail = special.chdtrc(np.where(varies, self.mean**2 / half, 1.0), self.statistic * self.mean / half)
        tail = np.where(varies, tail, 1.0)
        rare = varies & (_least_expected(self.before, self.after) < LEAST_EXPECTED)
        if rare.any():
            tail[rare] = _exact(self.before[rare], self.after[rare])
        return np.asarray(tail)

    def with_blocks(self, spread: Dispersion, reference: Counts, current: Counts) -> Values:
        """Where the blocks' own part adds to the rows'; both sides as rows per block."""
        import numpy as np
        from scipy import special

        sides = reference.astype(np.float64), current.astype(np.float64)
        scale = sum(1 / np.maximum(side.sum(axis=-1), 1.0) for side in sides)
        weight = sum(_block_weight(side, spread.correlation) for side in sides) / scale
        slope = sum(_slope(side, spread.correlation) for side in sides) / scale
        effect = spread.effect * weight
        centre = np.maximum(self.mean + effect, 1e-12)
        square = self.half_variance + 2 * effect + spread.squares * weight**2
        uncertain = (weight / spread.typical) ** 2 * 2 * spread.trace_of_square / spread.freedom
        uncertain = uncertain + (spread.effect * slope) ** 2 * _correlation_variance(spread)
        estimate = np.minimum(2 * centre**2 / np.maximum(uncertain, 1e-12), 1e6)
        freedom = centre**2 / np.maximum(square, 1e-12)
        return np.asarray(special.fdtrc(freedom, estimate, self.statistic / centre))


def _exact(before: Values, after: Values) -> Values:
    import numpy as np
    from scipy import stats

    both = before + after
    common = both.argmax(axis=-1)[..., None]
    rows, drawn = both.sum(axis=-1), after.sum(axis=-1)
    rest = rows - np.take_along_axis(both, common, axis=-1)[..., 0]
    found = drawn - np.take_along_axis(after, common, axis=-1)[..., 0]
    above = stats.hypergeom.sf(found - 1, rows, rest, drawn)
    below = stats.hypergeom.cdf(found, rows, rest, drawn)
    return np.asarray(np.clip(2 * np.minimum(above, below), 0.0, 1.0))


def _moments(before: Values, after: Values) -> tuple[Values, Values]:
    """Mean and half the variance of the statistic, given both margins (Haldane 1940; Dawson 1954)."""
    import numpy as np

    both = before + after
    rows = np.maximum(both.sum(axis=-1), 4.0)
    cells = (both > 0).sum(axis=-1).astype(np.float64)
    inverse = np.divide(1.0, both, out=np.zeros_like(both), where=both > 0).sum(axis=-1)
    sides = rows * sum(1 / np.maximum(side.sum(axis=-1), 1.0) for side in (before, after))
    spread = (rows - 2) / (rows - 1), (cells - 1) * (rows - cells) / (rows - 1)
    uneven = (sides - 4) / (rows - 2), (rows * inverse - cells**2) / (rows - 2)
    variance = 2 * rows / (rows - 3) * (spread[0] - uneven[0]) * (spread[1] - uneven[1])
    variance = variance + rows**2 / (rows - 1) * uneven[0] * uneven[1]
    return rows * (cells - 1) / (rows - 1), np.maximum(variance, 0.0) / 2


def _wide_cells(before: Values, after: Values) -> tuple[Values, Values]:
    """Both sides in cells wide enough to be tested; which these are, both together say."""
    import numpy as np

    rows = before.sum(axis=-1), after.sum(axis=-1)
    keep, target = _plan(before + after, np.minimum(*rows) / np.maximum(rows[0] + rows[1], 1.0))
    return _cut(before, keep, target), _cut(after, keep, target)


def _least_expected(before: Values, after: Values) -> Values:
    import numpy as np

    both = before + after
    part = np.minimum(before.sum(axis=-1), after.sum(axis=-1)) / np.maximum(both.sum(axis=-1), 1.0)
    least: Values = np.where(both > 0, both, np.inf).min(axis=-1) * part
    return least


def _plan(total: Values, part: Values) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which cells stay by themselves, and where the rest goes: a cell of its own behind them if it is wide enough.

    The widest cell always stays, so that what varies is in two cells at least.
    """
    import numpy as np

    cells = np.arange(total.shape[-1])
    expected = total * part[..., None]
    keep = (expected >= LEAST_EXPECTED) | (cells == total.argmax(axis=-1)[..., None])
    rest = np.where(keep, 0.0, expected).sum(axis=-1)
    smallest = np.where(keep, total, np.inf).argmin(axis=-1)
    joins = (rest < LEAST_EXPECTED) & (keep.sum(axis=-1) > 1)
    return keep, np.where(joins, smallest, total.shape[-1])


def _cut(counts: Values, keep: NDArray[np.bool_], target: NDArray[np.intp]) -> Values:
    import numpy as np

    rest = np.where(keep, 0.0, counts).sum(axis=-1)
    kept = np.where(keep, counts, 0.0)
    kept = np.concatenate([kept, np.zeros((*kept.shape[:-1], 1))], axis=-1)
    cut: Values = kept + np.where(np.arange(kept.shape[-1]) == target[..., None], rest[..., None], 0.0)
    return cut
