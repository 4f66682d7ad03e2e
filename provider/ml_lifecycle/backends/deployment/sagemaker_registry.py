"""A model package group that shows in SageMaker what was approved here, and what was rolled back.

It is a projection: nothing is ever read from it to decide about anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls
from ml_lifecycle.backends.deployment.sagemaker_endpoint import variant_name
from ml_lifecycle.backends.deployment.sagemaker_model import tag_list
from ml_lifecycle.core.contracts import Move


def mirror_approved(group: str, move: Move, model: str, calls: AmazonCalls, tags: Mapping[str, str]) -> None:
    """Have a package for the move's version that is shown as approved; SageMaker counts its versions by itself.

    :param model: The SageMaker model that has its image and its archive.
    """
    name = variant_name(move.version, move.digest)
    found = _package(group, name, calls)
    if found is not None:
        _approve(found, "Approved", f"epoch {move.epoch} in {move.environment}, by {move.moved_by}", calls)
        return
    calls.ensure("sagemaker", "create_model_package_group", ModelPackageGroupName=group, Tags=tag_list(tags))
    container = calls("sagemaker", "describe_model", ModelName=model)["PrimaryContainer"]
    calls(
        "sagemaker",
        "create_model_package",
        ModelPackageGroupName=group,
        ModelPackageDescription=name,
        ModelApprovalStatus="Approved",
        InferenceSpecification={
            "Containers": [{"Image": container["Image"], "ModelDataUrl": container["ModelDataUrl"]}],
            "SupportedContentTypes": ["application/json", "text/csv"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        CustomerMetadataProperties={
            "model": move.model,
            "version": str(move.version),
            "digest": move.digest,
            "decision": move.decision_id or "none",
        },
        # A repeated request makes no second package.
        ClientToken=f"{name}-{move.digest[:20]}"[:36],
    )


def mirror_rejected(group: str, variants: Iterable[str], calls: AmazonCalls) -> None:
    """Show the packages of these variants as rejected: they were rolled back."""
    for name in variants:
        found = _package(group, name, calls)
        if found is not None:
            _approve(found, "Rejected", "rolled back", calls)


def _package(group: str, name: str, calls: AmazonCalls) -> Mapping[str, Any] | None:
    """The package of a variant; ``None`` while there is none, or no group."""
    if calls.find("sagemaker", "describe_model_package_group", ModelPackageGroupName=group) is None:
        return None
    listed = calls.pages(
        *("sagemaker", "list_model_packages", "ModelPackageSummaryList"), ModelPackageGroupName=group, MaxResults=100
    )
    return next((one for one in listed if one.get("ModelPackageDescription") == name), None)


def _approve(package: Mapping[str, Any], status: str, because: str, calls: AmazonCalls) -> None:
    if package.get("ModelApprovalStatus") != status:
        calls(
            "sagemaker",
            "update_model_package",
            ModelPackageArn=package["ModelPackageArn"],
            ModelApprovalStatus=status,
            ApprovalDescription=because[:1024],
        )
