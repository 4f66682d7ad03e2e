"""Every value that one stage hands to another.

Contracts are frozen and cross XCom as plain JSON: :meth:`Contract.to_xcom` out, ``model_validate()`` in. They hold
references and digests, never data. Fields are only ever added, with a default that never changes, and never renamed: a
run that started before an upgrade must be able to end after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml_lifecycle.core.values import Share, StoredDuration

Scalar = str | int | float | bool | None
Stream = Literal["train", "release", "score", "monitor", "rollback", "drill"]

DIGEST = r"^[0-9a-f]{64}$"
NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""Model names: MLflow would also take newlines, right-to-left marks and look-alike letters."""


class Contract(BaseModel):
    """A frozen value of plain JSON; NaN and infinity are refused, an unmeasured number is ``None``."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True, protected_namespaces=()
    )

    def to_xcom(self) -> dict[str, Any]:
        """The value as plain JSON, which every deployment's XCom accepts."""
        return self.model_dump(mode="json")

    def content_digest(self) -> str:
        """SHA-256 over the canonical JSON of everything that differs from its default.

        Defaults are left out, so that a field that is added later changes no digest that was taken before.
        """
        return digest_of(self.model_dump(mode="json", exclude_defaults=True))


class Evidence(Contract):
    """What a stage concluded. The runner writes it into the ledger, and refuses a handed one that is not there."""


def canonical_json(value: Any) -> str:
    """The one text for a value: sorted keys, no blanks, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 (64 hex digits) over ``value`` as canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def first_mistake(error: ValidationError) -> str:
    """The first thing that does not fit a contract, with its place; never the value, which may be a secret."""
    mistake = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, mistake["loc"]))
    return f"{place}: {mistake['msg']}" if place else mistake["msg"]


class Verdict(str, Enum):
    """What a check says. Missing, NaN or infinite is never a pass."""

    PASS = "pass"  # noqa: S105  # a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @classmethod
    def worst(cls, verdicts: Iterable[Verdict]) -> Verdict:
        """One failure fails the whole, one unknown leaves it inconclusive; of nothing, nothing is known."""
        found = set(verdicts)
        if cls.FAIL in found:
            return cls.FAIL
        return cls.PASS if found == {cls.PASS} else cls.INCONCLUSIVE


# --- What a run was asked --------------------------------------------------------------------------------------------


class RunRequest(Evidence):
    """What one run works on: merged once, at its start, from conf, the asset's event and the pipeline."""

    model: str = Field(pattern=NAME)
    stream: Stream = "train"
    run_id: str = ""
    """Airflow's ``dag_id/run_id``, or empty outside Airflow."""
    trigger: Literal["manual", "scheduled", "asset", "backfill", "command"] = "command"
    partition: str = ""
    """The newest partition that the run works on, such as ``2013-03``; empty where a stream needs none."""
    partitions: tuple[str, ...] = ()
    """All partitions that it reads, oldest first, ``partition`` last."""
    reason: str = ""
    """Why the run was asked for, in the words of a person or of the monitor."""
    requester: str | None = None
    """User name of whoever triggered the run; ``None`` for scheduled and asset-triggered runs."""
    hyperparameters: dict[str, Scalar] = {}
    """Only those that this run overrides."""
    version: int | None = None
    """The model version that a release or a rollback is about, where the request names one."""
    epoch: int | None = Field(default=None, ge=1)
    """The epoch whose champion is to be rolled back, where monitoring asks for it: no other one is."""
    excluded: tuple[str, ...] = ()
    """Partitions that were left out of the window, because their data was refused; oldest first."""


# --- Data ------------------------------------------------------------------------------------------------------------


class Columns(Contract):
    """Which columns carry meaning for the lifecycle itself."""

    key: str
    """Names a row uniquely."""
    time: str | None = None
    """When the row's event takes place; the split by time orders by it."""
    target: str | None = None
    """What is predicted; ``None`` for unsupervised models."""


class Source(Contract):
    """One family of files: ``{{ partition }}`` in ``uri`` is replaced by the partition's name."""

    uri: str
    """Below the deployment's ``data_root``, such as ``flights/{{ partition }}.parquet``; parquet or csv."""


class DropRule(Contract):
    """Rows that are dropped before anything else sees them, counted under their reason."""

    column: str
    """Column that is looked at."""
    equals: Scalar = None
    """The value that marks a row to drop; ``None`` means missing."""
    because: str
    """The reason that the dropped rows are counted under."""


