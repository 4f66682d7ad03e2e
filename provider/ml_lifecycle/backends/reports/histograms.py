"""Where a column's rows lay and lie, as one small drawing from counts: both tables on the same scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.reports.words import clean, percent

if TYPE_CHECKING:
    import numpy as np
    from markupsafe import Markup
    from numpy.typing import NDArray

    from ml_lifecycle.backends.monitoring.profiles import ColumnFrame, ColumnProfile

    Numbers = NDArray[np.float64]

BARS: Final = 30
"""Of a number's histogram."""
TOP: Final = 8
"""Categories that are drawn: half of them the largest, half those that changed most."""
TAIL: Final = 0.005
"""Share of the rows that is left out at either end: one far value would press all others into one bar."""
_FEW = 40
"""Up to so many values, with room between them, are drawn one by one."""
_WIDTH, _HEIGHT, _TEXT = 240, 56, 12
_LABEL, _LINE = 84, 15
_LONGEST = 13
_LARGE = 1e5
_EMPTY_SHARE = 1e-12
_HAIR = 1e-9
"""What the rounding of shares may leave."""
_JOINED = 0.05
"""Bars that are no farther apart share an edge."""


def histogram(reference: ColumnProfile, current: ColumnProfile) -> Markup:
    """The shape of both tables: filled what was, outlined what is; nothing where there is nothing to draw."""
    from markupsafe import Markup

    frame = reference.frame
    if frame != current.frame or not (reference.present and current.present):
        return Markup()
    before, after = (one.counts / one.present for one in (reference, current))
    if frame.kind == "category":
        return _categories(frame, before, after)
    return _numbers(reference, current, before, after) if frame.kind == "number" else Markup()


# --- Numbers ---------------------------------------------------------------------------------------------------------


def _numbers(reference: ColumnProfile, current: ColumnProfile, before: Numbers, after: Numbers) -> Markup:
    import numpy as np

    edges = _edges(reference, current)
    both = (before + after) / 2
    total = np.cumsum(both)
    first = int(np.searchsorted(total, TAIL))
    last = int(np.searchsorted(total, 1 - TAIL))
    last = min(max(first, last), len(both) - 1)
    low, high = float(edges[first]), float(edges[last + 1])
    places = first + np.flatnonzero(both[first : last + 1] > _EMPTY_SHARE)
    if len(places) <= min(_FEW, (last + 1 - first) / 2):
        middles = (edges[places] + edges[places + 1]) / 2
        return _drawing(_spikes(middles, low, high), before[places], after[places], low, high)
    cuts = np.linspace(low, high, BARS + 1)
    shares = [np.diff(np.interp(cuts, edges, np.concatenate([[0.0], np.cumsum(one)]))) for one in (before, after)]
    spans = [(_WIDTH * place / BARS, _WIDTH * (place + 1) / BARS) for place in range(BARS)]
    return _drawing(spans, shares[0], shares[1], low, high)


def _edges(reference: ColumnProfile, current: ColumnProfile) -> Numbers:
    """Where the bins begin and end, no farther out than the values are."""
    import numpy as np

    frame = reference.frame
    steps = np.arange(frame.first, frame.last + 2) / frame.steps
    with np.errstate(over="ignore"):
        edges = frame.center + frame.scale * (np.sinh(steps) if frame.curved else steps)
    lows = [one.low for one in (reference, current) if one.low is not None]
    highs = [one.high for one in (reference, current) if one.high is not None]
    if lows and highs:
        # Rows beyond the frame lie in its first and last bin.
        edges[0], edges[-1] = -np.inf, np.inf
        edges = np.clip(edges, min(lows), max(highs))
    return np.nan_to_num(edges, posinf=1e300, neginf=-1e300)


def _spikes(middles: Numbers, low: float, high: float) -> list[tuple[float, float]]:
    """Bars around single values, as wide as the least gap between two allows."""
    import numpy as np

    span = high - low
    if not np.isfinite(span) or span <= 0 or len(middles) == 1:
        count = len(middles)
        return [(_WIDTH * (place + 0.3) / count, _WIDTH * (place + 0.7) / count) for place in range(count)]
    gap = float(np.diff(middles).min()) / span * _WIDTH
    half = min(max(gap * 0.42, 1.2), 12.0)
    room = _WIDTH - 2 * half
    return [
        (half + room * place - half, half + room * place + half)
        for place in ((middles - low) / span).clip(0, 1).tolist()
    ]


