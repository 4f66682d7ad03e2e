"""What every tracking backend promises, over a folder and over a real MLflow server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import requests

from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.backends.tracking.mlflow import MlflowTracking
from ml_lifecycle.core.errors import LifecycleError, ServiceRefusedError, ServiceUnavailableError

Tracker = LocalTracking | MlflowTracking

KEY = "a" * 64
OTHER_KEY = "b" * 64


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, *stores], stdout=log, stderr=log, env=environment, cwd=home, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, server, home / "log")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            if requests.get(f"{url}/health", timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    pytest.fail(log.read_text())


@pytest.fixture(params=["local", pytest.param("mlflow", marks=pytest.mark.integration)])
def tracker(request: pytest.FixtureRequest, tmp_path: Path) -> Tracker:
    if request.param == "local":
        return LocalTracking(tmp_path / "tracking")
    return MlflowTracking(request.getfixturevalue("mlflow_url"), deadline_s=30)


@pytest.fixture
def name() -> str:
    """A name of its own for each test: the server outlives them."""
    return f"flights-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "deeper").mkdir(parents=True)
    (folder / "model.skops").write_bytes(bytes(range(256)) * 1000)
    (folder / "empty.txt").write_bytes(b"")
    (folder / "deeper" / "notes æ.json").write_text('{"a": 1}')
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_asking_twice_for_a_run_makes_one(tracker: Tracker, name: str) -> None:
    first = tracker.ensure_run(name, KEY, name="2013-01", tags={"reason": "drift"})

    second = tracker.ensure_run(name, KEY, name="2013-01", tags={"reason": "drift"})

    assert first.run_id == second.run_id
    assert not second.finished
    assert second.tags["reason"] == "drift"
    assert second.experiment == name


def test_another_key_is_another_run(tracker: Tracker, name: str) -> None:
    first = tracker.ensure_run(name, KEY, name="one", tags={})

    second = tracker.ensure_run(name, OTHER_KEY, name="two", tags={})

    assert first.run_id != second.run_id


def test_makers_at_the_same_moment_agree_on_one_run(tracker: Tracker, name: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: tracker.ensure_run(name, KEY, name="race", tags={}).run_id, range(4)))

    found = tracker.find_run(name, KEY)

    assert found is not None
    assert tracker.ensure_run(name, KEY, name="race", tags={}).run_id == found.run_id
    assert found.run_id in runs


def test_a_run_is_found_by_its_key_only_in_its_experiment(tracker: Tracker, name: str) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})

    found = tracker.find_run(name, KEY)

    assert found is not None
    assert found.run_id == run.run_id
    assert tracker.find_run(name, OTHER_KEY) is None
    assert tracker.find_run(f"{name}-other", KEY) is None


def test_a_finished_run_says_so(tracker: Tracker, name: str) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})

    tracker.finish_run(run.run_id)

    assert tracker.get_run(run.run_id).finished


def test_a_failed_run_is_open_for_another_try(tracker: Tracker, name: str) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})
    tracker.finish_run(run.run_id, failed=True)

    assert not tracker.get_run(run.run_id).finished

    tracker.finish_run(run.run_id)

    assert tracker.get_run(run.run_id).finished


def test_logging_the_same_twice_is_no_error(tracker: Tracker, name: str) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={"kept": "yes"})

    for _ in range(2):
        tracker.log(
            run.run_id, parameters={"max_iter": 80}, metrics={"auc": 0.75, "undefined": None}, tags={"gate": "pass"}
        )

    assert tracker.get_run(run.run_id).tags["gate"] == "pass"
    assert tracker.get_run(run.run_id).tags["kept"] == "yes"


def test_what_was_uploaded_comes_back_byte_by_byte(tracker: Tracker, name: str, package: Path, tmp_path: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})

    uri = tracker.upload(run.run_id, package, "model/abc")
    tracker.upload(run.run_id, package, "model/abc")
    (tmp_path / "back").mkdir()
    back = tracker.download(uri, tmp_path / "back")

    assert uri == f"runs:/{run.run_id}/model/abc"
    assert contents(back) == contents(package)


def test_one_file_can_be_fetched_alone(tracker: Tracker, name: str, package: Path, tmp_path: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})
    uri = tracker.upload(run.run_id, package, "model")
    (tmp_path / "back").mkdir()

    back = tracker.download(f"{uri}/model.skops", tmp_path / "back")

    assert contents(back) == {"model.skops": bytes(range(256)) * 1000}


def test_what_was_never_uploaded_is_refused(tracker: Tracker, name: str, tmp_path: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})

    with pytest.raises(ServiceRefusedError, match="nothing to download"):
        tracker.download(f"runs:/{run.run_id}/nothing", tmp_path)


@pytest.mark.parametrize("path", ["../escape", "model/../../escape", "/etc", "a//b", "a%2f..", ""])
def test_a_path_that_climbs_is_refused(tracker: Tracker, name: str, package: Path, path: str, tmp_path: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})

    with pytest.raises(ServiceRefusedError):
        tracker.upload(run.run_id, package, path)
    with pytest.raises(ServiceRefusedError):
        tracker.download(f"runs:/{run.run_id}/{path}", tmp_path)


def test_a_run_that_is_not_there_is_refused(tracker: Tracker) -> None:
    with pytest.raises(ServiceRefusedError):
        tracker.get_run("0" * 32)


def test_registering_twice_makes_one_version(tracker: Tracker, name: str, package: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})
    uri = tracker.upload(run.run_id, package, "model")

    versions = [
        tracker.ensure_version(
            name, training_key=KEY, uri=uri, run_id=run.run_id, tags={"digest": "d1"}, description="**one**"
        )
        for _ in range(2)
    ]

    assert [version.version for version in versions] == [1, 1]
    assert versions[0].uri == uri
    assert versions[0].run_id == run.run_id
    assert versions[0].tags["digest"] == "d1"


def test_each_training_key_has_its_own_version(tracker: Tracker, name: str, package: Path) -> None:
    for key in (KEY, OTHER_KEY):
        run = tracker.ensure_run(name, key, name=key[:2], tags={})
        uri = tracker.upload(run.run_id, package, "model")
        tracker.ensure_version(name, training_key=key, uri=uri, run_id=run.run_id, tags={})

    newest = tracker.newest_version(name)

    assert newest is not None
    assert newest.version == 2
    assert tracker.version(name, 1) is not None
    assert tracker.version(name, 3) is None


def test_registrations_at_the_same_moment_make_one_version(tracker: Tracker, name: str, package: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="race", tags={})
    uri = tracker.upload(run.run_id, package, "model")

    def register(_: int) -> None:
        tracker.ensure_version(name, training_key=KEY, uri=uri, run_id=run.run_id, tags={})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(register, range(4)))

    assert tracker.ensure_version(name, training_key=KEY, uri=uri, run_id=run.run_id, tags={}).version == 1
    assert [number for number in range(1, 9) if tracker.version(name, number) is not None] == [1]


def test_nothing_is_registered_under_a_new_name(tracker: Tracker, name: str) -> None:
    assert tracker.newest_version(name) is None
    assert tracker.version(name, 1) is None
    assert tracker.alias(name, "champion") is None


def test_an_alias_moves(tracker: Tracker, name: str, package: Path) -> None:
    for key in (KEY, OTHER_KEY):
        run = tracker.ensure_run(name, key, name=key[:2], tags={})
        uri = tracker.upload(run.run_id, package, "model")
        tracker.ensure_version(name, training_key=key, uri=uri, run_id=run.run_id, tags={})

    tracker.set_alias(name, "champion", 1)
    tracker.set_alias(name, "champion", 2)

    assert tracker.alias(name, "champion") == 2
    assert tracker.alias(name, "challenger") is None


def test_an_alias_to_no_version_is_refused(tracker: Tracker, name: str) -> None:
    with pytest.raises(ServiceRefusedError):
        tracker.set_alias(name, "champion", 7)


def test_a_version_is_tagged(tracker: Tracker, name: str, package: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="one", tags={})
    uri = tracker.upload(run.run_id, package, "model")
    tracker.ensure_version(name, training_key=KEY, uri=uri, run_id=run.run_id, tags={"a": "1"})

    tracker.tag_version(name, 1, {"b": "2"})

    version = tracker.version(name, 1)
    assert version is not None
    assert (version.tags["a"], version.tags["b"]) == ("1", "2")


def test_all_versions_are_listed_by_number_with_their_keys(tracker: Tracker, name: str, package: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="first", tags={})
    uri = tracker.upload(run.run_id, package, "model")
    for key in (KEY, OTHER_KEY):
        tracker.ensure_version(name, training_key=key, uri=uri, run_id=run.run_id, tags={})

    assert [(one.version, one.training_key) for one in tracker.versions(name)] == [(1, KEY), (2, OTHER_KEY)]
    assert tracker.versions(f"{name}-other") == ()


def test_the_runs_of_a_key_are_counted(tracker: Tracker, name: str) -> None:
    run = tracker.ensure_run(name, KEY, name="first", tags={})

    assert tracker.runs_of(name, KEY) == (run.run_id,)
    assert tracker.runs_of(name, OTHER_KEY) == tracker.runs_of(f"{name}-other", KEY) == ()


def test_a_model_is_tagged(tracker: Tracker, name: str, package: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="first", tags={})
    uri = tracker.upload(run.run_id, package, "model")
    tracker.ensure_version(name, training_key=KEY, uri=uri, run_id=run.run_id, tags={})

    tracker.tag_model(name, {"owner": "team", "epoch": "1"})
    tracker.tag_model(name, {"epoch": "2"})

    assert dict(tracker.model_tags(name)) == {"owner": "team", "epoch": "2"}
    assert dict(tracker.model_tags(f"{name}-other")) == {}


def test_tags_of_a_model_that_is_not_there_are_refused(tracker: Tracker, name: str) -> None:
    with pytest.raises(ServiceRefusedError):
        tracker.tag_model(name, {"owner": "team"})


def test_an_alias_is_removed_once_and_removing_it_again_is_no_error(tracker: Tracker, name: str, package: Path) -> None:
    run = tracker.ensure_run(name, KEY, name="first", tags={})
    uri = tracker.upload(run.run_id, package, "model")
    tracker.ensure_version(name, training_key=KEY, uri=uri, run_id=run.run_id, tags={})
    for alias in ("champion", "champion-drill"):
        tracker.set_alias(name, alias, 1)

    for _ in range(2):
        tracker.remove_alias(name, "champion-drill")

    assert (tracker.alias(name, "champion-drill"), tracker.alias(name, "champion")) == (None, 1)


@pytest.mark.parametrize("bad", ["Flights", "a\nb", "../x", "a'b", "", "x" * 64])
def test_a_name_that_could_mislead_is_refused(tracker: Tracker, bad: str) -> None:
    with pytest.raises(ServiceRefusedError, match="not a model's name"):
        tracker.newest_version(bad)


@pytest.mark.integration
def test_a_run_and_a_version_have_a_page(mlflow_url: str, name: str, package: Path) -> None:
    tracker = MlflowTracking(mlflow_url, ui_url="https://mlflow.example.com/")
    run = tracker.ensure_run(name, KEY, name="one", tags={})
    uri = tracker.upload(run.run_id, package, "model")

    version = tracker.ensure_version(name, training_key=KEY, uri=uri, run_id=run.run_id, tags={})

    assert run.url.startswith("https://mlflow.example.com/#/experiments/")
    assert run.url.endswith(f"/runs/{run.run_id}")
    assert version.url == f"https://mlflow.example.com/#/models/{name}/versions/1"


class Unreliable(BaseHTTPRequestHandler):
    """Hands requests on, and loses the first replies to what creates something."""

    target = ""
    lost: ClassVar[dict[str, int]] = {}

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        answer = requests.request(self.command, f"{self.target}{self.path}", data=body, headers=headers, timeout=30)
        if self.path.endswith("/create") and self.lost.setdefault(self.path, 0) == 0:
            self.lost[self.path] += 1
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PUT = do_DELETE = relay  # noqa: N815  # the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that http.server uses
        """Stay silent."""


@pytest.mark.integration
def test_a_lost_reply_makes_no_second_run_and_no_second_version(mlflow_url: str, name: str, package: Path) -> None:
    lost: dict[str, int] = {}
    handler = type("Relay", (Unreliable,), {"target": mlflow_url, "lost": lost})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        tracker = MlflowTracking(f"http://127.0.0.1:{relay.server_port}", deadline_s=30)

        run = tracker.ensure_run(name, KEY, name="one", tags={})
        uri = tracker.upload(run.run_id, package, "model")
        version = tracker.ensure_version(name, training_key=KEY, uri=uri, run_id=run.run_id, tags={})
        relay.shutdown()

    direct = MlflowTracking(mlflow_url)
    experiment_id = direct._ensure_experiment(name, direct._deadline())
    assert sorted(path.rpartition("mlflow/")[2] for path in lost) == [
        "experiments/create",
        "model-versions/create",
        "registered-models/create",
        "runs/create",
    ]
    assert len(direct._runs_by_key(experiment_id, KEY, direct._deadline())) == 1
    assert version.version == 1
    assert direct.version(name, 2) is None


def test_what_was_made_and_is_not_found_is_not_made_again() -> None:
    tracker = MlflowTracking("http://127.0.0.1:9", deadline_s=0.5)
    made: list[str] = []

    with pytest.raises(ServiceUnavailableError, match="the run was made, and is not found"):
        tracker._ensure(lambda: None, lambda: made.append("run"), tracker._deadline(), what="the run")

    assert made == ["run"]


class CutShort(Unreliable):
    """Hands requests on, and cuts the first answer with a file's content in half."""

    def relay(self) -> None:
        answer = requests.request(self.command, f"{self.target}{self.path}", timeout=30)
        cut = "mlflow-artifacts" in self.path and self.lost.setdefault("file", 0) == 0
        self.lost["file"] = self.lost.get("file", 0) + cut
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content[: len(answer.content) // 2] if cut else answer.content)
        self.close_connection = cut

    do_GET = relay  # noqa: N815  # the name that http.server looks for


@pytest.mark.integration
def test_a_download_that_was_cut_short_leaves_nothing_of_the_first_try(
    mlflow_url: str, name: str, package: Path, tmp_path: Path
) -> None:
    direct, lost = MlflowTracking(mlflow_url), dict[str, int]()
    uri = direct.upload(direct.ensure_run(name, KEY, name="one", tags={}).run_id, package, "model")
    (tmp_path / "back").mkdir()
    handler = type("Relay", (CutShort,), {"target": mlflow_url, "lost": lost})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()

        back = MlflowTracking(f"http://127.0.0.1:{relay.server_port}", deadline_s=30).download(uri, tmp_path / "back")
        relay.shutdown()

    assert lost == {"file": 1}
    assert contents(back) == contents(package)


@pytest.fixture
def unproxied(mlflow_url: str, name: str, tmp_path: Path) -> MlflowTracking:
    """A tracker whose experiment keeps its files where the server does not reach for us."""
    made = {"name": name, "artifact_location": (tmp_path / "artifacts").as_uri()}
    requests.post(f"{mlflow_url}/api/2.0/mlflow/experiments/create", json=made, timeout=30).raise_for_status()
    return MlflowTracking(mlflow_url, deadline_s=30)


@pytest.mark.integration
def test_files_that_the_server_does_not_proxy_come_back_byte_by_byte(
    unproxied: MlflowTracking, name: str, package: Path, tmp_path: Path
) -> None:
    run = unproxied.ensure_run(name, KEY, name="one", tags={})
    whole, one = tmp_path / "whole", tmp_path / "one"
    whole.mkdir()
    one.mkdir()

    uri = unproxied.upload(run.run_id, package, "model/abc")

    assert (tmp_path / "artifacts" / run.run_id / "artifacts" / "model" / "abc" / "model.skops").is_file()
    assert contents(unproxied.download(uri, whole)) == contents(package)
    assert contents(unproxied.download(f"{uri}/model.skops", one)) == {"model.skops": bytes(range(256)) * 1000}


@pytest.mark.integration
def test_a_file_that_the_server_does_not_proxy_and_that_is_not_there_is_named(
    unproxied: MlflowTracking, name: str, tmp_path: Path
) -> None:
    run = unproxied.ensure_run(name, KEY, name="one", tags={})
    (tmp_path / "back").mkdir()

    with pytest.raises(LifecycleError, match="nothing"):
        unproxied.download(f"runs:/{run.run_id}/nothing", tmp_path / "back")

    assert list((tmp_path / "back").iterdir()) == []


@pytest.mark.integration
def test_a_metric_logged_twice_leaves_one_point(mlflow_url: str, name: str) -> None:
    tracker = MlflowTracking(mlflow_url)
    run = tracker.ensure_run(name, KEY, name="one", tags={})

    for value in (0.7, 0.7, 0.6):
        tracker.log(run.run_id, metrics={"auc": value})

    query = {"run_id": run.run_id, "metric_key": "auc"}
    points = tracker._get("metrics/get-history", query, tracker._deadline())["metrics"]
    assert [point["value"] for point in points] == [0.7, 0.6]


@pytest.mark.integration
def test_what_is_no_mlflow_is_named(mlflow_url: str) -> None:
    with pytest.raises(ServiceRefusedError, match=r"not MLflow's API|refused"):
        MlflowTracking(f"{mlflow_url}/nowhere").newest_version("flights")


def test_a_server_that_is_down_is_given_up_at_the_deadline() -> None:
    tracker = MlflowTracking(f"http://127.0.0.1:{free_port()}", deadline_s=0.5, connection="mlflow_default")
    started = time.monotonic()

    with pytest.raises(ServiceUnavailableError, match=r"did not answer within 0.5 s.*connection 'mlflow_default'"):
        tracker.newest_version("flights")

    assert time.monotonic() - started < 3


def test_a_password_is_in_no_message() -> None:
    tracker = MlflowTracking(f"http://anna:secret@127.0.0.1:{free_port()}", deadline_s=0.2)

    with pytest.raises(LifecycleError) as caught:
        tracker.newest_version("flights")

    assert "secret" not in str(caught.value)
    assert "anna" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
