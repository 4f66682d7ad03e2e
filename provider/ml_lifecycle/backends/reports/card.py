"""The model card, in markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ml_lifecycle.backends.evaluation.rows import CANDIDATE
from ml_lifecycle.backends.reports import words
from ml_lifecycle.backends.reports.tables import SliceTable
from ml_lifecycle.core.approval import cell, grid, is_web_page, link
from ml_lifecycle.core.contracts import Difference, Evaluation, GateDecision, Metric, ModelPurpose
from ml_lifecycle.core.evaluation import in_gates_order


def render_card(
    decision: GateDecision,
    *,
    slices: Sequence[SliceTable] = (),
    links: Mapping[str, str] = {},
    purpose: ModelPurpose = ModelPurpose(),  # noqa: B008  # frozen
) -> str:
    """What a model card tells, by the sections of Mitchell et al., Model Cards for Model Reporting (FAccT 2019)."""
    evaluation = decision.evaluation
    sections = [
        (f"Model card: {cell(evaluation.model.name)}", [f"**{words.headline(decision)}**"]),
        ("Model details", _details(evaluation, links, purpose)),
        ("Intended use", _use(purpose)),
        ("Factors", _factors(evaluation)),
        ("Metrics", _metrics(decision)),
        ("Evaluation data", _evaluation_data(decision)),
        ("Training data", _training_data(evaluation)),
        ("Quantitative analyses", _analyses(decision, slices)),
        ("Ethical considerations", _groups(decision)),
        ("Caveats and recommendations", _caveats(decision)),
        ("How to reproduce it", _recipe(evaluation)),
    ]
    parts = ["\n\n".join([f"#{'#' * bool(place)} {title}", *found]) for place, (title, found) in enumerate(sections)]
    return "\n\n".join(parts) + "\n"


def _details(evaluation: Evaluation, links: Mapping[str, str], purpose: ModelPurpose) -> list[str]:
    model = evaluation.model
    address = links.get(CANDIDATE, "")
    facts = [
        ("Model", cell(model.name)),
        ("Digest", f"`{model.digest}`"),
        ("Kind", f"{evaluation.task}, {cell(model.estimator or 'estimator not on record')}"),
        ("Format", model.format),
        ("Run", link(model.run_id, address) if is_web_page(address) else cell(model.run_id)),
        ("Features", cell(model.features) or words.NOTHING),
    ]
    facts += [("Owner", cell(purpose.owner)), ("Contact", cell(purpose.contact)), ("Risk", cell(purpose.risk))]
    return [_list((name, value) for name, value in facts if value)]


def _use(purpose: ModelPurpose) -> list[str]:
    if not purpose.description:
        return ["The pipeline's `description` does not say what the model is for."]
    return [
        cell(purpose.description, longest=600),
        "Rows unlike those that it was trained on, and other decisions than this one, are out of scope.",
    ]


def _factors(evaluation: Evaluation) -> list[str]:
    if not evaluation.slices:
        return ["No slices are declared: the model was measured on all rows together only."]
    lines = [(cell(column), words.count(len(values), "value")) for column, values in sorted(evaluation.slices.items())]
    return ["Measured apart by:", _list(lines)]


def _metrics(decision: GateDecision) -> list[str]:
    spec = decision.evaluation.spec
    known = [
        (words.label(name), words.METRICS[name].meaning if name in words.METRICS else "The team's own metric.")
        for name in in_gates_order(decision)
    ]
    how = ["Intervals are two-sided at 95%."]
    if spec.cluster:
        how.append(f"Rows of the same {cell(spec.cluster)} are not taken as independent of each other.")
    if spec.weight:
        how.append(f"Rows are weighted by {cell(spec.weight)}.")
    if decision.evaluation.task == "binary":
        how.append(f"Decisions are made at a score of {words.limit(spec.threshold)}.")
    return [_list((cell(name), cell(meaning, longest=300)) for name, meaning in known), " ".join(how)]


def _evaluation_data(decision: GateDecision) -> list[str]:
    evaluation = decision.evaluation
    holdout, model = evaluation.holdout, evaluation.model
    facts = [("Rows kept back", cell(words.split(model.holdout)))]
    if holdout is not None:
        facts += [
            ("Rows", f"{holdout.rows:,}"),
            ("Fingerprint", f"`{holdout.fingerprint}`"),
            ("Keys that training saw, too", "none: one would have stopped the evaluation"),
        ]
        if holdout.first is not None and holdout.last is not None:
            facts.append(("Period", f"{holdout.first:%Y-%m-%d} to {holdout.last:%Y-%m-%d}"))
    facts.append(("Candidates that these rows judged", f"{decision.judged:,}, this one included"))
    facts.append(("Row-level predictions", cell(evaluation.predictions_uri)))
    return [_list(facts)]


def _training_data(evaluation: Evaluation) -> list[str]:
    model, dataset = evaluation.model, evaluation.model.dataset
    facts = [
        ("Partitions", cell(", ".join(dataset.partitions) or words.NOTHING, longest=600)),
        ("Rows", f"{model.training_rows:,} of {dataset.rows:,}; the others judge"),
        ("Dataset", cell(dataset.uri)),
        ("Fingerprint", f"`{dataset.fingerprint}`"),
        *((f"Dropped: {cell(because)}", f"{rows:,}") for because, rows in sorted(dataset.dropped.items())),
    ]
    return [_list(facts)]


def _analyses(decision: GateDecision, slices: Sequence[SliceTable]) -> list[str]:
    evaluation = decision.evaluation
    parts = ["### Gate", _gate(decision)] if decision.checks else []
    parts += ["### All rows", _all_rows(decision)]
    for table in slices:
        parts += [f"### {cell(words.label(table.metric))} by {cell(table.column)}", _slice(table, evaluation)]
    return parts


def _gate(decision: GateDecision) -> str:
    head = ("Check", "Verdict", "Observed", "Bounds", "Rows", "How", "Detail")
    return grid(
        head,
        [
            (
                cell(words.rule(check)),
                words.MARKS[check.verdict],
                words.number(check.observed, sign=words.is_difference(check)),
                words.interval(check.low, check.high, sign=words.is_difference(check)) or words.NOTHING,
                f"{check.rows:,}" if check.rows else words.NOTHING,
                cell(check.method) or words.NOTHING,
                cell(check.detail, longest=300),
            )
            for check in decision.checks
        ],
    )


def _all_rows(decision: GateDecision) -> str:
    evaluation = decision.evaluation
    champion = evaluation.champion
    head = ["Metric", "Candidate"]
    if champion is not None:
        head += [f"Version {champion.version} (champion)", "Better by"]
    head += [f"Version {name}" if name.isdigit() else cell(name.capitalize()) for name in sorted(evaluation.others)]
    rows = []
    for name in in_gates_order(decision):
        metric = evaluation.metrics[name]
        row = [cell(words.label(name)), _with_interval(metric)]
        if champion is not None:
            row += [_with_interval(champion.metrics.get(name)), _better_by(champion.differences.get(name))]
        row += [_with_interval(other.metrics.get(name)) for _, other in sorted(evaluation.others.items())]
        rows.append(row)
    return grid(head, rows)


def _slice(table: SliceTable, evaluation: Evaluation) -> str:
    head = [cell(table.column), "Rows", "Candidate"]
    if evaluation.champion is not None:
        head += [f"Version {evaluation.champion.version}", "Better by"]
    rows = []
    for line in table.lines:
        row = [cell(line.value), f"{line.candidate.rows:,}", _with_interval(line.candidate)]
        if evaluation.champion is not None:
            row += [_with_interval(line.champion), _better_by(line.difference)]
        rows.append(row)
    return grid(head, rows)


def _with_interval(metric: Metric | None) -> str:
    return words.NOTHING if metric is None else _estimate(metric.value, metric.low, metric.high)


def _better_by(difference: Difference | None) -> str:
    if difference is None:
        return words.NOTHING
    return _estimate(difference.estimate, difference.low, difference.high, sign=True)


def _estimate(value: float | None, low: float | None, high: float | None, *, sign: bool = False) -> str:
    reach = words.interval(low, high, sign=sign)
    return f"{words.number(value, sign=sign)} ({reach})" if reach else words.number(value, sign=sign)


def _groups(decision: GateDecision) -> list[str]:
    gaps = [check for check in decision.checks if check.rule.startswith("gap between ")]
    if not gaps:
        return ["No rule of the gate compares groups of people; whether one should is for the model's owner to say."]
    return [_list((cell(check.rule), words.MARKS[check.verdict]) for check in gaps)]


def _caveats(decision: GateDecision) -> list[str]:
    evaluation = decision.evaluation
    warnings = evaluation.holdout.warnings if evaluation.holdout is not None else ()
    said = [
        *(cell(warning, longest=600) for warning in warnings),
        *([words.reuse(decision)] if words.reuse(decision) else []),
        *(
            ["It is the first release: nothing serves that it could be compared with."]
            if not evaluation.champion
            else []
        ),
        "The numbers hold for rows like those of the evaluation data; monitoring says when new rows differ from them.",
    ]
    return ["\n".join(f"- {line}" for line in said)]


def _recipe(evaluation: Evaluation) -> list[str]:
    model = evaluation.model
    facts = [
        ("Training key", f"`{model.training_key}`"),
        ("Code version", cell(model.code_version) or words.NOTHING),
        (
            "Feature code",
            f"{cell(model.features) or words.NOTHING}, digest {cell(model.features_digest) or words.NOTHING}",
        ),
        ("Environment digest", cell(model.environment_digest) or words.NOTHING),
        ("Hardware", cell(model.hardware) or words.NOTHING),
        ("Seed", words.NOTHING if model.seed is None else str(model.seed)),
        *((f"Hyperparameter {cell(name)}", cell(value)) for name, value in sorted(model.hyperparameters.items())),
        ("Evaluation digest", f"`{evaluation.content_digest()}`"),
        ("Predictions digest", f"`{evaluation.predictions_digest}`"),
    ]
    return [_list(facts)]


def _list(facts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(_items(facts))


def _items(facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in facts:
        yield f"- **{name}**: {value}"
