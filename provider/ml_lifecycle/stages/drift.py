"""A partition in; how far it has moved from what its champion knows out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ml_lifecycle.core.contracts import Columns, Contract, DriftPolicy, DriftReport, RunRequest, Source
from ml_lifecycle.core.errors import ChampionError, RequestError
from ml_lifecycle.stages.champion import ChampionInfo, champion_info
from ml_lifecycle.stages.runner import Tools


class DriftJob(Contract):
    """What is compared with the champion's reference."""

    request: RunRequest
    source: Source
    related: dict[str, Source] = Field(default_factory=dict)
    columns: Columns
    every: Literal["hourly", "daily", "monthly"] | None = None
    """How often a partition arrives, and so how often somebody looks; ``None``: as the partition's name says."""
    policy: DriftPolicy = DriftPolicy()
    scored: Source | None = None
    """Folder of the published predictions, ``scored/{{ partition }}``; ``None``: predictions are not compared."""


def detect_drift(job: DriftJob, tools: Tools) -> DriftReport:
    """Compare the partition with its reference, publish the report, and judge; a report is published once.

    :raises ChampionError: no version was released yet, or the champion cannot be used.
    :raises DigestMismatchError: the published predictions or a published report are not what was published.
    """
    _champion(job, tools)
    raise NotImplementedError


def _champion(job: DriftJob, tools: Tools) -> ChampionInfo:
    request = job.request
    if not request.partition:
        raise RequestError("no partition was asked for", where=request.model, way_out="name one, such as 2013-04")
    champion = champion_info(request.model, tools)
    if champion is None:
        raise ChampionError(
            "no version was released yet, so there is nothing to compare with",
            where=f"{request.model} in environment {tools.environment}",
            way_out="approve a release first",
        )
    return champion
