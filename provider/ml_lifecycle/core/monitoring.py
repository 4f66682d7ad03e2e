"""Whether data has moved, by how often an alarm without drift is bearable; and what it is compared with."""

from __future__ import annotations

import math
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import MINYEAR, datetime, timedelta, timezone
from typing import Final, Literal

from ml_lifecycle.core.contracts import ColumnDrift, Rate, Verdict
from ml_lifecycle.core.data import Every, partition_name, start_of, window_of
from ml_lifecycle.core.errors import RequestError

DAYS: Final = {
    "hourly": 1 / 24,
    "daily": 1.0,
    "monthly": 365.25 / 12,
    "day": 1.0,
    "week": 7.0,
    "month": 365.25 / 12,
    "quarter": 365.25 / 4,
    "year": 365.25,
}
"""Mean lengths in the Gregorian calendar: a period slides, and knows no first of the month."""
_MOST_ALPHA: Final = 0.05


@dataclass(frozen=True)
class DriftJudgement:
    """What one look found."""

    verdict: Verdict
    """``fail`` is drift; ``inconclusive`` where nothing drifted, but something could not be told."""
    columns: tuple[ColumnDrift, ...]
    """One per column, of the window that says most about it."""


def alpha_of(false_alarms: Rate, every: Every) -> float:
    """Chance of a false alarm that one look may spend: the rate times the time between looks, at most 0.05.

    Expectations add up whatever depends on what, so over any stretch of time the expected number of looks with a false
    alarm is within the rate, however alike the days are and though all looks share one reference. Dependence only makes
    alarms come in clumps.
    """
    return min(false_alarms.count * DAYS[every] / DAYS[false_alarms.per], _MOST_ALPHA)


def judge(columns: Sequence[ColumnDrift], *, alpha: float, windows: Sequence[int] = (1,)) -> DriftJudgement:
    """A column has drifted if its distance matters and its adjusted p-value is at most ``alpha``.

    Without any drift the chance of naming a column is at most ``alpha`` where p-values are independent or rise
    together, as those of overlapping windows and of columns that share their rows do (Benjamini and Yekutieli 2001);
    with drift, at most a share of ``alpha`` of the named columns is expected to be named falsely.

    :param columns: One entry per column and window, from ``compare``.
    :param windows: All windows of the policy; those that could not be filled count as if they had been looked at.
    """
    measured = [column for column in columns if _is_known(column)]
    named: dict[tuple[str, str], list[ColumnDrift]] = {_name(column): [] for column in columns}
    tried = max(len(columns), len(named) * len(windows))
    chances = adjusted([column.p_value for column in measured if column.p_value is not None], tried=tried)
    for column, chance in zip(measured, chances, strict=True):
        drifted = chance <= alpha and column.distance is not None and column.distance >= column.threshold
        named[_name(column)].append(column.model_copy(update={"adjusted": chance, "drifted": drifted}))
    unmeasured = {_name(column): column for column in reversed(columns)}
    found = tuple(_telling(entries) if entries else unmeasured[name] for name, entries in named.items())
    return DriftJudgement(verdict=_drift_verdict(found), columns=found)


def weigh(judgement: DriftJudgement, *, weighted: float | None, least: float) -> Verdict:
    """The verdict, without drift of what the model hardly uses.

    :param weighted: Distances of the drifted features, each times its importance, summed; ``None`` where it is not
        known, and then everything that drifted counts.
    :param least: Below it, drifted features do not count; drifted predictions always do.
    """
    if judgement.verdict is not Verdict.FAIL or weighted is None or weighted >= least:
        return judgement.verdict
    if any(column.drifted and column.role == "prediction" for column in judgement.columns):
        return Verdict.FAIL
    return Verdict.PASS if all(map(_is_known, judgement.columns)) else Verdict.INCONCLUSIVE


