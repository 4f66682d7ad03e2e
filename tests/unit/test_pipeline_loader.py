"""Every mistake is named at its place, all at once, and no text whatever makes the loader fall over."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_lifecycle.core.contracts import GateRule, HoldoutSpec, Source
from ml_lifecycle.core.errors import PipelineError
from ml_lifecycle.pipeline.loader import read_document, read_pipeline, read_pipelines

PROJECT = Path(__file__).resolve().parents[2]
DEMO = PROJECT / "dags" / "flight_delays.yaml"

GOOD = """\
model: flights
owner: team
contact: team@example.com
data:
  source: "flights/{{ partition }}.parquet"
  key: id
  time: departure
  target: delayed
  window: 3
  labels_after: 1d
  drop:
    - {column: delayed, because: cancelled}
  holdout: {by: time, last: 20%}
training:
  estimator: sklearn.linear_model.LogisticRegression
  hyperparameters: {C: 1.0}
evaluation:
  metrics: [roc_auc, log_loss]
  slices: [origin]
  gate:
    - {metric: roc_auc, at_least: 0.6}
approval: {approvers: [ada]}
deployment: {backend: alias}
scoring: {schedule: "@monthly", output: "scored/{{ partition }}"}
monitoring:
  performance: {metric: roc_auc, at_least: 0.5}
"""


class Case(NamedTuple):
    """What is replaced in GOOD and by what; the mistake's line, column and path, and words of its message."""

    old: str
    new: str
    line: int
    column: int
    path: str
    words: str

    def text(self) -> str:
        assert self.old in GOOD
        return GOOD.replace(self.old, self.new, 1)


