"""Which data a look for drift compares with which: everything that its answer depends on, before a row is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ml_lifecycle.core.contracts import DatasetRef, DriftReport, Evaluation, ScoredPartition, digest_of
from ml_lifecycle.core.data import Every, every_of, render, window_of
from ml_lifecycle.core.errors import DataError, PartitionMissingError
from ml_lifecycle.core.monitoring import reference_partitions
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scoring import scored_at

if TYPE_CHECKING:
    from ml_lifecycle.stages.champion import ChampionInfo
    from ml_lifecycle.stages.drift import DriftJob

_NAMED: Final = 5


@dataclass(frozen=True)
class Window:
    """Partitions that are looked at as one, and what they are compared with."""

    size: int
    current: tuple[DatasetRef, ...]
    """Oldest first."""
    reference: tuple[DatasetRef, ...]
    """Empty for the champion's training data."""
    scored: tuple[ScoredPartition, ...] = ()
    """The published predictions of all of ``current``; empty where they are not compared."""
    scored_reference: tuple[ScoredPartition, ...] = ()
    """Empty for the champion's predictions of its holdout."""


@dataclass(frozen=True)
class Look:
    """What one look compares."""

    every: Every
    current: DatasetRef
    windows: tuple[Window, ...]
    """Those that there is data for."""
    reference_partitions: tuple[str, ...]
    """Of all windows, oldest first: those that are there."""
    holdout: Evaluation | None
    """Holds the champion's predictions of its holdout, which published ones are counted like."""
    warnings: tuple[str, ...]

    def content_digest(self) -> str:
        """Names the bytes that are compared."""
        return digest_of(
            {
                "windows": [
                    {
                        "size": one.size,
                        "current": [dataset.fingerprint for dataset in one.current],
                        "reference": [dataset.fingerprint for dataset in one.reference],
                        "scored": [scored.fingerprint for scored in one.scored],
                        "scored_reference": [scored.fingerprint for scored in one.scored_reference],
                    }
                    for one in self.windows
                ],
                "holdout": self.holdout.predictions_digest if self.holdout is not None else None,
                "warnings": list(self.warnings),
            }
        )


def look_at(job: DriftJob, champion: ChampionInfo, tools: Tools) -> Look:
    """Find the data of every window and of its reference; what is not there is left out and named.

    :raises DataError: the partition that is looked at is not there, or cannot be used.
    :raises DigestMismatchError: published predictions are not the bytes that scoring published.
    """
    return _Finding(job, champion, tools).look()


class _Finding:
    """One look's partitions, each found once."""

    def __init__(self, job: DriftJob, champion: ChampionInfo, tools: Tools) -> None:
        self._job, self._champion, self._tools = job, champion, tools
        self._every = job.every or every_of(job.request.partition)
        self._datasets: dict[str, DatasetRef | None] = {}
        self._scored: dict[str, ScoredPartition | None] = {}
        self._absent: dict[str, str] = {}
        self._warnings: list[str] = []

    def look(self) -> Look:
        partition, policy = self._job.request.partition, self._job.policy
        current = self._datasets[partition] = self._snapshot(partition)
        holdout = self._holdout() if self._predictions_of(partition) is not None else None
        windows = [window for size in sorted(set(policy.windows)) if (window := self._window(size, holdout))]
        named = {name for one in windows for dataset in one.reference for name in dataset.partitions}
        warnings = [*self._warnings, *self._left_out()]
        return Look(self._every, current, tuple(windows), tuple(sorted(named)), holdout, tuple(warnings))

    def _window(self, size: int, holdout: Evaluation | None) -> Window | None:
        partition, policy = self._job.request.partition, self._job.policy
        names = (partition,) if size == 1 else window_of(partition, self._every, size)
        held = self._found(names)
        if len(held) < len(names):
            absent = [name for name in names if self._datasets[name] is None]
            self._warnings.append(f"a window of {size} partitions is left out: {_listed(absent)} cannot be looked at")
            return None
        wanted = reference_partitions(partition, self._every, policy.reference, policy.reference_size, size)
        before = self._found(wanted)
        if policy.reference != "training" and not before:
            self._warnings.append(
                f"a window of {size} is not compared: none of the {len(wanted)} partitions of its reference "
                f"({policy.reference}) can be looked at"
            )
            return None
        scored = [found for name in names if (found := self._predictions_of(name)) is not None]
        scored_before = [found for name in wanted if (found := self._predictions_of(name)) is not None]
        if holdout is None or len(scored) < len(names) or (wanted and not scored_before):
            scored, scored_before = [], []
        return Window(size, tuple(held), tuple(before), tuple(scored), tuple(scored_before))

    # --- Data --------------------------------------------------------------------------------------------------------

    def _found(self, names: Sequence[str]) -> list[DatasetRef]:
        for name in names:
            if name not in self._datasets:
                self._datasets[name] = self._earlier(name)
        return [dataset for name in names if (dataset := self._datasets[name]) is not None]

    def _earlier(self, partition: str) -> DatasetRef | None:
        """What an earlier look compared is known by its fingerprint, and not read again."""
        looks = self._tools.ledger.results(
            self._tools.environment, self._job.request.model, "detect_drift", partition=partition, limit=1
        )
        for result in looks:
            dataset = DriftReport.model_validate(result["content"]).current
            # Whoever counts it holds its bytes against the fingerprint.
            if self._tools.data.state(f"{dataset.uri}/data.parquet") is not None:
                return dataset
        try:
            return self._snapshot(partition)
        except PartitionMissingError:
            self._absent[partition] = "is not there"
        except DataError as error:
            self._absent[partition] = error.what
        return None

    def _snapshot(self, partition: str) -> DatasetRef:
        job = self._job
        request = job.request.model_copy(update={"partition": partition, "partitions": (partition,)})
        return snapshot(SnapshotJob.unlabelled(request, job.source, job.related, job.columns), self._tools)

    def _left_out(self) -> Iterator[str]:
        """Partitions that cannot be used, by the reason."""
        for why in dict.fromkeys(self._absent.values()):
            names = sorted(name for name, reason in self._absent.items() if reason == why)
            yield f"left out: {_listed(names)} ({why})"

    # --- Predictions -------------------------------------------------------------------------------------------------

    def _predictions_of(self, partition: str) -> ScoredPartition | None:
        """What the champion published for a partition; those of another version say nothing about this one."""
        if partition not in self._scored:
            found = self._published(partition)
            if found is not None and found.digest != self._champion.move.digest:
                if partition == self._job.request.partition:
                    self._warnings.append(f"predictions are not compared: version {found.version} made them")
                found = None
            self._scored[partition] = found
        return self._scored[partition]

    def _published(self, partition: str) -> ScoredPartition | None:
        job, tools = self._job, self._tools
        if job.scored is None:
            return None
        found = scored_at(render(job.scored.uri, partition), job.request.model, tools)
        return None if isinstance(found, str) else found

    def _holdout(self) -> Evaluation | None:
        move = self._champion.move
        found = self._tools.ledger.results(
            self._tools.environment, move.model, "evaluate", model__digest=move.digest, limit=1
        )
        for result in found:
            return Evaluation.model_validate(result["content"])
        self._warnings.append("predictions are not compared: the ledger holds no evaluation of the champion")
        return None


def _listed(names: Sequence[str]) -> str:
    """Such as ``2013-01-01, 2013-01-02 and 3 more``."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
