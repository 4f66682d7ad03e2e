"""A judgement and its rows in, a page for people and a model card out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ml_lifecycle.backends.evaluation.rows import CANDIDATE, CHAMPION, ScoredRows
from ml_lifecycle.backends.reports.report import EvaluationReport, make_report
from ml_lifecycle.core.contracts import GateDecision, ModelPurpose, digest_of
from ml_lifecycle.core.errors import LifecycleError, PassingError
from ml_lifecycle.stages.runner import Tools

PAGE: Final = "index.html"
CARD: Final = "model_card.md"
_DIGITS = 12
"""Of a digest: enough for a name."""


def publish(
    decision: GateDecision,
    rows: ScoredRows,
    tools: Tools,
    *,
    purpose: ModelPurpose = ModelPurpose(),  # noqa: B008  # frozen
) -> tuple[str, str]:
    """Publish the evaluation report below the data root, and the same files on the candidate's run.

    The same judgement is published once, below a name that comes from its digest.

    :param rows: The row-level predictions that were judged.
    :param purpose: What the model is for, as its pipeline says.
    :return: The report's ``uri`` below the data root, and the model card's on the run.
    """
    bare = decision.model_copy(update={"report_uri": "", "card_uri": ""})
    model, digest = decision.evaluation.model, digest_of([bare.to_xcom(), purpose.to_xcom()])[:_DIGITS]
    uri = f"reports/evaluation/{model.name}/{digest}"

    def write(folder: Path) -> None:
        _write(make_report(bare, rows, links=_links(bare, tools), purpose=purpose), folder)

    published = tools.data.publish(uri, write)
    with tools.data.folder(uri, published) as folder:
        on_run = tools.tracking.upload(model.run_id, folder, f"report/{digest}")
    return f"{uri}/{PAGE}", f"{on_run}/{CARD}"


def _write(report: EvaluationReport, folder: Path) -> None:
    (folder / PAGE).write_text(report.page, encoding="utf-8")
    (folder / CARD).write_text(report.card, encoding="utf-8")
    for plot in report.plots:
        (folder / f"{plot.name}.png").write_bytes(plot.png)


def _links(decision: GateDecision, tools: Tools) -> dict[str, str]:
    """Addresses of the runs that trained each contender; those that have no page are left out."""
    evaluation = decision.evaluation
    versions = {name: other.version for name, other in evaluation.others.items()}
    if evaluation.champion is not None:
        versions[CHAMPION] = evaluation.champion.version
    found = {CANDIDATE: tools.tracking.get_run(evaluation.model.run_id).url}
    for name, number in versions.items():
        if number is not None:
            found[name] = _page_of(evaluation.model.name, number, tools)
    return {name: url for name, url in found.items() if url}


def _page_of(model: str, version: int, tools: Tools) -> str:
    """Where the run that trained a version is shown; empty where somebody deleted it."""
    try:
        registered = tools.registry.version(model, version)
        return tools.tracking.get_run(registered.run_id).url if registered is not None else ""
    except PassingError:
        raise
    except LifecycleError:
        return ""