def adjusted(p_values: Sequence[float], *, tried: int | None = None) -> list[float]:
    """p-values over all of them together (Benjamini and Hochberg 1995), in the order they came in.

    :param tried: How many were tried, if more than are known.
    """
    tried = len(p_values) if tried is None else tried
    answer, least = [1.0] * len(p_values), 1.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    for place, index in enumerate(order):
        least = min(least, p_values[index] * tried / (len(order) - place))
        answer[index] = least
    return answer


def by_certainty(column: ColumnDrift) -> tuple[bool, float, float, int, str]:
    """Sorts what says most first: what drifted, then by certainty, distance and the shorter window."""
    chance = column.adjusted if column.adjusted is not None else column.p_value
    distance = column.distance if column.distance is not None else -1.0
    return not column.drifted, chance if chance is not None else 2.0, -distance, column.window, column.column


def _name(column: ColumnDrift) -> tuple[str, str]:
    return column.role, column.column


def _is_known(column: ColumnDrift) -> bool:
    values = (column.p_value, column.distance)
    return all(value is not None and math.isfinite(value) for value in values)


def _telling(entries: Sequence[ColumnDrift]) -> ColumnDrift:
    """A window in which the column drifted, and of those the one with the smallest adjusted p-value."""
    return min(entries, key=by_certainty)


def _drift_verdict(columns: Sequence[ColumnDrift]) -> Verdict:
    if any(column.drifted for column in columns):
        return Verdict.FAIL
    return Verdict.PASS if columns and all(map(_is_known, columns)) else Verdict.INCONCLUSIVE


# --- What is compared with what --------------------------------------------------------------------------------------


_A_WEEK: Final = {"hourly": 168, "daily": 7}
"""How many partitions it has."""


def reference_partitions(
    partition: str,
    every: Every,
    reference: Literal["training", "previous", "same_weekday", "same_month"],
    size: int,
    window: int,
) -> tuple[str, ...]:
    """What the ``window`` partitions that end with ``partition`` are compared with, oldest first.

    None of them lies in the window itself. ``same_weekday`` goes back for whole weeks, one at least, and keeps the
    hour of hourly partitions; ``same_month`` takes all partitions of the same calendar months of the year before.

    :param size: How many partitions ``previous`` and ``same_weekday`` go back for.
    :return: Empty for ``training``, which is no partition.
    :raises RequestError: the name is malformed, monthly partitions are asked for their weekday, or one would lie
        before the calendar begins.
    """
    if reference == "training":
        return ()
    if reference == "previous":
        return window_of(partition, every, window + size)[:size]
    if reference == "same_weekday":
        return _same_weekday(partition, every, size, window)
    held = window_of(partition, every, window)
    months = dict.fromkeys((start_of(name, every).year - 1, start_of(name, every).month) for name in held)
    found = [name for year, month in months for name in _of_month(year, month, every, partition)]
    return tuple(name for name in found if name not in held)


def _same_weekday(partition: str, every: Every, size: int, window: int) -> tuple[str, ...]:
    if every == "monthly":
        raise RequestError(
            "a month has no weekday", where=partition, way_out="compare with previous or same_month partitions"
        )
    week = _A_WEEK[every]
    weeks = max(size // week, 1)
    # The newest first, so that a place says how far back it lies.
    back = window_of(partition, every, window + weeks * week)[::-1]
    places = {place + number * week for place in range(window) for number in range(1, weeks + 1)}
    return tuple(back[place] for place in sorted(places, reverse=True) if place >= window)


def _of_month(year: int, month: int, every: Every, partition: str) -> tuple[str, ...]:
    """All partitions of a calendar month."""
    if year < MINYEAR:
        raise RequestError("the year before leaves the calendar", where=partition, way_out="compare with training data")
    first = datetime(year, month, 1, tzinfo=timezone.utc)
    if every == "monthly":
        return (partition_name(first, every),)
    days = monthrange(year, month)[1]
    step, count = (timedelta(days=1), days) if every == "daily" else (timedelta(hours=1), 24 * days)
    return tuple(partition_name(first + number * step, every) for number in range(count))
