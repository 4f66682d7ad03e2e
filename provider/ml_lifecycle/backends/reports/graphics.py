"""Intervals as small drawings in the page itself: they follow its colours and need no library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.reports import words
from ml_lifecycle.backends.reports.words import interval, number

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _EDGE = 240.0, 7.0
_LINE: Final = 15.0
"""Height of one interval."""
_ROOM = 0.06
"""Of the scale's width, left free at both ends."""


@dataclass(frozen=True)
class Bar:
    """An estimate with its interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    kind: str = "candidate"
    """Its style: a contender or a verdict."""

    def numbers(self) -> list[float]:
        """What a scale has to hold."""
        return [one for one in (self.value, self.low, self.high) if one is not None and isfinite(one)]


@dataclass(frozen=True)
class Scale:
    """Where numbers lie on the drawing; drawings of one table share it, so that they can be compared."""

    low: float
    high: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Scale | None:
        """The scale that holds them all; ``None`` where there are none."""
        found = [one for one in numbers if isfinite(one)]
        if not found:
            return None
        low, high = min(found), max(found)
        room = _ROOM * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - room, high + room)

    def place(self, number: float) -> float:
        """Distance from the drawing's left end."""
        part = (number - self.low) / (self.high - self.low)
        return round(_EDGE + min(max(part, 0.0), 1.0) * (_WIDTH - 2 * _EDGE), 1)


def against_limit(bar: Bar, scale: Scale | None, *, limit: float | None, at_most: bool) -> Markup:
    """An interval beside the limit that it is held against; the side that passes is shaded."""
    from markupsafe import Markup

    if scale is None or not bar.numbers():
        return Markup()
    side = Markup()
    if limit is not None:
        place = scale.place(limit)
        left, width = (0.0, place) if at_most else (place, _WIDTH - place)
        side = Markup('<rect class="good" x="{}" y="0" width="{}" height="100%"/>').format(left, round(width, 1))
        side += Markup('<line class="limit" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(place)
    where = f", limit {words.limit(limit)}" if limit is not None else ""
    return _drawing(side + _bar(bar, scale, _LINE / 2 + 2), _LINE + 4, _in_words([bar]) + where)


def beside(bars: Sequence[Bar], scale: Scale | None, *, guide: float | None = None) -> Markup:
    """Intervals below each other on one scale.

    :param guide: Where a dotted line stands, such as the value of all rows.
    """
    from markupsafe import Markup

    if scale is None or not any(bar.numbers() for bar in bars):
        return Markup()
    line = Markup()
    if guide is not None and isfinite(guide):
        line = Markup('<line class="guide" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(scale.place(guide))
    drawn = Markup().join(_bar(bar, scale, _LINE * (place + 0.5)) for place, bar in enumerate(bars))
    return _drawing(line + drawn, _LINE * len(bars), _in_words(bars))


def _bar(bar: Bar, scale: Scale, height: float) -> Markup:
    from markupsafe import Markup

    drawn = Markup()
    if bar.low is not None or bar.high is not None:
        left = scale.place(bar.low if bar.low is not None else scale.low)
        right = scale.place(bar.high if bar.high is not None else scale.high)
        drawn += Markup('<line class="reach" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>').format(left, right, height)
        for known, end in ((bar.low, left), (bar.high, right)):
            # An interval that runs off the scale has no end to be seen.
            if known is not None and scale.low <= known <= scale.high:
                drawn += Markup('<line class="end" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                    end, height - 3.5, height + 3.5
                )
    if bar.value is not None:
        drawn += Markup('<circle cx="{}" cy="{}" r="4"/>').format(scale.place(bar.value), height)
    return Markup('<g class="bar {}">{}</g>').format(bar.kind, drawn)


def _drawing(content: Markup, height: float, text: str) -> Markup:
    from markupsafe import Markup

    return Markup('<svg class="interval" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}</svg>').format(
        int(_WIDTH), round(height), text, content
    )


def _in_words(bars: Sequence[Bar]) -> str:
    return "; ".join(
        f"{bar.kind} {number(bar.value)}" + (f" ({interval(bar.low, bar.high)})" if interval(bar.low, bar.high) else "")
        for bar in bars
    )
