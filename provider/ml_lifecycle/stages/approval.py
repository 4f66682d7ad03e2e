"""A registered version in, a decision about exactly its digest out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from ml_lifecycle.backends.ledger.base import Asked
from ml_lifecycle.core import approval
from ml_lifecycle.core.approval import Briefing, Portrait, Required
from ml_lifecycle.core.contracts import (
    Ask,
    Contract,
    Decision,
    GateDecision,
    ModelVersion,
    Move,
    RunRequest,
    TrainedModel,
    ValidationReport,
    Verdict,
)
from ml_lifecycle.core.deployment import epoch_of
from ml_lifecycle.core.errors import (
    ApprovalRefusedError,
    LedgerError,
    NoDecisionError,
    RequestError,
    ServiceRefusedError,
)
from ml_lifecycle.stages.runner import Tools

TAG = "ml_lifecycle."
FACTS = ("code_version", "features", "features_digest", "environment_digest", "seed")
"""Tags of a training run that an approver compares."""
BY_HAND = ("manual", "command")


class ApprovalJob(Contract):
    """Who is asked what."""

    request: RunRequest
    required: Required = "always"
    approvers: tuple[str, ...] = ()
    """User names; empty for anyone who may edit the run."""
    expires_after: timedelta = timedelta(hours=72)
    """Limits the ask, and a decision not yet used."""


class Question(Contract):
    """An ask, with what the approver reads and may answer."""

    ask: Ask
    subject: str
    body: str
    """Markdown."""
    approve: str
    """The option that approves, such as ``Approve 3f9a2c1b``: a stale form names another digest and is refused."""
    reject: str = approval.REJECT
    requested_by: str | None = None
    """Who asked for the training that made this version, from the ledger; else who asked for its release."""
    approvers: tuple[str, ...] = ()
    """User names; empty for anyone who may edit the run."""
    decision: Decision | None = None
    """The decision that already stands: policy's own, or the one that an earlier try of the task received."""


def pose(job: ApprovalJob, tools: Tools) -> Question | None:
    """Write the ask into the ledger and close older ones; ``None`` where this version is the champion already.

    What ran out, unanswered or unused, is asked anew. What a newer candidate superseded is asked anew only by hand.

    :raises RequestError: the request names a version that the ledger does not know.
    :raises NoDecisionError: the gate failed the version, or a newer candidate is being asked about.
    """
    version, at = candidate_of(job.request, tools), tools.clock()
    head = tools.ledger.head(version.name, tools.environment)
    if head is not None and head.digest == version.digest:
        return None
    if version.gate_verdict is Verdict.FAIL:
        raise NoDecisionError(
            f"the gate failed version {version.version} of {version.name}: nobody may be asked to release it",
            way_out="train a better candidate, or change the gate and evaluate again",
        )
    ask = _next_ask(version, head, job.request, tools, at)
    _refuse_outdated(ask, job.request, tools)
    asked_by = requested_by(version, tools) or job.request.requester
    tools.ledger.ask(ask, requested_by=asked_by, at=at, expires_at=at + job.expires_after)
    tools.ledger.supersede(version.name, tools.environment, newest=ask, at=at)
    asked = _asked(ask, tools)
    decision = tools.ledger.decision(ask.ask_id)
    if decision is None and approval.policy_decides(job.required, ask.gate_verdict):
        decision = _decide(asked, "approve", by=approval.POLICY, reason=f"required: {job.required}", tools=tools)
    briefing = _briefing(version, head, asked, tools)
    return Question(
        ask=ask,
        subject=approval.subject(ask.model, ask.version, ask.digest, ask.environment),
        body=approval.body(briefing),
        approve=approval.approve_label(ask.digest),
        requested_by=asked.requested_by,
        approvers=job.approvers,
        decision=decision,
    )


