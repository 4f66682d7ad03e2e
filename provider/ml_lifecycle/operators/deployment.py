"""A decision in, a moved champion out; and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from ml_lifecycle.core.contracts import Stream
from ml_lifecycle.hooks.tasks import Handed
from ml_lifecycle.links import MlflowVersionLink, remember_version
from ml_lifecycle.operators.assets import announce, champion_asset
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.core.contracts import Deployment
    from ml_lifecycle.stages.runner import Tools

ALIAS_TARGET: Mapping[str, Any] = {"backend": "alias"}


class _MovesChampion(LifecycleOperator):
    """Emits the ``champion`` asset once another version serves."""

    operator_extra_links = (MlflowVersionLink(),)

    def __init__(self, *, model: str, target: Mapping[str, Any] = ALIAS_TARGET, **kwargs: Any) -> None:
        super().__init__(model=model, **{"outlets": [champion_asset(model)], **kwargs})
        self.target = target

    def _announced(self, deployment: Deployment, context: Context, tools: Tools) -> dict[str, Any]:
        move = deployment.champion
        remember_version(self, move.model, move.version, tools)
        extra = {"version": move.version, "digest": move.digest, "epoch": move.epoch, "kind": move.kind}
        announce(context, champion_asset(self.model), {"model": self.model, **extra})
        return deployment.to_xcom()


class DeployModelOperator(_MovesChampion):
    """Carry an approval out; returns a ``Deployment``. What counts is the ledger's decision, not the one handed over.

    The task is skipped where the decision was no.

    :param decision: What :class:`~ml_lifecycle.operators.approval.ApproveModelOperator` returned.
    :param target: ``{"backend": "alias", ...}``: where models serve, and its options.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "decision")
    stream: Stream = "release"

    def __init__(self, *, decision: Handed, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decision = decision

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What serves, as plain JSON."""
        from ml_lifecycle.stages import deployment

        job = self.job(
            deployment.DeploymentJob,
            request=self.resolved(context, tools),
            decision=self.decision,
            target=dict(self.target),
        )
        deployed = self.conclude(deployment.deploy, job, tools)
        if deployed is None:
            reason = f": {job.decision.reason}" if job.decision.reason else ""
            raise AirflowSkipException(f"rejected by {job.decision.decided_by}{reason}")
        return self._announced(deployed, context, tools)


class RollbackModelOperator(_MovesChampion):
    """Make the previous champion serve again; returns a ``Deployment``. Clearing the task moves nothing twice.

    :param target: ``{"backend": "alias", ...}``: where models serve, and its options.
    """

    stream: Stream = "rollback"

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What serves, as plain JSON."""
        from ml_lifecycle.stages import deployment

        job = self.job(deployment.RollbackJob, request=self.resolved(context, tools), target=dict(self.target))
        return self._announced(self.conclude(deployment.roll_back, job, tools), context, tools)
