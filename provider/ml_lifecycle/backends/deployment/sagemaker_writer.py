"""Writing to a SageMaker endpoint: whose move it is first, then what it asks for, then a look who else was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from ml_lifecycle.backends.deployment.amazon_calls import PATIENCE_S, AmazonCalls, waits
from ml_lifecycle.backends.deployment.fence import refuse_foreign, refuse_older
from ml_lifecycle.backends.deployment.sagemaker_endpoint import (
    DELETING,
    FAILED,
    Endpoint,
    Fence,
    Wanted,
    read_endpoint,
    read_fence,
    variants_of,
    version_in,
    weights_of,
)
from ml_lifecycle.backends.deployment.sagemaker_model import tag_list
from ml_lifecycle.backends.deployment.sagemaker_scaling import Autoscaling, ensure_scaled, remove_scaling
from ml_lifecycle.core.contracts import Move
from ml_lifecycle.core.errors import ServiceRefusedError, ServiceUnavailableError, TargetRefusedError

Plan: TypeAlias = "Callable[[Endpoint | None], Wanted]"
"""What shall be, given what is."""

_RACES: Final = 3
_GONE_S: Final = 180.0
_BAKE_S: Final = 600


@dataclass(frozen=True)
class EndpointWriter:
    """One endpoint, as one model's target writes to it."""

    calls: AmazonCalls
    name: str
    model: str
    tags: Mapping[str, str]
    """Of a new endpoint, beside the product's own."""
    alarms: tuple[str, ...]
    autoscaling: Autoscaling | None
    clock: Callable[[], datetime]

    @property
    def where(self) -> str:
        """What an error is about."""
        return f"endpoint {self.name}"

    def read(self) -> Endpoint | None:
        """The endpoint at this moment; ``None`` where there is none."""
        return read_endpoint(self.calls, self.name)

    def write(self, move: Move, plan: Plan, *, anyway: bool = False) -> None:
        """Say whose move this is and what it asks for, ask for it, and see that nobody newer came in between."""
        seen = self.admitted(move, anyway=anyway)
        wanted = plan(seen)
        if seen is None:
            seen = self._create(move, wanted)
        for _ in range(_RACES):
            fence = self._claim(move, wanted, seen, anyway=anyway)
            claimed = self.read()
            if claimed is not None and fence.asks_as(claimed.fence):
                self._reach(wanted, claimed)
            found = read_fence(self.calls, seen.arn)
            if claimed is not None and fence.asks_as(claimed.fence) and fence.asks_as(found):
                return
            self._refuse_overtaken(move, found)
        raise ServiceUnavailableError(
            "another writer comes in between again and again", where=self.where, way_out="look who it is"
        )

    def at_rest(self, seen: Endpoint) -> tuple[Endpoint, dict[str, dict[str, Any]], dict[str, int]]:
        """The endpoint with its variants and their percent, no other configuration being on its way."""
        if seen.coming != seen.config:
            seen = self._idle()
        present = variants_of(self.calls, seen.coming)
        return seen, present, weights_of(seen, present)

    def admitted(self, move: Move, *, anyway: bool = False) -> Endpoint | None:
        """The endpoint if this move may write to it, ``None`` if there is none to be had."""
        seen = self.read()
        if seen is not None and seen.status != DELETING:
            self.refuse_foreign(seen, move.environment)
            if not anyway:
                self._refuse_older(seen.fence, move)
            if seen.status != FAILED:
                return seen
        if seen is not None:
            # Nothing but deleting helps an endpoint that failed; it serves nobody.
            self.delete()
        return None

    def _create(self, move: Move, wanted: Wanted) -> Endpoint:
        tags = {**self.tags, **Fence.of(move, wanted, self.clock()).tags()}
        self.calls.ensure(
            "sagemaker",
            "create_endpoint",
            EndpointName=self.name,
            EndpointConfigName=wanted.config,
            Tags=tag_list(tags),
        )
        seen = self.read()
        if seen is None:
            raise ServiceUnavailableError("it is not there yet", where=self.where, way_out="the next try looks")
        return seen

    def _claim(self, move: Move, wanted: Wanted, seen: Endpoint, *, anyway: bool) -> Fence:
        """Have the tags name this move before anything is changed; they stay as they are where they do already."""
        found = read_fence(self.calls, seen.arn)
        fence = Fence.of(move, wanted, self.clock())
        if fence.asks_as(found):
            return fence
        if not anyway:
            self._refuse_older(found, move)
        self.calls("sagemaker", "add_tags", ResourceArn=seen.arn, Tags=tag_list(fence.tags()))
        return fence

    def _refuse_overtaken(self, move: Move, found: Fence | None) -> None:
        """What was written may have undone what a newer move asked for: it is asked for again.

        :raises StaleEpochError: a newer move is in force.
        """
        if found is None or found.epoch <= move.epoch:
            return
        seen = self.read()
        if seen is not None:
            self._reach(found.wanted, seen)
        self._refuse_older(found, move)

    def _reach(self, wanted: Wanted, seen: Endpoint) -> None:
        """Ask SageMaker for what is not there and not on its way; wait a moment where it takes no update."""
        if seen.status == FAILED:
            return  # The status tells it, and the next write begins anew.
        if wanted.config and seen.coming != wanted.config:
            seen = self._idle() if seen.under_way else seen
            if seen.coming != wanted.config:
                self._update(wanted, seen)
                return
        if dict(wanted.weights) == seen.weights or (wanted.config and seen.under_way):
            return
        if seen.under_way:
            seen = self._idle()
        if dict(wanted.weights) != seen.weights:
            self._weigh(wanted, seen)

    def _update(self, wanted: Wanted, seen: Endpoint) -> None:
        present, coming = variants_of(self.calls, seen.coming), variants_of(self.calls, wanted.config)
        remove_scaling(self.calls, self.name, [one for one in present if one not in coming])
        guarded: dict[str, Any] = {}
        if self.alarms and set(present) == set(coming):
            # SageMaker's guardrails need the same variants before and after.
            guarded["DeploymentConfig"] = _guardrail(self.alarms)
        self.calls(
            "sagemaker",
            "update_endpoint",
            EndpointName=self.name,
            EndpointConfigName=wanted.config,
            # Else each update would take weights and instances back to what they were in the beginning.
            RetainAllVariantProperties=True,
            ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DataCaptureConfig"}],
            **guarded,
        )

    def _weigh(self, wanted: Wanted, seen: Endpoint) -> None:
        missing = [one for one in wanted.weights if one not in {variant.name for variant in seen.variants}]
        if missing:
            raise ServiceRefusedError(
                f"there is no variant {', '.join(missing)}",
                where=self.where,
                way_out="its update was taken back; deploy it again",
            )
        if self.autoscaling is not None:
            ensure_scaled(self.calls, self.name, [one.name for one in seen.variants], self.autoscaling)
        shares = [
            {"VariantName": one.name, "DesiredWeight": float(wanted.weights.get(one.name, 0))} for one in seen.variants
        ]
        self.calls(
            "sagemaker",
            "update_endpoint_weights_and_capacities",
            EndpointName=self.name,
            DesiredWeightsAndCapacities=shares,
        )

    def _idle(self) -> Endpoint:
        """The endpoint once it takes updates again.

        :raises ServiceUnavailableError: it takes longer than a moment.
        """
        seen = self.read()
        for _ in waits(PATIENCE_S):
            if seen is None or not seen.under_way:
                break
            seen = self.read()
        if seen is not None and not seen.under_way:
            return seen
        raise ServiceUnavailableError(
            f"it is {seen.status if seen else 'gone'}, and takes no update",
            where=self.where,
            way_out="what is wanted stands in its tags; the next try asks for it",
        )

    def delete(self) -> None:
        """Delete the endpoint and see that it is gone.

        :raises ServiceUnavailableError: it takes longer than a moment; the next try goes on.
        """
        seen = self.read()
        if seen is not None and seen.status != DELETING:
            try:
                self.calls.remove("sagemaker", "delete_endpoint", EndpointName=self.name)
            except ServiceUnavailableError:
                self._idle()
                self.calls.remove("sagemaker", "delete_endpoint", EndpointName=self.name)
        for _ in waits(_GONE_S):
            if self.calls.find("sagemaker", "describe_endpoint", EndpointName=self.name) is None:
                return
        raise ServiceUnavailableError("it is still being deleted", where=self.where, way_out="the next try looks")

    def refuse_foreign(self, seen: Endpoint, environment: str | None = None) -> None:
        """Refuse an endpoint that is not this model's.

        :param environment: Whose it has to be; ``None`` for whoever only reads.
        :raises TargetRefusedError: somebody else made it, or it belongs to another model or environment.
        """
        fence = seen.fence
        if fence is None or fence.model != self.model or not all(version_in(one.name) for one in seen.variants):
            other = fence is not None and fence.model != self.model
            whose = f"serves the model {fence.model!r}" if fence and other else "was made by somebody else"
            raise TargetRefusedError(f"it {whose}", where=self.where, way_out="name another as deployment.endpoint")
        if environment is not None:
            refuse_foreign(fence.environment, environment, where=self.where)

    def _refuse_older(self, fence: Fence | None, move: Move) -> None:
        if fence is not None:
            refuse_older(move, environment=fence.environment, epoch=fence.epoch, where=self.where)


def _guardrail(alarms: tuple[str, ...]) -> dict[str, Any]:
    """All traffic at once to the other fleet, and back if an alarm rings within ten minutes."""
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
            "TerminationWaitInSeconds": _BAKE_S,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": one} for one in alarms]},
    }