def answer(question: Question, option: str, *, by: str, reason: str, tools: Tools) -> Decision:
    """Write the answer into the ledger; the first one stands, and the one that stands is returned.

    :raises ApprovalRefusedError: this person may not give this answer; the question stays open.
    :raises LedgerError: nobody asked, or the question was superseded or has expired.
    """
    ask = question.ask
    standing = tools.ledger.decision(ask.ask_id)
    if standing is not None:
        return standing
    asked = _asked(ask, tools)
    why = approval.refusal(
        option, digest=ask.digest, approvers=question.approvers, by=by, requested_by=asked.requested_by
    )
    if why is not None:
        raise ApprovalRefusedError(why, where=question.subject)
    outcome = "reject" if option == approval.REJECT else "approve"
    return _decide(asked, outcome, by=by, reason=reason.strip(), tools=tools)


def candidate_of(request: RunRequest, tools: Tools) -> ModelVersion:
    """The version that a release is about: the request's, else the newest; as the ledger recorded its registration.

    :raises RequestError: the ledger knows no such version.
    """
    known = {version.version: version for version in registered(request.model, tools)}
    wanted = request.version if request.version is not None else max(known, default=None)
    if wanted is not None and wanted in known:
        return known[wanted]
    asked = f"has no version {wanted}" if wanted is not None else "has no version yet"
    there = ", ".join(map(str, sorted(known)))
    raise RequestError(
        f"{request.model} {asked}",
        where=f"the ledger of {tools.environment}",
        way_out=f"it has {there}" if there else f"run {request.model}_train first, and see what its gate says",
    )


def registered(model: str, tools: Tools) -> Iterator[ModelVersion]:
    """All registrations that the ledger recorded, oldest first: of one version, the last one counts."""
    for result in tools.ledger.results(tools.environment, model, "register"):
        yield ModelVersion.model_validate(result["content"])


def requested_by(version: ModelVersion, tools: Tools) -> str | None:
    """Who asked for the training that made the version; ``None`` where it was nobody but the schedule or an event."""
    resolved = tools.ledger.results(tools.environment, version.name, "resolve")
    requester = {result["run"]: result["content"].get("requester") for result in resolved}
    for result in tools.ledger.results(tools.environment, version.name, "train"):
        person = requester.get(result["run"])
        if person and result["content"].get("training_key") == version.training_key:
            return str(person)
    return None


# --- Asking ----------------------------------------------------------------------------------------------------------


def _next_ask(version: ModelVersion, head: Move | None, request: RunRequest, tools: Tools, at: datetime) -> Ask:
    """The same question as before while it can still be answered or used, else the same one anew."""
    for renewal in count():
        ask = Ask(
            model=version.name,
            environment=tools.environment,
            version=version.version,
            digest=version.digest,
            dataset_fingerprint=version.dataset_fingerprint,
            metrics_digest=version.metrics_digest,
            gate_verdict=version.gate_verdict,
            policy_digest=version.policy_digest,
            epoch=epoch_of(head),
            renewal=renewal,
        )
        asked = tools.ledger.asked(ask.ask_id)
        if asked is None or not _has_lapsed(asked, tools.ledger.decision(ask.ask_id), request, at):
            return ask
    raise AssertionError("count() does not end")


def _has_lapsed(asked: Asked, decision: Decision | None, request: RunRequest, at: datetime) -> bool:
    if decision is not None:
        # A rejection is final; an approval runs out.
        return decision.outcome == "approve" and decision.expires_at is not None and at > decision.expires_at
    if asked.superseded:
        return request.trigger in BY_HAND
    return asked.expires_at is not None and at > asked.expires_at


def _refuse_outdated(ask: Ask, request: RunRequest, tools: Tools) -> None:
    """A candidate that waited in line must not push a newer one aside; a person may."""
    asked = tools.ledger.asked(ask.ask_id)
    newer = [one.version for one in tools.ledger.open_asks(ask.model, ask.environment) if one.version > ask.version]
    if (asked is not None and asked.superseded) or (asked is None and newer and request.trigger not in BY_HAND):
        raise NoDecisionError(
            f"a newer candidate than version {ask.version} was asked about",
            where=f"{ask.model} in {ask.environment}",
            way_out=f"answer that one, or run {ask.model}_release by hand with version {ask.version}",
        )


def _asked(ask: Ask, tools: Tools) -> Asked:
    asked = tools.ledger.asked(ask.ask_id)
    if asked is None:
        raise LedgerError(
            f"nobody asked about version {ask.version} ({approval.short(ask.digest)}) of {ask.model}",
            where=f"the ledger of {tools.environment}",
            way_out=f"run {ask.model}_release again",
        )
    return asked


