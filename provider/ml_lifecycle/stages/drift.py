"""A partition in; how far it has moved from what its champion knows out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from ml_lifecycle.backends.files import file_digest
from ml_lifecycle.backends.monitoring.comparison import compare
from ml_lifecycle.backends.monitoring.profiles import Profile, merge
from ml_lifecycle.core.contracts import (
    ColumnDrift,
    Columns,
    Contract,
    DatasetRef,
    DriftPolicy,
    DriftReport,
    RunRequest,
    Source,
    digest_of,
)
from ml_lifecycle.core.errors import (
    ChampionError,
    DataError,
    DigestMismatchError,
    LifecycleError,
    RequestError,
    TrainingError,
)
from ml_lifecycle.core.monitoring import DriftJudgement, alpha_of, judge, weigh
from ml_lifecycle.stages.champion import ChampionInfo, champion_info
from ml_lifecycle.stages.drift_columns import (
    TABLE,
    chosen_columns,
    fitting,
    foremost,
    judged_columns,
    read_columns,
    weighted,
    write_columns,
)
from ml_lifecycle.stages.drift_windows import Look, Window, look_at
from ml_lifecycle.stages.profiles import ChampionProfiles, chosen
from ml_lifecycle.stages.runner import Tools

if TYPE_CHECKING:
    import pandas as pd

LAYOUT: Final = 2
"""Part of every drift report's name: a change of how drift is measured makes other names."""
REPORT: Final = "report.json"
PAGE: Final = "index.html"
EVIDENTLY: Final = "evidently.html"
_DRAWN: Final = 10
_DRAWN_ROWS: Final = 20_000


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
    :raises DigestMismatchError: published predictions, or a published report, are not what was published.
    """
    champion = _champion(job, tools)
    drift = _Drift(job, champion, look_at(job, champion, tools), tools)
    if tools.data.published(drift.uri) is None:
        tools.data.publish(drift.uri, drift.write)
    return drift.published()


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


@dataclass(frozen=True)
class _Compared:
    """What was found, before it is judged, and what it was found in."""

    columns: tuple[ColumnDrift, ...] = ()
    """One per column and window."""
    reference: Profile | None = None
    """Of the shortest window, predictions among its columns."""
    current: Profile | None = None
    warnings: tuple[str, ...] = ()


class _Drift:
    """One look, its report's place, and what is in it."""

    def __init__(self, job: DriftJob, champion: ChampionInfo, look: Look, tools: Tools) -> None:
        self._job, self._champion, self._look, self._tools = job, champion, look, tools
        self._profiles = ChampionProfiles(champion, job.columns, job.policy, tools)
        self.alpha = alpha_of(job.policy.false_alarms, look.every)
        request = job.request
        key = self._key()[:8]
        self.uri = f"reports/drift/{request.model}/{request.partition}-v{champion.version}-{key}"

    def _key(self) -> str:
        champion = self._champion
        return digest_of(
            {
                "layout": LAYOUT,
                "look": self._look.content_digest(),
                "every": self._look.every,
                "champion": champion.move.digest,
                "training": champion.dataset.fingerprint,
                "features": champion.info.features_digest,
                "inputs": list(champion.info.inputs.items()),
                "policy": self._job.policy.to_xcom(),
            }
        )

    # --- Write -------------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        """Fill the report's folder."""
        from ml_lifecycle.backends.reports.drift import render_drift

        found = self._compared()
        columns, warnings = judged_columns(found.columns, self._judge(found.columns).columns), list(found.warnings)
        if any(one.drifted for one in columns):
            columns = self._weighed(columns, warnings)
            self._draw(folder / EVIDENTLY, columns, warnings)
        request = self._job.request
        write_columns(
            folder / TABLE,
            columns,
            model=request.model,
            version=self._champion.version,
            partition=request.partition,
        )
        report = self._report(columns, warnings, digest=file_digest(folder / TABLE))
        links = {"The columns that moved, drawn by Evidently": EVIDENTLY} if (folder / EVIDENTLY).exists() else {}
        page = render_drift(report, columns, reference=found.reference, current=found.current, links=links)
        (folder / PAGE).write_text(page, encoding="utf-8")
        (folder / REPORT).write_text(json.dumps(report.to_xcom(), indent=1) + "\n", encoding="utf-8")

    def _compared(self) -> _Compared:
        names = chosen_columns(list(self._champion.info.inputs), self._job.policy)
        # The partition itself has to be usable; those before it may be left out.
        self._profiles.of(self._look.current)
        found = _Compared(warnings=self._look.warnings)
        for window in self._look.windows:
            sides, left_out = self._sides(window)
            found = replace(found, warnings=(*found.warnings, *left_out))
            if sides is None:
                continue
            reference, current = (chosen(side, names) for side in sides)
            columns = compare(reference, current, min_effect=self._job.policy.min_effect, window=window.size)
            found = replace(found, columns=(*found.columns, *columns))
            if found.reference is None:
                found = replace(found, reference=reference, current=current)
        return self._with_predictions(replace(found, warnings=tuple(dict.fromkeys(found.warnings))))

    def _sides(self, window: Window) -> tuple[tuple[Profile, Profile] | None, list[str]]:
        """What the window is compared with, and the window itself, or ``None``; and what is left out."""
        left_out: list[str] = []
        current = self._usable(window.current, left_out)
        if len(current) < len(window.current):
            return None, [*left_out, f"a window of {window.size} partitions is left out"]
        reference = self._usable(window.reference, left_out) if window.reference else [self._profiles.training]
        return (merge(reference), merge(current)) if reference else None, left_out

    def _usable(self, datasets: Sequence[DatasetRef], left_out: list[str]) -> list[Profile]:
        """Those of which the features can be built: one bad day must not blind every look for a month."""
        found = [self._profile_of(dataset) for dataset in datasets]
        left_out += [f"left out: {why}" for why in found if isinstance(why, str)]
        return [profile for profile in found if not isinstance(profile, str)]

    def _profile_of(self, dataset: DatasetRef) -> Profile | str:
        """The profile, or why there is none."""
        try:
            return self._profiles.of(dataset)
        except (DataError, TrainingError) as error:
            return f"{', '.join(dataset.partitions)} ({error.what})"

    def _with_predictions(self, found: _Compared) -> _Compared:
        from ml_lifecycle.stages.drift_predictions import PredictionProfiles, compare_predictions

        holdout, classes = self._look.holdout, self._champion.info.classes
        if holdout is None:
            return found
        profiles = PredictionProfiles(self._profiles, holdout, classes, self._job.columns, self._tools)
        try:
            more = compare_predictions(self._look, profiles, min_effect=self._job.policy.min_effect)
        except DataError as error:
            return replace(found, warnings=(*found.warnings, f"predictions are not compared: {error.what}"))
        sides = [found.reference, found.current]
        for place, profile in enumerate(more.profiles):
            side = sides[place]
            if side is not None:
                sides[place] = replace(side, columns={**profile.columns, **side.columns})
        return _Compared((*found.columns, *more.columns), sides[0], sides[1], (*found.warnings, *more.warnings))

    def _weighed(self, columns: Sequence[ColumnDrift], warnings: list[str]) -> tuple[ColumnDrift, ...]:
        """The columns with their importance to the model."""
        from ml_lifecycle.stages.importance import importance_of

        try:
            shares = importance_of(self._champion, self._tools)
        except Exception as error:  # noqa: BLE001  # it weighs what was found, and decides nothing
            warnings.append(f"the importance of the columns is not known: {_said(error)}")
            return tuple(columns)
        return tuple(
            one.model_copy(update={"importance": shares.get(one.column)}) if one.role == "feature" else one
            for one in columns
        )

    def _draw(self, path: Path, columns: Sequence[ColumnDrift], warnings: list[str]) -> None:
        """Evidently's page of the columns that matter most."""
        from ml_lifecycle.backends.monitoring.evidently import evidently_page

        drifted = [one for one in foremost(columns) if one.drifted and one.role == "feature"]
        matter = sorted(drifted, key=lambda one: -(one.importance or 0.0) * (one.distance or 0.0))[:_DRAWN]
        if not matter:
            return
        request, window = self._job.request, self._look.windows[0]
        title = f"{request.model}: {request.partition} against the reference of version {self._champion.version}"
        try:
            reference = self._sample(window.reference or (self._champion.dataset,))
            page = evidently_page(reference, self._sample(window.current), matter, title=title)
        except Exception as error:  # noqa: BLE001  # it is a second picture of what was found
            warnings.append(f"Evidently's page is left out: {_said(error)}")
            return
        path.write_text(page, encoding="utf-8")

    def _sample(self, datasets: Sequence[DatasetRef]) -> pd.DataFrame:
        import pandas as pd

        share = -(-_DRAWN_ROWS // len(datasets))
        tables = (self._profiles.features(dataset) for dataset in datasets)
        parts = [table if len(table) <= share else table.sample(share, random_state=0).sort_index() for table in tables]
        sample: pd.DataFrame = pd.concat(parts, ignore_index=True)
        return sample

    # --- Read --------------------------------------------------------------------------------------------------------

    def published(self) -> DriftReport:
        """The report, judged again from its columns: a verdict that was edited on the disk has no say."""
        with self._tools.data.folder(self.uri) as folder:
            digest = file_digest(folder / TABLE)
            self._refuse_changed(digest)
            columns, warnings = read_columns(folder / TABLE), _warnings(folder / REPORT, digest, self.uri)
        return self._report(columns, warnings, digest=digest)

    def _refuse_changed(self, digest: str) -> None:
        """A try that ended before the ledger knew of it left columns that only the report beside them vouches for."""
        results = self._tools.ledger.results(
            self._tools.environment, self._job.request.model, "detect_drift", table_uri=f"{self.uri}/{TABLE}"
        )
        known = [result["content"]["table_digest"] for result in results]
        if known and digest not in known:
            raise _changed(known[-1], digest, self.uri)

    def _judge(self, columns: Sequence[ColumnDrift]) -> DriftJudgement:
        return judge(columns, alpha=self.alpha, windows=self._job.policy.windows)

    def _report(self, columns: Sequence[ColumnDrift], warnings: Sequence[str], *, digest: str) -> DriftReport:
        judgement = self._judge(columns)
        moved = weighted(judgement.columns)
        drifted, compared = sum(one.drifted for one in judgement.columns), len(judgement.columns)
        request = self._job.request
        whole = DriftReport(
            model=request.model,
            version=self._champion.version,
            partition=request.partition,
            verdict=weigh(judgement, weighted=moved, least=self._job.policy.min_weighted),
            drifted_share=drifted / compared if compared else None,
            columns=judgement.columns,
            reference=self._champion.dataset,
            current=self._look.current,
            report_uri=f"{self.uri}/{PAGE}",
            policy=self._job.policy,
            compared=compared,
            drifted=drifted,
            alpha=self.alpha,
            reference_partitions=self._look.reference_partitions,
            weighted_drift=moved,
            table_uri=f"{self.uri}/{TABLE}",
            table_digest=digest,
            warnings=tuple(warnings),
        )
        return fitting(whole)


def _warnings(path: Path, digest: str, uri: str) -> tuple[str, ...]:
    """What was noted while the columns with this digest were compared."""
    try:
        report = DriftReport.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{REPORT} cannot be read ({type(error).__name__})",
            where=uri,
            way_out="remove the folder and measure again",
        ) from error
    if report.table_digest != digest:
        raise _changed(report.table_digest, digest, uri)
    return report.warnings


def _changed(expected: str, found: str, uri: str) -> DigestMismatchError:
    return DigestMismatchError(
        "the table of the drift report",
        expected=expected,
        found=found,
        where=f"{uri}/{TABLE}",
        way_out="it was changed after it was published; restore it, or remove the folder and measure again",
    )


def _said(error: Exception) -> str:
    return error.what if isinstance(error, LifecycleError) else f"{type(error).__name__}: {error}"
