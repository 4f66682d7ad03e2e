"""What a histogram of requests' times says about their 95th percentile."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final

from ml_lifecycle.core.contracts import Histogram

TAIL: Final = 0.05
"""Share of the requests that are slower than the 95th percentile."""


@dataclass(frozen=True)
class Times:
    """How many requests took longer than this or that; between two bounds of the histogram they lie evenly."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, found: Histogram | None) -> Times | None:
        """``None`` where there is none, where no request is in it, or where it cannot be read."""
        if found is None or not found.bounds_ms or len(found.counts) != len(found.bounds_ms) + 1:
            return None
        rising = all(before < after for before, after in pairwise((0.0, *found.bounds_ms)))
        if not rising or min(found.counts) < 0 or not any(found.counts):
            return None
        return cls(found.bounds_ms, found.counts)

    @property
    def total(self) -> int:
        """All requests."""
        return self._above[0]

    def slower(self, than: float, *, at_most: bool = False) -> float:
        """How many requests took longer.

        :param at_most: Count what nobody knows, beyond the last bound, as slower; else as not slower.
        """
        place = bisect_right(self.bounds, than)
        if place == len(self.bounds):
            return float(self.counts[-1]) if at_most or than == self.bounds[-1] else 0.0
        begin, end = self._bin(place)
        return self._above[place + 1] + self.counts[place] * (end - than) / (end - begin)

    @cached_property
    def percentile(self) -> float | None:
        """What 95 of 100 requests were no slower than, in ms; ``None`` where it lies beyond the last bound."""
        wanted = TAIL * self.total
        place = next((at for at, above in enumerate(self._above[1:]) if above <= wanted), None)
        if place is None:
            return None
        begin, end = self._bin(place)
        return end - (end - begin) * (wanted - self._above[place + 1]) / self.counts[place]

    @cached_property
    def _above(self) -> tuple[int, ...]:
        """How many requests fell into each bin or a later one."""
        return tuple(accumulate(reversed(self.counts)))[::-1]

    def _bin(self, place: int) -> tuple[float, float]:
        return self.bounds[place - 1] if place else 0.0, self.bounds[place]
