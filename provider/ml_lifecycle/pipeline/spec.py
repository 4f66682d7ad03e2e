"""All that a pipeline file may say. Sections are fixed: the file describes a model's life, not a graph.

Every field's docstring is what ``ml-lifecycle schema`` and the reference page print.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ml_lifecycle.core.approval import POLICY, same_name
from ml_lifecycle.core.contracts import (
    NAME,
    ApprovalTerms,
    DriftPolicy,
    DropRule,
    GateRule,
    HoldoutSpec,
    MeasurementSpec,
    Rate,
    Scalar,
    Source,
)
from ml_lifecycle.core.data_approval import DataPolicy
from ml_lifecycle.core.deployment import DEFAULT_TARGET
from ml_lifecycle.core.errors import did_you_mean
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER, METRICS, OPERATIONAL, PERIODS
from ml_lifecycle.core.request import HyperparameterSpec
from ml_lifecycle.core.values import parse_duration, parse_share

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")

_RATE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) +per +(day|week|month|quarter|year)")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PLACEHOLDER = re.compile(r"\{\{ *partition *\}\}")
_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_CRON: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _WEEKDAYS),
)


class Ambiguous(str):
    """A word written without quotes that YAML 1.1 and 1.2 read differently, such as ``no``, ``1:30`` or ``010``."""

    __slots__ = ()


# --- Values ----------------------------------------------------------------------------------------------------------


def parse_rate(value: Any) -> Any:
    """``1 per quarter`` as a rate."""
    if isinstance(value, Rate):
        return value
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError(f"{value!r} is not a rate; write it as 1 per quarter, with day, week, month, quarter or year")
    return Rate(count=float(found[1]), per=found[2])


def parse_day(value: Any) -> Any:
    """``2013-04-01`` as a date."""
    if isinstance(value, date):
        return value
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError(f"{value!r} is not a day of the calendar; write it as 2013-04-01")


def check_schedule(schedule: str) -> str:
    """A preset or a cron expression of five fields: ``minute hour day-of-month month day-of-week``."""
    if schedule in PRESETS:
        return schedule
    way_out = f"write {', '.join(PRESETS)}, or five cron fields such as '0 6 2 * *'"
    fields = schedule.split()
    if schedule.startswith("@") or len(fields) != len(_CRON):
        raise ValueError(f"{schedule!r} is not a schedule; {way_out}")
    for text, (name, low, high, names) in zip(fields, _CRON, strict=True):
        if not all(_is_cron_part(part, low, high, names) for part in text.lower().split(",")):
            raise ValueError(f"{text!r} is no {name} ({low} to {high}) of the schedule {schedule!r}; {way_out}")
    return schedule


def _is_cron_part(part: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdigit() and 1 <= int(step[:4]) <= high):
        return False
    if span == "*":
        return True
    ends = [names.index(end) + low if end in names else _small_number(end) for end in span.split("-")]
    return len(ends) <= 2 and all(low <= end <= high for end in ends) and ends == sorted(ends)  # noqa: PLR2004  # a span has two ends


def _small_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 2 else -1  # noqa: PLR2004  # cron's numbers have two digits


def check_path(path: str) -> str:
    """A relative path with forward slashes that stays below its root."""
    if path.startswith(("/", "~")) or "\\" in path or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise ValueError(f"{path!r} is not a relative path; write it from its root on, with forward slashes")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path!r} has an empty part, '.' or '..'; write the path out, below its root")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):  # noqa: PLR2004  # the control characters of ASCII
        raise ValueError(f"{path!r} holds a control character; leave it out")
    return path


def check_template(uri: str) -> str:
    """A relative path that holds ``{{ partition }}``, and no other expression."""
    literal = _PLACEHOLDER.sub("", uri)
    if "{" in literal or "}" in literal or "%" in literal:
        raise ValueError(f"only {{{{ partition }}}} is replaced in {uri!r}; write the rest out, without braces")
    if literal == uri:
        raise ValueError(f"{uri!r} does not say where a partition's name goes; write {{{{ partition }}}} in it")
    return check_path(uri)


def check_table(uri: str) -> str:
    """A template of files that are read as tables."""
    if not uri.endswith((".parquet", ".csv")):
        raise ValueError(f"{uri!r} is not a table; name a .parquet or .csv file")
    return uri


def check_suite_path(path: str) -> str:
    """A JSON file below the project folder."""
    if not path.endswith(".json"):
        raise ValueError(f"{path!r} is not an expectation suite; name a .json file below the project folder")
    return check_path(path)


def check_callable(name: str) -> str:
    """``package.module:function``."""
    if not _CALLABLE.fullmatch(name):
        raise ValueError(f"{name!r} does not name a function; write it as package.module:function")
    return name


def check_metric(name: str) -> str:
    """A metric that can be measured on rows, or a function of the team's own."""
    if ":" in name:
        return check_callable(name)
    if name not in METRICS:
        raise ValueError(
            f"{name!r} is not a metric{did_you_mean(name, METRICS)}; known are {', '.join(METRICS)}, and "
            "module:function for one of your own"
        )
    return name


