"""What a server counts about itself since it started."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

_FIRST_MS: Final = 0.25
_LAST_MS: Final = 60_000.0
_GROWTH: Final = 1.1
_SERVER_ERROR: Final = 500


def _bounds() -> tuple[float, ...]:
    bounds = [_FIRST_MS]
    while bounds[-1] < _LAST_MS:
        bounds.append(min(_LAST_MS, round(bounds[-1] * _GROWTH, 4)))
    return tuple(bounds)


BOUNDS_MS: Final = _bounds()
"""Each 10% above the one before, from 0.25 ms to a minute: what a percentile is read off with at most that error."""


class Stats:
    """Requests to ``/invocations``, how many of them this server failed, and how long they took."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self._counts = [0] * (len(BOUNDS_MS) + 1)

    def count(self, status: int, seconds: float) -> None:
        """One request was answered.

        :param status: Of HTTP; from 500 on the server failed.
        """
        self.requests += 1
        self.errors += status >= _SERVER_ERROR
        self._counts[bisect_left(BOUNDS_MS, seconds * 1000.0)] += 1

    def told(self) -> dict[str, Any]:
        """As plain JSON; ``counts`` has one more entry than there are bounds, for what took longer than the last."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "latency": {"bounds_ms": list(BOUNDS_MS), "counts": list(self._counts)},
        }