class DatasetRef(Evidence):
    """An immutable copy of the data that a run works on.

    ``fingerprint`` is the digest of the stored bytes (see :func:`ml_lifecycle.backends.files.digest_of_folder`) and is
    verified before every read.
    """

    uri: str
    """Folder below the data root: ``data.parquet``, one parquet file per related source, ``origin.json``."""
    rows: int = Field(ge=0)
    fingerprint: str = Field(pattern=DIGEST)
    columns: Columns
    partitions: tuple[str, ...]
    dropped: dict[str, int] = {}
    """Rows dropped, by the rule's ``because``."""
    label_columns: tuple[str, ...] = ()
    """Columns that arrived with the labels, the target among them: no model may take them as its input."""


class ExpectationResult(Contract):
    """One expectation's outcome on one dataset."""

    expectation: str
    """Great Expectations' name for it, such as ``expect_column_values_to_not_be_null``."""
    column: str | None = None
    severity: Literal["critical", "warning", "info"] = "critical"
    verdict: Verdict
    """``inconclusive`` when the check itself broke, which says nothing about the data."""
    unexpected_rows: int | None = None
    detail: str = ""


class ValidationReport(Evidence):
    """Whether the data is what its users were promised."""

    dataset: DatasetRef
    """What later stages read: the dataset that was checked, without quarantined rows."""
    verdict: Verdict
    expectations: int = Field(ge=0)
    """How many were checked."""
    unmet: tuple[ExpectationResult, ...] = ()
    """Those that did not pass."""
    quarantined_rows: int = 0
    quarantined_for: tuple[ExpectationResult, ...] = ()
    """What the dataset did not meet while it held the quarantined rows."""
    report_uri: str = ""


class DataRejection(Evidence):
    """Data that was held to its suite and may not be used."""

    model: str
    dataset: DatasetRef
    reason: str
    report_uri: str = ""


# --- Models ----------------------------------------------------------------------------------------------------------


class HoldoutSpec(Contract):
    """Which rows are kept back for the evaluation."""

    by: Literal["time", "random", "group", "given"] = "time"
    """``time`` keeps the last rows back, ``random`` draws rows by a hash of their key, ``group`` draws whole groups by
    a hash of the column's value, ``given`` takes the rows that the column marks."""
    share: float = Field(default=0.2, gt=0, lt=1)
    """``time``: the last rows by time; ``random`` and ``group``: the same ones each time; ``given``: not looked at."""
    column: str | None = None
    """``group``: whose values are never split; ``given``: true, 1 or ``holdout`` marks a row that is held back."""


class TrainedModel(Evidence):
    """A model package as training left it: nothing has judged it yet."""

    name: str
    uri: str
    """``runs:/<run id>/model/<start of the digest>``, else a folder."""
    digest: str = Field(pattern=DIGEST)
    """Digest of the package's bytes, checked before every load."""
    format: Literal["skops"] = "skops"
    training_key: str = Field(pattern=DIGEST)
    """Digest over all inputs of the training; one run and one version per key."""
    run_id: str
    dataset: DatasetRef
    holdout: HoldoutSpec
    training_rows: int
    estimator: str = ""
    hyperparameters: dict[str, Scalar] = {}
    """Those that were in force, the run's own among them."""
    seed: int | None = None
    code_version: str = ""
    """The project's commit, or why it is not known."""
    features: str = ""
    """The callable that makes the model's input."""
    features_digest: str = ""
    environment_digest: str = ""
    """Digest of the installed distributions."""
    hardware: str = ""
    """The machine that trained, in one line."""


class ModelPurpose(Contract):
    """What a model is for and who answers for it, in the pipeline's words."""

    description: str = ""
    owner: str = ""
    contact: str = ""
    risk: str = ""


class Metric(Contract):
    """One number and what it was measured on; ``None`` where it cannot be computed, such as AUC on one class."""

    value: float | None
    rows: int
    low: float | None = None
    """Lower end of the two-sided 95% interval, where it was computed."""
    high: float | None = None


class Difference(Contract):
    """Candidate minus another model on the same rows, turned so that positive is better."""

    estimate: float | None
    standard_error: float | None
    """Paired; ``None`` where it is not known."""
    rows: int
    low: float | None = None
    """Lower end of the two-sided 95% interval."""
    high: float | None = None
    method: str = ""
    """Where the interval comes from, such as ``DeLong``."""


class MeasurementSpec(Contract):
    """How metrics are measured and bounded: part of the policy, as a change of it can change a verdict."""

    cluster: str | None = None
    """Rows that share this are not independent of each other: a column, or ``hour``, ``day``, ``week`` or ``month`` of
    the time column; ``None``: every row stands for itself."""
    weight: str | None = None
    """Column that says how much a row counts, 0 or more."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Score from which on a row counts as positive, for metrics of decisions."""
    costs: dict[str, dict[str, float]] = {}
    """What a decision costs: true label, then predicted label. A pair that is not named costs nothing."""
    baseline: str | None = None
    """Column that holds a simple prediction to compare with; ``None``: the training rows' share, classes' shares or
    mean."""
    resamples: int = Field(default=1000, ge=200, le=100_000)
    """Of the bootstrap, where a metric needs one."""
    seed: int = 0
    """Makes the bootstrap repeatable."""


