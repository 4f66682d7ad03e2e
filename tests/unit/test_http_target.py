"""A model behind the contract of one's own: other writers, slow versions, and services that answer otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from include.serving_adapter.adapter import Adapter
from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.base import Serving
from ml_lifecycle.backends.deployment.http import HttpTarget
from ml_lifecycle.core.errors import (
    RollbackNotReadyError,
    ServiceRefusedError,
    ServiceUnavailableError,
    StaleEpochError,
    TargetRefusedError,
)
from tests.fakes.endpoint_service import MemoryEndpoint, endpoint_service, running
from tests.fakes.http_place import means_for
from tests.fakes.places import Place

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
STATE = {
    "move": {"environment": "test", "epoch": 1, "version": 1, "previous": None},
    "wanted": {"1": 100},
    "traffic": {"1": 100},
    "versions": [{"version": 1, "digest": "1" * 64, "ready": True}],
}


@contextmanager
def placed(tmp_path: Path, endpoint: MemoryEndpoint, **options: Any) -> Iterator[Place]:
    """A place before this endpoint."""
    with endpoint_service(tmp_path / "adapter", endpoint) as url:
        means = means_for(url, tmp_path)
        try:
            yield Place(HttpTarget(**options), means, ask=endpoint.ask)
        finally:
            means.client("http", "").close()


@pytest.fixture
def endpoint() -> MemoryEndpoint:
    return MemoryEndpoint(slow=0)


@pytest.fixture
def place(endpoint: MemoryEndpoint, tmp_path: Path) -> Iterator[Place]:
    """Version 1 serves, and version 2 runs beside it."""
    with placed(tmp_path, endpoint) as found:
        found.serve(1)
        found.target.deploy(found.move(2, epoch=2), found.means)
        found.settled()
        yield found


def seen(place: Place) -> Serving:
    """What serves, settled or not."""
    return place.target.status("flights", place.means)


# --- Other writers ---------------------------------------------------------------------------------------------------


@contextmanager
def meanwhile(place: Place, method: str, act: Callable[[], Any]) -> Iterator[None]:
    """Something that happens right before the next request by this method."""
    session = place.means.client("http", "")
    send, waiting = session.request, [act]

    def happen(asked: str, *arguments: Any, **options: Any) -> Any:
        if asked == method and waiting:
            waiting.pop()()
        return send(asked, *arguments, **options)

    session.request = happen
    try:
        yield
    finally:
        del session.request
    assert not waiting


def test_who_was_overtaken_between_reading_and_writing_is_refused(place: Place) -> None:
    newer = place.move(1, epoch=3)

    with (
        meanwhile(place, "PUT", lambda: place.target.promote(newer, place.means)),
        pytest.raises(StaleEpochError, match="epoch 3, not 2"),
    ):
        place.split(place.move(2, epoch=2), 50)

    assert (place.traffic(), seen(place).epoch) == ({1: 100}, 3)


def test_two_who_come_to_an_empty_place_at_once_agree_on_the_newer_move(
    endpoint: MemoryEndpoint, tmp_path: Path
) -> None:
    with placed(tmp_path, endpoint) as place:
        with (
            meanwhile(place, "PUT", lambda: place.target.promote(place.move(2, epoch=2), place.means)),
            pytest.raises(StaleEpochError, match="epoch 2, not 1"),
        ):
            place.target.promote(place.move(1, epoch=1), place.means)

        assert place.traffic() == {2: 100}


def test_the_service_itself_refuses_an_older_move_and_another_environment(place: Place) -> None:
    session = place.means.client("http", "")
    address = f"{session.base_url}/models/flights"
    etag = session.get(address).headers["ETag"]

    def put(environment: str, epoch: int, tag: str) -> tuple[int, str]:
        move = {"environment": environment, "epoch": epoch, "version": 2}
        body = {"move": move, "traffic": {"2": 100}}
        answer = session.put(f"{address}/split", json=body, headers={"If-Match": tag} if tag else {})
        return answer.status_code, answer.json()["type"].rpartition(":")[2]

    assert put("test", 1, etag) == (409, "stale-epoch")
    assert put("prod", 9, etag) == (409, "foreign-environment")
    assert put("test", 9, '"another"') == (412, "changed")
    assert put("test", 9, "") == (428, "precondition-required")
    assert place.traffic() == {1: 100}


def test_what_the_service_knows_outlives_its_process(endpoint: MemoryEndpoint, tmp_path: Path) -> None:
    with placed(tmp_path, endpoint) as place:
        place.serve(2, epoch=7)

    with placed(tmp_path, endpoint) as place:
        assert (place.traffic(), seen(place).epoch) == ({2: 100}, 7)
        with pytest.raises(StaleEpochError, match="epoch 7, not 6"):
            place.target.promote(place.move(1, epoch=6), place.means)


def test_a_model_s_name_leads_out_of_no_folder(endpoint: MemoryEndpoint, tmp_path: Path) -> None:
    records = Adapter(endpoint, tmp_path / "records").records

    assert records._file("../../etc/passwd").parent == tmp_path / "records"


# --- Slow and broken versions ----------------------------------------------------------------------------------------


def test_a_version_gets_nothing_before_it_is_ready(endpoint: MemoryEndpoint, place: Place) -> None:
    endpoint.slow = 6
    place.target.promote(place.move(3, epoch=3), place.means)

    found = []
    while not (one := seen(place)).settled:
        found.append(dict(one.traffic))

    assert {1: 100} in found
    assert all(traffic in ({1: 100}, {3: 100}) for traffic in found)
    assert dict(one.traffic) == {3: 100}


def test_a_version_that_never_gets_ready_is_a_fault_and_the_champion_keeps_all(
    endpoint: MemoryEndpoint, place: Place
) -> None:
    endpoint.broken.add(3)

    place.target.promote(place.move(3, epoch=3), place.means)
    found = seen(place)

    assert (found.fault, found.settled) == ("version 3: its process ends at once", False)
    assert dict(found.traffic) == {1: 100}


def test_a_version_that_dies_under_its_share_loses_it_until_somebody_decides(
    endpoint: MemoryEndpoint, place: Place
) -> None:
    place.split(place.move(2, epoch=2), 50)
    place.settled()

    endpoint.broken.add(2)
    died = seen(place)
    endpoint.broken.clear()

    assert (dict(died.traffic), died.fault) == ({1: 100}, "version 2: its process ends at once")
    assert seen(place).fault == died.fault
    place.target.promote(place.move(1, epoch=3), place.means)
    assert place.settled().fault == ""


def test_a_rehearsal_that_fails_says_why_and_leaves_nothing(endpoint: MemoryEndpoint, place: Place) -> None:
    endpoint.broken.add(3)

    with pytest.raises(RollbackNotReadyError, match="version 3: its process ends at once"):
        place.target.rehearse(place.move(3), place.means)

    assert all(model == "flights" for model, _ in endpoint.looks)


def test_a_task_that_deploys_again_after_promotion_leaves_the_version_before_warm(place: Place) -> None:
    move = place.move(2, epoch=2)
    place.target.promote(move, place.means)
    place.settled()

    place.target.deploy(move, place.means)

    assert place.settled().ready == (1, 2)


def test_a_rollback_asks_no_registry(place: Place) -> None:
    place.target.promote(place.move(2, epoch=2), place.means)
    place.settled()

    place.target.promote(place.move(1, epoch=3), replace(place.means, registry=None))  # type: ignore[arg-type]

    assert place.traffic() == {1: 100}


# --- Services that answer otherwise ----------------------------------------------------------------------------------


@contextmanager
def answering(tmp_path: Path, answer: Callable[[Request], Response], **options: Any) -> Iterator[Place]:
    """A place whose service says this to everything."""
    app = FastAPI()
    app.add_api_route("/{path:path}", answer, methods=["GET", "PUT", "DELETE"], response_model=None)
    with running(app) as url:
        means = means_for(url, tmp_path)
        try:
            yield Place(HttpTarget(**{"deadline": "1s", **options}), means)
        finally:
            means.client("http", "").close()


def saying(body: Any, status: int = 200, etag: str | None = '"1"', kind: str = "application/json") -> Any:
    """An answer, always the same."""
    text = body if isinstance(body, str) else json.dumps(body)

    def answer(request: Request) -> Response:
        return Response(text, status, headers={"ETag": etag} if etag else {}, media_type=kind)

    return answer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>Sign in</html>", "something else than JSON"),
        ("[" * 100_000, "something else than JSON"),
        ('{"move": NaN}', "something else than JSON"),
        ("", "not what the contract says"),
        ([], "not what the contract says"),
        ({**STATE, "traffic": {"1": 100, "2": 10}}, "traffic: .*sum to 100"),
        ({**STATE, "traffic": {"1": 150, "2": -50}}, "traffic: .*sum to 100"),
        ({**STATE, "traffic": {"one": 100}}, "traffic.one"),
        ({**STATE, "move": {"environment": "test", "epoch": -1, "version": 1}}, "move.epoch"),
        ({**STATE, "versions": [{"version": 1}]}, "versions.0.digest"),
    ],
)
def test_an_answer_that_is_not_the_contract_s_is_refused(tmp_path: Path, body: Any, message: str) -> None:
    with answering(tmp_path, saying(body)) as place, pytest.raises(ServiceRefusedError, match=message):
        seen(place)


def test_a_service_may_say_more_than_is_asked(tmp_path: Path) -> None:
    with answering(tmp_path, saying({**STATE, "region": "eu"})) as place:
        assert dict(seen(place).traffic) == {1: 100}


def test_a_state_without_a_tag_cannot_be_written_safely(tmp_path: Path) -> None:
    with answering(tmp_path, saying(STATE, etag=None)) as place, pytest.raises(ServiceRefusedError, match="no ETag"):
        seen(place)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, ServiceRefusedError, "credentials"),
        (403, ServiceRefusedError, "credentials"),
        (418, ServiceRefusedError, "it answered 418: 'teapot'"),
        (500, ServiceUnavailableError, "it answered 500"),
        (503, ServiceUnavailableError, "it answered 503"),
    ],
)
def test_what_may_pass_is_tried_again_and_what_may_not_is_not(
    tmp_path: Path, status: int, error: type[Exception], message: str
) -> None:
    asked = []

    def answer(request: Request) -> Response:
        asked.append(request.method)
        return Response('{"detail": "teapot"}', status)

    with answering(tmp_path, answer) as place, pytest.raises(error, match=message):
        seen(place)

    assert (len(asked) > 1) is (error is ServiceUnavailableError)


def test_a_service_that_is_back_in_time_has_not_been_away(tmp_path: Path) -> None:
    asked = []

    def answer(request: Request) -> Response:
        asked.append(request.method)
        away = len(asked) < 3
        return Response(
            "<html>Bad gateway</html>" if away else json.dumps(STATE), 502 if away else 200, {"ETag": '"1"'}
        )

    with answering(tmp_path, answer, deadline="30s") as place:
        assert dict(seen(place).traffic) == {1: 100}


def test_nobody_is_followed_elsewhere(tmp_path: Path) -> None:
    def answer(request: Request) -> Response:
        return RedirectResponse("http://user:secret@elsewhere.example.com/models/flights?token=secret")

    with answering(tmp_path, answer) as place, pytest.raises(ServiceRefusedError) as refused:
        seen(place)

    assert "it sends on to http://elsewhere.example.com, which is not followed" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_answer_without_an_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    def answer(request: Request) -> Response:
        return StreamingResponse(b" " * 65_536 for _ in range(10_000))

    with answering(tmp_path, answer, deadline="60s") as place, pytest.raises(ServiceRefusedError, match="larger than"):
        seen(place)


def test_an_answer_that_drips_is_given_up(tmp_path: Path) -> None:
    def drops() -> Iterator[bytes]:
        for _ in range(600):
            yield b" " * 70_000
            time.sleep(0.1)

    def answer(request: Request) -> Response:
        return StreamingResponse(drops())

    with answering(tmp_path, answer) as place, pytest.raises(ServiceUnavailableError, match="not complete in time"):
        seen(place)


def test_a_service_that_is_down_is_named(tmp_path: Path) -> None:
    place = Place(HttpTarget(deadline="1s"), means_for("http://127.0.0.1:9", tmp_path))

    with pytest.raises(ServiceUnavailableError, match=r"GET http://127.0.0.1:9/models/flights: it did not answer"):
        seen(place)


def test_a_service_that_changes_all_the_time_is_tried_again_later(tmp_path: Path) -> None:
    def answer(request: Request) -> Response:
        return Response(json.dumps(STATE), 200 if request.method == "GET" else 412, {"ETag": '"1"'})

    with answering(tmp_path, answer) as place:
        with pytest.raises(ServiceUnavailableError, match="others changed it 8 times"):
            place.target.promote(place.move(2, epoch=2), place.means)
        with pytest.raises(ServiceUnavailableError, match="changes all the time"):
            place.target.destroy("flights", "test", place.means)


def test_a_place_that_says_it_is_another_environment_s_is_not_written(tmp_path: Path) -> None:
    written = []

    def answer(request: Request) -> Response:
        written.append(request.method)
        return Response(json.dumps({**STATE, "move": {**STATE["move"], "environment": "prod"}}), 200, {"ETag": '"1"'})  # type: ignore[dict-item]

    with answering(tmp_path, answer) as place, pytest.raises(TargetRefusedError, match="'prod', not 'test'"):
        place.target.promote(place.move(1), place.means)

    assert set(written) == {"GET"}


@pytest.mark.parametrize(
    "told",
    [
        {"version": 1, "requests": -1},
        {"version": 1, "requests": 10, "latency": {"bounds_ms": ["x"], "counts": [1, 1]}},
        {"requests": 10},
    ],
)
def test_counts_that_cannot_be_are_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    def answer(request: Request) -> Response:
        body = {"versions": [told]} if request.url.path.endswith("observations") else STATE
        return Response(json.dumps(body), headers={"ETag": '"1"'})

    with (
        answering(tmp_path, answer) as place,
        pytest.raises(ServiceRefusedError, match=r"not what the contract says: versions\.0"),
    ):
        place.observe(NOW)


def test_what_was_counted_is_told_by_version(endpoint: MemoryEndpoint, place: Place) -> None:
    place.split(place.move(2, epoch=2), 10)
    place.settled()
    for user in range(100):
        place.ask(str(user))

    found = place.observe(NOW)

    assert found[1].requests + found[2].requests == 100
    assert 9 <= found[2].requests <= 11


def test_its_options_are_kept_as_plain_json() -> None:
    made = target_from({"backend": "http", "connection": "azure", "steps": ["shadow", 10, 100], "deadline": "30s"})

    assert target_from(json.loads(made.model_dump_json())) == made
    assert len({made}) == 1
