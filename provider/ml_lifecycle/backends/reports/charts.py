"""Numbers over time as drawings in the page itself: they follow its colours and need no library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from ml_lifecycle.backends.reports.words import clean, number

if TYPE_CHECKING:
    from markupsafe import Markup

    from ml_lifecycle.core.trend import Event

Values: TypeAlias = Sequence[float | None]

DOTS: Final = 130
"""Up to so many points are marked one by one, and tell their number under the pointer."""
BUCKETS: Final = 64
"""Of a sparkline: of more looks, the farthest in each bucket is drawn."""
_WIDTH, _HEIGHT = 720.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 24.0, 22.0
_SPARK_WIDTH, _SPARK_HEIGHT = 200.0, 44.0
_LETTER, _LONGEST = 6.2, 13
"""How wide a letter of a look's name is, and how many of them are shown."""
_EVENT_ROOM = 22.0
_CLOSEST = 1e-12
"""Beside the numbers themselves: closer ones are drawn as one, as nobody could tell them apart."""
_SMALLEST = 1e-300
"""A span that can still be divided."""
_TICKS = 4
_WHOLE = 10
"""Steps from here on need no decimal."""
_MANY = 40
"""Points of a sparkline from which on they are marked smaller."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Series:
    """One line: a value per look, ``None`` where there is none."""

    kind: str
    """Its style."""
    name: str
    values: Values
    lows: Values = ()
    highs: Values = ()
    flagged: frozenset[int] = field(default=frozenset())
    """Looks that are marked."""


@dataclass(frozen=True)
class _Plane:
    """Where a look and a number lie on the drawing."""

    looks: int
    low: float
    high: float
    left: float = _LEFT
    top: float = _TOP
    width: float = _WIDTH - _LEFT - _RIGHT
    height: float = _HEIGHT - _TOP - _BOTTOM

    def x(self, place: float) -> float:
        return round(self.left + self.width * (place + 0.5) / max(self.looks, 1), 1)

    def y(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return round(self.top + self.height * (1 - min(max(part, 0.0), 1.0)), 1)


def chart(
    series: Sequence[Series],
    *,
    looks: Sequence[str],
    limits: Sequence[float] = (),
    events: Sequence[Event] = (),
    shares: bool = False,
) -> Markup:
    """Lines over looks, with limits across and events from top to bottom; nothing where there is no number.

    :param shares: The numbers are shares from 0 on, and told in percent.
    """
    from markupsafe import Markup

    known = [one for line in series for one in _numbers([*line.values, *line.lows, *line.highs])]
    if not known:
        return Markup()
    ticks = _ticks([*known, *_numbers(limits), *([0.0] if shares else [])])
    plane = _Plane(len(looks), ticks[0], ticks[-1])
    drawn = Markup().join(
        [
            *_grid(plane, ticks, shares=shares),
            *_names(plane, looks),
            *_events(plane, events),
            *(_across(plane, limit) for limit in _numbers(limits)),
            *(_band(plane, line) for line in series if line.lows and line.highs),
            *(piece for line in series for piece in _line(plane, line, looks)),
        ]
    )
    said = "; ".join(_said(line, looks) for line in series)
    return Markup('<svg class="chart{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        " many" if len(looks) > DOTS else "", int(_WIDTH), int(_HEIGHT), said, drawn
    )


def sparkline(values: Values, *, flagged: frozenset[int], limit: float, releases: Sequence[float] = ()) -> Markup:
    """A column's distance over time: the floor across, releases from top to bottom, what drifted marked."""
    from markupsafe import Markup

    known = _numbers(values)
    high = max([*known, 2 * limit, 1e-9]) * 1.06
    plane = _Plane(len(values), 0.0, high, 3.0, 2.0, _SPARK_WIDTH - 6, _SPARK_HEIGHT - 4)
    kept = _farthest(values, flagged)
    path = _path(plane, [(place, values[place]) for place in kept])
    pieces = [Markup('<path class="v" d="{}"/>').format("".join(_upright(plane, releases)))] if releases else []
    pieces.append(_across(plane, limit))
    pieces.append(Markup('<path class="l" d="{}"/>').format(path))
    last = len(values) - 1
    for place in kept:
        value = values[place]
        if value is not None and math.isfinite(value) and (place in flagged or place == last):
            pieces.append(_dot(plane, place, value, "f" if place in flagged else "e"))
    return Markup('<svg class="spark{}" viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
        " many" if len(kept) > _MANY else "", int(_SPARK_WIDTH), int(_SPARK_HEIGHT), Markup().join(pieces)
    )


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [one for one in values if one is not None and math.isfinite(one)]


# --- The frame -------------------------------------------------------------------------------------------------------