class HoldoutFacts(Contract):
    """The rows that judge a candidate, and what was proven about them."""

    fingerprint: str = Field(pattern=DIGEST)
    """Digest over the rows' keys and truth: models are compared on the same fingerprint only."""
    spec: HoldoutSpec = HoldoutSpec()
    rows: int
    training_rows: int
    training_until: datetime | None = None
    """The newest training row's time, where the rows have one."""
    first: datetime | None = None
    """The oldest held row's time."""
    last: datetime | None = None
    warnings: tuple[str, ...] = ()
    """Signs of leakage that a person should look at, in sentences."""


class ServingCheck(Contract):
    """The packaged model in a process of its own, as a server would load it."""

    verdict: Verdict
    rows: int
    """Golden rows that were scored."""
    largest_difference: float | None = None
    """Between training's predictions and these, over all golden rows."""
    tolerance: float = 1e-6
    load_s: float | None = None
    latency_p50_ms: float | None = None
    """Of a request with one row."""
    latency_p95_ms: float | None = None
    peak_mb: float | None = None
    """Of the process, libraries included."""
    model_mb: float | None = None
    """Of the package on disk."""
    detail: str = ""
    """Why it would not serve."""


class Contender(Contract):
    """Something else than the champion that was measured on the same rows."""

    version: int | None = None
    """``None`` for the baseline."""
    digest: str | None = None
    metrics: dict[str, Metric]
    differences: dict[str, Difference] = {}


class ChampionResult(Contract):
    """The champion, measured on the rows that the candidate was measured on."""

    version: int
    digest: str = Field(pattern=DIGEST)
    metrics: dict[str, Metric]
    differences: dict[str, Difference]
    slices: dict[str, dict[str, dict[str, Metric]]] = {}
    """Slice column, then its value, then the metric."""


class Evaluation(Evidence):
    """What the candidate does on rows that it never saw."""

    model: TrainedModel
    metrics: dict[str, Metric]
    slices: dict[str, dict[str, dict[str, Metric]]] = {}
    """Slice column, then its value, then the metric."""
    champion: ChampionResult | None = None
    """``None`` only for a first release."""
    predictions_uri: str
    predictions_digest: str = Field(pattern=DIGEST)
    """Digest of the row-level predictions, which paired comparisons start from."""
    task: Literal["binary", "multiclass", "regression"] = "binary"
    classes: tuple[str, ...] = ()
    """Class labels in the order of the scores; empty for a regression."""
    spec: MeasurementSpec = MeasurementSpec()
    holdout: HoldoutFacts | None = None
    serving: ServingCheck | None = None
    others: dict[str, Contender] = {}
    """By what a rule calls them: ``baseline``, or a version's number such as ``3``."""


class GateRule(Contract):
    """One condition on one metric. Exactly one of ``at_least``, ``at_most`` and ``versus`` says what is compared."""

    metric: str
    """One of the metrics that the evaluation measures, ``latency_p95_ms``, ``model_mb``, or ``module:function``."""
    at_least: float | None = None
    """Least good value."""
    at_most: float | None = None
    """Greatest good value."""
    versus: Literal["champion", "baseline"] | int | None = None
    """Compare with the serving model, a simple prediction or a version's number, on the same rows."""
    claim: Literal["non_inferior", "superior", "not_worse"] = "non_inferior"
    """What passes: the loss is shown to be below ``margin``; a gain is shown; a loss beyond ``margin`` is not shown."""
    margin: float = Field(default=0.0, ge=0)
    """Tolerated loss against what it is compared with, in the metric's own unit."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """One-sided, of the bound that decides; at 0.5 the estimate itself decides."""
    each: str | None = None
    """Apply the rule to every value of this slice column."""
    between: str | None = None
    """Apply the rule to the gap between the greatest and the least value among this column's groups."""
    min_rows: int = Field(default=30, ge=1)
    """A slice with fewer rows is inconclusive: nothing is known about it."""
    few_rows: Literal["inconclusive", "pool", "ignore"] = "inconclusive"
    """What becomes of slices with fewer rows: nothing is known; they are judged together; they are left out."""
    correction: Literal["holm", "none"] = "holm"
    """With ``each``: how the chance that some slice fails by luck is kept at one minus the confidence."""
    better: Literal["higher", "lower"] | None = None
    """Which way a metric of one's own is better; known for the others."""


