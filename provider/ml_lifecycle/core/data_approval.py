"""When data may be used only once people approved it, and when their approval gives the right to use it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from ml_lifecycle.core.contracts import (
    ApprovalTerms,
    Ask,
    Contract,
    DatasetRef,
    Decision,
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
