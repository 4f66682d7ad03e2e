"""A SageMaker endpoint as it is: whose it is, what was asked of it, and what it does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls
from ml_lifecycle.backends.deployment.base import ALL, Serving
from ml_lifecycle.core.contracts import Move

TAG: Final = "ml-lifecycle:"
"""Start of the endpoint's tags that carry the fence."""
NAME_LIMIT: Final = 44
"""Characters of an endpoint's name, so that what is named after it stays below SageMaker's 63."""

DELETING: Final = "Deleting"
FAILED: Final = "Failed"
MIXED: Final = "UpdateRollbackFailed"
LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""When nothing is known of a moment."""

_VARIANT = re.compile(r"v([0-9]{1,9})-[0-9a-f]{8}")
_SERVES = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack", MIXED})
_UNDER_WAY = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", DELETING})


@dataclass(frozen=True)
class Wanted:
    """What a write asks of an endpoint."""

    weights: Mapping[str, int]
    """Percent by variant, without those that get nothing."""
    config: str = ""
    """The endpoint configuration that has to be in force; empty where any will do that has these variants."""

    def shown(self) -> str:
        """As the tag holds it."""
        return " ".join(f"{name}={percent}" for name, percent in sorted(self.weights.items()))


@dataclass(frozen=True)
class Fence:
    """Whose an endpoint is, the newest move that reached it, and what that move asked for."""

    model: str
    environment: str
    epoch: int
    decision: str
    wanted: Wanted
    asked: datetime

    @classmethod
    def of(cls, move: Move, wanted: Wanted, asked: datetime) -> Fence:
        """The fence of a move."""
        return cls(move.model, move.environment, move.epoch, move.decision_id or "", wanted, asked)

    @classmethod
    def read(cls, tags: Mapping[str, str]) -> Fence | None:
        """What the tags say; ``None`` where they do not say whose the endpoint is.

        Without a readable epoch it is as if no move had been there yet.
        """
        held = {name.removeprefix(TAG): text for name, text in tags.items() if name.startswith(TAG)}
        if not held.get("model") or not held.get("environment"):
            return None
        pairs = (pair.partition("=") for pair in held.get("wanted", "").split())
        weights = {name: int(percent) for name, _, percent in pairs if percent.isdecimal()}
        return cls(
            model=held["model"],
            environment=held["environment"],
            epoch=int(held.get("epoch", "")) if held.get("epoch", "").isdecimal() else 0,
            decision=held.get("decision", ""),
            wanted=Wanted(weights, held.get("config", "")),
            asked=_moment(held.get("asked", "")),
        )

    def tags(self) -> dict[str, str]:
        """As SageMaker keeps it; all of them are written in one call."""
        held = {
            "model": self.model,
            "environment": self.environment,
            "epoch": str(self.epoch),
            "decision": self.decision,
            "wanted": self.wanted.shown(),
            "config": self.wanted.config,
            "asked": self.asked.isoformat(),
        }
        return {f"{TAG}{name}": text for name, text in held.items()}

    def asks_as(self, other: Fence | None) -> bool:
        """Whether the other one says the same, apart from when."""
        return other is not None and {**self.tags(), **_NO_TIME} == {**other.tags(), **_NO_TIME}


_NO_TIME: Final = {f"{TAG}asked": ""}


@dataclass(frozen=True)
class Variant:
    """One production variant."""

    name: str
    weight: float
    desired_weight: float
    instances: int

    @property
    def version(self) -> int | None:
        """Of the model; ``None`` for a variant that this product did not name."""
        return version_in(self.name)


@dataclass(frozen=True)
class Endpoint:
    """What DescribeEndpoint and its tags say."""

    name: str
    arn: str
    status: str
    reason: str
    config: str
    """In force."""
    coming: str
    """In force once what is under way has ended well."""
    variants: tuple[Variant, ...]
    fence: Fence | None = None
    modified: datetime = LONG_AGO
    """When what is under way began."""

    @property
    def under_way(self) -> bool:
        """Whether SageMaker is at work on it, and takes no other update."""
        return self.status in _UNDER_WAY

    @property
    def weights(self) -> dict[str, int]:
        """Percent by variant that its traffic is on, or on its way to, without those that get nothing."""
        return percents({one.name: one.desired_weight if self.under_way else one.weight for one in self.variants})

    def serving(self, deadline: timedelta, now: datetime) -> Serving:
        """What serves, held against what was asked for.

        :param deadline: How long an update may be under way.
        """
        current = percents({one.name: one.weight for one in self.variants}) if self.status in _SERVES else {}
        traffic: dict[int, int] = {}
        for name, percent in current.items():
            version = version_in(name)
            if version is not None:
                traffic[version] = traffic.get(version, 0) + percent
        fault = self._fault(current, deadline, now)
        serves = self.status in _SERVES
        return Serving(
            traffic=traffic,
            epoch=self.fence.epoch if self.fence else 0,
            environment=self.fence.environment if self.fence else "",
            ready=tuple(sorted({one.version for one in self.variants if serves and one.version and one.instances > 0})),
            settled=not fault and (not self.under_way or (serves and self._is_as_asked(current))),
            fault=fault,
            detail=f"endpoint {self.name} is {self.status}" if self.under_way else "",
        )

    def _is_as_asked(self, current: dict[str, int]) -> bool:
        """Whether what is under way, such as another instance, changes nothing of what was asked for."""
        wanted = self.fence.wanted if self.fence else Wanted({})
        in_force = not wanted.config or wanted.config == self.config == self.coming
        return in_force and dict(wanted.weights) == current

    def _fault(self, current: dict[str, int], deadline: timedelta, now: datetime) -> str:
        because = f": {self.reason}" if self.reason else ""
        if self.status in (FAILED, "OutOfService", MIXED):
            return f"endpoint {self.name} is {self.status}{because}"
        if self.status == "RollingBack":
            return f"SageMaker takes the update of {self.name} back{because}"
        if self.under_way:
            began = max(self.fence.asked, self.modified) if self.fence else self.modified
            late = now - began > deadline and not self._is_as_asked(current)
            return f"endpoint {self.name} has been {self.status} for longer than {deadline}{because}" if late else ""
        missed = self._missed(self.fence.wanted if self.fence else Wanted({}), current)
        return f"{missed}{because}" if missed else ""

    def _missed(self, wanted: Wanted, current: dict[str, int]) -> str:
        """What an endpoint at rest should be and is not: SageMaker takes updates back without a word."""
        if wanted.config and wanted.config != self.config:
            return f"the update to {wanted.config} was taken back, and {self.config} serves"
        if wanted.weights and dict(wanted.weights) != current:
            return f"the weights are {_shown(current)}, and {_shown(wanted.weights)} was asked for"
        dead = [one.name for one in self.variants if current.get(one.name) and one.instances < 1]
        return f"no instance of {', '.join(dead)} runs" if dead else ""


def read_endpoint(calls: AmazonCalls, name: str) -> Endpoint | None:
    """The endpoint at this moment; ``None`` where there is none."""
    found = calls.find("sagemaker", "describe_endpoint", EndpointName=name)
    if found is None:
        return None
    pending = found.get("PendingDeploymentSummary") or {}
    return Endpoint(
        name=name,
        arn=found["EndpointArn"],
        status=found["EndpointStatus"],
        reason=str(found.get("FailureReason", "")).strip()[:500],
        config=found.get("EndpointConfigName", ""),
        coming=pending.get("EndpointConfigName") or found.get("EndpointConfigName", ""),
        variants=tuple(_variant(one) for one in found.get("ProductionVariants") or ()),
        fence=read_fence(calls, found["EndpointArn"]),
        modified=found.get("LastModifiedTime") or LONG_AGO,
    )


def read_fence(calls: AmazonCalls, arn: str) -> Fence | None:
    """What the tags of an endpoint say."""
    tags = {one["Key"]: one["Value"] for one in calls.pages("sagemaker", "list_tags", "Tags", ResourceArn=arn)}
    return Fence.read(tags)


def variants_of(calls: AmazonCalls, config: str) -> dict[str, dict[str, Any]]:
    """The variants of a configuration by name, as they were asked for."""
    found = calls("sagemaker", "describe_endpoint_config", EndpointConfigName=config)
    return {one["VariantName"]: one for one in found["ProductionVariants"]}


def weights_of(seen: Endpoint, present: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Percent by variant; of an endpoint that is being made, those that it will begin with."""
    return seen.weights or percents({name: float(one["InitialVariantWeight"]) for name, one in present.items()})


