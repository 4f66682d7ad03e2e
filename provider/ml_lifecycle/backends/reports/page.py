"""The evaluation report as one page of HTML that loads nothing and runs nothing: every value in it is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation.rows import BASELINE, CANDIDATE, CHAMPION
from ml_lifecycle.backends.reports import words
from ml_lifecycle.backends.reports.graphics import Bar, Scale, against_limit, beside
from ml_lifecycle.backends.reports.plots import Plot
from ml_lifecycle.backends.reports.rendering import template
from ml_lifecycle.backends.reports.tables import Confusion, SliceLine, SliceTable
from ml_lifecycle.core.approval import is_web_page
from ml_lifecycle.core.contracts import (
    ChampionResult,
    Contender,
    Difference,
    Evaluation,
    GateCheck,
    GateDecision,
    HoldoutFacts,
    Metric,
    ModelPurpose,
    ServingCheck,
    Verdict,
)
from ml_lifecycle.core.evaluation import in_gates_order, rows_that_judge

if TYPE_CHECKING:
    from markupsafe import Markup

SHOWN_CHECKS: Final = 40
"""Beyond these, checks that passed are folded away."""
_HEATS = 4
_FEW_SLICES = 5
"""So many are drawn whole, however wide their intervals are."""


@dataclass(frozen=True)
class Fact:
    """One line about the model or its data."""

    name: str
    value: str
    more: str = ""
    address: str = ""


def render_page(
    decision: GateDecision,
    *,
    plots: Sequence[Plot] | None = None,
    slices: Sequence[SliceTable] = (),
    confusion: Confusion | None = None,
    links: Mapping[str, str] = {},
    purpose: ModelPurpose = ModelPurpose(),  # noqa: B008  # frozen
) -> str:
    """The page as text.

    :param plots: ``None`` where none could be drawn, which the page says.
    :param links: Addresses of the runs, by contender; only http and https ones are linked.
    """
    safe = {name: address for name, address in links.items() if is_web_page(address)}
    evaluation = decision.evaluation
    shown, folded = _checks(decision)
    page = {
        "model": words.clean(evaluation.model.name),
        "digest": evaluation.model.digest,
        "verdict": decision.verdict,
        "headline": words.headline(decision),
        "notes": list(_notes(decision)),
        "warnings": [words.clean(text, longest=600) for text in _warnings(evaluation)],
        "facts": list(_facts(decision, safe, purpose)),
        "sections": list(_sections(evaluation, slices)),
        "links": {CANDIDATE: "", CHAMPION: "", **safe},
        "checks": shown,
        "more_checks": folded,
        "rows": rows_that_judge(evaluation),
        "has_champion": evaluation.champion is not None,
        "columns": _columns(evaluation, safe),
        "metrics": [_metric_line(name, evaluation, safe) for name in in_gates_order(decision)],
        "plots": None if plots is None else [_picture(plot) for plot in plots],
        "confusion": _labels(confusion) if confusion is not None else None,
        "threshold": words.limit(evaluation.spec.threshold) if evaluation.task == "binary" else "",
        "slices": [_slice_table(table, evaluation) for table in slices],
        "serving": _serving(evaluation.serving) if evaluation.serving is not None else None,
        "data": list(_data(evaluation)),
        "glossary": list(_glossary(decision)),
        "evaluation_digest": evaluation.content_digest(),
        "predictions_digest": evaluation.predictions_digest,
        "policy_digest": decision.policy_digest,
        "holdout_fingerprint": evaluation.holdout.fingerprint if evaluation.holdout is not None else "",
    }
    return template("evaluation.html").render(page=page, words=words)


def _sections(evaluation: Evaluation, slices: Sequence[SliceTable]) -> Iterator[tuple[str, str]]:
    yield from (("gate", "The gate"), ("metrics", "Metrics"), ("plots", "Pictures"))
    if slices:
        yield "slices", "Slices"
    if evaluation.serving is not None:
        yield "serving", "Serving it for real"
    yield from (("data", "Data and training"), ("reading", "How to read this"))


# --- The top ---------------------------------------------------------------------------------------------------------


def _notes(decision: GateDecision) -> Iterator[str]:
    if decision.evaluation.champion is None and not words.of_files(decision.evaluation):
        yield "This would be the first release: there is no champion to compare with."
    if reuse := words.reuse(decision):
        yield reuse


def _warnings(evaluation: Evaluation) -> Iterator[str]:
    holdout = evaluation.holdout
    if holdout is None:
        yield "Nothing is on record about how the rows that judge were kept apart from those that trained."
        return
    yield from holdout.warnings


def _facts(decision: GateDecision, links: Mapping[str, str], purpose: ModelPurpose) -> Iterator[Fact]:
    evaluation = decision.evaluation
    model, dataset = evaluation.model, evaluation.model.dataset
    if purpose.description:
        yield Fact("What it is for", words.clean(purpose.description, longest=600))
    if words.of_files(evaluation):
        yield Fact("Candidate", words.clean(model.uri, longest=200), "a file of predictions")
        yield _opponent(evaluation, links)
        yield Fact("Judged on", words.count(rows_that_judge(evaluation), "row"))
        if decision.judged > 1:
            yield Fact("These rows were used for", words.count(decision.judged, "candidate"), "this one included")
        return
    run = links.get(CANDIDATE, "")
    yield Fact("Candidate", f"run {model.run_id[:8]}", words.clean(model.estimator), run)
    yield _opponent(evaluation, links)
    yield Fact("Trained on", _partitions(dataset.partitions), "; ".join(_trained(evaluation)))
    judged = [_period(evaluation.holdout), words.split(model.holdout)]
    yield Fact("Judged on", words.count(rows_that_judge(evaluation), "row"), "; ".join(filter(None, judged)))
    if proof := _proof(evaluation):
        yield Fact("Proven", proof)
    if decision.judged > 1:
        yield Fact("The holdout was used for", words.count(decision.judged, "candidate"), "this one included")


def _trained(evaluation: Evaluation) -> Iterator[str]:
    model = evaluation.model
    yield words.count(model.training_rows, "row")
    for because, rows in sorted(model.dataset.dropped.items()):
        yield f"{words.count(rows, 'row')} dropped: {words.clean(because)}"
    yield f"fingerprint {model.dataset.fingerprint[:12]}"


def _opponent(evaluation: Evaluation, links: Mapping[str, str]) -> Fact:
    champion = evaluation.champion
    if champion is None:
        others = ", ".join(_called(name) for name in sorted(evaluation.others))
        why = "no champion was handed in" if words.of_files(evaluation) else "there is no champion yet"
        return Fact("Compared with", others or "nothing", why)
    others = ", ".join(_called(name) for name in sorted(evaluation.others))
    more = f"and with {others}" if others else f"digest {champion.digest[:12]}"
    called = "the champion" + (f", version {champion.version}" if champion.version else "")
    return Fact("Compared with", called, more, links.get(CHAMPION, ""))


def _called(name: str) -> str:
    return f"version {name}" if name.isdigit() else f"the {words.clean(name)}"


def _partitions(partitions: Sequence[str]) -> str:
    if not partitions:
        return words.NOTHING
    first, last = words.clean(partitions[0]), words.clean(partitions[-1])
    return first if len(partitions) == 1 else f"{first} to {last} ({len(partitions)} partitions)"


# --- The gate --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _CheckLine:
    check: GateCheck
    rule: str
    detail: str
    drawing: Markup
    how: str
    is_difference: bool


def _checks(decision: GateDecision) -> tuple[list[_CheckLine], list[_CheckLine]]:
    """What is shown at once, the worst first, and what is folded away."""
    order = [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS]
    ranked = sorted(decision.checks, key=lambda check: order.index(check.verdict))
    scales = _scales(ranked)
    lines = [_check_line(check, scales[_family(check)]) for check in ranked]
    open_ones = sum(check.verdict is not Verdict.PASS for check in ranked)
    at_once = max(SHOWN_CHECKS, open_ones)
    return lines[:at_once], lines[at_once:]


def _family(check: GateCheck) -> tuple[object, ...]:
    """Checks of one rule in different places are drawn on one scale."""
    return check.metric, check.versus, check.limit, check.at_most


def _scales(checks: Sequence[GateCheck]) -> dict[tuple[object, ...], Scale | None]:
    families: dict[tuple[object, ...], list[float]] = {}
    for check in checks:
        bar = Bar(check.observed, check.low, check.high)
        limit = [check.limit] if check.limit is not None else []
        # What has no error, such as a latency, is told by how far it is from nothing.
        base = [0.0] if check.low is None and check.high is None else []
        families.setdefault(_family(check), []).extend([*bar.numbers(), *limit, *base])
    return {family: Scale.of(numbers) for family, numbers in families.items()}


def _check_line(check: GateCheck, scale: Scale | None) -> _CheckLine:
    compared = words.is_difference(check)
    bar = Bar(check.observed, check.low, check.high, kind=check.verdict.value)
    drawn = not check.versus or compared
    return _CheckLine(
        check=check,
        rule=words.rule(check),
        detail=words.clean(check.detail, longest=300),
        drawing=against_limit(bar, scale if drawn else None, limit=check.limit, at_most=check.at_most),
        how=words.clean("; ".join(filter(None, [check.method, _certainty(check)])), longest=200),
        is_difference=compared,
    )


def _certainty(check: GateCheck) -> str:
    return f"{words.share(check.confidence)} sure" if check.confidence is not None else ""


# --- Metrics ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    name: str
    address: str
    compared: bool


@dataclass(frozen=True)
class _Cell:
    metric: Metric | None
    address: str
    compared: bool
    difference: Difference | None


def _others(evaluation: Evaluation) -> Iterator[tuple[str, ChampionResult | Contender, str]]:
    """What the candidate is compared with: its name for links, its numbers, its name for people."""
    if evaluation.champion is not None:
        version = evaluation.champion.version
        yield CHAMPION, evaluation.champion, f"Champion (version {version})" if version else "Champion"
    for name, other in sorted(evaluation.others.items()):
        yield name, other, _called(name).removeprefix("the ").capitalize()


def _columns(evaluation: Evaluation, links: Mapping[str, str]) -> list[_Column]:
    first = _Column("Candidate", links.get(CANDIDATE, ""), compared=False)
    return [
        first,
        *(
            _Column(text, links.get(name, ""), compared=bool(other.differences))
            for name, other, text in _others(evaluation)
        ),
    ]


def _metric_line(name: str, evaluation: Evaluation, links: Mapping[str, str]) -> dict[str, Any]:
    first = _Cell(evaluation.metrics[name], links.get(CANDIDATE, ""), compared=False, difference=None)
    others = [
        _Cell(
            other.metrics.get(name),
            links.get(contender, ""),
            compared=bool(other.differences),
            difference=other.differences.get(name),
        )
        for contender, other, _ in _others(evaluation)
    ]
    return {"label": words.label(name), "direction": words.direction(name), "cells": [first, *others]}


def _picture(plot: Plot) -> dict[str, str]:
    return {
        "title": plot.title,
        "caption": plot.caption,
        "address": f"data:image/png;base64,{base64.b64encode(plot.png).decode()}",
    }


def _labels(confusion: Confusion) -> dict[str, Any]:
    lines = []
    for label, counts in zip(confusion.labels, confusion.rows, strict=True):
        total = sum(counts)
        cells = [
            {
                "rows": rows,
                "share": f"{rows / total:.0%}" if total else "",
                "heat": round(_HEATS * rows / total) if total else 0,
            }
            for rows in counts
        ]
        lines.append({"label": words.clean(label, longest=30), "cells": cells})
    labels = [words.clean(label, longest=30) for label in confusion.labels]
    return {"labels": labels, "lines": lines, "left_out": confusion.left_out}


# --- Slices ----------------------------------------------------------------------------------------------------------


def _slice_table(table: SliceTable, evaluation: Evaluation) -> dict[str, Any]:
    compared = evaluation.champion is not None
    overall = evaluation.metrics[table.metric].value
    scale = _scale([_bars(line, compared=compared) for line in table.lines], overall)
    differences = _scale([[_difference_bar(line)] for line in table.lines], 0.0)
    return {
        "column": words.clean(table.column),
        "label": words.label(table.metric),
        "direction": words.direction(table.metric),
        "compared": compared,
        "left_out": table.left_out,
        "lines": [
            {
                "value": words.clean(line.value),
                "rows": line.candidate.rows,
                "candidate": line.candidate,
                "champion": line.champion,
                "difference": line.difference,
                "drawing": beside(_bars(line, compared=compared), scale, guide=overall),
                "difference_drawing": beside([_difference_bar(line)], differences, guide=0.0),
            }
            for line in table.lines
        ],
    }


def _bars(line: SliceLine, *, compared: bool) -> list[Bar]:
    bars = [_bar(line.candidate, CANDIDATE)]
    return [*bars, _bar(line.champion, CHAMPION)] if compared and line.champion is not None else bars


def _bar(metric: Metric, kind: str) -> Bar:
    return Bar(metric.value, metric.low, metric.high, kind)


def _difference_bar(line: SliceLine) -> Bar:
    found = line.difference
    return Bar(found.estimate, found.low, found.high, "difference") if found is not None else Bar(None)


def _scale(lines: Sequence[list[Bar]], guide: float | None) -> Scale | None:
    """A scale that holds every estimate, and the intervals of the larger half of the slices.

    Those of a few rows are so wide that all others would shrink to dots beside them; they run off the scale.
    """
    values = [bar.value for bars in lines for bar in bars if bar.value is not None]
    larger = [number for bars in lines[: max(_FEW_SLICES, len(lines) // 2)] for bar in bars for number in bar.numbers()]
    return Scale.of([*values, *larger, *([guide] if guide is not None else [])])


# --- Serving, data, glossary -----------------------------------------------------------------------------------------


def _serving(check: ServingCheck) -> dict[str, Any]:
    facts = [
        Fact("Golden rows scored", f"{check.rows:,}"),
        Fact(
            "Largest difference from training's predictions",
            words.number(check.largest_difference),
            f"up to {words.limit(check.tolerance)} is tolerated",
        ),
        Fact("One request, half of them within", _unit(check.latency_p50_ms, "ms")),
        Fact("19 of 20 within", _unit(check.latency_p95_ms, "ms")),
        Fact("Loading", _unit(check.load_s, "s")),
        Fact("Memory of the process", _unit(check.peak_mb, "MB")),
        Fact("Size of the package", _unit(check.model_mb, "MB")),
    ]
    return {"verdict": check.verdict, "detail": words.clean(check.detail, longest=300), "facts": facts}


def _unit(value: float | None, unit: str) -> str:
    return words.NOTHING if value is None else f"{value:.3g} {unit}"


def _data(evaluation: Evaluation) -> Iterator[Fact]:
    model, dataset, holdout = evaluation.model, evaluation.model.dataset, evaluation.holdout
    yield Fact("Dataset", words.clean(dataset.uri, longest=200), f"fingerprint {dataset.fingerprint[:12]}")
    if words.of_files(evaluation):
        yield Fact("Training", words.NOTHING, "a file of predictions tells nothing of it")
        return
    yield Fact("Partitions", _partitions(dataset.partitions), words.count(dataset.rows, "row"))
    for because, rows in sorted(dataset.dropped.items()):
        yield Fact("Dropped", words.count(rows, "row"), words.clean(because, longest=200))
    yield Fact("Holdout", words.count(rows_that_judge(evaluation), "row"), words.split(model.holdout))
    if holdout is not None:
        period = _period(holdout) or words.NOTHING
        yield Fact("Period of the holdout", period, f"fingerprint {holdout.fingerprint[:12]}")
    yield Fact("Training", words.count(model.training_rows, "row"), words.clean(model.estimator, longest=120))
    for name, value in sorted(model.hyperparameters.items()):
        yield Fact(words.clean(name), words.clean(value, longest=120), "hyperparameter")
    yield Fact("Seed", words.NOTHING if model.seed is None else str(model.seed))
    yield Fact("Code", words.clean(model.code_version or words.NOTHING, longest=120), words.clean(model.features))
    yield Fact("Training key", model.training_key[:12], "digest over all that went into the training")


def _proof(evaluation: Evaluation) -> str:
    holdout = evaluation.holdout
    if holdout is None:
        return ""
    until, first = holdout.training_until, holdout.first
    later = until is not None and first is not None and until < first
    return "no row stands in both parts" + (", and every held row is later than all training rows" if later else "")


def _period(holdout: HoldoutFacts | None) -> str:
    if holdout is None or holdout.first is None or holdout.last is None:
        return ""
    return f"{holdout.first:%Y-%m-%d} to {holdout.last:%Y-%m-%d}"


def _glossary(decision: GateDecision) -> Iterator[tuple[str, str]]:
    evaluation = decision.evaluation
    needed = {
        "Better by": evaluation.champion is not None,
        "Baseline": BASELINE in evaluation.others,
    }
    yield from ((name, meaning) for name, meaning in words.GLOSSARY.items() if needed.get(name, True))
    for name in in_gates_order(decision):
        if name in words.METRICS:
            yield words.METRICS[name].label, words.METRICS[name].meaning
