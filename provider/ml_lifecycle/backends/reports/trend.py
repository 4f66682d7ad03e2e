"""A model's drift and performance over time as a page of HTML that loads nothing and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.reports import words
from ml_lifecycle.backends.reports.charts import Series, chart, sparkline
from ml_lifecycle.backends.reports.page import Fact
from ml_lifecycle.backends.reports.rendering import template
from ml_lifecycle.core.approval import is_web_page
from ml_lifecycle.core.contracts import ColumnDrift, DriftReport, PerformanceReport, Verdict
from ml_lifecycle.core.trend import Event, Look, Trend, by_name, is_unknown

if TYPE_CHECKING:
    from markupsafe import Markup

SHOWN_COLUMNS: Final = 36
"""Columns at once; the others are folded away."""
SHOWN_LOOKS: Final = 24
"""Partitions at once; the others are folded away."""
MOST_LOOKS: Final = 120
"""Partitions in the table: the drawings show all of them."""
_BELOW_REPORTS = re.compile(r"(\.\./){3}[A-Za-z0-9_./-]+")
"""Another report, as seen from the folder that a trend's page lies in."""
_NAMED: Final = 4
_TOLD: Final = 0.005
"""Importance from which on it is told."""
_ACTIONS: Final[Mapping[str, str]] = {
    "retrain": "retraining asked for",
    "rollback": "rollback asked for",
    "alert": "people told",
    "nothing": "nothing",
}
_GLOSSARY: Final[Mapping[str, str]] = {
    "Measured and estimated": (
        "Measured is what the published predictions were worth once their labels were in. Estimated is what they are "
        "probably worth before that, from the model's own certainty: it holds only while its condition does."
    ),
    "Limit": "The dashed line: what performance has to keep, or the least distance that matters.",
    "Distance": "The share of rows that lies elsewhere than in the reference, 0% to 100%.",
    "Drifted": "A distance that matters and that chance hardly explains; marked red.",
}


@dataclass(frozen=True)
class _Card:
    """One column over time."""

    name: str
    drawing: Markup
    now: str
    often: str
    importance: str
    drifts_now: bool


@dataclass(frozen=True)
class _Panel:
    """One large drawing."""

    title: str
    note: str
    drawing: Markup
    keys: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Row:
    """One look in the table."""

    partition: str
    address: str
    drift: str
    drift_verdict: str
    columns: str
    performance: str
    performance_verdict: str
    detail: str
    action: str
    reason: str


def render_trend(trend: Trend, *, links: Mapping[str, str] = {}) -> str:
    """The page as text.

    :param links: Addresses of the looks' own reports, by partition; only http and https ones, and reports below the
        same folder, are linked.
    """
    cards = _cards(trend)
    rows = [_row(look, links.get(look.partition, "")) for look in trend.looks[: -MOST_LOOKS - 1 : -1]]
    page = {
        "model": words.clean(trend.model),
        "verdict": trend.verdict,
        "headline": headline(trend),
        "warnings": [words.clean(text, longest=400) for text in trend.gone],
        "facts": list(_facts(trend)),
        "performance": list(_performance(trend)),
        "predictions": list(_predictions(trend)),
        "cards": cards[:SHOWN_COLUMNS],
        "more_cards": cards[SHOWN_COLUMNS:],
        "rows": rows[:SHOWN_LOOKS],
        "more_rows": rows[SHOWN_LOOKS:],
        "left_out": len(trend.looks) - len(rows),
        "events": _kinds(trend.events),
        "glossary": list(_GLOSSARY.items()),
    }
    return template("trend.html").render(page=page, words=words)


def headline(trend: Trend) -> str:
    """Where the model stands, in one sentence."""
    newest = trend.looks[-1] if trend.looks else None
    if newest is None:
        return "Nothing was found yet."
    told = [_drift_in_words(newest.drift)] if newest.drift is not None else []
    told += [_performance_in_words(newest.performance)] if newest.performance is not None else []
    return f"{words.clean(newest.partition)}: {', '.join(told)}."


def _drift_in_words(report: DriftReport) -> str:
    if report.verdict is Verdict.FAIL:
        return f"{report.drifted or len(report.columns):,} of {words.count(report.compared, 'column')} drifted"
    return "no drift" if report.verdict is Verdict.PASS else "drift unclear"


def _performance_in_words(report: PerformanceReport) -> str:
    words_of = {
        Verdict.PASS: "performance within its limit",
        Verdict.FAIL: "performance out of its limit",
        Verdict.INCONCLUSIVE: "performance not known yet",
    }
    return words_of[report.verdict]


