"""Small packages and real model servers on this machine, each ended by whoever started it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.golden import golden_rows, write_golden
from ml_lifecycle.backends.models.inputs import CATEGORY, NUMBER, predict, prepare
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.stages import training

PROJECT = Path(__file__).resolve().parent.parent.parent
INPUTS = {"distance": NUMBER, "carrier": CATEGORY, "temp": NUMBER}
Kind = Literal["late or not", "one of three", "a number"]
CLASSES: Mapping[Kind, tuple[Any, ...]] = {
    "late or not": (False, True),
    "one of three": ("early", "late", "on time"),
    "a number": (),
}
START_S = 60.0


def inputs(rows: int = 120) -> pd.DataFrame:
    """Flights; some carriers and temperatures are missing."""
    rng = np.random.default_rng(5)
    carriers: Any = rng.choice(np.array(["AA", "B6", "UA"], dtype=object), rows)
    carriers[rng.random(rows) < 0.1] = None
    table: pd.DataFrame = pd.DataFrame(
        {
            "distance": rng.normal(size=rows),
            "carrier": carriers,
            "temp": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        }
    )
    return table


def fitted(estimator: Any, kind: Kind = "late or not") -> Any:
    """The estimator behind the preprocessing that training gives it."""
    table = prepare(inputs(), INPUTS, where="tests")
    truth = table["distance"].to_numpy() + (table["carrier"] == "B6").to_numpy()
    target: Any = truth
    if kind == "late or not":
        target = truth > 0.5
    elif kind == "one of three":
        target = np.array(["early", "on time", "late"])[np.digitize(truth, [-0.5, 0.5])]
    return training._pipeline(estimator, INPUTS).fit(table, target)


def info_of(kind: Kind = "late or not") -> PackageInfo:
    """What such a package says of itself."""
    return PackageInfo(
        name="flights",
        format="skops",
        training_key="k",
        features=None,
        features_digest=None,
        inputs=INPUTS,
        classes=CLASSES[kind],
    )


def write_package(folder: Path, model: Any, kind: Kind = "late or not") -> str:
    """A package of a fitted model; returns its digest."""
    info, table = info_of(kind), inputs()
    SkopsFormat().save(model, folder, info, example=table.head(2))
    golden = golden_rows(table, info.inputs)
    write_golden(folder, golden, predict(model, info, golden))
    return digest_of_folder(folder)


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class ModelServer:
    """A server that answers."""

    port: int
    process: subprocess.Popen[bytes]
    output: Path

    def get(self, path: str) -> Answer:
        return self._send(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def invoke(self, body: Any, content_type: str = "application/json", **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self._send(urllib.request.Request(f"http://127.0.0.1:{self.port}/invocations", data=data, headers=told))

    def _send(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=20) as found:  # noqa: S310  # a server of ours
                return Answer(found.status, dict(found.headers), found.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[ModelServer]:
    """A model server that listens; its output goes below ``folder``."""
    port = free_port()
    output = folder / f"server-{port}.txt"
    told = {**os.environ, "PYTHONPATH": str(PROJECT / "provider"), "ML_LIFECYCLE_PORT": str(port)}
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ml_lifecycle.serving.server", *arguments],
            env={**told, **(environment or {})},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    server = ModelServer(port, process, output)
    try:
        _wait(server)
        yield server
    finally:
        process.kill()
        process.wait(20)


def _wait(server: ModelServer) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{server.output.read_text()}")
