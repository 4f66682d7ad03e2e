"""Which shares of traffic can be set in a cluster, and what went wrong there."""

from __future__ import annotations

from ml_lifecycle.backends.deployment.base import ALL, Serving
from ml_lifecycle.backends.deployment.kserve_objects import (
    ENVIRONMENT,
    SPEC,
    Fence,
    Seen,
    failure_of,
    is_ready,
    why_not_routed,
)
from ml_lifecycle.backends.deployment.kube import Manifest


def owner_of(seen: Seen) -> str:
    """Whose place it is: as the route says, else as what is left of an earlier one does."""
    if seen.fence is not None:
        return seen.fence.environment
    owners = [one["metadata"].get("annotations", {}).get(ENVIRONMENT, "") for one in seen.services.values()]
    return next((owner for owner in owners if owner), "")


def wanting(fence: Fence, wanted: dict[int, int]) -> Fence:
    """The fence with other shares wanted."""
    return fence.model_copy(update={"wanted": wanted})


def without_previous(fence: Fence) -> Fence:
    """The fence without a version to go back to, unless it still gets traffic."""
    return fence if fence.previous in fence.wanted else fence.model_copy(update={"previous": None})


def written_in(manifest: Manifest | None) -> str | None:
    """Digest of a spec as it was written here; a cluster adds to what it stores."""
    return None if manifest is None else manifest["metadata"].get("annotations", {}).get(SPEC)


def possible_shares(fence: Fence, seen: Seen) -> dict[int, int]:
    """The shares that can be set: what is wanted once all of it is ready, until then as they are."""
    # What is left after a fault has a share already: whether it is ready changes nothing for it.
    there = set(seen.shares) & set(seen.services) if fence.fault else set(seen.ready)
    if fence.wanted and set(fence.wanted) <= there:
        return dict(fence.wanted)
    return answering_shares(seen)


def answering_shares(seen: Seen) -> dict[int, int]:
    """The shares of what is still there; whatever was removed answers nobody, so the largest of the rest does."""
    left = {version: percent for version, percent in seen.shares.items() if version in seen.services}
    if not left or left == dict(seen.shares):
        return left
    return {max(left, key=lambda version: (left[version], -version)): ALL}


def judged(fence: Fence, seen: Seen) -> Fence:
    """The fence with what went wrong, and with nothing wanted for the version that it is about."""
    fault = fence.fault or _fault(fence, seen)
    if not fault or fence.fault:
        return fence
    failed = {one for one in {fence.version, *fence.wanted} if one not in seen.services} or {fence.version}
    left = {version: percent for version, percent in seen.shares.items() if version not in failed}
    wanted = {max(left, key=lambda version: (left[version], -version)): ALL} if left else dict(fence.wanted)
    return fence.model_copy(update={"fault": fault, "wanted": wanted})


def _fault(fence: Fence, seen: Seen) -> str:
    for version in sorted({fence.version, *fence.wanted}):
        if version not in seen.services and version in seen.shares:
            return f"the InferenceService of version {version} is gone: somebody removed it"
    service = seen.services.get(fence.version)
    if service is None:
        return ""
    if failed := failure_of(service):
        return f"version {fence.version}: {failed}"
    if len(seen.shares) > 1 and fence.version in seen.shares and not is_ready(service):
        return f"version {fence.version} is not ready any longer"
    return ""


def serving_of(seen: Seen, fence: Fence) -> Serving:
    """What stands there, in every target's words."""
    waiting = sorted({fence.version, *fence.wanted} - set(seen.ready))
    unrouted = why_not_routed(seen.route) if seen.route is not None else "there is no route"
    shifted = dict(seen.shares) == fence.wanted
    named = f"version {', '.join(map(str, waiting))} is not ready" if waiting else ""
    return Serving(
        traffic=dict(seen.shares),
        epoch=fence.epoch,
        environment=fence.environment,
        ready=seen.ready,
        settled=shifted and not (waiting or unrouted or fence.fault),
        fault=fence.fault,
        detail=named or unrouted or ("" if shifted else "the shares are being set"),
    )
