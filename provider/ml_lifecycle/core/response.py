"""What monitoring's reports call for: a rollback, a retraining, an alert or nothing; and when retraining stops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import Final, Literal, NamedTuple

from ml_lifecycle.core.approval import POLICY
from ml_lifecycle.core.contracts import (
    ColumnDrift,
    DriftReport,
    Metric,
    MonitoringResponse,
    Move,
    PerformanceReport,
    Rate,
    ValidationReport,
    Verdict,
)
from ml_lifecycle.core.monitoring import DAYS
from ml_lifecycle.core.validation import in_words

Action = Literal["retrain", "rollback", "alert", "nothing"]
Kind = Literal["performance", "drift", "quality"]

KINDS: Final[tuple[Kind, ...]] = ("performance", "drift", "quality")
STRENGTH: Final[Mapping[Action, int]] = {"nothing": 0, "alert": 1, "retrain": 2, "rollback": 3}
"""The strongest of several answers is given."""
PENDING_FOR: Final = timedelta(days=1)
"""For so long a training that was asked for and has not begun is waited for, however short the cooldown is."""
STOPPED: Final = "stopped"
SPENT: Final = "budget spent"

_NAMED: Final = 3
"""Columns, expectations and partitions that a sentence names."""


@dataclass(frozen=True)
class Reports:
    """What one look found; ``None`` for what was not looked at."""

    drift: DriftReport | None = None
    performance: PerformanceReport | None = None
    quality: ValidationReport | None = None

    def verdict(self, kind: Kind) -> Verdict | None:
        """What one of them says."""
        report = {"performance": self.performance, "drift": self.drift, "quality": self.quality}[kind]
        return None if report is None else report.verdict

    def version(self, kind: Kind) -> int | None:
        """The version that one of them is about; data has none."""
        report = {"performance": self.performance, "drift": self.drift, "quality": None}[kind]
        return None if report is None else report.version

    @property
    def evidence(self) -> tuple[str, ...]:
        """The reports that people can open; what performance was is on the page of the trend."""
        found = (self.drift, self.quality)
        return tuple(report.report_uri for report in found if report is not None and report.report_uri)


@dataclass(frozen=True)
class Plan:
    """What a pipeline wants done, and its limits."""

    on_drift: Action = "retrain"
    on_performance: Action | None = None
    """``None``: as drift does."""
    on_quality: Action = "alert"
    cooldown: timedelta = timedelta(days=7)
    stop_after: int = 3
    budget: Rate | None = None
    new_rows: int = 1
    remind_after: timedelta = timedelta(days=7)
    runbook: str = ""

    def answer(self, kind: Kind) -> Action:
        """What follows a finding of this kind."""
        if kind == "quality":
            return self.on_quality
        return self.on_drift if kind == "drift" or self.on_performance is None else self.on_performance


@dataclass(frozen=True)
class FreshData:
    """What a retraining would read."""

    partitions: tuple[str, ...] = ()
    """Oldest first; empty where there are none that may be trained on."""
    unseen: tuple[str, ...] = ()
    """Those of them that no training has seen."""
    rows: int = 0
    """Labelled rows in the unseen ones."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Partitions that are left out, each with why."""


@dataclass(frozen=True)
class Circumstances:
    """What does not depend on what others ask for at the same moment."""

    waiting_version: int | None = None
    """A recent version that waits for its approval."""
    rolling_out: int | None = None
    """A version that is being given the champion's traffic step by step."""
    waiting_data: bool = False
    """Whether a training waits for the approval of its data."""
    previous: Move | None = None
    """What a rollback of the champion would bring back."""
    previous_failed: str = ""
    """The partition on which the previous champion was last measured and found bad; empty where it was not."""
    begun_seq: int = 0
    """When the newest training began, as the ledger counts."""
    fresh: FreshData | None = None
    """``None`` where nobody looked."""


class Request(NamedTuple):
    """A retraining that was asked for."""

    at: datetime
    seq: int
    epoch: int | None
    """The ledger's head at that moment."""


