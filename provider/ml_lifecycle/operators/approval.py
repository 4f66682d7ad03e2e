"""A registered version in, a person's or the policy's decision about exactly its digest out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from ml_lifecycle.core.contracts import Posting
from ml_lifecycle.core.errors import ApprovalRefusedError
from ml_lifecycle.hooks.tasks import Handed, parse, plain_errors
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.links import MlflowVersionLink, ReportLink, remember_version
from ml_lifecycle.operators.base import resolved_request

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.core.contracts import Decision
    from ml_lifecycle.stages.approval import Answer, Question
    from ml_lifecycle.stages.runner import Tools

REASON = "Why; kept with the decision. A rejection needs one."


class QuestionOperator(HITLOperator):
    """Puts a question of the ledger into Airflow's Required Actions, until the ledger holds a decision on it.

    While it waits it holds no worker. A subclass says in :meth:`posed` what is asked, and in :meth:`concluded` what
    follows from the decision.

    :param model: Whose question it is.
    :param contact: Where people reach the model's team; told to whoever is notified.
    :param notifiers: Airflow's notifiers, beside those of ``[ml_lifecycle] notifiers``. Their templates find the
        question under ``ml_lifecycle``.
    """

    # Subject and body hold names and reasons that people typed: they are never rendered as templates.
    template_fields: Sequence[str] = ("request",)
    ui_color = "#fdf3d8"

    def __init__(
        self,
        *,
        model: str,
        request: Handed | None = None,
        contact: str = "",
        notifiers: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        # HITLOperator would take it as the time that a person has.
        kwargs["execution_timeout"] = None
        # Not the DAG's: the approver sees one field, whatever the form of the trigger holds.
        kwargs["params"] = {"reason": Param(None, type=["null", "string"], description=REASON, source="task")}
        super().__init__(subject=f"A question about {model}", options=["Approve", "Reject"], **kwargs)
        self.model = model
        self.request = request
        self.contact = contact
        # HITLOperator's own would be called before the task parks, and fail it.
        self.told_by = tuple(notifiers)

    def posed(self, context: Context, tools: Tools) -> Question:
        """The question, written into the ledger.

        :raises AirflowSkipException: there is nothing to ask.
        """
        raise NotImplementedError

    def concluded(self, question: Question, decision: Decision, tools: Tools) -> dict[str, Any]:  # noqa: ARG002  # for subclasses
        """What the task returns, as plain JSON."""
        return decision.to_xcom()

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, unless the decision stands already.

        :raises TaskAwaitingInput: Airflow parks the task until somebody answers.
        """
        with plain_errors(self.log):
            tools = tools_for(context)
            question = self.posed(context, tools)
            if question.decision is None:
                return self._ask(context, question, tools)
            self.log.info("Decided already: %s by %s", question.decision.outcome, question.decision.decided_by)
            return self.concluded(question, question.decision, tools)

    def execute_complete(  # type: ignore[override]  # what was asked comes back with the answer
        self, context: Context, event: Mapping[str, Any], question: Mapping[str, Any], posting: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what the ledger's decision leads to, or ask again while there is none.

        The task is skipped where a newer question has replaced this one.
        """
        from ml_lifecycle.stages import approval

        with plain_errors(self.log):
            tools = tools_for(context)
            asked = parse(approval.Question, question, task_id=self.task_id)
            shown = parse(Posting, posting, task_id=self.task_id)
            state = tools.ledger.asked(asked.ask.ask_id)
            if state is not None and state.superseded:
                raise AirflowSkipException("a newer candidate's question has replaced this one; answer that one")
            try:
                decision = approval.settle(asked, shown, _answer(event), tools)
            except ApprovalRefusedError as refused:
                # The form keeps its first text, so the log is where the reason can be read.
                self.log.warning("An answer does not count: %s. Asking again.", refused)
                decision = None
            if decision is None:
                return self._ask(context, asked, tools, shown=shown)
            return self.concluded(asked, decision, tools)

    def _ask(
        self, context: Context, question: Question, tools: Tools, *, shown: Posting | None = None
    ) -> dict[str, Any]:
        """Park.

        :param shown: How the question was shown before, to the same people.
        """
        self.subject, self.body = question.subject, question.body
        self.options = [question.approve, question.reject]
        self.response_timeout = _patience(question, tools)
        try:
            super().execute(context)
        except TaskAwaitingInput as parked:
            # After the form, which a try that Airflow has given up cannot write: it must not pass for the newest.
            posting = tools.ledger.post(self._posting(context, question), at=tools.clock())
            if shown is None or shown.number != posting.number:
                self._tell(context, question, posting, tools)
            parked.kwargs = {"question": question.to_xcom(), "posting": posting.to_xcom()}
            raise
        raise AssertionError("HITLOperator parks the task")

    def _posting(self, context: Context, question: Question) -> Posting:
        instance, ask = context["ti"], question.ask
        return Posting(
            ask_id=ask.ask_id,
            model=ask.model,
            environment=ask.environment,
            dag_id=context["dag"].dag_id,
            run_id=context["run_id"],
            task_id=self.task_id,
            map_index=-1 if instance.map_index is None else instance.map_index,
            ti_id=str(instance.id),
            author=context["dag_run"].triggering_user_name,
        )

    def _tell(self, context: Context, question: Question, posting: Posting, tools: Tools) -> None:
        try:
            self._notify(context, question, posting, tools)
        except Exception:
            self.log.exception("Nobody could be told; the question is asked all the same")

    def _notify(self, context: Context, question: Question, posting: Posting, tools: Tools) -> None:
        from ml_lifecycle.hooks.notify import notify_posed

        asked, votes = tools.ledger.asked(question.ask.ask_id), tools.ledger.votes(question.ask.ask_id)
        if asked is None:
            return
        subject = question.subject
        if votes:
            subject += (
                f" {len(votes)} of {question.ask.terms.count} approved: {', '.join(vote.person for vote in votes)}."
            )
            self.log.info(subject)
        notify_posed(context, asked, posting, subject=subject, contact=self.contact, notifiers=self.told_by)


class ApproveModelOperator(QuestionOperator):
    """Ask in Airflow's Required Actions whether a version may be released; returns a ``Decision``.

    An approval counts only if the guard of Airflow's API server wrote it into the ledger; a try that finds a decision
    there returns it and asks nobody. The task is skipped where the version serves already. It needs ``retries`` of 1 or
    more: Airflow fails a question that is answered in the moment in which it is being parked.

    :param model: Whose release it is.
    :param request: What :class:`~ml_lifecycle.operators.request.ResolveRequestOperator` returned; left out, the newest
        version is asked about.
    :param required: ``always`` asks a person, ``on_inconclusive`` and ``never`` let policy approve a passed gate.
    :param approvers: User names; empty for anyone who may edit the run. Whoever asked for the training, triggered this
        run or committed the pipeline file last may reject, and never approve.
    :param count: How many different people have to approve; one rejection is enough.
    :param escalate_to: Who may answer too, once the question was open for ``escalate_after_s``.
    :param expires_after: Limits the question, and a decision not yet used: seconds, or ISO 8601 such as ``P3D``.
    """

    operator_extra_links = (MlflowVersionLink(),)

    def __init__(
        self,
        *,
        required: str = "always",
        approvers: Sequence[str] = (),
        count: int = 1,
        escalate_to: Sequence[str] = (),
        escalate_after_s: float | None = None,
        expires_after: str | float = "P3D",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.required = required
        self.approvers = approvers
        self.count = count
        self.escalate_to = escalate_to
        self.escalate_after_s = escalate_after_s
        self.expires_after = expires_after

    def posed(self, context: Context, tools: Tools) -> Question:
        """Whether the version may be released."""
        from ml_lifecycle.stages import approval, runner

        request = resolved_request(context, tools, model=self.model, stream="release", handed=self.request)
        values = {
            "request": request,
            "required": self.required,
            "terms": {
                "approvers": self.approvers,
                "count": self.count,
                "escalate_to": self.escalate_to,
                "escalate_after_s": self.escalate_after_s,
            },
            "expires_after": self.expires_after,
            "author": context["dag_run"].triggering_user_name,
            "committers": last_committers(context),
        }
        job = parse(approval.ApprovalJob, values, task_id=self.task_id)
        runner.verify(job, tools, model=self.model)
        question = approval.pose(job, tools)
        if question is None:
            raise AirflowSkipException(f"this version of {self.model} serves already")
        remember_version(self, question.ask.model, question.ask.version, tools)
        return question

    def concluded(self, question: Question, decision: Decision, tools: Tools) -> dict[str, Any]:
        """The decision."""
        remember_version(self, question.ask.model, question.ask.version, tools)
        return super().concluded(question, decision, tools)


class ApproveDatasetOperator(QuestionOperator):
    """Ask in Airflow's Required Actions whether data may be used; returns what it was handed.

    The answer counts as one about a version does, and is about exactly this data as it was checked. Rejected data
    leaves the task skipped, and with it whatever needs the data. What enforces the answer is the ledger: hand the same
    ``policy`` to :class:`~ml_lifecycle.operators.training.TrainModelOperator`.

    :param model: Which model is to be trained on the data.
    :param request: What :class:`~ml_lifecycle.operators.request.ResolveRequestOperator` returned. Left out, the request
        is made from the run itself.
    :param dataset: A snapshot, or the report that passed it.
    :param policy: ``{"required": "always" | "on_failure", "terms": {"approvers": [...], "count": 1, ...}}``:
        ``on_failure`` lets policy approve what passed whole.
    :param expires_after: Limits the question, and an approval not yet used: seconds, or ISO 8601 such as ``P3D``.
    """

    template_fields: Sequence[str] = (*QuestionOperator.template_fields, "dataset")
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        dataset: Handed,
        policy: Mapping[str, Any] | None = None,
        expires_after: str | float = "P3D",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.policy = policy
        self.expires_after = expires_after

    def posed(self, context: Context, tools: Tools) -> Question:
        """Whether the data may be used."""
        from ml_lifecycle.stages import data_approval, runner

        values = {
            "request": resolved_request(context, tools, model=self.model, stream="train", handed=self.request),
            "data": self.dataset,
            "policy": self.policy or {},
            "expires_after": self.expires_after,
            "author": context["dag_run"].triggering_user_name,
            "committers": last_committers(context),
        }
        job = parse(data_approval.DataApprovalJob, values, task_id=self.task_id)
        runner.verify(job, tools, model=self.model)
        return data_approval.pose_data(job, tools)

    def concluded(self, question: Question, decision: Decision, tools: Tools) -> dict[str, Any]:  # noqa: ARG002  # as above
        """The data, for whatever uses it.

        :raises AirflowSkipException: it was rejected.
        """
        self.report_uri = str(self.dataset.get("report_uri", "")) if isinstance(self.dataset, dict) else ""
        if decision.outcome != "approve":
            said = f"{decision.decided_by} rejected the data: {decision.reason}"
            # Airflow's own line says only that the task is skipped.
            self.log.warning(said)
            raise AirflowSkipException(said)
        return cast("dict[str, Any]", self.dataset)


def last_committers(context: Context) -> tuple[str, ...]:
    """Names of whoever committed the DAG's pipeline file last: the YAML beside its file, else that file itself."""
    from ml_lifecycle.backends.git import committers_of

    file = Path(context["dag"].fileloc)
    pipeline = file.with_suffix(".yaml")
    return committers_of(pipeline if pipeline.is_file() else file)


def _patience(question: Question, tools: Tools) -> timedelta | None:
    """How long the question stays open: asking again extends nothing."""
    asked = tools.ledger.asked(question.ask.ask_id)
    if asked is None or asked.expires_at is None:
        return None
    return max(asked.expires_at - tools.clock(), timedelta(seconds=1))


def _answer(event: Mapping[str, Any]) -> Answer | None:
    """What was answered, or ``None`` where nobody did in time."""
    from ml_lifecycle.stages.approval import Answer

    person = (event.get("responded_by_user") or {}).get("name")
    if "error" in event or not person:
        return None
    reason = (event.get("params_input") or {}).get("reason")
    return Answer(
        person=str(person), option=", ".join(map(str, event.get("chosen_options") or ())), reason=str(reason or "")
    )
