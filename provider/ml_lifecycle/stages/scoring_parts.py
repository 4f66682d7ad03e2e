"""Scored rows into files: in parts that a later try goes on from, and the parts into one publication."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, ValidationError

from ml_lifecycle.backends.data.base import DataStore
from ml_lifecycle.backends.files import file_digest
from ml_lifecycle.backends.growing_parquet import GrowingParquet
from ml_lifecycle.backends.models.inputs import CATEGORY, answer_columns
from ml_lifecycle.core.contracts import Contract, Scalar
from ml_lifecycle.stages.scored_files import (
    INPUTS,
    PREDICTIONS,
    QUARANTINE,
    QUARANTINE_COLUMNS,
    part_of_inputs,
    row_groups,
)
from ml_lifecycle.stages.scoring_answers import Answered

if TYPE_CHECKING:
    import pyarrow as pa

FACTS: Final = "part.json"


@dataclass(frozen=True)
class Stamp:
    """What each predicted row says of where its prediction comes from, and which columns it has."""

    partition: str
    version: int
    digest: str
    key: str
    time: str | None
    classes: tuple[Scalar, ...]
    inputs: Mapping[str, str]
    """The model's inputs with their types."""


class PartFacts(Contract):
    """What a part holds: all rows of the partition from ``first`` to before ``last``, scored or with a reason."""

    first: int
    last: int
    rows: int
    """Scored."""
    bad: dict[str, int] = Field(default_factory=dict)
    """Not scored, by the reason."""
    examples: dict[str, int] = Field(default_factory=dict)
    """Of each reason a row's place in the partition."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file, by its name."""


def write_part(folder: Path, span: tuple[int, int], answers: Iterator[Answered], stamp: Stamp) -> PartFacts:
    """Write what was answered, batch by batch, in the layout of a published partition."""
    bad: dict[str, int] = {}
    examples: dict[str, int] = {}
    with ExitStack() as stack:
        predictions, inputs, quarantine = (
            stack.enter_context(closing(GrowingParquet(folder / name, [stamp.key])))
            for name in (PREDICTIONS, INPUTS, QUARANTINE)
        )
        for answered in answers:
            predictions.add(_predictions(answered, stamp))
            inputs.add(_inputs(answered, stamp))
            if answered.bad:
                quarantine.add(_quarantine(answered))
            for place, why in sorted(answered.bad.items()):
                bad[why.because] = bad.get(why.because, 0) + 1
                examples.setdefault(why.because, answered.batch.first + place)
    return PartFacts(first=span[0], last=span[1], rows=predictions.rows, bad=bad, examples=examples)


def publish_part(
    store: DataStore, uri: str, span: tuple[int, int], answers: Iterator[Answered], stamp: Stamp
) -> PartFacts:
    """Make a part that stays when this try ends, and return what it holds."""
    made: list[PartFacts] = []

    def write(folder: Path) -> None:
        facts = write_part(folder, span, answers, stamp)
        files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
        made.append(facts.model_copy(update={"files": files}))
        (folder / FACTS).write_text(json.dumps(made[0].to_xcom()) + "\n", encoding="utf-8")

    store.publish(uri, write)
    # Another try may have come first: then its part is the one.
    return made[0] if made else finished_part(store, uri) or publish_part(store, uri, span, answers, stamp)


def finished_part(store: DataStore, uri: str) -> PartFacts | None:
    """What an earlier try left there, every byte of it as it was; a part that is spoilt is discarded."""
    if store.state(f"{uri}/{FACTS}") is None:
        return None
    with store.folder(uri) as folder:
        try:
            facts = PartFacts.model_validate(json.loads((folder / FACTS).read_text(encoding="utf-8")))
            if all(file_digest(folder / name) == digest for name, digest in facts.files.items()):
                return facts
        except (OSError, ValueError, ValidationError):
            pass
    store.discard(uri)
    return None


class JoinedParts:
    """What parts hold, one after the other, in a folder of this machine: predictions as one file, bad rows as another.

    :param key: The column that tells rows apart.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._predictions, self._quarantine = (
            GrowingParquet(folder / name, [key]) for name in (PREDICTIONS, QUARANTINE)
        )
        self._folder = folder

    def add(self, part: Path) -> Iterator[tuple[pa.Table, pa.Table | None]]:
        """Append a part, and tell its predictions and the model's inputs beside them, some rows at a time."""
        for predictions, inputs in row_groups(part):
            self._predictions.add(predictions)
            yield predictions, inputs
        for rows in _tables(part / QUARANTINE):
            self._quarantine.add(rows)

    def close(self) -> None:
        """Write the files' ends."""
        self._predictions.close()
        self._quarantine.close()

    def move(self, folder: Path) -> None:
        """Put the files, which have an end, into a folder."""
        for path in sorted(self._folder.iterdir()):
            shutil.move(path, folder / path.name)


def bring_inputs(part: Path, facts: PartFacts, folder: Path) -> None:
    """Put what the model saw of a part's rows into a folder, as a file of its own."""
    if (part / INPUTS).is_file():
        _same_file(part / INPUTS, folder / part_of_inputs(facts.first))


def _same_file(path: Path, target: Path) -> None:
    """Neither changes any more: where the place can, they are one."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _tables(path: Path) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    if path.is_file():
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)


def _predictions(answered: Answered, stamp: Stamp) -> pa.Table:
    import pyarrow as pa

    rows, count = answered.rows, len(answered.rows)
    columns: dict[str, Any] = {stamp.key: answered.keys}
    if stamp.time is not None and stamp.time in rows.columns:
        columns[stamp.time] = pa.array(rows[stamp.time], from_pandas=True)
    if count:
        columns |= {name: pa.array(values) for name, values in answer_columns(answered.scores, stamp.classes).items()}
    columns |= {
        "model_version": pa.repeat(pa.scalar(stamp.version, pa.int64()), count),
        "model_digest": pa.repeat(stamp.digest, count),
        "partition": pa.repeat(stamp.partition, count),
    }
    return pa.table(columns)


def _inputs(answered: Answered, stamp: Stamp) -> pa.Table:
    import pyarrow as pa

    columns = {stamp.key: answered.keys}
    for name, kind in stamp.inputs.items():
        held = pa.string() if kind == CATEGORY else pa.float64()
        columns[name] = pa.array(answered.seen[name], held, from_pandas=True)
    return pa.table(columns)


def _quarantine(answered: Answered) -> pa.Table:
    """The rows as their file holds them, with the reason beside them."""
    import pyarrow as pa

    places = sorted(answered.bad)
    rows = answered.batch.raw.take(pa.array(places, pa.int64()))
    rows = rows.drop_columns([name for name in QUARANTINE_COLUMNS if name in rows.column_names])
    whys = [answered.bad[place] for place in places]
    beside = (
        pa.array([answered.batch.first + place for place in places], pa.int64()),
        pa.array([why.because for why in whys], pa.string()),
        pa.array([why.detail for why in whys], pa.string()),
    )
    for name, values in zip(QUARANTINE_COLUMNS, beside, strict=True):
        rows = rows.append_column(name, values)
    return rows
