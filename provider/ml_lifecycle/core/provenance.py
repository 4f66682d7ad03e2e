"""What is told of a release, for everybody who has the public key: an in-toto statement, and what contradicts it.

The statement follows https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/statement.md; the predicate is
described in docs/guides/provenance.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from ml_lifecycle.core.approval import same_name
from ml_lifecycle.core.contracts import (
    DIGEST,
    Ask,
    Contract,
    Decision,
    GateCheck,
    GateDecision,
    HoldoutSpec,
    Metric,
    ModelVersion,
    Move,
    Scalar,
    TrainedModel,
    Verdict,
    Vote,
)

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""What the envelope of an in-toto statement says that it holds."""
STATEMENT_TYPE: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Literal["urn:airflow-provider-ml-lifecycle:provenance:v1"] = (
    "urn:airflow-provider-ml-lifecycle:provenance:v1"
)


class _Told(Contract):
    """A part of the statement. in-toto asks readers to pass over fields that they do not know."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class Subject(_Told):
    """One file of the model package, or the package as a whole."""

    name: str
    digest: dict[str, str]


class DataTold(_Told):
    """What the model was trained and measured on."""

    uri: str
    fingerprint: str = Field(pattern=DIGEST)
    rows: int
    partitions: tuple[str, ...]


class CodeTold(_Told):
    """The project, and the callable that makes the model's input."""

    version: str
    features: str
    features_digest: str


class ConfigTold(_Told):
    """What the pipeline said."""

    policy_digest: str = Field(pattern=DIGEST)
    """Of the gate's rules."""
    target: dict[str, Any]
    """Where it serves, and with which options."""
    estimator: str
    holdout: HoldoutSpec


class TrainingTold(_Told):
    """How the bytes came about."""

    training_key: str = Field(pattern=DIGEST)
    run_id: str
    rows: int
    environment_digest: str
    """Of everything that was installed."""
    hardware: str


class EvaluationTold(_Told):
    """What it did on rows that it never saw."""

    digest: str = Field(pattern=DIGEST)
    metrics: dict[str, Metric]
    predictions_digest: str = Field(pattern=DIGEST)


class GateTold(_Told):
    """How it was judged."""

    digest: str = Field(pattern=DIGEST)
    verdict: Verdict
    checks: tuple[GateCheck, ...]


class VoteTold(_Told):
    """One person's answer."""

    person: str
    outcome: Literal["approve", "reject"]
    channel: Literal["airflow", "signed", "policy"]
    at: AwareDatetime
    reason: str
    signature_digest: str
    """SHA-256 of what proves an answer from outside; empty for others."""


class DecisionTold(_Told):
    """What was asked, and what people answered."""

    ask_id: str = Field(pattern=DIGEST)
    ask: Ask
    requested_by: str | None
    outcome: Literal["approve", "reject"]
    decided_by: str
    decided_at: AwareDatetime
    expires_at: AwareDatetime | None
    votes: tuple[VoteTold, ...]


class MoveTold(_Told):
    """The change of champion."""

    model: str
    version: int
    environment: str
    epoch: int
    at: AwareDatetime
    by: str
    reason: str


class AuditTold(_Told):
    """One row of the model's audit that the statement rests on."""

    seq: int
    action: str
    digest: str = Field(pattern=DIGEST)


class Predicate(_Told):
    """Everything that is told beside the bytes."""

    move: MoveTold
    data: DataTold
    code: CodeTold
    config: ConfigTold
    hyperparameters: dict[str, Scalar]
    seed: int | None
    training: TrainingTold
    evaluation: EvaluationTold
    gate: GateTold
    decision: DecisionTold
    audit: tuple[AuditTold, ...]
    """In order; the last one says that the release was carried out."""