def check_class(name: str) -> str:
    """``package.module.Class``."""
    if not _CLASS.fullmatch(name):
        raise ValueError(f"{name!r} does not name a class; write it as package.module.Class")
    return name


def check_text(text: str) -> str:
    """Text that says something."""
    if not text.strip():
        raise ValueError("is blank; write something here, or remove the key")
    return text


def check_people(names: tuple[str, ...]) -> tuple[str, ...]:
    """User names, each once."""
    seen: dict[str, str] = {}
    for name in names:
        same = same_name(name)
        if same == POLICY:
            raise ValueError(f"{name!r} is the name under which policy itself decides; name a person")
        if same in seen:
            twice = repr(name) if name == seen[same] else f"{seen[same]!r} and {name!r}"
            raise ValueError(f"{twice} would be one person twice; name everybody once")
        seen[same] = name
    return names


def check_span(span: timedelta) -> timedelta:
    """A time span that is not empty."""
    if not span:
        raise ValueError("is no time at all; write one such as 24h")
    return span


def check_windows(windows: tuple[int, ...]) -> tuple[int, ...]:
    """Window lengths, each once, the shortest first."""
    if list(windows) != sorted(set(windows)):
        raise ValueError("windows grow, each named once; write them such as [1, 7, 28]")
    return windows


def _check_scalar(value: Any) -> Any:
    if isinstance(value, Ambiguous):
        raise ValueError(f"{str(value)!r} is text for some readers of YAML and not for others; {_meant_by(value)}")  # noqa: TRY004  # pydantic takes ValueError
    if isinstance(value, dict | list | tuple):
        raise ValueError("must be one value: text, a number, true, false or null; write it without nesting")  # noqa: TRY004  # as above
    return value


def _meant_by(value: str) -> str:
    word = value.lower()
    if word in ("y", "yes", "on"):
        return f"write true, or '{value}' in quotes"
    if word in ("n", "no", "off"):
        return f"write false, or '{value}' in quotes"
    return f"write the number in plain digits, or '{value}' in quotes"


Text = Annotated[str, AfterValidator(check_text)]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]
Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), WithJsonSchema({"type": "string", "pattern": r"^\d{1,6}(w|d|h|m|s)$"})
]
Day = Annotated[date, BeforeValidator(parse_day), WithJsonSchema({"type": "string", "format": "date"})]
Schedule = Annotated[str, AfterValidator(check_schedule)]
MetricName = Annotated[str, AfterValidator(check_metric)]
AnyScalar = Annotated[Scalar, BeforeValidator(_check_scalar)]
_RATE_SCHEMA = {"type": "string", "pattern": r"^\d{1,3}(\.\d{1,3})? +per +(day|week|month|quarter|year)$"}
_SHARE_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": r"^\d{1,3}(\.\d+)? ?%$"}, {"type": "number", "exclusiveMinimum": 0}]
}


# --- Sections --------------------------------------------------------------------------------------------------------


class Section(BaseModel):
    """A part of the file: unknown keys are mistakes, values are not coerced beyond what the field says."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True, protected_namespaces=()
    )

    may_be_null: ClassVar[tuple[str, ...]] = ()

    @field_validator("*", mode="before")
    @classmethod
    def _say_something(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name not in cls.may_be_null:
            raise ValueError("is empty; write a value, or remove the key")
        return value


class SourceSection(Section, Source):
    """One family of files; ``flights/{{ partition }}.parquet`` alone is short for ``{uri: ...}``."""

    uri: Annotated[str, AfterValidator(check_template), AfterValidator(check_table)] = Field(
        examples=["flights/{{ partition }}.parquet"]
    )
    """Below the deployment's data root; {{ partition }} is replaced by the partition's name; parquet or csv."""

    @model_validator(mode="before")
    @classmethod
    def _from_uri(cls, value: Any) -> Any:
        return {"uri": value} if isinstance(value, str) else value


KEPT = ("snapshots", "quarantine", "reports", "log")
"""Folders below the data root that belong to the stages."""


class OutputSection(Section, Source):
    """One family of folders; ``scored/{{ partition }}`` alone is short for ``{uri: ...}``."""

    uri: Annotated[str, AfterValidator(check_template)] = Field(examples=["scored/{{ partition }}"])
    """Folder below the deployment's data root; {{ partition }} is replaced by the partition's name."""

    @model_validator(mode="before")
    @classmethod
    def _from_uri(cls, value: Any) -> Any:
        return {"uri": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_its_own(self) -> OutputSection:
        top = self.uri.partition("/")[0]
        if top in KEPT or top.startswith("ledger.db"):
            raise ValueError(f"{top!r} is kept for what stages publish; choose another folder, such as scored")
        return self


class DropSection(Section, DropRule):
    """Rows that are dropped before anything else sees them, counted under their reason."""

    may_be_null: ClassVar[tuple[str, ...]] = ("equals",)

    column: Text = Field(examples=["delayed"])
    """Column that is looked at."""
    equals: AnyScalar = None
    """The value that marks a row to drop; left out or null: missing."""
    because: Text = Field(examples=["cancelled"])
    """The reason that the dropped rows are counted under."""


class HoldoutSection(Section, HoldoutSpec):
    """Rows that are kept back for the evaluation."""

    by: Literal["time", "random", "group", "given"] = "time"
    """time keeps the last rows back; random draws rows by a hash of their key, group draws whole groups by a hash of a
    column's value, the same ones in each run; given takes the rows that a column marks."""
    share: Annotated[float, BeforeValidator(parse_share), WithJsonSchema(_SHARE_SCHEMA)] = Field(
        default=0.2, gt=0, lt=1, alias="last"
    )
    """Share of the rows, such as 20%; given does not look at it."""
    column: Text | None = None
    """For group, whose values are never split; for given, the column in which true, 1 or holdout marks a row."""


