"""When data may be used only once people approved it, what they read, and what their approval gives the right to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ml_lifecycle.core.approval import (
    MARKS,
    NOTHING,
    SHOWN_CHECKS,
    Asking,
    asked_by,
    cell,
    form_mark,
    links,
    people,
    short,
    table,
)
from ml_lifecycle.core.contracts import (
    ApprovalTerms,
    Ask,
    Contract,
    DatasetRef,
    Decision,
    ExpectationResult,
    ValidationReport,
    Verdict,
)

Required = Literal["always", "on_failure"]


class DataPolicy(Contract):
    """What has to hold before data is used."""

    required: Required = "always"
    """``on_failure`` asks people only about data that did not pass, or that rows were set aside from."""
    terms: ApprovalTerms = ApprovalTerms()


def dataset_of(data: DatasetRef | ValidationReport) -> DatasetRef:
    """What is read by whoever was handed a dataset, or the report that passed one."""
    return data.dataset if isinstance(data, ValidationReport) else data


def ask_about(
    data: DatasetRef | ValidationReport, policy: DataPolicy, *, model: str, environment: str, renewal: int = 0
) -> Ask:
    """The question about exactly this data, as it was checked, under this policy."""
    report = data if isinstance(data, ValidationReport) else None
    fingerprint = dataset_of(data).fingerprint
    return Ask(
        kind="dataset",
        model=model,
        environment=environment,
        version=0,
        digest=fingerprint,
        dataset_fingerprint=fingerprint,
        metrics_digest=report.content_digest() if report else fingerprint,
        gate_verdict=report.verdict if report else Verdict.INCONCLUSIVE,
        policy_digest=policy.content_digest(),
        epoch=0,
        renewal=renewal,
        terms=policy.terms,
    )


def policy_decides(policy: DataPolicy, data: DatasetRef | ValidationReport) -> bool:
    """Whether policy approves without a person: only what passed whole, and only where the pipeline says so."""
    return (
        policy.required == "on_failure"
        and isinstance(data, ValidationReport)
        and data.verdict is Verdict.PASS
        and data.quarantined_rows == 0
    )


def objection(decision: Decision, wanted: Ask, at: datetime) -> str:
    """Why a decision does not let the data be used at this moment; empty where it does.

    :param wanted: The question that would be asked about the data now.
    """
    return next(_objections(decision, wanted, at), "")


def _objections(decision: Decision, wanted: Ask, at: datetime) -> Iterator[str]:
    ask = decision.ask
    if decision.outcome != "approve":
        yield f"{decision.decided_by} rejected it: {decision.reason}"
    if decision.expires_at is not None and at > decision.expires_at:
        yield f"the approval by {decision.decided_by} expired at {decision.expires_at.isoformat()}"
    if (ask.kind, ask.model, ask.environment) != (wanted.kind, wanted.model, wanted.environment):
        yield f"the approval is for a {ask.kind} of {ask.model} in {ask.environment}"
    if ask.digest != wanted.digest:
        yield f"the approval is about the fingerprint {ask.digest[:8]}, not {wanted.digest[:8]}"
    if (ask.metrics_digest, ask.gate_verdict) != (wanted.metrics_digest, wanted.gate_verdict):
        yield "the approval is about another report on this data"
    if (ask.policy_digest, ask.terms) != (wanted.policy_digest, wanted.terms):
        yield "the approval was given under other terms than the pipeline's"


# --- What an approver reads ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourceFile:
    """One file that a dataset was made from."""

    role: str
    """``rows``, ``labels`` or ``related:<name>``."""
    uri: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class DataBriefing(Asking):
    """All that an approver of data is told."""

    data: DatasetRef
    report: ValidationReport | None
    """``None`` for data that nobody checked."""
    files: tuple[SourceFile, ...] = ()
    champions: DatasetRef | None = None
    """What the champion was trained on."""


def subject(ask: Ask) -> str:
    """The question in one line."""
    return f"Train {ask.model} on data {short(ask.digest)} in {ask.environment}?"


def body(briefing: DataBriefing) -> str:
    """The question in full, as GitHub-flavoured markdown; no value from data or people breaks out of its place."""
    verdict = "nobody checked it" if briefing.report is None else briefing.report.verdict.value
    opening = (
        f"**Data** `{short(briefing.data.fingerprint)}` for **{cell(briefing.model)}** in "
        f"**{cell(briefing.environment)}**. Validation: **{verdict}**.\n\n{asked_by(briefing)}"
    )
    parts = [
        opening,
        people(briefing),
        _data(briefing),
        _left_out(briefing.data, briefing.report),
        _unmet(briefing.report),
        _files(briefing.files),
        links(briefing.links),
        form_mark(briefing.ask_id),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(briefing: DataBriefing) -> str:
    described = _described(briefing.data)
    if briefing.champions is None:
        return table("What it is", ("", "This data"), [(name, value) for name, value in described.items()])
    before = _described(briefing.champions)
    rows = [(name, before[name], value) for name, value in described.items()]
    return table("What it is", ("", "The champion's data", "This data"), rows)


def _described(data: DatasetRef) -> dict[str, str]:
    return {
        "partitions": cell(", ".join(data.partitions) or NOTHING),
        "rows": f"{data.rows:,}",
        "fingerprint": f"`{short(data.fingerprint)}`",
        "target": cell(data.columns.target or NOTHING),
        "columns that came with the labels": cell(", ".join(data.label_columns) or NOTHING),
    }


def _left_out(data: DatasetRef, report: ValidationReport | None) -> str:
    rows = [(cell(f"dropped: {because}"), f"{count:,}") for because, count in data.dropped.items()]
    if report is not None and report.quarantined_rows:
        why = "; ".join(_in_words(one) for one in report.quarantined_for) or "no reason is on record"
        rows.append((cell(f"set aside: {why}"), f"{report.quarantined_rows:,}"))
    return table("Rows that were left out", ("Why", "Rows"), rows) if rows else ""


def _in_words(result: ExpectationResult) -> str:
    return f"{result.column}: {result.expectation}" if result.column else result.expectation


def _unmet(report: ValidationReport | None) -> str:
    if report is None:
        return "### Expectations\n\nNo suite was held against this data: what it is worth is yours to say."
    title = f"Expectations: {report.expectations - len(report.unmet)} of {report.expectations} met"
    if not report.unmet:
        return f"### {title}"
    rows = [
        (
            cell(_in_words(one)),
            one.severity,
            MARKS[one.verdict],
            NOTHING if one.unexpected_rows is None else f"{one.unexpected_rows:,}",
            cell(one.detail),
        )
        for one in report.unmet[:SHOWN_CHECKS]
    ]
    more = len(report.unmet) - SHOWN_CHECKS
    rest = f"\n\n{more} more are in the report." if more > 0 else ""
    return table(title, ("Not met", "Severity", "Verdict", "Rows", "Detail"), rows) + rest


def _files(files: tuple[SourceFile, ...]) -> str:
    if not files:
        return "### Where it came from\n\nNothing is on record. **Do not approve what you do not know.**"
    rows = [(cell(one.role), cell(one.uri), f"`{short(one.sha256)}`") for one in files[:SHOWN_CHECKS]]
    more = len(files) - SHOWN_CHECKS
    rest = f"\n\n{more} more are in the data's origin.json." if more > 0 else ""
    return table("Where it came from", ("Role", "File", "SHA-256"), rows) + rest