def lines(trend: Trend) -> Iterator[str]:
    """The same as plain text, a line per partition."""
    for look in trend.looks:
        row = _row(look, "")
        told = [row.drift + (f" ({row.columns})" if row.columns else ""), row.performance]
        told += [row.action] if look.response is not None and look.response.action != "nothing" else []
        told += [words.clean(look.response.held_back, longest=200)] if look.response is not None else []
        yield f"{row.partition}  " + "; ".join(text for text in told if text not in {"", words.NOTHING})


def _facts(trend: Trend) -> Iterator[Fact]:
    looks = trend.looks
    if not looks:
        return
    first, last = words.clean(looks[0].partition), words.clean(looks[-1].partition)
    yield Fact("Looked at", first if first == last else f"{first} to {last}", words.count(len(looks), "partition"))
    compared = [look.drift for look in looks if look.drift is not None]
    drifted = sum(report.verdict is Verdict.FAIL for report in compared)
    yield Fact("Drift", f"in {drifted:,} of {words.count(len(compared), 'look')}")
    measured = [look.performance for look in looks if look.performance is not None]
    known = [report for report in measured if report.verdict is not Verdict.INCONCLUSIVE]
    failed = sum(report.verdict is Verdict.FAIL for report in known)
    if measured:
        open_ones = len(measured) - len(known)
        more = f"{words.count(open_ones, 'partition')} not known yet" if open_ones else ""
        yield Fact("Performance", f"out of its limit in {failed:,} of {words.count(len(known), 'partition')}", more)
    for kind, name in (("release", "Releases"), ("retrain", "Retrainings asked for"), ("rollback", "Rollbacks")):
        count = sum(event.kind == kind for event in trend.events)
        if count or kind == "release":
            yield Fact(name, f"{count:,}")


def _kinds(events: Sequence[Event]) -> list[str]:
    return [kind for kind in ("release", "rollback", "retrain") if any(event.kind == kind for event in events)]


# --- Performance -----------------------------------------------------------------------------------------------------


def _performance(trend: Trend) -> Iterator[_Panel]:
    """A drawing per metric: measured, and estimated before."""
    reports = [look.performance for look in trend.looks]
    names = {name for report in reports if report is not None for name in report.metrics}
    names |= {report.estimate.metric for report in reports if report is not None and report.estimate is not None}
    looks = [look.partition for look in trend.looks]
    for name in sorted(names):
        label = words.label(name)
        measured, estimated = _measured(name, label, reports), _estimated(name, label, reports)
        limits = {limit for report in reports if report is not None for limit in (report.at_least, report.at_most)}
        series = [one for one in (estimated, measured) if any(value is not None for value in one.values)]
        drawing = chart(
            series, looks=looks, limits=sorted(one for one in limits if one is not None), events=trend.events
        )
        keys = tuple((one.kind, one.name.removeprefix(f"{label}, ")) for one in reversed(series))
        yield _Panel(label, _conditions(reports), drawing, keys if drawing else ())


def _measured(name: str, label: str, reports: Sequence[PerformanceReport | None]) -> Series:
    metrics = [report.metrics.get(name) if report is not None else None for report in reports]
    failed = {place for place, one in enumerate(reports) if one is not None and one.verdict is Verdict.FAIL}
    return Series(
        kind="measured",
        name=f"{label}, measured",
        values=[one.value if one is not None else None for one in metrics],
        lows=[one.low if one is not None else None for one in metrics],
        highs=[one.high if one is not None else None for one in metrics],
        flagged=frozenset(failed),
    )


def _estimated(name: str, label: str, reports: Sequence[PerformanceReport | None]) -> Series:
    found = [
        report.estimate if report is not None and report.estimate and report.estimate.metric == name else None
        for report in reports
    ]
    return Series(
        kind="estimated",
        name=f"{label}, estimated before labels",
        values=[one.value if one is not None else None for one in found],
        lows=[one.low if one is not None else None for one in found],
        highs=[one.high if one is not None else None for one in found],
    )


def _conditions(reports: Sequence[PerformanceReport | None]) -> str:
    """What the newest estimate stands on."""
    for report in reversed(reports):
        if report is not None and report.estimate is not None:
            holds = "" if report.estimate.valid else "The estimate is not to be relied on. "
            return holds + words.clean(report.estimate.condition, longest=800)
    return ""