MISTAKES = [
    ("model: flights\n", "", 1, 1, "model", "is missing; write it, such as `model: flight_delays`"),
    ("model: flights", "model: Flug Hafen", 1, 8, "model", "must be a name of a-z, 0-9, _ and -"),
    ("owner: team", "owner: 7", 2, 8, "owner", "must be text, is 7; put it in quotes"),
    ("owner: team", "owner: ''", 2, 8, "owner", "is blank"),
    ("owner: team", "owner:", 2, 7, "owner", "is empty; write a value, or remove the key"),
    ("owner: team", "owner: team\nowner: crew", 3, 1, "owner", "written twice, first in line 2"),
    ("owner: team", "owner: team\nsteps: []", 3, 1, "steps", "unknown key 'steps'"),
    ("owner: team", "owner: team\nrisk: hihg", 3, 7, "risk", "did you mean 'high'?; write low or medium or high"),
    ("owner: team", "owner: &x team", 2, 8, "owner", "the anchor &x is not accepted"),
    ("owner: team", "owner: !!str team", 2, 8, "owner", "the tag tag:yaml.org,2002:str is not accepted"),
    ("owner: team", "owner: !!python/object/apply:os.system [ls]", 2, 8, "owner", "is not accepted"),
    ("owner: team", "owner: *x", 2, 8, "owner", "the alias *x is not accepted; write the value out"),
    ("owner: team", "<<: {a: 1}", 2, 1, "<<", "unknown key '<<'"),
    ("owner: team", "? [a, b]\n: 3", 2, 3, "", "a key is not a word"),
    ("owner: team", "\towner: team", 2, 1, "", "a tab stands where YAML wants spaces"),
    ("owner: team", "owner: a: b", 2, 9, "", "a second ': ' stands in one line"),
    ("owner: team", "owner: [team", 3, 8, "", "does not fit what stands before it"),
    ("owner: team", "owner: te\x07am", 2, 10, "", "U+0007 cannot be seen"),
    ("approval: {", "---\napproval: {", 22, 1, "", "a second document starts here"),
    ("  window: 3", "  windw: 3", 9, 3, "data.windw", "did you mean 'window'?; known keys are source, labels"),
    ("  window: 3", "  window: 0", 9, 11, "data.window", "0 is out of bounds; write a number of at least 1"),
    ("  window: 3", "  window: true", 9, 11, "data.window", "must be a whole number, is true"),
    ("  window: 3", "  window: '3'", 9, 11, "data.window", "must be a whole number, is '3'"),
    ("  window: 3", "  window: 1:30", 9, 11, "data.window", "must be a whole number, is '1:30'"),
    ("  window: 3", "  window: 010", 9, 11, "data.window", "must be a whole number, is '010'"),
    ("  window: 3", "  window: 2.5", 9, 11, "data.window", "must be a whole number, is 2.5"),
    ("  window: 3", "  window: 99999999999999999999", 9, 11, "data.window", "is too large a number"),
    ("  window: 3", "  partitions: weekly", 9, 15, "data.partitions", "write hourly or daily or monthly"),
    ("  key: id\n", "", 5, 3, "data.key", "is missing; write it, such as `key: flight_id`"),
    ("  target: delayed\n", "", 5, 3, "data.target", "nothing to train for"),
    ("  time: departure\n", "", 5, 3, "data.time", "the holdout is split by time"),
    ("labels_after: 1d", "labels_after: 1 day", 10, 17, "data.labels_after", "'1 day' is not a duration"),
    ("labels_after: 1d", "labels_after: 24", 10, 17, "data.labels_after", "24 is not a duration"),
    ("because: cancelled", "because: x, equals: no", 12, 45, "data.drop[0].equals", "write false, or 'no' in quotes"),
    ("because: cancelled", "because: x, equals: [1]", 12, 45, "data.drop[0].equals", "must be one value"),
    (
        "    - {column: delayed, because: cancelled}",
        "    column: x",
        12,
        5,
        "data.drop",
        "must be a list, is a section",
    ),
    ("last: 20%", "last: 20 percent", 13, 29, "data.holdout.last", "'20 percent' is not a share"),
    ("last: 20%", "last: 120%", 13, 29, "data.holdout.last", "1.2 is out of bounds; write a number below 1"),
    ("flights/{{ partition }}", "flights/{{ ds }}", 5, 11, "data.source", "only {{ partition }} is replaced"),
    (
        "scored/{{ partition }}",
        "reports/{{ partition }}",
        24,
        41,
        "scoring.output",
        "'reports' is kept for what stages",
    ),
    ("flights/{{ partition }}", "flights/all", 5, 11, "data.source", "does not say where a partition's name goes"),
    ("flights/{{ partition }}", "/data/{{ partition }}", 5, 11, "data.source", "is not a relative path"),
    ("flights/{{ partition }}", "../{{ partition }}", 5, 11, "data.source", "has an empty part, '.' or '..'"),
    ("{{ partition }}.parquet", "{{ partition }}.pickle", 5, 11, "data.source", "name a .parquet or .csv file"),
    ("sklearn.linear_model.LogisticRegression", "logistic", 15, 14, "training.estimator", "package.module.Class"),
    ("{C: 1.0}", "{C: yes}", 16, 24, "training.hyperparameters.C", "write true, or 'yes' in quotes"),
    ("{C: 1.0}", "{C: 1:30}", 16, 24, "training.hyperparameters.C", "write the number in plain digits"),
    ("{C: 1.0}", "{C: .nan}", 16, 24, "training.hyperparameters.C", ".nan is not a number to count with"),
    ("{C: 1.0}", "{C: [1]}", 16, 24, "training.hyperparameters.C", "must be one value"),
    ("{C: 1.0}", "{C: {value: 3, low: 5}}", 16, 24, "training.hyperparameters.C", "outside of its own bounds"),
    ("{C: 1.0}", "{C: {value: a, low: 5}}", 16, 24, "training.hyperparameters.C", "'a' has no bounds"),
    ("{C: 1.0}", "{C: {vale: 3}}", 16, 25, "training.hyperparameters.C.vale", "did you mean 'value'?"),
    ("{C: 1.0}", "{C: 1.0}\n  search: {trials: 5}", 17, 3, "training.search", "unknown key 'search'"),
    ("{C: 1.0}", "{C: 1.0}\n  schedule: '@fortnightly'", 17, 13, "training.schedule", "is not a schedule"),
    ("{C: 1.0}", "{C: 1.0}\n  schedule: 0 25 * * *", 17, 13, "training.schedule", "'25' is no hour (0 to 23)"),
    ("{C: 1.0}", "{C: 1.0}\n  start: 2013-02-30", 17, 10, "training.start", "is not a day of the calendar"),
    ("{C: 1.0}", "{C: 1.0}\n  start: 2013-02-03", 17, 10, "training.start", "means nothing without a schedule"),
    ("{C: 1.0}", "{C: 1.0}\n  features: build", 17, 13, "training.features", "write it as package.module:function"),
    ("[roc_auc, log_loss]", "[roc_auk, log_loss]", 18, 13, "evaluation.metrics[0]", "did you mean 'roc_auc'?"),
    ("[roc_auc, log_loss]", "[]", 18, 12, "evaluation.metrics", "at least one item, is an empty list"),
    ("slices: [origin]", "slices: origin", 19, 11, "evaluation.slices", "must be a list, is 'origin'"),
    ("at_least: 0.6}", "at_least: 0.6, at_most: 1}", 21, 7, "evaluation.gate[0]", "says at_least and at_most"),
    ("{metric: roc_auc, at_least: 0.6}", "{metric: roc_auc}", 21, 7, "evaluation.gate[0]", "nothing to compare with"),
    ("at_least: 0.6}", "at_least: '0.6'}", 21, 35, "evaluation.gate[0].at_least", "must be a number, is '0.6'"),
    ("at_least: 0.6}", "at_least: 1e999}", 21, 35, "evaluation.gate[0].at_least", "1e999 is too large a number"),
    (
        "roc_auc, at_least: 0.6",
        "rmse, at_least: 6",
        21,
        16,
        "evaluation.gate[0].metric",
        "not one of evaluation.metrics",
    ),
    (
        "at_least: 0.6}",
        "at_least: 1, each: dest}",
        21,
        44,
        "evaluation.gate[0].each",
        "not one of evaluation.slices (origin)",
    ),
    ("at_least: 0.6}", "at_least: 0.6, margin: 0.1}", 21, 48, "evaluation.gate[0].margin", "nothing without versus"),
    ("at_least: 0.6}", "at_least: 0.6, claim: superior}", 21, 47, "evaluation.gate[0].claim", "nothing without versus"),
    ("at_least: 0.6}", "at_least: 1, between: origin}", 21, 47, "evaluation.gate[0].between", "write at_most"),
    ("at_least: 0.6}", "versus: 0}", 21, 33, "evaluation.gate[0].versus", "champion or baseline"),
    ("at_least: 0.6}", "versus: latest}", 21, 33, "evaluation.gate[0].versus", "champion"),
    (
        "at_least: 0.6}",
        "versus: champion, claim: superior, margin: 0.1}",
        21,
        68,
        "evaluation.gate[0].margin",
        "no loss is tolerated",
    ),
    (
        "{metric: roc_auc, at_least: 0.6}",
        "{metric: latency_p95_ms, at_most: 50, each: origin}",
        21,
        51,
        "evaluation.gate[0].each",
        "one number of the package",
    ),
    ("[roc_auc, log_loss]", "[roc_auc, log_loss, cost]", 18, 3, "evaluation.costs", "the cost is measured"),
    ("[roc_auc, log_loss]", "[roc_auc, 'a:b c']", 18, 22, "evaluation.metrics[1]", "does not name a function"),
    ("approval: {approvers: [ada]}\n", "", 1, 1, "approval.approvers", "nobody may give it"),
    (
        "approval: {approvers: [ada]}",
        "approval: {required: no}",
        22,
        22,
        "approval.required",
        "on_inconclusive or never",
    ),
    (
        "approval: {approvers: [ada]}",
        "approval: {approvers: [7]}",
        22,
        24,
        "approval.approvers[0]",
        "must be text, is 7",
    ),
    ("[ada]}", "[ada, Ada]}", 22, 23, "approval.approvers", "'ada' and 'Ada' would be one person twice"),
    ("[ada]}", "[ada, ada]}", 22, 23, "approval.approvers", "'ada' would be one person twice; name everybody once"),
    ("[ada]}", "[policy]}", 22, 23, "approval.approvers", "the name under which policy itself decides"),
    ("[ada]}", "[ada], count: 2}", 22, 37, "approval.count", "2 people have to approve, and 1 may; name more"),
    ("[ada]}", "[ada], count: 0}", 22, 37, "approval.count", "write a number of at least 1"),
    ("[ada]}", "[ada], expires_after: 0h}", 22, 45, "approval.expires_after", "is no time at all"),
    ("[ada]}", "[ada], escalate: {after: 24h}}", 22, 40, "approval.escalate.to", "is missing; write it, such as"),
    ("[ada]}", "[ada], escalate: {to: [bob]}}", 22, 40, "approval.escalate.after", "is missing; write it, such as"),
    (
        "[ada]}",
        "[ada], escalate: {to: [], after: 24h}}",
        22,
        45,
        "approval.escalate.to",
        "must be a list with at least one item",
    ),
    (
        "[ada]}",
        "[ada], escalate: {to: [Ada], after: 24h}}",
        22,
        45,
        "approval.escalate.to",
        "everybody here may approve from the start",
    ),
    (
        "[ada]}",
        "[ada], escalate: {to: [bob], after: 72h}}",
        22,
        59,
        "approval.escalate.after",
        "by then the question has expired",
    ),
    (
        "approval: {approvers: [ada]}",
        "approval: {approvers: [ada]}\nvalidation: {suite: s.json, approval: {count: 1}}",
        23,
        39,
        "validation.approval.approvers",
        "approval is required (always), but nobody may give it; name users, such as [ada]",
    ),
    (
        "approval: {approvers: [ada]}",
        "approval: {approvers: [ada]}\nvalidation: {suite: s.json, approval: {approvers: [ada], count: 3}}",
        23,
        65,
        "validation.approval.count",
        "3 people have to approve, and 1 may",
    ),
    (
        "approval: {approvers: [ada]}",
        "approval: {approvers: [ada]}\nvalidation: {suite: s.json, approval: {approvers: [ada], required: never}}",
        23,
        68,
        "validation.approval.required",
        "always or on_failure",
    ),
    (
        "approval: {approvers: [ada]}",
        "approval: {approvers: [ada]}\nvalidation: {suite: s.json, approval: {approvers: [ada], required: on_failure}}",
        23,
        68,
        "validation.approval.required",
        "data that fails is blocked, so nobody would ever be asked",
    ),
    ("{backend: alias}", "{backnd: alias}", 23, 13, "deployment.backend", "is missing; write backend: alias"),
    ("{backend: alias}", "{backend: aliass}", 23, 23, "deployment.backend", "no deployment backend is called 'aliass'"),
    ("{backend: alias}", "{backend: alias, alais: x}", 23, 30, "deployment.alais", "its options are alias, backend"),
    ("{backend: alias}", "alias", 23, 13, "deployment", "must be a section of `key: value` lines, is 'alias'"),
    ("@monthly", "0 6 2 * mon-", 24, 21, "scoring.schedule", "'mon-' is no day of week"),
    (
        "output: ",
        "start: 2013-04-02, end: 2013-04-01, output: ",
        24,
        57,
        "scoring.end",
        "is before the start 2013-04-02",
    ),
    (
        "metric: roc_auc, at_least: 0.5",
        "metric: roc_auc",
        26,
        16,
        "monitoring.performance",
        "write at_least or at_most",
    ),
    (
        "metric: roc_auc, at_least: 0.5",
        "metric: auc, at_least: 1",
        26,
        25,
        "monitoring.performance.metric",
        "'auc' is not",
    ),
    (
        "performance: {metric: roc_auc, at_least: 0.5}",
        "drift: {false_alarms: one per quarter}",
        26,
        25,
        "monitoring.drift.false_alarms",
        "write it as 1 per quarter",
    ),
    (
        "performance: {metric: roc_auc, at_least: 0.5}",
        "drift: {false_alarms: 0 per month}",
        26,
        25,
        "monitoring.drift.false_alarms",
        "is not a rate",
    ),
    (
        "performance: {metric: roc_auc, at_least: 0.5}",
        "drift: {windows: [7, 1]}",
        26,
        20,
        "monitoring.drift.windows",
        "windows grow",
    ),
    (
        "performance: {metric: roc_auc, at_least: 0.5}",
        "drift: {columns: [a], ignore: [a]}",
        26,
        33,
        "monitoring.drift.ignore",
        "'a' is one of columns, too",
    ),
    (
        "performance: {metric: roc_auc, at_least: 0.5}",
        "reference: same_weekday",
        26,
        14,
        "monitoring.reference",
        "a month has no weekday",
    ),
    (
        "performance: {metric: roc_auc, at_least: 0.5}",
        "quality: true",
        26,
        12,
        "monitoring.quality",
        "there is no suite",
    ),
    (
        "performance: {metric: roc_auc, at_least: 0.5}",
        "on_performance: rollback",
        26,
        19,
        "monitoring.on_performance",
        "means nothing without performance",
    ),
    (
        "performance: {metric: roc_auc, at_least: 0.5}",
        "retrain: {budget: 4 a year}",
        26,
        21,
        "monitoring.retrain.budget",
        "is not a rate",
    ),
]


