"""What a retraining would read: which partitions, how many labelled rows that no training has seen, and what not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from pydantic import Field

from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    DataRejection,
    DatasetRef,
    Source,
    TrainedModel,
    ValidationReport,
    Verdict,
)
from ml_lifecycle.core.data import PLACEHOLDER, Every, render, start_of, window_without
from ml_lifecycle.core.errors import DataError, RequestError
from ml_lifecycle.core.response import FreshData
from ml_lifecycle.stages.runner import Tools

RECENT = 100
"""How many of the newest snapshots and reports are looked through for data that was refused."""


class FreshDataJob(Contract):
    """Where a training reads, as its pipeline says."""

    model: str
    source: Source
    labels: Source | None = None
    related: dict[str, Source] = Field(default_factory=dict)
    columns: Columns | None = None
    every: Every = "monthly"
    window: int = Field(default=1, ge=1)

    @property
    def templates(self) -> tuple[str, ...]:
        """Of the files that each partition brings."""
        sources = (self.source, *([self.labels] if self.labels else ()), *self.related.values())
        return tuple(source.uri for source in sources if PLACEHOLDER.search(source.uri))


def fresh_data(job: FreshDataJob, tools: Tools, *, failed: Mapping[str, str]) -> FreshData:
    """What a retraining that is asked for at this moment would read.

    :param failed: Partitions that are known to be bad already, each with why.
    """
    held = [set(tools.data.partitions(template)) for template in job.templates]
    available = {name for name in set.intersection(*held) if _is_named(name, job.every)} if held else set()
    refused = {**refused_partitions(job, tools), **failed}
    partitions: tuple[str, ...] = ()
    if available:
        newest = max(available)
        partitions = window_without(newest, job.every, job.window, excluded=refused, available=available)
    if not partitions:
        return FreshData(refused=_in_span(refused, available))
    seen = _seen(job.model, tools)
    unseen = tuple(name for name in partitions if name in available and name not in seen)
    rows = sum(_labelled_rows(job, name, tools) for name in unseen)
    later = [name for name in available if name > partitions[0]]
    return FreshData(partitions=partitions, unseen=unseen, rows=rows, refused=_in_span(refused, later))


def _is_named(name: str, every: Every) -> bool:
    """Files of another form say nothing about this pipeline."""
    try:
        return bool(start_of(name, every))
    except RequestError:
        return False


def _in_span(refused: Mapping[str, str], names: Sequence[str] | set[str]) -> dict[str, str]:
    return {name: why for name, why in sorted(refused.items()) if name in names}


def _seen(model: str, tools: Tools) -> set[str]:
    """Partitions that the champion's training or a later one has read."""
    trained = [
        TrainedModel.model_validate(result["content"])
        for result in tools.ledger.results(tools.environment, model, "train")
    ]
    head = tools.ledger.head(model, tools.environment)
    first = next((place for place, one in enumerate(trained) if head is not None and one.digest == head.digest), 0)
    return {name for one in trained[first:] for name in one.dataset.partitions}


def _labelled_rows(job: FreshDataJob, partition: str, tools: Tools) -> int:
    """Rows with a target; where the labels of all partitions lie in one file, rows."""
    target = job.columns.target if job.columns is not None else None
    source = job.labels if job.labels is not None and PLACEHOLDER.search(job.labels.uri) else job.source
    is_beside = job.labels is not None and source is job.source
    try:
        return tools.data.count_rows(render(source.uri, partition), None if is_beside else target)
    except DataError:
        # Whatever cannot be read can be no reason to train.
        return 0


# --- What was refused ------------------------------------------------------------------------------------------------


class _Refusal(NamedTuple):
    dataset: DatasetRef
    why: str


def refused_partitions(job: FreshDataJob, tools: Tools) -> dict[str, str]:
    """Partitions whose data failed its suite or was rejected by people, each with why.

    Of a refused dataset of several partitions, those are to blame that no model was ever trained on. A partition whose
    files were changed since is another one: it is not refused until somebody looks.
    """
    trained_on = {
        name
        for result in tools.ledger.results(tools.environment, job.model, "train")
        for name in result["content"]["dataset"]["partitions"]
    }
    found: dict[str, str] = {}
    for refusal in _refusals(job.model, trained_on, tools):
        for name in refusal.dataset.partitions:
            if name not in trained_on and name not in found and not _is_mended(refusal.dataset, name, job, tools):
                found[name] = refusal.why
    return found


def _refusals(model: str, trained_on: set[str], tools: Tools) -> Iterator[_Refusal]:
    ledger, environment = tools.ledger, tools.environment
    for result in ledger.results(environment, model, "reject_data", limit=RECENT):
        yield _Refusal(DataRejection.model_validate(result["content"]).dataset, "its data failed its suite")
    datasets: dict[str, DatasetRef] = {}
    checked = [ledger.results(environment, model, stage, limit=RECENT) for stage in ("validate", "check_quality")]
    for result in chain(*checked):
        report = ValidationReport.model_validate(result["content"])
        datasets[report.dataset.fingerprint] = report.dataset
        if report.verdict is Verdict.FAIL:
            yield _Refusal(report.dataset, "its data failed its suite")
    for result in ledger.results(environment, model, "snapshot", limit=RECENT):
        dataset = DatasetRef.model_validate(result["content"])
        datasets[dataset.fingerprint] = dataset
    for fingerprint, dataset in datasets.items():
        if trained_on.issuperset(dataset.partitions):
            continue
        decision = ledger.decision_for(model, environment, fingerprint)
        if decision is not None and (decision.ask.kind, decision.outcome) == ("dataset", "reject"):
            yield _Refusal(dataset, f"{decision.decided_by} rejected its data")


def _is_mended(dataset: DatasetRef, partition: str, job: FreshDataJob, tools: Tools) -> bool:
    """Whether a file of the partition is another one than the dataset was made from."""
    try:
        with tools.data.folder(dataset.uri) as folder:
            sources = json.loads((folder / "origin.json").read_text(encoding="utf-8"))["sources"]
        before = {str(one["uri"]): str(one["sha256"]) for one in sources}
        files = {render(template, partition) for template in job.templates} & set(before)
        return any(tools.data.state(uri) is None or tools.data.file_digest(uri) != before[uri] for uri in files)
    except (DataError, OSError, ValueError, KeyError, TypeError):
        # Without the dataset nobody can tell, and what was refused stays refused.
        return False