@dataclass(frozen=True)
class History:
    """What monitoring said before, as the ledger tells it."""

    moves: Sequence[Move] = ()
    """Of the model, by epoch, to that of the champion."""
    requests: Sequence[Request] = ()
    """Retrainings that were asked for, oldest first."""
    well_seq: int = 0
    """When the champion was last found well, as the ledger counts."""
    rollback_asked_at: datetime | None = None
    """When the rollback of the present champion was asked for."""
    finding: str = ""
    """What the look before found."""
    told_at: datetime | None = None
    """When people were told of that."""

    @property
    def champion(self) -> Move | None:
        """What serves."""
        return self.moves[-1] if self.moves else None


def respond(
    reports: Reports, plan: Plan, history: History, facts: Circumstances, *, model: str, partition: str, now: datetime
) -> MonitoringResponse:
    """What the reports call for, with its reasons: of several answers, the strongest one.

    Only a failed verdict about the version that serves calls for anything; what is unclear is said.
    """
    champion = history.champion
    case = _Case(reports, plan, history, facts, now.astimezone(timezone.utc))
    bad = failing(reports, champion)
    answers = [case.answer(kind) for kind in bad]
    action: Action = max((answer.action for answer in answers), key=STRENGTH.__getitem__, default="nothing")
    finding = _finding(reports, bad, answers, history)
    told, told_at = case.told(action, finding)
    notes = dict.fromkeys(answer.note for answer in answers if answer.note)
    fresh, retrains = facts.fresh, action == "retrain"
    return MonitoringResponse(
        model=model,
        partition=partition,
        action=action,
        reason=_one_line("; ".join([*in_sentences(reports, champion), *notes, *(case.left_out() if retrains else ())])),
        evidence=reports.evidence,
        runbook=plan.runbook,
        prepared=prepared(model, bad, partition, history, facts),
        healthy=healthy(reports, champion),
        attempts=case.attempts.most,
        held_back=next((answer.held_back for answer in answers if answer.held_back), ""),
        version=champion.version if champion else None,
        epoch=champion.epoch if champion else None,
        back_to=facts.previous.version if facts.previous is not None and action == "rollback" else None,
        excluded=tuple(sorted(fresh.refused)) if fresh is not None and retrains else (),
        new_rows=fresh.rows if fresh is not None else None,
        finding=finding,
        told=told,
        told_at=told_at,
    )


def failing(reports: Reports, champion: Move | None) -> tuple[Kind, ...]:
    """What failed, of what is about the version that serves."""
    return tuple(
        kind for kind in KINDS if reports.verdict(kind) is Verdict.FAIL and not _is_past(reports, kind, champion)
    )


def wants_retraining(reports: Reports, plan: Plan, champion: Move | None) -> bool:
    """Whether something calls for a retraining, before anything holds it back."""
    return any(plan.answer(kind) == "retrain" for kind in failing(reports, champion))


def healthy(reports: Reports, champion: Move | None) -> bool | None:
    """Whether the champion is well: its performance says so, and without such a rule its data; ``None``: unknown."""
    kind: Kind = "performance" if reports.performance is not None else "drift"
    verdict = reports.verdict(kind)
    if verdict in (None, Verdict.INCONCLUSIVE) or _is_past(reports, kind, champion):
        return None
    return verdict is Verdict.PASS


class Attempts(NamedTuple):
    """Retrainings that were asked for and did not help."""

    since_well: int
    """Since the champion was last found well, or a person released a version."""
    since_release: int
    """Since the last release by anybody."""

    @property
    def most(self) -> int:
        """The greater number counts: neither a release that helps nothing nor a good look in between starts it anew."""
        return max(self)


def attempts(history: History, *, is_well: bool) -> Attempts:
    """What was tried since it last helped.

    :param is_well: Whether this look finds the champion well.
    """
    by_person = max((move.epoch for move in history.moves if _is_by_person(move)), default=0)
    released = max((move.epoch for move in history.moves if move.kind == "release"), default=0)
    moved_at = {move.epoch: move.moved_at for move in history.moves}

    def since(request: Request, epoch: int) -> bool:
        if request.epoch is None:
            return epoch == 0 or request.at > moved_at[epoch]
        return request.epoch >= epoch

    unwell = () if is_well else [request for request in history.requests if request.seq >= history.well_seq]
    return Attempts(
        since_well=sum(since(request, by_person) for request in unwell),
        since_release=sum(since(request, released) for request in history.requests),
    )