def written(folder: Path, text: str | bytes, name: str = "flights.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_good_example_has_no_mistake(tmp_path: Path) -> None:
    pipeline = read_pipeline(written(tmp_path, GOOD))

    assert pipeline.data.source == pipeline.data.source.model_copy(update={"uri": "flights/{{ partition }}.parquet"})
    assert pipeline.data.labels_after == timedelta(days=1)
    assert (pipeline.data.holdout.by, pipeline.data.holdout.share) == ("time", 0.2)
    assert pipeline.training.values == {"C": 1.0}


@pytest.mark.parametrize("case", [Case(*case) for case in MISTAKES], ids=lambda case: case.new[:40] or case.old[:40])
def test_a_mistake_is_named_at_its_place(case: Case, tmp_path: Path) -> None:
    file = written(tmp_path, case.text())

    with pytest.raises(PipelineError) as caught:
        read_pipeline(file)

    place = f"{file}:{case.line}:{case.column}: " + (f"{case.path}: " if case.path else "")
    matching = [mistake for mistake in caught.value.mistakes if mistake.startswith(place)]
    assert len(matching) == 1, caught.value.mistakes
    assert case.words in matching[0]
    assert len(caught.value.mistakes) <= 2


@pytest.mark.parametrize("case", [Case(*case) for case in MISTAKES], ids=lambda case: case.new[:40] or case.old[:40])
def test_every_mistake_says_the_way_out(case: Case, tmp_path: Path) -> None:
    document = read_document(written(tmp_path, case.text()))

    assert all(mistake.what and mistake.way_out for mistake in document.mistakes)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("owner: team", "owner: 7").replace("  window: 3", "  windw: 3").replace("  key: id\n", "")
    text = text.replace("{metric: roc_auc, at_least: 0.6}", "{metric: rmse, at_least: 0.6, at_most: 1}")

    document = read_document(written(tmp_path, text))

    assert [(one.line, one.path) for one in document.mistakes] == [
        (2, "owner"),
        (5, "data.key"),
        (8, "data.windw"),
        (20, "evaluation.gate[0]"),
        (20, "evaluation.gate[0].metric"),
    ]


def test_a_place_that_is_wrong_by_itself_is_not_held_against_another(tmp_path: Path) -> None:
    text = GOOD.replace("slices: [origin]", "slices: origin").replace("at_least: 0.6}", "at_least: 0.6, each: origin}")

    document = read_document(written(tmp_path, text))

    assert [one.path for one in document.mistakes] == ["evaluation.slices"]


@pytest.mark.parametrize("word", ["no", "on", "yes", "y", "off", "1:30", "1_000", "2013-01-01", "0b11", "=", "1e3x"])
def test_a_word_stays_text_where_text_is_expected(word: str, tmp_path: Path) -> None:
    pipeline = read_pipeline(written(tmp_path, GOOD.replace("owner: team", f"owner: {word}")))

    assert pipeline.owner == word
    assert type(pipeline.owner) is str


@pytest.mark.parametrize(
    ("written_as", "value"),
    [("1e-3", 0.001), (".5", 0.5), ("-7", -7), ("0x1F", 31), ("0o17", 15), ("true", True), ("null", None), ("~", None)],
)
def test_plain_values_mean_what_yaml_1_2_says(written_as: str, value: object, tmp_path: Path) -> None:
    pipeline = read_pipeline(written(tmp_path, GOOD.replace("C: 1.0", f"C: {written_as}")))

    assert pipeline.training.values["C"] == value
    assert type(pipeline.training.values["C"]) is type(value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# only a comment\n", b"---\n...\n", b"null\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_called_empty(content: bytes, tmp_path: Path) -> None:
    document = read_document(written(tmp_path, content))

    assert [one.what for one in document.mistakes] == ["is empty"]


def test_a_byte_that_is_not_utf_8_is_named_at_its_place(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, GOOD.encode().replace(b"owner: team", b"owner: t\xe9am")))

    assert [(one.line, one.column, one.what) for one in document.mistakes] == [(2, 9, "byte 0xe9 is not UTF-8")]


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]

    document = read_document(written(tmp_path, "\n".join(["a0: &a0 x", *levels])))

    assert any("the alias *a0 is not accepted" in one.what for one in document.mistakes)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_a_mistake_and_not_a_crash(opening: str, tmp_path: Path) -> None:
    document = read_document(written(tmp_path, "model: x\nowner:\n  " + opening * 5000))

    assert document.mistakes
    assert document.pipeline is None


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"absent\.yaml:1:1: cannot be read \(No such file or directory\)"):
        read_pipeline(tmp_path / "absent.yaml")