class Measured(Contract):
    """What one rule is held against in one place: a metric, a gap, or a difference on the same rows."""

    rule: int = Field(ge=0)
    """The rule's place in the gate."""
    place: str = ""
    """Such as ``origin=JFK``; empty for all rows."""
    value: float | None
    """Differences are turned so that positive is better; ``None`` where it is not known."""
    low: float | None = None
    """One-sided lower bound; ``None`` where the value has no error. Where the rule asks for little (``at_most``), the
    upper bound is the one at the confidence that a pass needs, else this one; the other is at the rule's."""
    high: float | None = None
    """One-sided upper bound."""
    p_broken: float | None = Field(default=None, ge=0, le=1)
    """One-sided p-value: small where the rule is shown to be broken."""
    standard_error: float | None = None
    rows: int
    clusters: int | None = None
    """Independent groups of rows, where the rows are not independent themselves."""
    method: str = ""
    """Where the bounds come from, such as ``DeLong`` or ``BCa bootstrap of 28 days``."""
    detail: str = ""
    """Why the value is not known."""


class GateCheck(Contract):
    """One rule applied to one value."""

    rule: str
    """The rule in words, such as ``roc_auc at least 0.6 for origin=JFK``."""
    verdict: Verdict
    observed: float | None
    low: float | None = None
    high: float | None = None
    detail: str = ""
    metric: str = ""
    place: str = ""
    """Such as ``origin=JFK``; empty for all rows."""
    versus: str = ""
    """``champion``, ``baseline`` or a version's number; empty where the rule sets a limit."""
    limit: float | None = None
    """What the bound is held against: the limit, or minus the margin."""
    at_most: bool = False
    """Whether a pass lies below the limit."""
    confidence: float | None = None
    """One-sided, of the bound that a pass needs: higher than the rule's where the holdout was used before."""
    rows: int = 0
    method: str = ""
    more_rows: int | None = None
    """About how many more rows would decide, in four of five cases, if the estimate is right."""


class GateDecision(Evidence):
    """The gate's judgement of one candidate."""

    evaluation: Evaluation
    verdict: Verdict
    checks: tuple[GateCheck, ...]
    policy_digest: str = Field(pattern=DIGEST)
    """Digest of the rules that were applied, and of how they were measured."""
    judged: int = Field(default=1, ge=1)
    """How many candidates the holdout has judged, this one included."""
    report_uri: str = ""
    """The evaluation report for people, below the data root."""
    card_uri: str = ""
    """The model card, in markdown, on the run."""


class ModelVersion(Evidence):
    """A registered candidate: what a release asks about."""

    name: str
    version: int = Field(ge=1)
    digest: str = Field(pattern=DIGEST)
    training_key: str = Field(pattern=DIGEST)
    uri: str
    run_id: str
    dataset_fingerprint: str = Field(pattern=DIGEST)
    metrics_digest: str = Field(pattern=DIGEST)
    """Digest of the evaluation that the gate judged."""
    gate_verdict: Verdict
    policy_digest: str = Field(pattern=DIGEST)
    reason: str = ""
    """Why the training was asked for."""


# --- Release ---------------------------------------------------------------------------------------------------------


class ApprovalTerms(Contract):
    """Who may answer a question, and how many have to approve. They are part of the question."""

    approvers: tuple[str, ...] = ()
    """User names; empty for anyone who may edit the run."""
    count: int = Field(default=1, ge=1, le=20)
    """How many different people have to approve; one rejection is enough."""
    escalate_to: tuple[str, ...] = ()
    """Who may answer too, once the question has been open for ``escalate_after_s``."""
    escalate_after_s: float | None = Field(default=None, gt=0)


class Ask(Contract):
    """The question that an approver answers; its digest names everything that the answer is about."""

    kind: Literal["model", "dataset", "step"] = "model"
    """A dataset's question names the data's fingerprint as its ``digest``, and version 0 at epoch 0."""
    model: str
    environment: str
    version: int
    digest: str = Field(pattern=DIGEST)
    dataset_fingerprint: str = Field(pattern=DIGEST)
    metrics_digest: str = Field(pattern=DIGEST)
    gate_verdict: Verdict
    policy_digest: str = Field(pattern=DIGEST)
    epoch: int = Field(ge=0)
    """The ledger's head when the question was asked."""
    renewal: int = Field(default=0, ge=0)
    """How often the same was asked before and ran out, unanswered or unused."""
    terms: ApprovalTerms = ApprovalTerms()

    @property
    def ask_id(self) -> str:
        """The same question always has the same id."""
        return self.content_digest()


class Posting(Contract):
    """One showing of a question in Airflow's Required Actions: it takes one answer."""

    ask_id: str = Field(pattern=DIGEST)
    model: str
    environment: str
    number: int = Field(default=0, ge=0)
    """Counts the showings of one question from 1; 0 before the ledger has numbered it."""
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    ti_id: str = ""
    """Airflow's id of the try that waits."""
    author: str | None = None
    """Who triggered the run that shows it; that person may reject, and never approve."""