def allowance(budget: Rate) -> tuple[int, timedelta]:
    """A budget as a whole number and the length of the sliding window that may hold so many.

    ``0.5 per quarter`` is one in two quarters.
    """
    most = math.ceil(budget.count)
    return most, timedelta(days=DAYS[budget.per] * most / budget.count)


# --- One look --------------------------------------------------------------------------------------------------------


class _Answer(NamedTuple):
    action: Action
    note: str = ""
    """Why it is not what the pipeline wants."""
    held_back: str = ""
    """Why a retraining is not asked for."""
    state: str = ""
    """What makes the finding another one, though the same things are wrong."""


class _Held(NamedTuple):
    action: Action
    """What follows instead of a retraining."""
    why: str
    state: str = ""


@dataclass(frozen=True)
class _Case:
    reports: Reports
    plan: Plan
    history: History
    facts: Circumstances
    now: datetime

    def answer(self, kind: Kind) -> _Answer:
        wanted = self.plan.answer(kind)
        if wanted == "rollback":
            why = next(self._no_rollback(kind), "")
            return _Answer("alert", f"no rollback: {why}") if why else _Answer("rollback")
        return self._retraining() if wanted == "retrain" else _Answer(wanted)

    def told(self, action: Action, finding: str) -> tuple[bool, datetime | None]:
        """Whether people are told now, and when they were last told of this finding."""
        last = self.history.told_at if finding and finding == self.history.finding else None
        # A clock that was ahead must not silence reminders until that time comes.
        last = min(last, self.now) if last is not None else None
        is_due = last is None or self.now - last >= self.plan.remind_after
        if action in ("alert", "rollback") and is_due:
            return True, self.now
        return False, last

    @property
    def attempts(self) -> Attempts:
        return attempts(self.history, is_well=healthy(self.reports, self.history.champion) is True)

    def left_out(self) -> tuple[str, ...]:
        refused = self.facts.fresh.refused if self.facts.fresh is not None else {}
        return (f"it leaves out {_partitions(refused)}",) if refused else ()

    # --- Rollback ---

    def _no_rollback(self, kind: Kind) -> Iterator[str]:
        """Why the champion is not rolled back."""
        champion, previous = self.history.champion, self.facts.previous
        if kind != "performance":
            yield "drift alone does not say that an earlier version would do better"
        if self.reports.verdict("quality") is Verdict.FAIL:
            yield "the data fails its suite, so the loss may not be the version's"
        if champion is None:
            yield "no version was released yet"
        elif self.facts.rolling_out is not None:
            yield f"version {self.facts.rolling_out} is being rolled out, and its steps say which one is better"
        elif champion.kind == "rollback":
            yield f"version {champion.version} is what was gone back to already"
        elif previous is None:
            yield "there is no earlier champion to go back to"
        elif self.facts.previous_failed:
            yield f"version {previous.version} was out of its limits too, on {self.facts.previous_failed}"
        elif self.history.rollback_asked_at is not None:
            ago = _span(self.now - self.history.rollback_asked_at)
            yield f"it was asked for {ago} ago, and version {champion.version} still serves"

    # --- Retraining ---

    def _retraining(self) -> _Answer:
        """Asked for, unless something holds it back: first what only a person can end, then what passes by itself."""
        reasons = chain(self._stopped(), self._under_way(), self._spent(), self._without_data())
        held = next(reasons, None)
        return _Answer("retrain") if held is None else _Answer(held.action, held.why, held.why, held.state)

    def _stopped(self) -> Iterator[_Held]:
        tried = self.attempts
        if tried.since_well >= self.plan.stop_after:
            count = _counted(tried.since_well, "retraining")
            why = f"{count} did not help: the champion was not found well since; no more are asked for until it is, or"
            yield _Held("alert", f"{why} until a person releases a version", STOPPED)
        elif tried.since_release >= self.plan.stop_after:
            count = _counted(tried.since_release, "retraining")
            yield _Held("alert", f"{count} brought no release; no more are asked for until there is one", STOPPED)

    def _under_way(self) -> Iterator[_Held]:
        if self.facts.rolling_out is not None:
            yield _Held("nothing", f"version {self.facts.rolling_out} is being rolled out")
        if self.facts.waiting_version is not None:
            yield _Held("nothing", f"version {self.facts.waiting_version} already waits for its approval")
        if self.facts.waiting_data:
            yield _Held("nothing", "a training waits for the approval of its data")
        if not self.history.requests:
            return
        last = self.history.requests[-1]
        age = max(self.now - last.at, timedelta(0))
        if age < self.plan.cooldown:
            rest = _span(self.plan.cooldown)
            yield _Held("nothing", f"a retraining was asked for {_span(age)} ago, within the cooldown of {rest}")
        if self.facts.begun_seq < last.seq and age < PENDING_FOR:
            yield _Held("nothing", f"the retraining that was asked for {_span(age)} ago has not begun")

    def _spent(self) -> Iterator[_Held]:
        if self.plan.budget is None:
            return
        most, period = allowance(self.plan.budget)
        recent = sum(max(self.now - request.at, timedelta(0)) < period for request in self.history.requests)
        if recent >= most:
            why = f"the budget of {self.plan.budget} is spent: {recent} in the last {_span(period)}"
            yield _Held("alert", why, SPENT)

    def _without_data(self) -> Iterator[_Held]:
        fresh = self.facts.fresh
        if fresh is None:
            return
        without = f" without {_partitions(fresh.refused)}" if fresh.refused else ""
        if not fresh.partitions:
            yield _Held("alert", f"there is nothing to train on{without}")
        elif fresh.rows < self.plan.new_rows:
            read = f"a retraining on {_partitions(fresh.partitions)}{without}"
            seen = f"would see {_counted(fresh.rows, 'new labelled row')}, and {self.plan.new_rows:,} are needed"
            yield _Held("alert", f"{read} {seen}")