def _decide(asked: Asked, outcome: Any, *, by: str, reason: str, tools: Tools) -> Decision:
    at = tools.clock()
    patience = asked.expires_at - asked.at if asked.expires_at is not None else None
    return tools.ledger.decide(
        Decision(
            ask=asked.ask,
            outcome=outcome,
            decided_by=by,
            requested_by=asked.requested_by,
            reason=reason,
            decided_at=at,
            expires_at=at + patience if patience is not None else None,
        )
    )


# --- What the approver reads -----------------------------------------------------------------------------------------


def _briefing(version: ModelVersion, head: Move | None, asked: Asked, tools: Tools) -> Briefing:
    trained = {result["content"]["digest"]: result["content"] for result in _results("train", version.name, tools)}
    champion = None
    if head is not None:
        champion = _portrait(head.version, head.digest, trained.get(head.digest), tools)
    return Briefing(
        model=version.name,
        environment=tools.environment,
        candidate=_portrait(version.version, version.digest, trained.get(version.digest), tools),
        champion=champion,
        gate=_gate_of(version, tools),
        verdict=version.gate_verdict,
        data_checks=_data_checks(version, tools),
        links=_links(version, tools),
        requested_by=asked.requested_by,
        reason=version.reason,
        expires_at=asked.expires_at,
    )


def _results(stage: str, model: str, tools: Tools) -> tuple[Mapping[str, Any], ...]:
    return tools.ledger.results(tools.environment, model, stage)


def _portrait(version: int, digest: str, content: Mapping[str, Any] | None, tools: Tools) -> Portrait:
    if content is None:
        return Portrait(version, digest)
    trained = TrainedModel.model_validate(content)
    tags = _run(trained.run_id, tools)[0]
    facts = {name: _shown(name, tags.get(f"{TAG}{name}", "")) for name in FACTS}
    return Portrait(version, digest, trained.dataset, facts, _json_object(tags.get(f"{TAG}hyperparameters", "")))


def _shown(name: str, value: str) -> str:
    return approval.short(value) if name.endswith("_digest") else value


def _json_object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _run(run_id: str, tools: Tools) -> tuple[Mapping[str, str], str]:
    """Tags and address of a run; nothing where somebody deleted it, for the ledger is what counts."""
    try:
        run = tools.tracking.get_run(run_id)
    except ServiceRefusedError:
        return {}, ""
    return run.tags, run.url


def _gate_of(version: ModelVersion, tools: Tools) -> GateDecision | None:
    for result in reversed(_results("gate", version.name, tools)):
        content = result["content"]
        if content["policy_digest"] != version.policy_digest:
            continue
        decision = GateDecision.model_validate(content)
        if decision.evaluation.content_digest() == version.metrics_digest:
            return decision
    return None


def _report_of(version: ModelVersion, tools: Tools) -> ValidationReport | None:
    for result in reversed(_results("validate", version.name, tools)):
        if result["content"]["dataset"]["fingerprint"] == version.dataset_fingerprint:
            return ValidationReport.model_validate(result["content"])
    return None


def _data_checks(version: ModelVersion, tools: Tools) -> str:
    report = _report_of(version, tools)
    if report is None:
        return ""
    met = report.expectations - len(report.unmet)
    unmet = f" Not met: {approval.cell(', '.join(one.expectation for one in report.unmet))}." if report.unmet else ""
    aside = f" {report.quarantined_rows:,} rows were set aside." if report.quarantined_rows else ""
    return f"{met} of {report.expectations} expectations met ({report.verdict.value}).{unmet}{aside}"


def _links(version: ModelVersion, tools: Tools) -> dict[str, str]:
    found = tools.registry.version(version.name, version.version)
    report = _report_of(version, tools)
    return {
        "MLflow run: parameters, metrics, evaluation": _run(version.run_id, tools)[1],
        "MLflow version": found.url if found is not None else "",
        "Data report": tools.report_url(report.report_uri) if report is not None else "",
    }
