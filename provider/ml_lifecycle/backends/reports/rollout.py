"""A rollout as a page of HTML that loads nothing and runs nothing, and a step of it as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.reports import words
from ml_lifecycle.backends.reports.graphics import Bar, Scale, against_limit
from ml_lifecycle.backends.reports.page import Fact
from ml_lifecycle.backends.reports.rendering import template
from ml_lifecycle.core.contracts import Losses, Move, Observation, StepCheck, StepReport, TrafficShift, Verdict
from ml_lifecycle.core.latencies import Times

if TYPE_CHECKING:
    from markupsafe import Markup

SHOWN_SHIFTS: Final = 200
"""Changes of traffic that are drawn: there are no more in a rollout, whatever somebody writes."""
_ALL: Final = 100
_WIDTH, _HEIGHT = 720.0, 180.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 20.0, 22.0
_LETTERS: Final = 130.0
"""Room of a moment's name."""
_SHARES: Final = ("error rate", "prediction shift")
_QUALITY_SHARES: Final = ("accuracy", "brier")
_NAMES: Final[Mapping[str, str]] = {
    "target": "The target",
    "answers": "Answers",
    "error rate": "Error rate",
    "latency": "95th percentile",
    "latency ratio": "Latency ratio",
    "quality": "Loss of quality",
    "prediction shift": "Other predictions",
}
_LIMITS: Final[Mapping[str, str]] = {"answers": "at least", "quality": "less than"}
_SAID: Final[Mapping[Verdict, str]] = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.INCONCLUSIVE: "undecided",
}
_GLOSSARY: Final[Mapping[str, str]] = {
    "Bar": (
        "Where the true number lies, however often somebody has looked; the dot is what was seen. The shaded side "
        "keeps the limit. A check passes when the whole bar lies there. It fails when none of it does and the old "
        "version does better; a loss of quality fails as soon as it is certain that there is one."
    ),
    "Error rate": (
        "Requests that the version did not answer. Those that the old version answered instead count, though no user "
        "noticed."
    ),
    "95th percentile": "95 of 100 requests were faster.",
    "Latency ratio": "How many times the old version's 95th percentile the new one's is, at the same time.",
    "Loss of quality": (
        "The mean loss of the new version's answers beyond that of the old one's, at the same steps, once their labels "
        "are in. It has to be ruled out before all traffic goes to the new version."
    ),
    "Other predictions": (
        "How far the two versions' answers to the same requests lie apart (Kolmogorov-Smirnov distance): 0% is no "
        "difference."
    ),
    "Undecided": "Too few requests or labels to tell. Looking goes on; nothing passes because nothing is known.",
}


@dataclass(frozen=True)
class _Check:
    """One line of a step's table."""

    name: str
    verdict: str
    said: str
    observed: str
    bounds: str
    limit: str
    drawing: Markup | str
    detail: str


@dataclass(frozen=True)
class _Side:
    """What one version did."""

    name: str
    requests: str
    errors: str
    retried: str
    percentile: str
    labelled: str
    loss: str


@dataclass(frozen=True)
class _Step:
    """One step with everything that is known about it."""

    title: str
    verdict: str
    said: str
    facts: str
    checks: tuple[_Check, ...]
    sides: tuple[_Side, ...]
    notes: tuple[str, ...]


def rollout_page(
    reports: Sequence[StepReport],
    shifts: Sequence[Mapping[str, Any]],
    *,
    back: Move | None = None,
    until: datetime | None = None,
) -> str:
    """The page as text.

    :param reports: Of one rollout; of several of the same step the last one counts.
    :param shifts: The ledger's rows of its changes of traffic: ``at``, and the shift as ``content``.
    :param back: The move that ended it, where it was rolled back.
    :param until: Up to when the split is drawn; left out, up to the last that is known.
    """
    newest = sorted({report.percent: report for report in reports}.values(), key=lambda report: report.percent)
    last = newest[-1] if newest else None
    page = {
        "model": words.clean(last.model) if last else "",
        "version": last.version if last else None,
        "verdict": Verdict.FAIL if back else last.verdict if last else Verdict.INCONCLUSIVE,
        "headline": headline(newest, shifts, back),
        "facts": list(_facts(newest, back)),
        "split": _split(shifts, back, until),
        "steps": [_step(report) for report in reversed(newest)],
        "policy": list(_policy(last)) if last else [],
        "glossary": list(_GLOSSARY.items()),
    }
    return template("rollout.html").render(page=page, words=words)


