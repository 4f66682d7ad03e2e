"""The rules that files of predictions are held to: a file of their own, or a whole pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ml_lifecycle.backends.evaluation.prediction_files import FileColumns
from ml_lifecycle.core.contracts import MeasurementSpec
from ml_lifecycle.core.errors import PipelineError
from ml_lifecycle.core.evaluation import OPERATIONAL, columns_named, metrics_named
from ml_lifecycle.pipeline.loader import Document, read_pipeline, read_tree, readable, translate
from ml_lifecycle.pipeline.spec import (
    Disagreement,
    EvaluationSection,
    GateSection,
    Loc,
    MetricName,
    Section,
    Sections,
    Text,
    check_metric,
    gate_disagreements,
    measurement_disagreements,
)


class FilesSection(Section, FileColumns):
    """What the columns of the files mean."""

    key: Text | None = None
    """Column that names a row uniquely; left out: key or id."""
    time: Text | None = None
    """Column that says when the row's event takes place."""
    target: Text | None = None
    """Column that holds what turned out; left out: target, label or truth."""
    score: Text | None = None
    """Column that holds what was predicted; left out: score, prediction or probability, or a column score:<label> per
    class."""
    task: Literal["binary", "multiclass", "regression"] | None = None
    """Left out: by the columns and the labels."""
    positive: Text | None = None
    """Of two labels, the one that the score is the probability of; left out: the greater one."""


class RulesFile(EvaluationSection):
    """A file of rules: the keys of a pipeline's evaluation, and what the columns mean."""

    data: FilesSection = Field(default_factory=FilesSection)
    """What the columns of the files mean."""
    metrics: Annotated[tuple[MetricName, ...], Field(strict=False)] = ()
    """What is measured beside what the rules name."""


@dataclass(frozen=True)
class Rules:
    """What files of predictions are held to."""

    columns: FileColumns
    metrics: tuple[str, ...]
    slices: tuple[str, ...]
    spec: MeasurementSpec
    gate: tuple[GateSection, ...]


def read_rules(path: Path) -> Rules:
    """The rules of one file; of a whole pipeline, those that its gate applies.

    :raises PipelineError: with all mistakes of the file.
    """
    document = read_tree(path)
    if document.root.entries is not None and "model" in document.root.entries:
        return _of_pipeline(path)
    found = _of_file(document) if document.root.entries is not None else None
    if document.finish().mistakes or found is None:
        raise PipelineError(str(mistake) for mistake in document.mistakes)
    return _rules(FileColumns(**found.data.model_dump()), found)


def _of_pipeline(path: Path) -> Rules:
    pipeline = read_pipeline(path)
    data = pipeline.data
    return _rules(FileColumns(key=data.key, time=data.time, target=data.target), pipeline.evaluation)


def _rules(columns: FileColumns, evaluation: EvaluationSection) -> Rules:
    """The metrics and slices of a rules file are those that it lists and those that its rules name."""
    return Rules(
        columns=columns,
        metrics=tuple(dict.fromkeys((*evaluation.metrics, *metrics_named(evaluation.gate)))),
        slices=tuple(dict.fromkeys((*evaluation.slices, *columns_named(evaluation.gate)))),
        spec=evaluation.spec,
        gate=evaluation.gate,
    )


def _of_file(document: Document) -> RulesFile | None:
    values = document.root.plain()
    found: RulesFile | None = None
    try:
        found = RulesFile.model_validate(values)
    except ValidationError as error:
        translate(document, error, RulesFile)
    rules = values.get("gate", ())
    read = {index: readable(GateSection, rule) for index, rule in enumerate(rules if isinstance(rules, tuple) else ())}
    for one in _disagreements({index: rule for index, rule in read.items() if isinstance(rule, GateSection)}, found):
        if not document.is_wrong(one.loc):
            document.add(one.loc, one.what, one.way_out)
    return found


def _disagreements(rules: dict[int, GateSection], found: RulesFile | None) -> Iterator[Disagreement]:
    for index, rule in rules.items():
        loc: Loc = ("gate", index)
        yield from gate_disagreements(loc, rule, None)
        if rule.metric in OPERATIONAL:
            continue
        try:
            check_metric(rule.metric)
        except ValueError as error:
            what, _, way_out = str(error).rpartition("; ")
            yield Disagreement((*loc, "metric"), what, way_out)
    if found is not None:
        measured = found.model_copy(update={"metrics": (*found.metrics, *(rule.metric for rule in rules.values()))})
        sections = Sections(None, None, None, measured, None, None, None, {})
        for one in measurement_disagreements(sections):
            yield Disagreement(one.loc[1:], one.what, one.way_out)
