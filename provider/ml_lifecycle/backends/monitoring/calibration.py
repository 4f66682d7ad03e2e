"""How likely a difference is without drift, at the sizes at hand and for rows that are alike within their block.

Counts of a column lie along the last axis, blocks along the one before; whatever axes come first are columns, looks or
replicates, and are broadcast against each other.

The null: blocks of rows, each with its own shares around common ones. A block of ``n`` rows varies by its rows, which
is known, and by itself, which is estimated from the reference's blocks: ``cov = (diag(p) - p p') / n + G``. Pearson's
statistic of the two sums of blocks then is a sum of chi-squares, weighted by the eigenvalues of that covariance (Rao
and Scott 1981, 1984; Brier 1980). Its first three cumulants give a scale and degrees of freedom (Pearson 1959; two of
them, as Satterthwaite 1946 has it, make the far tail too small where days move as one), and its estimated scale an F
instead of a chi-square distribution (Thomas and Rao 1987). Blocks of one window follow each other: how alike neighbours
are is taken at the upper end of what the reference allows. The answer is never less strict than for independent rows.
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
"""Cells where fewer rows are expected on the smaller side are counted with others (Cochran 1954)."""
MOST_CORRELATED: Final = 0.95
_MUCH_LARGER: Final = 2.0
"""Blocks so many times as large as those of the reference show what these did not."""
_CORRELATION_ERRORS: Final = 1.96
_EFFECT_ERRORS: Final = 1.0
"""Standard errors by which the blocks' own part is taken higher than it was found: measured, so that the far tail
stays honest where the part is small against its error."""


@dataclass(frozen=True)
class Dispersion:
    """How much the reference's blocks differ, per axis before blocks and cells."""

    effect: Values
    """Trace of the blocks' own covariance ``G``, in units of ``diag(p) - p p'``, higher by its standard error."""
    squares: Values
    """Trace of its square, with all of the error in one direction."""
    correlation: Values
    """Of a block's own part with that of the next block, 0 to :data:`MOST_CORRELATED`."""
    typical: Values
    """Rows of a block, weighed as the estimate weighs them."""
    dimensions: Values
    """Cells that vary, less one."""
    freedom: Values
    """How many independent blocks the estimate is worth."""
    observed: Values
    """Root of the trace of the square of what blocks vary in all, by their rows and by themselves."""
    design_effect: Values
    """How many times more the shares of a typical block vary than those of as many independent rows; at least 1, and
    without the error."""


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
    apart, dimensions = _standardised(blocks)
    typical = np.maximum((total - (rows**2).sum(axis=-1) / np.maximum(total, 1.0)) / (count - 1), 1.0)
    between = np.einsum("...bk,...bk->...", apart, apart) / (count - 1)
    excess = np.maximum(between - dimensions, 0.0)
    matrix = np.einsum("...bk,...bl->...kl", apart, apart) / (count - 1)
    correlation = _correlation(apart, excess, matrix)
    # The blocks' mean follows them: what they vary around it is less than what they vary.
    effect = excess / typical / _kept(correlation, count)
    freedom = _freedom(rows, effect / dimensions, correlation, count)
    square = freedom**2 / ((freedom - 1) * (freedom + 2)) * ((matrix**2).sum(axis=(-2, -1)) - between**2 / freedom)
    design_effect = 1.0 + typical * effect / dimensions
    squares = np.clip((square - 2 * between + dimensions) / typical**2, effect**2 / dimensions, effect**2)
    observed = np.sqrt(np.maximum(square, dimensions))
    error = _EFFECT_ERRORS * np.sqrt(2 / freedom) * observed / typical
    effect, squares = effect + error, (np.sqrt(squares) + error) ** 2
    return Dispersion(
        effect=effect,
        squares=squares,
        correlation=correlation,
        typical=typical,
        dimensions=dimensions,
        freedom=freedom,
        observed=observed,
        design_effect=design_effect,
    )


