"""One look at a partition's drift as a page of HTML that loads nothing and runs nothing: every value is escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.reports import words
from ml_lifecycle.backends.reports.graphics import Bar, Scale, against_limit
from ml_lifecycle.backends.reports.histograms import TAIL, histogram
from ml_lifecycle.backends.reports.page import Fact
from ml_lifecycle.backends.reports.rendering import template
from ml_lifecycle.core.approval import is_web_page
from ml_lifecycle.core.contracts import ColumnDrift, DriftReport, Rate, Verdict
from ml_lifecycle.core.evaluation import rounded
from ml_lifecycle.core.monitoring import by_certainty
from ml_lifecycle.core.trend import is_unknown

if TYPE_CHECKING:
    from markupsafe import Markup

    from ml_lifecycle.backends.monitoring.profiles import Profile

DRAWN: Final = 60
"""Columns whose rows are drawn: those of a wide table would make a heavy page."""
_FEW = 20
"""So many columns are shown at once where none of them moved."""
_BESIDE = re.compile(r"[A-Za-z0-9_-]+\.[a-z]+")
"""A file that lies beside the page."""
_METHODS: Final[Mapping[str, str]] = {"ks": "KS", "total_variation": "total variation"}
_KINDS: Final[Mapping[str, str]] = {
    "identifier": "names single rows: only missing values are compared",
    "time": "a time: only missing values are compared",
}
_REFERENCES: Final[Mapping[str, str]] = {
    "training": "the champion's training data",
    "previous": "the partitions before",
    "same_weekday": "the same weekdays before",
    "same_month": "the same calendar months of the year before",
}
_GLOSSARY: Final[Mapping[str, str]] = {
    "How far": (
        "The share of rows that lies elsewhere than before. For numbers (KS) it is the greatest difference between the "
        "shares of rows below a value, for categories (total variation) the share that would have to change its "
        "category. 0% is no difference. Beside it, for comparison with other tools: the population stability index "
        "(PSI), the Wasserstein distance in standard deviations of the reference, and the Jensen-Shannon distance."
    ),
    "By chance": (
        "How often a difference like this comes about without any drift, with all columns and windows taken together. "
        "A column has moved when that is rarer than this look's chance of a false alarm, and the distance matters, too."
    ),
    "Importance": "The column's share in what the model uses, measured by shuffling its values.",
    "Was and is": (
        "Filled is what was, outlined what is, each as shares of its own rows. Numbers are drawn without the outermost "
        f"{TAIL:.1%} on either side."
    ),
    "What nobody can say": (
        "Too few rows or blocks to tell, or no value to compare. It never counts as a column that did not move."
    ),
}
_BILLIONTH, _RARE, _MILLION = 1e-9, 1e-3, 1e6


@dataclass(frozen=True)
class _Line:
    """One column over all windows."""

    name: str
    kind: str
    detail: str
    drawing: Markup
    distance: str
    measures: str
    chance: str
    windows: tuple[str, ...]
    importance: str
    missing: str
    unseen: str
    shape: Markup | str


def render_drift(
    report: DriftReport,
    columns: Sequence[ColumnDrift],
    *,
    reference: Profile | None = None,
    current: Profile | None = None,
    links: Mapping[str, str] = {},
) -> str:
    """The page as text.

    :param columns: All of them, in every window.
    :param reference: What the columns' shapes are drawn from, in one frame with ``current``; none are where it is
        ``None``.
    :param links: Addresses by what they are called; only http and https ones, and files beside the page, are linked.
    """
    found = _by_column(columns)
    moved, unknown, still = _sorted(found)
    scale = _scale(columns)
    drawn = {id(one): _shape(one[0], reference, current) for one in [*moved, *unknown, *still][:DRAWN]}

    def lines(chosen: Sequence[Sequence[ColumnDrift]]) -> list[_Line]:
        return [_line(one, scale, drawn.get(id(one), "")) for one in chosen]

    page = {
        "model": words.clean(report.model),
        "partition": words.clean(report.partition),
        "verdict": report.verdict,
        "headline": headline(report, found),
        "notes": list(_notes(report, found)),
        "warnings": [words.clean(text, longest=600) for text in report.warnings],
        "facts": list(_facts(report)),
        "links": [(words.clean(name), address) for name, address in links.items() if _may_link(address)],
        "moved": lines(moved),
        "unknown": lines(unknown),
        "still": lines(still),
        "unfold": not moved and len(still) <= _FEW,
        "policy": list(_policy(report)),
        "glossary": list(_glossary(columns)),
        "current": report.current.fingerprint[:12],
        "reference": report.reference.fingerprint[:12],
    }
    return template("drift.html").render(page=page, words=words)


def _may_link(address: str) -> bool:
    return is_web_page(address) or _BESIDE.fullmatch(address) is not None


# --- Columns ---------------------------------------------------------------------------------------------------------


def _by_column(columns: Sequence[ColumnDrift]) -> list[list[ColumnDrift]]:
    """The windows of each column, the one that says most first."""
    found: dict[tuple[str, str], list[ColumnDrift]] = {}
    for one in columns:
        found.setdefault((one.role, one.column), []).append(one)
    return [sorted(windows, key=by_certainty) for windows in found.values()]


def _sorted(
    found: Sequence[list[ColumnDrift]],
) -> tuple[list[list[ColumnDrift]], list[list[ColumnDrift]], list[list[ColumnDrift]]]:
    """What moved, what is not known and what did not move, each with what matters to the model first."""

    def matters(windows: list[ColumnDrift]) -> tuple[bool, float, float, str]:
        first = windows[0]
        distance = first.distance or 0.0
        return first.role != "prediction", -(first.importance or 0.0) * distance, -distance, first.column

    moved = [one for one in found if one[0].drifted]
    unknown = [one for one in found if not one[0].drifted and is_unknown(one[0])]
    still = [one for one in found if not one[0].drifted and not is_unknown(one[0])]
    return sorted(moved, key=matters), sorted(unknown, key=matters), sorted(still, key=matters)


def _scale(columns: Sequence[ColumnDrift]) -> Scale:
    farthest = max([0.0, *(one.distance or 0.0 for one in columns), *(one.threshold for one in columns)])
    return Scale(0.0, 1.05 * farthest or 1.0)


def _line(windows: Sequence[ColumnDrift], scale: Scale, shape: Markup | str) -> _Line:
    one = windows[0]
    state = Verdict.FAIL if one.drifted else Verdict.INCONCLUSIVE if is_unknown(one) else Verdict.PASS
    bar = Bar(one.distance, 0.0 if one.distance is not None else None, one.distance, kind=state.value)
    kind = _KINDS.get(one.kind, one.kind)
    return _Line(
        name=words.clean(one.column),
        kind="what the model answers" if one.role == "prediction" else words.clean(kind),
        detail=words.clean(one.detail, longest=300),
        drawing=against_limit(bar, scale, limit=one.threshold, at_most=True),
        distance="not measured" if one.distance is None else words.percent(one.distance),
        measures=_measures(one),
        chance=_chance(one),
        windows=tuple(_windows(windows)),
        importance="" if one.importance is None else f"{one.importance:.0%}",
        missing=_change(one.missing_before, one.missing),
        unseen=f"{words.percent(one.unseen)} in unseen categories" if one.unseen else "",
        shape=shape,
    )


def _measures(column: ColumnDrift) -> str:
    """The distance's name, and what else was measured."""
    named = _METHODS.get(column.method, words.clean(column.method))
    others = {"PSI": column.psi, "Wasserstein": column.wasserstein, "Jensen-Shannon": column.jensen_shannon}
    told = [f"{name} {value:.2g}" for name, value in others.items() if value is not None and math.isfinite(value)]
    return ", ".join([named, *told]) if column.distance is not None else ""


