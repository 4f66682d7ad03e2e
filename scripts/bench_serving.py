"""What a request costs this package's model server beside MLflow's: ``make bench-serving``.

Both serve one package, in turn on the same machine, and are asked the same requests of one row by a client in a
process of its own: each on a connection that stays open, so many a second, whether or not the last one was answered.
Ours keeps its prediction log meanwhile; MLflow's server has none. CPU is user and system time of all processes of a
server, divided by the requests. MLflow's server is measured as it comes, and with ``OMP_NUM_THREADS=1``, which ours
sets for itself: the goal holds against both. Ends with 1 where it is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_connection import OpenConnection

if TYPE_CHECKING:
    import pandas as pd

REPOSITORY = Path(__file__).resolve().parent.parent
OUTPUT = REPOSITORY / "benchmarks" / "serving.json"
GOAL = 0.60
"""Of MLflow's CPU a request."""
OURS = "ml_lifecycle.serving.server"
MLFLOW, MLFLOW_ALONE = "mlflow models serve", "mlflow models serve, one thread"
NUMBERS = ("hour", "minute", "weekday", "distance", "temp", "dewp", "humid", "wind_dir", "wind_speed", "precip")
CATEGORIES = {"carrier": 16, "origin": 3, "dest": 105}
"""As the flights of the demo have them, with the number of different values."""
TRAINING_ROWS = 20_000
MISSING = 0.05
SEED = 20130131
CONNECTIONS = 16
START_S = 120.0
STOP_S = 20.0
ANSWER_S = 10.0
WARM_UP = 200
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


# --- The package -----------------------------------------------------------------------------------------------------


def write_package(folder: Path) -> list[bytes]:
    """The package of a model like the demo's, as training makes it, and the bodies of some requests."""
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.files import write_parquet
    from ml_lifecycle.backends.ledger.sql import SqlLedger
    from ml_lifecycle.backends.tracking.local import LocalTracking
    from ml_lifecycle.core.contracts import Columns, DatasetRef
    from ml_lifecycle.stages.runner import Tools
    from ml_lifecycle.stages.training import TrainingJob, train

    table = flights()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tracking = LocalTracking(work / "tracking")
        tools = Tools(
            data=LocalStore(work / "data"),
            project=work,
            tracking=tracking,
            registry=tracking,
            ledger=SqlLedger(f"sqlite:///{work / 'ledger.db'}"),
            environment="bench",
        )
        fingerprint = tools.data.publish("flights", lambda into: write_parquet(table, into / "data.parquet"))
        dataset = DatasetRef(
            uri="flights",
            rows=len(table),
            fingerprint=fingerprint,
            columns=Columns(key="id", time="at", target="late"),
            partitions=("2013-01",),
        )
        job = {
            "request": {"model": "flights", "partition": "2013-01", "reason": "bench", "requester": "bench"},
            "dataset": dataset,
            "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
            "hyperparameters": {"max_iter": 80},
            "seed": 7,
        }
        model = train(TrainingJob.model_validate(job), tools)
        folder.mkdir()
        shutil.copytree(tools.tracking.download(model.uri, folder.with_name("download")), folder, dirs_exist_ok=True)
    asked = json.loads(table[[*NUMBERS, *CATEGORIES]].head(64).to_json(orient="split", index=False))
    return [
        json.dumps({"dataframe_split": {"columns": asked["columns"], "data": [row]}}).encode() for row in asked["data"]
    ]


def flights() -> pd.DataFrame:
    """Invented flights: some temperatures are missing."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(SEED)
    columns: dict[str, Any] = {
        "id": [f"f{number:06d}" for number in range(TRAINING_ROWS)],
        "at": pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(np.arange(TRAINING_ROWS), unit="min"),
        **{name: rng.normal(size=TRAINING_ROWS) for name in NUMBERS},
    }
    columns["temp"] = np.where(rng.random(TRAINING_ROWS) < MISSING, np.nan, columns["temp"])
    for name, values in CATEGORIES.items():
        named = np.array([f"{name[0]}{number:03d}" for number in range(values)], dtype=object)
        columns[name] = named[rng.integers(values, size=TRAINING_ROWS)]
    late = columns["distance"] + columns["hour"] + rng.normal(size=TRAINING_ROWS) > 0
    table: pd.DataFrame = pd.DataFrame({**columns, "late": late})
    return table


# --- The servers -----------------------------------------------------------------------------------------------------


def command(server: str, package: Path, digest: str, port: int, log: Path) -> list[str]:
    """How each server is started as its documentation says."""
    if server != OURS:
        program = Path(sys.executable).with_name("mlflow")
        return [str(program), *f"models serve -m {package} --env-manager local -h 127.0.0.1 -p {port}".split()]
    told = f"--package {package} --digest {digest} --model flights --version 1 --port {port} --log {log}"
    return [sys.executable, "-m", OURS, *told.split()]


class Running:
    """A server and its processes."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def members(self) -> Iterator[int]:
        """Processes of the session that the server began."""
        for path in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if path.name.isdigit() and os.getsid(int(path.name)) == self.process.pid:
                    yield int(path.name)

    def cpu_s(self) -> float:
        """User and system time so far, that of ended children included."""
        total = 0
        for member in self.members():
            with suppress(OSError):
                fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15]))
        return total / TICKS

    def memory_mb(self) -> float:
        """Resident, summed over the processes."""
        pages = 0
        for member in self.members():
            with suppress(OSError):
                pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
        return pages * PAGE / 1_000_000


