"""Serving by an endpoint of Amazon SageMaker with two production variants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls, waits
from ml_lifecycle.backends.deployment.base import ALL, Means, Serving, SplittingTarget
from ml_lifecycle.backends.deployment.fence import refuse_unknown
from ml_lifecycle.backends.deployment.sagemaker_endpoint import (
    DELETING,
    MIXED,
    NAME_LIMIT,
    Endpoint,
    Wanted,
    endpoint_name,
    variant_name,
    variants_of,
    weights_of,
)
from ml_lifecycle.backends.deployment.sagemaker_metrics import observed
from ml_lifecycle.backends.deployment.sagemaker_model import Container, ensure_model, hash_of, tag_list
from ml_lifecycle.backends.deployment.sagemaker_registry import mirror_approved, mirror_rejected
from ml_lifecycle.backends.deployment.sagemaker_scaling import Autoscaling, remove_scaling
from ml_lifecycle.backends.deployment.sagemaker_sweep import sweep, sweep_all
from ml_lifecycle.backends.deployment.sagemaker_writer import EndpointWriter
from ml_lifecycle.core.contracts import Move, Observation
from ml_lifecycle.core.errors import RollbackNotReadyError, ServiceRefusedError
from ml_lifecycle.core.values import StoredDuration

DRILL: Final = "-drill"
"""End of the name of the endpoint that rehearsals use."""

_ARN: Final = r"^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$"
_PREFIX: Final = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"
_BUCKET: Final = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"

TagKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9 _.:/=+@-]{1,128}$")]
TagValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9 _.:/=+@-]{0,256}$")]


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
    tags: tuple[tuple[TagKey, TagValue], ...] = Field(default=(), max_length=40)
    """Beside the product's own, on everything that is made."""
    update_within: StoredDuration = timedelta(hours=1)
    """How long an update may take before it counts as stuck."""

    @field_validator("tags", mode="before")
    @classmethod
    def _paired(cls, tags: Any) -> Any:
        pairs = list(tags.items()) if isinstance(tags, Mapping) else tags
        return tuple(sorted((tuple(pair) for pair in pairs), key=str)) if isinstance(pairs, list | tuple) else tags

    # --- Writing ---------------------------------------------------------------------------------------------------

    def deploy(self, move: Move, means: Means) -> None:
        """Make the version's model, and an endpoint, or an update of it, that has a variant for it.

        On a new endpoint it is the only variant, and SageMaker sends it whatever is asked.
        """
        writer = self._writer(move.model, means)
        writer.admitted(move)
        refuse_unknown(move, means.registry)
        model = ensure_model(self._container(move.model, means), move, writer.calls, means)
        if self.package_group:
            mirror_approved(self.package_group, move, model, writer.calls, dict(self.tags))
        writer.write(move, partial(self._with_variant, move, model, writer))

    def set_split(self, move: Move, percent: int, means: Means) -> None:
        """Set the weights of two variants; SageMaker takes seconds for it."""
        if not 0 <= percent <= ALL:
            raise ServiceRefusedError(f"{percent} is no percentage", where=move.model, way_out="take 0 to 100")
        writer = self._writer(move.model, means)
        writer.write(move, partial(self._split, move, percent, writer))

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
        writer = self._writer(move.model, means)
        writer.write(move, partial(self._without_idle, move, writer))
        sweep(writer.calls, writer.read())

    def destroy(self, model: str, environment: str, means: Means) -> None:
        """Delete the endpoint, and configurations, models and archives that were made for it."""
        writer = self._writer(model, means)
        seen = writer.read()
        if seen is not None:
            writer.refuse_foreign(seen, environment)
            remove_scaling(writer.calls, seen.name, [one.name for one in seen.variants])
            writer.delete()
        sweep_all(writer.calls, writer.name, self.bucket, self._container(model, means).folder)

    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        """Serve the version on an endpoint of its own with one instance, look at it, and delete it."""
        refuse_unknown(move, means.registry)
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
        writer = self._writer(model, means)
        seen = writer.read()
        if seen is None:
            return Serving()
        if seen.status == DELETING:
            return Serving(settled=False, detail=f"endpoint {seen.name} is {seen.status}")
        writer.refuse_foreign(seen)
        return seen.serving(self.update_within, _now())

    def observe(self, model: str, since: datetime, means: Means) -> Mapping[int, Observation]:
        """What CloudWatch counted, in whole minutes; it comes to know of a minute one to three minutes later."""
        writer = self._writer(model, means)
        seen = writer.read()
        if seen is None:
            return {}
        writer.refuse_foreign(seen)
        begin = max(since, seen.fence.asked) if seen.fence else since
        variants = {one.name: one.version for one in seen.variants if one.version is not None}
        return observed(writer.calls, seen.name, variants, begin, _now())

    # --- What shall be ---------------------------------------------------------------------------------------------

    def _with_variant(self, move: Move, model: str, writer: EndpointWriter, seen: Endpoint | None) -> Wanted:
        """A configuration in which the version has a variant, beside those that get traffic."""
        variant = self._variant(move, model)
        name = variant["VariantName"]
        if seen is None:
            return Wanted({name: ALL}, self._ensure_config([{**variant, "InitialVariantWeight": ALL}], writer))
        present = variants_of(writer.calls, seen.coming)
        if name in present and present[name]["ModelName"] == model:
            return Wanted(weights_of(seen, present), seen.coming)
        seen, present, weights = writer.at_rest(seen)
        kept = [one for one in present if one in weights or one == name]
        made = [_weighted(variant if one == name else present[one], weights) for one in kept]
        if name not in kept:
            made.append(_weighted(variant, weights))
        return Wanted(weights, self._ensure_config(made, writer))

    def _split(self, move: Move, percent: int, writer: EndpointWriter, seen: Endpoint | None) -> Wanted:
        name = variant_name(move.version, move.digest)
        present = variants_of(writer.calls, seen.coming) if seen is not None else {}
        if seen is None or name not in present:
            raise ServiceRefusedError(
                f"version {move.version} is not deployed",
                where=writer.where,
                way_out="deploy it first; if it was, its update was taken back",
            )
        seen, present, weights = writer.at_rest(seen)
        others = sorted((one for one in present if one != name), key=lambda one: weights.get(one, 0))
        shares = {others[-1]: ALL - percent, name: percent} if others else {name: ALL}
        return Wanted({one: share for one, share in shares.items() if share})

    def _promote(self, move: Move, means: Means, *, anyway: bool) -> None:
        writer = self._writer(move.model, means)
        before = writer.read() if self.package_group else None
        writer.write(move, partial(self._alone, move, means, writer), anyway=anyway)
        if move.kind == "rollback" and before is not None:
            back = variant_name(move.version, move.digest)
            mirror_rejected(self.package_group, [one.name for one in before.variants if one.name != back], writer.calls)

    def _alone(self, move: Move, means: Means, writer: EndpointWriter, seen: Endpoint | None) -> Wanted:
        name = variant_name(move.version, move.digest)
        if seen is not None and seen.coming != seen.config and name not in {one.name for one in seen.variants}:
            # It may come with an update that is under way, and be taken back with it.
            seen = writer.at_rest(seen)[0]
        present = variants_of(writer.calls, seen.coming) if seen is not None and seen.status != MIXED else {}
        if seen is not None and name in present:
            return Wanted({name: ALL}, seen.coming if set(present) == {name} else "")
        refuse_unknown(move, means.registry)
        model = ensure_model(self._container(move.model, means), move, writer.calls, means)
        variant = {**self._variant(move, model), "InitialVariantWeight": ALL}
        # Only another configuration than the one whose roll-out failed brings an endpoint out of a mixture.
        salt = str(move.epoch) if seen is not None and seen.status == MIXED else ""
        return Wanted({name: ALL}, self._ensure_config([variant], writer, salt=salt))

    def _without_idle(self, move: Move, writer: EndpointWriter, seen: Endpoint | None) -> Wanted:
        if seen is None:
            raise ServiceRefusedError("there is no endpoint", where=writer.where, way_out="deploy it first")
        seen, present, weights = writer.at_rest(seen)
        name = variant_name(move.version, move.digest)
        kept = [one for one in present if one in weights or one == name]
        if len(kept) == len(present):
            return Wanted(weights, seen.coming)
        made = [_weighted(present[one], weights) for one in kept]
        return Wanted(weights, self._ensure_config(made, writer))

    def _variant(self, move: Move, model: str) -> dict[str, Any]:
        return {
            "VariantName": variant_name(move.version, move.digest),
            "ModelName": model,
            "InstanceType": self.instance_type,
            "InitialInstanceCount": self.instance_count,
        }

    def _ensure_config(self, variants: list[dict[str, Any]], writer: EndpointWriter, *, salt: str = "") -> str:
        """The configuration with these variants: its name ends in a hash of what it says."""
        name = writer.name
        asked: dict[str, Any] = {"ProductionVariants": variants}
        if self.kms_key:
            asked["KmsKeyId"] = self.kms_key
        if self.data_capture is not None:
            asked["DataCaptureConfig"] = self._capture(name, self.data_capture)
        config = f"{name}-c-{hash_of([asked, salt], 12)}"
        writer.calls.ensure(
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

    def _endpoint(self, model: str) -> str:
        return self.endpoint or endpoint_name(model)

    def _writer(self, model: str, means: Means) -> EndpointWriter:
        where = f"connection {self.aws_conn_id!r}"
        return EndpointWriter(
            calls=AmazonCalls(lambda service: means.client(service, self.aws_conn_id), where),
            name=self._endpoint(model),
            model=model,
            tags=dict(self.tags),
            alarms=self.alarms,
            autoscaling=self.autoscaling,
            clock=_now,
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _weighted(variant: Mapping[str, Any], weights: Mapping[str, int]) -> dict[str, Any]:
    return {**variant, "InitialVariantWeight": weights.get(variant["VariantName"], 0)}