def _is_past(reports: Reports, kind: Kind, champion: Move | None) -> bool:
    """Whether a report is about a version that no longer serves: labels come late."""
    version = reports.version(kind)
    return champion is not None and version is not None and version != champion.version


def _is_by_person(move: Move) -> bool:
    return move.kind == "release" and move.moved_by != POLICY


def _finding(reports: Reports, bad: Sequence[Kind], answers: Sequence[_Answer], history: History) -> str:
    """What is wrong in a few words that stay the same while nothing changes; a look that knows nothing ends nothing."""
    version = f"of version {history.champion.version}" if history.champion else "before the first release"
    known = history.finding if version in history.finding else ""
    open_still = [kind for kind in KINDS if kind in known and reports.verdict(kind) in (None, Verdict.INCONCLUSIVE)]
    wrong = [kind for kind in KINDS if kind in (*bad, *open_still)]
    if not wrong:
        return ""
    states = [answer.state for answer in answers if answer.state]
    if not bad:
        return known if len(wrong) == sum(kind in known for kind in KINDS) else f"{', '.join(wrong)} {version}"
    return f"{', '.join(wrong)} {version}" + (f": {states[0]}" if states else "")


# --- What can be done ------------------------------------------------------------------------------------------------


def prepared(model: str, bad: Sequence[Kind], partition: str, history: History, facts: Circumstances) -> str:
    """What somebody can do at once, by the DAG's name and what to hand it; empty where nothing is wrong."""
    champion, back = history.champion, facts.previous
    steps = []
    if "performance" in bad and champion is not None and back is not None:
        conf = f'{{"version": {back.version}}}'
        steps.append(f"trigger {model}_rollback with {conf} to go back to version {back.version}")
    if "quality" in bad:
        steps.append(f"mend the data of {partition}, and clear the run of {model}_monitor")
    if "performance" in bad or "drift" in bad:
        steps.append(f"trigger {model}_train to train on the newest data")
        if facts.rolling_out is not None:
            steps[-1] = f"look at the steps of {model}_release, which gives version {facts.rolling_out} the traffic"
        elif facts.waiting_version is not None:
            steps[-1] = f"answer the question of {model}_release about version {facts.waiting_version}"
    return "; or ".join(steps)


# --- In words --------------------------------------------------------------------------------------------------------


