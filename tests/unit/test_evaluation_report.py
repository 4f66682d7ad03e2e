"""What an approver reads about a judgement: true, complete, safe to open, and the same each time."""

from __future__ import annotations

import dataclasses
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.evaluation.rows import ScoredRows
from ml_lifecycle.backends.reports.graphics import Bar, Scale, against_limit
from ml_lifecycle.backends.reports.page import render_page
from ml_lifecycle.backends.reports.plots import _curves, _figure, _precision_recall
from ml_lifecycle.backends.reports.report import EvaluationReport, make_report
from ml_lifecycle.backends.reports.tables import MOST_VALUES, Confusion, compare_slices, confusion
from ml_lifecycle.backends.reports.words import clean, headline, limit, number, reuse, rule
from ml_lifecycle.backends.tracking.base import Run
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import Contender, GateDecision, Metric, ModelPurpose, Verdict, canonical_json
from ml_lifecycle.stages.report import publish
from ml_lifecycle.stages.runner import Tools
from tests.fakes.judgements import RUN, check, decided, evaluated, holdout, model, numbers, three_classes, two_classes
from tests.fakes.small_model import dataset, judged, released, trained, with_project

FAIL, OPEN, PASS = Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS
RIGHT_TO_LEFT = "\u202e"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    f"{RIGHT_TO_LEFT}evil{RIGHT_TO_LEFT}",
    "$\\frac{broken$ $",
    "{{ 7 * 7 }}{% raw %}",
    "]]></style><svg onload=alert(1)>",
    "x" * 10_000,
)