class Vote(Contract):
    """One person's answer to an ask."""

    ask_id: str = Field(pattern=DIGEST)
    outcome: Literal["approve", "reject"]
    person: str
    """User name, or ``policy`` where policy itself decides."""
    channel: Literal["airflow", "signed", "policy"]
    """Which way it came: through the guard of Airflow's API server, as a signed file, or from policy."""
    posting: int | None = None
    """Which showing it answers; ``None`` for answers from outside Airflow."""
    reason: str = ""
    at: datetime
    signature: str = ""
    """Of an answer from outside: what proves who gave it."""


class Decision(Contract):
    """What the answers to an ask came to: written once, with the vote that decided."""

    ask: Ask
    outcome: Literal["approve", "reject"]
    decided_by: str
    """User name of the last voter, or ``policy`` where policy itself decides."""
    approved_by: tuple[str, ...] = ()
    """Everybody who approved, in order."""
    requested_by: str | None = None
    reason: str = ""
    decided_at: datetime
    expires_at: datetime | None = None
    """After this moment the decision gives no right to a move."""


class Move(Contract):
    """A change of champion, as the ledger recorded it. Only the ledger makes one."""

    model: str
    environment: str
    epoch: int = Field(ge=1)
    """The fencing token: one higher than the head that it replaced."""
    kind: Literal["release", "rollback"]
    version: int
    digest: str = Field(pattern=DIGEST)
    uri: str
    """Where the model's package is read from."""
    decision_id: str | None = None
    """The ask's id; ``None`` for a rollback, which needs no approval."""
    target: dict[str, Any] = {}
    """Where it serves and with which options: what a rollback restores beside the model."""
    moved_by: str
    reason: str = ""
    moved_at: datetime


class Deployment(Evidence):
    """What serves after a release or a rollback."""

    champion: Move
    previous: Move | None
    traffic: dict[str, int] = {}
    """Percent by version; whole numbers that sum to 100."""


class DrillReport(Evidence):
    """What a rehearsed rollback came to: everything that a rollback does, but the traffic."""

    model: str
    verdict: Verdict
    """``inconclusive`` where there is nothing to go back to."""
    from_version: int | None = None
    """What serves; ``None`` before the first release."""
    to_version: int | None = None
    """What a rollback would bring back."""
    epoch: int = Field(default=0, ge=0)
    """The ledger's head while it was rehearsed."""
    seconds: float | None = None
    """How long it took; ``None`` where it did not come to an end."""
    within_s: float
    """How long it may take."""
    detail: str = ""
    """Why it would not work, or why nothing is known."""


# --- Rollout ---------------------------------------------------------------------------------------------------------


class QualityPolicy(Contract):
    """What a new version's answers must be worth beside the old one's, once their labels are in."""

    metric: Literal["accuracy", "brier", "absolute_error", "squared_error"] = "accuracy"
    """Loss of one answer: wrong or right, squared distance of the probability, distance, squared distance."""
    margin: float = Field(default=0.02, gt=0)
    """Loss that has to be ruled out before all traffic goes to the new version, in the metric's unit."""
    tolerance: float = Field(default=0.0, ge=0)
    """Loss that is not worth a rollback, in the metric's unit."""


class AnalysisPolicy(Contract):
    """What a new version is held to at each step, and how long one waits for an answer."""

    max_error_rate: Share = Field(default=0.01, gt=0, lt=1)
    """Share of its requests that may fail; a request that the old version had to answer instead has failed."""
    latency_p95_ms: float | None = Field(default=None, gt=0)
    """What 95 of 100 requests have to be faster than."""
    max_latency_ratio: float | None = Field(default=1.25, ge=1)
    """How many times the old version's 95th percentile its own may be; ``null`` where the target tells no latencies."""
    max_prediction_shift: Share | None = Field(default=None, gt=0, lt=1)
    """Share of the same requests that the two versions may answer differently by more than a step of the scores: the
    Kolmogorov-Smirnov distance of their scores; left out, it is measured and decides nothing."""
    quality: QualityPolicy | None = None
    """Left out: no labels are waited for."""
    min_requests: int = Field(default=500, ge=1)
    """That the new version has answered at a step before it passes."""
    max_wait: StoredDuration = timedelta(hours=1)
    """How long a step waits for an answer before it is inconclusive."""
    look_every: StoredDuration = timedelta(seconds=10)
    """How often the evidence is looked at; the bounds hold at any number of looks."""
    false_rollbacks: Share = Field(default=0.05, gt=0, le=0.5)
    """How often at most a version as good as the old one is rolled back, over all checks, looks and steps."""
    on_inconclusive: Literal["hold", "ask", "rollback", "continue"] = "hold"
    """Hold: the split stays, and looking goes on. Ask: a person answers, and looking goes on meanwhile."""


class Histogram(Contract):
    """How many requests took how long."""

    bounds_ms: tuple[float, ...]
    """Upper bounds in rising order; what took longer than the last one is counted behind it."""
    counts: tuple[int, ...]
    """One more than there are bounds."""