def _standardised(blocks: Values) -> tuple[Values, Values]:
    """How far each block's shares lie from those of all, in units of independent rows, and in how many directions."""
    import numpy as np

    rows = blocks.sum(axis=-1)
    target = _plan(blocks.sum(axis=-2), np.full(rows.shape[:-1], 1.0 / blocks.shape[-2]))
    cells = _cut(blocks, target[..., None, :])
    share = shares(cells.sum(axis=-2))
    unit = np.divide(1.0, np.sqrt(share), out=np.zeros_like(share), where=share > 0)
    apart = (shares(cells) - share[..., None, :]) * unit[..., None, :] * np.sqrt(rows)[..., None]
    return apart, np.maximum((share > 0).sum(axis=-1) - 1.0, 1.0)


def _correlation(apart: Values, excess: Values, matrix: Values) -> Values:
    """Of neighbouring blocks' own parts: upper end of a one-sided 97.5% interval, free of bias to the order 1 / blocks.

    The rows' part is independent from block to block, so the mean product of neighbours holds the blocks' own alone
    (Marriott and Pope 1954; Bartlett 1946 for its variance, less the more directions blocks vary in).
    """
    import numpy as np

    count = apart.shape[-2]
    product = np.einsum("...bk,...bk->...", apart[..., 1:, :], apart[..., :-1, :]) / (count - 1)
    found = np.divide(product, excess, out=np.zeros_like(product), where=excess > 0)
    found = np.clip((count * found + 1) / max(count - 4, 1), 0.0, MOST_CORRELATED)
    size = np.maximum((matrix**2).sum(axis=(-2, -1)) * (1 - found**2) / (count - 1), 0.0)
    error = np.divide(np.sqrt(size), excess, out=np.zeros_like(product), where=excess > 0)
    upper: Values = np.minimum(found + _CORRELATION_ERRORS * error, MOST_CORRELATED)
    return upper


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


def _block_weight(rows: Values, correlation: Values) -> Values:
    """What part of ``G`` the variance of the blocks' common shares is."""
    import numpy as np

    alone = (rows**2).sum(axis=-1) / np.maximum(rows.sum(axis=-1), 1.0) ** 2
    weight: Values = alone * inflation(correlation, rows.shape[-1])
    return weight


