"""A gate's judgement as what people read: a page, a model card and plots, made from the evidence alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ml_lifecycle.backends.evaluation.rows import BASELINE, CANDIDATE, CHAMPION, ScoredRows
from ml_lifecycle.backends.reports.card import render_card
from ml_lifecycle.backends.reports.page import render_page
from ml_lifecycle.backends.reports.plots import Plot, draw
from ml_lifecycle.backends.reports.tables import compare_slices, confusion
from ml_lifecycle.core.contracts import GateDecision, ModelPurpose


@dataclass(frozen=True)
class EvaluationReport:
    """All files of one report; the same evidence makes the same bytes."""

    page: str
    """HTML that loads nothing and runs nothing."""
    card: str
    """The model card, in markdown."""
    plots: tuple[Plot, ...] = field(default=())


def make_report(
    decision: GateDecision,
    rows: ScoredRows,
    *,
    links: Mapping[str, str] = {},
    purpose: ModelPurpose = ModelPurpose(),  # noqa: B008  # frozen
) -> EvaluationReport:
    """Render a judgement for whoever has to understand it.

    :param rows: What the numbers were measured on.
    :param links: Addresses of the runs that trained each contender: ``candidate``, ``champion``, a version's number.
    :param purpose: What the model is for, as its pipeline says.
    """
    plots = draw(rows, legend(decision))
    slices, labels = compare_slices(decision, rows), confusion(rows, threshold=decision.evaluation.spec.threshold)
    page = render_page(decision, plots=plots, slices=slices, confusion=labels, links=links, purpose=purpose)
    card = render_card(decision, slices=slices, links=links, purpose=purpose)
    return EvaluationReport(page, card, plots or ())


def legend(decision: GateDecision) -> dict[str, str]:
    """What each contender is called, in the order in which they are shown."""
    champion, others = decision.evaluation.champion, decision.evaluation.others
    named = {CANDIDATE: "candidate"}
    if champion is not None:
        named[CHAMPION] = f"champion (version {champion.version})" if champion.version else "champion"
    return named | {name: "baseline" if name == BASELINE else f"version {name}" for name in sorted(others)}
