"""Months of monitoring in a row: what is asked for, when it stops, and what starts it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from ml_lifecycle.core.contracts import MonitoringResponse, Rate, Verdict
from ml_lifecycle.stages.runner import Tools
from tests.fakes.watched_model import DAY, MODEL, NOW, WatchedModel, drift, measured


def month_of(number: int) -> str:
    return f"{2013 + number // 12}-{number % 12 + 1:02d}"


@dataclass
class Life:
    """A model that is looked at once a month, and retrained whenever monitoring asks for it."""

    model: WatchedModel
    becomes: Callable[[Life, int], None]
    """What follows a training that made a candidate."""
    is_bad: Callable[[Life], bool] = lambda _: True
    month: int = 0
    version: int = 1
    """The newest candidate."""
    serving: int = 1
    told: list[MonitoringResponse] = field(default_factory=list)

    def live(self, months: int, *, labelled: bool = True, land: bool = True) -> list[str]:
        """What is answered in each month."""
        return [self._month(labelled=labelled, land=land).action for _ in range(months)]

    def _month(self, *, labelled: bool, land: bool) -> MonitoringResponse:
        self.month += 1
        name = month_of(self.month)
        if land:
            self.model.land(name, labels=10 if labelled else None)
        verdict = Verdict.INCONCLUSIVE
        if labelled:
            verdict = Verdict.FAIL if self.is_bad(self) else Verdict.PASS
        response = self.model.look(measured(verdict, version=self.serving, partition=name), partition=name, days=30)
        self.told += [response] if response.told else []
        if response.action == "retrain":
            self.version += 1
            self.model.now += timedelta(hours=1)
            self.model.train(name, version=self.version)
            self.becomes(self, self.version)
        return response

    def release(self, version: int, by: str = "policy") -> None:
        self.model.release(version, by=by)
        self.serving = version


def rejected_by_the_gate(_: Life, __: int) -> None:
    """Nothing is registered."""


def released_by_policy(life: Life, version: int) -> None:
    life.release(version)


def rejected_by_people(life: Life, version: int) -> None:
    """Its question is closed, and it never serves."""
    registered = life.model.register(version)
    ask = life.model.ask(registered)
    life.model.tools.ledger.block(ask.ask_id, why="ada: no", at=life.model.now)


@pytest.fixture
def watched(tools: Tools) -> WatchedModel:
    model = WatchedModel(tools, now=NOW, reads_data=True)
    model.land(month_of(0))
    model.train(month_of(0), version=1)
    model.release(1, by="ada")
    return model


@pytest.mark.parametrize("becomes", [rejected_by_the_gate, released_by_policy, rejected_by_people])
def test_a_loop_that_never_improves_stops_after_three_attempts_and_says_so(
    becomes: Callable[[Life, int], None], watched: WatchedModel
) -> None:
    life = Life(watched, becomes)

    answers = life.live(12)

    assert answers == ["retrain"] * 3 + ["alert"] * 9
    assert "3 retrainings did not help" in life.told[0].reason
    assert life.told[0].attempts == 3
    # A reminder each month, as the month is longer than a week.
    assert len(life.told) == 9
    watched.tools.ledger.verify_audit(MODEL)


def test_retraining_goes_on_once_the_champion_is_found_well_again(watched: WatchedModel) -> None:
    life = Life(watched, released_by_policy)
    stopped = life.live(5)
    life.is_bad = lambda _: False
    well = life.live(1)
    life.is_bad = lambda _: True

    again = life.live(4)

    assert (stopped, well) == (["retrain"] * 3 + ["alert"] * 2, ["nothing"])
    assert again == ["retrain"] * 3 + ["alert"]


def test_retraining_goes_on_once_a_person_released_something(watched: WatchedModel) -> None:
    life = Life(watched, rejected_by_the_gate)
    stopped = life.live(4)
    life.release(9, by="ada")

    again = life.live(4)

    assert stopped == again == ["retrain"] * 3 + ["alert"]


def test_a_release_by_policy_is_no_sign_that_it_helped(watched: WatchedModel) -> None:
    life = Life(watched, rejected_by_the_gate)
    life.live(4)
    life.release(9)

    assert life.live(1) == ["alert"]


def test_a_good_month_now_and_then_hides_no_gate_that_rejects_every_candidate(watched: WatchedModel) -> None:
    life = Life(watched, rejected_by_the_gate, is_bad=lambda life: life.month % 2 == 1)

    answers = life.live(8)

    assert answers == ["retrain", "nothing"] * 3 + ["alert", "nothing"]
    assert "3 retrainings brought no release" in life.told[0].reason


def test_retraining_that_helps_never_stops(watched: WatchedModel) -> None:
    life = Life(watched, released_by_policy, is_bad=lambda life: life.month % 3 == 0)

    answers = life.live(15)

    assert answers == ["nothing", "nothing", "retrain"] * 5
    assert life.told == []


def test_labels_that_never_come_call_for_nothing(watched: WatchedModel) -> None:
    life = Life(watched, released_by_policy)

    assert life.live(6, labelled=False) == ["nothing"] * 6


def test_labels_that_come_three_months_late_are_trained_on_when_they_are_there(watched: WatchedModel) -> None:
    watched.limits = {"window": 3}
    for number in range(1, 4):
        name = month_of(number)
        watched.land(name, labels=None)
        assert watched.look(drift(partition=name), partition=name, days=30).action == "alert"
    watched.land(month_of(1))

    response = watched.look(drift(partition=month_of(3)), partition=month_of(3), days=30)

    assert (response.action, response.new_rows) == ("retrain", 10)


def test_without_new_data_no_attempt_is_made_and_none_is_counted(watched: WatchedModel) -> None:
    life = Life(watched, rejected_by_the_gate)

    answers = life.live(6, land=False)

    assert answers == ["alert"] * 6
    assert {response.attempts for response in life.told} == {0}
    assert "would see 0 new labelled rows, and 1 are needed" in life.told[0].held_back


def test_a_budget_limits_the_year_whatever_else_would_allow(watched: WatchedModel) -> None:
    watched.limits = {"budget": Rate(count=2, per="year"), "stop_after": 99}
    life = Life(watched, released_by_policy)

    answers = life.live(25)

    # A month is 30 days here: the first request is more than a year old after 13 of them.
    assert answers[:2] == answers[13:15] == ["retrain"] * 2
    assert answers.count("retrain") == 4
    assert "the budget of 2 per year is spent: 2 in the last 365 d" in life.told[0].reason


def test_an_event_that_comes_twice_counts_once(watched: WatchedModel) -> None:
    watched.land(month_of(1))
    job = measured(Verdict.FAIL, partition=month_of(1))

    first = watched.look(job, partition=month_of(1), run="trips_monitor/february")
    twice = [watched.look(job, partition=month_of(1), run="trips_monitor/february", days=9) for _ in range(5)]

    assert {first.action, *(one.action for one in twice)} == {"retrain"}
    assert len(watched.tools.ledger.results("test", MODEL, "respond", action="retrain")) == 1


def test_a_clock_that_jumps_back_and_forth_asks_no_more_often(watched: WatchedModel) -> None:
    watched.reads_data = False
    jumps = [0, 2, -3, 1, -20, 3, 3, -1, 2, 1, -4, 5]

    answers = [watched.look(drift(), days=jump).action for jump in jumps]

    # After the jump to day -20 the latest that the request can have been made is that day: a week from there is over
    # with the jumps to day -13.
    assert answers.count("retrain") == 2
    assert answers[0] == "retrain"


def test_a_year_without_a_finding_asks_for_nothing(watched: WatchedModel) -> None:
    life = Life(watched, released_by_policy, is_bad=lambda _: False)

    assert life.live(12) == ["nothing"] * 12
    assert watched.now - NOW == 12 * 30 * DAY