class Statement(_Told):
    """One release."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: Literal["urn:airflow-provider-ml-lifecycle:provenance:v1"] = Field(alias="predicateType")
    predicate: Predicate


def statement(
    move: Move,
    *,
    decision: Decision,
    votes: Sequence[Vote],
    version: ModelVersion,
    trained: TrainedModel,
    gate: GateDecision,
    files: Sequence[Mapping[str, Any]],
    audit: Iterable[Mapping[str, Any]],
) -> Statement:
    """What is told of a release: the same release is always told in the same words.

    :param files: The package's manifest: ``{path, size, sha256}``.
    :param audit: All audit rows of the model, in order.
    """
    predicate = Predicate(
        move=_move(move),
        data=DataTold.model_validate(trained.dataset.model_dump(include={"uri", "fingerprint", "rows", "partitions"})),
        code=CodeTold(version=trained.code_version, features=trained.features, features_digest=trained.features_digest),
        config=ConfigTold(
            policy_digest=version.policy_digest,
            target=move.target,
            estimator=trained.estimator,
            holdout=trained.holdout,
        ),
        hyperparameters=trained.hyperparameters,
        seed=trained.seed,
        training=TrainingTold(
            training_key=trained.training_key,
            run_id=trained.run_id,
            rows=trained.training_rows,
            environment_digest=trained.environment_digest,
            hardware=trained.hardware,
        ),
        evaluation=EvaluationTold(
            digest=version.metrics_digest,
            metrics=gate.evaluation.metrics,
            predictions_digest=gate.evaluation.predictions_digest,
        ),
        gate=GateTold(digest=gate.content_digest(), verdict=gate.verdict, checks=gate.checks),
        decision=_decision(decision, votes, move),
        audit=tuple(_audit(audit, move, decision, votes)),
    )
    return Statement(
        type_=STATEMENT_TYPE,
        subject=subjects(move.model, move.version, move.digest, files),
        predicate_type=PREDICATE_TYPE,
        predicate=predicate,
    )


def subjects(model: str, version: int, digest: str, files: Sequence[Mapping[str, Any]]) -> tuple[Subject, ...]:
    """The package as a whole, named by its digest, then each of its files."""
    whole = Subject(name=f"{model}/{version}", digest={"sha256": digest})
    each = (Subject(name=f"{model}/{version}/{file['path']}", digest={"sha256": file["sha256"]}) for file in files)
    return (whole, *sorted(each, key=lambda subject: subject.name))


# --- What contradicts a statement ------------------------------------------------------------------------------------


def contradictions(told: Statement) -> tuple[str, ...]:
    """What a statement says of one thing in two places, and differently; empty for every statement of ours."""
    return tuple(_contradictions(told))


def differences_of_bytes(told: Statement, digest: str, files: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """How a model package differs from the one that was released; empty where it does not.

    :param digest: Of the package as it is.
    :param files: Its manifest.
    """
    move = told.predicate.move
    said = {subject.name: subject.digest for subject in told.subject}
    found = {subject.name: subject.digest for subject in subjects(move.model, move.version, digest, files)}
    return tuple(
        f"{name} is missing"
        if name not in found
        else f"{name} was not released"
        if name not in said
        else f"the bytes of {name} are not those that were released"
        for name in sorted({*said, *found})
        if said.get(name) != found.get(name)
    )


def differences_of_audit(told: Statement, rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What the audit says otherwise than the statement; empty where they agree.

    :param rows: All audit rows of the model, whose chain was checked before.
    """
    return tuple(_differences_of_audit(told.predicate, {row["seq"]: row for row in rows}))


def _contradictions(told: Statement) -> Iterator[str]:
    predicate = told.predicate
    move, decision = predicate.move, predicate.decision
    ask = decision.ask
    if ask.ask_id != decision.ask_id:
        yield "the question is not the one that its id names"
    if decision.outcome != "approve":
        yield f"the decision was {decision.outcome}"
    if (ask.model, ask.version, ask.environment) != (move.model, move.version, move.environment):
        yield f"the decision is about {ask.model} version {ask.version} in {ask.environment}, not about this move"
    if ask.epoch + 1 != move.epoch:
        yield f"the question was asked at epoch {ask.epoch}, and the move made at epoch {move.epoch}"
    if decision.expires_at is not None and move.at > decision.expires_at:
        yield f"the move was made after the approval expired ({decision.expires_at.isoformat()})"
    if told.subject[0] != Subject(name=f"{move.model}/{move.version}", digest={"sha256": ask.digest}):
        yield f"the first subject is not the package that was approved ({ask.digest[:12]})"
    named = {
        "data fingerprint": (ask.dataset_fingerprint, predicate.data.fingerprint),
        "evaluation": (ask.metrics_digest, predicate.evaluation.digest),
        "gate's rules": (ask.policy_digest, predicate.config.policy_digest),
        "gate's verdict": (ask.gate_verdict, predicate.gate.verdict),
    }
    for name, (asked, said) in named.items():
        if asked != said:
            yield f"the {name} is not the one that was asked about"
    approved = [vote for vote in decision.votes if vote.outcome == "approve"]
    if len({same_name(vote.person) for vote in approved}) < _needed(decision):
        yield f"{len(approved)} approved, and the question asks for {ask.terms.count}"


