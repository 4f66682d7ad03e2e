"""Drift and performance over time: read from what is there, drawn for people, a table for queries, a command."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.reports.charts import BUCKETS, Series, _ticks, chart, sparkline
from ml_lifecycle.backends.reports.trend import MOST_LOOKS, SHOWN_COLUMNS, render_trend
from ml_lifecycle.core.contracts import ColumnDrift, Metric, Move, PerformanceEstimate, Verdict
from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.core.trend import Event, Look, Trend, events_of, points
from ml_lifecycle.stages.runner import Tools, record
from ml_lifecycle.stages.trend import PAGE, TABLE, TrendJob, publish_trend, table_of, trend
from tests.fakes.champions import at, released
from tests.fakes.looks import column, looked, measured, moment, months, performance, report, response
from tests.fakes.pages import HOSTILE, Page, runs_nothing

READ = TrendJob(model="flights")


def look(place: int, *columns: ColumnDrift, value: float | None = 0.7, action: str = "nothing", **changes: Any) -> Look:
    name = months(place + 1)[-1]
    values: dict[str, Any] = {
        "partition": name,
        "at": moment(place),
        "drift": report(*columns, partition=name),
        "columns": columns,
        "performance": performance(name, value),
        "response": response(name, action),
    }
    return Look(**(values | changes))


def over(*looks: Look, events: tuple[Event, ...] = (), gone: tuple[str, ...] = ()) -> Trend:
    return Trend("flights", "prod", looks, events, gone)


def text_of(*looks: Look, **changes: Any) -> str:
    return Page(render_trend(over(*looks, **changes))).text


def move(version: int, when: datetime, kind: str = "release") -> Move:
    return Move.model_validate(
        {
            "model": "flights",
            "environment": "prod",
            "epoch": version,
            "kind": kind,
            "version": version,
            "digest": "a" * 64,
            "uri": "x",
            "moved_by": "ada",
            "moved_at": when,
            "reason": "worse",
        }
    )


# --- From the ledger -------------------------------------------------------------------------------------------------


def test_looks_are_read_in_the_order_of_their_partitions_whenever_they_were_made(tools: Tools) -> None:
    looked(tools, "2013-02", column(), hours=1)
    looked(tools, "2013-01", column(drifted=False), hours=2)
    measured(tools, "2013-01", 0.7, hours=3)
    record("respond", response("2013-02"), at(tools, 4), model="flights")

    found = trend(READ, tools)

    assert [one.partition for one in found.looks] == ["2013-01", "2013-02"]
    assert found.looks[0].performance is not None
    assert found.looks[1].response is not None
    assert found.verdict is Verdict.FAIL
    assert found.gone == ()


def test_of_several_looks_at_a_partition_the_last_one_counts(tools: Tools) -> None:
    measured(tools, "2013-01", None, hours=1)
    measured(tools, "2013-01", 0.7, hours=9)

    (only,) = trend(READ, tools).looks

    assert only.performance is not None
    assert only.performance.metrics["roc_auc"].value == 0.7


def test_every_column_is_read_from_the_reports_table(tools: Tools) -> None:
    columns = [column(f"c{place}", drifted=False) for place in range(30)]
    looked(tools, "2013-01", *columns, shown=20)

    (only,) = trend(READ, tools).looks

    assert [one.column for one in only.columns] == [f"c{place}" for place in range(30)]


@pytest.mark.parametrize(
    ("hurt", "words"),
    [
        (lambda file: file.unlink(), "2013-01: the table of all columns is gone, or cannot be read"),
        (lambda file: file.write_bytes(b"more"), "2013-01: the table of all columns was changed, and is left out"),
    ],
)
def test_a_table_that_is_gone_or_was_changed_is_named_and_the_ledger_stands(
    tools: Tools, hurt: Any, words: str
) -> None:
    found = looked(tools, "2013-01", *(column(f"c{place}") for place in range(30)))
    looked(tools, "2013-02", column())
    with tools.data.folder(found.table_uri.rpartition("/")[0]) as folder:
        hurt(folder / "columns.parquet")

    read = trend(READ, tools)

    assert read.gone == (words,)
    assert len(read.looks[0].columns) == 20
    assert words in Page(render_trend(read)).text


def test_only_the_newest_partitions_are_shown(tools: Tools) -> None:
    for place, name in enumerate(months(5)):
        looked(tools, name, column(), hours=place)

    shown = [one.partition for one in trend(READ.model_copy(update={"last": 2}), tools).looks]
    earlier = [one.partition for one in trend(READ.model_copy(update={"last": 2, "until": "2013-03"}), tools).looks]

    assert shown == ["2013-04", "2013-05"]
    assert earlier == ["2013-02", "2013-03"]


def test_a_model_that_nobody_looked_at_has_no_trend(tools: Tools) -> None:
    with pytest.raises(RequestError, match="monitoring has found nothing of flights"):
        trend(READ, tools)
    assert publish_trend("flights", "2013-01", tools) == ""


def test_a_release_lies_after_the_looks_that_were_made_before_it(tools: Tools, tmp_path: Path) -> None:
    looked(tools, "2013-01", column(), hours=1)
    released(at(tools, 2), tmp_path, 1)
    looked(tools, "2013-02", column(), hours=3)

    (event,) = trend(READ, tools).events

    assert (event.kind, event.place, event.label) == ("release", 0.5, "v1")


def test_a_page_up_to_a_partition_shows_nothing_that_came_later(tools: Tools, tmp_path: Path) -> None:
    looked(tools, "2013-01", column(), hours=1)
    looked(tools, "2013-02", column(), hours=3)
    released(at(tools, 4), tmp_path, 1)

    assert trend(TrendJob(model="flights", until="2013-01"), tools).events == ()


# --- What follows from it --------------------------------------------------------------------------------------------


def test_requests_and_rollbacks_lie_where_they_happened() -> None:
    looks = (look(0), look(1, action="retrain"), look(2))
    moves = [move(1, moment(-1)), move(2, moment(1) + timedelta(hours=1)), move(3, moment(5), "rollback")]

    found = [(event.kind, event.place) for event in events_of(looks, moves)]

    assert found == [("release", -0.5), ("retrain", 1.0), ("release", 1.5), ("rollback", 2.5)]


def test_a_partition_that_is_looked_at_late_moves_no_release() -> None:
    looks = (look(0, at=moment(9)), look(1), look(2))

    (event,) = events_of(looks, [move(2, moment(1) + timedelta(hours=1))])

    assert event.place == 1.5


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ((), Verdict.INCONCLUSIVE),
        ((look(0, column()), look(1, column(drifted=False))), Verdict.PASS),
        ((look(0, column()), look(1, drift=None)), Verdict.FAIL),
        ((look(0, drift=None, value=0.5),), Verdict.FAIL),
        ((look(0, drift=None, value=None),), Verdict.INCONCLUSIVE),
    ],
)
def test_the_newest_look_for_drift_says_how_it_stands(looks: tuple[Look, ...], verdict: Verdict) -> None:
    assert over(*looks).verdict is verdict


def test_every_number_is_a_row_that_says_what_it_was_held_to() -> None:
    unknown = column("visib", drifted=False, distance=None, p_value=None, adjusted=None)

    rows = list(points(over(look(0, column(), unknown, column("score", role="prediction"), value=0.5))))

    assert [(one.kind, one.name, one.verdict, one.at_least, one.at_most) for one in rows] == [
        ("feature", "temp", "fail", None, 0.03),
        ("feature", "visib", "inconclusive", None, 0.03),
        ("prediction", "score", "fail", None, 0.03),
        ("metric", "roc_auc", "fail", 0.6, None),
        ("estimate", "roc_auc", "pass", 0.6, None),
    ]


# --- Published -------------------------------------------------------------------------------------------------------


def test_the_same_past_is_published_once_and_linked_to_each_look(tools: Tools) -> None:
    looked(tools, "2013-01", column(), hours=1)
    measured(tools, "2013-01", 0.7, hours=2)

    first, second = (publish_trend("flights", "2013-01", tools) for _ in range(2))

    assert first == second
    assert re.fullmatch(r"reports/trend/flights/2013-01-[0-9a-f]{8}/index\.html", first)
    with tools.data.folder(first.rpartition("/")[0]) as folder:
        page = runs_nothing((folder / PAGE).read_text(encoding="utf-8"))
        assert page.addresses == ["../../../drift/flights/2013-01-v3/index.html"]
        assert (folder / page.addresses[0]).resolve() == (
            folder.parents[2] / "drift" / "flights" / "2013-01-v3" / "index.html"
        )


def test_another_look_makes_another_page(tools: Tools) -> None:
    looked(tools, "2013-01", column(), hours=1)
    before = publish_trend("flights", "2013-01", tools)
    measured(tools, "2013-01", 0.7, hours=2)

    assert publish_trend("flights", "2013-01", tools) != before


def test_the_published_table_answers_queries(tools: Tools) -> None:
    for place, name in enumerate(months(3)):
        looked(tools, name, column(distance=0.1 * (place + 1)), column("wind", drifted=False), hours=place)
        measured(tools, name, None if place == 2 else 0.7, hours=place)
    uri = publish_trend("flights", "2013-03", tools)

    with tools.data.folder(uri.rpartition("/")[0]) as folder, duckdb.connect() as database:
        file = str(folder / TABLE)
        found = database.execute(
            "select name, count(*), max(value) from read_parquet(?) where verdict = 'fail' group by name", [file]
        ).fetchall()
        kinds = dict(database.execute("select kind, count(*) from read_parquet(?) group by kind", [file]).fetchall())

    assert found == [("temp", 3, pytest.approx(0.3))]
    assert kinds == {"feature": 6, "metric": 3, "estimate": 3}


def test_tables_of_empty_and_of_full_trends_are_one_table() -> None:
    nothing = ColumnDrift(column="x", method="ks", distance=None, threshold=0.0, drifted=False)
    sparse = look(0, nothing, value=None, drift=None, performance=None)

    kinds = [table_of(one).dtypes.to_dict() for one in (over(sparse), over(look(0, column())))]

    assert kinds[0] == kinds[1]


# --- The page --------------------------------------------------------------------------------------------------------


def test_the_page_begins_with_where_the_model_stands() -> None:
    text = text_of(look(0, column(drifted=False)), look(1, column(), column("wind"), value=0.5))

    assert "2013-02: 2 of 2 columns drifted, performance out of its limit." in text
    assert "2013-01 to 2013-02" in text
    assert "in 1 of 2 looks" in text
    assert "out of its limit in 1 of 2 partitions" in text


def test_a_performance_that_nobody_knows_yet_is_not_counted_as_kept() -> None:
    text = text_of(look(0, column(drifted=False)), look(1, column(drifted=False), value=None))

    assert "2013-02: no drift, performance not known yet." in text
    assert "out of its limit in 0 of 1 partition 1 partition not known yet" in text


def test_measured_and_estimated_performance_stand_in_one_drawing_with_the_limit() -> None:
    html = render_trend(over(look(0, column()), look(1, column(), value=None)))

    assert html.count('<svg class="chart"') == 1
    assert 'class="line measured"' in html
    assert 'class="line estimated"' in html
    assert "the scores are true" in html


def test_an_estimate_whose_condition_does_not_hold_is_told_as_such() -> None:
    shaky = PerformanceEstimate(metric="roc_auc", value=0.6, rows=9, valid=False, condition="the scores are true")

    text = text_of(look(0, column(), performance=performance(estimate=shaky)))

    assert "The estimate is not to be relied on. the scores are true" in text


def test_columns_are_sorted_by_what_matters_to_the_model_now() -> None:
    def columns(*, drifted: bool) -> tuple[ColumnDrift, ...]:
        return (
            column("calm", drifted=False, importance=0.5),
            column("once", drifted=not drifted, importance=0.4),
            column("small", drifted=drifted, importance=0.01),
            column("used", drifted=drifted, importance=0.2),
        )

    html = render_trend(over(look(0, *columns(drifted=False)), look(1, *columns(drifted=True))))

    places = [html.index(f"<bdi>{name}</bdi>") for name in ("used", "small", "calm", "once")]
    assert places == sorted(places)
    assert "drifted in 1 of 2" in html


def test_a_column_that_drifts_in_a_longer_window_only_is_marked() -> None:
    both = (column(drifted=False, distance=0.02), column(window=7, distance=0.05))

    html = render_trend(over(look(0, *both)))

    assert html.count('class="f"') == 1
    assert "drifted in 1 of 1" in html


def test_each_look_tells_what_moved_and_what_followed_and_why() -> None:
    held = response("2013-01", "nothing", held_back="a retraining was asked for 2 d ago", reason="drift on 2013-01")

    text = text_of(look(0, column(), response=held))

    assert "temp 40%" in text
    assert "ROC AUC 0.7000" in text
    assert "nothing a retraining was asked for 2 d ago; drift on 2013-01" in text


def test_releases_rollbacks_and_requests_are_marked_and_named() -> None:
    looks = (look(0, column(), action="retrain"), look(1, column()))
    events = events_of(looks, [move(1, moment(-1)), move(2, moment(0)), move(3, moment(9), "rollback")])

    html = render_trend(over(*looks, events=events))

    assert 'class="event release"' in html
    assert 'class="event rollback"' in html
    assert 'class="event retrain"' in html
    assert "rolled back to version 3 by ada: worse" in html


@pytest.mark.parametrize(
    ("address", "linked"),
    [
        ("../../../drift/flights/2013-01-v3-0a/index.html", True),
        ("https://airflow.example/x", True),
        ("../../../../../etc/passwd", False),
        ("../../../drift/../../../../secret", False),
        ("javascript:alert(1)", False),
        ("//evil.example", False),
    ],
)
def test_only_reports_and_web_pages_are_linked(address: str, *, linked: bool) -> None:
    page = Page(render_trend(over(look(0, column())), links={"2013-01": address}))

    assert page.addresses == ([address] if linked else [])


def hurt(value: str) -> str:
    """A page all of whose texts are this one."""
    columns = (
        column(value, method=value, kind=value, detail=value),
        column(f"{value} too", role="prediction", detail=value),
    )
    estimate = PerformanceEstimate(metric=value, value=0.6, rows=9, condition=value)
    found = performance(
        value, 0.7, estimate=estimate, detail=value, metrics={value: Metric(value=0.7, rows=9, low=0.6, high=0.8)}
    )
    shown = look(
        0,
        *columns,
        partition=value,
        drift=report(*columns, partition=value, model=value),
        performance=found,
        response=response(value, "retrain", reason=value, held_back=value),
    )
    event = Event(0.5, "release", value, value)
    return render_trend(
        Trend(value, value, (shown, look(1, *columns, performance=None)), (event,), (value,)), links={value: value}
    )


@pytest.mark.parametrize("value", HOSTILE)
def test_no_name_or_value_leaves_its_place(value: str) -> None:
    page = runs_nothing(hurt(value))

    unhurt = Page(hurt("; harmless"))
    assert set(page.tags) <= set(unhurt.tags)
    # Shorter names leave room for more of them below a drawing.
    without_names = [[tag for tag in one.tags if tag != "text"] for one in (page, unhurt)]
    assert without_names[0] == without_names[1] or not value.strip()
    assert {name for name, _ in page.attributes} <= {name for name, _ in unhurt.attributes}
    assert page.addresses == []


def test_a_look_at_which_nothing_is_known_is_told_without_a_number() -> None:
    nothing = ColumnDrift(column="x", method="ks", distance=None, threshold=0.0, drifted=False)
    bare = Look("2013-01", moment(0), columns=(nothing,), performance=performance(value=None, estimate=None))

    page = runs_nothing(render_trend(over(bare)))

    assert "No number is known yet." in page.text
    assert "not measured" in page.text
    assert "nan" not in page.text.lower()


def test_a_year_of_three_hundred_columns_opens_at_once() -> None:
    columns = [column(f"feature_{place:03d}", drifted=place % 7 == 0, importance=0.01) for place in range(300)]
    day = datetime(2013, 1, 1, tzinfo=timezone.utc)
    looks = [look(0, *columns, partition=f"{day + timedelta(days=place):%Y-%m-%d}") for place in range(400)]

    html = render_trend(over(*looks))

    assert html.count('<svg class="spark') == 300
    assert html.index("<details>") < html.index(f"{300 - SHOWN_COLUMNS} more columns")
    assert f"{400 - MOST_LOOKS} earlier partitions not listed" in html
    assert len(html) < 900_000


# --- Drawings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "ticks"),
    [
        ([0.0, 0.2], [0.0, 0.05, 0.1, 0.15, 0.2]),
        ([0.61, 0.69], [0.6, 0.62, 0.64, 0.66, 0.68, 0.7]),
        ([5.0], [4.0, 6.0]),
        ([0.0], [0.0, 0.25]),
        ([-3.0, 17.0], [-5.0, 0.0, 5.0, 10.0, 15.0, 20.0]),
    ],
)
def test_an_axis_counts_in_round_numbers(numbers: list[float], ticks: list[float]) -> None:
    assert _ticks(numbers) == pytest.approx(ticks)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=9))
@example([1e-300])
@example([1e12, 1e12 + 1])
@example([0.1, 0.1 + 1e-16])
def test_an_axis_holds_every_number_between_few_ticks(numbers: list[float]) -> None:
    ticks = _ticks(numbers)

    room = 1e-6 * (ticks[-1] - ticks[0])
    assert ticks[0] <= min(numbers) + room
    assert ticks[-1] >= max(numbers) - room
    assert all(before < after for before, after in pairwise(ticks))
    assert len(ticks) <= 7


@given(st.lists(st.none() | st.floats(-1e9, 1e9) | st.just(float("nan")) | st.just(float("inf")), max_size=200))
@example([5e-324])
@example([1e9, 1e9 + 2**-23])
def test_every_line_stays_on_its_drawing(values: list[float | None]) -> None:
    line = Series("measured", "x", values, lows=values, highs=values, flagged=frozenset({0}))

    drawn = str(chart([line], looks=[f"p{place}" for place in range(len(values))])) + str(
        sparkline(values, flagged=frozenset({0}), limit=0.03)
    )

    assert "nan" not in drawn
    assert "inf" not in drawn
    places = [float(place) for place in re.findall(r"[ML]([0-9.e+-]+) ", drawn)]
    assert all(0 <= place <= 720 for place in places)


def test_a_line_breaks_where_a_number_is_not_known() -> None:
    line = Series("measured", "x", [1.0, 2.0, None, 3.0, float("nan"), 4.0])

    drawn = str(chart([line], looks=list("abcdef")))

    path = re.search(r'class="line measured" d="([^"]*)"', drawn)
    assert path is not None
    assert re.findall("[ML]", path[1]) == ["M", "L", "M", "M"]
    assert "nan" not in drawn


def test_nothing_known_is_no_drawing() -> None:
    assert str(chart([Series("measured", "x", [None, None])], looks=["a", "b"])) == ""


def test_a_drawing_is_told_in_words_to_who_cannot_see_it() -> None:
    drawn = str(chart([Series("measured", "ROC AUC", [0.61, None, 0.7])], looks=["a", "b", "c"]))

    assert 'aria-label="ROC AUC: 0.6100 at a, 0.7000 at c"' in drawn


def test_names_of_looks_never_lie_over_each_other() -> None:
    looks = [f"2013-01-{place:02d}" for place in range(90)]

    drawn = str(chart([Series("measured", "x", [1.0] * 90)], looks=looks))

    middles = [float(x) for x in re.findall(r'<text class="m" x="([0-9.]+)" y="224', drawn)]
    assert looks[-1] in drawn
    assert min(left - right for left, right in pairwise(middles)) >= 62


def test_a_sparkline_of_many_looks_keeps_every_bucket_in_which_something_drifted() -> None:
    values = [0.01] * 640
    values[123] = 0.02

    drawn = str(sparkline(values, flagged=frozenset({123, 400, 401}), limit=0.03))

    # Ten looks share a bucket: 400 and 401 do, 123 does not.
    assert drawn.count('class="f"') == 2
    assert len(re.findall("[ML][0-9]", re.findall(r'class="l" d="([^"]*)"', drawn)[0])) == BUCKETS


# --- The command -----------------------------------------------------------------------------------------------------


def command(tools: Tools, tmp_path: Path, *more: str) -> int:
    return main(["trend", "--model", "flights", "--ledger", f"sqlite:///{tmp_path / 'ledger.db'}", *more])


@pytest.mark.parametrize(
    ("columns", "verdict", "code"),
    [
        ([column(drifted=False)], Verdict.PASS, 0),
        ([column()], Verdict.FAIL, 1),
        ([column(drifted=False, p_value=None, adjusted=None)], Verdict.INCONCLUSIVE, 2),
    ],
)
def test_the_command_ends_by_the_newest_look(
    tools: Tools, tmp_path: Path, columns: list[ColumnDrift], verdict: Verdict, code: int
) -> None:
    looked(tools, "2013-01", column(), hours=1)
    looked(tools, "2013-02", *columns, hours=2, verdict=verdict)

    assert command(tools, tmp_path) == code


def test_the_command_tells_each_partition_in_a_line(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looked(tools, "2013-01", column(), hours=1)
    measured(tools, "2013-01", 0.7, hours=2)
    answered = response("2013-01", held_back="until the 8th")
    record("respond", answered, at(tools, 3), model="flights")

    command(tools, tmp_path)

    assert capsys.readouterr().out.splitlines() == [
        "flights in test, 2013-01: 1 of 1 column drifted, performance within its limit.",
        "  2013-01  1 of 1 column drifted (temp 40%); ROC AUC 0.7000; retraining asked for; until the 8th",
    ]


def test_the_command_writes_a_page_and_a_table_and_changes_nothing(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looked(tools, "2013-01", *(column(f"c{place}") for place in range(30)), hours=1)
    before = tools.ledger.audit("flights")
    files = ["--html", str(tmp_path / "t.html"), "--parquet", str(tmp_path / "t.parquet")]

    code = command(tools, tmp_path, "--json", "--data-root", str(tmp_path / "data"), *files)

    told = json.loads(capsys.readouterr().out)
    assert (code, told["verdict"], told["partitions"], told["gone"]) == (1, "fail", ["2013-01"], [])
    assert len(told["points"]) == 30 == len(pd.read_parquet(tmp_path / "t.parquet"))
    runs_nothing((tmp_path / "t.html").read_text(encoding="utf-8"))
    assert tools.ledger.audit("flights") == before


def test_without_the_data_the_command_shows_what_the_ledger_names(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looked(tools, "2013-01", *(column(f"c{place}") for place in range(30)), hours=1)

    command(tools, tmp_path, "--json")

    told = json.loads(capsys.readouterr().out)
    assert (len(told["points"]), told["gone"]) == (20, [])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--last", "0"], "0 partitions show nothing"),
        (["--data-root", "absent"], "absent: there is no such folder"),
        (["--environment", "prod"], "the ledger knows nothing of flights in prod"),
        (["--html", "/proc/t.html"], "it cannot be written"),
    ],
)
def test_what_cannot_be_used_ends_with_64(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    looked(tools, "2013-01", column(), hours=1)

    code = command(tools, tmp_path, *more)

    assert code == 64
    assert words in capsys.readouterr().err
