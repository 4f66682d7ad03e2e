"""What is written for HAProxy and supervisord, and what is read from them."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pydantic import ValidationError

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.deployment.local import LocalTarget
from ml_lifecycle.backends.serving_home.control import counted_since, minus
from ml_lifecycle.backends.serving_home.haproxy import Configuration, Server, configuration, counts_of, servers, shares
from ml_lifecycle.backends.serving_home.home import Home, HomeSettings
from ml_lifecycle.backends.serving_home.state import Counts, Mark, ModelState, Routing, Slot
from ml_lifecycle.backends.serving_home.supervisor import Program
from ml_lifecycle.core.contracts import Histogram, Move
from ml_lifecycle.core.errors import ConfigurationError, DataError, ServiceUnavailableError
from ml_lifecycle.serving.guard import watch
from tests.fakes.places import no_package, registry_at

OLD, NEW = "a" * 64, "b" * 64


def state(share: int | None = 10, *, model: str = "flights", port: int = 9002, **changes: object) -> ModelState:
    """Version 1 in blue, version 2 in green."""
    filled = {
        "blue": Slot(version=1, digest=OLD, port=9001, pid=1),
        "green": Slot(version=2, digest=NEW, port=port, pid=2),
        "new": "green",
        "share": share,
        "asked": share,
    }
    given = {"model": model, "environment": "test", "epoch": 2, "salt": "pepper"}
    return ModelState.model_validate({**given, **filled, **changes})


def written(*states: ModelState, port: int = 8500) -> Configuration:
    where = Path("/srv/models")
    return configuration(states, bind="127.0.0.1", port=port, control=where / "haproxy.sock", maps=where / "maps")


def test_the_map_says_how_many_of_ten_thousand_buckets_are_greens() -> None:
    assert shares(state(10)) == {"green": "1000", "salt": "pepper", "tester": "green"}


def test_a_new_version_in_blue_takes_buckets_from_the_other_end() -> None:
    assert shares(state(10, new="blue"))["green"] == "9000"


def test_a_slot_is_closed_until_its_server_answered_and_after_it_died() -> None:
    waiting = state(0, green=Slot(version=2, digest=NEW, port=9002))
    died = state(0, green=Slot(version=2, digest=NEW, port=9002, pid=2, fault="it ended"))

    assert not servers(waiting)["green"].open
    assert not servers(died)["green"].open
    assert servers(waiting)["blue"] == Server(port=9001, open=True, weight=1)


def test_only_what_run_time_cannot_change_makes_haproxy_read_its_file() -> None:
    before = written(state(10)).structure

    assert written(state(50, port=9003, salt="salt")).structure == before
    assert written(state(10, routing=Routing(user_header="X-Account"))).structure != before
    assert written(state(10), state(10, model="trains")).structure != before
    assert written(state(10), port=8600).structure != before


def test_the_file_says_all_that_was_set_at_run_time() -> None:
    text = written(state(10)).text

    assert "server blue 127.0.0.1:9001 weight 1\n" in text
    assert "server green 127.0.0.1:9002 weight 1\n" in text


def test_models_are_written_in_one_order() -> None:
    assert written(state(model="b"), state(model="a")) == written(state(model="a"), state(model="b"))


def test_a_model_is_reached_below_its_own_name_only() -> None:
    text = written(state(), state(model="flights-2")).text

    assert "use_backend model.flights if { path_beg /flights/ }" in text
    assert "use_backend model.flights-2 if { path_beg /flights-2/ }" in text


@pytest.mark.parametrize("header", ["X User", "X-User\n", "X-User)", "", "-X", "X-" + "a" * 63, "%[src]"])
def test_a_header_that_would_say_more_than_a_name_is_refused(header: str) -> None:
    with pytest.raises(ValidationError):
        LocalTarget(user_header=header)
    with pytest.raises(ValidationError):
        LocalTarget(tester_header=header)


@pytest.mark.parametrize("value", ["a b", "new\n    bind :80", "{", "", "$(id)", '"'])
def test_a_testers_value_that_would_say_more_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        LocalTarget(tester_value=value)


@pytest.mark.parametrize("value", ["0s", "6m"])
def test_how_long_users_wait_is_bounded(value: str) -> None:
    with pytest.raises(ValidationError, match="from 1s to 5m"):
        LocalTarget.model_validate({"answer_timeout": value})


# --- Counting --------------------------------------------------------------------------------------------------------


def test_a_try_without_an_answer_is_counted_once_however_haproxy_counts_it() -> None:
    # As HAProxy 2.6 counted 50 requests of which 19 were sent to a server that closed each connection.
    rows = {
        "blue": {"stot": "50", "hrsp_2xx": "50", "wretr": "0", "wredis": "0"},
        "green": {"stot": "19", "hrsp_2xx": "0", "wretr": "19", "wredis": "19"},
    }

    assert counts_of(rows, "green") == Counts(tried=19, passed_on=19)  # type: ignore[arg-type]
    assert counts_of(rows, "blue") == Counts(tried=50, answered=50, received=19)  # type: ignore[arg-type]


def test_columns_that_are_missing_or_no_numbers_count_as_nothing() -> None:
    assert counts_of({"blue": {"stot": "", "hrsp_2xx": "many"}}, "blue") == Counts()
    assert counts_of({}, "blue") == Counts()


def test_what_was_counted_before_haproxy_began_anew_is_kept() -> None:
    slot = Slot(
        version=1, digest=OLD, port=1, counted=Counts(tried=10, answered=9), carried=Counts(tried=5, answered=5)
    )

    assert counted_since(slot, Counts(tried=14, answered=12)) == Counts(tried=9, answered=8)
    assert counted_since(slot, Counts(tried=3, answered=3)) == Counts(tried=8, answered=8)


# --- The home --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["relative", "/with space", "/a%b", "/a;b", "/" + "a" * 90, "/a\nb", "/a*"])
def test_a_home_that_a_configuration_cannot_name_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the model servers' home"):
        Home(Path(path))


def test_a_percent_sign_is_not_a_variable_of_supervisords() -> None:
    text = Program("x", ("run", "50%", "a b")).text(Path("/logs"))

    assert "command = run 50%% 'a b'\n" in text


def test_a_home_belongs_to_its_user_and_remembers_its_settings(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make(HomeSettings(port=8600))

    assert (home.folder.stat().st_mode & 0o777, home.settings().port) == (0o700, 8600)


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make(HomeSettings())

    home.write(state(10))

    assert (home.state("flights"), home.states(), home.state("trains")) == (state(10), [state(10)], None)


def test_a_state_that_somebody_broke_is_not_taken_for_none(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make(HomeSettings())
    (home.folder / "states" / "flights.json").write_text('{"model": ')

    with pytest.raises(DataError, match="without it nobody knows which move it serves under"):
        home.state("flights")


def test_each_server_gets_a_port_of_its_own_and_none_that_is_taken(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make(HomeSettings(port=29001, first_port=29001, last_port=29003))

    assert home.free_port([state(port=29002)]) == 29003
    with pytest.raises(ServiceUnavailableError, match="no port from 29001 to 29003 is free"):
        home.free_port([state(port=29002, blue=Slot(version=1, digest=OLD, port=29003))])


def test_a_package_stays_while_it_is_served_and_goes_when_it_is_not(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make(HomeSettings())
    for digest in (OLD, NEW):
        home.package(digest).mkdir()
        os.utime(home.package(digest), (0, 0))
    fresh = home.package("c" * 64)
    fresh.mkdir()

    home.drop_packages([state(green=None, new="blue", share=100)])

    assert {path.name for path in (home.folder / "packages").iterdir()} == {OLD, fresh.name}


def test_a_machine_whose_servers_are_down_says_how_to_start_them(tmp_path: Path) -> None:
    means = Means(registry=registry_at(tmp_path / "registry"), package=no_package, serving_home=tmp_path / "home")
    move = Move(
        model="flights",
        environment="test",
        epoch=1,
        kind="release",
        version=1,
        digest=OLD,
        uri="runs:/1/model",
        moved_by="ada",
        moved_at=datetime(2026, 3, 1, tzinfo=timezone.utc),
    )

    with pytest.raises(ServiceUnavailableError, match="ml-lifecycle serving up"):
        LocalTarget().status("flights", means)
    with pytest.raises(ServiceUnavailableError, match="ml-lifecycle serving up"):
        LocalTarget().promote(move, means)


def test_a_deployment_without_a_place_for_servers_says_which_option_names_one(tmp_path: Path) -> None:
    means = Means(registry=registry_at(tmp_path), package=no_package)

    with pytest.raises(ConfigurationError, match="serving_home"):
        LocalTarget().status("flights", means)


def test_the_command_tells_a_home_that_is_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["serving", "status", "--home", str(tmp_path), "--json"])

    assert code == 1
    assert '"up": false' in capsys.readouterr().out


@pytest.mark.parametrize(
    "told", [["--port", "0"], ["--server-ports", "many"], ["--server-ports", "9-8"], ["--bind", "a\nb"]]
)
def test_the_command_refuses_ports_and_addresses_that_are_none(
    tmp_path: Path, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serving", "up", "--home", str(tmp_path), *told]) == 64
    assert "serving up" in capsys.readouterr().err


def test_the_command_says_how_to_get_haproxy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["serving", "up", "--home", str(tmp_path), "--haproxy", "no-such-haproxy"])

    assert code == 64
    assert "apt-get install --yes haproxy" in capsys.readouterr().err


def test_what_was_counted_at_moments_is_kept_in_order_and_not_for_ever(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make(HomeSettings())
    none_yet = (home.marks("flights"), home.marked_at("flights"))
    for hour in (1, 2, 3):
        at = datetime(2026, 3, 1, hour, tzinfo=timezone.utc)
        home.add_mark("flights", Mark(at=at, counts={1: Counts(tried=hour)}), keep=2)
    with (home.folder / "counts" / "flights.jsonl").open("a") as file:
        file.write('{"at": "half a li')

    kept = [mark.counts[1].tried for mark in home.marks("flights")]
    home.forget("flights")

    assert none_yet == ([], None)
    assert (kept, home.marks("flights")) == ([2, 3], [])


def test_latencies_between_two_looks_are_what_came_in_between() -> None:
    before = Histogram(bounds_ms=(1.0, 2.0), counts=(3, 2, 0))
    now = Histogram(bounds_ms=(1.0, 2.0), counts=(5, 2, 1))

    assert minus(now, before) == Histogram(bounds_ms=(1.0, 2.0), counts=(2, 0, 1))
    assert minus(before, now) == before  # the server began anew
    assert (minus(now, None), minus(None, now)) == (now, None)


def test_the_guard_goes_on_when_a_look_fails_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = Home(tmp_path / "home")
    home.make(HomeSettings())
    home.write(state(10))
    ended = threading.Event()
    guard = threading.Thread(target=watch, args=(home, ended))

    guard.start()
    time.sleep(1)  # several looks
    ended.set()
    guard.join(timeout=30)

    assert not guard.is_alive()
    assert [record.message.count("are not up") for record in caplog.records] == [1]