def in_sentences(reports: Reports, champion: Move | None) -> tuple[str, ...]:
    """What each report says, for people."""
    said = [
        text + _aside(reports, kind, champion)
        for kind, text in (
            ("drift", _drift_in_words(reports.drift)),
            ("performance", _performance_in_words(reports.performance)),
            ("quality", _quality_in_words(reports.quality)),
        )
        if text
    ]
    return tuple(said) or ("nothing was measured",)


def _aside(reports: Reports, kind: str, champion: Move | None) -> str:
    past = next((one for one in KINDS if one == kind and _is_past(reports, one, champion)), None)
    return f", which no longer serves: version {champion.version} does" if past and champion else ""


def _drift_in_words(report: DriftReport | None) -> str:
    """``drift on 2013-05: 5 of 14 columns moved (temp 0.42, ...) against the training data of version 1``."""
    if report is None:
        return ""
    moved = _most_moved(report.columns)
    named = ", ".join(f"{one.column} {one.distance:.2f}" for one in moved[:_NAMED])
    count = report.drifted or len(moved)
    if count > _NAMED:
        named += ", ..."
    words = {Verdict.FAIL: "drift", Verdict.PASS: "no drift", Verdict.INCONCLUSIVE: "unclear drift"}[report.verdict]
    unknown = sum(column.distance is None for column in report.columns)
    unmeasured = f", {unknown} could not be measured," if unknown else ""
    moved_words = f"{count} of {report.compared or len(report.columns)} columns moved"
    return (
        f"{words} on {report.partition}: {moved_words}{f' ({named})' if named else ''}{unmeasured} "
        f"against {_reference(report)} of version {report.version}"
    )


def _most_moved(columns: Sequence[ColumnDrift]) -> list[ColumnDrift]:
    """Each column that drifted once, by its greatest distance."""
    found: dict[str, ColumnDrift] = {}
    for column in sorted(columns, key=lambda one: (-(one.distance or 0), one.column)):
        if column.drifted:
            found.setdefault(column.column, column)
    return list(found.values())


def _reference(report: DriftReport) -> str:
    if report.policy.reference == "training" or not report.reference_partitions:
        return "the training data"
    return f"{_partitions(report.reference_partitions)} under the model"


def _performance_in_words(report: PerformanceReport | None) -> str:
    """``roc_auc 0.571 is out of its limits on 2013-05 (27,000 labelled rows, version 1)``."""
    if report is None:
        return ""
    words = {Verdict.FAIL: "out of its limits", Verdict.PASS: "within its limits", Verdict.INCONCLUSIVE: "unknown"}
    named = ", ".join(f"{name} {_number(metric)}" for name, metric in sorted(report.metrics.items())) or "performance"
    version = f", version {report.version}" if report.version is not None else ""
    rows = f"{report.labelled_rows:,} labelled rows{version}"
    detail = f": {report.detail}" if report.detail else ""
    return f"{named} is {words[report.verdict]} on {report.partition} ({rows}){detail}"


def _quality_in_words(report: ValidationReport | None) -> str:
    if report is None:
        return ""
    words = {Verdict.FAIL: "fails", Verdict.PASS: "passes", Verdict.INCONCLUSIVE: "could not be held to"}
    unmet = "; ".join(in_words(result) for result in report.unmet[:_NAMED])
    why = f": {unmet}" if unmet and report.verdict is not Verdict.PASS else ""
    return f"the data of {_partitions(report.dataset.partitions)} {words[report.verdict]} its suite{why}"


def _one_line(text: str) -> str:
    """Names and values of data may hold anything: none of them begins a line of its own in a message or a log."""
    return "".join(one if one.isprintable() else " " for one in text)


def _number(metric: Metric) -> str:
    return "unmeasured" if metric.value is None else f"{metric.value:.3f}"


def _partitions(names: Mapping[str, str] | Sequence[str]) -> str:
    """``2013-05 (its data failed) and 2013-06``; of many, the ends."""
    if isinstance(names, Mapping):
        told = [f"{name} ({why})" for name, why in sorted(names.items())]
        more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
        return ", ".join(told[:_NAMED]) + more
    if len(names) > _NAMED:
        return f"{names[0]} to {names[-1]}"
    return ", ".join(names)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _span(length: timedelta) -> str:
    seconds = max(length.total_seconds(), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