@contextmanager
def started(server: str, package: Path, digest: str, folder: Path) -> Iterator[tuple[Running, float]]:
    """A server that answers, and how many seconds it took until it did."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    # MLflow looks for uvicorn on the path.
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "provider"), "PATH": programs}
    if server == MLFLOW_ALONE:
        environment["OMP_NUM_THREADS"] = "1"
    begun = time.perf_counter()
    with (folder / "server.txt").open("wb") as output:
        process = subprocess.Popen(
            command(server, package, digest, port, folder / "log"),
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(process, port)
    try:
        _wait(running, folder / "server.txt")
        yield running, time.perf_counter() - begun
    finally:
        _stop(running)


def _wait(running: Running, output: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if running.process.poll() is not None:
            break
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{running.port}/ping", timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit(f"the server did not start:\n{output.read_text()[-2000:]}")


def _stop(running: Running) -> None:
    members = list(running.members())
    for member in members:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        running.process.wait(STOP_S)
    for member in running.members():
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def ask(port: int, body: bytes) -> Any:
    """One request's predictions."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310  # as above
        return json.load(answer)["predictions"]


# --- The client ------------------------------------------------------------------------------------------------------


async def client(port: int, bodies: Sequence[bytes], rate: float, requests: int) -> dict[str, Any]:
    """Ask at a steady rate over open connections; what is late is not made up for by asking less."""
    free: asyncio.Queue[OpenConnection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(OpenConnection(port))
    latencies: list[float] = []
    failed = 0

    async def one(number: int, due: float) -> None:
        nonlocal failed
        connection = await free.get()
        try:
            answer = await connection.post("/invocations", bodies[number % len(bodies)])
            failed += answer.status != 200  # noqa: PLR2004  # as HTTP has it
        except (OSError, EOFError, asyncio.TimeoutError, ValueError):
            failed += 1
        latencies.append(1000 * (time.perf_counter() - due))
        free.put_nowait(connection)

    begun, tasks = time.perf_counter(), []
    for number in range(requests):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    cuts = statistics.quantiles(latencies, n=100)
    return {"requests": requests, "failed": failed, "p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98]}


def paced(port: int, bodies: Path, rate: float, requests: int) -> dict[str, Any]:
    """The client in a process of its own."""
    told = [sys.executable, __file__, "--client", str(port), "--bodies", str(bodies)]
    done = subprocess.run(
        [*told, "--rate", str(rate), "--requests", str(requests)],
        capture_output=True,
        text=True,
        check=True,
        timeout=requests / rate + 60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def flat_out(port: int, body: bytes, folder: Path, seconds: int) -> float | None:
    """Requests a second that 8 connections get answered; ``None`` where wrk is not installed."""
    if shutil.which("wrk") is None:
        return None
    script = folder / "post.lua"
    headers = 'wrk.headers["Content-Type"] = "application/json"'
    script.write_text(f'wrk.method = "POST"\n{headers}\nwrk.body = {json.dumps(body.decode())}\n')
    address = f"http://127.0.0.1:{port}/invocations"
    done = subprocess.run(
        ["wrk", "-t1", "-c8", f"-d{seconds}s", "-s", str(script), address],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    if "Non-2xx" in done.stdout:
        raise SystemExit(f"requests failed:\n{done.stdout}")
    return next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("Requests/sec"))


# --- The measurement -------------------------------------------------------------------------------------------------


def measure(server: str, package: Path, bodies: Sequence[bytes], options: argparse.Namespace) -> dict[str, Any]:
    """One server from its start to its end."""
    from ml_lifecycle.backends.files import digest_of_folder

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bodies.json").write_text(json.dumps([body.decode() for body in bodies]))
        with started(server, package, digest_of_folder(package), folder) as (running, start_s):
            start_cpu_s = running.cpu_s()
            answers = [ask(running.port, body)[0] for body in bodies]
            paced(running.port, folder / "bodies.json", options.rate, WARM_UP)
            before = running.cpu_s()
            told = paced(running.port, folder / "bodies.json", options.rate, options.requests)
            used = running.cpu_s() - before
            return {
                "start_s": start_s,
                "start_cpu_s": start_cpu_s,
                "cpu_ms": 1000 * used / options.requests,
                **told,
                "memory_mb": running.memory_mb(),
                "flat_out": flat_out(running.port, bodies[0], folder, options.seconds),
                "answers": [one[1] if isinstance(one, list) else one for one in answers],
            }


def summary(rounds: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds, and the ratio that the goal is about."""
    figures = {}
    for server, found in rounds.items():
        names = [name for name in found[0] if name not in {"answers", "requests", "failed", "flat_out"}]
        figures[server] = {name: round(statistics.median(one[name] for one in found), 3) for name in names}
        figures[server]["failed"] = sum(one["failed"] for one in found)
        if all(one["flat_out"] is not None for one in found):
            figures[server]["flat_out_rps"] = round(statistics.median(one["flat_out"] for one in found), 1)
    ratios = {
        other: statistics.median(
            ours["cpu_ms"] / theirs["cpu_ms"] for ours, theirs in zip(rounds[OURS], rounds[other], strict=True)
        )
        for other in (MLFLOW, MLFLOW_ALONE)
    }
    return {
        "machine": {"python": platform.python_version(), "cpus": os.cpu_count()},
        "rounds": options.rounds,
        "rate_rps": options.rate,
        "requests": options.requests,
        "goal": GOAL,
        "ratios": {other: round(ratio, 3) for other, ratio in ratios.items()},
        "largest_difference": max(
            abs(one - other)
            for ours, theirs in zip(rounds[OURS], rounds[MLFLOW], strict=True)
            for one, other in zip(ours["answers"], theirs["answers"], strict=True)
        ),
        "servers": figures,
    }


def print_table(found: dict[str, Any]) -> None:
    """The figures, side by side."""
    labels = {
        "cpu_ms": "CPU a request, ms",
        "p50_ms": f"p50 at {found['rate_rps']:g}/s, ms",
        "p95_ms": f"p95 at {found['rate_rps']:g}/s, ms",
        "p99_ms": f"p99 at {found['rate_rps']:g}/s, ms",
        "flat_out_rps": "requests/s flat out",
        "memory_mb": "memory, MB",
        "start_s": "start-up, s",
        "start_cpu_s": "start-up, CPU s",
        "failed": "failed requests",
    }
    print(f"{'':24}{'ours':>12}{'MLflow':>12}{'one thread':>12}")
    for name, label in labels.items():
        cells = [found["servers"][server].get(name) for server in (OURS, MLFLOW, MLFLOW_ALONE)]
        print(f"{label:24}" + "".join(f"{'-' if cell is None else f'{cell:,.2f}':>12}" for cell in cells))
    for other, ratio in found["ratios"].items():
        print(f"CPU a request: {ratio:.0%} of {other} (goal: at most {GOAL:.0%})")
    print(f"largest difference of an answer: {found['largest_difference']:g}")


def main() -> int:
    """Measure, print, and write the result; or be the client."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each server is measured, in turn")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--requests", type=int, default=4000, help="requests that are counted in each round")
    parser.add_argument("--seconds", type=int, default=5, help="how long wrk asks as fast as it can")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bodies", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client is not None:
        bodies = [body.encode() for body in json.loads(options.bodies.read_text())]
        print(json.dumps(asyncio.run(client(options.client, bodies, options.rate, options.requests))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "package"
        bodies = write_package(package)
        rounds: dict[str, list[dict[str, Any]]] = {OURS: [], MLFLOW: [], MLFLOW_ALONE: []}
        for _ in range(options.rounds):
            for server, measured in rounds.items():
                measured.append(measure(server, package, bodies, options))
    found = summary(rounds, options)
    OUTPUT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1)) if options.json else print_table(found)
    failed = sum(one["failed"] for one in found["servers"].values())
    return int(max(found["ratios"].values()) > GOAL or failed > 0 or found["largest_difference"] > 0)


if __name__ == "__main__":
    sys.exit(main())
