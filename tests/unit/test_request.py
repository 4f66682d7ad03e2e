"""What a run works on: conf first, else the event, else the schedule, else the newest partition."""

from __future__ import annotations

from typing import Any

import pytest

from ml_lifecycle.core.contracts import RunRequest
from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.core.request import HyperparameterSpec, merge_request

MONTHS = ("2012-11", "2012-12", "2013-01", "2013-02", "2013-03")
DECLARED = {
    "max_iter": HyperparameterSpec(value=80, low=10, high=500),
    "learning_rate": HyperparameterSpec(value=0.1, low=0.01),
    "early_stopping": HyperparameterSpec(value=False),
    "loss": HyperparameterSpec(value="log_loss"),
    "max_depth": HyperparameterSpec(value=None),
}


def merged(**changes: Any) -> RunRequest:
    asked: dict[str, Any] = {
        "model": "flights",
        "stream": "train",
        "conf": {},
        "event": {},
        "available": MONTHS,
        "window": 3,
        "hyperparameters": DECLARED,
    }
    return merge_request(**{**asked, **changes})


def test_a_run_without_any_input_takes_the_newest_partitions() -> None:
    request = merged()

    assert request.partition == "2013-03"
    assert request.partitions == ("2013-01", "2013-02", "2013-03")


def test_a_reason_may_have_lines_and_emojis() -> None:
    assert merged(conf={"reason": "complaints\n\t\U0001f469\u200d\U0001f680" + "x" * 1985}).reason.startswith("compl")


def test_a_window_follows_the_calendar_over_the_turn_of_the_year() -> None:
    assert merged(conf={"partition": "2013-01"}).partitions == ("2012-11", "2012-12", "2013-01")


@pytest.mark.parametrize(
    ("conf", "event", "scheduled", "expected"),
    [
        ({"partition": "2013-01"}, {"partition": "2013-02"}, "2013-03", "2013-01"),
        ({}, {"partition": "2013-02"}, "2013-03", "2013-02"),
        ({"partition": ""}, {"partition": None}, "2013-01", "2013-01"),
        ({}, {}, None, "2013-03"),
    ],
)
def test_conf_comes_before_the_event_and_the_event_before_the_schedule(
    conf: dict[str, Any], event: dict[str, Any], scheduled: str | None, expected: str
) -> None:
    assert merged(conf=conf, event=event, scheduled=scheduled).partition == expected


def test_the_event_brings_its_reason_and_what_else_it_says_is_passed_over() -> None:
    request = merged(event={"reason": "drift in distance", "digest": "abc", "hyperparameters": {"max_iter": 1}})

    assert request.reason == "drift in distance"
    assert request.hyperparameters == {}