class Page(HTMLParser):
    """All that a page holds: tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.pieces: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def report(decision: GateDecision, rows: ScoredRows | None = None, **changes: Any) -> EvaluationReport:
    return make_report(decision, rows if rows is not None else two_classes(), **changes)


def page_of(decision: GateDecision, rows: ScoredRows | None = None, **changes: Any) -> str:
    """The page without plots, which take most of the time."""
    held = rows if rows is not None else two_classes()
    return render_page(decision, plots=(), slices=compare_slices(decision, held), confusion=confusion(held), **changes)


def text_of(decision: GateDecision, rows: ScoredRows | None = None) -> str:
    return Page(page_of(decision, rows)).text


# --- The judgement in words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ((check(),), "Passed: the one check holds."),
        ((check(), check()), "Passed: all 2 checks hold."),
        ((check(FAIL), check()), "Refused: 1 of 2 checks fails."),
        ((check(FAIL), check(FAIL), check(OPEN)), "Refused: 2 of 3 checks fail; 1 more undecided."),
        (
            (check(OPEN, more_rows=3_051), check()),
            "Held for a person: 1 of 2 checks is undecided; about 3,100 more rows would decide it.",
        ),
        ((check(OPEN, more_rows=10), check(OPEN)), "Held for a person: 2 of 2 checks are undecided."),
        ((), "Held for a person: no check says whether this model is good enough."),
    ],
)
def test_the_headline_says_what_the_gate_came_to(checks: tuple[Any, ...], said: str) -> None:
    assert headline(decided(evaluated(two_classes(), "roc_auc"), *checks)) == said


def test_rows_that_a_slice_lacks_are_told_as_rows_of_the_whole() -> None:
    lacking = check(OPEN, place="origin=JFK", rows=80, more_rows=100)

    said = headline(decided(evaluated(two_classes(240), "roc_auc"), lacking))

    assert said.endswith("about 300 more rows would decide it.")


def test_a_first_use_of_a_holdout_is_not_worth_a_word_and_a_fourth_is() -> None:
    evaluation = evaluated(two_classes(), "roc_auc")

    first, fourth = decided(evaluation, check()), decided(evaluation, check(confidence=0.996875), judged=4)

    assert reuse(first) == ""
    assert "This holdout has judged 4 candidates, this one included." in reuse(fourth)
    assert "where 95% was asked, a pass needs 99.6875%" in reuse(fourth)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),  # noqa: RUF001  # as reports show it
        (float("nan"), "–"),  # noqa: RUF001  # as above
        (0.0, "0.0000"),
        (0.61234, "0.6123"),
        (-0.00052, "-0.00052"),
        (2.2e-16, "below 0.0000001"),
        (246.961, "246.96"),
        (1234567.8, "1,234,568"),
    ],
)
def test_a_number_has_as_many_digits_as_a_person_compares(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_a_limit_has_the_digits_that_somebody_wrote() -> None:
    assert [limit(one) for one in (0.6, 0.005, 50.0, -0.0, 1e-6)] == ["0.6", "0.005", "50", "0", "0.000001"]


def test_a_rule_names_its_metric_as_people_know_it() -> None:
    assert rule(check()) == "ROC AUC at least 0.6"
    assert rule(check(rule="crew.metrics:regret at most 2", metric="crew.metrics:regret")) == (
        "crew.metrics:regret at most 2"
    )


def test_a_value_is_cut_off_and_cleared_of_what_nobody_sees() -> None:
    assert clean(f"a\n{RIGHT_TO_LEFT}b\x00 c") == "a b c"
    assert clean("x" * 81) == "x" * 79 + "…"
    assert len(clean("\n" * 9_999 + "x")) == 1


# --- The page --------------------------------------------------------------------------------------------------------


def test_the_page_says_what_was_judged_on_which_rows_and_against_what() -> None:
    text = text_of(decided(evaluated(two_classes(), "roc_auc", "log_loss"), check()))

    assert "flights aaaaaaaaaaaa" in text
    assert "Passed: the one check holds." in text
    assert "the champion, version 3" in text
    assert "2013-01 to 2013-03 (3 partitions) 1,000 rows; 45 rows dropped: cancelled: it never arrived" in text
    assert "240 rows 2013-03-13 to 2013-03-22; the last 20% of the rows by time" in text
    assert "no row stands in both parts, and every held row is later than all training rows" in text


def test_the_page_shows_each_metric_of_each_model_and_the_difference() -> None:
    evaluation = evaluated(two_classes(), "roc_auc")
    assert evaluation.champion is not None

    text = text_of(decided(evaluation, check()))

    for metric in (evaluation.metrics["roc_auc"], evaluation.champion.metrics["roc_auc"]):
        assert f"{number(metric.value)} {number(metric.low)} to {number(metric.high)}" in text
    difference = evaluation.champion.differences["roc_auc"]
    assert f"{number(difference.estimate, sign=True)} {number(difference.low, sign=True)} to" in text


def test_what_is_uncertain_comes_before_what_passed() -> None:
    checks = (
        check(rule="alpha"),
        check(OPEN, rule="beta", detail="about 90 more rows would decide it"),
        check(FAIL, rule="gamma"),
    )

    text = text_of(decided(evaluated(two_classes(), "roc_auc"), *checks))

    assert text.index("gamma") < text.index("beta") < text.index("alpha")
    assert "about 90 more rows would decide it" in text


def test_only_checks_that_passed_are_folded_away() -> None:
    failed = [check(FAIL, rule=f"failed {place}") for place in range(50)]
    passed = [check(rule=f"passed {place}") for place in range(3)]

    page = page_of(decided(evaluated(two_classes(), "roc_auc"), *failed, *passed))

    assert "3 more checks that passed" in page
    assert all(page.index(f"failed {place}<") < page.index("<details>") for place in range(50))


def test_every_number_of_a_model_leads_to_its_run() -> None:
    links = {"candidate": "https://mlflow.example/runs/1", "champion": "http://mlflow.example/runs/2"}

    attributes = Page(page_of(decided(evaluated(two_classes(), "roc_auc"), check()), links=links)).attributes

    assert attributes.count(("href", links["candidate"])) > 5
    assert attributes.count(("href", links["champion"])) > 3


def test_an_address_that_is_no_web_page_is_no_link() -> None:
    page = page_of(decided(evaluated(two_classes(), "roc_auc"), check()), links={"candidate": "javascript:alert(1)"})

    assert "javascript:" not in page


def test_leakage_is_told_before_anything_else() -> None:
    rows = two_classes()
    facts = holdout(rows, warnings=("'arr_delay' tells the target almost alone: is it known in time?",))

    text = text_of(decided(evaluated(rows, "roc_auc", holdout=facts), check()), rows)

    assert text.index("Look at this before you decide") < text.index("The gate")
    assert "'arr_delay' tells the target almost alone" in text


def test_a_holdout_without_proof_is_a_warning() -> None:
    text = text_of(decided(evaluated(two_classes(), "roc_auc", holdout=None), check()))

    assert "Nothing is on record about how the rows that judge were kept apart" in text


def test_a_first_release_has_no_champion_beside_it() -> None:
    rows = two_classes(champion=False)
    first = check(
        rule="roc_auc at most 0.005 worse than the champion", versus="champion", low=None, high=None, limit=-0.005
    )

    text = text_of(decided(evaluated(rows, "roc_auc"), first), rows)

    assert "This would be the first release: there is no champion to compare with." in text
    assert "Champion (version" not in text
    assert "+0.8100" not in text


def test_other_versions_and_the_baseline_stand_beside_the_champion() -> None:
    metric = {"roc_auc": Metric(value=0.5, rows=240)}
    others = {"baseline": Contender(metrics=metric), "2": Contender(version=2, metrics=metric)}

    text = text_of(decided(evaluated(two_classes(), "roc_auc", others=others), check()))

    assert "Baseline" in text
    assert "Version 2" in text


def test_what_was_not_measured_is_a_dash() -> None:
    nothing = {"roc_auc": Metric(value=None, rows=0)}
    empty = two_classes().part(np.zeros(240, dtype=bool))
    evaluation = evaluated(
        two_classes(champion=False), metrics=nothing, slices={"origin": {"JFK": nothing}}, serving=None, holdout=None
    )
    unknown = check(OPEN, observed=None, low=None, high=None, limit=None, confidence=None, rows=0, method="")

    text = text_of(decided(evaluation, unknown), empty)

    assert "These rows leave nothing to draw." in text
    assert "ROC AUC higher is better –" in text  # noqa: RUF001  # as reports show it


def test_slices_stand_largest_first_and_the_smallest_of_many_are_counted() -> None:
    rows = two_classes(600, origins=("JFK", "JFK", *(f"A{place:02d}" for place in range(58))))

    text = text_of(decided(evaluated(rows, "roc_auc"), check()), rows)

    assert text.index("JFK") < text.index("A00")
    assert f"{59 - MOST_VALUES} smaller values not shown" in text


def test_which_label_is_taken_for_which_is_counted_by_hand() -> None:
    assert confusion(three_classes()) == Confusion(labels=("a", "b", "c"), rows=((2, 0, 0), (1, 1, 0), (0, 2, 0)))


def test_a_score_on_the_threshold_counts_as_positive() -> None:
    rows = dataclasses.replace(
        two_classes(4), truth=np.array([0.0, 0, 1, 1]), scores={"candidate": np.array([0.2, 0.5, 0.5, np.nan])}
    )

    assert confusion(rows) == Confusion(labels=("no", "yes"), rows=((1, 1), (0, 1)))


def test_a_regression_shows_errors_and_no_labels() -> None:
    rows = numbers()

    made = report(decided(evaluated(rows, "rmse"), check(metric="rmse")), rows)

    assert [plot.name for plot in made.plots] == ["predicted", "residuals", "over_time"]
    assert "Which label is taken for which" not in made.page


def test_several_classes_show_how_sure_the_model_is() -> None:
    rows = three_classes()

    made = report(decided(evaluated(rows, "accuracy"), check(metric="accuracy")), rows)

    assert [plot.name for plot in made.plots] == ["calibration"]
    assert "Which label is taken for which" in made.page


def test_without_matplotlib_the_report_says_that_it_has_no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    made = report(decided(evaluated(two_classes(), "roc_auc"), check()))

    assert made.plots == ()
    assert "matplotlib is not installed where it was made" in made.page


@pytest.mark.parametrize("scores", [np.full(240, 0.4), np.full(240, np.nan), np.where(np.arange(240) % 2, np.nan, 0.3)])
def test_scores_that_make_no_curve_are_left_out(scores: Any) -> None:
    rows = dataclasses.replace(two_classes(), scores={"candidate": scores})

    made = report(decided(evaluated(two_classes(champion=False), "roc_auc"), check()), rows)

    assert "roc" not in [plot.name for plot in made.plots]


@pytest.mark.parametrize("weight", [0.0, 1e-300, 1.7e308])
def test_rows_whose_weights_cannot_be_counted_with_make_no_picture(weight: float) -> None:
    rows = dataclasses.replace(two_classes(), weight=np.full(240, weight))

    made = report(decided(evaluated(two_classes(), "roc_auc"), check()), rows)

    assert "roc" not in [plot.name for plot in made.plots]


def test_the_curve_of_a_hand_drawn_case() -> None:
    rows = ScoredRows(
        task="binary",
        truth=np.array([0.0, 0, 1, 1]),
        scores={"candidate": np.array([0.1, 0.4, 0.35, 0.8])},
        keys=np.arange(4),
        classes=("no", "yes"),
        weight=np.array([1.0, 2, 1, 1]),
    )

    ((_, (true, false)),) = _curves(rows, {"candidate": "candidate"})

    assert true.tolist() == [0, 1, 1, 2, 2]
    assert false.tolist() == [0, 0, 2, 2, 3]


def test_the_curve_of_precision_begins_where_enough_was_found_to_tell() -> None:
    rows = two_classes(400)
    rows.scores["candidate"][rows.truth.argmin()] = 2.0  # the very first row that is called positive is none
    figure = _figure()

    _precision_recall(figure, rows, {"candidate": "candidate"})

    recall = figure.axes[0].lines[0].get_xdata()
    assert 0.02 <= recall[0] < 0.03
    assert recall[-1] == 1


def test_a_bar_is_drawn_where_its_numbers_lie_on_the_scale() -> None:
    scale = Scale(0.0, 1.0)

    drawn = str(against_limit(Bar(0.5, 0.25, 0.75, "pass"), scale, limit=0.25, at_most=False))

    assert '<line class="limit" x1="63.5"' in drawn
    assert '<rect class="good" x="63.5" y="0" width="176.5"' in drawn
    assert '<line class="reach" x1="63.5" x2="176.5"' in drawn
    assert '<circle cx="120.0"' in drawn
    assert 'aria-label="pass 0.5000 (0.2500 to 0.7500), limit 0.25"' in drawn


def test_a_limit_from_above_shades_what_lies_below_it() -> None:
    drawn = str(against_limit(Bar(0.1, kind="pass"), Scale(0.0, 1.0), limit=0.25, at_most=True))

    assert '<rect class="good" x="0.0" y="0" width="63.5"' in drawn


# --- Safe to open ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_from_data_or_people_leaves_its_place(value: str) -> None:
    rows = dataclasses.replace(two_classes(origins=(value, "JFK")), classes=("no", value))
    trained_with = model(
        estimator=value, hyperparameters={value: value}, features=value, code_version=value, hardware=value
    )
    told = trained_with.dataset.model_copy(update={"uri": value, "partitions": (value,), "dropped": {value: 3}})
    facts = holdout(rows, warnings=(value,))
    evaluation = evaluated(rows, "roc_auc", model=trained_with.model_copy(update={"dataset": told}), holdout=facts)
    named = evaluation.model_copy(
        update={
            "metrics": {**evaluation.metrics, value: Metric(value=0.1, rows=9)},
            "others": {value: Contender(metrics={})},
        }
    )
    purpose = ModelPurpose(description=value, owner=value, contact=value, risk=value)

    made = report(decided(named, check(rule=value, detail=value, method=value, place=value)), rows, purpose=purpose)

    page = Page(made.page)
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(address.startswith("data:image/png;base64,") for name, address in page.attributes if name == "src")
    assert all(address.startswith("#") for name, address in page.attributes if name == "href")
    assert RIGHT_TO_LEFT not in made.page
    assert "x" * 1_000 not in made.page
    assert len(made.page) < 2_000_000


def test_the_page_forbids_itself_to_run_or_load_anything() -> None:
    page = page_of(decided(evaluated(two_classes(), "roc_auc"), check()))

    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert not re.search(r"url\(|@import|https?://", page)


# --- Published -------------------------------------------------------------------------------------------------------


class _Shown(LocalTracking):
    """Runs that have a page."""

    def get_run(self, run_id: str) -> Run:
        return dataclasses.replace(super().get_run(run_id), url=f"https://mlflow.example/runs/{run_id}")


def ready(tools: Tools) -> tuple[Tools, GateDecision]:
    """A run to publish on, and a judgement of what it trained."""
    assert isinstance(tools.tracking, LocalTracking)
    tracking = _Shown(tools.tracking.folder)
    run = tracking.ensure_run("flights", "key", name="training", tags={})
    evaluation = evaluated(two_classes(), "roc_auc", model=model(run_id=run.run_id))
    return dataclasses.replace(tools, tracking=tracking, registry=tracking), decided(evaluation, check())


def published_in(tools: Tools, uri: str) -> Path:
    assert isinstance(tools.data, LocalStore)
    return (tools.data.root / uri).parent


def test_the_report_is_published_below_its_model_and_on_the_run(tools: Tools, tmp_path: Path) -> None:
    tools, decision = ready(tools)

    report_uri, card_uri = publish(decision, two_classes(), tools)

    assert re.fullmatch(r"reports/evaluation/flights/[0-9a-f]{12}/index\.html", report_uri)
    digest = report_uri.split("/")[-2]
    assert card_uri == f"runs:/{decision.evaluation.model.run_id}/report/{digest}/model_card.md"
    names = ["calibration.png", "index.html", "model_card.md", "over_time.png", "precision_recall.png", "roc.png"]
    folder = published_in(tools, report_uri)
    assert sorted(file.name for file in folder.iterdir()) == names
    (tmp_path / "back").mkdir()
    on_run = tools.tracking.download(card_uri.rpartition("/")[0], tmp_path / "back")
    assert all((on_run / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert f"https://mlflow.example/runs/{decision.evaluation.model.run_id}" in (folder / "index.html").read_text()


def test_the_same_judgement_is_published_once_in_the_same_bytes(tools: Tools) -> None:
    tools, decision = ready(tools)
    first = publish(decision, two_classes(), tools)
    before = {file.name: file.stat().st_mtime_ns for file in published_in(tools, first[0]).iterdir()}

    again = publish(decision.model_copy(update={"report_uri": first[0], "card_uri": first[1]}), two_classes(), tools)

    assert again == first
    assert {file.name: file.stat().st_mtime_ns for file in published_in(tools, first[0]).iterdir()} == before


def test_a_judgement_that_went_through_the_ledger_makes_the_same_bytes() -> None:
    decision = decided(evaluated(two_classes(), "roc_auc", "brier"), check())

    read_back = GateDecision.model_validate_json(canonical_json(decision.to_xcom()))

    assert list(read_back.evaluation.metrics) != list(decision.evaluation.metrics)
    assert report(read_back) == report(decision)


def test_another_judgement_of_the_same_model_leaves_the_first_report_as_it_is(tools: Tools) -> None:
    tools, decision = ready(tools)
    first, _ = publish(decision, two_classes(), tools)

    second, _ = publish(decided(decision.evaluation, check(FAIL)), two_classes(), tools)

    assert first != second
    assert "Passed" in (published_in(tools, first) / "index.html").read_text()
    assert "Refused" in (published_in(tools, second) / "index.html").read_text()


def test_the_champions_numbers_lead_to_its_run_unless_somebody_deleted_it(tools: Tools) -> None:
    tools, decision = ready(tools)
    kept = tools.tracking.ensure_run("flights", "champion", name="training", tags={})
    for key, run_id in enumerate(["0" * 32, "0" * 32, kept.run_id]):
        tools.registry.ensure_version("flights", training_key=str(key), uri="", run_id=run_id, tags={})
    others = {"1": Contender(version=1, metrics=decision.evaluation.metrics)}
    evaluation = decision.evaluation.model_copy(update={"others": others})

    report_uri, _ = publish(decided(evaluation, check()), two_classes(), tools)

    page = (published_in(tools, report_uri) / "index.html").read_text()
    assert f'href="https://mlflow.example/runs/{kept.run_id}"' in page
    assert "runs/000" not in page


def test_the_gate_publishes_what_it_decided_about_a_trained_model(tools: Tools, tmp_path: Path) -> None:
    from ml_lifecycle.stages.evaluation import EvaluationJob, evaluate

    tools = with_project(tools, tmp_path / "project")
    found = dataset(tools)
    released(tools, trained(tools, found, hyperparameters={"C": 0.0001}))

    job = EvaluationJob(model=trained(tools, found), slices=("carrier",), rehearse=False)
    decision = judged(tools, evaluate(job, tools))

    page = (published_in(tools, decision.report_uri) / "index.html").read_text()
    assert "Champion (version 1)" in page
    assert "ROC AUC by <bdi>carrier</bdi>" in page
    assert decision.card_uri.startswith(f"runs:/{decision.evaluation.model.run_id}/report/")


def test_a_run_is_named_even_where_it_has_no_page() -> None:
    assert f"run {RUN[:8]}" in text_of(decided(evaluated(two_classes(), "roc_auc"), check()))
