"""Who may answer, when policy answers by itself, and what an approver reads."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Literal
from uuid import UUID

from ml_lifecycle.core.contracts import (
    ApprovalTerms,
    Ask,
    ChampionResult,
    DatasetRef,
    Decision,
    Difference,
    Evaluation,
    GateCheck,
    GateDecision,
    Metric,
    Move,
    Verdict,
    Vote,
)
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER, chief_metric

Required = Literal["always", "on_inconclusive", "never"]

POLICY = "policy"
"""Who decides where policy itself does; no person's answer counts under this name."""
REJECT = "Reject"
COMMITTED = "committed the pipeline file last"
SHOWN_SLICES = 5
TELLING_ROWS = 30
"""A slice with fewer rows says more about chance than about the model."""
SHOWN_CHECKS = 40
_LONGEST_REASON = 600
_LONGEST = 160
"""Characters of a value that are shown; a longer one ends in an ellipsis."""
_BY_TIME = 7
"""The version of UUIDs that sort by the time they were made at."""
_AFTER_TIME = 80
"""Bits of such a UUID that follow its time."""
_Z_95 = 1.959964
"""Two-sided 95% of a normal distribution."""
MARKS = {Verdict.PASS: "pass", Verdict.FAIL: "**fail**", Verdict.INCONCLUSIVE: "**inconclusive**"}
NOTHING = "–"  # noqa: RUF001  # a dash marks what is not known


# --- Who may answer --------------------------------------------------------------------------------------------------


def short(digest: str) -> str:
    """The first eight digits: enough for a person to compare."""
    return digest[:8]


def approve_label(digest: str) -> str:
    """The option that approves, such as ``Approve 3f9a2c1b``: a form that shows another digest cannot say it."""
    return f"Approve {short(digest)}"


def named(ask: Ask) -> str:
    """What is asked about, in words."""
    if ask.kind == "dataset":
        return f"the data {short(ask.digest)} of {ask.model}"
    if ask.kind == "step":
        return f"a step of the rollout of version {ask.version} ({short(ask.digest)}) of {ask.model}"
    return f"version {ask.version} ({short(ask.digest)}) of {ask.model}"


def form_mark(ask_id: str) -> str:
    """The last line of a question's text: it says which one it is, and no value in the text can look like it."""
    return f"Question `{ask_id}`."


def is_form_of(ask_id: str, body: str) -> bool:
    """Whether a form that Airflow shows is about this question, and not one that the task showed before."""
    return body.rstrip().endswith(form_mark(ask_id))


def asking_run(ask: Ask) -> str:
    """The DAG that asks about it."""
    return f"{ask.model}_train" if ask.kind == "dataset" else f"{ask.model}_release"


def option_means(option: str, digest: str) -> Literal["approve", "reject"] | None:
    """What an option of the form stands for; ``None`` for one of another question, such as a stale form's."""
    if option == REJECT:
        return "reject"
    return "approve" if option == approve_label(digest) else None


def refusal(
    vote: Vote,
    *,
    ask: Ask,
    asked_at: datetime,
    expires_at: datetime | None,
    excluded: Mapping[str, str],
    votes: Sequence[Vote],
) -> str | None:
    """Why an answer does not count, in a sentence for whoever gave it; ``None`` where it counts.

    :param expires_at: The last moment at which an answer counts; ``None`` for no end.
    :param excluded: Who may reject and never approve, with the reason: see :func:`cannot_approve`.
    :param votes: The answers to the same question that count already.
    """
    if expires_at is not None and vote.at > expires_at:
        return f"the question expired at {expires_at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    if vote.channel == POLICY:
        return next(_refusals_of_policy(vote, ask), None)
    allowed = may_answer(ask.terms, asked_at=asked_at, at=vote.at)
    return next(_refusals(vote, allowed, excluded, votes), None)


def outcome_of(ask: Ask, votes: Iterable[Vote]) -> Literal["approve", "reject"] | None:
    """What the answers come to; ``None`` while more are needed.

    One rejection is enough. An approval needs as many different people as the question's terms say, or policy.
    """
    given = tuple(votes)
    if any(vote.outcome == "reject" for vote in given):
        return "reject"
    if any(vote.channel == POLICY for vote in given):
        return "approve"
    people = {same_name(vote.person) for vote in given}
    return "approve" if len(people) >= ask.terms.count else None


