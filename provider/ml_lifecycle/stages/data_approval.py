"""Data in, the decision about exactly its fingerprint out."""

from __future__ import annotations

import json
from datetime import timedelta

from ml_lifecycle.backends.ledger.base import Asked
from ml_lifecycle.backends.signing.answers import verify_signed_votes
from ml_lifecycle.core.approval import also_excluded, approve_label
from ml_lifecycle.core.contracts import Ask, Contract, DatasetRef, Decision, RunRequest, ValidationReport
from ml_lifecycle.core.data_approval import (
    DataBriefing,
    DataPolicy,
    SourceFile,
    ask_about,
    body,
    dataset_of,
    objection,
    policy_decides,
    subject,
)
from ml_lifecycle.core.errors import NoDecisionError, SignatureError
from ml_lifecycle.stages.approval import Question, as_asked, let_policy_decide, next_ask, told_of_any
from ml_lifecycle.stages.evidence import requesters_of, training_of
from ml_lifecycle.stages.runner import Tools


class DataApprovalJob(Contract):
    """Who is asked about which data."""

    request: RunRequest
    data: DatasetRef | ValidationReport
    """A snapshot, or the report that passed it."""
    policy: DataPolicy = DataPolicy()
    expires_after: timedelta = timedelta(hours=72)
    """Limits the ask, and a decision not yet used."""
    author: str | None = None
    """Who triggered the run that asks; may reject, and never approve."""
    committers: tuple[str, ...] = ()
    """Names of whoever committed the pipeline file last; may reject, and never approve."""


def pose_data(job: DataApprovalJob, tools: Tools) -> Question:
    """Write the ask into the ledger; what ran out, unanswered or unused, is asked anew.

    :raises DigestMismatchError: the data is not what its fingerprint says.
    :raises NoDecisionError: the answers to the question contradict each other.
    """
    at = tools.clock()
    draft = ask_about(job.data, job.policy, model=job.request.model, environment=tools.environment)
    ask = next_ask(draft, job.request, tools)
    asked_by = job.request.requester
    others = [person for person in _requesters(job, tools) if person != asked_by]
    excluded = also_excluded(requesters=others, committers=job.committers)
    tools.ledger.ask(ask, requested_by=asked_by, excluded=excluded, at=at, expires_at=at + job.expires_after)
    asked = as_asked(ask, tools)
    decision = tools.ledger.decision(ask.ask_id)
    if decision is None and policy_decides(job.policy, job.data):
        decision = let_policy_decide(ask, f"required: {job.policy.required}", tools)
    return Question(
        ask=ask,
        subject=subject(ask),
        body=body(_briefing(job, asked, tools)),
        approve=approve_label(ask.digest),
        requested_by=asked.requested_by,
        decision=decision,
    )


def _requesters(job: DataApprovalJob, tools: Tools) -> tuple[str, ...]:
    """Everybody who asked for a run that came to the same data."""
    model, fingerprint = job.request.model, dataset_of(job.data).fingerprint
    if isinstance(job.data, ValidationReport):
        return requesters_of(model, "validate", tools, dataset__fingerprint=fingerprint)
    return requesters_of(model, "snapshot", tools, fingerprint=fingerprint)


def _briefing(job: DataApprovalJob, asked: Asked, tools: Tools) -> DataBriefing:
    report = job.data if isinstance(job.data, ValidationReport) else None
    dataset = dataset_of(job.data)
    return DataBriefing(
        data=dataset,
        report=report,
        files=_files(dataset, tools),
        champions=_champions_data(job.request.model, tools),
        links={"Data report": tools.report_url(report.report_uri) if report and report.report_uri else ""},
        reason=job.request.reason,
        **told_of_any(asked, job.author, tools),
    )


def _files(dataset: DatasetRef, tools: Tools) -> tuple[SourceFile, ...]:
    """What the dataset says it was made from; its bytes, that among them, are what the fingerprint names."""
    with tools.data.folder(dataset.uri, dataset.fingerprint) as folder:
        try:
            sources = json.loads((folder / "origin.json").read_text(encoding="utf-8"))["sources"]
            return tuple(SourceFile(str(one["role"]), str(one["uri"]), str(one["sha256"])) for one in sources)
        except (OSError, ValueError, KeyError, TypeError):
            return ()


def _champions_data(model: str, tools: Tools) -> DatasetRef | None:
    head = tools.ledger.head(model, tools.environment)
    trained = training_of(model, head.digest, tools) if head is not None else None
    return trained.dataset if trained is not None else None


def require_approval(
    data: DatasetRef | ValidationReport, policy: DataPolicy, tools: Tools, *, model: str, action: str, by: str
) -> Decision:
    """The approval under which the data may be used; a refusal stands in the audit.

    :param action: What the data is wanted for, such as ``train``.
    :param by: Who wants it.
    :raises NoDecisionError: no approval of exactly this data, as it was checked and under these terms, is in force.
    """
    wanted = ask_about(data, policy, model=model, environment=tools.environment)
    decision = tools.ledger.decision_for(model, tools.environment, wanted.digest)
    why = _why_not(decision, wanted, tools)
    if decision is not None and not why:
        return decision
    where = f"dataset {wanted.digest[:8]} of {model} in {tools.environment}"
    tools.ledger.record_refusal(
        model, tools.environment, action=action, by=by, why=f"dataset {wanted.digest[:8]}: {why}", at=tools.clock()
    )
    raise NoDecisionError(
        why, where=where, way_out=f"run {model}_train again, and let the approvers answer for its data"
    )


def _why_not(decision: Decision | None, wanted: Ask, tools: Tools) -> str:
    if decision is None:
        return "nobody decided about this data"
    asked = tools.ledger.asked(decision.ask.ask_id)
    if asked is not None and asked.blocked:
        return f"the question was blocked: {asked.blocked}"
    try:
        verify_signed_votes(decision, tools.ledger.votes(decision.ask.ask_id), tools.approver_keys())
    except SignatureError as error:
        return str(error)
    return objection(decision, wanted, tools.clock())