def _windows(windows: Sequence[ColumnDrift]) -> Iterator[str]:
    if len(windows) == 1 and windows[0].window == 1:
        return
    for one in windows:
        span = "newest partition" if one.window == 1 else f"last {one.window} partitions"
        yield f"{span}: {words.percent(one.distance)}, {_chance(one)}"


def _shape(column: ColumnDrift, reference: Profile | None, current: Profile | None) -> Markup | str:
    if reference is None or current is None:
        return ""
    before, after = reference.columns.get(column.column), current.columns.get(column.column)
    return "" if before is None or after is None else histogram(before, after)


def _change(before: float | None, after: float | None) -> str:
    was, now = words.percent(before), words.percent(after)
    return now if was == now else f"{was} → {now}"


def _chance(column: ColumnDrift) -> str:
    return chance(column.adjusted if column.adjusted is not None else column.p_value)


def chance(p_value: float | None) -> str:
    """How often chance alone does this, as people say it."""
    if p_value is None or not math.isfinite(p_value):
        return words.NOTHING
    if p_value >= _RARE:
        return words.percent(p_value)
    if p_value < _BILLIONTH:
        return "below 1 in a billion"
    many = 1 / p_value
    return f"1 in {rounded(round(many))}" if many < _MILLION else f"1 in {many / _MILLION:,.0f} million"


