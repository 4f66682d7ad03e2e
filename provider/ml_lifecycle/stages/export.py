"""An approved version in, a signed archive for apps and devices out."""

from __future__ import annotations

from pydantic import Field

from ml_lifecycle.backends.export.bundles import Bundle, Subject, make_bundle, needed_key
from ml_lifecycle.backends.signing.keys import SigningKey
from ml_lifecycle.core.contracts import Contract, Decision, ExportedBundle, ModelVersion, RunRequest
from ml_lifecycle.core.deployment import is_stale
from ml_lifecycle.core.errors import NoDecisionError, RequestError, StaleEpochError
from ml_lifecycle.stages.champion import verified_package
from ml_lifecycle.stages.release_right import DeploymentJob, Right, refusal_audited, right_of
from ml_lifecycle.stages.runner import Tools, record

FOLDER = "bundles"
"""Below the data root."""


class ExportJob(Contract):
    """Which version is handed out."""

    request: RunRequest
    version: int = Field(ge=1)
    onnx: bool = False
    """Whether the archive can also answer by ONNX."""


def export(job: ExportJob, tools: Tools) -> ExportedBundle:
    """Publish the archive at ``bundles/<model>/<environment>/`` below the data root.

    What gives the right to release a version gives the right to hand it out. The same version gives the same file.

    :raises NoDecisionError: no valid approval of exactly these bytes stands in the ledger, or they were rolled back.
    :raises StaleEpochError: the approval was not used, and another version was released since.
    :raises UntrustedModelError: the version cannot be made into an archive that answers as training did.
    """
    with refusal_audited("export", job.request, tools):
        bundle, right, key = _made(job, tools)
        uri = f"{FOLDER}/{right.version.name}/{tools.environment}/{bundle.name}"
        if tools.data.state(uri) is None or tools.data.file_digest(uri) != bundle.sha256:
            tools.data.write_file(uri, bundle.data)
    return _told(bundle, right, key, uri=uri)


def export_file(job: ExportJob, tools: Tools) -> tuple[ExportedBundle, bytes]:
    """As :func:`export`, but handed out at once; the ledger knows of it before anybody has it."""
    with refusal_audited("export", job.request, tools):
        bundle, right, key = _made(job, tools)
    exported = _told(bundle, right, key)
    record(export.__name__, exported, tools, model=job.request.model)
    return exported, bundle.data


def _made(job: ExportJob, tools: Tools) -> tuple[Bundle, Right, SigningKey]:
    right, key = _right(job, tools), needed_key(tools.signing_key())
    version = right.version
    subject = Subject(
        model=version.name,
        version=version.version,
        digest=version.digest,
        environment=tools.environment,
        decision_id=right.decision.ask.ask_id,
        dataset_fingerprint=version.dataset_fingerprint,
    )
    with verified_package(version.uri, version.digest, tools) as package:
        bundle = make_bundle(package, subject, key, onnx=job.onnx, trusted_types=tools.trusted_types)
    # Making it takes a while, in which it may have been rolled back.
    right.check()
    return bundle, right, key


def _right(job: ExportJob, tools: Tools) -> Right:
    version = _registered(job, tools)
    where = f"version {version.version} of {version.name} in {tools.environment}"
    decision = tools.ledger.decision_for(version.name, tools.environment, version.digest)
    if decision is None:
        raise NoDecisionError("nobody has approved it", where=where, way_out=f"run {version.name}_release")
    asked = job.request.model_copy(update={"version": job.version})
    right = right_of(DeploymentJob(request=asked, decision=decision), tools)
    if right is None:
        raise NoDecisionError(f"{decision.decided_by} rejected it", where=where, way_out="export another version")
    _refuse_stale(decision, where, tools)
    return right


def _refuse_stale(decision: Decision, where: str, tools: Tools) -> None:
    ask = decision.ask
    moves = tools.ledger.moves(ask.model, tools.environment)
    is_used = any(move.decision_id == ask.ask_id for move in moves)
    if not is_used and is_stale(ask, moves[-1] if moves else None):
        raise StaleEpochError(
            "its approval was not used, and another version was released since",
            where=where,
            way_out=f"run {ask.model}_release for it again",
        )


def _registered(job: ExportJob, tools: Tools) -> ModelVersion:
    model = job.request.model
    found = tools.ledger.results(tools.environment, model, "register", version=job.version)
    if not found:
        raise RequestError(
            f"the ledger knows no version {job.version}",
            where=f"{model} in {tools.environment}",
            way_out="export a version that was registered here",
        )
    return ModelVersion.model_validate(found[-1]["content"])


def _told(bundle: Bundle, right: Right, key: SigningKey, *, uri: str = "") -> ExportedBundle:
    return ExportedBundle(
        model=bundle.manifest.model,
        environment=bundle.manifest.environment,
        version=bundle.manifest.version,
        digest=bundle.manifest.digest,
        decision_id=right.decision.ask.ask_id,
        sha256=bundle.sha256,
        size=len(bundle.data),
        formats=tuple(one.name for one in bundle.manifest.formats),
        signed_by=key.public.key_id,
        uri=uri,
    )
