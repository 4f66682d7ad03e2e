"""Serving by an endpoint of Amazon SageMaker with two production variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ml_lifecycle.backends.deployment.amazon_calls import PATIENCE_S, AmazonCalls, waits
from ml_lifecycle.backends.deployment.base import ALL, Means, Serving, SplittingTarget
from ml_lifecycle.backends.deployment.sagemaker_endpoint import (
    NAME_LIMIT,
    Endpoint,
    Fence,
    Wanted,
    endpoint_name,
    percents,
    read_endpoint,
    read_fence,
    variant_name,
    version_in,
)
from ml_lifecycle.backends.deployment.sagemaker_metrics import observed
from ml_lifecycle.backends.deployment.sagemaker_model import Container, ensure_model, hash_of, tag_list
from ml_lifecycle.backends.deployment.sagemaker_registry import mirror_approved, mirror_rejected
from ml_lifecycle.backends.deployment.sagemaker_scaling import Autoscaling, ensure_scaled, remove_scaling
from ml_lifecycle.backends.deployment.sagemaker_sweep import sweep, sweep_all
from ml_lifecycle.core.contracts import Move, Observation
from ml_lifecycle.core.errors import (
    RollbackNotReadyError,
    ServiceRefusedError,
    ServiceUnavailableError,
    StaleEpochError,
    TargetRefusedError,
)
from ml_lifecycle.core.values import StoredDuration

DRILL: Final = "-drill"
"""End of the name of the endpoint that rehearsals use."""

_ARN: Final = r"^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$"
_PREFIX: Final = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"
_BUCKET: Final = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
_DELETING: Final = "Deleting"
_FAILED: Final = "Failed"
_MIXED: Final = "UpdateRollbackFailed"
_RACES: Final = 3
_GONE_S: Final = 180.0

Plan: TypeAlias = "Callable[[Endpoint | None], Wanted]"
Pairs: TypeAlias = "tuple[tuple[str, str], ...]"


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Network(_Options):
    """The network that the containers belong to."""

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    isolated: bool = False
    """No way out of the container at all: it needs none, its package is handed in."""


class DataCapture(_Options):
    """What SageMaker keeps of requests and answers; ``ml-lifecycle capture`` makes a prediction log of it."""

    percent: int = Field(default=100, ge=1, le=ALL)
    """Share of the requests."""
    prefix: str = Field(default="capture", pattern=_PREFIX)
    """Where in the bucket."""


class SageMakerTarget(SplittingTarget):
    """One endpoint per model, and on it a production variant per version; the traffic follows their weights.

    Tags of the endpoint say whose it is, which move reached it last and what that move asked for: an older move is
    refused, and so is another environment. Amazon compares nothing when it writes, so each write is read back, and
    one that a newer move overtook brings back what the newer one asked for.
    """

    backend: Literal["sagemaker"] = "sagemaker"
    role_arn: str = Field(pattern=_ARN, max_length=2048)
    """What the containers run as."""
    image: str = Field(min_length=1, max_length=255)
    """Of the model server, in ECR, best by its digest."""
    bucket: str = Field(pattern=_BUCKET)
    """For the archives of the model packages."""
    prefix: str = Field(default="ml-lifecycle", pattern=_PREFIX)
    aws_conn_id: str = "aws_default"
    """Airflow's connection; empty for the machine's own role."""
    endpoint: str | None = Field(default=None, pattern=r"^[a-z0-9](-?[a-z0-9])*$", max_length=NAME_LIMIT)
    """Left out: the model's name."""
    instance_type: str = Field(default="ml.m5.large", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$")
    instance_count: int = Field(default=1, ge=1)
    """Of each version, where autoscaling does not say otherwise."""
    autoscaling: Autoscaling | None = None
    alarms: tuple[str, ...] = Field(default=(), max_length=10)
    """CloudWatch alarms that let SageMaker take an update back in which the same version gets another container."""
    network: Network = Network()
    kms_key: str = ""
    """For the instances' disks, the archives and what is captured."""
    data_capture: DataCapture | None = None
    package_group: str = Field(default="", pattern=r"^([a-zA-Z0-9](-?[a-zA-Z0-9]){0,62})?$")
    """Model package group that mirrors what is approved and what was rolled back; empty for none."""
    tags: Pairs = ()
    """Beside the product's own, on everything that is made."""
    update_within: StoredDuration = timedelta(hours=1)
    """How long an update may take before it counts as stuck."""

    @field_validator("tags", mode="before")
    @classmethod
    def _paired(cls, tags: Any) -> Any:
        pairs = tags.items() if isinstance(tags, Mapping) else tags
        return tuple(sorted(tuple(pair) for pair in pairs))

    # --- Writing ---------------------------------------------------------------------------------------------------

    def deploy(self, move: Move, means: Means) -> None:
        """Make the version's model, and an endpoint, or an update of it, that has a variant for it.

        On a new endpoint it is the only variant, and SageMaker sends it whatever is asked.
        """
        calls = self._calls(means)
        self._admitted(move, calls)
        _refuse_unknown(move, means)
        model = ensure_model(self._container(move.model, means), move, calls, means)
        if self.package_group:
            mirror_approved(self.package_group, move, model, calls, dict(self.tags))
        self._write(move, calls, partial(self._with_variant, move, model, calls))

    def set_split(self, move: Move, percent: int, means: Means) -> None:
        """Set the weights of two variants; SageMaker takes seconds for it."""
        if not 0 <= percent <= ALL:
            raise ServiceRefusedError(f"{percent} is no percentage", where=move.model, way_out="take 0 to 100")
        calls = self._calls(means)
        self._write(move, calls, partial(self._split, move, percent, calls))

    def promote(self, move: Move, means: Means) -> None:
        """All weight to the version's variant; where it has none, an update to a configuration with it alone."""
        self._promote(move, means, anyway=False)

    def restore(self, head: Move, means: Means) -> None:
        """As :meth:`promote`, whatever epoch the tags tell."""
        self._promote(head, means, anyway=True)

    def retire(self, move: Move, means: Means) -> None:
        """Update to a configuration without variants that get nothing, and remove what the endpoint uses no more.

        What it uses until that update has ended is removed by the next call, be it at the next release.
        """
        calls = self._calls(means)
        self._write(move, calls, partial(self._without_idle, move, calls))
        sweep(calls, read_endpoint(calls, self._endpoint(move.model)))

    def destroy(self, model: str, environment: str, means: Means) -> None:
        """Delete the endpoint, and configurations, models and archives that were made for it."""
        calls, name = self._calls(means), self._endpoint(model)
        seen = read_endpoint(calls, name)
        if seen is not None:
            self._refuse_foreign(seen, model, environment)
            remove_scaling(calls, name, [one.name for one in seen.variants])
            self._delete(calls, name)
        sweep_all(calls, name, self.bucket, self._container(model, means).folder)

    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        """Serve the version on an endpoint of its own with one instance, look at it, and delete it."""
        _refuse_unknown(move, means)
        plain = {"autoscaling": None, "alarms": (), "data_capture": None, "package_group": "", "instance_count": 1}
        drill = self.model_copy(update={**plain, "endpoint": endpoint_name(f"{self._endpoint(move.model)}{DRILL}")})
        drill.destroy(move.model, move.environment, means)
        try:
            drill.deploy(move, means)
            seen = drill.status(move.model, means)
            for _ in waits(self.update_within.total_seconds()):
                if seen.settled or seen.fault:
                    break
                seen = drill.status(move.model, means)
            if not seen.settled:
                why = seen.fault or seen.detail
                raise RollbackNotReadyError(why, where=f"{move.model} on sagemaker", way_out="see its log group")
            return seen.traffic
        finally:
            drill.destroy(move.model, move.environment, means)

    # --- Reading ---------------------------------------------------------------------------------------------------

    def status(self, model: str, means: Means) -> Serving:
        """What DescribeEndpoint tells, held against what the last move asked for."""
        seen = read_endpoint(self._calls(means), self._endpoint(model))
        if seen is None or seen.status == _DELETING:
            return Serving(
                settled=seen is None, detail="" if seen is None else f"endpoint {seen.name} is {seen.status}"
            )
        self._refuse_foreign(seen, model, None)
        return seen.serving(self.update_within, _now())

    def observe(self, model: str, since: datetime, means: Means) -> Mapping[int, Observation]:
        """What CloudWatch counted, in whole minutes; it comes to know of a minute one to three minutes later."""
        calls = self._calls(means)
        seen = read_endpoint(calls, self._endpoint(model))
        if seen is None:
            return {}
        self._refuse_foreign(seen, model, None)
        begin = max(since, seen.fence.asked) if seen.fence else since
        variants = {one.name: one.version for one in seen.variants if one.version is not None}
        return observed(calls, seen.name, variants, begin, _now())

    # --- What shall be ---------------------------------------------------------------------------------------------

    def _with_variant(self, move: Move, model: str, calls: AmazonCalls, seen: Endpoint | None) -> Wanted:
        """A configuration in which the version has a variant, beside those that get traffic."""
        variant = self._variant(move, model)
        name = variant["VariantName"]
        if seen is None:
            return Wanted({name: ALL}, self._ensure_config(move, [{**variant, "InitialVariantWeight": ALL}], calls))
        present = _variants_of(seen, calls)
        if name in present and present[name]["ModelName"] == model:
            return Wanted(_weights_of(seen, present), seen.coming)
        seen, present, weights = self._at_rest(seen, calls)
        kept = [one for one in present if one in weights or one == name]
        made = [_weighted(variant if one == name else present[one], weights) for one in kept]
        if name not in kept:
            made.append(_weighted(variant, weights))
        return Wanted(weights, self._ensure_config(move, made, calls))

    def _split(self, move: Move, percent: int, calls: AmazonCalls, seen: Endpoint | None) -> Wanted:
        name = variant_name(move.version, move.digest)
        present = _variants_of(seen, calls) if seen is not None else {}
        if seen is None or name not in present:
            raise ServiceRefusedError(
                f"version {move.version} is not deployed",
                where=f"endpoint {self._endpoint(move.model)}",
                way_out="deploy it first; if it was, its update was taken back",
            )
        seen, present, weights = self._at_rest(seen, calls)
        others = sorted((one for one in present if one != name), key=lambda one: weights.get(one, 0))
        shares = {others[-1]: ALL - percent, name: percent} if others else {name: ALL}
        return Wanted({one: share for one, share in shares.items() if share})

    def _promote(self, move: Move, means: Means, *, anyway: bool) -> None:
        calls = self._calls(means)
        before = read_endpoint(calls, self._endpoint(move.model)) if self.package_group else None
        self._write(move, calls, partial(self._alone, move, means, calls), anyway=anyway)
        if move.kind == "rollback" and before is not None:
            back = variant_name(move.version, move.digest)
            mirror_rejected(self.package_group, [one.name for one in before.variants if one.name != back], calls)

    def _alone(self, move: Move, means: Means, calls: AmazonCalls, seen: Endpoint | None) -> Wanted:
        name = variant_name(move.version, move.digest)
        present = _variants_of(seen, calls) if seen is not None and seen.status != _MIXED else {}
        if seen is not None and name in present:
            return Wanted({name: ALL}, seen.coming if set(present) == {name} else "")
        _refuse_unknown(move, means)
        model = ensure_model(self._container(move.model, means), move, calls, means)
        variant = {**self._variant(move, model), "InitialVariantWeight": ALL}
        # Only another configuration than the one whose roll-out failed brings an endpoint out of a mixture.
        salt = str(move.epoch) if seen is not None and seen.status == _MIXED else ""
        return Wanted({name: ALL}, self._ensure_config(move, [variant], calls, salt=salt))

    def _without_idle(self, move: Move, calls: AmazonCalls, seen: Endpoint | None) -> Wanted:
        if seen is None:
            raise ServiceUnavailableError("there is no endpoint", where=self._endpoint(move.model), way_out="deploy")
        seen, present, weights = self._at_rest(seen, calls)
        name = variant_name(move.version, move.digest)
        kept = [one for one in present if one in weights or one == name]
        if len(kept) == len(present):
            return Wanted(weights, seen.coming)
        made = [_weighted(present[one], weights) for one in kept]
        return Wanted(weights, self._ensure_config(move, made, calls))

    def _variant(self, move: Move, model: str) -> dict[str, Any]:
        return {
            "VariantName": variant_name(move.version, move.digest),
            "ModelName": model,
            "InstanceType": self.instance_type,
            "InitialInstanceCount": self.instance_count,
        }

    def _ensure_config(self, move: Move, variants: list[dict[str, Any]], calls: AmazonCalls, *, salt: str = "") -> str:
        """The configuration with these variants: its name ends in a hash of what it says."""
        name = self._endpoint(move.model)
        asked: dict[str, Any] = {"ProductionVariants": variants}
        if self.kms_key:
            asked["KmsKeyId"] = self.kms_key
        if self.data_capture is not None:
            asked["DataCaptureConfig"] = self._capture(name, self.data_capture)
        config = f"{name}-c-{hash_of([asked, salt], 12)}"
        calls.ensure(
            "sagemaker", "create_endpoint_config", EndpointConfigName=config, **asked, Tags=tag_list(dict(self.tags))
        )
        return config

    def _capture(self, name: str, capture: DataCapture) -> dict[str, Any]:
        held = {
            "EnableCapture": True,
            "InitialSamplingPercentage": capture.percent,
            "DestinationS3Uri": f"s3://{self.bucket}/{capture.prefix.strip('/')}/{name}",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
        }
        return {**held, "KmsKeyId": self.kms_key} if self.kms_key else held

    def _container(self, model: str, means: Means) -> Container:
        return Container(
            endpoint=self._endpoint(model),
            image=self.image,
            role_arn=self.role_arn,
            bucket=self.bucket,
            prefix=self.prefix,
            kms_key=self.kms_key,
            subnets=self.network.subnets,
            security_groups=self.network.security_groups,
            isolated=self.network.isolated,
            trusted_types=means.trusted_types,
            tags=dict(self.tags),
        )

    # --- Asking for it ---------------------------------------------------------------------------------------------

    def _write(self, move: Move, calls: AmazonCalls, plan: Plan, *, anyway: bool = False) -> None:
        """Say whose move this is and what it asks for, ask for it, and see that nobody newer came in between."""
        seen = self._admitted(move, calls, anyway=anyway)
        wanted = plan(seen)
        if seen is None:
            seen = self._create(move, wanted, calls)
        for _ in range(_RACES):
            fence = self._claim(move, wanted, seen, calls, anyway=anyway)
            claimed = read_endpoint(calls, seen.name)
            if claimed is not None and fence.asks_as(claimed.fence):
                self._reach(wanted, claimed, calls)
            found = read_fence(calls, seen.arn)
            if claimed is not None and fence.asks_as(claimed.fence) and fence.asks_as(found):
                return
            self._refuse_overtaken(move, found, seen.name, calls)
        raise ServiceUnavailableError(
            "another writer comes in between again and again", where=f"endpoint {seen.name}", way_out="look who it is"
        )

    def _at_rest(
        self, seen: Endpoint, calls: AmazonCalls
    ) -> tuple[Endpoint, dict[str, dict[str, Any]], dict[str, int]]:
        """The endpoint with its variants and their percent, no other configuration being on its way."""
        if seen.coming != seen.config:
            seen = self._idle(seen.name, calls)
        present = _variants_of(seen, calls)
        return seen, present, _weights_of(seen, present)

    def _admitted(self, move: Move, calls: AmazonCalls, *, anyway: bool = False) -> Endpoint | None:
        """The endpoint if this move may write to it, ``None`` if there is none to be had."""
        name = self._endpoint(move.model)
        seen = read_endpoint(calls, name)
        if seen is not None and seen.status != _DELETING:
            self._refuse_foreign(seen, move.model, move.environment)
            if not anyway:
                _refuse_older(seen.fence, move, name)
            if seen.status != _FAILED:
                return seen
        if seen is not None:
            # Nothing but deleting helps an endpoint that failed; it serves nobody.
            self._delete(calls, name)
        return None

    def _create(self, move: Move, wanted: Wanted, calls: AmazonCalls) -> Endpoint:
        name = self._endpoint(move.model)
        tags = {**dict(self.tags), **Fence.of(move, wanted, _now()).tags()}
        calls.ensure(
            "sagemaker", "create_endpoint", EndpointName=name, EndpointConfigName=wanted.config, Tags=tag_list(tags)
        )
        seen = read_endpoint(calls, name)
        if seen is None:
            raise ServiceUnavailableError("it is not there yet", where=f"endpoint {name}", way_out="the next try looks")
        return seen

    def _claim(self, move: Move, wanted: Wanted, seen: Endpoint, calls: AmazonCalls, *, anyway: bool) -> Fence:
        """Have the tags name this move before anything is changed; they stay as they are where they do already."""
        found = read_fence(calls, seen.arn)
        fence = Fence.of(move, wanted, _now())
        if fence.asks_as(found):
            return fence
        if not anyway:
            _refuse_older(found, move, seen.name)
        calls("sagemaker", "add_tags", ResourceArn=seen.arn, Tags=tag_list(fence.tags()))
        return fence

    def _refuse_overtaken(self, move: Move, found: Fence | None, name: str, calls: AmazonCalls) -> None:
        """What was written may have undone what a newer move asked for: it is asked for again.

        :raises StaleEpochError: a newer move is in force.
        """
        if found is None or found.epoch <= move.epoch:
            return
        seen = read_endpoint(calls, name)
        if seen is not None:
            self._reach(found.wanted, seen, calls)
        _refuse_older(found, move, name)

    def _reach(self, wanted: Wanted, seen: Endpoint, calls: AmazonCalls) -> None:
        """Ask SageMaker for what is not there and not on its way; wait a moment where it takes no update."""
        if seen.status == _FAILED:
            return  # The status tells it, and the next write begins anew.
        if wanted.config and seen.coming != wanted.config:
            seen = self._idle(seen.name, calls) if seen.under_way else seen
            if seen.coming != wanted.config:
                self._update(wanted, seen, calls)
                return
        if dict(wanted.weights) == seen.weights or (wanted.config and seen.under_way):
            return
        if seen.under_way:
            seen = self._idle(seen.name, calls)
        if dict(wanted.weights) != seen.weights:
            self._weigh(wanted, seen, calls)

    def _update(self, wanted: Wanted, seen: Endpoint, calls: AmazonCalls) -> None:
        present, coming = _variants_of(seen, calls), _variants(wanted.config, calls)
        remove_scaling(calls, seen.name, [one for one in present if one not in coming])
        guarded: dict[str, Any] = {}
        if self.alarms and set(present) == set(coming):
            # SageMaker's guardrails need the same variants before and after.
            guarded["DeploymentConfig"] = _guardrail(self.alarms)
        calls(
            "sagemaker",
            "update_endpoint",
            EndpointName=seen.name,
            EndpointConfigName=wanted.config,
            # Else each update would take weights and instances back to what they were in the beginning.
            RetainAllVariantProperties=True,
            ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DataCaptureConfig"}],
            **guarded,
        )

    def _weigh(self, wanted: Wanted, seen: Endpoint, calls: AmazonCalls) -> None:
        missing = [one for one in wanted.weights if one not in {variant.name for variant in seen.variants}]
        if missing:
            raise ServiceRefusedError(
                f"there is no variant {', '.join(missing)}",
                where=f"endpoint {seen.name}",
                way_out="its update was taken back; deploy it again",
            )
        if self.autoscaling is not None:
            ensure_scaled(calls, seen.name, [one.name for one in seen.variants], self.autoscaling)
        shares = [
            {"VariantName": one.name, "DesiredWeight": float(wanted.weights.get(one.name, 0))} for one in seen.variants
        ]
        calls(
            "sagemaker",
            "update_endpoint_weights_and_capacities",
            EndpointName=seen.name,
            DesiredWeightsAndCapacities=shares,
        )

    def _idle(self, name: str, calls: AmazonCalls) -> Endpoint:
        """The endpoint once it takes updates again.

        :raises ServiceUnavailableError: it takes longer than a moment.
        """
        seen = read_endpoint(calls, name)
        for _ in waits(PATIENCE_S):
            if seen is None or not seen.under_way:
                break
            seen = read_endpoint(calls, name)
        if seen is not None and not seen.under_way:
            return seen
        raise ServiceUnavailableError(
            f"it is {seen.status if seen else 'gone'}, and takes no update",
            where=f"endpoint {name}",
            way_out="what is wanted stands in its tags; the next try asks for it",
        )

    def _delete(self, calls: AmazonCalls, name: str) -> None:
        """Delete the endpoint and see that it is gone.

        :raises ServiceUnavailableError: it takes longer than a moment; the next try goes on.
        """
        seen = read_endpoint(calls, name)
        if seen is not None and seen.status != _DELETING:
            try:
                calls.remove("sagemaker", "delete_endpoint", EndpointName=name)
            except ServiceUnavailableError:
                self._idle(name, calls)
                calls.remove("sagemaker", "delete_endpoint", EndpointName=name)
        for _ in waits(_GONE_S):
            if calls.find("sagemaker", "describe_endpoint", EndpointName=name) is None:
                return
        raise ServiceUnavailableError(
            "it is still being deleted", where=f"endpoint {name}", way_out="the next try looks"
        )

    def _refuse_foreign(self, seen: Endpoint, model: str, environment: str | None) -> None:
        fence, where = seen.fence, f"endpoint {seen.name}"
        if fence is None or fence.model != model or not all(version_in(one.name) for one in seen.variants):
            whose = (
                f"serves the model {fence.model!r}" if fence and fence.model != model else "was made by somebody else"
            )
            raise TargetRefusedError(f"it {whose}", where=where, way_out="name another: deployment: {endpoint: ...}")
        if environment is not None and fence.environment != environment:
            raise TargetRefusedError(
                f"it belongs to the environment {fence.environment!r}, not {environment!r}",
                where=where,
                way_out=f"give each environment an account, or an endpoint such as {seen.name}-{environment}",
            )

    def _endpoint(self, model: str) -> str:
        return self.endpoint or endpoint_name(model)

    def _calls(self, means: Means) -> AmazonCalls:
        return AmazonCalls(lambda service: means.client(service, self.aws_conn_id), f"connection {self.aws_conn_id!r}")


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _variants_of(seen: Endpoint, calls: AmazonCalls) -> dict[str, dict[str, Any]]:
    return _variants(seen.coming, calls)


def _variants(config: str, calls: AmazonCalls) -> dict[str, dict[str, Any]]:
    """Of a configuration, as it was asked for, by name."""
    found = calls("sagemaker", "describe_endpoint_config", EndpointConfigName=config)
    return {one["VariantName"]: one for one in found["ProductionVariants"]}


def _weights_of(seen: Endpoint, present: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Percent by variant; of an endpoint that is being made, those that it will begin with."""
    return seen.weights or percents({name: float(one["InitialVariantWeight"]) for name, one in present.items()})


def _weighted(variant: Mapping[str, Any], weights: Mapping[str, int]) -> dict[str, Any]:
    return {**variant, "InitialVariantWeight": weights.get(variant["VariantName"], 0)}


def _guardrail(alarms: tuple[str, ...]) -> dict[str, Any]:
    """All traffic at once to the other fleet, and back if an alarm rings within ten minutes."""
    bake_s = 600
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
            "TerminationWaitInSeconds": bake_s,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": one} for one in alarms]},
    }


def _refuse_older(fence: Fence | None, move: Move, name: str) -> None:
    if fence is not None and fence.epoch > move.epoch:
        raise StaleEpochError(
            f"a newer move is in force: epoch {fence.epoch}, not {move.epoch}",
            where=f"endpoint {name}",
            way_out="release anew; if the ledger was replaced by an older one, restore it",
        )


def _refuse_unknown(move: Move, means: Means) -> None:
    if means.registry.version(move.model, move.version) is None:
        raise ServiceRefusedError(
            f"there is no version {move.version}",
            where=f"{move.model} in the registry",
            way_out="it was deleted; restore it, or release another one",
        )