class DataSection(Section):
    """Where the rows come from and what their columns mean."""

    source: SourceSection = Field(examples=["flights/{{ partition }}.parquet"])
    """The rows, one file per partition, below the deployment's data root."""
    labels: SourceSection | None = None
    """The target, where it arrives later than the rows; joined by key."""
    related: dict[str, SourceSection] = {}
    """Further tables that the features need, handed to them by these names."""
    partitions: Literal["hourly", "daily", "monthly"] = "monthly"
    """How often a partition arrives, and so how it is named: 2013-01-31T07, 2013-01-31, 2013-01."""
    window: int = Field(default=1, ge=1, le=1000)
    """How many partitions a training reads, the newest last."""
    key: Text = Field(examples=["flight_id"])
    """Column that names a row uniquely."""
    time: Text | None = None
    """Column that says when the row's event takes place; a holdout by time orders by it."""
    target: Text | None = None
    """Column that is predicted."""
    labels_after: Duration = timedelta(0)
    """How late the truth arrives after the partition's end."""
    drop: Annotated[tuple[DropSection, ...], Field(strict=False)] = ()
    """Rows that training and evaluation leave out, counted under their reason."""
    holdout: HoldoutSection = Field(default_factory=HoldoutSection)
    """Rows kept back for the evaluation."""


class EscalationSection(Section):
    """Who may answer too, when the approvers leave a question open."""

    to: Annotated[Texts, Field(min_length=1), AfterValidator(check_people)] = Field(examples=[["head-of-analytics"]])
    """User names beside the approvers'."""
    after: Annotated[Duration, AfterValidator(check_span)] = Field(examples=["24h"])
    """How long a question is open before they may answer."""


class AnswersSection(Section):
    """Who may answer a question, and for how long."""

    approvers: Annotated[Texts, AfterValidator(check_people)] = ()
    """User names; needed unless required is never."""
    count: int = Field(default=1, ge=1, le=20)
    """How many different people have to approve; one rejection is enough."""
    expires_after: Annotated[Duration, AfterValidator(check_span)] = timedelta(hours=72)
    """Limits the ask, and a decision not yet used."""
    escalate: EscalationSection | None = None
    """Who may answer too, and when; left out: nobody."""

    @property
    def terms(self) -> ApprovalTerms:
        """Who may answer a question, and how many have to approve."""
        return ApprovalTerms(
            approvers=self.approvers,
            count=self.count,
            escalate_to=self.escalate.to if self.escalate else (),
            escalate_after_s=self.escalate.after.total_seconds() if self.escalate else None,
        )


class DataApprovalSection(AnswersSection):
    """Who answers for the data that a model is trained on."""

    required: Literal["always", "on_failure"] = "always"
    """on_failure asks only about data that did not pass, or that rows were set aside from."""

    @property
    def policy(self) -> DataPolicy:
        """What has to hold before the data is used."""
        return DataPolicy(required=self.required, terms=self.terms)


class ValidationSection(Section):
    """What the data is held to before anything is trained on it."""

    suite: Annotated[str, AfterValidator(check_suite_path)] = Field(
        examples=["include/flight_delays/expectations.json"]
    )
    """Great Expectations suite, a JSON file below the project folder."""
    on_failure: Literal["block", "quarantine", "warn"] = "block"
    """block stops the run; quarantine sets failing rows aside; warn only says so."""
    approval: DataApprovalSection | None = None
    """Who answers for the data before a model is trained on it; left out: nobody is asked."""


