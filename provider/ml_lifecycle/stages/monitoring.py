"""A scored partition in; drift, performance and what to do about them out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ml_lifecycle.core import monitoring as core
from ml_lifecycle.core.contracts import (
    Ask,
    ColumnDrift,
    Columns,
    Contract,
    DatasetRef,
    DriftReport,
    MonitoringResponse,
    PerformanceReport,
    RunRequest,
    Source,
    Verdict,
    digest_of,
)
from ml_lifecycle.core.errors import (
    ChampionError,
    DataError,
    RequestError,
)
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.runner import Tools

if TYPE_CHECKING:
    import pandas as pd

    from ml_lifecycle.backends.monitoring.base import DriftDetector
    from ml_lifecycle.stages.champion import ChampionInfo

LAYOUT = 1
"""Part of every drift report's name: a change of how drift is measured makes other names."""


class DriftJob(Contract):
    """What is compared with the champion's training data."""

    request: RunRequest
    source: Source
    related: dict[str, Source] = Field(default_factory=dict)
    columns: Columns
    threshold: float = 0.1
    """Distance above which a column has drifted, 0 to 1."""
    share: float = 0.3
    """Share of drifted columns at which the dataset has drifted, 0 to 1."""


class ResponseJob(Contract):
    """What follows from the reports."""

    request: RunRequest
    drift: DriftReport | None
    performance: PerformanceReport | None
    on_drift: Literal["retrain", "alert", "nothing"] = "retrain"
    cooldown: timedelta = timedelta(days=7)
    stop_after: int = 3
    """Retrainings in a row without a new champion, after which only an alert follows."""


@dataclass(frozen=True)
class DriftFindings:
    """How far one table has moved from another."""

    verdict: Verdict
    """``fail`` is drift."""
    drifted_share: float | None
    columns: tuple[ColumnDrift, ...]
    html: str
    """A page for people; it holds scripts, so it is opened on its own and never inside another page's origin."""


def compare_tables(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    threshold: float = 0.1,
    share: float = 0.3,
    title: str = "Data drift",
) -> DriftFindings:
    """Compare any two tables, without a champion or a ledger.

    :param columns: Which columns; ``None`` for all of the reference's that can drift: neither timestamps nor texts
        that name single rows.
    :raises ColumnError: a column is missing from one of the tables.
    :raises NoRowsError: one of the tables is empty.
    """
    names = _comparable(reference) if columns is None else list(columns)
    found = default_detector().compare(reference, current, columns=names, threshold=threshold, title=title)
    return DriftFindings(
        verdict=core.judge_drift(found.columns, share),
        drifted_share=core.drifted_share(found.columns),
        columns=found.columns,
        html=found.html,
    )


def _comparable(table: pd.DataFrame) -> list[str]:
    from pandas.api import types

    def names_rows(column: pd.Series[Any]) -> bool:
        return not types.is_numeric_dtype(column.dtype) and len(column) > 1 and bool(column.is_unique)

    return [
        str(name)
        for name in table.columns
        if not types.is_datetime64_any_dtype(table[name].dtype) and not names_rows(table[name])
    ]


def default_detector() -> DriftDetector:
    """The tool that distances are measured by."""
    from ml_lifecycle.backends.monitoring.evidently import EvidentlyDetector

    return EvidentlyDetector()


def detect_drift(job: DriftJob, tools: Tools) -> DriftReport:
    """Compare the partition with what the champion was trained on, publish the report, and judge.

    :raises ChampionError: no version was released yet, or the champion cannot be used.
    """
    from ml_lifecycle.stages.champion import champion_info

    request = job.request
    _require_partition(request)
    champion = champion_info(request.model, tools)
    if champion is None:
        raise ChampionError(
            "no version was released yet, so there is nothing to compare with",
            where=f"{request.model} in environment {tools.environment}",
            way_out="approve a release first",
        )
    current = snapshot(SnapshotJob.unlabelled(request, job.source, job.related, job.columns), tools)
    uri = f"reports/drift/{request.model}/{request.partition}-v{champion.version}-{_key(job, champion, current)[:8]}"
    if tools.data.published(uri) is None:
        _publish(uri, job, champion, current, tools)
    return _published(uri, job, champion, current, tools)


