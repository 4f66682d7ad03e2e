"""A release that was carried out in, a signed statement about it out."""

from __future__ import annotations

import hashlib

from ml_lifecycle.backends.files import manifest_of
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.keys import SigningKey
from ml_lifecycle.core.contracts import (
    Contract,
    Decision,
    Deployment,
    GateDecision,
    ModelVersion,
    Move,
    ReleaseProvenance,
    TrainedModel,
    canonical_json,
)
from ml_lifecycle.core.errors import EvidenceError, LedgerError, NoDecisionError
from ml_lifecycle.core.provenance import PAYLOAD_TYPE, Statement, contradictions, statement
from ml_lifecycle.stages.champion import verified_package
from ml_lifecycle.stages.evidence import gate_of, registration_of, training_of
from ml_lifecycle.stages.runner import Tools

STAGE = "provenance"
"""What the ledger calls this stage, and the folder below the data root."""


class ProvenanceJob(Contract):
    """A release to tell of."""

    deployment: Deployment


def provenance(job: ProvenanceJob, tools: Tools) -> ReleaseProvenance | None:
    """Publish what the ledger knows of a release, signed; ``None`` where the deployment has no key to sign with.

    However often it is called, the same release is told in the same words at the same place. A statement that an
    earlier key signed stays as it is.

    :raises NoDecisionError: no decision stands behind the move.
    :raises LedgerError: the release was not carried out.
    :raises EvidenceError: the ledger does not hold what the release rests on.
    """
    key = tools.signing_key()
    if key is None:
        return None
    move = job.deployment.champion
    if "done" not in tools.ledger.deployment_states(move):
        raise LedgerError(
            f"version {move.version} at epoch {move.epoch} is not deployed yet",
            where=f"{move.model} in {move.environment}",
            way_out="let the task that deploys end first",
        )
    uri = f"{STAGE}/{move.model}/{move.environment}/{move.epoch}.dsse.json"
    standing = _standing(move, uri, tools)
    return standing if standing is not None else _publish(move, uri, key, tools)


def _publish(move: Move, uri: str, key: SigningKey, tools: Tools) -> ReleaseProvenance:
    envelope = seal_statement(tell(move, tools), key).encode()
    digest = hashlib.sha256(envelope).hexdigest()
    if tools.data.state(uri) is None or tools.data.file_digest(uri) != digest:
        tools.data.write_file(uri, envelope)
    return ReleaseProvenance(
        model=move.model,
        environment=move.environment,
        epoch=move.epoch,
        uri=uri,
        digest=digest,
        signed_by=key.public.key_id,
    )


def seal_statement(told: Statement, key: SigningKey) -> str:
    """The statement in its envelope."""
    return dsse.seal(canonical_json(told.model_dump(mode="json", by_alias=True)).encode(), PAYLOAD_TYPE, key)


def tell(move: Move, tools: Tools) -> Statement:
    """What the ledger knows of a release, and the names of its files, whose bytes are checked on the way.

    :raises NoDecisionError: no decision stands behind the move.
    :raises EvidenceError: the ledger does not hold what the release rests on, or contradicts itself.
    :raises DigestMismatchError: the package's bytes are not those that were released.
    """
    decision = _decision(move, tools)
    version = _version(move, decision, tools)
    with verified_package(move.uri, move.digest, tools) as folder:
        files = manifest_of(folder)
    told = statement(
        move,
        decision=decision,
        votes=tools.ledger.votes(move.decision_id or ""),
        version=version,
        trained=_trained(version, tools),
        gate=_gate(version, tools),
        files=files,
        audit=tools.ledger.audit(move.model),
    )
    for why in contradictions(told):
        raise EvidenceError(
            why, where=_named(move), way_out="run `ml-lifecycle audit verify`: the ledger contradicts itself"
        )
    return told


# --- Out of the ledger -----------------------------------------------------------------------------------------------


def _standing(move: Move, uri: str, tools: Tools) -> ReleaseProvenance | None:
    """What an earlier try recorded, if its file is still what it was."""
    if tools.data.state(uri) is None:
        return None
    found = tools.data.file_digest(uri)
    for result in tools.ledger.results(move.environment, move.model, STAGE, epoch=move.epoch, digest=found, limit=1):
        return ReleaseProvenance.model_validate(result["content"])
    return None


def _decision(move: Move, tools: Tools) -> Decision:
    decision = tools.ledger.decision(move.decision_id) if move.decision_id is not None else None
    if decision is None:
        raise NoDecisionError(
            "no decision stands behind this move", where=_named(move), way_out="only releases are told of"
        )
    return decision


def _version(move: Move, decision: Decision, tools: Tools) -> ModelVersion:
    version = registration_of(decision.ask, tools)
    if version is None:
        raise _absent(move, "registration of the version that was approved")
    return version


def _trained(version: ModelVersion, tools: Tools) -> TrainedModel:
    trained = training_of(version.name, version.digest, tools, training_key=version.training_key)
    if trained is None:
        raise _absent(version, "training of the version that was approved")
    return trained


def _gate(version: ModelVersion, tools: Tools) -> GateDecision:
    gate = gate_of(version, tools)
    if gate is None:
        raise _absent(version, "judgement of the version that was approved")
    return gate


def _absent(what: Move | ModelVersion, evidence: str) -> EvidenceError:
    model = what.model if isinstance(what, Move) else what.name
    return EvidenceError(
        f"the ledger holds no {evidence}",
        where=f"version {what.version} of {model}",
        way_out="the ledger was replaced or emptied; restore it from its backup",
    )


def _named(move: Move) -> str:
    return f"{move.model} version {move.version} at epoch {move.epoch} in {move.environment}"
