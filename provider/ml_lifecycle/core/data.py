"""What partitions are called, and which ones a run reads."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta, timezone
from typing import Literal

from ml_lifecycle.core.errors import DataError, RequestError

Every = Literal["hourly", "daily", "monthly"]

FORMATS: dict[str, str] = {"hourly": "%Y-%m-%dT%H", "daily": "%Y-%m-%d", "monthly": "%Y-%m"}
"""How often a partition arrives, and so how it is named."""
EXAMPLES: dict[str, str] = {"hourly": "2013-01-31T07", "daily": "2013-01-31", "monthly": "2013-01"}
LABELS_GRACE = timedelta(days=1)
"""How much later than promised labels may come before they are overdue."""

_PARTITION = r"[0-9A-Za-z](?:[0-9A-Za-z_-]{0,62}[0-9A-Za-z])?"
PLACEHOLDER = re.compile(r"\{\{ *partition *\}\}")
"""Where a uri names its partition."""


def partition_name(moment: datetime, every: Every) -> str:
    """Name of the partition that ``moment`` falls into, in UTC; a moment without a time zone is read as UTC."""
    aware = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    # strftime("%Y") leaves out leading zeros on some systems.
    return f"{aware.year:04d}{aware.strftime(FORMATS[every][2:])}"


def start_of(partition: str, every: Every) -> datetime:
    """The first moment of a partition, in UTC.

    :raises RequestError: the name is not of the form that ``every`` asks for.
    """
    try:
        moment = datetime.strptime(partition, FORMATS[every]).replace(tzinfo=timezone.utc)
    except ValueError:
        moment = None
    # strptime also takes "2013-1", which would name a second partition for the same month.
    if moment is None or partition_name(moment, every) != partition:
        raise RequestError(
            f"{partition!r} does not name a partition that arrives {every}",
            way_out=f"write it like {EXAMPLES[every]}",
        )
    return moment


def end_of(partition: str, every: Every) -> datetime:
    """The first moment after a partition, in UTC."""
    return _step(start_of(partition, every), every, 1)


def window_of(partition: str, every: Every, count: int) -> tuple[str, ...]:
    """The ``count`` partitions that end with ``partition``, oldest first.

    :raises RequestError: the name is malformed, or ``count`` is below 1.
    """
    if count < 1:
        raise RequestError(f"a window of {count} partitions reads nothing", way_out="ask for 1 or more")
    newest = start_of(partition, every)
    return tuple(partition_name(_step(newest, every, -back), every) for back in reversed(range(count)))


def window_without(
    partition: str, every: Every, count: int, *, excluded: Collection[str], available: Collection[str] | None
) -> tuple[str, ...]:
    """The ``count`` newest partitions up to ``partition`` that are not excluded, oldest first.

    For what is excluded the window reaches further back, as long as the partitions there are available.

    :param available: ``None`` where nobody looked.
    :raises RequestError: the name is malformed, or ``count`` is below 1.
    """
    kept = [name for name in window_of(partition, every, count) if name not in excluded]
    longer = window_of(partition, every, count + len(excluded))
    for name in reversed(longer[: len(excluded)]):
        if len(kept) == count or (name not in excluded and available is not None and name not in available):
            break
        if name not in excluded:
            kept.insert(0, name)
    return tuple(kept)


def every_of(partition: str) -> Every:
    """How often partitions of this name's form arrive.

    :raises RequestError: the name has none of the known forms.
    """
    forms: tuple[Every, ...] = ("hourly", "daily", "monthly")
    for every in forms:
        try:
            start_of(partition, every)
        except RequestError:
            continue
        return every
    raise RequestError(
        f"{partition!r} does not name a partition",
        way_out="write it like " + ", ".join(f"{EXAMPLES[every]} ({every})" for every in forms),
    )


def render(uri: str, partition: str) -> str:
    """``flights/{{ partition }}.parquet`` with the partition's name put in; nothing else is replaced.

    :raises DataError: the template holds another expression, or the name could lead to another folder.
    """
    pieces = _pieces(uri)
    if len(pieces) > 1 and not re.fullmatch(_PARTITION, partition):
        raise DataError(
            f"{partition!r} cannot be part of a path",
            where=uri,
            way_out="name partitions by letters, digits, hyphens and underscores, such as 2013-01",
        )
    return partition.join(pieces)


def partition_of(template: str, uri: str) -> str | None:
    """The partition whose rendered ``template`` is ``uri``, or ``None`` where there is none."""
    pieces = _pieces(template)
    if len(pieces) == 1:
        return None
    pattern = re.escape(pieces[0]) + f"(?P<partition>{_PARTITION})" + re.escape(pieces[1])
    pattern += "".join("(?P=partition)" + re.escape(piece) for piece in pieces[2:])
    found = re.fullmatch(pattern, uri)
    return found["partition"] if found else None


def _pieces(template: str) -> list[str]:
    """The literal parts around each placeholder."""
    pieces = PLACEHOLDER.split(template)
    if any(mark in piece for piece in pieces for mark in ("{", "}")):
        raise DataError(
            "only {{ partition }} is replaced in a uri",
            where=template,
            way_out="write the rest out, without braces",
        )
    return pieces


def _step(moment: datetime, every: Every, count: int) -> datetime:
    try:
        if every == "monthly":
            years, month = divmod(moment.month - 1 + count, 12)
            return moment.replace(year=moment.year + years, month=month + 1)
        return moment + count * (timedelta(days=1) if every == "daily" else timedelta(hours=1))
    except (ValueError, OverflowError):
        raise RequestError(
            f"{abs(count)} {every} partitions from {partition_name(moment, every)} leave the calendar",
            way_out="ask for a shorter window",
        ) from None