def headline(reports: Sequence[StepReport], shifts: Sequence[Mapping[str, Any]], back: Move | None) -> str:
    """How the rollout stands, in one sentence."""
    if not reports:
        return "No step has been looked at yet."
    last = reports[-1]
    named = ", ".join(_NAMES[check.name].lower() for check in last.checks if check.verdict is last.verdict)
    if back is not None:
        return f"Rolled back from {_where(last)}: version {back.version} has all traffic again."
    if last.verdict is Verdict.FAIL:
        return f"Failed at {_where(last)}: {named}. All traffic goes back."
    if last.verdict is Verdict.INCONCLUSIVE:
        return f"Undecided at {_where(last)}: {named or 'nothing is known'}."
    if any(shift.percent == _ALL for _, shift in _read(shifts)):
        return f"Every step has passed: version {last.version} has all traffic."
    return f"Passed at {_where(last)}."


def step_table(report: StepReport) -> str:
    """A step as text for a log, one line per check."""
    rows = [("", "verdict", "seen", "bounds", "limit", "")]
    rows += [
        (one.name, one.said, one.observed, one.bounds, one.limit, one.detail)
        for one in map(_line(report), report.checks)
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]) for row in rows
    ]
    title = f"{words.clean(report.model)} version {report.version}, {_where(report)}: {_SAID[report.verdict]}"
    return "\n".join([title, *(line.rstrip() for line in lines)])


def _where(report: StepReport) -> str:
    return f"{report.percent}% of the traffic" if report.percent else "the shadow"


def _facts(reports: Sequence[StepReport], back: Move | None) -> Iterator[Fact]:
    if not reports:
        return
    last, first = reports[-1], reports[0]
    if back is None:
        split = ", ".join(
            f"version {words.clean(version)} {share}%" for version, share in sorted(last.traffic.items(), reverse=True)
        )
        yield Fact("What serves", split or words.NOTHING, "as the target told it at the last look")
    else:
        yield Fact("What serves", f"version {back.version}", words.clean(back.reason, longest=300))
    yield Fact("Rolled out", f"version {last.version}", f"epoch {last.epoch}")
    yield Fact("Environment", words.clean(last.environment))
    yield Fact("First step", _moment(first.evidence.began_at))


def _policy(report: StepReport) -> Iterator[Fact]:
    policy = report.policy
    yield Fact(
        "False rollbacks", f"{words.percent(policy.false_rollbacks)} at most", "over all checks, looks and steps"
    )
    yield Fact("Errors", f"{words.percent(policy.max_error_rate)} at most")
    ratio = policy.max_latency_ratio
    times = f"{words.limit(ratio)} times the old version's" if ratio is not None else "whatever the old version's is"
    own = f"{words.limit(policy.latency_p95_ms)} ms at most" if policy.latency_p95_ms is not None else ""
    yield Fact("95th percentile", f"{times} at most", own)
    yield Fact("Answers", f"{policy.min_requests:,} at least", "of the new version at each step")
    if (quality := policy.quality) is not None:
        more = f"{words.limit(quality.tolerance)} is tolerated" if quality.tolerance else ""
        yield Fact("Quality", f"a loss of {words.limit(quality.margin)} ruled out", more)
    yield Fact("Where nobody can say", policy.on_inconclusive, f"after {policy.max_wait}")


# --- A step ----------------------------------------------------------------------------------------------------------


def _step(report: StepReport) -> _Step:
    evidence = report.evidence
    sides = [
        _side(name, seen, losses)
        for name, seen, losses in (
            ("new", evidence.new, evidence.new_losses),
            ("old", evidence.old, evidence.old_losses),
        )
        if seen is not None or losses is not None
    ]
    looks = words.count(report.looks, "look")
    return _Step(
        title=f"{report.percent}% of the traffic" if report.percent else "Shadow",
        verdict=report.verdict.value,
        said=_SAID[report.verdict],
        facts=f"since {_moment(evidence.began_at)}, {looks}",
        checks=tuple(map(_line(report), report.checks)),
        sides=tuple(sides),
        notes=tuple(words.clean(note, longest=400) for note in evidence.notes),
    )


def _line(report: StepReport) -> Any:
    """How a check of this report is told."""
    quality = report.policy.quality
    shares = (*_SHARES, "quality") if quality is not None and quality.metric in _QUALITY_SHARES else _SHARES

    def told(check: StepCheck) -> _Check:
        def number(value: float | None) -> str:
            return _number(check, value, is_share=check.name in shares)

        has_bounds = check.low is not None or check.high is not None
        limit = "" if check.limit is None else f"{_LIMITS.get(check.name, 'at most')} {number(check.limit)}"
        return _Check(
            name=_NAMES[check.name],
            verdict=check.verdict.value,
            said=_SAID[check.verdict],
            observed="" if check.observed is None else number(check.observed),
            bounds=f"{number(check.low)} to {number(check.high)}" if has_bounds else "",
            limit=limit,
            drawing=_drawing(check) if has_bounds else "",
            detail=words.clean(check.detail, longest=400),
        )

    return told


def _number(check: StepCheck, value: float | None, *, is_share: bool) -> str:
    if value is None:
        return "?"
    if is_share:
        return f"{value:.2%}"
    if check.name == "answers":
        return f"{value:,.0f}"
    return {"latency": f"{value:,.1f} ms", "latency ratio": f"{value:.2f} times"}.get(check.name, words.number(value))