class Observation(Contract):
    """What one version did in a window."""

    version: int
    requests: int = Field(ge=0)
    """That were sent to it first, whoever answered them in the end."""
    errors: int = Field(default=0, ge=0)
    """Of these, that it did not answer: server errors, broken connections, and what another version had to answer."""
    retried: int = Field(default=0, ge=0)
    """Of the errors, those that users never saw."""
    latency: Histogram | None = None
    """``None`` where the target does not tell."""


class Losses(Contract):
    """What a version's answers were worth, as far as their labels are in."""

    version: int
    rows: int = Field(ge=0)
    total: float = 0.0
    """Sum of the rows' losses."""
    squares: float = Field(default=0.0, ge=0)
    """Sum of their squares."""
    unusable: int = Field(default=0, ge=0)
    """Labelled answers beside them whose loss is no number, such as a score that is missing."""


class PairedScores(Contract):
    """Two versions' answers to the same requests."""

    rows: int = Field(ge=0)
    distance: float | None = None
    """Kolmogorov-Smirnov distance of the scores' distributions."""
    p_value: float | None = Field(default=None, ge=0, le=1)
    mean_difference: float | None = None
    """New minus old."""
    low: float | None = None
    """Bounds of the mean difference, 95%."""
    high: float | None = None
    flipped: float | None = Field(default=None, ge=0, le=1)
    """Share of the requests that get another label; ``None`` for numbers."""
    failed: int = Field(default=0, ge=0)
    """Requests that the new version could not answer."""
    distance_low: float | None = None
    """Bounds of the distance, 95%."""
    distance_high: float | None = None
    mismatched: int = Field(default=0, ge=0)
    """Requests that were left out, as the old version does not answer them as the log says it did."""
    detail: str = ""
    """Why nothing can be concluded, with the way out; empty where the numbers count."""
    old_quantiles: tuple[float, ...] = ()
    """Of the old version's scores, from the least to the greatest in equal shares of the requests."""
    new_quantiles: tuple[float, ...] = ()
    """The same of the new version's."""


class StepEvidence(Contract):
    """Everything known about one step."""

    percent: int = Field(ge=0, le=100)
    """Of the traffic that the new version gets; 0 in the shadow."""
    began_at: datetime
    old: Observation | None = None
    new: Observation | None = None
    old_losses: Losses | None = None
    new_losses: Losses | None = None
    paired: PairedScores | None = None
    fault: str = ""
    """What the target itself found wrong, such as a server that died or an update that was rolled back silently."""
    notes: tuple[str, ...] = ()
    """Why something is not known, in sentences."""


class StepCheck(Contract):
    """One thing that a step was held to."""

    name: Literal["target", "error rate", "latency", "latency ratio", "quality", "prediction shift", "answers"]
    verdict: Verdict
    observed: float | None = None
    low: float | None = None
    """Bounds that hold at all looks together."""
    high: float | None = None
    limit: float | None = None
    detail: str = ""


class StepReport(Evidence):
    """What one step of a rollout came to."""

    model: str
    environment: str
    epoch: int = Field(ge=1)
    version: int
    percent: int = Field(ge=0, le=100)
    verdict: Verdict
    checks: tuple[StepCheck, ...] = ()
    evidence: StepEvidence
    policy: AnalysisPolicy = AnalysisPolicy()
    traffic: dict[str, int] = {}
    """Percent by version, as the target told it."""
    looks: int = Field(default=1, ge=1)
    report_uri: str = ""


class Rollout(Evidence):
    """A new version that runs beside the one that serves."""

    move: Move
    previous: Move | None
    """``None`` for a first release: there is nothing to be compared with."""
    steps: tuple[Literal["shadow"] | int, ...]
    """Percent of the traffic, step by step."""
    traffic: dict[str, int] = {}
    """Percent by version."""


class StepAnswer(Evidence):
    """That people decided about going on from a step; what counts is the decision in the ledger."""

    model: str
    epoch: int = Field(ge=1)
    percent: int = Field(ge=0, le=100)
    ask_id: str = Field(pattern=DIGEST)


class TrafficShift(Evidence):
    """A change of traffic that is about to be made, written down before."""

    model: str
    environment: str
    epoch: int = Field(ge=1)
    version: int
    percent: int = Field(ge=0, le=100)
    """Of the traffic to the version; the rest goes to the one before."""
    because: str = ""


# --- Around it ------------------------------------------------------------------------------------------------------


class EscalationNotice(Evidence):
    """That a question has been open for so long that a second list of people was told."""

    model: str
    ask_id: str = Field(pattern=DIGEST)
    told: tuple[str, ...]
    """User names."""


