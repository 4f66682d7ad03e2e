"""The assets that join the DAGs of one model, and nothing else does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.core.contracts import MonitoringResponse

GROUP = "ml-lifecycle"


def candidate_asset(model: str) -> Asset:
    """A version was registered and may be released: ``{model, version, digest, reason}``."""
    return _asset(model, "candidate")


def champion_asset(model: str) -> Asset:
    """Another version serves: ``{model, version, digest, epoch, kind}``."""
    return _asset(model, "champion")


def scored_asset(model: str) -> Asset:
    """A partition's predictions were published: ``{model, partition, version, rows}``."""
    return _asset(model, "scored")


def retrain_asset(model: str) -> Asset:
    """Monitoring asks for a training: ``{model, observed, reason, excluded}``.

    ``observed`` is the partition it looked at, ``excluded`` are those whose data was refused.
    """
    return _asset(model, "retrain")


def rollback_wanted_asset(model: str) -> Asset:
    """Monitoring asks for a rollback: ``{model, observed, reason, epoch, version}``.

    ``epoch`` is the one whose champion is to go: no other one is rolled back. ``version`` is the one to go back to.
    """
    return _asset(model, "rollback_wanted")


def announce_response(context: Context, response: MonitoringResponse) -> None:
    """Ask for what monitoring's response calls for: a retraining, a rollback, or nothing."""
    extra: dict[str, Any] = {
        "model": response.model,
        # Not as "partition": what is trained on is the newest data with labels, not the data that drifted.
        "observed": response.partition,
        "reason": response.reason,
    }
    retrain, rollback = retrain_asset(response.model), rollback_wanted_asset(response.model)
    wanted = {
        "retrain": (retrain, {**extra, "excluded": list(response.excluded)}),
        "rollback": (rollback, {**extra, "epoch": response.epoch, "version": response.back_to}),
    }.get(response.action)
    if wanted is not None:
        announce(context, *wanted)
    # A task that succeeds emits all its outlets, also those that nobody said anything to: a retraining must not ask for
    # a rollback as well. What a task has as outlets when it ends is what Airflow takes.
    unwanted = [asset for asset in (retrain, rollback) if wanted is None or asset != wanted[0]]
    context["task"].outlets = [outlet for outlet in context["task"].outlets if outlet not in unwanted]


def announce(context: Context, asset: Asset, extra: dict[str, Any]) -> None:
    """Say what happened, to whichever DAG waits for the asset; nothing where the task does not emit it."""
    if asset in context["task"].outlets:
        context["outlet_events"][asset].extra = extra


def newest_event(context: Context) -> dict[str, Any]:
    """What the newest of the asset events that started the run says: events coalesce and arrive unordered."""
    by_asset = context.get("triggering_asset_events") or {}
    events = [event for asset in by_asset for event in by_asset[asset]]
    if not events:
        return {}
    newest = max(events, key=lambda event: (event.timestamp, event.extra.get("version") or 0))
    return dict(newest.extra)


def _asset(model: str, what: str) -> Asset:
    # Without a uri: Airflow would look its scheme up, and import every provider that handles one.
    return Asset(name=f"{model}_{what}", group=GROUP)
