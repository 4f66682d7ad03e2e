"""As many instances of a variant as its traffic takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls

_SERVICE: Final = "application-autoscaling"
_NAMESPACE: Final = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


class Autoscaling(BaseModel):
    """How many instances a version may have, and how much each of them is to do."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    min: int = Field(default=1, ge=1)
    max: int = Field(default=2, ge=1)
    target: float = Field(default=1000.0, gt=0)
    """Requests a minute that one instance answers."""

    @model_validator(mode="after")
    def _ordered(self) -> Autoscaling:
        if self.max < self.min:
            raise ValueError(f"max is {self.max}, below min {self.min}")
        return self


def ensure_scaled(calls: AmazonCalls, endpoint: str, variants: Sequence[str], scaling: Autoscaling) -> None:
    """Have every one of these variants scale that does not yet; they have to exist."""
    policies = {f"{endpoint}-{one}": _resource(endpoint, one) for one in variants}
    listed = calls.pages(
        *(_SERVICE, "describe_scaling_policies", "ScalingPolicies"),
        ServiceNamespace=_NAMESPACE["ServiceNamespace"],
        PolicyNames=list(policies),
    )
    for there in [one["PolicyName"] for one in listed]:
        policies.pop(there, None)
    for policy, resource in policies.items():
        scaled: dict[str, Any] = {**_NAMESPACE, "ResourceId": resource}
        calls(_SERVICE, "register_scalable_target", **scaled, MinCapacity=scaling.min, MaxCapacity=scaling.max)
        calls(
            _SERVICE,
            "put_scaling_policy",
            **scaled,
            PolicyName=policy,
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": scaling.target,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
            },
        )


def remove_scaling(calls: AmazonCalls, endpoint: str, variants: Iterable[str]) -> None:
    """Have these variants scale no more; their policies and alarms go with the target."""
    resources = [_resource(endpoint, one) for one in variants]
    if not resources:
        return
    found = calls(_SERVICE, "describe_scalable_targets", **_NAMESPACE, ResourceIds=resources)
    for target in found["ScalableTargets"]:
        calls.remove(_SERVICE, "deregister_scalable_target", **_NAMESPACE, ResourceId=target["ResourceId"])


def _resource(endpoint: str, variant: str) -> str:
    return f"endpoint/{endpoint}/variant/{variant}"