class ReleaseProvenance(Evidence):
    """Where the signed statement about a release is published."""

    model: str
    environment: str
    epoch: int = Field(ge=1)
    uri: str
    """Below the data root."""
    digest: str = Field(pattern=DIGEST)
    """SHA-256 of the file."""
    signed_by: str
    """A hint at the key: the first digits of the public key's SHA-256."""


class ExportedBundle(Evidence):
    """An approved version as a signed archive for apps and devices."""

    model: str
    environment: str
    version: int
    digest: str = Field(pattern=DIGEST)
    """Of the model package in it."""
    decision_id: str
    """The approval that it rests on."""
    sha256: str = Field(pattern=DIGEST)
    """Of the archive."""
    size: int
    """Bytes."""
    formats: tuple[str, ...]
    """How it can answer: ``skops``, and ``onnx`` where that was asked for."""
    signed_by: str
    """A hint at the key: the first digits of the public key's SHA-256."""
    uri: str = ""
    """Below the data root; empty where it was handed out as a file."""


class ScoredPartition(Evidence):
    """One partition's predictions, published once."""

    model: str
    partition: str
    uri: str
    """Folder below the data root: ``predictions.parquet``, ``inputs.parquet`` (of large partitions several files) and
    ``origin.json``, and ``quarantine.parquet`` where rows could not be scored."""
    rows: int
    version: int
    digest: str = Field(pattern=DIGEST)
    """Digest of the model that made the predictions."""
    fingerprint: str = Field(pattern=DIGEST)
    """Digest of the published bytes."""
    dataset_fingerprint: str = Field(pattern=DIGEST)
    classes: tuple[Scalar, ...] = ()
    """Class labels; scores are probabilities of the second one. Empty for a regression."""
    quarantined_rows: int = 0
    """Rows that could not be scored: they lie in ``quarantine.parquet`` with the reason, and are not in ``rows``."""
    quarantined_for: dict[str, int] = {}
    """How many of them for which reason."""


# --- Monitoring ------------------------------------------------------------------------------------------------------


class Rate(Contract):
    """How often something may happen, on average."""

    count: float = Field(default=1.0, gt=0, le=1000)
    """Times."""
    per: Literal["day", "week", "month", "quarter", "year"] = "quarter"

    def __str__(self) -> str:
        return f"{self.count:g} per {self.per}"


class DriftPolicy(Contract):
    """When data counts as drifted: part of every drift report, as a change of it can change a verdict."""

    false_alarms: Rate = Rate()
    """How many alarms without any drift are bearable, over all columns and looks together."""
    min_effect: float = Field(default=0.03, ge=0, lt=1)
    """Share of rows that has to lie elsewhere before a difference matters, however certain it is."""
    min_weighted: float = Field(default=0.0, ge=0, lt=1)
    """Least drift of all that the model takes, each drifted column's distance weighed by its importance; below it, the
    data has not drifted. Drifted predictions always count."""
    block: str | None = None
    """Rows that share this are not independent of each other: a column, or ``hour``, ``day``, ``week`` or ``month`` of
    the time column; ``None``: every row stands for itself."""
    windows: tuple[int, ...] = (1,)
    """How many partitions, the newest last, are looked at as one: longer windows find smaller shifts, later."""
    reference: Literal["training", "previous", "same_weekday", "same_month"] = "training"
    """``training``: the champion's training data; ``previous``: the partitions before the window; ``same_weekday``:
    the same weekdays of the weeks before; ``same_month``: the same calendar months of the year before."""
    reference_size: int = Field(default=28, ge=1, le=1000)
    """How many partitions ``previous`` and ``same_weekday`` go back for."""
    columns: tuple[str, ...] = ()
    """Which ones; empty for all of the model's inputs."""
    ignore: tuple[str, ...] = ()
    """Which ones not."""
    categorical: tuple[str, ...] = ()
    """Numbers that are names, such as a shop's number."""


class ColumnDrift(Contract):
    """How far one column has moved."""

    column: str
    method: str
    """Name of the distance: ``ks``, the greatest difference between shares of rows below a value, for what has an
    order; ``total_variation``, the share of rows that lies in other categories, for the rest."""
    distance: float | None
    """0 to 1; ``None`` where it could not be measured."""
    threshold: float
    """Least distance that matters."""
    drifted: bool
    role: Literal["feature", "prediction"] = "feature"
    """What the model takes, or what it gives."""
    kind: str = ""
    """``number``, ``category``, ``identifier`` or ``time``; of the last two only missing values are compared."""
    p_value: float | None = Field(default=None, ge=0, le=1)
    """Chance of a difference like this without drift, in this column alone."""
    adjusted: float | None = Field(default=None, ge=0, le=1)
    """The same over all columns and windows (Benjamini and Hochberg): drift is below the look's share of the budget."""
    window: int = 1
    """How many partitions were looked at as one."""
    psi: float | None = None
    """Population stability index."""
    jensen_shannon: float | None = None
    """Distance with base 2, 0 to 1."""
    wasserstein: float | None = None
    """In standard deviations of the reference; numbers only."""
    missing: float | None = None
    """Share of rows without a value in the current data."""
    missing_before: float | None = None
    unseen: float | None = None
    """Share of rows whose category the reference does not have; categories only."""
    importance: float | None = Field(default=None, ge=0, le=1)
    """The column's share in what the model uses; ``None`` where it was not measured."""
    design_effect: float | None = None
    """How many times more the shares vary between blocks than between independent rows."""
    rows: int = 0
    detail: str = ""
    """Why nothing is known, or what is special."""


