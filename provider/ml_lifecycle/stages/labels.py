"""How much of a scored partition has labels: a cheap look, for whoever waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field

from ml_lifecycle.backends.monitoring.labels import join_once
from ml_lifecycle.core.contracts import Columns, Contract, DropRule, Source
from ml_lifecycle.core.data import LABELS_GRACE, end_of, every_of, render
from ml_lifecycle.core.errors import ColumnError, DataError, RequestError
from ml_lifecycle.stages.data import apply_drop_rules, require_columns
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scored_files import PREDICTIONS


class LabelsJob(Contract):
    """Which predictions are to have labels, and until when."""

    partition: str
    scored: Source
    labels: Source
    columns: Columns
    drop: tuple[DropRule, ...] = ()
    """Rows that never get a label, and are not waited for."""
    coverage: float = Field(default=0.95, gt=0, le=1)
    """Share of the predictions that must have one."""
    labels_after: timedelta | None = None
    """How long after the partition's end labels are promised; ``None``: nobody knows."""
    grace: timedelta = LABELS_GRACE
    """How much later they may come."""


@dataclass(frozen=True)
class LabelsFound:
    """What a look at the labels saw."""

    ready: bool
    """Whether there are enough of them."""
    late: bool
    """Whether the time that they had is over."""
    seen: str
    """For people: how many there are, or why none is."""
    predictions: int = 0
    labelled: int = 0
    coverage: float = 0.0
    """Labelled predictions over those that get a label, 0 to 1."""


def look_for_labels(job: LabelsJob, tools: Tools) -> LabelsFound:
    """Count the predictions that have a label, reading keys and targets alone.

    :raises ColumnError: the labels cannot be joined with the predictions.
    :raises RequestError: there is no target, or nobody can say when the partition ends.
    """
    late = _is_late(job, tools.clock())
    uri = f"{render(job.scored.uri, job.partition)}/{PREDICTIONS}"
    if tools.data.state(uri) is None:
        return LabelsFound(ready=False, late=late, seen=f"{uri} is not there yet")
    try:
        predictions, labelled, dropped = _counted(job, uri, tools)
    except ColumnError:
        raise
    except DataError as error:
        return LabelsFound(ready=False, late=late, seen=f"the labels are not there yet: {error}")
    asked = predictions - dropped
    share = labelled / asked if asked else 1.0
    seen = f"{labelled:,} of {asked:,} predictions have a label ({share:.1%}), and {job.coverage:.1%} are asked for"
    return LabelsFound(share >= job.coverage, late, seen, predictions, labelled, share)


def _is_late(job: LabelsJob, now: datetime) -> bool:
    if job.labels_after is None:
        return False
    return now >= end_of(job.partition, every_of(job.partition)) + job.labels_after + job.grace


def _counted(job: LabelsJob, uri: str, tools: Tools) -> tuple[int, int, int]:
    """The predictions, those that have a label, and those that get none."""
    target = job.columns.target
    if target is None:
        raise RequestError(
            "labels need a target", where=f"partition {job.partition}", way_out="name it: columns={'target': ...}"
        )
    key, where = job.columns.key, render(job.labels.uri, job.partition)
    names = [key, target, *(rule.column for rule in job.drop)]
    labels = tools.data.read_table(where, names)
    predictions = tools.data.read_table(uri, [key])
    require_columns(predictions, [key], where=uri, role="the key")
    joined = join_once(
        predictions, labels, key=key, target=target, decides=[rule.column for rule in job.drop], where=where
    )
    kept, dropped = apply_drop_rules(joined.rows, job.drop, where=where)
    return len(predictions), int(kept[target].notna().sum()), sum(dropped.values())