def _ticks(numbers: Sequence[float]) -> list[float]:
    """Round numbers that hold all of these between them."""
    low, high = min(numbers), max(numbers)
    least = max(_CLOSEST * max(abs(low), abs(high)), _SMALLEST)
    span = max((high - low) or abs(high) or 1.0, least)
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(one * power for one in _STEPS if one * power * _TICKS >= span * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [place * step for place in range(first, last + 1)]


def _grid(plane: _Plane, ticks: Sequence[float], *, shares: bool) -> Iterator[Markup]:
    from markupsafe import Markup

    step = (ticks[1] - ticks[0]) * (100 if shares else 1)
    digits = min(max(0, -math.floor(math.log10(step) + 1e-9) + (f"{step:.2e}"[2] != "0" and step < _WHOLE)), 9)
    for tick in ticks:
        yield Markup('<path class="grid" d="M{} {}H{}"/><text class="r" x="{}" y="{}">{}</text>').format(
            _LEFT,
            plane.y(tick),
            _WIDTH - _RIGHT,
            _LEFT - 6,
            plane.y(tick) + 3.5,
            f"{tick:.{digits}%}" if shares else f"{tick:,.{digits}f}",
        )


def _names(plane: _Plane, looks: Sequence[str]) -> Iterator[Markup]:
    """Names of as many looks as have room, the newest one among them."""
    from markupsafe import Markup

    names = [clean(look, longest=_LONGEST) for look in looks]
    room = _LETTER * max(map(len, names)) + 12
    every = max(1, math.ceil(room / (plane.width / len(looks))))
    free = math.inf
    for place in range(len(looks) - 1, -1, -every):
        middle = min(plane.x(place), _WIDTH - room / 2 + 6)
        if free - middle < room:
            continue
        free = middle
        yield Markup('<text class="m" x="{}" y="{}">{}</text>').format(round(middle, 1), _HEIGHT - 6, names[place])


def _events(plane: _Plane, events: Sequence[Event]) -> Iterator[Markup]:
    from markupsafe import Markup

    free = 0.0
    for event in events:
        x = plane.x(event.place)
        bottom = plane.top + plane.height
        title = Markup("<title>{}</title>").format(clean(event.detail, longest=200))
        if event.kind == "retrain":
            yield Markup('<path class="event retrain" d="M{} {}l-5 8h10z">{}</path>').format(x, bottom - 9, title)
            continue
        yield Markup('<path class="event {}" d="M{} {}V{}">{}</path>').format(
            event.kind, x, plane.top - 6, bottom, title
        )
        if x - free >= _EVENT_ROOM:
            yield Markup('<text class="m" x="{}" y="{}">{}</text>').format(
                x, plane.top - 10, clean(event.label, longest=8)
            )
            free = x


def _upright(plane: _Plane, places: Sequence[float]) -> Iterator[str]:
    for place in places:
        yield f"M{plane.x(place)} {plane.top}V{plane.top + plane.height}"


def _across(plane: _Plane, limit: float) -> Markup:
    from markupsafe import Markup

    return Markup('<path class="limit" d="M{} {}H{}"/>').format(
        plane.left, plane.y(limit), round(plane.left + plane.width, 1)
    )


# --- Lines -----------------------------------------------------------------------------------------------------------


def _line(plane: _Plane, line: Series, looks: Sequence[str]) -> Iterator[Markup]:
    from markupsafe import Markup

    places = list(enumerate(line.values))
    yield Markup('<path class="line {}" d="{}"/>').format(line.kind, _path(plane, places))
    alone = _alone(line.values)
    for place, value in places:
        if value is None or not math.isfinite(value):
            continue
        kind = "f" if place in line.flagged else line.kind
        if len(looks) <= DOTS:
            said = f"{clean(looks[place], longest=40)}: {clean(line.name, longest=40)} {number(value)}"
            yield _dot(plane, place, value, kind, said)
        elif place in line.flagged or place in alone:
            yield _dot(plane, place, value, kind)


def _alone(values: Values) -> set[int]:
    """Points without a neighbour, which no line would show."""
    known = {place for place, value in enumerate(values) if value is not None and math.isfinite(value)}
    return {place for place in known if not {place - 1, place + 1} & known}


def _path(plane: _Plane, places: Sequence[tuple[int, float | None]]) -> str:
    """A line through what is known; it breaks where something is not."""
    path, open_ = [], False
    for place, value in places:
        if value is None or not math.isfinite(value):
            open_ = False
            continue
        path.append(f"{'L' if open_ else 'M'}{plane.x(place):g} {plane.y(value):g}")
        open_ = True
    return "".join(path)


def _band(plane: _Plane, line: Series) -> Markup:
    """The interval around a line."""
    from markupsafe import Markup

    pieces, run = [], list[tuple[int, float, float]]()
    for place, (low, high) in enumerate(zip(line.lows, line.highs, strict=True)):
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
            run.append((place, low, high))
            continue
        pieces.append(_around(plane, run))
        run = []
    pieces.append(_around(plane, run))
    return Markup('<path class="band {}" d="{}"/>').format(line.kind, "".join(pieces))


def _around(plane: _Plane, run: Sequence[tuple[int, float, float]]) -> str:
    if not run:
        return ""
    there = [f"{plane.x(place):g} {plane.y(high):g}" for place, _, high in run]
    back = [f"{plane.x(place):g} {plane.y(low):g}" for place, low, _ in reversed(run)]
    return "M" + "L".join([*there, *back]) + "Z"


def _dot(plane: _Plane, place: int, value: float, kind: str, said: str = "") -> Markup:
    from markupsafe import Markup

    title = Markup("<title>{}</title>").format(said) if said else Markup()
    return Markup('<circle class="{}" cx="{}" cy="{}" r="3">{}</circle>').format(
        kind, plane.x(place), plane.y(value), title
    )


def _farthest(values: Values, flagged: frozenset[int]) -> list[int]:
    """Looks that a sparkline has room for: the farthest of each bucket, what drifted before what did not."""
    if len(values) <= BUCKETS:
        return list(range(len(values)))
    found: dict[int, int] = {}

    def tells(place: int) -> tuple[bool, float]:
        value = values[place]
        return place in flagged, value if value is not None else -1.0

    for place in range(len(values)):
        bucket = place * BUCKETS // len(values)
        if bucket not in found or tells(place) >= tells(found[bucket]):
            found[bucket] = place
    return list(found.values())


def _said(line: Series, looks: Sequence[str]) -> str:
    known = [(place, value) for place, value in enumerate(line.values) if value is not None and math.isfinite(value)]
    if not known:
        return f"{clean(line.name)}: nothing known"
    (first, was), (last, now) = known[0], known[-1]
    return f"{clean(line.name)}: {number(was)} at {clean(looks[first])}, {number(now)} at {clean(looks[last])}"
