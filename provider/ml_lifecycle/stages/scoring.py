"""A partition in, the champion's predictions for it out, published once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field

from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    RunRequest,
    ScoredPartition,
    Source,
    TrainedModel,
    digest_of,
)
from ml_lifecycle.core.data import render
from ml_lifecycle.core.errors import (
    ChampionError,
    DataError,
    DigestMismatchError,
    NoRowsError,
    PartitionMissingError,
    RequestError,
)
from ml_lifecycle.stages.ahead import ahead
from ml_lifecycle.stages.champion import LoadedModel, champion_of, check_features, load_trained
from ml_lifecycle.stages.data import SnapshotJob
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scored_files import ORIGIN
from ml_lifecycle.stages.scoring_answers import Answered, Scorer
from ml_lifecycle.stages.scoring_log import LogAhead
from ml_lifecycle.stages.scoring_parts import (
    JoinedParts,
    PartFacts,
    Stamp,
    bring_inputs,
    finished_part,
    publish_part,
    write_part,
)
from ml_lifecycle.stages.scoring_rows import PartitionRows, open_rows

BATCH_ROWS: Final = 131_072
PART_BATCHES: Final = 4
"""Batches of a part, which is what a killed try loses at most."""
_LAYOUT: Final = 1
"""Part of what unfinished parts are named by: other code does not go on from them."""


class ScoringJob(Contract):
    """What is scored, and where the predictions go."""

    request: RunRequest
    source: Source
    related: dict[str, Source] = Field(default_factory=dict)
    columns: Columns
    output: Source
    """Folder below the data root, such as ``scored/{{ partition }}``."""
    partition: str | None = None
    """Which one of several that the request asks for; ``None``: its newest."""
    max_bad: float = Field(default=0.0, ge=0, lt=1)
    """Share of rows that may be left out, with the reason, because they cannot be scored; 0 to below 1."""
    batch_rows: int = Field(default=BATCH_ROWS, ge=1)
    """How many rows are in memory at a time, at most."""


def score(job: ScoringJob, tools: Tools) -> ScoredPartition:
    """Score the partition by the champion; a partition that is published already stays as it is.

    A try that was killed leaves finished parts, and the next one goes on from them: as long as the data, the feature
    code and the champion are the same. Another champion starts anew, so that no partition mixes two models.

    :raises ChampionError: no version was released yet, or the champion cannot be used.
    :raises DataError: more rows than tolerated cannot be scored, or something else lies where the predictions go.
    :raises DigestMismatchError: the published predictions are not the bytes that scoring published.
    """
    uri = render(job.output.uri, _partition(job, tools))
    published = _published(uri, job, tools)
    if published is not None:
        tools.data.discard(_unfinished(uri, job))
        # A try that ended in between left the log without some of its files.
        with closing(LogAhead(job.request.model, uri, job.columns, tools)) as log:
            return log.written(published)
    champion = champion_of(job.request.model, tools)
    if champion is None:
        raise ChampionError(
            "no version was released yet",
            where=f"{job.request.model} in environment {tools.environment}",
            way_out="approve a release first",
        )
    with closing(LogAhead(job.request.model, uri, job.columns, tools)) as log:
        return log.written(_publish(job, champion.loaded, champion.version, uri, tools, log=log))


def score_with(job: ScoringJob, model: TrainedModel, tools: Tools) -> ScoredPartition:
    """Score by a model that was handed over and is nobody's champion: stamped as version 0, and not logged."""
    uri = render(job.output.uri, _partition(job, tools))
    published = _published(uri, job, tools)
    if published is not None:
        return published
    loaded = load_trained(model, tools)
    check_features(loaded.info, tools)
    return _publish(job, loaded, 0, uri, tools, log=None)


def _partition(job: ScoringJob, tools: Tools) -> str:
    request = job.request
    asked = (request.partition, *request.partitions)
    if job.partition is not None and job.partition not in asked:
        raise RequestError(
            f"partition {job.partition} was not asked for", where=tools.run, way_out=f"it was {', '.join(asked)}"
        )
    partition = job.partition or request.partition
    if not partition:
        raise RequestError("no partition was asked for", where=tools.run, way_out="name one, such as 2013-04")
    return partition


def _unfinished(uri: str, job: ScoringJob) -> str:
    """Where the parts lie that are no publication yet."""
    return f"unfinished/{job.request.model}/{digest_of(uri)[:16]}"


