"""A decision in, a moved champion out; and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.sdk.exceptions import AirflowSkipException

from ml_lifecycle.core.contracts import Contract, Decision, GateRule, MeasurementSpec, RunRequest, Stream, Verdict
from ml_lifecycle.core.deployment import DEFAULT_TARGET
from ml_lifecycle.core.errors import (
    ConfigurationError,
    NoDecisionError,
    RollbackNotReadyError,
    RollbackOutdatedError,
    ServiceUnavailableError,
    StillSettlingError,
)
from ml_lifecycle.core.evaluation import policy_digest
from ml_lifecycle.hooks.tasks import Handed, parse, plain_errors
from ml_lifecycle.hooks.tools import place_of, tools_for
from ml_lifecycle.links import MlflowVersionLink, remember_version
from ml_lifecycle.operators.assets import announce, champion_asset
from ml_lifecycle.operators.base import LifecycleOperator, wait

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

    from ml_lifecycle.core.contracts import Deployment
    from ml_lifecycle.stages.release_right import DeploymentJob
    from ml_lifecycle.stages.runner import Tools

ANSWERS = "ml_lifecycle.sensors.approval:look_at_answers"
TARGET = "ml_lifecycle.sensors.rollout:look_at_target"
SETTLED_WITHIN = timedelta(hours=1)
"""SageMaker takes minutes to start a version; what takes longer fails, and the task's next try goes on."""
LONGEST_LOOK = timedelta(minutes=5)
"""After which a try that could not read Airflow's record of the answers fails, and the next one reads it."""


UnderJob = TypeVar("UnderJob", bound="DeploymentJob")


