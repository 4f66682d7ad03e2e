"""A decision in, a moved champion out; and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from ml_lifecycle.core.contracts import Contract, Decision, GateRule, MeasurementSpec, RunRequest, Stream, Verdict
from ml_lifecycle.core.deployment import DEFAULT_TARGET
from ml_lifecycle.core.errors import (
    ConfigurationError,
    NoDecisionError,
    RollbackNotReadyError,
    RollbackOutdatedError,
    ServiceUnavailableError,
)
from ml_lifecycle.core.evaluation import policy_digest
from ml_lifecycle.hooks.tasks import Handed, parse, plain_errors
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.links import MlflowVersionLink, remember_version
from ml_lifecycle.operators.assets import announce, champion_asset
from ml_lifecycle.operators.base import LifecycleOperator
from ml_lifecycle.triggers import StatusTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.core.contracts import Deployment
    from ml_lifecycle.stages.release_right import DeploymentJob
    from ml_lifecycle.stages.runner import Tools

ANSWERS = "ml_lifecycle.sensors.approval:look_at_answers"
LOOK_EVERY_S = 2.0
LONGEST_LOOK = timedelta(minutes=5)
"""After which a try that could not read Airflow's record of the answers fails, and the next one reads it."""


class _MovesChampion(LifecycleOperator):
    """Emits the ``champion`` asset once another version serves."""

    operator_extra_links = (MlflowVersionLink(),)

    def __init__(self, *, model: str, target: Mapping[str, Any] = DEFAULT_TARGET, **kwargs: Any) -> None:
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

    The task is skipped where the decision was no. Where people answered in Airflow, the triggerer first reads what
    Airflow records of their answers: a rejection that the ledger does not know takes the approval away.

    :param decision: What :class:`~ml_lifecycle.operators.approval.ApproveModelOperator` returned.
    :param target: ``{"backend": "alias", ...}``: where models serve, and its options.
    :param rules: The gate's rules as the pipeline says them at this moment: an approval under others is refused. Left
        out, the rules under which it was approved are not compared with any.
    :param measurement: How the gate's metrics are measured and bounded at this moment: it is part of the rules.
    :param required: When the pipeline asks a person, as it says at this moment: under ``always``, policy's own approval
        is refused. Left out, it counts.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "decision")
    stream: Stream = "release"

    def __init__(
        self,
        *,
        decision: Handed,
        rules: Sequence[Mapping[str, Any]] | None = None,
        measurement: Mapping[str, Any] | None = None,
        required: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.rules = rules
        self.measurement = measurement
        self.required = required

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What serves, as plain JSON.

        :raises TaskDeferred: people answered in Airflow, whose record is read first.
        """
        job = self._job(context, tools)
        showings = [posting.ti_id for posting in tools.ledger.postings(job.decision.ask.ask_id) if posting.ti_id]
        if showings:
            deadline = datetime.now(timezone.utc) + LONGEST_LOOK
            self.defer(
                trigger=StatusTrigger(
                    probe=ANSWERS,
                    arguments={"showings": showings},
                    interval_s=LOOK_EVERY_S,
                    deadline=deadline.isoformat(),
                ),
                method_name="execute_complete",
                # Ends the wait where no triggerer runs.
                timeout=2 * LONGEST_LOOK,
            )
        return self._deployed(job, context, tools)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Carry the approval out, unless Airflow's record of the answers contradicts it."""
        with plain_errors(self.log):
            if event["status"] != "ready":
                raise ServiceUnavailableError(
                    f"Airflow's record of the answers could not be read: {event['seen']}",
                    where=f"task {self.task_id!r}",
                    way_out="check the triggerer's log",
                )
            recorded: Mapping[str, str | None] = event["value"]
            tools = replace(tools_for(context), answers=lambda posting: recorded.get(posting.ti_id))
            return self._deployed(self._job(context, tools), context, tools)

    def _job(self, context: Context, tools: Tools) -> DeploymentJob:
        from ml_lifecycle.stages.release_right import DeploymentJob

        gate = None if self.rules is None else self.job(_Gate, rules=self.rules, spec=self.measurement or {})
        request = self.resolved(context, tools)
        return self.job(
            DeploymentJob,
            request=request,
            decision=self._handed(request, tools),
            target=dict(self.target),
            policy_digest=None if gate is None else policy_digest(gate.rules, gate.spec),
            required=self.required,
        )

    def _handed(self, request: RunRequest, tools: Tools) -> Decision:
        """The decision that was handed over.

        :raises NoDecisionError: none was: the task before was marked as successful, or its result was edited.
        """
        try:
            return parse(Decision, self.decision, task_id=self.task_id)
        except ConfigurationError as error:
            refusal = NoDecisionError(
                f"no decision was handed over ({error.what})",
                where=f"task {self.task_id!r}",
                way_out="answer the question: marking its task as successful decides nothing",
            )
            by = request.requester or tools.run
            tools.ledger.record_refusal(
                self.model, tools.environment, action="release", by=by, why=str(refusal), at=tools.clock()
            )
            raise refusal from None

    def _deployed(self, job: DeploymentJob, context: Context, tools: Tools) -> dict[str, Any]:
        from ml_lifecycle.stages import deployment

        deployed = self.conclude(deployment.deploy, job, tools)
        if deployed is None:
            reason = f": {job.decision.reason}" if job.decision.reason else ""
            raise AirflowSkipException(f"rejected by {job.decision.decided_by}{reason}")
        self._tell(deployed, tools)
        return self._announced(deployed, context, tools)

    def _tell(self, deployed: Deployment, tools: Tools) -> None:
        """Publish the provenance; where that fails, the version serves all the same, and the next try publishes."""
        from ml_lifecycle.stages.provenance import ProvenanceJob, provenance

        told = self.conclude(provenance, self.job(ProvenanceJob, deployment=deployed), tools)
        if told is None:
            self.log.info("No provenance is published: there is no connection to sign with")
        else:
            self.log.info("Provenance: %s, signed by key %s", told.uri, told.signed_by)


class _Gate(Contract):
    rules: tuple[GateRule, ...]
    spec: MeasurementSpec


class RollbackModelOperator(_MovesChampion):
    """Make the previous champion serve again; returns a ``Deployment``. Clearing the task moves nothing twice.

    Where monitoring asked for it and the champion that it found bad serves no longer, the task is skipped.

    :param target: ``{"backend": "alias", ...}``: where to serve, if the ledger does not say where the previous champion
        did.
    """

    stream: Stream = "rollback"

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What serves, as plain JSON."""
        from ml_lifecycle.stages import deployment

        job = self.job(deployment.RollbackJob, request=self.resolved(context, tools), target=dict(self.target))
        try:
            deployed = self.conclude(deployment.roll_back, job, tools)
        except RollbackOutdatedError as outdated:
            raise AirflowSkipException(str(outdated)) from None
        return self._announced(deployed, context, tools)


class RehearseRollbackOperator(LifecycleOperator):
    """Do all that a rollback does, but the traffic, and time it; returns a ``DrillReport``.

    The task fails where a rollback would not work or would take too long, and succeeds where there is nothing to go
    back to.

    :param within: How long it may take: seconds, or ISO 8601 such as ``PT5M``.
    :param target: ``{"backend": "alias", ...}``: where to serve, if the ledger does not say where the previous champion
        did.
    """

    stream: Stream = "drill"

    def __init__(
        self, *, model: str, within: str | float = "PT5M", target: Mapping[str, Any] = DEFAULT_TARGET, **kwargs: Any
    ) -> None:
        super().__init__(model=model, **kwargs)
        self.within = within
        self.target = target

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """How it went, as plain JSON."""
        from ml_lifecycle.stages import deployment

        job = self.job(
            deployment.DrillJob,
            request=self.resolved(context, tools),
            within=self.within,
            target=dict(self.target),
        )
        report = self.conclude(deployment.rehearse_rollback, job, tools)
        if report.verdict is Verdict.FAIL:
            # A task that fails returns nothing, and the report is what people want to see.
            context["ti"].xcom_push(key="return_value", value=report.to_xcom())
            raise RollbackNotReadyError(
                f"a rollback to version {report.to_version} would not do: {report.detail}",
                where=f"{self.model} in {tools.environment}",
                way_out="mend it before it is needed, and run the drill again",
            )
        self.log.info("%s: %s", report.verdict.value, report.model_dump_json(exclude_defaults=True))
        return report.to_xcom()
