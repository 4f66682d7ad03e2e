"""What all operators do alike: tools, the run's request, the job, clear errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.sdk import BaseOperator

from ml_lifecycle.core.contracts import Contract, RunRequest, Stream
from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.hooks.tasks import Handed, Job, parse, plain_errors
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.triggers import StatusTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools

Result = TypeVar("Result", bound="Contract | None")

LOOK_EVERY_S = 2.0
NO_TRIGGERER = timedelta(minutes=5)
"""By which a wait ends that nobody looked after."""
TRIGGERS = {"scheduled": "scheduled", "backfill": "backfill", "asset_triggered": "asset"}
"""What a request calls Airflow's kinds of runs; every other kind was asked for by hand."""


class LifecycleOperator(BaseOperator):
    """One step of a model's life.

    :param model: Whose step it is.
    :param request: What :class:`~ml_lifecycle.operators.request.ResolveRequestOperator` returned. Left out, the request
        is made from the run itself: its id, its trigger and whoever triggered it.
    :param partition: What the run works on, where no request says it.
    """

    template_fields: Sequence[str] = ("request", "partition")
    # Text that people wrote into a YAML file or a form never becomes a template: Jinja would read Variables out.
    template_ext: Sequence[str] = ()
    ui_color = "#e8f1fa"
    stream: Stream = "train"

    def __init__(
        self, *, model: str, request: Handed | None = None, partition: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.request = request
        self.partition = partition

    def execute(self, context: Context) -> Any:
        """Do the step.

        :raises AirflowFailException: a person has to mend something; trying again cannot help.
        """
        with plain_errors(self.log):
            return self.work(context, tools_for(context))

    def work(self, context: Context, tools: Tools) -> Any:
        """The step itself, as plain JSON."""
        raise NotImplementedError

    def resolved(self, context: Context, tools: Tools) -> RunRequest:
        """What the run was asked, verified against the ledger."""
        return resolved_request(
            context, tools, model=self.model, stream=self.stream, handed=self.request, partition=self.partition
        )

    def job(self, kind: type[Job], **values: Any) -> Job:
        """The stage's job out of this task's arguments."""
        return parse(kind, values, task_id=self.task_id)

    def conclude(self, stage: Callable[[Job, Tools], Result], job: Job, tools: Tools) -> Result:
        """Run the stage, holding what it was handed against the ledger and recording what it concludes."""
        from ml_lifecycle.stages import runner

        # The runner passes an absent answer through: stages that may have none return None.
        return runner.run(stage, job, tools, model=self.model)  # type: ignore[type-var]


def wait(
    task: BaseOperator,
    probe: str,
    arguments: Mapping[str, Any],
    *,
    then: str,
    within: timedelta,
    every_s: float = LOOK_EVERY_S,
    stop: str = "",
) -> NoReturn:
    """Wait without a worker until a probe is ready, then go on with the task's method ``then``.

    :param stop: What ends what is waited for, where a person ends the task.

    :raises TaskDeferred: always.
    """
    deadline = datetime.now(timezone.utc) + within
    trigger = StatusTrigger(
        probe=probe, arguments=dict(arguments), interval_s=every_s, deadline=deadline.isoformat(), stop=stop
    )
    # The time-out ends the wait where no triggerer runs.
    task.defer(trigger=trigger, method_name=then, timeout=within + NO_TRIGGERER)
    raise AssertionError("defer() raises")


def resolved_request(
    context: Context,
    tools: Tools,
    *,
    model: str,
    stream: Stream,
    handed: Handed | None,
    partition: str | None = None,
) -> RunRequest:
    """The request that was handed over, as the ledger knows it, or one made from the run.

    :raises EvidenceError: the request was changed on its way.
    :raises RequestError: it is about another model.
    """
    from ml_lifecycle.stages import runner

    if handed is None:
        dag_run = context["dag_run"]
        request = RunRequest(
            model=model,
            stream=stream,
            run_id=tools.run,
            trigger=trigger_of(dag_run),
            partition=partition or "",
            partitions=(partition,) if partition else (),
            requester=dag_run.triggering_user_name,
        )
        runner.record("resolve", request, tools, model=model)
        return request
    request = parse(RunRequest, handed, task_id=context["task"].task_id)
    if request.model != model:
        raise RequestError(
            f"the request is about {request.model!r}, the task about {model!r}",
            where=f"task {context['task'].task_id!r}",
            way_out="hand it the request of its own model",
        )
    runner.verify(_Handed(request=request), tools, model=model)
    return request


class _Handed(Contract):
    request: RunRequest


def trigger_of(dag_run: Any) -> str:
    """What started the run, in the words of a request."""
    return TRIGGERS.get(str(getattr(dag_run.run_type, "value", dag_run.run_type)), "manual")