def not_in_force(decision: Decision, *, blocked: str, at: datetime) -> str:
    """Why a decision gives no right at this moment; empty where it stands. A rejection stays in force for ever.

    :param blocked: What the ledger says about contradicting answers; empty where there are none.
    """
    if blocked:
        return f"the question was blocked: {blocked}"
    if decision.outcome == "approve" and decision.expires_at is not None and at > decision.expires_at:
        return f"the approval by {decision.decided_by} expired at {_utc(decision.expires_at)}"
    return ""


def cannot_approve(
    *,
    requested_by: str | None = None,
    authors: Iterable[str | None] = (),
    excluded: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Who may reject and never approve, each with why.

    :param requested_by: Who asked for what is asked about.
    :param authors: Who triggered the runs that show the question; ``None`` for those that nobody triggered.
    :param excluded: Others, each with why: see :func:`also_excluded`.
    """
    found = dict(excluded) | {author: "started the run that asks" for author in authors if author}
    return found | ({requested_by: "asked for it"} if requested_by else {})


def also_excluded(*, requesters: Iterable[str] = (), committers: Iterable[str] = ()) -> dict[str, str]:
    """Who may reject and never approve beside whoever asked first, each with why, as the question is asked.

    :param requesters: Who asked for the very same thing, too.
    :param committers: Names and addresses under which the pipeline file was last committed.
    """
    return dict.fromkeys(committers, COMMITTED) | dict.fromkeys(requesters, "asked for it, too")


def may_answer(terms: ApprovalTerms, *, asked_at: datetime, at: datetime) -> tuple[str, ...]:
    """User names of those who may answer at this moment; empty for anyone who may edit the run."""
    if not terms.approvers or not is_escalated(terms, asked_at=asked_at, at=at):
        return terms.approvers
    return (*terms.approvers, *(name for name in terms.escalate_to if name not in terms.approvers))


def is_escalated(terms: ApprovalTerms, *, asked_at: datetime, at: datetime) -> bool:
    """Whether a question that is still open has waited long enough for the second list of people."""
    after = terms.escalate_after_s
    return bool(terms.escalate_to) and after is not None and at >= asked_at + timedelta(seconds=after)


def same_name(name: str) -> str:
    """The form in which two spellings of one person's name are equal."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def is_given_up(ti_id: str, other: str) -> bool:
    """Whether Airflow made this try of a task before the other one, and so has given it up.

    Its ids are UUIDs of version 7, which begin with milliseconds since 1970 (RFC 9562, 5.7); other ids tell nothing.
    """
    begun, other_begun = _begun_at(ti_id), _begun_at(other)
    return begun is not None and other_begun is not None and begun < other_begun


def policy_decides(required: Required, verdict: Verdict) -> bool:
    """Whether policy approves without a person: only what passed, and only where the pipeline leaves it to policy."""
    return required != "always" and verdict is Verdict.PASS


def not_compared(judged: Evaluation | None, champion: Move | Portrait | None) -> str:
    """Why a judgement says nothing about the present champion; empty where it does, or there is none.

    Policy approves only what met the champion that it replaces.

    :param judged: What the gate judged; ``None`` where the ledger does not hold it.
    """
    met = judged.champion if judged is not None else None
    if champion is None or (met is not None and met.digest == champion.digest):
        return ""
    other = f"version {met.version}" if met else "no champion" if judged else "nothing that is on record"
    present = f"the present champion, version {champion.version}"
    return f"judged against {other}, not against {present}: train again to compare"


def _begun_at(ti_id: str) -> int | None:
    try:
        found = UUID(ti_id)
    except ValueError:
        return None
    return found.int >> _AFTER_TIME if found.version == _BY_TIME else None


def _refusals(vote: Vote, allowed: Sequence[str], barred: Mapping[str, str], votes: Sequence[Vote]) -> Iterator[str]:
    person = same_name(vote.person)
    if not person:
        yield "nobody said who answered, so the answer cannot count"
    if person == POLICY:
        yield f"{POLICY!r} is the name under which policy itself decides: answer under your own name"
    if allowed and vote.person not in allowed:
        yield f"{vote.person} may not answer this question, only {', '.join(allowed)}"
    if any(same_name(other.person) == person for other in votes):
        yield f"{vote.person} has answered already, and nobody answers twice"
    if vote.outcome == "reject":
        if not vote.reason.strip():
            yield "a rejection needs a reason: write one beside the buttons and answer again"
        return
    why = next((why for name, why in barred.items() if same_name(name) == person), None)
    if why is not None:
        yield f"{vote.person} {why}, so somebody else has to approve it"


def _refusals_of_policy(vote: Vote, ask: Ask) -> Iterator[str]:
    if vote.person != POLICY:
        yield f"policy answers under the name {POLICY!r}, not {vote.person!r}"
    if vote.outcome != "approve" or ask.gate_verdict is not Verdict.PASS:
        yield f"policy only approves, and only what passed; the verdict is {ask.gate_verdict.value}"


# --- What an approver reads ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Portrait:
    """One version, for a person to compare with another one."""

    version: int
    digest: str
    dataset: DatasetRef | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    """``code_version``, ``features`` and whatever else made it, by name."""
    hyperparameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What an approver is told of any question."""

    ask_id: str
    model: str
    environment: str
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses by what they show."""
    requested_by: str | None = None
    reason: str = ""
    expires_at: datetime | None = None
    terms: ApprovalTerms = field(default_factory=ApprovalTerms)
    asked_at: datetime | None = None
    approved_by: tuple[str, ...] = ()
    """Who approved already, where one approval is not enough."""
    barred: Mapping[str, str] = field(default_factory=dict)
    """Who may reject and never approve, with why."""


@dataclass(frozen=True, kw_only=True)
class Briefing(Asking):
    """All that an approver of a release is told."""

    candidate: Portrait
    champion: Portrait | None
    gate: GateDecision | None
    """``None`` where the ledger holds no judgement of this version, which is said."""
    verdict: Verdict
    data_checks: str = ""
    """One sentence about the expectation suite."""


def subject(model: str, version: int, digest: str, environment: str) -> str:
    """The question in one line."""
    return f"Release {model} version {version} ({short(digest)}) to {environment}?"


def body(briefing: Briefing) -> str:
    """The question in full, as GitHub-flavoured markdown; no value from data or people breaks out of its place."""
    parts = [_opening(briefing), people(briefing), _changes(briefing)]
    if briefing.gate is None:
        parts.append("### Gate\n\nThe ledger holds no gate decision about this version. **Do not approve it.**")
    else:
        evaluation = briefing.gate.evaluation
        if why := not_compared(evaluation, briefing.champion):
            parts.insert(1, f"**It was {why}.**")
        parts += [_checks(briefing.gate.checks), _holdout(briefing.gate), _metrics(evaluation), _slices(briefing.gate)]
    parts += [briefing.data_checks and f"### Data checks\n\n{briefing.data_checks}", links(briefing.links)]
    parts.append(form_mark(briefing.ask_id))
    return "\n\n".join(part for part in parts if part) + "\n"


def cell(value: object, *, longest: int = _LONGEST) -> str:
    """A value as text that no markdown reader takes for anything else, cut off after ``longest`` characters."""
    text = " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    text = re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def number(value: float | None) -> str:
    """Four decimals; a dash for what was not measured."""
    return NOTHING if value is None else f"{value:.4f}"


def _opening(briefing: Briefing) -> str:
    candidate, champion = briefing.candidate, briefing.champion
    replaces = f"replaces version {champion.version}" if champion else "would be the first champion"
    what = f"**{cell(briefing.model)} version {candidate.version}** (`{short(candidate.digest)}`) {replaces}"
    return f"{what} in **{cell(briefing.environment)}**. Gate: **{briefing.verdict.value}**.\n\n{asked_by(briefing)}"


def asked_by(briefing: Asking) -> str:
    """Who asks and why, and until when an answer counts."""
    person = cell(briefing.requested_by) if briefing.requested_by else "the schedule or an event"
    why = cell(briefing.reason.rstrip(". "), longest=_LONGEST_REASON) if briefing.reason else "no reason was given"
    said = f"Asked for by {person}: {why}."
    if briefing.expires_at is None:
        return said
    return f"{said}\n\nAnswer before **{_utc(briefing.expires_at)}**; no answer is a no."


def people(briefing: Asking) -> str:
    """Who has to answer, who did, and who cannot approve."""
    terms = briefing.terms
    among = f" of {_names(terms.approvers)}" if terms.approvers else ""
    needed = f"{terms.count} different people{among} have" if terms.count > 1 else f"One person{among} has"
    lines = [f"- {needed} to approve it; one rejection, which needs a reason, is enough to stop it."]
    if terms.count > 1:
        so_far = _names(briefing.approved_by) or "nobody"
        lines.append(f"- Approved so far by {len(briefing.approved_by)} of {terms.count}: {so_far}.")
    if terms.escalate_to and terms.escalate_after_s is not None and briefing.asked_at is not None:
        then = briefing.asked_at + timedelta(seconds=terms.escalate_after_s)
        lines.append(f"- From {_utc(then)} on, {_names(terms.escalate_to)} may answer too.")
    lines += [f"- {_names(names)} {why}, and may reject but not approve." for why, names in _by_reason(briefing.barred)]
    missing = _missing(briefing)
    if missing:
        lines.append(
            f"- **{missing} more than may still approve are needed.** Let somebody else ask for it, start this run or "
            "change the pipeline file, or name more approvers."
        )
    return "\n".join(["### Who answers", "", *lines])


def _by_reason(barred: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    for why in dict.fromkeys(barred.values()):
        yield why, [name for name, found in barred.items() if found == why]


def _missing(briefing: Asking) -> int:
    """How many approvals are needed beyond those that everybody who may still approve can give."""
    terms = briefing.terms
    if not terms.approvers:
        return 0
    given = {same_name(name) for name in briefing.approved_by}
    barred = {same_name(name) for name in briefing.barred}
    able = {same_name(name) for name in (*terms.approvers, *terms.escalate_to)} - barred
    return max(terms.count - len(able | given), 0)


def _names(people: Iterable[str]) -> str:
    return ", ".join(map(cell, people))


def _utc(at: datetime) -> str:
    return f"{at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _changes(briefing: Briefing) -> str:
    new, old = _described(briefing.candidate), _described(briefing.champion)
    if briefing.champion is None:
        described = [(one.label, one.shown) for one in new.values()]
        return table("What would be released", ("", f"Version {briefing.candidate.version}"), described)
    title = "What changed since the champion"
    keys = [*new, *(key for key in old if key not in new)]
    changed = [key for key in keys if (old.get(key, _ABSENT).value != new.get(key, _ABSENT).value)]
    if not changed:
        return f"### {title}\n\nNothing that is on record."
    rows = [
        ((new.get(key) or old[key]).label, old.get(key, _ABSENT).shown, new.get(key, _ABSENT).shown) for key in changed
    ]
    head = ("", f"Version {briefing.champion.version} (champion)", f"Version {briefing.candidate.version}")
    same = [new[key].label for key in keys if key not in changed]
    notes = [f"Changed: {', '.join(dict.fromkeys(part for part, _ in changed))}."]
    notes += [f"Unchanged: {', '.join(same)}."] if same else []
    return "\n\n".join([table(title, head, rows), *notes])


@dataclass(frozen=True)
class _Fact:
    """One line about a version; what is compared is the whole value, not what of it is shown."""

    label: str
    shown: str
    value: object


_ABSENT = _Fact("", NOTHING, None)


def _described(portrait: Portrait | None) -> dict[tuple[str, str], _Fact]:
    """By part (data, code, hyperparameters) and name: a hyperparameter may be called like anything else."""
    if portrait is None:
        return {}
    found: dict[tuple[str, str], _Fact] = {}
    if portrait.dataset is not None:
        held = portrait.dataset
        partitions = ", ".join(held.partitions)
        found["data", "partitions"] = _Fact("data partitions", cell(partitions or NOTHING), held.partitions)
        found["data", "rows"] = _Fact("data rows", f"{held.rows:,}", held.rows)
        found["data", "fingerprint"] = _Fact("data fingerprint", f"`{short(held.fingerprint)}`", held.fingerprint)
    for name, value in portrait.code.items():
        if value:
            found["code", name] = _Fact(cell(name.replace("_", " ")), cell(_shortened(value)), value)
    for name, setting in sorted(portrait.hyperparameters.items()):
        found["hyperparameters", name] = _Fact(cell(name), cell(setting), setting)
    return found


def _shortened(value: str) -> str:
    """Digests and commits to as many digits as a person compares."""
    return re.sub(r"\b[0-9a-f]{40,64}\b", lambda found: found[0][:12], value)


def _checks(checks: Sequence[GateCheck]) -> str:
    order = [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS]
    ranked = sorted(checks, key=lambda check: order.index(check.verdict))
    rows = [
        (
            cell(check.rule),
            MARKS[check.verdict],
            number(check.observed),
            _bounds(check.low, check.high),
            cell(check.detail),
        )
        for check in ranked[:SHOWN_CHECKS]
    ]
    if not rows:
        return "### Gate\n\nThe pipeline declares no conditions: whether this is good enough is yours to say."
    more = f"\n\n{len(ranked) - SHOWN_CHECKS} more are in the run." if len(ranked) > SHOWN_CHECKS else ""
    return table("Gate", ("Check", "Verdict", "Observed", "Bounds", "Detail"), rows) + more


def _holdout(gate: GateDecision) -> str:
    """What to know about the rows that judged: how often they were used, and signs of leakage."""
    holdout, judged = gate.evaluation.holdout, gate.judged
    lines = (
        [f"**Look at this before you decide:** {cell(sign, longest=_LONGEST_REASON)}" for sign in holdout.warnings]
        if holdout
        else []
    )
    if judged > 1:
        lines.append(
            f"This holdout has judged {judged} candidates, this one included: the more are tried on the same rows, the "
            "likelier one looks good by luck, so a pass needs more certainty than the rules ask for."
        )
    return "\n\n".join(lines)


def _metrics(evaluation: Evaluation) -> str:
    champion = evaluation.champion
    if champion is None:
        rows = [(cell(name), number(metric.value), f"{metric.rows:,}") for name, metric in evaluation.metrics.items()]
        return table("Metrics on the holdout", ("Metric", "Candidate", "Rows"), rows)
    compared = [
        (
            cell(name),
            number(metric.value),
            number(champion.metrics[name].value) if name in champion.metrics else NOTHING,
            *_difference(champion.differences.get(name)),
            f"{metric.rows:,}",
        )
        for name, metric in evaluation.metrics.items()
    ]
    head = ("Metric", "Candidate", f"Version {champion.version}", "Better by", "95% bounds", "Rows")
    return table("Metrics on the holdout, same rows", head, compared)


def _difference(difference: Difference | None) -> tuple[str, str]:
    if difference is None or difference.estimate is None:
        return NOTHING, NOTHING
    if difference.low is not None and difference.high is not None:
        return f"{difference.estimate:+.4f}", f"{difference.low:+.4f} to {difference.high:+.4f}"
    if difference.standard_error is None:
        return f"{difference.estimate:+.4f}", NOTHING
    reach = _Z_95 * difference.standard_error
    return f"{difference.estimate:+.4f}", f"{difference.estimate - reach:+.4f} to {difference.estimate + reach:+.4f}"


def _slices(gate: GateDecision) -> str:
    name = chief_metric(gate)
    if name is None:
        return ""
    parts = [
        _slice(column, name, values, gate.evaluation.champion) for column, values in gate.evaluation.slices.items()
    ]
    return "\n\n".join(part for part in parts if part)


def _slice(column: str, name: str, values: Mapping[str, Mapping[str, Metric]], champion: ChampionResult | None) -> str:
    found = {value: metrics[name] for value, metrics in values.items() if name in metrics}
    telling = {value: metric for value, metric in found.items() if metric.rows >= TELLING_ROWS}
    worst = list(_worst_first(telling, better=HIGHER_IS_BETTER.get(name, True)))[:SHOWN_SLICES]
    theirs = champion.slices.get(column) if champion else None
    beside = [(number(_measured(theirs, value, name)),) if theirs else () for value, _ in worst]
    rows = [
        (cell(value), number(metric.value), *old, f"{metric.rows:,}")
        for (value, metric), old in zip(worst, beside, strict=True)
    ]
    small = len(found) - len(telling)
    unknown = sum(metric.value is None for metric in telling.values())
    notes = [f"Not shown: {small} with fewer than {TELLING_ROWS} rows."] if small else []
    notes += [f"Not measurable: {unknown} of {len(found)}."] if unknown else []
    title = f"Worst {len(rows)} of {len(found)} by {cell(column)}"
    against = (f"Version {champion.version}",) if champion and theirs else ()
    return "\n\n".join([table(title, (cell(column), cell(name), *against, "Rows"), rows), *notes]) if rows else ""


def _measured(values: Mapping[str, Mapping[str, Metric]], value: str, name: str) -> float | None:
    found = values.get(value, {}).get(name)
    return found.value if found else None


def _worst_first(values: Mapping[str, Metric], *, better: bool) -> Iterator[tuple[str, Metric]]:
    known = [(metric.value, value) for value, metric in values.items() if metric.value is not None]
    for _, value in sorted(known, reverse=not better):
        yield value, values[value]


def links(addresses: Mapping[str, str]) -> str:
    """Where to look, as a list; empty where nowhere."""
    shown = [f"- {link(name, address)}" for name, address in addresses.items() if address]
    return "\n".join(["### Where to look", "", *shown]) if shown else ""


def link(name: str, address: str) -> str:
    """A link to a web page; an address that is none is shown as text."""
    if is_web_page(address):
        return f"[{cell(name)}](<{address}>)"
    return f"{cell(name)}: {cell(address)}"


def is_web_page(address: str) -> bool:
    """Whether a link to the address opens a page, and does nothing else."""
    return re.fullmatch(r"https?://[^\s<>\\\"']+", address) is not None


def _bounds(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return NOTHING
    return f"{number(low)} to {number(high)}"


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table below its title."""
    return f"### {title}\n\n{grid(head, rows)}"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are safe already."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
