"""Steps of a rollout as a target would tell them, for tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from statistics import NormalDist
from typing import Any

from ml_lifecycle.core.contracts import Histogram, Losses, Observation, StepEvidence

BEGAN = datetime(2013, 2, 1, 12, tzinfo=timezone.utc)
BOUNDS = tuple(round(1.1**place, 4) for place in range(100))
"""1 ms to 12.5 s."""


def share_below(ms: float, *, median: float = 10.0, spread: float = 0.5) -> float:
    """Of requests whose times are lognormal."""
    import math

    return NormalDist(0.0, spread).cdf(math.log(ms / median))


def times(requests: int, *, slower: float = 1.0, below: Callable[[float], float] = share_below) -> Histogram:
    """A histogram without any luck: each bin holds what it should."""
    totals = [round(requests * below(bound / slower)) for bound in BOUNDS] + [requests]
    counts = [now - before for before, now in zip([0, *totals], totals, strict=False)]
    return Histogram(bounds_ms=BOUNDS, counts=tuple(counts))


def seen(version: int, requests: int, **changes: Any) -> Observation:
    """What a version did; none of its requests failed."""
    slower = changes.pop("slower", 1.0)
    told = {"version": version, "requests": requests, "latency": times(requests, slower=slower), **changes}
    return Observation(**told)


def losses(version: int, rows: int, wrong: float = 0.1) -> Losses:
    """Wrong answers, each a loss of 1."""
    return Losses(version=version, rows=rows, total=round(wrong * rows), squares=round(wrong * rows))


def step(percent: int = 50, requests: int = 2_000, **changes: Any) -> StepEvidence:
    """A step at which both versions answered alike; ``requests`` are those of the new one."""
    others = requests * (100 - percent) // percent if percent else 0
    told: dict[str, Any] = {"old": seen(6, others), "new": seen(7, requests)} if percent else {}
    return StepEvidence(**{"percent": percent, "began_at": BEGAN, **told, **changes})
