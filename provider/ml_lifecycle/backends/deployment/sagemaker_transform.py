"""Batch scoring by SageMaker: one transform job over a folder of S3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from pydantic import Field

from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls
from ml_lifecycle.backends.deployment.sagemaker_endpoint import endpoint_name
from ml_lifecycle.backends.deployment.sagemaker_model import hash_of
from ml_lifecycle.core.contracts import Contract
from ml_lifecycle.core.errors import ServiceRefusedError

State = Literal["running", "done", "failed", "stopped", "missing"]

_STATES: Final[dict[str, State]] = {
    "InProgress": "running",
    "Stopping": "running",
    "Completed": "done",
    "Failed": "failed",
    "Stopped": "stopped",
}
_TRIES: Final = 20
_S3_URI: Final = r"^s3://[^/]+/.*$"
_NAME_CHARACTERS: Final = 40


class TransformJob(Contract):
    """What is to be scored, by what, and where the scores go."""

    model: str
    """Name of the SageMaker model, as a deployment made it."""
    source: str = Field(pattern=_S3_URI)
    """Each file below it is one request, with its own head line, and its answer is called ``<file>.out``."""
    output: str = Field(pattern=_S3_URI)
    content_type: Literal["text/csv", "application/json"] = "text/csv"
    instance_type: str = "ml.m5.large"
    instance_count: int = Field(default=1, ge=1)
    max_payload_mb: int = Field(default=6, ge=1, le=100)
    """Of one file; the model server's own limit holds as well."""
    kms_key: str = ""


class TransformStatus(Contract):
    """How far a job is."""

    name: str
    state: State
    detail: str = ""


def start(job: TransformJob, client: Callable[[str], Any]) -> TransformStatus:
    """Start the job unless it runs, or ran, already; one that failed or was stopped is started anew.

    Its name says what it does, so that whoever was killed after starting it finds it again.

    :raises ServiceRefusedError: it failed again and again.
    """
    calls = _calls(client)
    base = f"{endpoint_name(job.model, _NAME_CHARACTERS)}-{hash_of(job.model_dump(mode='json'), 12)}"
    for attempt in range(1, _TRIES + 1):
        name = f"{base}-{attempt}"
        found = status(name, client)
        if found.state == "missing":
            calls.ensure("sagemaker", "create_transform_job", TransformJobName=name, **_asked(job))
            return status(name, client)
        if found.state in ("running", "done"):
            return found
    raise ServiceRefusedError(
        f"it failed {_TRIES} times, at last with: {found.detail or found.state}",
        where=f"transform job {name}",
        way_out="see its log group, and score another model, folder or output",
    )


def status(name: str, client: Callable[[str], Any]) -> TransformStatus:
    """How far the job is."""
    found = _calls(client).find("sagemaker", "describe_transform_job", TransformJobName=name)
    if found is None:
        return TransformStatus(name=name, state="missing")
    state = _STATES.get(found["TransformJobStatus"], "running")
    return TransformStatus(name=name, state=state, detail=str(found.get("FailureReason", ""))[:500])


def stop(name: str, client: Callable[[str], Any]) -> None:
    """Have the job end and cost nothing more; one that has ended stays as it is."""
    if status(name, client).state != "running":
        return
    try:
        _calls(client).remove("sagemaker", "stop_transform_job", TransformJobName=name)
    except ServiceRefusedError:
        # It may have ended in between.
        if status(name, client).state == "running":
            raise


def _asked(job: TransformJob) -> dict[str, Any]:
    sealed = {"KmsKeyId": job.kms_key} if job.kms_key else {}
    volume = {"VolumeKmsKeyId": job.kms_key} if job.kms_key else {}
    return {
        "ModelName": job.model,
        "MaxPayloadInMB": job.max_payload_mb,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": job.source}},
            "ContentType": job.content_type,
            "SplitType": "None",
        },
        "TransformOutput": {"S3OutputPath": job.output, "AssembleWith": "None", **sealed},
        "TransformResources": {"InstanceType": job.instance_type, "InstanceCount": job.instance_count, **volume},
    }


def _calls(client: Callable[[str], Any]) -> AmazonCalls:
    return AmazonCalls(client, "SageMaker batch transform")