def test_a_huge_file_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, b"# " + b"x" * (1024 * 1024)))

    assert "is larger than 1048576 bytes" in document.mistakes[0].what


def test_a_file_of_far_too_many_keys_is_given_up_early(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, "".join(f"k{number}: 1\n" for number in range(100_000))))

    assert [one.what for one in document.mistakes] == ["is beyond the first 10,000 keys and values"]


@pytest.mark.parametrize("letter", ["\\0", "\\u202e", "\\e", "\u202e"])
def test_a_character_that_cannot_be_seen_is_refused_however_it_is_written(tmp_path: Path, letter: str) -> None:
    document = read_document(written(tmp_path, GOOD.replace("owner: ", f'contact2: "a{letter}b"\nowner: ', 1)))

    assert any("cannot be seen" in one.what for one in document.mistakes)


def test_two_files_about_one_model_are_a_mistake(tmp_path: Path) -> None:
    first, second = written(tmp_path, GOOD), written(tmp_path, GOOD, "copy.yaml")

    with pytest.raises(PipelineError, match=r"copy\.yaml:1:8: model: 'flights' is described by .*flights\.yaml"):
        read_pipelines([first, second])


def test_the_demos_pipeline_says_what_the_demo_needs() -> None:
    pipeline = read_pipeline(DEMO)

    assert isinstance(pipeline.data.source, Source)
    assert isinstance(pipeline.data.holdout, HoldoutSpec)
    assert all(isinstance(rule, GateRule) for rule in pipeline.evaluation.gate)
    assert pipeline.data.window == 3
    assert pipeline.training.values == {"max_iter": 80, "learning_rate": 0.1}
    assert pipeline.scoring is not None
    assert (pipeline.scoring.start, pipeline.scoring.end) == (date(2013, 4, 1), date(2013, 6, 30))
    assert pipeline.approval.approvers == ("approver",)
    assert len(DEMO.read_text().splitlines()) <= 60


