"""Data in, the decision about exactly its fingerprint out."""

from __future__ import annotations

from ml_lifecycle.core.contracts import Ask, DatasetRef, Decision, ValidationReport
from ml_lifecycle.core.data_approval import DataPolicy, ask_about, objection
from ml_lifecycle.core.errors import NoDecisionError
from ml_lifecycle.stages.runner import Tools


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
    return objection(decision, wanted, tools.clock())