# --- Words -----------------------------------------------------------------------------------------------------------


def headline(report: DriftReport, found: Sequence[Sequence[ColumnDrift]]) -> str:
    """The verdict in one sentence."""
    compared = report.compared or len(found)
    moved = report.drifted or sum(windows[0].drifted for windows in found)
    if report.verdict is Verdict.FAIL:
        return f"Drift: {moved:,} of {words.count(compared, 'column')} moved."
    if report.verdict is Verdict.PASS and moved:
        return f"No drift that matters to the model: {moved:,} of {words.count(compared, 'column')} moved."
    if report.verdict is Verdict.PASS:
        return f"No drift: none of {words.count(compared, 'column')} moved."
    unknown = sum(is_unknown(windows[0]) for windows in found)
    what = f"{unknown:,} of {words.count(len(found), 'column')} cannot be judged" if found else "nothing was compared"
    return f"Inconclusive: {what}."


def _notes(report: DriftReport, found: Sequence[Sequence[ColumnDrift]]) -> Iterator[str]:
    if report.verdict is Verdict.PASS and report.version:
        yield f"A false alarm is expected {budget(report.policy.false_alarms)} at most."
    predictions = [one for windows in found for one in windows[:1] if one.role == "prediction"]
    if any(one.drifted for one in predictions):
        yield "What the model answers has moved, too: its users see other predictions than before."
    elif predictions and report.verdict is Verdict.FAIL and not any(map(is_unknown, predictions)):
        yield "What the model answers has not moved."
    if report.weighted_drift is not None:
        yield f"Weighed by what each column is worth to the model, {report.weighted_drift:.1%} of its input moved."
    if report.verdict is not Verdict.FAIL and report.drifted:
        yield f"From {report.policy.min_weighted:.1%} on it would be drift."


def budget(rate: Rate) -> str:
    """``once a quarter``, ``2.5 times a week``."""
    often = {1.0: "once", 2.0: "twice"}.get(rate.count, f"{rate.count:g} times")
    return f"{often} a {rate.per}"


def _facts(report: DriftReport) -> Iterator[Fact]:
    if not report.version:
        yield from _files(report)
        return
    yield Fact("Champion", f"version {report.version}")
    yield Fact("Looked at", words.clean(report.partition), words.count(report.current.rows, "row"))
    partitions = report.reference_partitions or report.reference.partitions
    more = words.count(len(partitions), "partition") if partitions else ""
    yield Fact(
        "Compared with", _REFERENCES[report.policy.reference], "; ".join(filter(None, [_span(partitions), more]))
    )
    if report.alpha is not None:
        yield Fact(
            "Chance of a false alarm", chance(report.alpha), f"of a budget of {budget(report.policy.false_alarms)}"
        )


def _files(report: DriftReport) -> Iterator[Fact]:
    """Of a comparison of files, that no model stands behind."""
    for name, dataset in (("Looked at", report.current), ("Compared with", report.reference)):
        yield Fact(name, words.clean(PurePath(dataset.uri).name), words.count(dataset.rows, "row"))
    if report.alpha is not None:
        yield Fact("Chance of a false alarm", chance(report.alpha))


def _span(partitions: Sequence[str]) -> str:
    if not partitions:
        return ""
    first, last = words.clean(partitions[0]), words.clean(partitions[-1])
    return first if len(partitions) == 1 else f"{first} to {last}"


def _policy(report: DriftReport) -> Iterator[Fact]:
    policy, of_model = report.policy, bool(report.version)
    if of_model:
        spent = f"{chance(report.alpha)} at this look" if report.alpha is not None else ""
        yield Fact("False alarms", f"{budget(policy.false_alarms)} at most", spent)
    yield Fact(
        "What matters", f"{words.percent(policy.min_effect)} of the rows elsewhere", "less is no drift, however certain"
    )
    blocks = f"{words.clean(policy.block)}" if policy.block else "none"
    yield Fact("Blocks", blocks, "rows that are not independent" if policy.block else "each row stands for itself")
    if of_model:
        yield Fact("Windows", ", ".join(map(str, policy.windows)), "partitions looked at as one")
        yield Fact("Reference", _REFERENCES[policy.reference])


def _glossary(columns: Sequence[ColumnDrift]) -> Iterator[tuple[str, str]]:
    """What the numbers mean, of those that are there."""
    needed = {"Importance": any(one.importance is not None for one in columns)}
    yield from ((name, meaning) for name, meaning in _GLOSSARY.items() if needed.get(name, True))