class Hyperparameter(Section, HyperparameterSpec):
    """A hyperparameter with what the trigger form says about it; a value alone is short for ``{value: ...}``."""

    may_be_null: ClassVar[tuple[str, ...]] = ("value",)

    value: AnyScalar = Field(examples=[80])
    """The default."""
    help: str = ""
    """Shown in the form."""
    low: float | None = None
    """Least value that the form takes."""
    high: float | None = None
    """Greatest value that the form takes."""

    @model_validator(mode="before")
    @classmethod
    def _from_value(cls, value: Any) -> Any:
        return value if isinstance(value, dict | cls) else {"value": value}

    @model_validator(mode="after")
    def _within_bounds(self) -> Hyperparameter:
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if not bounds:
            return self
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise ValueError(f"{self.value!r} has no bounds; remove low and high, or make the value a number")  # noqa: TRY004  # as above
        low, high = self.low, self.high
        if (low is not None and self.value < low) or (high is not None and self.value > high):
            raise ValueError(f"{self.value!r} is outside of its own bounds; change value, low or high")
        return self


class TrainingSection(Section):
    """What is trained, and when."""

    schedule: Schedule | None = None
    """Cron expression or preset such as @monthly; left out: by hand and when monitoring asks for it."""
    start: Day | None = None
    """First scheduled interval; left out: from the day the DAG is first seen."""
    end: Day | None = None
    """Last day of the schedule."""
    features: Annotated[str, AfterValidator(check_callable)] | None = None
    """module:function below the project folder that makes the model's input from the rows."""
    estimator: Annotated[str, AfterValidator(check_class)] = Field(
        examples=["sklearn.ensemble.HistGradientBoostingClassifier"]
    )
    """Class of an estimator that the deployment allows."""
    hyperparameters: dict[str, Hyperparameter] = {}
    """Arguments of the estimator: a value, or value, help, low and high for the trigger form."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Makes the training repeatable."""

    @property
    def values(self) -> dict[str, Scalar]:
        """The hyperparameters' defaults by name."""
        return {name: hyperparameter.value for name, hyperparameter in self.hyperparameters.items()}


class GateSection(Section, GateRule):
    """One condition on one metric; exactly one of at_least, at_most and versus says what it is compared with."""

    metric: Text = Field(examples=["roc_auc"])
    """One of evaluation.metrics, or latency_p95_ms, model_mb or peak_mb of the packaged model."""
    at_least: float | None = None
    """Least good value; the lower bound has to reach it."""
    at_most: float | None = None
    """Greatest good value; the upper bound has to stay below it."""
    versus: Literal["champion", "baseline"] | Annotated[int, Field(ge=1)] | None = None
    """Compare with the serving model (a first release passes by it), a simple prediction or a version's number, on the
    same rows."""
    claim: Literal["non_inferior", "superior", "not_worse"] = "non_inferior"
    """What passes a comparison: non_inferior, the loss is shown to be below the margin; superior, a gain is shown;
    not_worse, no loss beyond the margin is shown."""
    margin: float = Field(default=0.0, ge=0)
    """Tolerated loss against what it is compared with, in the metric's own unit."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """One-sided, of the bound that decides; at 0.5 the estimate itself decides."""
    each: Text | None = None
    """Apply the rule to every value of this slice column."""
    between: Text | None = None
    """Apply the rule to the gap between the greatest and the least value among the groups of this slice column."""
    min_rows: int = Field(default=30, ge=1)
    """A slice with fewer rows is inconclusive: nothing is known about it."""
    few_rows: Literal["inconclusive", "pool", "ignore"] = "inconclusive"
    """What becomes of slices with fewer rows: inconclusive; pool judges them together; ignore leaves them out."""
    correction: Literal["holm", "none"] = "holm"
    """With each: keep the chance that some slice fails by luck at one minus the confidence, however many there are."""
    better: Literal["higher", "lower"] | None = None
    """Which way a metric of your own is better, where it is compared."""


class EvaluationSection(Section):
    """What is measured, and what is enough."""

    metrics: Annotated[tuple[MetricName, ...], Field(strict=False, min_length=1)] = ("roc_auc", "log_loss", "brier")
    """What is measured on the holdout; module:function below the project folder for one of your own."""
    slices: Texts = ()
    """Columns by whose values everything is measured again."""
    cluster: Text | None = None
    """Rows that share this are not independent of each other: a column, or hour, day, week or month of data.time."""
    weight: Text | None = None
    """Column that says how much a row counts."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Score from which on a row counts as positive, for metrics of decisions."""
    costs: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = {}
    """What a decision costs, by the true label and then the predicted one, for the metric cost."""
    baseline: Text | None = None
    """Column that holds a simple prediction to compare with; left out: the training rows' mean or shares."""
    resamples: int = Field(default=1000, ge=200, le=100_000)
    """Of the bootstrap, for metrics that need one."""
    gate: Annotated[tuple[GateSection, ...], Field(strict=False)] = ()
    """Conditions for a release; without any, every candidate is inconclusive and asks a human."""

    @property
    def spec(self) -> MeasurementSpec:
        """How metrics are measured and bounded."""
        return MeasurementSpec(
            cluster=self.cluster,
            weight=self.weight,
            threshold=self.threshold,
            costs=self.costs,
            baseline=self.baseline,
            resamples=self.resamples,
        )


