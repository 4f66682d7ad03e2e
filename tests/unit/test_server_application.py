"""A model server answers what MLflow's clients ask, and tells the truth about itself."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: TID253  # as above

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.golden import read_golden
from ml_lifecycle.backends.models.inputs import predict
from ml_lifecycle.backends.monitoring.prediction_log import read_predictions
from ml_lifecycle.serving import application as module
from ml_lifecycle.serving.application import ModelService, ServedModel, Terms, application
from ml_lifecycle.serving.connections import READ_AT
from ml_lifecycle.serving.request_log import LogOptions, RequestLog, Segment
from ml_lifecycle.serving.scorer import Scorer
from ml_lifecycle.serving.stats import BOUNDS_MS, Stats
from tests.fakes.served_model import INPUTS, Answer, Kind, fitted, info_of, write_package

ROW = {"inputs": {"distance": 1.0, "carrier": "B6", "temp": 0.5}}
SERVED = ServedModel(model="flights", version=3, digest="d" * 64)
QUICK = Terms(row_s=0.0)


class Client:
    """Asks an ASGI application as uvicorn would."""

    def __init__(self, service: ModelService) -> None:
        self.service = service
        self.app: Any = application(service)

    async def send(self, method: str, path: str, *parts: bytes, headers: dict[str, str] | None = None) -> Answer:
        messages = [
            {"type": "http.request", "body": part, "more_body": place < len(parts)}
            for place, part in enumerate(parts, 1)
        ] or [{"type": "http.request", "body": b"", "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def take(message: dict[str, Any]) -> None:
            sent.append(message)

        told = {"content-type": "application/json", **{name.lower(): held for name, held in (headers or {}).items()}}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(name.encode(), held.encode("latin-1")) for name, held in told.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        await self.app(scope, receive, take)
        if not sent:
            return Answer(0, {}, b"")
        found = {name.decode().lower(): held.decode() for name, held in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent[1:]))

    def get(self, path: str) -> Answer:
        return asyncio.run(self.send("GET", path))

    def invoke(self, body: Any, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {name.replace("_", "-"): held for name, held in headers.items()}
        return asyncio.run(self.send("POST", "/invocations", data, headers=told))


def packaged(folder: Path, kind: Kind = "late or not") -> Scorer:
    model = fitted(Ridge() if kind == "a number" else LogisticRegression(), kind)
    return Scorer.load(folder, write_package(folder, model, kind), trusted_types=())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a quick classifier."""
    folder = tmp_path_factory.mktemp("served") / "package"
    write_package(folder, fitted(LogisticRegression()))
    return folder


def scorer_of(package: Path) -> Scorer:
    return Scorer.load(package, digest_of_folder(package), trusted_types=())


@pytest.fixture
def client(package: Path) -> Iterator[Client]:
    service = ModelService(SERVED, scorer_of(package), terms=QUICK)
    yield Client(service)
    service.close()