@dataclass(frozen=True)
class _Tail:
    """Pearson's statistic of two samples, with its cumulants for independent rows."""

    before: Values
    after: Values
    statistic: Values
    cumulants: tuple[Values, Values, Values]
    """In units of a chi-square's: the mean, half the variance, and an eighth of the third."""

    @classmethod
    def of(cls, before: Values, after: Values) -> _Tail:
        return cls(before, after, chi_square(before, after), _cumulants(before, after))

    def independent(self) -> Values:
        """For independent rows: the larger of two tails, as each of them is too small for some rare counts.

        Where all rows but a few have one value, the few are counted instead (Fisher's exact test, twice the smaller
        tail).
        """
        import numpy as np

        varies = self.cumulants[0] > 0
        tail = np.maximum(_tail_of(self.statistic, *self.cumulants), _likelihood_ratio(self.before, self.after))
        tail = np.where(varies, tail, 1.0)
        rare = varies & (_least_expected(self.before, self.after) < LEAST_EXPECTED)
        if rare.any():
            tail[rare] = _exact(self.before[rare], self.after[rare])
        return np.asarray(tail)

    def with_blocks(self, spread: Dispersion, reference: Counts, current: Counts) -> Values:
        """Where the blocks' own part adds to the rows'; both sides as rows per block.

        Of the cube of ``G`` the largest possible trace is taken: all of it in one direction.
        """
        import numpy as np

        sides = reference.astype(np.float64), current.astype(np.float64)
        alone = [1 / np.maximum(side.sum(axis=-1), 1.0) for side in sides]
        scale = sum(alone)
        # Blocks that show no part of their own show no correlation either, and larger ones may have both.
        plain = sum(_block_weight(side, np.zeros(())) for side in sides) / scale
        unknown = (spread.correlation == 0) & (plain / spread.typical > _MUCH_LARGER)
        correlation = np.where(unknown, MOST_CORRELATED, spread.correlation)
        weights = [_block_weight(side, correlation) for side in sides]
        each = spread.effect / spread.dimensions
        variances = [rows + each * blocks for rows, blocks in zip(alone, weights, strict=True)]
        weight = sum(weights) / scale
        effect, squares = spread.effect * weight, spread.squares * weight**2
        first, second, third = self.cumulants
        first, second, third = (
            first + effect,
            second + 2 * effect + squares,
            third + 3 * effect + 3 * squares + squares**1.5,
        )
        directions = np.divide(effect**2, squares, out=np.ones_like(effect + first), where=squares > 0)
        steepness = np.maximum(third, 1e-12) / np.maximum(second, 1e-12)
        part = np.clip(2 * (steepness - 1) / steepness, 1e-6, 1.0)
        # In blocks larger than those that were seen, an error of the blocks' own part weighs more.
        larger = np.maximum(weight / spread.typical, 1.0)
        known = (first / (larger * spread.observed)) ** 2
        freedom = spread.freedom * np.where(larger > 1, np.minimum(directions / part, known), directions / part)
        # How alike neighbours are is an estimate too, and windows of several blocks rest on it.
        freedom = freedom * np.sqrt(np.where(weight > 0, plain / np.maximum(weight, 1e-12), 1.0))
        return _tail_of(self._around(*variances) / scale, first, second, third, freedom=freedom)

    def _around(self, before: Values, after: Values) -> Values:
        """The statistic of a single row, around shares in which each side counts by the inverse of its variance.

        By its rows alone, a single large block would be what both sides are measured by.
        """
        import numpy as np

        sides = shares(self.before), shares(self.after)
        part = (after / (before + after))[..., None]
        common = part * sides[0] + (1 - part) * sides[1]
        unit = np.divide(1.0, common, out=np.zeros_like(common), where=common > 0)
        statistic: Values = ((sides[0] - sides[1]) ** 2 * unit).sum(axis=-1)
        return statistic


def _tail_of(
    statistic: Values, first: Values, second: Values, third: Values, *, freedom: Values | None = None
) -> Values:
    """A shifted chi-square with three cumulants (Pearson 1959); an F where its scale was estimated."""
    import numpy as np
    from scipy import special

    second, third = np.maximum(second, 1e-12), np.maximum(third, first / 2 + 1e-12)
    degrees, scale = second**3 / third**2, third / second
    beyond = np.maximum(statistic - first + scale * degrees, 0.0) / scale
    if freedom is None:
        return np.asarray(special.chdtrc(degrees, beyond))
    return np.asarray(special.fdtrc(degrees, np.minimum(freedom, 1e6), beyond / degrees))


def _likelihood_ratio(before: Values, after: Values) -> Values:
    """Tail of the likelihood ratio's statistic, corrected for small counts (Williams 1976)."""
    import numpy as np
    from scipy.special import chdtrc, xlogy

    both = before + after
    rows = np.stack([side.sum(axis=-1) for side in (before, after, both)])
    logs = sum(sign * xlogy(side, side).sum(axis=-1) for sign, side in ((1, before), (1, after), (-1, both)))
    statistic = 2 * (logs - xlogy(rows[0], rows[0]) - xlogy(rows[1], rows[1]) + xlogy(rows[2], rows[2]))
    degrees = np.maximum((both > 0).sum(axis=-1) - 1.0, 1.0)
    inverse = np.divide(1.0, both, out=np.zeros_like(both), where=both > 0).sum(axis=-1)
    total = np.maximum(rows[2], 1.0)
    uneven = total / np.maximum(rows[0], 1.0) + total / np.maximum(rows[1], 1.0) - 1
    correction = 1 + uneven * (total * inverse - 1) / (6 * total * degrees)
    return np.asarray(chdtrc(degrees, np.maximum(statistic / correction, 0.0)))


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


