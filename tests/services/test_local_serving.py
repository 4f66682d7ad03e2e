"""Real model servers behind a real HAProxy, looked after by a real supervisor and guard."""

from __future__ import annotations

import http.client
import os
import signal
import stat
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ml_lifecycle.backends.serving_home.control import HAPROXY
from ml_lifecycle.backends.serving_home.haproxy import map_path
from ml_lifecycle.backends.serving_home.report import report
from ml_lifecycle.backends.serving_home.standing import start
from serving_drills import BODY, MODEL, Machine, home_up, killing, rolling_back, shifting
from tests.fakes.local_place import ask, clear
from tests.fakes.local_place import machine as shared_machine

pytestmark = pytest.mark.services
LONG_AGO = datetime(2026, 1, 1, tzinfo=timezone.utc)
RATE = 40.0


@pytest.fixture
def machine() -> Iterator[Machine]:
    found = shared_machine()
    yield found
    clear(found)


def request(machine: Machine, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", machine.home.settings().port, timeout=10)
    try:
        connection.request(method, path, BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_no_request_fails_while_traffic_shifts_and_haproxy_begins_anew(machine: Machine) -> None:
    found = shifting(machine, seconds=2, rate=RATE)

    assert found["failed"] == 0
    assert [found["phases"][name]["percent"][2] for name in ("alone", "0%", "100%", "rolled back")] == [0, 0, 100, 0]
    assert [found["phases"][name]["users_on_two_sides"] for name in ("10%", "50%", "100%")] == [0, 0, 0]


@pytest.mark.parametrize("percent", [10, 100])
def test_no_request_fails_when_the_new_server_is_killed_and_it_gets_nothing_again(
    machine: Machine, percent: int
) -> None:
    found = killing(machine, percent, rate=RATE)

    assert (found["failed"], found["regained"], found["answers_of_the_dead_version_afterwards"]) == (0, False, 0)
    assert found["split_0_after_s"] < 5
    assert "version 2" in found["fault"]


def test_a_server_that_hangs_is_taken_for_dead(machine: Machine) -> None:
    found = killing(machine, 50, rate=RATE, how=signal.SIGSTOP)

    assert (found["failed"], found["regained"]) == (0, False)


def test_each_rollback_brings_the_old_version_back(machine: Machine) -> None:
    found = rolling_back(machine, 3)

    assert found["succeeded"] == 3


def test_testers_reach_the_new_version_whatever_the_split(machine: Machine) -> None:
    machine.promoted(1)
    machine.deployed(2)

    plain = {ask(machine.home, f"user {number}") for number in range(20)}
    testers = {ask(machine.home, f"user {number}", headers={"X-Tester": "new"}) for number in range(20)}

    assert (plain, testers) == ({1}, {2})


def test_requests_without_a_user_are_shared_out_too(machine: Machine) -> None:
    machine.promoted(1)
    machine.split(machine.deployed(2), 50)

    assert {ask(machine.home, "") for _ in range(60)} == {1, 2}


def test_what_versions_did_is_counted_from_the_last_change_on(machine: Machine) -> None:
    machine.promoted(1)
    move = machine.deployed(2)
    for number in range(30):
        ask(machine.home, f"user {number}")
    machine.split(move, 50)
    answers = [ask(machine.home, f"user {number}") for number in range(40)]

    seen = machine.target.observe(MODEL, LONG_AGO, machine.means)

    assert {version: one.requests for version, one in seen.items()} == {1: answers.count(1), 2: answers.count(2)}
    assert [(one.errors, one.retried) for one in seen.values()] == [(0, 0), (0, 0)]
    assert [sum(one.latency.counts) for one in seen.values() if one.latency] == [answers.count(1), answers.count(2)]


def test_what_the_other_version_had_to_answer_is_an_error_of_the_one_that_did_not(machine: Machine) -> None:
    machine.promoted(1)
    move = machine.deployed(2)
    machine.split(move, 50)
    # Nobody takes its traffic away meanwhile.
    os.kill(machine.home.supervisor.processes()["guard"].pid, signal.SIGSTOP)
    try:
        machine.kill(2)
        answers = [ask(machine.home, f"user {number}") for number in range(20)]
        seen = machine.target.observe(MODEL, LONG_AGO, machine.means)
    finally:
        os.kill(machine.home.supervisor.processes()["guard"].pid, signal.SIGCONT)

    assert answers == [1] * 20
    assert (seen[1].errors, seen[2].errors) == (0, seen[2].requests)
    assert seen[2].retried == seen[2].errors > 0


def test_only_what_models_answer_is_reached_from_outside(machine: Machine) -> None:
    machine.promoted(1)

    codes = {
        path: request(machine, "GET", path)[0]
        for path in ("/flights/ping", "/flights/version", "/flights/stats", "/flights/health", "/trains/ping", "/")
    }

    assert codes == {
        "/flights/ping": 200,
        "/flights/version": 200,
        "/flights/stats": 404,
        "/flights/health": 404,
        "/trains/ping": 404,
        "/": 404,
    }


def test_nobody_else_may_talk_to_haproxy_or_the_supervisor(machine: Machine) -> None:
    home = machine.home

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (home.folder, home.control, home.supervisor.path)]

    assert modes == [0o700, 0o600, 0o600]


def test_a_split_that_somebody_changed_in_haproxy_is_put_right(machine: Machine) -> None:
    machine.promoted(1)
    machine.split(machine.deployed(2), 10)

    machine.home.runtime.set_share(map_path(machine.home.maps, MODEL), "green", "9000")

    assert dict(machine.until(lambda seen: dict(seen.traffic) == {1: 90, 2: 10}).traffic) == {1: 90, 2: 10}


def test_an_haproxy_that_was_killed_comes_back_with_the_split(machine: Machine) -> None:
    machine.promoted(1)
    machine.split(machine.deployed(2), 50)
    pid = machine.home.supervisor.processes()[HAPROXY].pid

    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (process := machine.home.supervisor.processes()[HAPROXY]).pid == pid or process.state != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert dict(machine.settled().traffic) == {1: 50, 2: 50}
    assert {ask(machine.home, f"user {number}") for number in range(60)} == {1, 2}


def test_a_champion_that_was_killed_alone_is_started_again_and_keeps_its_traffic(machine: Machine) -> None:
    machine.promoted(1)

    machine.kill(1)

    machine.until(lambda seen: not seen.ready)
    seen = machine.until(lambda seen: bool(seen.ready))
    assert (dict(seen.traffic), seen.fault) == ({1: 100}, "")


def test_packages_that_were_changed_afterwards_are_not_served(machine: Machine) -> None:
    machine.promoted(1)
    move = machine.next_move(2)
    machine.home.keep_package(machine.folder / "2", move.digest)
    with (machine.home.package(move.digest) / "package.json").open("a") as file:
        file.write(" ")

    machine.target.deploy(move, machine.means)

    # It was fetched again.
    assert sorted(machine.until(lambda seen: len(seen.ready) > 1).ready) == [1, 2]


def test_the_command_tells_what_runs(machine: Machine) -> None:
    machine.promoted(1)

    found = report(machine.home)

    assert found.sound
    assert [(one.model, one.traffic) for one in found.models] == [(MODEL, {1: 100})]
    assert {"haproxy", "guard"} < {one.name for one in found.processes}


def test_a_supervisor_that_was_killed_leaves_nothing_that_goes_on_serving(tmp_path: Path) -> None:
    with home_up() as home:
        machine = Machine(home, tmp_path)
        machine.promoted(1)
        machine.split(machine.deployed(2), 50)
        before = {process.pid for process in home.supervisor.processes().values()}
        os.kill(home.supervisor.pid(), signal.SIGKILL)

        start(home, home.settings())

        seen = machine.until(lambda seen: sorted(seen.ready) == [1, 2])
        after = {process.pid for process in home.supervisor.processes().values()}
        assert (dict(seen.traffic), seen.fault, before & after) == ({1: 50, 2: 50}, "", set())
        assert not any(_command(pid) for pid in before)
        assert {ask(home, f"user {number}") for number in range(60)} == {1, 2}


def _command(pid: int) -> bytes:
    """Empty for what has ended, even where nobody has looked yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
