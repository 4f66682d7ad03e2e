"""A whole Airflow with an MLflow server beside it, below one folder and on 127.0.0.1 only.

The four processes are those of ``airflow standalone``. They are started one by one because its scheduler and triggerer
open log servers on every interface; with LocalExecutor the API server reads the logs from the disk instead.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

REPOSITORY = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_DEADLINE_S = 180.0
STOP_DEADLINE_S = 20.0
PROC = Path("/proc")
MARKER = ".made-by-ml-lifecycle"
HIGHEST_PORT = 65535
Session = tuple[int, int | None]
"""The number of a process session, which is its first process, and when that started."""
DEFAULT_PORTS = {"airflow": 8080, "mlflow": 5000}


class DeploymentError(Exception):
    """The local deployment cannot be started, used or stopped; the text says why and what to do."""


class LocalDeployment:
    """Airflow on SQLite with LocalExecutor and MLflow on SQLite, all files below ``home``.

    :param home: Folder of everything that the deployment writes.
    :param ports: Ports by service; one that is not named is the first free one from 8080 (Airflow) or 5000 (MLflow).
    :param dags: The DAG folder; the project is the folder that holds it.
    :param extra_environment: Variables that every process gets beside the deployment's own.
    """

    def __init__(
        self,
        home: Path,
        ports: dict[str, int] | None = None,
        *,
        dags: Path = REPOSITORY / "dags",
        extra_environment: dict[str, str] | None = None,
    ) -> None:
        self.home = home.resolve()
        self.dags = dags
        self.wanted_ports = ports or {}
        self.extra_environment = extra_environment or {}
        self.state_file = self.home / "processes.json"
        self.access_file = self.home / "up.json"
        self.data_root = self.home / "data"
        self.ledger_url = f"sqlite:///{self.data_root / 'ledger.db'}"
        self._children: list[subprocess.Popen[bytes]] = []

    # --- what others read ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """Ports and process sessions of what was started; empty before."""
        return json.loads(self.state_file.read_text()) if self.state_file.exists() else {}

    @property
    def airflow_url(self) -> str:
        """Where Airflow's page and API are."""
        return f"http://{HOST}:{self.state['ports']['airflow']}"

    @property
    def mlflow_url(self) -> str:
        """Where MLflow's page and API are."""
        return f"http://{HOST}:{self.state['ports']['mlflow']}"

    @property
    def users(self) -> dict[str, str]:
        """Password by user name."""
        passwords: dict[str, str] = json.loads((self.home / "passwords.json").read_text())
        return passwords

    def log(self, process: str) -> Path:
        """The log file of one process."""
        return self.home / "logs" / f"{process}.log"

    # --- starting and stopping ----------------------------------------------------------------------------------------

    def running(self) -> bool:
        """Whether any process of this deployment is alive."""
        return any(self.members(session) for session in self.state.get("sessions", {}).values())

    def start(self, say: Callable[[str], None] = print) -> None:
        """Start everything and wait until it answers.

        :raises DeploymentError: it runs already, a port is taken, or a process ended or did not answer in time.
        """
        if self.running():
            raise DeploymentError(f"{self.home} is running already; end it with: make down")
        self.claim()
        for folder in ("airflow", "mlflow", "logs", "data"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        ports = {name: self._port(name, default) for name, default in DEFAULT_PORTS.items()}
        self._write_private(self.state_file, {"ports": ports, "sessions": {}})
        self._write_passwords()
        try:
            self._migrate(say)
            self._start_processes(ports)
            self._await_ready(say)
        except BaseException:
            self.stop()
            raise
        access = {
            "airflow": self.airflow_url,
            "users": self.users,
            "mlflow": self.mlflow_url,
            "ledger": self.ledger_url,
        }
        self._write_private(self.access_file, access)

    def stop(self) -> None:
        """End every process of the deployment, children included.

        :raises DeploymentError: a process is still there after being killed.
        """
        sessions = list(self.state.get("sessions", {}).values())
        for number, patience in ((signal.SIGTERM, STOP_DEADLINE_S / 2), (signal.SIGKILL, STOP_DEADLINE_S / 2)):
            members = [pid for session in sessions for pid in self.members(session)]
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + patience
            while members and time.monotonic() < deadline:
                members = [pid for session in sessions for pid in self.members(session)]
                time.sleep(0.1)
            if not members:
                break
        else:
            raise DeploymentError(f"still running after SIGKILL: {members}")
        for child in self._children:
            child.wait(timeout=STOP_DEADLINE_S)
        self._children.clear()
        self.access_file.unlink(missing_ok=True)
        self.state_file.unlink(missing_ok=True)

    def erase(self) -> None:
        """Remove everything that an earlier start left behind.

        :raises DeploymentError: it is running, or the folder holds something else.
        """
        if self.running():
            raise DeploymentError(f"{self.home} is running; end it first with: make down")
        self.claim()
        shutil.rmtree(self.home)
        self.claim()

    def claim(self) -> None:
        """Mark the home as the deployment's own, so that it may be erased.

        :raises DeploymentError: the folder was there before and holds something else.
        """
        marker = self.home / MARKER
        if self.home.exists() and any(self.home.iterdir()) and not marker.exists():
            raise DeploymentError(f"{self.home} is not a folder of ours; choose an empty one: DEMO_HOME=...")
        self.home.mkdir(parents=True, exist_ok=True)
        marker.touch()

    # --- how ----------------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The variables that every process of the deployment gets."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            # Bytecode that is not kept costs seconds at every import; Airflow's own settings come from here alone.
            if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith(("AIRFLOW", "MLFLOW"))
        }
        ports = self.state["ports"]
        mlflow = {"conn_type": "mlflow", "host": HOST, "port": ports["mlflow"], "schema": "http"}
        own = {
            "AIRFLOW_HOME": str(self.home / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{ports['airflow']}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow' / 'airflow.db'}",
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(ports["airflow"]),
            "AIRFLOW__API__BASE_URL": f"http://{HOST}:{ports['airflow']}",
            "AIRFLOW__ML_LIFECYCLE__DATA_ROOT": str(self.data_root),
            "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps(mlflow),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        return inherited | shared_settings() | own | self.extra_environment

    def _port(self, name: str, default: int) -> int:
        wanted = self.wanted_ports.get(name)
        if wanted is not None:
            if not _is_free(wanted):
                raise DeploymentError(f"port {wanted} is taken; choose another: {name.upper()}_PORT=...")
            return wanted
        for port in range(default, default + 100):
            if _is_free(port):
                return port
        raise DeploymentError(f"no free port from {default} to {default + 99}; choose one: {name.upper()}_PORT=...")

    def _write_private(self, path: Path, value: object) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            json.dump(value, file, indent=2)

    def _write_passwords(self) -> None:
        path = self.home / "passwords.json"
        if not path.exists():
            users = self.environment()["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(",")
            self._write_private(path, {user.split(":")[0]: secrets.token_urlsafe(9) for user in users})

    def _migrate(self, say: Callable[[str], None]) -> None:
        database = self.home / "airflow" / "airflow.db"
        if not database.exists():
            say("preparing Airflow's database")
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        with self.log("migrate").open("wb") as log:
            done = subprocess.run(
                command, env=self.environment(), stdout=log, stderr=log, timeout=START_DEADLINE_S, check=False
            )
        if done.returncode:
            raise DeploymentError(f"airflow db migrate failed; see {self.log('migrate')}")
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA journal_mode=WAL")

    def _start_processes(self, ports: dict[str, int]) -> None:
        mlflow = self.home / "mlflow"
        python = sys.executable
        commands = {
            "mlflow": [
                *(python, "-m", "mlflow", "server", "--host", HOST, "--port", str(ports["mlflow"]), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{mlflow / 'mlflow.db'}"),
                *("--artifacts-destination", str(mlflow / "artifacts")),
            ],
            "api-server": [python, "-m", "airflow", "api-server"],
            "scheduler": [python, "-m", "airflow", "scheduler", "--skip-serve-logs"],
            "dag-processor": [python, "-m", "airflow", "dag-processor"],
            "triggerer": [python, "-m", "airflow", "triggerer", "--skip-serve-logs"],
        }
        sessions: dict[str, Session] = {}
        environment = self.environment()
        for name, command in commands.items():
            with self.log(name).open("ab") as log:
                # A session of its own: all that a process starts can be found and ended by it.
                process = subprocess.Popen(
                    command, env=environment, cwd=self.home, stdout=log, stderr=log, start_new_session=True
                )
            self._children.append(process)
            sessions[name] = (process.pid, _start_time(process.pid))
            self._write_private(self.state_file, {"ports": ports, "sessions": sessions})

    def _await_ready(self, say: Callable[[str], None]) -> None:
        say(f"starting MLflow on {self.mlflow_url} and Airflow on {self.airflow_url}")
        deadline = time.monotonic() + START_DEADLINE_S
        waiting: dict[str, Callable[[], bool]] = {"mlflow": self._mlflow_answers, "airflow": self._airflow_is_healthy}
        while waiting:
            for process, session in self.state["sessions"].items():
                if not self.members(session):
                    raise DeploymentError(f"{process} ended while starting; see {self.log(process)}")
            waiting = {name: ready for name, ready in waiting.items() if not ready()}
            if time.monotonic() > deadline:
                raise DeploymentError(f"no answer from {', '.join(waiting)} in time; see {self.home / 'logs'}")
            time.sleep(0.25)

    def _mlflow_answers(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.mlflow_url}/health", timeout=5).ok
        return False

    def _airflow_is_healthy(self) -> bool:
        with suppress(requests.RequestException, ValueError):
            health = requests.get(f"{self.airflow_url}/api/v2/monitor/health", timeout=5).json()
            parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
            return all(health[part]["status"] == "healthy" for part in parts)
        return False

    def members(self, session: Session) -> list[int]:
        """Living processes of a session; none if its number was given to a stranger since."""
        leader, started_at = session
        if _start_time(leader) not in (None, started_at):
            return []
        return [pid for pid in _processes() if _session(pid) == leader and not _is_zombie(pid)]


def shared_settings() -> dict[str, str]:
    """The settings that this deployment shares with docker-compose.yaml."""
    lines = (REPOSITORY / "deploy" / "airflow.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@contextmanager
def started(deployment: LocalDeployment, say: Callable[[str], None]) -> Iterator[LocalDeployment]:
    """The deployment, running; ended whatever happens, also on SIGTERM and SIGHUP."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        deployment.start(say)
        yield deployment
    finally:
        deployment.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _processes() -> list[int]:
    if PROC.exists():
        return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    listing = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True, timeout=30)
    return [int(line) for line in listing.stdout.split()]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` from the state on; empty where there is no such process, or no ``/proc``."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _is_zombie(pid: int) -> bool:
    return _stat(pid)[:1] == ["Z"]


def _start_time(pid: int) -> int | None:
    """Ticks from the machine's start to the process's; ``None`` where that cannot be told."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def settings() -> tuple[Path, dict[str, int]]:
    """Home and ports, from ``DEMO_HOME``, ``AIRFLOW_PORT`` and ``MLFLOW_PORT``; empty values count as unset.

    :raises SystemExit: a port is not a number.
    """
    home = Path(os.environ.get("DEMO_HOME") or REPOSITORY / ".demo")
    ports: dict[str, int] = {}
    for name in DEFAULT_PORTS:
        value = os.environ.get(f"{name.upper()}_PORT")
        if value and not (value.isdigit() and 0 < int(value) <= HIGHEST_PORT):
            raise SystemExit(f"{name.upper()}_PORT is {value!r}; it must be a number from 1 to 65535")
        if value:
            ports[name] = int(value)
    return home, ports


def land(deployment: LocalDeployment, say: Callable[[str], None]) -> None:
    """Put the first half of 2013 into the deployment's data root; months that are there stay as they are."""
    deployment.claim()
    say("landing the flights that left New York from January to June 2013")
    command = [sys.executable, "-m", "include.flight_delays.land"]
    command += ["--data-root", str(deployment.data_root), "--months", "1-6"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise DeploymentError(f"the flights could not be landed: {done.stderr.strip()[-2000:]}")