class ApprovalSection(AnswersSection):
    """Who answers for a release."""

    required: Literal["always", "on_inconclusive", "never"] = "always"
    """never and on_inconclusive let policy itself approve a passed gate."""


class ScoringSection(Section):
    """Batch scoring by the champion."""

    schedule: Schedule | None = None
    """Cron expression or preset; each interval is one partition; left out: by hand."""
    start: Day | None = None
    """First interval that is scored."""
    end: Day | None = None
    """Last day whose interval is scored."""
    output: OutputSection = Field(examples=["scored/{{ partition }}"])
    """Folder of a partition's predictions, below the data root."""
    max_bad: Annotated[float, BeforeValidator(parse_share), WithJsonSchema(_SHARE_SCHEMA)] = Field(
        default=0.0, ge=0, lt=1
    )
    """Share of a partition's rows that may be quarantined because they cannot be scored, such as 1%: a key that is
    missing or not unique, a text where a number is expected. With more of them, and by default with any, the run
    fails."""


_NO_BLOCK = "none"


class DriftSection(Section):
    """When data counts as drifted."""

    false_alarms: Annotated[Rate, BeforeValidator(parse_rate), WithJsonSchema(_RATE_SCHEMA)] = Rate()
    """How many alarms without any drift are bearable, over all columns and looks together, such as 1 per quarter."""
    min_effect: Annotated[float, BeforeValidator(parse_share), WithJsonSchema(_SHARE_SCHEMA)] = Field(
        default=0.03, ge=0, lt=1
    )
    """Share of rows that has to lie elsewhere before a difference matters, such as 3%."""
    min_weighted: Annotated[float, BeforeValidator(parse_share), WithJsonSchema(_SHARE_SCHEMA)] = Field(
        default=0.0, ge=0, lt=1
    )
    """Least drift of all that the model takes, each drifted column weighed by its importance, such as 1%; 0: any column
    that has moved counts. Predictions that have moved always count."""
    block: Text | None = None
    """Rows that share this are not independent of each other: a column, or hour, day, week or month of data.time, or
    the word none where each row stands for itself; left out: day where data.time is declared."""
    windows: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1000)], ...],
        Field(strict=False, min_length=1, max_length=5),
        AfterValidator(check_windows),
    ] = (1,)
    """How many partitions are looked at as one, such as [1, 7, 28]: longer windows find smaller shifts, later."""
    columns: Texts = ()
    """Which of the model's inputs; left out: all."""
    ignore: Texts = ()
    """Which ones not."""
    categorical: Texts = ()
    """Numbers that are names, such as a shop's number."""