def _drawing(check: StepCheck) -> Markup:
    numbers = [one for one in (check.observed, check.limit) if one is not None]
    # An end that lies far out, as of few requests, runs off the drawing: what matters is near the limit.
    reach = 4 * max((abs(one) for one in numbers), default=1.0)
    ends = [max(-reach, min(reach, one)) for one in (check.low, check.high) if one is not None]
    bar = Bar(check.observed, check.low, check.high, kind=check.verdict.value)
    return against_limit(bar, Scale.of([*numbers, *ends]), limit=check.limit, at_most=True)


def _side(name: str, seen: Observation | None, losses: Losses | None) -> _Side:
    version = seen.version if seen is not None else losses.version if losses is not None else 0
    times = Times.of(seen.latency) if seen is not None else None
    percentile = times.percentile if times is not None else None
    return _Side(
        name=f"{name}, version {version}",
        requests=f"{seen.requests:,}" if seen is not None else words.NOTHING,
        errors=f"{seen.errors:,}" if seen is not None else words.NOTHING,
        retried=f"{seen.retried:,}" if seen is not None else words.NOTHING,
        percentile=f"{percentile:,.1f} ms" if percentile is not None else words.NOTHING,
        labelled=f"{losses.rows:,}" if losses is not None else words.NOTHING,
        loss=words.number(losses.total / losses.rows) if losses is not None and losses.rows else words.NOTHING,
    )


# --- The split over time ---------------------------------------------------------------------------------------------


def _read(shifts: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, TrafficShift]]:
    """Changes of traffic with their moments, the earliest first."""
    found = [(row["at"], TrafficShift.model_validate(row["content"])) for row in shifts[-SHOWN_SHIFTS:]]
    return sorted(found, key=lambda one: one[0])


def _split(shifts: Sequence[Mapping[str, Any]], back: Move | None, until: datetime | None) -> Markup | str:
    """The new version's share of the traffic over time, as stairs."""
    points = [(at, shift.percent, words.clean(shift.because, longest=120)) for at, shift in _read(shifts)]
    if back is not None:
        points.append((back.moved_at, 0, f"rolled back: {words.clean(back.reason, longest=120)}"))
    if not points:
        return ""
    end = max([points[-1][0], *([until] if until is not None else [])])
    return _stairs(points, end, is_back=back is not None)


def _stairs(points: Sequence[tuple[datetime, int, str]], end: datetime, *, is_back: bool) -> Markup:
    from markupsafe import Markup

    begin = points[0][0]
    span = max((end - begin).total_seconds(), 1.0) * 1.04

    def x(at: datetime) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * max(0.0, (at - begin).total_seconds()) / span, 1)

    def y(percent: int) -> float:
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - percent / _ALL), 1)

    path = "".join(
        [f"M{x(begin)} {y(0)}", *(f"H{x(at)}V{y(percent)}" for at, percent, _ in points), f"H{_WIDTH - _RIGHT}"]
    )
    area = f"{path}V{y(0)}Z"
    drawn = Markup().join(
        [
            *_grid(y),
            Markup('<path class="band measured" d="{}"/><path class="line measured" d="{}"/>').format(area, path),
            *(_point(x(at), y(percent), percent, why, is_last=is_back and at == points[-1][0])
              for at, percent, why in points),
            *_moments(begin, end, x),
        ]
    )  # fmt: skip
    said = "; ".join(f"{_moment(at)}: {percent}%" for at, percent, _ in points)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        int(_WIDTH), int(_HEIGHT), said, drawn
    )


def _grid(y: Any) -> Iterator[Markup]:
    from markupsafe import Markup

    for tick in (0, 50, _ALL):
        yield Markup('<path class="grid" d="M{} {}H{}"/><text class="r" x="{}" y="{}">{}%</text>').format(
            _LEFT, y(tick), _WIDTH - _RIGHT, _LEFT - 6, y(tick) + 3.5, tick
        )


def _point(x: float, y: float, percent: int, why: str, *, is_last: bool) -> Markup:
    from markupsafe import Markup

    kind = "f" if is_last else "measured"
    return Markup('<circle class="{}" cx="{}" cy="{}" r="3.5"><title>{}%: {}</title></circle>').format(
        kind, x, y, percent, why
    )


def _moments(begin: datetime, end: datetime, x: Any) -> Iterator[Markup]:
    from markupsafe import Markup

    yield Markup('<text x="{}" y="{}">{}</text>').format(_LEFT, _HEIGHT - 6, _moment(begin))
    if x(end) - _LEFT > 2 * _LETTERS:
        yield Markup('<text class="r" x="{}" y="{}">{}</text>').format(_WIDTH - _RIGHT, _HEIGHT - 6, _moment(end))


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")
