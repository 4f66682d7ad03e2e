"""What the ledger says, made true for every model of the deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from ml_lifecycle.core.deployment import DEFAULT_TARGET
from ml_lifecycle.core.errors import InvariantError, LifecycleError, PassingError, ServiceUnavailableError
from ml_lifecycle.hooks.tasks import parse, plain_errors
from ml_lifecycle.hooks.tools import tools_for

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.reconciliation import Reconciliation
    from ml_lifecycle.stages.runner import Tools


class ReconcileOperator(BaseOperator):
    """Set every target to what the ledger says, end what was left, and check all invariants; returns the reports.

    One model's fault never hinders the others. The task fails where something cannot be set right, and is tried again
    where a service did not answer.

    :param target: ``{"backend": "alias", ...}``: where a model serves whose moves do not say.
    """

    template_fields: Sequence[str] = ()
    ui_color = "#e8f1fa"

    def __init__(self, *, target: Mapping[str, Any] = DEFAULT_TARGET, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """One report a model, as plain JSON."""
        with plain_errors(self.log):
            tools = tools_for(context)
            reports, silent = self._reconciled(context, tools)
            shown = [report.to_xcom() for report in reports]
            faults = [fault for report in reports for fault in report.faults]
            if faults or silent:
                # A task that fails returns nothing, and the reports are what people want to see.
                context["ti"].xcom_push(key="return_value", value=shown)
            if faults:
                raise InvariantError(
                    "\n".join(faults),
                    where=f"{len(faults)} in environment {tools.environment}",
                    way_out="see the guide on rollback and reconciliation; ml-lifecycle doctor shows the same",
                )
            if silent:
                raise ServiceUnavailableError("; ".join(silent))
        return shown

    def _reconciled(self, context: Context, tools: Tools) -> tuple[list[Reconciliation], list[str]]:
        """The reports, and what was said of models whose services did not answer."""
        reports: list[Reconciliation] = []
        silent: list[str] = []
        for model in tools.ledger.models(tools.environment):
            try:
                self._escalate(model, context, tools)
                reports.append(self._report(model, tools))
            except PassingError as error:  # noqa: PERF203  # a model whose service is down hinders no other
                self.log.warning("%s: %s", model, error)
                silent.append(f"{model}: {error}")
        return reports, silent

    def _report(self, model: str, tools: Tools) -> Reconciliation:
        from ml_lifecycle.stages.reconciliation import Reconciliation, ReconciliationJob, reconcile

        job = parse(ReconciliationJob, {"model": model, "target": dict(self.target)}, task_id=self.task_id)
        try:
            report = reconcile(job, tools)
        except PassingError:
            raise
        except LifecycleError as error:
            return Reconciliation(model=model, unrepaired=(str(error),))
        for text in (*report.repaired, *(f"carried out epoch {epoch}" for epoch in report.finished)):
            self.log.warning("%s: %s", model, text)
        return report

    def _escalate(self, model: str, context: Context, tools: Tools) -> None:
        """Tell a question's second list of people, once."""
        from ml_lifecycle.hooks.notify import notify_escalated
        from ml_lifecycle.stages.reconciliation import due_escalations, note_escalation

        for ask in due_escalations(model, tools):
            asked, postings = tools.ledger.asked(ask.ask_id), tools.ledger.postings(ask.ask_id)
            if asked is None or not postings:
                # What was never shown cannot be answered in Airflow.
                continue
            self.log.info("Telling %s of the question about version %s", ", ".join(ask.terms.escalate_to), ask.version)
            notify_escalated(context, asked, postings[-1])
            note_escalation(ask, tools)
