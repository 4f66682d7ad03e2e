"""Values of the pipeline file: durations, shares, days, schedules, paths; and its reference page."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.core.contracts import Rate
from ml_lifecycle.core.values import parse_duration, parse_share
from ml_lifecycle.pipeline.schema import field_docs, json_schema, markdown, sections
from ml_lifecycle.pipeline.spec import (
    Ambiguous,
    DataSection,
    DriftSection,
    HoldoutSection,
    Hyperparameter,
    MonitoringSection,
    Pipeline,
    check_path,
    check_schedule,
    check_template,
    parse_day,
    parse_rate,
)

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("72h", timedelta(hours=72)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("0d", timedelta(0)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("value", ["", "7", "d", "-1d", "1.5h", "7 d", "1y", "1h30m", "٣d", 7, None, True])
def test_what_has_no_unit_is_no_duration(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


@pytest.mark.parametrize(("value", "share"), [("20%", 0.2), ("2.5 %", 0.025), (0.3, 0.3), ("100%", 1.0)])
def test_a_share_is_a_percentage_or_a_number(value: Any, share: float) -> None:
    assert parse_share(value) == pytest.approx(share)


@pytest.mark.parametrize("value", ["20", "%", "-5%", "20%%"])
def test_a_number_in_quotes_is_no_share(value: str) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        parse_share(value)


def test_a_day_is_written_in_one_way_only() -> None:
    assert parse_day("2012-02-29") == date(2012, 2, 29)
    for wrong in ("2013-02-29", "20130201", "2013-2-1", "01.02.2013", 20130201):
        with pytest.raises(ValueError, match="is not a day of the calendar"):
            parse_day(wrong)


@pytest.mark.parametrize(
    "schedule", ["@monthly", "0 6 2 * *", "*/15 * * * *", "0 0 1 jan-jun mon-fri", "0,30 8-18/2 * * 7", "5 4 * * SUN"]
)
def test_presets_and_cron_expressions_are_schedules(schedule: str) -> None:
    assert check_schedule(schedule) == schedule


@pytest.mark.parametrize(
    "schedule",
    [
        *("", "@often", "monthly", "* * * *", "* * * * * *", "60 * * * *", "* * 0 * *", "* * * 13 *", "5-1 * * * *"),
        *("*/0 * * * *", "a * * * *", "1, * * * *", "1--2 * * * *", "* * * * 8", "-1 * * * *", "1/x * * * *"),
    ],
)
def test_what_cron_could_not_run_is_no_schedule(schedule: str) -> None:
    with pytest.raises(ValueError, match="schedule"):
        check_schedule(schedule)


@pytest.mark.parametrize("path", ["a/b.parquet", "a b/ü.csv", "-"])
def test_a_path_below_its_root_is_accepted(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize("path", ["", "/a", "~/a", "a//b", "a/../b", "./a", "..", "a/", "C:\\a", "s3://a/b", "a\nb"])
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"not a relative path|empty part|control character"):
        check_path(path)


@pytest.mark.parametrize("uri", ["a/{{ partition }}.csv", "{{partition}}/a", "{{  partition  }}/{{ partition }}"])
def test_a_template_says_where_the_partition_goes(uri: str) -> None:
    assert check_template(uri) == uri


@pytest.mark.parametrize(
    "uri", ["a", "{{ ds }}", "{ partition }", "{{ partition | upper }}", "{% if x %}", "{{ partition }}}"]
)
def test_nothing_else_is_a_template(uri: str) -> None:
    with pytest.raises(ValueError, match=r"only|does not say"):
        check_template(uri)


def test_a_holdout_is_the_cores_own_value() -> None:
    holdout = HoldoutSection.model_validate({"by": "random", "last": "25%"})

    assert holdout.model_dump() == {"by": "random", "share": 0.25, "column": None}


def test_a_source_may_be_written_short_or_long() -> None:
    short = {"source": "a/{{ partition }}.csv", "key": "id"}
    long = {"source": {"uri": "a/{{ partition }}.csv"}, "key": "id"}

    assert DataSection.model_validate(short) == DataSection.model_validate(long)


def test_a_hyperparameter_may_be_written_short_or_long() -> None:
    assert Hyperparameter.model_validate(3) == Hyperparameter.model_validate({"value": 3})
    assert Hyperparameter.model_validate(None).value is None


def test_a_word_that_is_read_in_two_ways_is_no_hyperparameter() -> None:
    with pytest.raises(ValueError, match="write false, or 'no' in quotes"):
        Hyperparameter.model_validate({"value": Ambiguous("no")})


def test_every_key_of_every_section_is_explained() -> None:
    silent = [
        f"{model.__name__}.{name}"
        for model in sections()
        for name in model.model_fields
        if not field_docs(model).get(name)
    ]

    assert silent == []


def test_the_json_schema_takes_shorthands_and_refuses_unknown_keys() -> None:
    schema = json_schema()

    assert schema["additionalProperties"] is False
    assert schema["required"] == ["model", "owner", "contact", "data", "training"]
    assert schema["$defs"]["SourceSection"]["anyOf"][0]["type"] == "string"
    share = schema["$defs"]["HoldoutSection"]["properties"]["last"]
    assert share["description"] == "Share of the rows, such as 20%; given does not look at it."


def test_the_reference_page_is_up_to_date() -> None:
    page = PROJECT / "docs" / "reference" / "pipeline.md"

    assert page.read_text(encoding="utf-8") == markdown(), (
        "run ml-lifecycle schema --markdown > docs/reference/pipeline.md"
    )


def test_a_pipelines_defaults_are_made_anew_for_each() -> None:
    assert Pipeline.model_fields["deployment"].get_default() == {"backend": "alias"}


def test_rows_of_one_day_are_taken_as_alike_where_the_data_has_a_time_and_nothing_else_is_said() -> None:
    by_default, said = MonitoringSection(), MonitoringSection(drift=DriftSection(block="week"))

    assert by_default.policy(time="departure").block == "day"
    assert by_default.policy(time=None).block is None
    assert said.policy(time="departure").block == "week"


def test_rows_can_be_said_to_stand_for_themselves() -> None:
    said = MonitoringSection(drift=DriftSection(block="none"))

    assert said.policy(time="departure").block is None


def test_a_rate_is_read_as_people_write_it() -> None:
    assert parse_rate("1 per quarter") == Rate(count=1, per="quarter")
    assert str(parse_rate("0.5 per week")) == "0.5 per week"
