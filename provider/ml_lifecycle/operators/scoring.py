"""A partition in, the champion's predictions for it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.contracts import Stream
from ml_lifecycle.operators.assets import announce, scored_asset
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class ListOtherPartitionsOperator(LifecycleOperator):
    """The partitions that a request asks for beside its newest one: a list, for a task that is mapped over it."""

    stream: Stream = "score"

    def work(self, context: Context, tools: Tools) -> list[str]:
        """Their names, oldest first."""
        return list(self.resolved(context, tools).partitions[:-1])


class ScoreBatchOperator(LifecycleOperator):
    """Score a partition by the champion, exactly once; returns a ``ScoredPartition`` and emits the ``scored`` asset.

    A try that was killed leaves finished parts, which the next one goes on from.

    :param source: The rows, ``{"uri": "flights/{{ partition }}.parquet"}``.
    :param columns: ``{"key": ..., "time": ..., "target": ...}``.
    :param scored: Folder of the predictions, ``{"uri": "scored/{{ partition }}"}``.
    :param related: Tables that the features need beside the rows, by name.
    :param partition: Which one of several that the request asks for; left out, its newest. Map the operator over it.
    :param max_bad: Share of the rows that may be quarantined because they cannot be scored, 0 to below 1.
    """

    stream: Stream = "score"

    def __init__(
        self,
        *,
        model: str,
        source: Mapping[str, Any],
        columns: Mapping[str, Any],
        scored: Mapping[str, Any],
        related: Mapping[str, Mapping[str, Any]] | None = None,
        max_bad: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, **{"outlets": [scored_asset(model)], **kwargs})
        self.source = source
        self.columns = columns
        self.scored = scored
        self.related = related
        self.max_bad = max_bad

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The published predictions' reference, as plain JSON."""
        from ml_lifecycle.stages import scoring

        job = self.job(
            scoring.ScoringJob,
            request=self.resolved(context, tools),
            source=self.source,
            related=self.related or {},
            columns=self.columns,
            output=self.scored,
            partition=self.partition,
            max_bad=self.max_bad,
        )
        done = self.conclude(scoring.score, job, tools)
        if done.quarantined_rows:
            self.log.warning("%s rows lie in quarantine: %s", f"{done.quarantined_rows:,}", done.quarantined_for)
        extra = {"partition": done.partition, "version": done.version, "rows": done.rows}
        announce(context, scored_asset(self.model), {"model": self.model, **extra})
        return done.to_xcom()