# --- Drift -----------------------------------------------------------------------------------------------------------


def _predictions(trend: Trend) -> Iterator[_Panel]:
    """How far the model's answers have moved."""
    looks = [look.partition for look in trend.looks]
    for name, found in sorted(by_name(trend.looks, "prediction").items()):
        values, flagged, limit = _over_time(found, len(looks))
        series = Series("distance", f"distance of {words.clean(name)}", values, flagged=flagged)
        drawing = chart([series], looks=looks, limits=[limit], events=trend.events, shares=True)
        yield _Panel(words.clean(name), "", drawing, ())


def _over_time(
    found: Sequence[tuple[int, tuple[ColumnDrift, ...]]], looks: int
) -> tuple[list[float | None], frozenset[int], float]:
    """A column's distance in the shortest window, the looks where any window drifted, and the newest floor."""
    values: list[float | None] = [None] * looks
    for place, windows in found:
        values[place] = windows[0].distance
    flagged = frozenset(place for place, windows in found if any(one.drifted for one in windows))
    return values, flagged, found[-1][1][0].threshold


def _cards(trend: Trend) -> list[_Card]:
    """Each feature, what matters to the model at the newest look first."""
    releases = [event.place for event in trend.events if event.kind != "retrain"]
    last = len(trend.looks) - 1
    ranked: list[tuple[tuple[bool, float, int, float, str], _Card]] = []
    for name, found in by_name(trend.looks, "feature").items():
        values, flagged, limit = _over_time(found, len(trend.looks))
        importance = next((one.importance for _, (one, *_) in reversed(found) if one.importance is not None), None)
        now = values[last] or 0.0
        order = (last not in flagged, -(importance or 0.0) * now, -len(flagged), -now, name)
        card = _Card(
            name=words.clean(name),
            drawing=sparkline(values, flagged=flagged, limit=limit, releases=releases),
            now=_now(found, last),
            often=f"drifted in {len(flagged):,} of {len(found):,}" if flagged else "",
            importance=f"importance {importance:.0%}" if importance and importance >= _TOLD else "",
            drifts_now=last in flagged,
        )
        ranked.append((order, card))
    return [card for _, card in sorted(ranked, key=lambda one: one[0])]


def _now(found: Sequence[tuple[int, tuple[ColumnDrift, ...]]], last: int) -> str:
    place, (newest, *_) = found[-1]
    if place != last:
        return "not compared"
    if newest.distance is None:
        return "not measured"
    return f"{words.percent(newest.distance)}{', undecided' if is_unknown(newest) else ''}"


# --- The looks -------------------------------------------------------------------------------------------------------


def _row(look: Look, address: str) -> _Row:
    drift, performance, response = look.drift, look.performance, look.response
    return _Row(
        partition=words.clean(look.partition),
        address=address if is_web_page(address) or _is_report(address) else "",
        drift=_drift_in_words(drift) if drift is not None else words.NOTHING,
        drift_verdict=drift.verdict.value if drift is not None else "",
        columns=_moved(look.columns),
        performance=_numbers(performance) if performance is not None else words.NOTHING,
        performance_verdict=performance.verdict.value if performance is not None else "",
        detail=words.clean(performance.detail, longest=200) if performance is not None else "",
        action=_ACTIONS[response.action] if response is not None else words.NOTHING,
        reason=_why(look),
    )


def _is_report(address: str) -> bool:
    return _BELOW_REPORTS.fullmatch(address) is not None and ".." not in address[9:]


def _moved(columns: Sequence[ColumnDrift]) -> str:
    """``temp 81%, carrier 9%, ...``: what drifted, the farthest first."""
    farthest: dict[str, float] = {}
    for one in columns:
        if one.drifted:
            farthest[one.column] = max(one.distance or 0.0, farthest.get(one.column, 0.0))
    ranked = sorted(farthest.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{words.clean(name, longest=40)} {words.percent(value)}" for name, value in ranked[:_NAMED]]
    return ", ".join(named) + (f" and {len(ranked) - _NAMED:,} more" if len(ranked) > _NAMED else "")


def _numbers(report: PerformanceReport) -> str:
    return ", ".join(f"{words.label(name)} {words.number(one.value)}" for name, one in sorted(report.metrics.items()))


def _why(look: Look) -> str:
    response = look.response
    if response is None:
        return ""
    told = [response.held_back, response.reason] if response.held_back else [response.reason]
    return words.clean("; ".join(told), longest=600)