def percents(weights: Mapping[str, float]) -> dict[str, int]:
    """Integers that sum to 100 in the proportion of the weights, without those of nothing: largest remainders."""
    total = sum(weights.values())
    if not total > 0:
        return {}
    exact = {name: ALL * weight / total for name, weight in weights.items()}
    found = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (found[name] - exact[name], name))
    for name in by_remainder[: ALL - sum(found.values())]:
        found[name] += 1
    return {name: percent for name, percent in found.items() if percent}


def variant_name(version: int, digest: str) -> str:
    """What a model version is called on an endpoint."""
    return f"v{version}-{digest[:8]}"


def version_in(name: str) -> int | None:
    """The model version that a variant's name tells; ``None`` for other names."""
    found = _VARIANT.fullmatch(name)
    return int(found[1]) if found else None


def endpoint_name(text: str, limit: int = NAME_LIMIT) -> str:
    """A name that SageMaker takes; one that had to be changed ends in a hash, so that no two become one."""
    plain = re.sub("-+", "-", re.sub("[^a-z0-9]", "-", text.lower())).strip("-")
    if plain == text and len(plain) <= limit:
        return plain
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{plain[: limit - 9].strip('-') or 'model'}-{mark}"


def _variant(found: Mapping[str, Any]) -> Variant:
    weight = float(found.get("CurrentWeight") or 0.0)
    return Variant(
        name=found["VariantName"],
        weight=weight,
        desired_weight=float(found.get("DesiredWeight", weight)),
        instances=int(found.get("CurrentInstanceCount") or 0),
    )


def _shown(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {percent}%" for name, percent in sorted(weights.items())) or "nothing"


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = LONG_AGO
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