class TargetOperator(LifecycleOperator):
    """A task that writes to a deployment target, and waits without a worker until it is where it was asked to be.

    :param target: ``{"backend": "alias", ...}``: where models serve, and its options.
    """

    operator_extra_links: Sequence[BaseOperatorLink] = (MlflowVersionLink(),)

    def __init__(self, *, target: Mapping[str, Any] = DEFAULT_TARGET, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target

    def execute(self, context: Context) -> Any:
        """Do the step; each time that the target has got further, do it again from the beginning.

        :raises AirflowFailException: a person has to mend something; trying again cannot help.
        """
        with plain_errors(self.log):
            return self.settling(context, tools_for(context), self.work)

    def settling(self, context: Context, tools: Tools, step: Callable[[Context, Tools], Any]) -> Any:
        """Do a step, and wait where the target is still on its way."""
        try:
            return step(context, tools)
        except StillSettlingError as waiting:
            self.log.info("Waiting for the target: %s", waiting.what)
            arguments = {**place_of(context), "model": self.model, "target": dict(self.target)}
            wait(self, TARGET, arguments, then="execute_again", within=SETTLED_WITHIN)

    def execute_again(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on, whatever was seen: the step itself looks.

        :raises ServiceUnavailableError: it waited as long as it may.
        """
        self.log.info("%s", event["seen"])
        if event["status"] == "timeout":
            raise ServiceUnavailableError(
                f"it was waited for as long as it may take: {event['seen']}",
                where=f"task {self.task_id!r}",
                way_out="the next try goes on; if it stays, see what holds the target up",
            )
        return self.execute(context)

    def announced(self, deployment: Deployment, context: Context, tools: Tools) -> dict[str, Any]:
        """Tell whoever follows the champion that another version serves."""
        move = deployment.champion
        remember_version(self, move.model, move.version, tools)
        extra = {"version": move.version, "digest": move.digest, "epoch": move.epoch, "kind": move.kind}
        announce(context, champion_asset(self.model), {"model": self.model, **extra})
        return deployment.to_xcom()


class UnderDecision(TargetOperator):
    """A task that carries an approval out. What counts is the ledger's decision, not the one handed over.

    :param decision: What :class:`~ml_lifecycle.operators.approval.ApproveModelOperator` returned.
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

    def deployment_job(self, kind: type[UnderJob], context: Context, tools: Tools, **more: Any) -> UnderJob:
        """The stage's job: the request, the decision, and what the pipeline says of both at this moment."""
        gate = None if self.rules is None else self.job(_Gate, rules=self.rules, spec=self.measurement or {})
        request = self.resolved(context, tools)
        return self.job(
            kind,
            request=request,
            decision=self._handed(request, tools),
            target=dict(self.target),
            policy_digest=None if gate is None else policy_digest(gate.rules, gate.spec),
            required=self.required,
            **more,
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


class _Gate(Contract):
    rules: tuple[GateRule, ...]
    spec: MeasurementSpec


class DeployModelOperator(UnderDecision):
    """Make what was approved serve; returns a ``Deployment``, or of a target with steps the ``Rollout`` that it begins.

    The task is skipped where the decision was no. Where people answered in Airflow, the triggerer first reads what
    Airflow records of their answers: a rejection that the ledger does not know takes the approval away.
    """

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(model=model, **{"outlets": [champion_asset(model)], **kwargs})

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What serves, as plain JSON.

        :raises TaskDeferred: people answered in Airflow, whose record is read first.
        """
        from ml_lifecycle.stages.release_right import DeploymentJob

        job = self.deployment_job(DeploymentJob, context, tools)
        showings = [posting.ti_id for posting in tools.ledger.postings(job.decision.ask.ask_id) if posting.ti_id]
        if showings:
            wait(self, ANSWERS, {"showings": showings}, then="execute_complete", within=LONGEST_LOOK)
        return self._deployed(job, context, tools)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
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
            return self.settling(context, tools, self._after_answers)

    def _after_answers(self, context: Context, tools: Tools) -> dict[str, Any]:
        from ml_lifecycle.stages.release_right import DeploymentJob

        return self._deployed(self.deployment_job(DeploymentJob, context, tools), context, tools)

    def _deployed(self, job: DeploymentJob, context: Context, tools: Tools) -> dict[str, Any]:
        from ml_lifecycle.backends.deployment import steps_of
        from ml_lifecycle.stages import deployment, rollout

        if steps_of(job.target):
            # Nobody follows another champion yet: Airflow emits every outlet that a task still has when it ends.
            self.outlets = []
            begun = self.conclude(rollout.begin, job, tools)
            return self._rejected(job) if begun is None else begun.to_xcom()
        deployed = self.conclude(deployment.deploy, job, tools)
        if deployed is None:
            return self._rejected(job)
        tell_provenance(self, deployed, tools)
        return self.announced(deployed, context, tools)

    def _rejected(self, job: DeploymentJob) -> NoReturn:
        reason = f": {job.decision.reason}" if job.decision.reason else ""
        raise AirflowSkipException(f"rejected by {job.decision.decided_by}{reason}")


def tell_provenance(task: LifecycleOperator, deployed: Deployment, tools: Tools) -> None:
    """Publish the provenance; where that fails, the version serves all the same, and the next try publishes."""
    from ml_lifecycle.stages.provenance import ProvenanceJob, provenance

    told = task.conclude(provenance, task.job(ProvenanceJob, deployment=deployed), tools)
    if told is None:
        task.log.info("No provenance is published: there is no connection to sign with")
    else:
        task.log.info("Provenance: %s, signed by key %s", told.uri, told.signed_by)


class RollbackModelOperator(TargetOperator):
    """Make the previous champion serve again; returns a ``Deployment``. Clearing the task moves nothing twice.

    Where monitoring asked for it and the champion that it found bad serves no longer, the task is skipped.

    :param target: ``{"backend": "alias", ...}``: where to serve, if the ledger does not say where the previous champion
        did.
    """

    stream: Stream = "rollback"

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(model=model, **{"outlets": [champion_asset(model)], **kwargs})

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What serves, as plain JSON."""
        from ml_lifecycle.stages import deployment

        job = self.job(deployment.RollbackJob, request=self.resolved(context, tools), target=dict(self.target))
        try:
            deployed = self.conclude(deployment.roll_back, job, tools)
        except RollbackOutdatedError as outdated:
            raise AirflowSkipException(str(outdated)) from None
        return self.announced(deployed, context, tools)


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