def _publish(
    job: ScoringJob, model: LoadedModel, version: int, uri: str, tools: Tools, *, log: LogAhead | None
) -> ScoredPartition:
    partition = _partition(job, tools)
    request = job.request.model_copy(update={"partition": partition})
    reading = SnapshotJob.unlabelled(request, job.source, job.related, job.columns)
    needed = set(model.info.inputs) if model.info.features is None else None
    with open_rows(reading, tools, batch_rows=job.batch_rows, needed=needed) as rows:
        stamp = Stamp(
            partition=partition,
            version=version,
            digest=model.trained.digest,
            key=job.columns.key,
            time=job.columns.time,
            classes=model.info.classes,
            inputs=model.info.inputs,
        )
        work = _Work(job, rows, Scorer(model, rows, tools, tolerant=job.max_bad > 0), stamp, uri, tools, log)
        fingerprint = None
        try:
            fingerprint = work.publish()
        except (PartitionMissingError, FileNotFoundError):
            # Another try that published in between has cleared the parts away.
            if tools.data.state(f"{uri}/{ORIGIN}") is None:
                raise
    published = _published(uri, job, tools, fingerprint)
    if published is None:
        raise DataError(
            "the predictions are gone again", where=uri, way_out="find out who deletes them, and score again"
        )
    tools.data.discard(_unfinished(uri, job))
    return published


@dataclass(frozen=True)
class _Work:
    """One partition on its way through one model."""

    job: ScoringJob
    rows: PartitionRows
    scorer: Scorer
    stamp: Stamp
    uri: str
    tools: Tools
    log: LogAhead | None

    def publish(self) -> str:
        """Score what is not scored yet, publish all of it, and return the publication's digest."""
        count, size = self.rows.count, self.rows.batch_rows * PART_BATCHES
        spans = [(first, min(first + size, count)) for first in range(0, count, size)]
        if len(spans) == 1:
            only = spans[0]
            return self.tools.data.publish(self.uri, lambda folder: self._finish(folder, [self._direct(folder, only)]))
        with tempfile.TemporaryDirectory(prefix="ml-lifecycle-scored-") as folder:
            return self._publish_parts(spans, JoinedParts(Path(folder), self.stamp.key))

    def _publish_parts(self, spans: Sequence[tuple[int, int]], joined: JoinedParts) -> str:
        data, parts = self.tools.data, dict[str, PartFacts]()
        with closing(joined):
            # A part is joined and logged while the next one is scored.
            for uri, facts in ahead(self._parts(spans)):
                with data.folder(uri) as part:
                    for predictions, inputs in joined.add(part):
                        if self.log is not None:
                            self.log.add(predictions, inputs, self.rows.fingerprint, self.stamp)
                parts[uri] = facts

        def write(folder: Path) -> None:
            joined.move(folder)
            for uri, facts in parts.items():
                with data.folder(uri) as part:
                    bring_inputs(part, facts, folder)
            self._finish(folder, list(parts.values()))

        return data.publish(self.uri, write)

    def _parts(self, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[str, PartFacts]]:
        """Where each part lies, as soon as it does, and what it holds."""
        uris = [f"{_unfinished(self.uri, self.job)}/{self._key()[:16]}/{first:09d}" for first, _ in spans]
        found = [finished_part(self.tools.data, uri) for uri in uris]
        left = [span for span, part in zip(spans, found, strict=True) if part is None]
        parts: list[PartFacts] = []
        with closing(self._answers(left)) as answers:
            for uri, span, part in zip(uris, spans, found, strict=True):
                parts.append(part or self._part(uri, span, answers))
                self._check_bad(parts)
                yield uri, parts[-1]

    def _key(self) -> str:
        """Names the work by all that its result depends on."""
        told = {
            "layout": _LAYOUT,
            "rows": self.rows.fingerprint,
            "batch_rows": self.rows.batch_rows,
            "model": self.stamp.digest,
            "version": self.stamp.version,
        }
        return digest_of(told)

    def _answers(self, spans: Sequence[tuple[int, int]]) -> Generator[Answered, None, None]:
        """What is answered to the rows of all spans, batch by batch; no batch reaches over the end of a span."""
        if not spans:
            return
        self.scorer.make_ready()
        batches = (batch for span in spans for batch in self.rows.batches(*span))
        # The next batch is read while this one is scored, and that while the one before is written.
        yield from ahead(self.scorer.answer(batch) for batch in ahead(batches))

    def _part(self, uri: str, span: tuple[int, int], answers: Iterator[Answered]) -> PartFacts:
        return publish_part(self.tools.data, uri, span, self._of(span, answers), self.stamp)

    def _of(self, span: tuple[int, int], answers: Iterator[Answered]) -> Iterator[Answered]:
        """Those of a span's rows; rows before them are of parts that another try made meanwhile."""
        for answered in answers:
            if answered.batch.first >= span[0]:
                yield answered
            if answered.batch.first + answered.batch.raw.num_rows >= span[1]:
                break
        self.rows.check_unchanged()

    def _direct(self, folder: Path, span: tuple[int, int]) -> PartFacts:
        with closing(self._answers([span])) as answers:
            facts = write_part(folder, span, self._of(span, answers), self.stamp)
        self._check_bad([facts])
        return facts

    def _finish(self, folder: Path, parts: Sequence[PartFacts]) -> None:
        scored, bad = sum(part.rows for part in parts), _counted(parts)
        if not scored:
            raise NoRowsError(
                f"none of {self.rows.count:,} rows can be scored ({_listed(bad, parts)})",
                where=self.rows.where,
                way_out="mend the data",
            )
        self.rows.check_unchanged()
        origin = {
            "model": self.job.request.model,
            "partition": self.stamp.partition,
            "uri": self.uri,
            "rows": scored,
            "version": self.stamp.version,
            "digest": self.stamp.digest,
            "dataset_fingerprint": self.rows.fingerprint,
            "classes": list(self.stamp.classes),
            "quarantined_rows": sum(bad.values()),
            "quarantined_for": bad,
        }
        (folder / ORIGIN).write_text(json.dumps(origin, indent=1, sort_keys=True) + "\n")

    def _check_bad(self, parts: Sequence[PartFacts]) -> None:
        """Stop where more rows than tolerated cannot be scored, as soon as it is known."""
        bad = _counted(parts)
        found, count = sum(bad.values()), self.rows.count
        if found > self.job.max_bad * count:
            raise DataError(
                f"{found:,} of {count:,} rows cannot be scored ({_listed(bad, parts)}), and {self.job.max_bad:.4g} of "
                "them are tolerated",
                where=self.rows.where,
                way_out="mend the data, or let scoring.max_bad quarantine as many",
            )