def respond(job: ResponseJob, tools: Tools) -> MonitoringResponse:
    """Decide what the reports call for; a retry of the same run gives the answer that it gave before."""
    request = job.request
    # Every call of the command line is called "command": those are occasions of their own.
    if "/" in tools.run:
        given = tools.ledger.results(
            tools.environment, request.model, "respond", run=tools.run, partition=request.partition, limit=1
        )
        for entry in given:
            return MonitoringResponse.model_validate(entry["content"])
    action, reason = core.respond(
        job.drift,
        job.performance,
        on_drift=job.on_drift,
        history=_history(job, tools),
        now=tools.clock(),
        cooldown=job.cooldown,
        stop_after=job.stop_after,
    )
    return MonitoringResponse(model=request.model, partition=request.partition, action=action, reason=reason)


# --- Drift -----------------------------------------------------------------------------------------------------------


def _require_partition(request: RunRequest) -> None:
    if not request.partition:
        raise RequestError("no partition was asked for", where=request.model, way_out="name one, such as 2013-04")


def _key(job: DriftJob, champion: ChampionInfo, current: DatasetRef) -> str:
    return digest_of(
        {
            "layout": LAYOUT,
            "reference": champion.dataset.fingerprint,
            "current": current.fingerprint,
            "features": champion.info.features_digest,
            "inputs": list(champion.info.inputs),
            "threshold": job.threshold,
            "share": job.share,
        }
    )


def _publish(uri: str, job: DriftJob, champion: ChampionInfo, current: DatasetRef, tools: Tools) -> None:
    from ml_lifecycle.stages.training import build_inputs

    request, features = job.request, champion.info.features
    found = compare_tables(
        build_inputs(champion.dataset, features, tools).features,
        build_inputs(current, features, tools).features,
        columns=list(champion.info.inputs),
        threshold=job.threshold,
        share=job.share,
        title=f"{request.model}: {request.partition} against the training data of version {champion.version}",
    )
    summary = {
        "model": request.model,
        "version": champion.version,
        "partition": request.partition,
        "verdict": found.verdict.value,
        "drifted_share": found.drifted_share,
        "columns": [column.to_xcom() for column in found.columns],
        "reference": champion.dataset.to_xcom(),
        "current": current.to_xcom(),
        "threshold": job.threshold,
        "share": job.share,
    }

    def write(folder: Path) -> None:
        (folder / "index.html").write_text(found.html, encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

    tools.data.publish(uri, write)


def _published(uri: str, job: DriftJob, champion: ChampionInfo, current: DatasetRef, tools: Tools) -> DriftReport:
    with tools.data.folder(uri) as folder:
        try:
            summary = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            columns = tuple(ColumnDrift.model_validate(column) for column in summary["columns"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"report.json cannot be read ({type(error).__name__})",
                where=uri,
                way_out="remove the folder and measure again",
            ) from error
    # Judged again from the columns: a verdict that was edited on the disk has no say.
    return DriftReport(
        model=job.request.model,
        version=champion.version,
        partition=job.request.partition,
        verdict=core.judge_drift(columns, job.share),
        drifted_share=core.drifted_share(columns),
        columns=columns,
        reference=champion.dataset,
        current=current,
        report_uri=f"{uri}/index.html",
    )


# --- Response --------------------------------------------------------------------------------------------------------


def _history(job: ResponseJob, tools: Tools) -> core.History:
    model = job.request.model
    asked_for = tools.ledger.results(tools.environment, model, "respond", action="retrain")
    requested = [entry["at"] for entry in asked_for]
    releases = [move for move in tools.ledger.moves(model, tools.environment) if move.kind == "release"]
    since = releases[-1].moved_at if releases else None
    return core.History(
        requested_at=tuple(at for at in requested if since is None or at > since),
        last_request=requested[-1] if requested else None,
        waiting_version=_waiting_version(job, tools),
    )


def _waiting_version(job: ResponseJob, tools: Tools) -> int | None:
    """A version whose approval can still lead to a release, and was asked for within the cooldown."""
    head = tools.ledger.head(job.request.model, tools.environment)
    epoch = head.epoch if head is not None else 0
    asks = tools.ledger.open_asks(job.request.model, tools.environment)
    waiting = [
        ask.version
        for ask in asks
        if ask.epoch == epoch and _is_recent(ask, job.cooldown, tools) and _is_answerable(ask, tools)
    ]
    return waiting[-1] if waiting else None


def _is_recent(ask: Ask, cooldown: timedelta, tools: Tools) -> bool:
    registered = tools.ledger.results(tools.environment, ask.model, "register", version=ask.version, limit=1)
    return any(tools.clock() - entry["at"] < cooldown for entry in registered)


def _is_answerable(ask: Ask, tools: Tools) -> bool:
    asked = tools.ledger.asked(ask.ask_id)
    return asked is not None and (asked.expires_at is None or tools.clock() <= asked.expires_at)
