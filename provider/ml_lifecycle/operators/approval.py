"""A registered version in, a person's or the policy's decision about exactly its digest out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from ml_lifecycle.core.errors import ApprovalRefusedError, LedgerError
from ml_lifecycle.hooks.tasks import Handed, parse, plain_errors
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.links import MlflowVersionLink, remember_version
from ml_lifecycle.operators.base import resolved_request

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.approval import Question
    from ml_lifecycle.stages.runner import Tools

REASON = "Why; kept with the decision."


class ApproveModelOperator(HITLOperator):
    """Ask in Airflow's Required Actions whether a version may be released; returns a ``Decision``.

    While it waits it holds no worker. The answer goes into the ledger at once; a try that finds one there returns it
    and asks nobody. The task is skipped where the version serves already. It needs ``retries`` of 1 or more: Airflow
    fails a question that is answered in the moment in which it is being parked.

    :param model: Whose release it is.
    :param request: What :class:`~ml_lifecycle.operators.request.ResolveRequestOperator` returned; left out, the newest
        version is asked about.
    :param required: ``always`` asks a person, ``on_inconclusive`` and ``never`` let policy approve a passed gate.
    :param approvers: User names; empty for anyone who may edit the run. Whoever asked for the training never counts.
    :param expires_after: Limits the question, and a decision not yet used: seconds, or ISO 8601 such as ``P3D``.
    """

    # Subject and body hold names and reasons that people typed: they are never rendered as templates.
    template_fields: Sequence[str] = ("request",)
    operator_extra_links = (MlflowVersionLink(),)
    ui_color = "#fdf3d8"

    def __init__(
        self,
        *,
        model: str,
        request: Handed | None = None,
        required: str = "always",
        approvers: Sequence[str] = (),
        expires_after: str | float = "P3D",
        **kwargs: Any,
    ) -> None:
        # HITLOperator would take it as the time that a person has.
        kwargs["execution_timeout"] = None
        # Not the DAG's: the approver sees one field, whatever the form of the trigger holds.
        kwargs["params"] = {"reason": Param(None, type=["null", "string"], description=REASON, source="task")}
        super().__init__(
            subject=f"Release {model}?",
            options=["Approve", "Reject"],
            **kwargs,
        )
        self.model = model
        self.request = request
        self.required = required
        self.approvers = approvers
        self.expires_after = expires_after

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, unless the decision stands already.

        :raises TaskAwaitingInput: Airflow parks the task until somebody answers.
        """
        from ml_lifecycle.stages import approval, runner

        with plain_errors(self.log):
            tools = tools_for(context)
            request = resolved_request(context, tools, model=self.model, stream="release", handed=self.request)
            values = {"required": self.required, "approvers": self.approvers, "expires_after": self.expires_after}
            job = parse(approval.ApprovalJob, {"request": request, **values}, task_id=self.task_id)
            runner.verify(job, tools, model=self.model)
            question = approval.pose(job, tools)
            if question is None:
                raise AirflowSkipException(f"this version of {self.model} serves already")
            remember_version(self, question.ask.model, question.ask.version, tools)
        if question.decision is not None:
            self.log.info("Decided already: %s by %s", question.decision.outcome, question.decision.decided_by)
            return question.decision.to_xcom()
        return self._ask(context, question, tools)

    def execute_complete(  # type: ignore[override]  # what was asked comes back with the answer
        self, context: Context, event: Mapping[str, Any], question: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the answer into the ledger, and return the decision that stands there.

        The task is skipped where a newer candidate's question has replaced this one.
        """
        from ml_lifecycle.stages import approval

        with plain_errors(self.log):
            asked = parse(approval.Question, question, task_id=self.task_id)
            tools = tools_for(context)
            remember_version(self, asked.ask.model, asked.ask.version, tools)
            state = tools.ledger.asked(asked.ask.ask_id)
            if state is not None and state.superseded:
                raise AirflowSkipException("a newer candidate's question has replaced this one; answer that one")
            person, option = _answer(event, asked, self.expires_after)
            reason = str((event.get("params_input") or {}).get("reason") or "")
            try:
                return approval.answer(asked, option, by=person, reason=reason, tools=tools).to_xcom()
            except ApprovalRefusedError as refused:
                # The form keeps its first text, so the log is where the reason can be read.
                self.log.warning("The answer of %s does not count: %s. Asking again.", person, refused)
        return self._ask(context, asked, tools)

    def _ask(self, context: Context, question: Question, tools: Tools) -> dict[str, Any]:
        self.subject, self.body = question.subject, question.body
        self.options = [question.approve, question.reject]
        self.response_timeout = _patience(question, tools)
        try:
            super().execute(context)
        except TaskAwaitingInput as parked:
            parked.kwargs = {"question": question.to_xcom()}
            raise
        raise AssertionError("HITLOperator parks the task")


def _patience(question: Question, tools: Tools) -> timedelta | None:
    """How long the question stays open: asking again extends nothing."""
    asked = tools.ledger.asked(question.ask.ask_id)
    if asked is None or asked.expires_at is None:
        return None
    return max(asked.expires_at - tools.clock(), timedelta(seconds=1))


def _answer(event: Mapping[str, Any], question: Question, patience: str | float) -> tuple[str, str]:
    """Who chose which option.

    :raises LedgerError: nobody did, or the form showed another question.
    """
    person = (event.get("responded_by_user") or {}).get("name")
    if "error" in event or not person:
        raise LedgerError(
            f"nobody answered within {patience}; a time-out is never an approval",
            where=question.subject,
            way_out="trigger the release again to ask anew",
        )
    chosen = list(event.get("chosen_options") or ())
    if len(chosen) != 1 or chosen[0] not in (question.approve, question.reject):
        raise LedgerError(
            f"{', '.join(map(repr, chosen)) or 'no option'} answers another question than this one",
            where=question.subject,
            way_out="Airflow keeps the form of a task's first try: trigger the release again to get a fresh one",
        )
    return str(person), str(chosen[0])
