"""The model server as a process of its own: what it refuses to serve, how it ends, and what a container starts."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression  # noqa: TID253  # no DAG file imports a test
from sklearn.neighbors import KNeighborsClassifier  # noqa: TID253  # as above

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.golden import read_golden
from ml_lifecycle.backends.models.inputs import predict
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.backends.monitoring.prediction_log import read_predictions
from ml_lifecycle.serving.request_log import OPEN
from ml_lifecycle.serving.server import REFUSED, WRONG_USAGE, main, options_of
from tests.fakes.served_model import PROJECT, ModelServer, fitted, info_of, started, write_package

ROW = {"inputs": {"distance": 1.0, "carrier": "B6", "temp": 0.5}}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "package"
    write_package(folder, fitted(LogisticRegression()))
    return folder


@pytest.fixture(scope="module")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """One that several tests ask, and none ends."""
    told = ["--package", str(package), "--digest", digest_of_folder(package), "--model", "flights", "--version", "3"]
    with started(tmp_path_factory.mktemp("server"), *told, "--read-s", "0.5", "--max-body-mb", "1") as running:
        yield running


def named(package: Path) -> dict[str, str]:
    """The options as a container gets them."""
    return {
        "ML_LIFECYCLE_MODEL": "flights",
        "ML_LIFECYCLE_VERSION": "3",
        "ML_LIFECYCLE_DIGEST": digest_of_folder(package),
    }


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- Serving ---------------------------------------------------------------------------------------------------------


def test_a_started_server_answers_what_the_package_predicts(server: ModelServer, package: Path) -> None:
    golden = read_golden(package)
    assert golden is not None
    columns = golden[0].astype(object).where(golden[0].notna(), None).to_dict(orient="list")

    found = server.invoke({"inputs": columns})

    model = SkopsFormat().load(package, allowed_types=())
    assert found.json()["predictions"] == predict(model, info_of(), golden[0]).tolist()
    assert server.get("/ping").status == 200
    assert server.get("/health").json()["digest"] == digest_of_folder(package)


def test_mlflows_own_way_to_ask_a_server_works(server: ModelServer) -> None:
    client = pytest.importorskip("mlflow.pyfunc.scoring_server.client")

    found = client.ScoringServerClient("127.0.0.1", server.port).invoke(_table())

    assert len(found.get_predictions()) == 2


def _table() -> Any:
    import pandas as pd

    return pd.DataFrame({"distance": [1.0, 2.0], "carrier": ["B6", "AA"], "temp": [0.5, 1.5]})


def exchange(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """What comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ],
)
def test_nobody_holds_a_connection_with_half_a_request(server: ModelServer, begun: bytes) -> None:
    found = exchange(server.port, begun)

    assert found == b""
    assert server.get("/stats").json()["errors"] == 0


def test_endless_headers_end_the_connection(server: ModelServer) -> None:
    header = b"X-Long: " + b"x" * 4000 + b"\r\n"

    try:
        found = exchange(server.port, b"GET /ping HTTP/1.1\r\nHost: x\r\n", *[header] * 40)
    except (BrokenPipeError, ConnectionResetError):
        found = b""

    assert b"200 OK" not in found
    assert server.get("/ping").status == 200


def test_a_body_beyond_the_limit_is_sent_away(server: ModelServer) -> None:
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
    )

    found = exchange(server.port, head)

    assert found.startswith(b"HTTP/1.1 413")
    assert b"send fewer rows" in found


# --- The end ---------------------------------------------------------------------------------------------------------


def test_a_server_that_is_asked_to_end_lets_everybody_finish(package: Path, tmp_path: Path) -> None:
    told = ["--package", str(package), "--log", str(tmp_path / "log"), "--drain-s", "1"]
    with started(tmp_path, *told, environment=named(package)) as server:
        statuses: list[int] = []
        ends = threading.Event()

        def ask() -> None:
            while not ends.is_set():
                statuses.append(server.invoke(ROW).status)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: len(statuses) > 3)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/ping").status == 503)
        seen = len(statuses)
        until(lambda: len(statuses) > seen + 3)
        ends.set()
        asking.join(20)
        code = server.process.wait(20)

    assert code == 0
    assert set(statuses) == {200}
    assert len(read_predictions(tmp_path / "log", "flights")) == len(statuses)
    assert list((tmp_path / "log" / OPEN).rglob("*.*")) == []


