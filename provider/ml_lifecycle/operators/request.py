"""The first task of every stream: what was this run asked?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.contracts import RunRequest, Source, Stream
from ml_lifecycle.core.data import Every, partition_name
from ml_lifecycle.core.request import TAKES, HyperparameterSpec, merge_request
from ml_lifecycle.hooks.tasks import parse
from ml_lifecycle.operators.assets import newest_event
from ml_lifecycle.operators.base import LifecycleOperator, trigger_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class ResolveRequestOperator(LifecycleOperator):
    """Merge what a person, an asset's event, the schedule and the pipeline say into one request.

    The request is written into the ledger; later tasks read it and nothing else, because runs started by assets have
    neither form values nor a requester.

    :param stream: Which of the model's DAGs this is.
    :param sources: ``[{"uri": ...}, ...]``: a partition is there when all of them hold it.
    :param every: How often a partition arrives: ``hourly``, ``daily`` or ``monthly``.
    :param window: How many partitions a training reads, the newest last.
    :param hyperparameters: Those that a run may override: ``{name: {value, help, low, high}}``.
    """

    template_fields: Sequence[str] = ()

    def __init__(
        self,
        *,
        model: str,
        stream: Stream = "train",
        sources: Sequence[Mapping[str, str]] = (),
        every: Every = "monthly",
        window: int = 1,
        hyperparameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, **kwargs)
        self.stream = stream
        self.sources = sources
        self.every = every
        self.window = window
        self.hyperparameters = hyperparameters

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The request, as plain JSON."""
        from ml_lifecycle.stages import runner

        request = self._pinned(self._merged(context, tools), tools)
        runner.record("resolve", request, tools, model=self.model)
        self.log.info("This run works on %s", request.model_dump_json(exclude_defaults=True))
        return request.to_xcom()

    def _merged(self, context: Context, tools: Tools) -> RunRequest:
        dag_run = context["dag_run"]
        declared = {
            name: parse(HyperparameterSpec, spec, task_id=self.task_id)
            for name, spec in (self.hyperparameters or {}).items()
        }
        conf = form_values(dag_run.conf or {}, declared)
        trigger = trigger_of(dag_run)
        scheduled = None
        if trigger in ("scheduled", "backfill") and context.get("data_interval_start"):
            scheduled = partition_name(context["data_interval_start"], self.every)  # type: ignore[arg-type]
        held = self._held(tools)
        # A partition is there when all sources hold it.
        available = tuple(sorted(set.intersection(*map(set, held.values())))) if held else ()
        event = newest_event(context)
        # Scoring and monitoring wait for a partition that was named; only "the newest" must be there.
        waits = self.stream != "train" and bool(conf.get("partition") or event.get("partition") or scheduled)
        return merge_request(
            model=self.model,
            stream=self.stream,
            run_id=tools.run,
            trigger=trigger,  # type: ignore[arg-type]
            requester=dag_run.triggering_user_name,
            conf=conf,
            event=event,
            scheduled=scheduled,
            available=None if waits else available,
            held=held,
            every=self.every,
            window=self.window,
            hyperparameters=declared,
        )

    def _held(self, tools: Tools) -> dict[str, tuple[str, ...]]:
        """Partitions that each source holds."""
        if "partition" not in TAKES[self.stream]:
            return {}
        templates = [parse(Source, source, task_id=self.task_id).uri for source in self.sources]
        # A source without a place for the partition is one file, the same for all.
        return {uri: tools.data.partitions(uri) for uri in templates if "{{" in uri}

    def _pinned(self, request: RunRequest, tools: Tools) -> RunRequest:
        """A release names its version from the start: a newer one that arrives meanwhile is another release."""
        if request.stream != "release" or request.version is not None:
            return request
        from ml_lifecycle.stages.approval import candidate_of

        return request.model_copy(update={"version": candidate_of(request, tools).version})


def form_values(conf: Mapping[str, Any], declared: Mapping[str, HyperparameterSpec]) -> dict[str, Any]:
    """The form has one field per hyperparameter; a request has them under one key."""
    values = dict(conf)
    fields = {name: values.pop(name) for name in form_fields(declared) if name in values}
    filled = {name: value for name, value in fields.items() if value is not None and value != ""}
    if filled:
        values["hyperparameters"] = {**filled, **(values.get("hyperparameters") or {})}
    return values


def form_fields(declared: Mapping[str, Any]) -> tuple[str, ...]:
    """Hyperparameters that have a field of their own: those whose name means nothing else in a form."""
    return tuple(name for name in declared if name not in ("partition", "reason", "version", "hyperparameters"))