class BrokenModel:
    """Fails as a model may."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def predict_proba(self, table: Any) -> Any:
        raise self.error


# --- Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["late or not", "one of three", "a number"])
def test_an_answer_is_what_the_package_predicts(tmp_path: Path, kind: Kind) -> None:
    scorer = packaged(tmp_path / "package", kind)
    golden = read_golden(tmp_path / "package")
    assert golden is not None
    # pandas would write ten digits.
    columns = golden[0].astype(object).where(golden[0].notna(), None).to_dict(orient="list")

    found = Client(ModelService(SERVED, scorer, terms=QUICK)).invoke({"inputs": columns})

    expected = predict(scorer._model, info_of(kind), golden[0])
    np.testing.assert_array_equal(np.array(found.json()["predictions"]), expected)


def test_an_answer_names_its_model_and_the_request(client: Client) -> None:
    found = client.invoke(ROW, X_Request_Id="abc-1")

    assert found.status == 200
    assert found.headers["x-model-version"] == "3"
    assert found.headers["x-model-digest"] == "d" * 64
    assert found.headers["x-request-id"] == "abc-1"
    assert found.headers["content-type"] == "application/json"
    assert int(found.headers["content-length"]) == len(found.body)


@pytest.mark.parametrize("told", ["", "two words", "x" * 129, "caf\xe9", "a\x7fb"])
def test_a_request_id_that_could_do_harm_is_replaced(client: Client, told: str) -> None:
    found = client.invoke(ROW, X_Request_Id=told)

    assert found.headers["x-request-id"] != told
    assert len(found.headers["x-request-id"]) == 32


def test_two_requests_without_an_id_get_different_ones(client: Client) -> None:
    first, second = client.invoke(ROW), client.invoke(ROW)

    assert first.headers["x-request-id"] != second.headers["x-request-id"]


# --- What is refused -------------------------------------------------------------------------------------------------


def test_a_bad_request_is_told_with_the_way_out_and_is_no_error_of_the_server(client: Client) -> None:
    found = client.invoke({"inputs": {"distance": 1.0}})

    assert found.status == 400
    assert found.json()["what"] == "it lacks carrier, temp"
    assert found.headers["x-model-version"] == "3"
    assert (client.service.stats.requests, client.service.stats.errors) == (1, 0)


def test_a_body_of_another_type_is_refused_as_such(client: Client) -> None:
    assert client.invoke(ROW, Content_Type="application/x-npy").status == 415


@pytest.mark.parametrize("headers", [{"content-length": "101"}, {}])
def test_a_body_that_is_too_large_is_not_read_to_its_end(package: Path, headers: dict[str, str]) -> None:
    service = ModelService(SERVED, scorer_of(package), terms=Terms(body_bytes=100, row_s=0.0))

    found = asyncio.run(Client(service).send("POST", "/invocations", b"x" * 60, b"x" * 60, headers=headers))

    assert found.status == 413
    assert found.headers["connection"] == "close"


def test_a_body_in_parts_is_put_together(client: Client) -> None:
    body = json.dumps(ROW).encode()

    found = asyncio.run(client.send("POST", "/invocations", body[:9], body[9:]))

    assert found.status == 200


def test_a_client_that_went_away_is_not_counted(client: Client) -> None:
    async def ask() -> list[Any]:
        sent: list[Any] = []

        async def gone() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def take(message: Any) -> None:
            sent.append(message)

        await client.service.invoke({"headers": []}, gone, take)
        return sent

    assert asyncio.run(ask()) == []
    assert client.service.stats.requests == 0


@pytest.mark.parametrize(
    "error", [ValueError("Input X contains NaN: secret-value"), KeyError("x"), MemoryError(), RuntimeError("\ud800")]
)
def test_a_model_that_fails_is_an_error_without_its_trace(client: Client, error: Exception) -> None:
    client.service._scorer._model = BrokenModel(error)

    found = client.invoke(ROW, X_Request_Id="r7")

    assert found.status == 500
    assert "failed on this request" in found.json()["what"]
    assert b"secret-value" not in found.body
    assert b"Traceback" not in found.body
    assert (client.service.stats.requests, client.service.stats.errors) == (1, 1)


def test_a_server_that_fails_says_no_more_than_that(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret-value")

    monkeypatch.setattr(module, "read", fail)

    found = client.invoke(ROW)

    assert (found.status, found.json()["what"]) == (500, "the server failed on this request")
    assert client.service.stats.errors == 1


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/invocations", 405), ("GET", "/x", 404)])
def test_what_is_not_served_is_told(client: Client, method: str, path: str, status: int) -> None:
    assert asyncio.run(client.send(method, path)).status == status


# --- What it tells of itself -----------------------------------------------------------------------------------------


def test_a_server_that_is_ready_says_so(client: Client) -> None:
    assert client.get("/ping").status == 200
    assert client.get("/version").body == b"0.1.0"
    assert client.get("/health").json() == {
        "model": "flights",
        "version": 3,
        "digest": "d" * 64,
        "ready": True,
        "draining": False,
    }


def test_what_it_takes_is_described_for_programs(client: Client) -> None:
    described = client.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"]["content"]

    schema = described["application/json"]["schema"]
    assert schema["properties"]["dataframe_records"]["items"]["properties"] == {
        "distance": {"type": ["number", "null"]},
        "carrier": {"type": ["string", "null"]},
        "temp": {"type": ["number", "null"]},
    }
    assert set(described) == {"application/json", "text/csv"}
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(ROW, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)


def test_a_server_that_drains_still_answers_but_wants_no_more(client: Client) -> None:
    client.service.draining = True

    found = client.invoke(ROW)

    assert (found.status, found.headers["connection"]) == (200, "close")
    assert client.get("/ping").status == 503
    assert client.get("/health").json()["ready"] is False


def test_what_it_did_is_counted_since_its_start(client: Client) -> None:
    client.invoke(ROW)
    client.invoke(b"{}")
    client.get("/ping")

    found = client.get("/stats").json()

    assert (found["requests"], found["errors"]) == (2, 0)
    assert sum(found["latency"]["counts"]) == 2
    assert found["log"] == {"written": 0, "dropped": 0, "damaged": 0}


def test_a_latency_begins_when_the_request_has_come_in(client: Client) -> None:
    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(ROW).encode(), "more_body": False}

        async def take(_: Any) -> None:
            return None

        headers = [(b"content-type", b"application/json")]
        await client.service.invoke({"headers": headers, READ_AT: time.perf_counter() - 100.0}, receive, take)

    asyncio.run(ask())

    assert client.service.stats.told()["latency"]["counts"][-1] == 1


def test_a_histogram_tells_a_latency_to_a_tenth() -> None:
    stats = Stats()

    for seconds in (0.0, 0.00025, 0.0002501, 60.0, 60.1):
        stats.count(200, seconds)
    stats.count(500, 0.0)
    stats.count(499, 0.0)

    counts = stats.told()["latency"]["counts"]
    assert (counts[0], counts[1], counts[-2], counts[-1]) == (4, 1, 1, 1)
    assert (BOUNDS_MS[0], BOUNDS_MS[-1], len(counts)) == (0.25, 60_000.0, len(BOUNDS_MS) + 1)
    assert all(1 < high / low <= 1.101 for low, high in pairwise(BOUNDS_MS))
    assert (stats.requests, stats.errors) == (7, 1)


# --- Slow models -----------------------------------------------------------------------------------------------------


class HeldModel:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.go, self.asked = threading.Event(), threading.Event()

    def predict_proba(self, table: Any) -> Any:
        self.asked.set()
        assert self.go.wait(20)
        return np.full((len(table), 2), 0.5)


def test_while_a_slow_model_predicts_the_server_says_that_it_lives() -> None:
    held = HeldModel()
    client = Client(ModelService(SERVED, Scorer(held, info_of()), terms=Terms(row_s=None)))

    async def ask() -> tuple[int, int]:
        slow = asyncio.create_task(client.send("POST", "/invocations", json.dumps(ROW).encode()))
        await asyncio.to_thread(held.asked.wait, 20)
        ping = await client.send("GET", "/ping")
        held.go.set()
        return ping.status, (await slow).status

    assert asyncio.run(ask()) == (200, 200)


def test_of_more_requests_than_may_wait_the_last_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    held = HeldModel()
    client = Client(ModelService(SERVED, Scorer(held, info_of()), terms=Terms(row_s=None)))

    async def ask() -> list[Answer]:
        body = json.dumps(ROW).encode()
        waiting = [asyncio.create_task(client.send("POST", "/invocations", body)) for _ in range(2)]
        await asyncio.to_thread(held.asked.wait, 20)
        third = await client.send("POST", "/invocations", body)
        held.go.set()
        return [*(await asyncio.gather(*waiting)), third]

    first, second, third = asyncio.run(ask())

    assert (first.status, second.status, third.status) == (200, 200, 503)
    assert third.headers["retry-after"] == "1"
    assert client.service.stats.errors == 1


def test_many_rows_of_a_quick_model_are_answered_on_the_side(client: Client) -> None:
    rows = [[1.0, "B6", 0.5]] * 5000
    body = {"instances": rows}
    assert len(json.dumps(body)) > module.SMALL_BODY

    found = client.invoke(body)

    assert set(found.json()["predictions"]) == set(client.invoke({"instances": rows[:1]}).json()["predictions"])


# --- The log ---------------------------------------------------------------------------------------------------------


def logged(package: Path, tmp_path: Path, user_header: str = "") -> Client:
    segment = Segment(endpoint="flights", version=3, digest="d" * 64, inputs=INPUTS, classes=(False, True), writer=1)
    terms = Terms(row_s=0.0, user_header=user_header)
    return Client(
        ModelService(SERVED, scorer_of(package), terms=terms, log=RequestLog(LogOptions(tmp_path / "log"), segment))
    )


def test_what_was_answered_is_logged_under_its_keys(package: Path, tmp_path: Path) -> None:
    client = logged(package, tmp_path)

    by_body = client.invoke({"instances": [[1.0, "B6", 0.5]], "params": {"keys": ["k1"]}}, X_Prediction_Keys="other")
    by_header = client.invoke(b"1.0,B6,0.5\n2.0,AA,\n", Content_Type="text/csv", X_Prediction_Keys="k2, k3")
    by_id = client.invoke(ROW, X_Request_Id="r1")
    client.invoke(b"{}")
    client.service.close()

    found = read_predictions(tmp_path / "log", "flights").set_index("key")["score"]
    answers = [*by_body.json()["predictions"], *by_header.json()["predictions"], *by_id.json()["predictions"]]
    assert found.to_dict() == dict(zip(["k1", "k2", "k3", "r1"], answers, strict=True))
    assert client.service.counted()["log"] == {"written": 4, "dropped": 0, "damaged": 0}


def test_keys_that_do_not_fit_the_rows_are_refused_before_the_model_is_asked(package: Path, tmp_path: Path) -> None:
    client = logged(package, tmp_path)

    found = client.invoke(ROW, X_Prediction_Keys="k1,k2")
    client.service.close()

    assert (found.status, found.json()["where"]) == (400, "X-Prediction-Keys")
    assert read_predictions(tmp_path / "log", "flights").empty


@pytest.mark.parametrize(("user_header", "kept"), [("", None), ("X-User-Id", "anna")])
def test_who_asked_is_kept_only_where_the_log_is_told_to(
    package: Path, tmp_path: Path, user_header: str, kept: str | None
) -> None:
    client = logged(package, tmp_path, user_header)

    client.invoke(ROW, X_User_Id="anna")
    client.service.close()

    assert read_predictions(tmp_path / "log", "flights")["user"].tolist() == [kept]
