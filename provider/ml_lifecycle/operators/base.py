"""What all operators do alike: tools, the run's request, the job, clear errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from pydantic import ValidationError

from ml_lifecycle.core.contracts import Contract, RunRequest, Stream
from ml_lifecycle.core.errors import ConfigurationError, LifecycleError, PassingError, RequestError
from ml_lifecycle.hooks.tools import tools_for

if TYPE_CHECKING:
    import logging

    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools

Job = TypeVar("Job", bound=Contract)
Result = TypeVar("Result", bound="Contract | None")

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
        self, *, model: str, request: dict[str, Any] | None = None, partition: str | None = None, **kwargs: Any
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


@contextmanager
def plain_errors(log: logging.Logger) -> Iterator[None]:
    """Turn an error that a person has to mend into one clear line and a failure that is not retried."""
    try:
        yield
    except PassingError:
        raise
    except LifecycleError as error:
        text = str(error)
        log.error(text)  # noqa: TRY400  # the text says what, where and the way out; a traceback would bury it
        raise AirflowFailException(text) from None


def parse(kind: type[Job], values: Mapping[str, Any], *, task_id: str) -> Job:
    """A job out of plain JSON values.

    :raises ConfigurationError: a value is missing or is not what the job takes; all of them are named.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in mistake['loc']) or kind.__name__}: {mistake['msg']}"
            for mistake in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError(
            mistakes, where=f"task {task_id!r}", way_out="correct the operator's arguments"
        ) from None


def resolved_request(
    context: Context,
    tools: Tools,
    *,
    model: str,
    stream: Stream,
    handed: dict[str, Any] | None,
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
            trigger=trigger_of(dag_run),  # type: ignore[arg-type]
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
    runner.verify(_Handed(request=request), tools)
    return request


class _Handed(Contract):
    request: RunRequest


def trigger_of(dag_run: Any) -> str:
    """What started the run, in the words of a request."""
    return TRIGGERS.get(str(getattr(dag_run.run_type, "value", dag_run.run_type)), "manual")
