"""Traffic shifted step by step, each step by its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from ml_lifecycle.core.contracts import Deployment, StepAnswer, StepReport, Stream, Verdict
from ml_lifecycle.core.errors import NotProvenError, StaleEpochError, TargetFaultError
from ml_lifecycle.hooks.notify import alert_owner
from ml_lifecycle.hooks.tasks import Handed, parse, plain_errors
from ml_lifecycle.hooks.tools import place_of, tools_for
from ml_lifecycle.links import MlflowVersionLink, ReportLink
from ml_lifecycle.operators.approval import QuestionOperator, last_committers
from ml_lifecycle.operators.assets import champion_asset
from ml_lifecycle.operators.base import LifecycleOperator, resolved_request, wait
from ml_lifecycle.operators.deployment import TargetOperator, UnderDecision, tell_provenance

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.backends.deployment.base import SplittingTarget
    from ml_lifecycle.core.contracts import Decision
    from ml_lifecycle.stages.approval import Question
    from ml_lifecycle.stages.rollout import StepJob
    from ml_lifecycle.stages.runner import Tools

HELD = "ml_lifecycle.sensors.rollout:look_at_held"
STEP = "ml_lifecycle.sensors.rollout:look_at_step"
WARM = "ml_lifecycle.sensors.rollout:look_at_warm"
CLOCK = "ml_lifecycle.sensors.rollout:look_at_clock"
HELD_FOR = timedelta(days=7)
"""How long a step is held that stays inconclusive; then the task fails, and the split stays as it is."""
SOON = timedelta(seconds=1)
"""Until a step is looked at again whose evidence decided at one moment, and not at the next."""
REPLAYS_APART = timedelta(minutes=5)
"""Between two tries of a shadow that has seen too few requests."""
WATCHED_EVERY_S = 5.0


class RolloutStepOperator(UnderDecision):
    """Give a new version its share of the traffic, and wait until the evidence decides; returns a ``StepReport``.

    A step that fails brings the version before back at once, and the task is skipped with all that follow.

    :param percent: Of the traffic; 0 is the shadow: no user sees the new version's answers.
    :param contact: Who is told when a rollout is taken back, or held.
    """

    operator_extra_links = (MlflowVersionLink(), ReportLink())

    def __init__(self, *, percent: int, contact: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.percent = percent
        self.contact = contact

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What the step came to, as plain JSON.

        :raises TaskDeferred: the evidence does not decide yet.
        """
        from ml_lifecycle.stages import rollout

        job = self._step_job(context, tools)
        with _skipped_when_superseded():
            if rollout.taken_back(job, tools) is not None:
                return self._concluded(context, tools, is_over=False)
            self._shift(job, tools)
            report = rollout.look(job, tools)
        left = rollout.end_of_waiting(report) - tools.clock()
        is_over = left <= timedelta()
        if report.verdict is Verdict.INCONCLUSIVE and not is_over:
            self.log.info("Waiting for evidence: %s", rollout.why_not(report))
            self._wait(context, job, left)
        return self._concluded(context, tools, is_over=is_over)

    def _shift(self, job: StepJob, tools: Tools) -> None:
        from ml_lifecycle.stages import rollout

        if not self.percent:
            return
        try:
            self.conclude(rollout.shift, job, tools)
        except TargetFaultError as fault:
            # It is part of the step's evidence, which takes the rollout back.
            self.log.warning("%s", fault)

    def after_waiting(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Conclude the step: it is decided, or has waited as long as it may."""
        with plain_errors(self.log):
            self.log.info("%s", event["seen"])
            tools = tools_for(context)
            is_over = event["status"] == "timeout"
            if not self.percent and not is_over:
                return self.work(context, tools)
            return self.settling(context, tools, lambda *_: self._concluded(context, tools, is_over=is_over))

    def _concluded(self, context: Context, tools: Tools, *, is_over: bool) -> dict[str, Any]:
        from ml_lifecycle.stages import rollout
        from ml_lifecycle.stages.step_approval import held

        job = self._step_job(context, tools).model_copy(update={"is_over": is_over})
        with _skipped_when_superseded():
            was_held = is_over and held(job, tools) is not None
            report = self.conclude(rollout.conclude_step, job, tools)
        self._show(report)
        if report.verdict is Verdict.PASS:
            return report.to_xcom()
        taken_back = tools.ledger.head(self.model, tools.environment)
        if taken_back is not None and taken_back.epoch > report.epoch:
            self._alert(context, f"rolled back: {rollout.why_not(report)}", report)
            raise AirflowSkipException(f"rolled back to version {taken_back.version}: {rollout.why_not(report)}")
        answer = rollout.answered(job, tools)
        if rollout.continues(report, tools) or (answer is not None and answer.outcome == "approve"):
            return report.to_xcom()
        if is_over and not was_held and report.policy.on_inconclusive == "hold":
            self._alert(context, f"held: {rollout.why_not(report)}", report)
        left = rollout.end_of_waiting(report) - tools.clock()
        if not is_over:
            self._wait(context, job, max(left, SOON))
        if left <= -HELD_FOR:
            raise NotProvenError(
                f"nothing decided in {HELD_FOR.days} days: {rollout.why_not(report)}",
                where=f"task {self.task_id!r}; the split stays as it is",
                way_out=f"trigger {self.model}_rollback to bring the version before back",
            )
        self._wait(context, job, left + HELD_FOR)
        return report.to_xcom()

    def _wait(self, context: Context, job: StepJob, within: timedelta) -> None:
        every_s = _target(job).analysis.look_every.total_seconds()
        if self.percent:
            arguments = {**place_of(context), "job": job.to_xcom()}
            wait(self, STEP, arguments, then="after_waiting", within=within, every_s=every_s)
        until = datetime.now(timezone.utc) + min(REPLAYS_APART, within)
        wait(self, CLOCK, {"until": until.isoformat()}, then="after_waiting", within=within, every_s=every_s)

    def _step_job(self, context: Context, tools: Tools) -> StepJob:
        from ml_lifecycle.stages.rollout import StepJob

        return self.deployment_job(StepJob, context, tools, percent=self.percent)

    def _show(self, report: StepReport) -> None:
        from ml_lifecycle.backends.reports.rollout import step_table

        self.log.info("%s", step_table(report))
        self.report_uri = report.report_uri

    def _alert(self, context: Context, what: str, report: StepReport) -> None:
        evidence = [report.report_uri] if report.report_uri else []
        alert_owner(
            context,
            model=self.model,
            contact=self.contact,
            event="alert",
            what=what,
            evidence=evidence,
            prepared=f"trigger {self.model}_rollback to bring the version before back",
        )


class AskAboutStepOperator(QuestionOperator):
    """Ask in Airflow's Required Actions whether a step is passed that its evidence does not decide.

    It waits until the step has waited as long as it may, and is skipped where the evidence decides before. While people
    are asked, the step goes on looking. Who may answer is told as for
    :class:`~ml_lifecycle.operators.approval.ApproveModelOperator`; the decision is what the step's task acts upon.

    :param percent: Of the step's traffic; 0 is the shadow.
    :param decision: What :class:`~ml_lifecycle.operators.approval.ApproveModelOperator` returned.
    :param target: Where the model serves, as the step's own task has it.
    """

    template_fields: Sequence[str] = (*QuestionOperator.template_fields, "decision")
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        percent: int,
        decision: Handed,
        target: Mapping[str, Any],
        terms: Mapping[str, Any] | None = None,
        expires_after: str | float = "P3D",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.percent = percent
        self.decision = decision
        self.target = target
        self.terms = terms
        self.expires_after = expires_after

    def posed(self, context: Context, tools: Tools) -> Question:
        """Whether the next share is given.

        :raises TaskDeferred: the step goes on.
        """
        from ml_lifecycle.stages.rollout import StepJob
        from ml_lifecycle.stages.step_approval import StepQuestionJob, held, pose_step

        values = {
            "request": resolved_request(context, tools, model=self.model, stream="release", handed=self.request),
            "decision": self.decision,
            "target": dict(self.target),
            "percent": self.percent,
            "terms": self.terms or {},
            "expires_after": self.expires_after,
            "author": context["dag_run"].triggering_user_name,
            "committers": last_committers(context),
        }
        job = parse(StepQuestionJob, values, task_id=self.task_id)
        with _skipped_when_superseded():
            if held(job, tools) is None:
                step = StepJob(**{name: getattr(job, name) for name in StepJob.model_fields})
                wait(self, HELD, {**place_of(context), "job": step.to_xcom()}, then="execute_again", within=HELD_FOR)
            question = pose_step(job, tools)
        if question is None:
            raise AirflowSkipException("the evidence has decided")
        return question

    def execute_again(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Ask, now that the step is held."""
        self.log.info("%s", event["seen"])
        return self.execute(context)

    def concluded(self, question: Question, decision: Decision, tools: Tools) -> dict[str, Any]:
        """The decision, which the step's task is told of."""
        from ml_lifecycle.stages import runner

        ask = question.ask
        answer = StepAnswer(model=ask.model, epoch=ask.epoch, percent=self.percent, ask_id=ask.ask_id)
        runner.record("answer_step", answer, tools, model=ask.model)
        return super().concluded(question, decision, tools)


class PromoteModelOperator(UnderDecision):
    """Give all traffic to a version whose steps have passed; returns a ``Deployment``.

    The version before stays ready until :class:`RetireModelOperator` removes it.
    """

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(model=model, **{"outlets": [champion_asset(model)], **kwargs})

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What serves, as plain JSON."""
        from ml_lifecycle.stages import rollout
        from ml_lifecycle.stages.release_right import DeploymentJob

        job = self.deployment_job(DeploymentJob, context, tools)
        with _skipped_when_superseded():
            deployed = self.conclude(rollout.promote, job, tools)
        tell_provenance(self, deployed, tools)
        return self.announced(deployed, context, tools)


class RetireModelOperator(TargetOperator):
    """Keep the version before ready for a while, then remove it; returns what serves, a ``Deployment``.

    Where the new version fails meanwhile, the version before gets everything back at once.

    :param deployment: What :class:`PromoteModelOperator` returned.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "deployment")
    stream: Stream = "release"

    def __init__(self, *, model: str, deployment: Handed, contact: str = "", **kwargs: Any) -> None:
        super().__init__(model=model, **{"outlets": [champion_asset(model)], **kwargs})
        self.deployment = deployment
        self.contact = contact

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """What serves, as plain JSON.

        :raises TaskDeferred: the version before is still to be kept.
        """
        from ml_lifecycle.stages import rollout

        job = self.job(
            rollout.RetirementJob,
            request=self.resolved(context, tools),
            deployment=parse(Deployment, self.deployment, task_id=self.task_id),
        )
        until = rollout.warm_until(job, tools)
        with _skipped_when_superseded():
            is_well = not rollout.watch(job, tools)
        if is_well and tools.clock() < until:
            arguments = {**place_of(context), "job": job.to_xcom(), "until": until.isoformat()}
            within = until - tools.clock() + timedelta(minutes=1)
            wait(self, WARM, arguments, then="execute_again", within=within, every_s=WATCHED_EVERY_S)
        with _skipped_when_superseded():
            serves = self.conclude(rollout.retire, job, tools)
        if serves.champion.epoch == job.deployment.champion.epoch:
            # Nobody follows another champion: Airflow emits every outlet that a task still has when it ends.
            self.outlets = []
            return serves.to_xcom()
        alert_owner(context, model=self.model, contact=self.contact, event="alert", what=serves.champion.reason)
        return self.announced(serves, context, tools)


@contextmanager
def _skipped_when_superseded() -> Iterator[None]:
    """A rollout that another move has ended is no failure of this task."""
    try:
        yield
    except StaleEpochError as superseded:
        raise AirflowSkipException(str(superseded)) from None


def _target(job: StepJob) -> SplittingTarget:
    from ml_lifecycle.stages.rollout import splitting

    return splitting(job.target)