def _counted(parts: Sequence[PartFacts]) -> dict[str, int]:
    bad: dict[str, int] = {}
    for part in parts:
        for because, count in part.bad.items():
            bad[because] = bad.get(because, 0) + count
    return bad


def _listed(bad: Mapping[str, int], parts: Sequence[PartFacts]) -> str:
    examples: dict[str, int] = {}
    for part in parts:
        examples = {**part.examples, **examples}
    return "; ".join(
        f"{because}: {count:,}, such as row {examples[because]:,} from 0" for because, count in bad.items()
    )


def scored_at(uri: str, model: str, tools: Tools) -> ScoredPartition | str:
    """The predictions that a model's scoring published there, or why there are none that count.

    :raises DigestMismatchError: they are not the bytes that scoring published.
    """
    fingerprint = tools.data.published(uri)
    if fingerprint is None:
        return f"no predictions are published at {uri}"
    known = [result["content"] for result in tools.ledger.results(tools.environment, model, "score", uri=uri)]
    if not known:
        return f"the ledger knows of no scoring that published {uri}"
    for content in reversed(known):
        if content["fingerprint"] == fingerprint:
            return ScoredPartition.model_validate(content)
    raise _changed(uri, expected=known[-1]["fingerprint"], found=fingerprint)


def _published(uri: str, job: ScoringJob, tools: Tools, fingerprint: str | None = None) -> ScoredPartition | None:
    """What is published there; its bytes are named by the fingerprint, which is looked up where it is not told."""
    fingerprint = fingerprint or tools.data.published(uri)
    if fingerprint is None:
        return None
    with tools.data.folder(uri) as folder:
        try:
            origin = json.loads((folder / ORIGIN).read_text())
            scored = ScoredPartition.model_validate({**origin, "fingerprint": fingerprint})
        except (OSError, TypeError, ValueError) as error:
            raise DataError(
                f"{ORIGIN} cannot be read ({type(error).__name__})",
                where=uri,
                way_out="something else lies where predictions go; move it away",
            ) from error
    asked = (job.request.model, _partition(job, tools))
    if (scored.model, scored.partition) != asked:
        raise DataError(
            f"the predictions of {scored.model} for {scored.partition} lie where those of {' for '.join(asked)} go",
            where=uri,
            way_out="give each model an output of its own, such as scored/<model>/{{ partition }}",
        )
    _refuse_changed(scored, tools)
    return scored


def _refuse_changed(scored: ScoredPartition, tools: Tools) -> None:
    """A try that ended before the ledger knew of it left bytes that nobody can vouch for; those are taken."""
    known = [
        entry["content"]["fingerprint"]
        for entry in tools.ledger.results(tools.environment, scored.model, "score", uri=scored.uri)
    ]
    if known and scored.fingerprint not in known:
        raise _changed(scored.uri, expected=known[-1], found=scored.fingerprint)


def _changed(uri: str, *, expected: str, found: str) -> DigestMismatchError:
    return DigestMismatchError(
        "the published predictions",
        expected=expected,
        found=found,
        where=uri,
        way_out="they were changed after scoring; restore them, or remove the folder and score again",
    )