def _needed(decision: DecisionTold) -> int:
    by_policy = any(vote.channel == "policy" for vote in decision.votes)
    return 1 if by_policy else decision.ask.terms.count


def _differences_of_audit(predicate: Predicate, rows: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    for said in predicate.audit:
        row = rows.get(said.seq)
        if row is None:
            yield f"the audit has no row {said.seq} ({said.action})"
        elif (row["action"], row["digest"]) != (said.action, said.digest):
            yield f"row {said.seq} of the audit is another one than {said.action}"
    told = [rows[said.seq] for said in predicate.audit if said.seq in rows]
    for what, found in _rows_to_find(predicate):
        if not any(all(_same(row.get(name), value) for name, value in found.items()) for row in told):
            yield f"no row of the audit says that {what}"


def _rows_to_find(predicate: Predicate) -> Iterator[tuple[str, dict[str, Any]]]:
    move, decision = predicate.move, predicate.decision
    environment = {"environment": move.environment}
    for vote in decision.votes:
        what = f"{vote.person} said {vote.outcome} at {vote.at.isoformat()}"
        yield what, {**environment, "action": "vote", "actor": vote.person, "at": vote.at}
    what = f"{decision.decided_by} decided at {decision.decided_at.isoformat()}"
    yield what, {**environment, "action": "decide", "actor": decision.decided_by, "at": decision.decided_at}
    what = f"{move.by} moved {move.model} to version {move.version} at {move.at.isoformat()}"
    subject = _subject_of(move, decision.ask.digest)
    yield what, {**environment, "action": "release", "actor": move.by, "at": move.at, "subject": subject}


def _same(found: Any, value: Any) -> bool:
    if isinstance(value, datetime) and isinstance(found, str):
        return datetime.fromisoformat(found) == value
    return bool(found == value)


# --- Parts -----------------------------------------------------------------------------------------------------------


def _move(move: Move) -> MoveTold:
    return MoveTold(
        model=move.model,
        version=move.version,
        environment=move.environment,
        epoch=move.epoch,
        at=move.moved_at,
        by=move.moved_by,
        reason=move.reason,
    )


def _decision(decision: Decision, votes: Sequence[Vote], move: Move) -> DecisionTold:
    return DecisionTold(
        ask_id=move.decision_id or decision.ask.ask_id,
        ask=decision.ask,
        requested_by=decision.requested_by,
        outcome=decision.outcome,
        decided_by=decision.decided_by,
        decided_at=decision.decided_at,
        expires_at=decision.expires_at,
        votes=tuple(_vote(vote) for vote in votes),
    )


def _vote(vote: Vote) -> VoteTold:
    signature = hashlib.sha256(vote.signature.encode()).hexdigest() if vote.signature else ""
    return VoteTold(
        person=vote.person,
        outcome=vote.outcome,
        channel=vote.channel,
        at=vote.at,
        reason=vote.reason,
        signature_digest=signature,
    )


def _audit(
    rows: Iterable[Mapping[str, Any]], move: Move, decision: Decision, votes: Sequence[Vote]
) -> Iterator[AuditTold]:
    """The rows of question, answers, decision, move and of its last step."""
    at_epoch = f"at epoch {move.epoch} in {move.environment}"
    answers = {("vote", vote.person, vote.at) for vote in votes}
    acts = answers | {("decide", decision.decided_by, decision.decided_at), (move.kind, move.moved_by, move.moved_at)}
    for row in rows:
        if row["environment"] != move.environment:
            continue
        is_ask = row["action"] == "ask" and row["detail"] == move.decision_id
        is_done = (row["action"], row["detail"]) == ("deployment", "done") and row["subject"].endswith(at_epoch)
        if is_ask or is_done or (row["action"], row["actor"], row["at"]) in acts:
            yield AuditTold(seq=row["seq"], action=row["action"], digest=row["digest"])


def _subject_of(move: MoveTold, digest: str) -> str:
    """How the audit names a move."""
    return f"{move.model} version {move.version} ({digest[:8]}) at epoch {move.epoch} in {move.environment}"
