"""A model in a real ledger that is trained, released and watched, without any estimator."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from ml_lifecycle.core.contracts import (
    Ask,
    Columns,
    DatasetRef,
    DriftReport,
    HoldoutSpec,
    Metric,
    ModelVersion,
    MonitoringResponse,
    Move,
    PerformanceReport,
    RunRequest,
    Source,
    TrainedModel,
    ValidationReport,
    Verdict,
    Vote,
    digest_of,
)
from ml_lifecycle.stages import runner
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.response import ResponseJob, respond

if TYPE_CHECKING:
    from ml_lifecycle.stages.runner import Tools

MODEL = "trips"
NOW = datetime(2013, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
COLUMNS = Columns(key="trip", target="late")
SOURCE = Source(uri="trips/{{ partition }}.parquet")
LABELS = Source(uri="outcomes/{{ partition }}.parquet")
DATASET = DatasetRef(uri="snapshots/trips/1", rows=1, fingerprint="0" * 64, columns=COLUMNS, partitions=("2013-01",))


@dataclass
class WatchedModel:
    """One model's life, step by step."""

    tools: Tools
    now: datetime = NOW
    limits: dict[str, Any] = field(default_factory=dict)
    """Fields of every :class:`ResponseJob`."""
    reads_data: bool = False
    """Whether a response looks for new labelled data."""
    looks: int = 0

    def at(self, run: str) -> Tools:
        """The tools of a run at this moment."""
        return replace(self.tools, clock=lambda: self.now, run=run)

    # --- What people and other DAGs do ---

    def train(self, *partitions: str, version: int, dataset: DatasetRef | None = None) -> TrainedModel:
        """A training whose result stands in the ledger."""
        trained = TrainedModel(
            name=MODEL,
            uri=f"models/{version}",
            digest=digest_of(["model", version]),
            training_key=digest_of(["key", version]),
            run_id=str(version),
            dataset=dataset or DATASET.model_copy(update={"partitions": partitions}),
            holdout=HoldoutSpec(),
            training_rows=10,
        )
        runner.record("snapshot", trained.dataset, self.at(f"trips_train/{version}"), model=MODEL)
        runner.record("train", trained, self.at(f"trips_train/{version}"), model=MODEL)
        return trained

    def register(self, version: int) -> ModelVersion:
        """A candidate that may be released."""
        registered = ModelVersion(
            name=MODEL,
            version=version,
            digest=digest_of(["model", version]),
            training_key=digest_of(["key", version]),
            uri=f"models/{version}",
            run_id=str(version),
            dataset_fingerprint=DATASET.fingerprint,
            metrics_digest="0" * 64,
            gate_verdict=Verdict.PASS,
            policy_digest="0" * 64,
        )
        runner.record("register", registered, self.at(f"trips_train/{version}"), model=MODEL)
        return registered

    def ask(self, registered: ModelVersion, *, expires_at: datetime | None = None) -> Ask:
        """Somebody is asked about a candidate."""
        head = self.tools.ledger.head(MODEL, self.tools.environment)
        named = ("version", "digest", "dataset_fingerprint", "metrics_digest", "gate_verdict", "policy_digest")
        ask = Ask(
            model=MODEL,
            environment=self.tools.environment,
            epoch=head.epoch if head else 0,
            **{name: getattr(registered, name) for name in named},
        )
        self.tools.ledger.ask(ask, requested_by=None, at=self.now, expires_at=expires_at)
        return ask

    def release(self, version: int, by: str = "policy", *, target: dict[str, Any] | None = None) -> Move:
        """A version becomes champion; under a target with steps, once it has all of the traffic."""
        registered = self.register(version)
        ask = self.ask(registered)
        channel: Literal["policy", "signed"] = "policy" if by == "policy" else "signed"
        vote = Vote(ask_id=ask.ask_id, outcome="approve", person=by, channel=channel, at=self.now)
        decision = self.tools.ledger.vote(vote)
        assert decision is not None
        return self.tools.ledger.release(registered, decision, moved_by=by, at=self.now, target=target)

    def land(self, partition: str, *, rows: int = 10, labels: int | None = 10, miles: float = 1.0) -> None:
        """A partition's rows, and labels for the first of them; ``None``: no label file yet."""
        import pandas as pd

        root = self.tools.data.root  # type: ignore[attr-defined]  # a local store
        keys = [f"{partition}-{number}" for number in range(rows)]
        for folder in ("trips", "outcomes"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"trip": keys, "miles": miles}).to_parquet(root / f"trips/{partition}.parquet")
        if labels is not None:
            late = pd.array([number % 2 if number < labels else None for number in range(rows)], dtype="Int64")
            pd.DataFrame({"trip": keys, "late": late}).to_parquet(root / f"outcomes/{partition}.parquet")

    def snapshot(self, *partitions: str) -> DatasetRef:
        """A training's data, taken from the files."""
        job = SnapshotJob(model=MODEL, partitions=partitions, source=SOURCE, labels=LABELS, columns=COLUMNS)
        taken = snapshot(job, self.tools)
        runner.record("snapshot", taken, self.at(f"trips_train/{partitions[-1]}"), model=MODEL)
        return taken

    # --- What monitoring does ---

    def job(self, *reports: Any, partition: str = "2013-05", run: str) -> ResponseJob:
        """What a run hands to its last task."""
        kinds: dict[Any, str] = {DriftReport: "drift", PerformanceReport: "performance", ValidationReport: "quality"}
        asked = RunRequest(model=MODEL, stream="monitor", partition=partition, run_id=run)
        where = {"source": SOURCE, "labels": LABELS, "columns": COLUMNS} if self.reads_data else {}
        given = {kinds[type(report)]: report for report in reports}
        return ResponseJob(request=asked, **given, **where, **self.limits)

    def look(self, *reports: Any, partition: str = "2013-05", run: str = "", days: float = 0) -> MonitoringResponse:
        """One run of the monitor, that many days after the last one."""
        self.now += timedelta(days=days)
        self.looks += 1
        run = run or f"trips_monitor/{self.looks}"
        job = self.job(*reports, partition=partition, run=run)
        for evidence in (job.request, *reports):
            runner.record("given", evidence, self.at(run), model=MODEL)
        return runner.run(respond, job, self.at(run), model=MODEL)


def drift(verdict: Verdict = Verdict.FAIL, *, version: int = 1, partition: str = "2013-05") -> DriftReport:
    """A look at the data."""
    return DriftReport(
        model=MODEL,
        version=version,
        partition=partition,
        verdict=verdict,
        drifted_share=None,
        columns=(),
        reference=DATASET,
        current=DATASET,
    )


def measured(verdict: Verdict, *, version: int = 1, partition: str = "2013-05") -> PerformanceReport:
    """A look at the predictions."""
    value = {Verdict.PASS: 0.7, Verdict.FAIL: 0.5, Verdict.INCONCLUSIVE: None}[verdict]
    return PerformanceReport(
        model=MODEL,
        version=version,
        partition=partition,
        verdict=verdict,
        metrics={"roc_auc": Metric(value=value, rows=100)},
        labelled_rows=0 if value is None else 100,
    )


def quality(verdict: Verdict, dataset: DatasetRef) -> ValidationReport:
    """A look at the data's promises."""
    return ValidationReport(dataset=dataset, verdict=verdict, expectations=1)