def _cumulants(before: Values, after: Values) -> tuple[Values, Values, Values]:
    """Of the statistic, given both margins: mean, half the variance, an eighth of the third cumulant.

    The first two are exact (Haldane 1940; Dawson 1954). The third is that of independent binomial cells to the first
    order: 8 per cell, 12 times its excess kurtosis, 10 times its squared skewness.
    """
    import numpy as np

    both = before + after
    rows = np.maximum(both.sum(axis=-1), 4.0)
    cells = (both > 0).sum(axis=-1).astype(np.float64)
    inverse = np.divide(1.0, both, out=np.zeros_like(both), where=both > 0).sum(axis=-1)
    sides = rows * sum(1 / np.maximum(side.sum(axis=-1), 1.0) for side in (before, after))
    spread = (rows - 2) / (rows - 1), (cells - 1) * (rows - cells) / (rows - 1)
    uneven = (sides - 4) / (rows - 2), (rows * inverse - cells**2) / (rows - 2)
    variance = 2 * rows / (rows - 3) * (spread[0] - uneven[0]) * (spread[1] - uneven[1])
    variance = np.maximum(variance + rows**2 / (rows - 1) * uneven[0] * uneven[1], 0.0)
    mean = rows * (cells - 1) / (rows - 1)
    skewness = (sides - 4) * (inverse - cells**2 / rows)
    third = 8 * mean + 12 * (variance - 2 * mean) + 10 * skewness
    return mean, variance / 2, third / 8


def _wide_cells(before: Values, after: Values) -> tuple[Values, Values]:
    """Both sides in cells wide enough to be tested; which these are, both together say."""
    import numpy as np

    rows = before.sum(axis=-1), after.sum(axis=-1)
    target = _plan(before + after, np.minimum(*rows) / np.maximum(rows[0] + rows[1], 1.0))
    return _cut(before, target), _cut(after, target)


def _least_expected(before: Values, after: Values) -> Values:
    import numpy as np

    both = before + after
    part = np.minimum(before.sum(axis=-1), after.sum(axis=-1)) / np.maximum(both.sum(axis=-1), 1.0)
    least: Values = np.where(both > 0, both * part[..., None], np.inf).min(axis=-1)
    return least


def _plan(total: Values, part: Values) -> NDArray[np.intp]:
    """Which cell each one is counted in: its own if it is wide enough, else one with narrow ones beside it.

    Those that are left join the last of these, or else the narrowest of several wide ones. What varies is in two cells
    at least.
    """
    import numpy as np

    cells = np.arange(total.shape[-1])
    expected = total * part[..., None]
    wide = expected >= LEAST_EXPECTED
    few = np.where(wide, LEAST_EXPECTED, expected).sum(axis=-1) < 2 * LEAST_EXPECTED
    keep = wide | (few[..., None] & (cells == total.argmax(axis=-1)[..., None]))
    narrow = np.where(keep, 0.0, expected)
    target = np.broadcast_to(cells, total.shape).copy()
    held, group, last = np.zeros(part.shape), np.full(part.shape, -1), np.full(part.shape, -1)
    for cell in cells:
        inside = ~keep[..., cell]
        group = np.where(inside & (group < 0), cell, group)
        target[..., cell] = np.where(inside, group, cell)
        held = held + narrow[..., cell]
        full = inside & (held >= LEAST_EXPECTED)
        last, group, held = np.where(full, group, last), np.where(full, -1, group), np.where(full, 0.0, held)
    smallest = np.where(keep & (keep.sum(axis=-1) > 1)[..., None], total, np.inf)
    alone = np.where(np.isfinite(smallest.min(axis=-1)), smallest.argmin(axis=-1), group)
    rest = np.where(last >= 0, last, alone)
    return np.where((target == group[..., None]) & ~keep, rest[..., None], target)


def _cut(counts: Values, target: NDArray[np.intp]) -> Values:
    """The counts in those cells; the others are empty."""
    import numpy as np

    within = target[..., None] == np.arange(counts.shape[-1])
    cut: Values = np.einsum("...k,...kl->...l", counts, within.astype(np.float64))
    return cut