def _drawing(spans: Sequence[tuple[float, float]], before: Numbers, after: Numbers, low: float, high: float) -> Markup:
    from markupsafe import Markup

    top = max(float(before.max()), float(after.max())) or 1.0
    text = Markup('<text x="0" y="{0}">{1}</text><text class="r" x="{2}" y="{0}">{3}</text>').format(
        _HEIGHT + _TEXT, _short(low), _WIDTH, _short(high)
    )
    said = f"rows between {_short(low)} and {_short(high)}: what was, filled, and what is, outlined"
    return Markup(
        '<svg class="shape" viewBox="0 -2 {0} {1}" role="img" aria-label="{2}"><path class="was" d="{3}"/>'
        '<path class="is" d="{4}"/>{5}</svg>'
    ).format(
        _WIDTH, _HEIGHT + _TEXT + 4, said, _steps(spans, before / top, closed=True), _steps(spans, after / top), text
    )


def _steps(spans: Sequence[tuple[float, float]], heights: Numbers, *, closed: bool = False) -> str:
    """A path over the bars' tops; neighbours are joined."""
    path: list[str] = []
    end: float | None = None
    for (left, right), height in zip(spans, heights.tolist(), strict=True):
        if end is None or left - end > _JOINED:
            path.append(f"{f'V{_HEIGHT}' if end is not None else ''}M{left:.4g} {_HEIGHT}")
        path.append(f"V{round(_HEIGHT * (1 - height), 1):g}H{right:.4g}")
        end = right
    return "".join(path) + f"V{_HEIGHT}" + ("Z" if closed else "")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() and abs(value) < _LARGE else f"{value:.3g}"


# --- Categories ------------------------------------------------------------------------------------------------------


def _categories(frame: ColumnFrame, before: Numbers, after: Numbers) -> Markup:
    from markupsafe import Markup

    lines = _telling(frame, before, after)
    top = max((max(was, now) for _, was, now in lines), default=0.0) or 1.0
    was = max(1.0 - sum(before for _, before, _ in lines), 0.0)
    now = max(1.0 - sum(after for _, _, after in lines), 0.0)
    drawn = [_pair(place, line, top) for place, line in enumerate(lines)]
    if max(was, now) >= _HAIR:
        # A bar of all others together would press those of single categories to nothing.
        drawn.append(
            Markup('<text x="0" y="{0}">all others</text><text x="{1}" y="{0}">{2} → {3}</text>').format(
                len(lines) * _LINE + 11, _LABEL, percent(was), percent(now)
            )
        )
        lines = [*lines, ("all others", was, now)]
    said = "; ".join(f"{name}: {was:.1%} before, {now:.1%} now" for name, was, now in lines)
    return Markup('<svg class="shape" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, len(lines) * _LINE + 2, said, Markup().join(drawn)
    )


def _pair(place: int, line: tuple[str, float, float], top: float) -> Markup:
    from markupsafe import Markup

    name, was, now = line
    room, high = _WIDTH - _LABEL - 4, place * _LINE
    return Markup(
        '<text x="0" y="{0}">{1}</text><rect class="was" x="{2}" y="{3}" width="{4}" height="5"/>'
        '<rect class="is" x="{2}" y="{5}" width="{6}" height="5"/>'
    ).format(high + 11, name, _LABEL, high + 2, round(room * was / top, 1), high + 7.5, round(room * now / top, 1))


def _telling(frame: ColumnFrame, before: Numbers, after: Numbers) -> list[tuple[str, float, float]]:
    """Names with their shares in both tables, the largest first: the largest ones, and those that changed most."""
    both, change = (before + after)[:-1], abs(after - before)[:-1]
    places = [place for place in range(len(both)) if both[place] > 0]
    if len(places) > TOP:
        largest = sorted(places, key=lambda place: (-float(both[place]), place))[: TOP // 2]
        others = sorted(set(places) - set(largest), key=lambda place: (-float(change[place]), place))
        places = [*largest, *others[: TOP - TOP // 2]]
    places = sorted(places, key=lambda place: (-float(both[place]), place))
    return [
        (clean(frame.categories[place], longest=_LONGEST) or "(blank)", float(before[place]), float(after[place]))
        for place in places
    ]
