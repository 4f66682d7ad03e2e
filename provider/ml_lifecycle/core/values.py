"""How people write shares and time spans in a pipeline file."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_DURATION = re.compile(r"([0-9]{1,6})(w|d|h|m|s)")
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")


def parse_duration(value: Any) -> Any:
    """``72h``, ``7d``, ``30m``, ``90s`` or ``2w`` as a time span."""
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a duration; write a whole number and a unit, such as 90s, 30m, 72h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_share(value: Any) -> Any:
    """``20%`` as 0.2; a number is a share already."""
    if not isinstance(value, str):
        return value
    found = _PERCENT.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r} is not a share; write it as a percentage such as 20%, or as a number such as 0.2")
    return float(found[1]) / 100


def _parse_stored(value: Any) -> Any:
    # What was written as 30m is kept in the ledger as PT30M.
    return value if isinstance(value, str) and value.startswith("P") else parse_duration(value)


StoredDuration = Annotated[timedelta, BeforeValidator(_parse_stored)]
"""A time span as people write it, or as plain JSON holds it."""
Share = Annotated[float, BeforeValidator(parse_share)]
"""A share as people write it, or as a number."""
