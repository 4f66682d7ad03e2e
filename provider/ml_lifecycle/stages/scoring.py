"""A partition in, the champion's predictions for it out, published once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from ml_lifecycle.backends.files import read_parquet, write_parquet
from ml_lifecycle.backends.models.inputs import answer_columns, prepare
from ml_lifecycle.backends.monitoring.prediction_log import (
    FOLDER,
    Origin,
    Tree,
    order_of,
    prediction_table,
    write_log,
)
from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    DatasetRef,
    RunRequest,
    ScoredPartition,
    Source,
    TrainedModel,
)
from ml_lifecycle.core.data import render
from ml_lifecycle.core.errors import ChampionError, DataError, DigestMismatchError, RequestError
from ml_lifecycle.stages.champion import LoadedModel, champion_of, check_features, load_trained
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import build_inputs

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PREDICTIONS: Final = "predictions.parquet"
INPUTS: Final = "inputs.parquet"
ORIGIN: Final = "origin.json"


class ScoringJob(Contract):
    """What is scored, and where the predictions go."""

    request: RunRequest
    source: Source
    related: dict[str, Source] = Field(default_factory=dict)
    columns: Columns
    output: Source
    """Folder below the data root, such as ``scored/{{ partition }}``."""


def score(job: ScoringJob, tools: Tools) -> ScoredPartition:
    """Score the partition by the champion; a partition that is published already stays as it is.

    :raises ChampionError: no version was released yet, or the champion cannot be used.
    :raises DataError: something else lies where the predictions go, such as those of another model.
    :raises DigestMismatchError: the published predictions are not the bytes that scoring published.
    """
    partition = job.request.partition
    if not partition:
        raise RequestError("no partition was asked for", where=tools.run, way_out="name one, such as 2013-04")
    uri = render(job.output.uri, partition)
    published = _published(uri, job, tools)
    if published is not None:
        # A try that ended in between left the log without some of its files.
        return _logged(published, job, tools)
    champion = champion_of(job.request.model, tools)
    if champion is None:
        raise ChampionError(
            "no version was released yet",
            where=f"{job.request.model} in environment {tools.environment}",
            way_out="approve a release first",
        )
    return _logged(_publish(job, champion.loaded, champion.version, uri, tools), job, tools)


def score_with(job: ScoringJob, model: TrainedModel, tools: Tools) -> ScoredPartition:
    """Score by a model that was handed over and is nobody's champion: stamped as version 0, and not logged."""
    uri = render(job.output.uri, job.request.partition)
    published = _published(uri, job, tools)
    if published is not None:
        return published
    loaded = load_trained(model, tools)
    check_features(loaded.info, tools)
    return _publish(job, loaded, 0, uri, tools)


def _publish(job: ScoringJob, model: LoadedModel, version: int, uri: str, tools: Tools) -> ScoredPartition:
    dataset = snapshot(SnapshotJob.unlabelled(job.request, job.source, job.related, job.columns), tools)
    table, seen = _predictions(job, dataset, model, version, tools)
    origin = {
        "model": job.request.model,
        "partition": job.request.partition,
        "uri": uri,
        "rows": len(table),
        "version": version,
        "digest": model.trained.digest,
        "dataset_fingerprint": dataset.fingerprint,
        "classes": list(model.info.classes),
    }

    def write(folder: Path) -> None:
        write_parquet(table, folder / PREDICTIONS)
        write_parquet(seen, folder / INPUTS)
        (folder / ORIGIN).write_text(json.dumps(origin, indent=1, sort_keys=True) + "\n")

    tools.data.publish(uri, write)
    published = _published(uri, job, tools)
    if published is None:
        raise DataError(
            "the predictions are gone again", where=uri, way_out="find out who deletes them, and score again"
        )
    return published


def _predictions(
    job: ScoringJob, dataset: DatasetRef, model: LoadedModel, version: int, tools: Tools
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions, and beside each row's key what the model saw of it."""
    import pandas as pd

    inputs = build_inputs(dataset, model.info.features, tools)
    seen = prepare(inputs.features, model.info.inputs, where=f"input of {model.info.name}")
    scores = model.predict(seen)
    keys = inputs.rows[job.columns.key]
    columns: dict[str, Any] = {job.columns.key: keys}
    if job.columns.time is not None and job.columns.time in inputs.rows.columns:
        columns[job.columns.time] = inputs.rows[job.columns.time]
    columns |= answer_columns(scores, model.info.classes)
    stamp = {"model_version": version, "model_digest": model.trained.digest, "partition": job.request.partition}
    return pd.DataFrame({**columns, **stamp}), pd.DataFrame({job.columns.key: keys, **seen})


def _logged(scored: ScoredPartition, job: ScoringJob, tools: Tools) -> ScoredPartition:
    """Bring the published predictions into the log, all of them, however often it is asked for."""
    with tools.data.folder(scored.uri, scored.fingerprint) as folder:
        predictions = read_parquet(folder / PREDICTIONS)
        inputs = read_parquet(folder / INPUTS).drop(columns=[job.columns.key]) if (folder / INPUTS).is_file() else None
    origin = log_origin(scored, tools)
    table = prediction_table(
        predictions, origin, key=job.columns.key, time=job.columns.time, classes=scored.classes, inputs=inputs
    )
    write_to_log(tools, "predictions", origin, table)
    return scored


def log_origin(scored: ScoredPartition, tools: Tools) -> Origin:
    """What the log says of where a partition's predictions come from."""
    recorded = tools.ledger.results(tools.environment, scored.model, "score", uri=scored.uri)
    return Origin(
        endpoint=scored.model,
        partition=scored.partition,
        model_digest=scored.digest,
        model_version=scored.version,
        data_digest=scored.dataset_fingerprint,
        recorded=order_of([entry["content"]["fingerprint"] for entry in recorded], scored.fingerprint),
    )


def write_to_log(tools: Tools, tree: Tree, origin: Origin, table: pa.Table) -> None:
    """Put a table into the deployment's log."""
    write_log(lambda uri, content: tools.data.write_file(f"{FOLDER}/{uri}", content), tree, origin, table)


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


def _published(uri: str, job: ScoringJob, tools: Tools) -> ScoredPartition | None:
    """What an earlier run published there; its bytes are named by the fingerprint."""
    fingerprint = tools.data.published(uri)
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
    asked = (job.request.model, job.request.partition)
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
