"""Resampling by sums: no resample touches a row.

Metrics that are functions of sums over rows are resampled through the sums of each unit. A unit is a row, a cluster, or
one of :data:`MOST_UNITS` blocks into which more of them are dealt at random, which keeps the standard error: the method
of random groups, Wolter, Introduction to Variance Estimation (2007), chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Codes = NDArray[np.int64]

MOST_UNITS: Final = 4096
_AT_ONCE: Final = 1000
"""Resamples that are held in memory together."""


@dataclass(frozen=True)
class Units:
    """What is drawn as a whole, because it is independent of the rest."""

    of_row: Codes
    count: int
    members: int
    """Rows or clusters that were dealt into them."""
    single_rows: bool = False
    """Whether each row is a unit of its own, in the rows' order."""

    def sums(self, columns: Sequence[Numbers]) -> Numbers:
        """``(units, columns)``: each column's sum over a unit's rows."""
        import numpy as np

        if self.single_rows:
            return np.column_stack(columns)
        return np.column_stack([sums_by(self.of_row, one, self.count) for one in columns])


def sums_by(codes: Codes, values: Numbers, count: int) -> Numbers:
    """The values' sum for each code from 0 on."""
    import numpy as np

    sums: Numbers = np.bincount(codes, weights=values, minlength=count).astype("float64", copy=False)
    return sums


def deal(rows: int, cluster: Codes | None, *, most: int, seed: int) -> Units:
    """Rows, or clusters numbered from 0, as at most so many units."""
    import numpy as np

    members = rows if cluster is None else int(cluster.max()) + 1
    if members <= most:
        single = cluster is None
        return Units(np.arange(rows) if cluster is None else cluster, members, members, single_rows=single)
    blocks = _blocks(members, most, seed)
    return Units(blocks if cluster is None else blocks[cluster], most, members)


@lru_cache(maxsize=4)
def _blocks(members: int, most: int, seed: int) -> Codes:
    """Each member's block, all of one size or one apart."""
    dealt: Codes = _generator(seed, members).permutation(members) % most
    return dealt


def replicates(sums: Numbers, value: Callable[[Numbers], Numbers], *, resamples: int, seed: int) -> Numbers:
    """The value in each resample of the units.

    :param value: From sums ``(..., columns)`` to values ``(...)``.
    """
    import numpy as np

    parts = [value(counts @ sums) for counts in _resamples(len(sums), resamples, seed)]
    return np.concatenate(parts)


def left_out(sums: Numbers, value: Callable[[Numbers], Numbers]) -> Numbers:
    """The value without each unit in turn."""
    return value(sums.sum(axis=0) - sums)


def _resamples(units: int, resamples: int, seed: int) -> Iterator[Numbers]:
    for number, start in enumerate(range(0, resamples, _AT_ONCE)):
        yield _counts(units, min(_AT_ONCE, resamples - start), seed, number).astype("float64")


@lru_cache(maxsize=16)
def _counts(units: int, resamples: int, seed: int, number: int) -> NDArray[np.uint8]:
    """``(resamples, units)``: how often each unit was drawn; the same for every metric and place."""
    import numpy as np

    draws = _generator(seed, units, number).integers(0, units, (resamples, units), dtype=np.int32)
    draws += (np.arange(resamples, dtype=np.int32) * units)[:, None]
    counts = np.bincount(draws.ravel(), minlength=resamples * units)
    return counts.astype(np.uint8).reshape(resamples, units)


def _generator(*seeds: int) -> np.random.Generator:
    import numpy as np

    # Only numbers from 0 on can be seeds.
    return np.random.default_rng([seed % 2**64 for seed in seeds])