class PerformanceSection(Section):
    """What the published predictions must be worth once their labels are in."""

    metric: Text = Field(examples=["roc_auc"])
    """One of the evaluation's metrics."""
    at_least: float | None = None
    """Least good value."""
    at_most: float | None = None
    """Greatest good value."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """One-sided, of the bounds that decide; at 0.5 the metric itself decides."""
    min_rows: int = Field(default=30, ge=1)
    """With fewer labelled rows, nothing is known."""
    min_coverage: Annotated[float, BeforeValidator(parse_share), WithJsonSchema(_SHARE_SCHEMA)] = Field(
        default=0.0, ge=0, le=1
    )
    """Share of the predictions that must have a label before anything is judged, such as 80%: early labels are often
    biased."""
    labelled_at: Text | None = None
    """Column of the labels that says when each became known."""


class RetrainSection(Section):
    """Limits of automatic retraining."""

    cooldown: Duration = timedelta(days=7)
    """Least time between two requests."""
    stop_after: int = Field(default=3, ge=1)
    """Requests in a row that did not help, after which only an alert follows."""
    budget: Annotated[Rate, BeforeValidator(parse_rate), WithJsonSchema(_RATE_SCHEMA)] | None = None
    """How many requests at most, such as 4 per quarter; left out: as many as the cooldown allows."""
    new_rows: int = Field(default=1, ge=0)
    """Least number of labelled rows that no training has seen yet."""
    remind_after: Duration = timedelta(days=7)
    """After this time people are told of the same finding again."""


Response = Literal["retrain", "rollback", "alert", "nothing"]


class MonitoringSection(Section):
    """What is watched while the champion serves."""

    schedule: Schedule | None = None
    """Cron expression or preset; each interval is one partition; left out: by hand."""
    start: Day | None = None
    """First interval that is watched."""
    end: Day | None = None
    """Last day whose interval is watched."""
    reference: Literal["training", "previous", "same_weekday", "same_month"] = "training"
    """What the current data is compared with: the champion's training data, the partitions before the window, the same
    weekdays of the weeks before, or the same calendar months of the year before."""
    reference_size: int = Field(default=28, ge=1, le=1000)
    """How many partitions previous and same_weekday go back for."""
    drift: DriftSection = Field(default_factory=DriftSection)
    """When data counts as drifted."""
    performance: PerformanceSection | None = None
    """What predictions must be worth; left out: not measured."""
    quality: bool = False
    """Whether each partition is held to validation.suite before it is compared."""
    on_drift: Response = "retrain"
    """What follows drift."""
    on_performance: Response | None = None
    """What follows lost performance; left out: what follows drift. A rollback needs lost performance."""
    on_quality: Literal["alert", "nothing"] = "alert"
    """What follows data that fails the suite: no model is trained on it either way."""
    runbook: Text | None = Field(default=None, examples=["https://wiki.example.com/flight-delays"])
    """Where people read what to do; each alert names it."""
    retrain: RetrainSection = Field(default_factory=RetrainSection)
    """Limits of automatic retraining."""

    def policy(self, *, time: str | None) -> DriftPolicy:
        """When data counts as drifted.

        :param time: ``data.time``: rows of one day are taken as alike where the file does not say otherwise.
        """
        said = self.drift.model_dump(include=self.drift.model_fields_set)
        block = self.drift.block or ("day" if time is not None else _NO_BLOCK)
        said["block"] = None if block == _NO_BLOCK else block
        return DriftPolicy(**said, reference=self.reference, reference_size=self.reference_size)


class DrillSection(Section):
    """Rehearsed rollbacks."""

    schedule: Schedule = "@weekly"
    """Cron expression or preset."""
    within: Duration = timedelta(minutes=5)
    """How long a rollback may take; a drill that takes longer fails."""

    @field_validator("within")
    @classmethod
    def _takes_time(cls, within: timedelta) -> timedelta:
        if not within:
            raise ValueError("no rollback takes no time; write a duration above 0, such as 5m")
        return within


class Pipeline(Section):
    """One model's whole life."""

    model: str = Field(pattern=NAME, examples=["flight_delays"])
    """Name of the registered model, and the first part of its DAGs' names."""
    owner: Text = Field(examples=["flight-operations"])
    """Team that answers for the model."""
    contact: Text = Field(examples=["ml-oncall@example.com"])
    """Where people reach that team."""
    risk: Literal["low", "medium", "high"] = "medium"
    """Tier that the model is tagged with."""
    description: str = ""
    """One line for the DAGs' pages."""
    data: DataSection
    """Where the rows come from and what their columns mean."""
    validation: ValidationSection | None = None
    """What the data is held to; left out: nothing is checked."""
    training: TrainingSection
    """What is trained, and when."""
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    """What is measured, and what is enough."""
    approval: ApprovalSection = Field(default_factory=ApprovalSection)
    """Who answers for a release."""
    deployment: dict[str, Any] = dict(DEFAULT_TARGET)
    """Target and its options, checked by the backend that it names."""
    scoring: ScoringSection | None = None
    """Batch scoring by the champion; left out: no such DAG."""
    monitoring: MonitoringSection | None = None
    """What is watched while the champion serves; left out: no such DAG."""
    drill: DrillSection | None = None
    """Rehearsals of a rollback; left out: no such DAG."""


# --- What sections say about each other ------------------------------------------------------------------------------


Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Disagreement:
    """Two places of the file that do not fit together; ``loc`` is the one to change first."""

    loc: Loc
    what: str
    way_out: str
    against: Loc = ()
    """The other place: nothing can be said while that one is wrong by itself."""


