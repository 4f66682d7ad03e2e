"""All metrics of one evaluation with their intervals, for each contender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ml_lifecycle.backends.evaluation.intervals import difference, metric_of
from ml_lifecycle.backends.evaluation.metrics import NO_OWN, OwnMetrics, check_metric
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, CHAMPION, ScoredRows, Task
from ml_lifecycle.core.contracts import ChampionResult, Contender, Difference, MeasurementSpec, Metric
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER

USUAL: Final[Mapping[Task, tuple[str, ...]]] = {
    "binary": ("roc_auc", "log_loss", "brier"),
    "multiclass": ("accuracy", "log_loss", "f1"),
    "regression": ("rmse", "mae", "r2"),
}
"""What is measured where nobody names a metric."""


class Measurements:
    """The same metrics for whichever contender is asked about.

    :param metrics: Empty: those that are usual for the task.
    :raises UnknownMetricError: a metric does not fit the task.
    """

    def __init__(
        self, rows: ScoredRows, metrics: Sequence[str], *, spec: MeasurementSpec, own: OwnMetrics = NO_OWN
    ) -> None:
        self._rows, self._spec, self._own = rows, spec, own
        self._names = tuple(metrics) or USUAL[rows.task]
        for name in self._names:
            check_metric(name, rows.task)
        self._parts = {
            column: {str(value): rows.part(values == value) for value in sorted(set(values))}
            for column, values in rows.slices.items()
        }

    def metrics(self, contender: str) -> dict[str, Metric]:
        """On all rows."""
        return self._of(self._rows, contender)

    def slices(self, contender: str) -> dict[str, dict[str, dict[str, Metric]]]:
        """By slice column and its value."""
        return {
            column: {value: self._of(part, contender) for value, part in parts.items()}
            for column, parts in self._parts.items()
        }

    def champion(self, version: int, digest: str) -> ChampionResult:
        """The champion beside the candidate."""
        return ChampionResult(
            version=version,
            digest=digest,
            metrics=self.metrics(CHAMPION),
            differences=self._differences(CHAMPION),
            slices=self.slices(CHAMPION),
        )

    def others(self, digests: Mapping[str, str]) -> dict[str, Contender]:
        """Everything else that was scored: the baseline, and versions by their number.

        :param digests: By what rules call them, where they are known.
        """
        return {
            name: Contender(
                version=int(name) if name.isdigit() else None,
                digest=digests.get(name),
                metrics=self.metrics(name),
                differences=self._differences(name),
            )
            for name in self._rows.scores
            if name not in (CANDIDATE, CHAMPION)
        }

    def _differences(self, old: str) -> dict[str, Difference]:
        return {
            name: difference(name, self._rows, CANDIDATE, old, spec=self._spec, own=self._own)
            for name in self._names
            # Of the others, nobody said which way is better.
            if name in HIGHER_IS_BETTER
        }

    def _of(self, rows: ScoredRows, contender: str) -> dict[str, Metric]:
        return {name: metric_of(name, rows, contender, spec=self._spec, own=self._own) for name in self._names}