@pytest.mark.parametrize(
    ("excluded", "partitions", "left_out"),
    [
        ([], ("2013-01", "2013-02", "2013-03"), ()),
        (["2013-02"], ("2012-12", "2013-01", "2013-03"), ("2013-02",)),
        (["2013-03"], ("2012-12", "2013-01", "2013-02"), ("2013-03",)),
        (["2013-03", "2013-01"], ("2012-11", "2012-12", "2013-02"), ("2013-01", "2013-03")),
        # Further back there is nothing: the window gets shorter.
        (["2013-03", "2013-02", "2013-01"], ("2012-11", "2012-12"), ("2013-01", "2013-02", "2013-03")),
        (["2012-12", "2013-01", "2013-02"], ("2012-11", "2013-03"), ("2012-12", "2013-01", "2013-02")),
        # What the window would not reach is not said to be left out.
        (["2012-11"], ("2013-01", "2013-02", "2013-03"), ()),
        (["2014-01"], ("2013-01", "2013-02", "2013-03"), ("2014-01",)),
    ],
)
def test_a_training_that_monitoring_asks_for_leaves_refused_data_out_and_reaches_further_back(
    excluded: list[str], partitions: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    request = merged(event={"excluded": excluded, "reason": "drift"})

    assert (request.partitions, request.partition, request.excluded) == (partitions, partitions[-1], left_out)


def test_a_person_who_names_a_partition_is_not_overruled() -> None:
    request = merged(conf={"partition": "2013-03"}, event={"excluded": ["2013-03"]})

    assert (request.partitions[-1], request.excluded) == ("2013-03", ())


def test_where_all_data_was_refused_it_says_so() -> None:
    with pytest.raises(RequestError, match="no partition to work on without 2013-02, whose data was refused"):
        merged(event={"excluded": ["2013-02"]}, available=("2013-02",), window=1)
    with pytest.raises(RequestError, match="without 2013-02, whose data was refused"):
        merged(event={"excluded": ["2013-02"], "partition": "2013-02"}, available=("2013-02",), window=1)


def test_a_gap_that_nobody_excluded_is_still_refused() -> None:
    with pytest.raises(RequestError, match="partition 2013-02 is not there"):
        merged(event={"excluded": ["2013-01"]}, available=("2012-12", "2013-01", "2013-03"))


def test_an_event_s_epoch_is_for_rollbacks_only_and_never_for_what_a_person_asks() -> None:
    event = {"epoch": 3, "version": 1}

    assert merged(stream="rollback", event=event).epoch == 3
    assert merged(stream="rollback", event=event, conf={"reason": "complaints"}).epoch is None
    assert merged(event=event).epoch is None


@pytest.mark.parametrize(
    ("stream", "event", "words"),
    [
        ("rollback", {}, "None is not an epoch"),
        ("rollback", {"epoch": 0}, "0 is not an epoch"),
        ("rollback", {"epoch": True}, "True is not an epoch"),
        ("rollback", {"epoch": "3; drop"}, "is not an epoch"),
        ("train", {"excluded": "2013-01"}, "is no list"),
        ("train", {"excluded": [1]}, "1 is not text"),
    ],
)
def test_an_event_that_somebody_made_up_is_refused(stream: str, event: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        merged(stream=stream, event=event, trigger="asset")


def test_a_training_takes_declared_hyperparameters() -> None:
    asked = {"max_iter": 100, "learning_rate": 1, "early_stopping": True, "loss": "x", "max_depth": 3}

    assert merged(conf={"hyperparameters": asked}).hyperparameters == asked
    assert type(merged(conf={"hyperparameters": {"learning_rate": 1}}).hyperparameters["learning_rate"]) is float


def test_a_form_field_left_empty_overrides_nothing() -> None:
    assert merged(conf={"hyperparameters": {"max_iter": None}}).hyperparameters == {}


@pytest.mark.parametrize("stream", ["release", "rollback"])
def test_a_release_needs_no_partition_and_may_name_a_version(stream: str) -> None:
    request = merged(stream=stream, conf={"version": 3}, available=())

    assert (request.version, request.partition, request.partitions) == (3, "", ())


def test_a_newer_candidate_brings_its_version_with_its_event() -> None:
    assert merged(stream="release", event={"version": 7, "partition": "2013-01"}).version == 7


@pytest.mark.parametrize("stream", ["score", "monitor"])
def test_scoring_and_monitoring_read_one_partition_whatever_the_window(stream: str) -> None:
    assert merged(stream=stream, scheduled="2012-11").partitions == ("2012-11",)


def test_a_partition_that_a_sensor_waits_for_need_not_be_there() -> None:
    assert merged(stream="score", scheduled="2013-09", available=None).partition == "2013-09"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conf": {"partiton": "2013-01"}}, "no 'partiton', did you mean 'partition'?"),
        ({"stream": "score", "conf": {"hyperparameters": {}}}, "a score run takes no 'hyperparameters'"),
        ({"stream": "train", "conf": {"version": 2}}, "a train run takes no 'version'"),
        ({"conf": {"partition": 201301}}, "conf: partition: 201301 is not text"),
        ({"event": {"partition": ["2013-01"]}}, "event: partition: .* is not text"),
        ({"conf": {"partition": "2013-1"}}, "'2013-1' does not name a partition"),
        ({"conf": {"partition": "../../etc"}}, "does not name a partition"),
        ({"conf": {"partition": "2013-04"}}, "partition 2013-04 is not there; there are 2012-11 to 2013-03"),
        ({"conf": {"partition": "2012-12"}}, "the window 2012-10 to 2012-12: partition 2012-10 is not there"),
        (
            {"available": ("2012-10", "2012-12", "2013-01", "2013-03"), "held": {"a/{{ partition }}": ["2013-03"]}},
            r"partition 2013-02 is not there: a/2013-02; there are 2012-10, 2012-12 to 2013-01, 2013-03; ask",
        ),
        (
            {"available": [f"20{year}-01" for year in range(10, 17)], "conf": {"partition": "2013-03"}},
            r"there are \.\.\., 2012-01, 2013-01, 2014-01, 2015-01, 2016-01;",
        ),
        ({"available": ("2012-99",), "conf": {"partition": "2013-03"}}, "there are 2012-99;"),
        ({"available": ()}, "there is no partition to work on; land the first"),
        (
            {"available": (), "held": {"a/{{ partition }}": ["2013-01", "2013-02"], "b/{{ partition }}": []}},
            r"a/\{\{ partition \}\} holds 2013-01 to 2013-02; b/\{\{ partition \}\} holds none; land the first",
        ),
        ({"available": None}, "there is no partition to work on"),
        ({"conf": {"reason": 7}}, "conf: reason: 7 is not text"),
        ({"conf": {"reason": "x" * 2001}}, "conf: reason: the text has 2,001 characters; write at most 2,000"),
        ({"conf": {"reason": "safe\u202e"}}, r"the character U\+202E cannot be seen"),
        ({"conf": {"reason": "\x00"}}, r"the character U\+0000 cannot be seen"),
        (
            {"conf": {"partition": "2013-06"}, "held": {f"{one}/{{{{ partition }}}}": () for one in "abc"}},
            r"2013-06 is not there: a/2013-04, a/2013-05, a/2013-06, b/2013-04, b/2013-05, b/2013-06 and 3 more;",
        ),
        ({"conf": {"hyperparameters": [1]}}, "is not a mapping"),
        (
            {"conf": {"hyperparameters": {"max_itr": 3}}},
            "declares no hyperparameter 'max_itr', did you mean 'max_iter'?",
        ),
        ({"conf": {"hyperparameters": {"max_iter": 9}}}, "max_iter: 9 is out of bounds; give 10 to 500"),
        ({"conf": {"hyperparameters": {"max_iter": 501}}}, "501 is out of bounds"),
        ({"conf": {"hyperparameters": {"max_iter": True}}}, "True is not a whole number, as 80 is"),
        ({"conf": {"hyperparameters": {"max_iter": 80.5}}}, "80.5 is not a whole number"),
        ({"conf": {"hyperparameters": {"max_iter": "80"}}}, "'80' is not a whole number"),
        ({"conf": {"hyperparameters": {"learning_rate": 0.001}}}, "give 0.01 or more"),
        ({"conf": {"hyperparameters": {"learning_rate": float("nan")}}}, "nan is not a number"),
        ({"conf": {"hyperparameters": {"learning_rate": float("inf")}}}, "inf is not a number"),
        ({"conf": {"hyperparameters": {"learning_rate": 10**400}}}, "is not a number"),
        ({"conf": {"hyperparameters": {"early_stopping": 1}}}, "1 is not true or false"),
        ({"conf": {"hyperparameters": {"loss": 1}}}, "1 is not text"),
        ({"conf": {"hyperparameters": {"max_depth": [3]}}}, r"\[3\] is not a text, a number, true or false"),
        ({"stream": "release", "conf": {"version": 0}}, "version: 0 is not a model version"),
        ({"stream": "release", "conf": {"version": True}}, "True is not a model version"),
        ({"stream": "release", "event": {"version": "2"}}, "'2' is not a model version"),
    ],
)
def test_what_the_pipeline_does_not_offer_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        merged(**changes)

    assert caught.value.way_out


def test_a_scoring_may_name_several_partitions_each_counted_once_oldest_first() -> None:
    request = merged(stream="score", conf={"partitions": ["2013-03", "2012-11", "2013-03"]})

    assert (request.partition, request.partitions) == ("2013-03", ("2012-11", "2013-03"))


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"partitions": []}, "does not say which partitions"),
        ({"partitions": "2013-01"}, r"list 1 to 1,000 of them, such as \[\"2013-01\"\]"),
        ({"partitions": ["2013-01"], "partition": "2013-01"}, "leave partition empty"),
        ({"partitions": ["2013-01"] * 1001}, "does not say which partitions"),
        ({"partitions": [201301]}, "201301 is not text"),
        ({"partitions": ["2013-1"]}, "'2013-1' does not name a partition"),
        ({"partitions": ["2013-01", "2013-04"]}, "partition 2013-04 is not there"),
    ],
)
def test_several_partitions_that_cannot_be_meant_are_refused(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        merged(stream="score", conf=conf)


def test_only_a_scoring_takes_several_partitions() -> None:
    with pytest.raises(RequestError, match="a train run takes no 'partitions'"):
        merged(conf={"partitions": ["2013-01"]})