def test_what_a_killed_server_had_answered_is_in_the_log_after_the_next_start(package: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    told = ["--package", str(package), "--log", str(log), "--log-every-s", "600"]
    with started(tmp_path, *told, environment=named(package)) as server:
        answers = [server.invoke(ROW, X_Request_Id=f"r{number}").json()["predictions"] for number in range(5)]
        until(lambda: server.get("/stats").json()["log"]["written"] == 5)
        server.process.kill()
        server.process.wait(20)

    assert read_predictions(log, "flights").empty
    with started(tmp_path, *told, environment=named(package)):
        until(lambda: len(read_predictions(log, "flights")) == 5)

    found = read_predictions(log, "flights").set_index("key")
    assert found["score"].to_dict() == {f"r{number}": one for number, (one,) in enumerate(answers)}
    assert found["input_carrier"].tolist() == ["B6"] * 5


# --- What is not served ----------------------------------------------------------------------------------------------


def refused(package: Path, digest: str, capsys: pytest.CaptureFixture[str]) -> str:
    told = ["--package", str(package), "--digest", digest, "--model", "flights", "--version", "3", "--port", "1"]
    assert main(told) == REFUSED
    return capsys.readouterr().err


def test_other_bytes_than_the_digest_names_are_not_served(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(package, changed)
    (changed / "requirements.txt").write_text("evil\n")

    told = refused(changed, digest_of_folder(package), capsys)

    assert f"expected {digest_of_folder(package)[:12]}" in told
    assert "Traceback" not in told


def test_a_type_that_nobody_allowed_is_not_served_unless_the_start_says_so(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = write_package(tmp_path / "p", fitted(KNeighborsClassifier()))

    told = refused(tmp_path / "p", digest, capsys)

    assert "the model holds types that are not loaded here: sklearn." in told
    names = [one.strip() for one in told.partition("not loaded here: ")[2].partition(";")[0].split(",")]
    allowed = {**named(tmp_path / "p"), "ML_LIFECYCLE_TRUSTED_TYPES": ",".join(names)}
    with started(tmp_path, "--package", str(tmp_path / "p"), environment=allowed) as server:
        assert server.invoke(ROW).status == 200


@pytest.mark.parametrize("missing", ["nowhere", "a link"])
def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "p"
    if missing == "a link":
        folder.mkdir()
        (folder / "model.skops").symlink_to("/etc/passwd")

    assert "Traceback" not in refused(folder, "0" * 64, capsys)


def test_a_port_that_is_taken_ends_the_start(package: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "ml_lifecycle.serving.server", "--package", str(package), "--port", str(port)],
            env={**named(package), "PYTHONPATH": str(PROJECT / "provider")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode not in {0, WRONG_USAGE}
    assert "address already in use" in done.stderr.lower()


@pytest.mark.parametrize("arguments", [[], ["--version", "three"], ["--no-such-option"], ["train"]])
def test_a_wrong_start_is_told_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options_of(arguments, {})

    assert caught.value.code == WRONG_USAGE
    assert "usage" in capsys.readouterr().err


# --- Containers ------------------------------------------------------------------------------------------------------


def test_sagemakers_container_contract_holds(package: Path, tmp_path: Path) -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html."""
    mounted = tmp_path / "opt" / "ml" / "model"
    shutil.copytree(package, mounted)
    environment = {**named(package), "SM_MODEL_DIR": str(mounted)}

    with started(tmp_path, "serve", environment=environment) as server:
        ping, found = server.get("/ping"), server.invoke(b"1.0,B6,0.5\n", content_type="text/csv")
        health = server.get("/health").json()

    assert (ping.status, found.status) == (200, 200)
    assert len(found.json()["predictions"]) == 1
    assert (health["digest"], health["version"]) == (digest_of_folder(package), 3)


def test_sagemaker_says_where_to_listen_and_what_lies_where() -> None:
    bare = {"ML_LIFECYCLE_MODEL": "m", "ML_LIFECYCLE_VERSION": "1", "ML_LIFECYCLE_DIGEST": "d"}

    plain = options_of(["serve"], bare)
    moved = options_of(["serve"], {**bare, "SAGEMAKER_BIND_TO_PORT": "8088", "ML_LIFECYCLE_HOST": "0.0.0.0"})  # noqa: S104

    assert (plain.port, plain.package, plain.host) == (8080, "/opt/ml/model", "127.0.0.1")
    assert (moved.port, moved.host) == (8088, "0.0.0.0")  # noqa: S104  # as above


def test_the_command_line_outranks_the_environment() -> None:
    told = {
        "ML_LIFECYCLE_MODEL": "m",
        "ML_LIFECYCLE_VERSION": "1",
        "ML_LIFECYCLE_DIGEST": "d",
        "ML_LIFECYCLE_PORT": "1",
    }

    found = options_of(["--port", "2", "--trusted-type", "a.B"], {**told, "ML_LIFECYCLE_TRUSTED_TYPES": "c.D, e.F"})

    assert found.port == 2
    assert found.trusted_type == ["c.D", "e.F", "a.B"]


def test_the_image_runs_this_server_as_nobody_in_particular_and_holds_no_secret() -> None:
    lines = (PROJECT / "deploy" / "server.Dockerfile").read_text().splitlines()
    instructions = [line for line in lines if line and not line.startswith("#")]

    assert json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).partition(" ")[2]) == [
        "python",
        "-m",
        "ml_lifecycle.serving.server",
    ]
    users = [line.split()[1] for line in instructions if line.startswith("USER")]
    assert users
    assert users[-1] not in {"root", "0"}
    assert any("--require-hashes" in line for line in instructions)
    assert not [line for line in instructions if "SECRET" in line.upper() or "PASSWORD" in line.upper()]
    assert "LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in instructions