@dataclass(frozen=True)
class Sections:
    """The sections that could be read, ``None`` for those that could not or are left out."""

    data: DataSection | None
    validation: ValidationSection | None
    training: TrainingSection | None
    evaluation: EvaluationSection | None
    approval: ApprovalSection | None
    scoring: ScoringSection | None
    monitoring: MonitoringSection | None
    gate: Mapping[int, GateSection]
    """The rules that could be read, by their place in ``evaluation.gate``."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> Sections:
        """All of a pipeline that could be read whole."""
        return cls(
            pipeline.data,
            pipeline.validation,
            pipeline.training,
            pipeline.evaluation,
            pipeline.approval,
            pipeline.scoring,
            pipeline.monitoring,
            dict(enumerate(pipeline.evaluation.gate)),
        )


def disagreements(sections: Sections) -> Iterator[Disagreement]:
    """Everything that is right by itself and wrong together."""
    yield from _data_disagreements(sections)
    yield from measurement_disagreements(sections)
    for index, rule in sections.gate.items():
        yield from gate_disagreements(("evaluation", "gate", index), rule, sections.evaluation)
    for name in ("training", "scoring", "monitoring"):
        yield from _schedule_disagreements(name, getattr(sections, name))
    yield from _monitoring_disagreements(sections)
    if sections.approval is not None:
        yield from _answers_disagreements(("approval",), sections.approval)
    if sections.validation is not None:
        yield from _validation_disagreements(sections.validation)


def _data_disagreements(sections: Sections) -> Iterator[Disagreement]:
    data = sections.data
    if data and data.target is None:
        yield Disagreement(
            ("data", "target"), "is missing, so there is nothing to train for", "name the column that is predicted"
        )
    if data and data.holdout.by == "time" and data.time is None:
        yield Disagreement(
            ("data", "time"),
            "is missing, but the holdout is split by time",
            "name the column, or write holdout: {by: random}",
            against=("data", "holdout"),
        )
    if data:
        yield from _holdout_disagreements(data.holdout)


def _holdout_disagreements(holdout: HoldoutSection) -> Iterator[Disagreement]:
    loc = ("data", "holdout", "column")
    if holdout.by in ("group", "given") and holdout.column is None:
        what = "whose groups are never split" if holdout.by == "group" else "that marks the rows"
        yield Disagreement(loc, f"is missing, but the holdout is {holdout.by}", f"name the column {what}")
    if holdout.by in ("time", "random") and holdout.column is not None:
        yield Disagreement(
            loc, f"means nothing for a holdout by {holdout.by}", "write by: group or by: given, or remove it"
        )


def _validation_disagreements(validation: ValidationSection) -> Iterator[Disagreement]:
    approval, loc = validation.approval, ("validation", "approval")
    if approval is None:
        return
    yield from _answers_disagreements(loc, approval)
    if approval.required == "on_failure" and validation.on_failure == "block":
        yield Disagreement(
            (*loc, "required"),
            "data that fails is blocked, so nobody would ever be asked",
            "write required: always, or on_failure: quarantine or warn",
            against=("validation", "on_failure"),
        )


def _answers_disagreements(loc: Loc, answers: ApprovalSection | DataApprovalSection) -> Iterator[Disagreement]:
    people = (*loc, "approvers")
    if answers.required != "never" and not answers.approvers:
        instead = ", or write required: never" if isinstance(answers, ApprovalSection) else ""
        yield Disagreement(
            people,
            f"approval is required ({answers.required}), but nobody may give it",
            f"name users, such as [ada]{instead}",
            against=(*loc, "required"),
        )
    elif answers.approvers and answers.count > len(answers.approvers):
        yield Disagreement(
            (*loc, "count"),
            f"{answers.count} people have to approve, and {len(answers.approvers)} may",
            "name more approvers, or ask fewer of them",
            against=people,
        )
    if answers.escalate is not None:
        yield from _escalation_disagreements(loc, answers, answers.escalate)


def _escalation_disagreements(loc: Loc, answers: AnswersSection, escalate: EscalationSection) -> Iterator[Disagreement]:
    approvers = {same_name(name) for name in answers.approvers}
    if approvers and {same_name(name) for name in escalate.to} <= approvers:
        yield Disagreement(
            (*loc, "escalate", "to"),
            "everybody here may approve from the start",
            "name others, or remove escalate",
            against=(*loc, "approvers"),
        )
    if escalate.after >= answers.expires_after:
        yield Disagreement(
            (*loc, "escalate", "after"),
            "by then the question has expired",
            "write a time shorter than expires_after",
            against=(*loc, "expires_after"),
        )


def gate_disagreements(loc: Loc, rule: GateSection, evaluation: EvaluationSection | None) -> Iterator[Disagreement]:
    """What one rule says against itself, and against what is measured."""
    said = [name for name in ("at_least", "at_most", "versus") if getattr(rule, name) is not None]
    if len(said) != 1:
        found = f"says {' and '.join(said)}" if said else "says nothing to compare with"
        yield Disagreement(loc, found, "write exactly one of at_least, at_most and versus")
    yield from _claim_disagreements(loc, rule)
    if rule.metric in OPERATIONAL:
        yield from _operational_disagreements(loc, rule)
        return
    if evaluation is None:
        return
    yield from _unmeasured((*loc, "metric"), rule.metric, evaluation)
    for name in ("each", "between"):
        column = getattr(rule, name)
        if column is not None and column not in evaluation.slices:
            yield Disagreement(
                (*loc, name),
                f"{column!r} is not one of evaluation.slices ({', '.join(evaluation.slices) or 'none'})",
                "add it there, or name one of them",
                against=("evaluation", "slices"),
            )


def measurement_disagreements(sections: Sections) -> Iterator[Disagreement]:
    """What is measured against what is declared."""
    data, evaluation = sections.data, sections.evaluation
    if evaluation is None:
        return
    if "cost" in evaluation.metrics and not evaluation.costs:
        yield Disagreement(
            ("evaluation", "costs"),
            "is missing, but the cost is measured",
            "say what a wrong decision costs, such as {'True': {'False': 5}, 'False': {'True': 1}}",
        )
    if data and data.time is None and evaluation.cluster in PERIODS:
        yield Disagreement(
            ("evaluation", "cluster"),
            f"is a {evaluation.cluster} of the time column, but there is none",
            "name data.time, or a column",
            against=("data",),
        )


def _claim_disagreements(loc: Loc, rule: GateSection) -> Iterator[Disagreement]:
    if rule.versus is None:
        for name in ("claim", "margin", "better"):
            if getattr(rule, name) != type(rule).model_fields[name].default:
                yield Disagreement((*loc, name), "means nothing without versus", "add versus, or remove it")
        if rule.between is not None and rule.at_most is None:
            yield Disagreement((*loc, "between"), "is a gap, which only at_most can limit", "write at_most")
        return
    if rule.claim == "superior" and rule.margin:
        yield Disagreement((*loc, "margin"), "no loss is tolerated where a gain has to be shown", "remove it")
    if rule.between is not None:
        yield Disagreement((*loc, "between"), "a gap has no opponent", "write at_most instead of versus")
    if rule.each is not None and rule.between is not None:
        yield Disagreement((*loc, "between"), "one rule looks at each slice or between them", "make two rules")
    if rule.metric not in HIGHER_IS_BETTER and rule.better is None:
        yield Disagreement(
            (*loc, "metric"), f"nothing says which way {rule.metric} is better", "add better: higher or better: lower"
        )


def _operational_disagreements(loc: Loc, rule: GateSection) -> Iterator[Disagreement]:
    for name in ("versus", "each", "between"):
        if getattr(rule, name) is not None:
            yield Disagreement((*loc, name), f"{rule.metric} is one number of the package", "remove it")


def _unmeasured(loc: Loc, metric: str, evaluation: EvaluationSection) -> Iterator[Disagreement]:
    if metric not in evaluation.metrics:
        yield Disagreement(
            loc,
            f"{metric!r} is not one of evaluation.metrics ({', '.join(evaluation.metrics)})"
            f"{did_you_mean(metric, evaluation.metrics)}",
            "add it there, or name one of them",
            against=("evaluation", "metrics"),
        )


def _schedule_disagreements(
    name: str, section: TrainingSection | ScoringSection | MonitoringSection | None
) -> Iterator[Disagreement]:
    if section is None:
        return
    if section.start and section.end and section.end < section.start:
        yield Disagreement(
            (name, "end"),
            f"{section.end} is before the start {section.start}",
            "put end on or after start",
            against=(name, "start"),
        )
    if section.schedule is None and (section.start or section.end):
        yield Disagreement(
            (name, "start" if section.start else "end"),
            "means nothing without a schedule",
            "add schedule, or remove it",
            against=(name, "schedule"),
        )


def _monitoring_disagreements(sections: Sections) -> Iterator[Disagreement]:
    monitoring = sections.monitoring
    if monitoring is None:
        return
    yield from _drift_disagreements(monitoring, sections.data)
    yield from _quality_disagreements(monitoring, sections)
    if monitoring.performance is not None:
        yield from _performance_disagreements(monitoring.performance, sections)
    elif monitoring.on_performance is not None:
        yield Disagreement(
            ("monitoring", "on_performance"), "means nothing without performance", "add performance, or remove it"
        )


def _drift_disagreements(monitoring: MonitoringSection, data: DataSection | None) -> Iterator[Disagreement]:
    drift, loc = monitoring.drift, ("monitoring", "drift")
    both = sorted({*drift.columns} & {*drift.ignore})
    if both:
        yield Disagreement((*loc, "ignore"), f"{both[0]!r} is one of columns, too", "name it in one of them")
    if data and data.time is None and drift.block in PERIODS:
        yield Disagreement(
            (*loc, "block"),
            f"is a {drift.block} of the time column, but there is none",
            "name data.time, or a column",
            against=("data",),
        )
    if data and data.partitions == "monthly" and monitoring.reference == "same_weekday":
        yield Disagreement(
            ("monitoring", "reference"),
            "a month has no weekday",
            "write same_month, previous or training",
            against=("data", "partitions"),
        )


def _quality_disagreements(monitoring: MonitoringSection, sections: Sections) -> Iterator[Disagreement]:
    if monitoring.quality and sections.validation is None:
        yield Disagreement(
            ("monitoring", "quality"),
            "there is no suite to hold the data to",
            "add validation.suite, or remove it",
            against=("validation",),
        )


def _performance_disagreements(performance: PerformanceSection, sections: Sections) -> Iterator[Disagreement]:
    loc = ("monitoring", "performance")
    if performance.at_least is None and performance.at_most is None:
        yield Disagreement(loc, "says nothing to compare with", "write at_least or at_most")
    if sections.evaluation:
        yield from _unmeasured((*loc, "metric"), performance.metric, sections.evaluation)
    if sections.data and sections.data.labels is None and sections.data.target is None:
        yield Disagreement(
            loc,
            "needs labels, but the data has neither labels nor a target",
            "add data.labels or data.target, or remove performance",
            against=("data",),
        )
