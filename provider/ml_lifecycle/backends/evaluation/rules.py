"""What each rule of a gate is held against, with bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from ml_lifecycle.backends.evaluation.intervals import difference
from ml_lifecycle.backends.evaluation.metrics import measure
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows
from ml_lifecycle.core.contracts import Evaluation, GateRule, Measured
from ml_lifecycle.core.evaluation import OPERATIONAL, limit_of, pass_confidence


def measure_rules(
    rules: Sequence[GateRule],
    evaluation: Evaluation,
    rows: ScoredRows,
    *,
    judged: int = 1,
    own: Mapping[str, Callable[..., Any]] = {},  # noqa: B006  # never written to
) -> tuple[Measured, ...]:
    """Measure every rule in each of its places."""
    return tuple(
        one for number, rule in enumerate(rules) for one in _measure(number, rule, evaluation, rows, judged, own)
    )


def _measure(
    number: int,
    rule: GateRule,
    evaluation: Evaluation,
    rows: ScoredRows,
    judged: int,
    own: Mapping[str, Callable[..., Any]],
) -> Iterator[Measured]:
    if rule.metric in OPERATIONAL:
        value = getattr(evaluation.serving, rule.metric, None)
        yield Measured(rule=number, value=value, rows=0, detail="" if value is not None else "it was not served")
        return
    for place, part in _places(rule, rows):
        if rule.versus is None:
            value = measure(rule.metric, part, spec=evaluation.spec, own=own)
            yield Measured(rule=number, place=place, value=value, rows=len(part))
            continue
        found = difference(rule.metric, part, CANDIDATE, str(rule.versus), spec=evaluation.spec, own=own)
        if found.estimate is None or found.standard_error is None:
            yield Measured(rule=number, place=place, value=None, rows=len(part), detail="the difference is not known")
            continue
        normal, error = NormalDist(), found.standard_error
        yield Measured(
            rule=number,
            place=place,
            value=found.estimate,
            low=found.estimate - normal.inv_cdf(pass_confidence(rule, judged)) * error,
            high=found.estimate + normal.inv_cdf(rule.confidence) * error,
            p_broken=normal.cdf((found.estimate - limit_of(rule)[0]) / error) if error else None,
            standard_error=error,
            rows=len(part),
            method="normal",
        )


def _places(rule: GateRule, rows: ScoredRows) -> Iterator[tuple[str, ScoredRows]]:
    if rule.each is None:
        yield "", rows
        return
    values = rows.slices[rule.each]
    for value in sorted(set(values)):
        kept = values == value
        yield (
            f"{rule.each}={value}",
            dataclasses.replace(
                rows,
                truth=rows.truth[kept],
                keys=rows.keys[kept],
                scores={name: score[kept] for name, score in rows.scores.items()},
            ),
        )