def test_reading_a_pipeline_imports_no_heavy_library_and_no_airflow() -> None:
    code = (
        "import sys; from pathlib import Path; from ml_lifecycle.pipeline.loader import read_pipeline;"
        f"read_pipeline(Path({str(DEMO)!r}));"
        "heavy = {'airflow', 'pandas', 'numpy', 'sklearn', 'mlflow', 'great_expectations', 'evidently', 'sqlalchemy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.binary().map(lambda content: content.decode("latin-1"))))
def test_no_text_makes_the_loader_raise_anything_else(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text.encode("utf-8", "surrogatepass"))

    with pytest.raises(PipelineError):
        read_pipeline(file)


SNIPPETS = st.sampled_from(
    [
        *(
            "[",
            "]",
            "{",
            "}",
            ": ",
            "- ",
            "\n",
            "  ",
            "&a ",
            "*a",
            "!!set ",
            "'",
            '"',
            "|\n",
            "? ",
            "---\n",
            "%YAML 1.1\n",
        ),
        *(
            "null",
            "no",
            ".inf",
            "1e999",
            "0x",
            "2013-01-01",
            "metric",
            "gate",
            "{{ partition }}",
            "\t",
            "\x00",
            "\ud800",
        ),
    ]
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), SNIPPETS), min_size=1, max_size=5))
def test_no_spoilt_pipeline_makes_the_loader_raise_anything_else(
    tmp_path: Path, edits: list[tuple[int, int, str]]
) -> None:
    text = GOOD
    for place, length, snippet in edits:
        text = text[:place] + snippet + text[place + length :]

    document = read_document(written(tmp_path, text.encode("utf-8", "surrogatepass")))

    assert (document.pipeline is None) == bool(document.mistakes)
    lines = text.count("\n") + 2
    assert all(1 <= one.line <= lines and one.column >= 1 for one in document.mistakes)