class DriftReport(Evidence):
    """How far the current data has moved from the reference data."""

    model: str
    version: int
    partition: str
    verdict: Verdict
    """``fail`` is drift."""
    drifted_share: float | None
    """Drifted columns over compared columns, 0 to 1."""
    columns: tuple[ColumnDrift, ...]
    """Those that drifted and those next to it, at most 20; all of them lie in ``table_uri``."""
    reference: DatasetRef
    """What the champion was trained on."""
    current: DatasetRef
    report_uri: str = ""
    policy: DriftPolicy = DriftPolicy()
    compared: int = 0
    """Columns that were compared."""
    drifted: int = 0
    alpha: float | None = None
    """Chance of a false alarm that this look may spend."""
    reference_partitions: tuple[str, ...] = ()
    """What was compared with."""
    weighted_drift: float | None = None
    """Distances of the drifted columns, each weighed by its importance to the model, 0 to 1."""
    table_uri: str = ""
    """``columns.parquet``: a row per column."""
    table_digest: str = ""
    warnings: tuple[str, ...] = ()
    """What a reader should know of this comparison, in sentences."""


class PerformanceEstimate(Contract):
    """What the predictions are probably worth, before their labels are in."""

    metric: str
    value: float | None
    low: float | None = None
    """Lower end of the two-sided 95% interval of sampling alone."""
    high: float | None = None
    rows: int = 0
    valid: bool = False
    """Whether the condition that can be checked holds: what is taken as chances is calibrated on the holdout."""
    condition: str = ""
    """What has to hold for the estimate to mean anything, in a sentence."""
    calibration_error: float | None = None
    """Mean distance between predicted and true shares on the holdout, 0 to 1."""


class PerformanceReport(Evidence):
    """What the champion's published predictions were worth, once the labels are in."""

    model: str
    version: int | None
    partition: str
    verdict: Verdict
    """``inconclusive`` while labels are missing."""
    metrics: dict[str, Metric]
    labelled_rows: int
    detail: str = ""
    predictions: int = 0
    unlabelled_rows: int = 0
    """Predictions without a label so far."""
    duplicate_labels: int = 0
    """Labels that said the same of a row again: each row counts once."""
    conflicting_labels: int = 0
    """Rows that labels contradict each other about: they count as unlabelled."""
    dropped_rows: int = 0
    """Labelled rows that the drop rules leave out."""
    lag_s: float | None = None
    """How long after the row's event its label came, where the labels say when: the median, in seconds."""
    estimate: PerformanceEstimate | None = None
    at_least: float | None = None
    """The limit that the metric was held to, inclusive."""
    at_most: float | None = None
    labels_digest: str = ""
    """Digest of the file that the labels were read from; empty while there is none."""


class MonitoringResponse(Evidence):
    """What monitoring asks for in answer to its reports."""

    model: str
    partition: str
    action: Literal["retrain", "alert", "nothing", "rollback"]
    reason: str
    evidence: tuple[str, ...] = ()
    """Reports that it stands on, below the data root."""
    runbook: str = ""
    """Where people read what to do."""
    prepared: str = ""
    """What can be done at once, in words: a DAG and what to hand it."""
    healthy: bool | None = None
    """Whether the champion was found well: ``None`` where nobody knows."""
    attempts: int = 0
    """Retrainings asked for since it was last found well."""
    held_back: str = ""
    """Why a retraining that was called for was not asked for."""
    version: int | None = None
    """The champion that was looked at."""
    epoch: int | None = None
    """Its epoch in the ledger: only this one is rolled back."""
    back_to: int | None = None
    """The version that a rollback brings back, where one is asked for."""
    excluded: tuple[str, ...] = ()
    """Partitions that the retraining leaves out, because their data was refused; oldest first."""
    new_rows: int | None = None
    """Labelled rows that the retraining would be the first to see; ``None`` where nobody looked."""
    finding: str = ""
    """What is wrong, the same at each look while nothing changes; empty while all is well."""
    told: bool = False
    """Whether this look tells people: the finding is another one than before, or it is time to remind of it."""
    told_at: datetime | None = None
    """When people were last told of this finding."""
