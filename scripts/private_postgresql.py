"""A PostgreSQL of its own below a temporary folder, from Debian's package; ended by the process that started it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

INSTALLED = Path("/usr/lib/postgresql")
USERS = ("postgres", "nobody")
"""Who the server runs as where root starts it, which it refuses to run as."""
START_S = 60
STOP_S = 30
WAY_OUT = "install it: apt-get install --yes postgresql"


class PostgresqlMissingError(RuntimeError):
    """This machine cannot start a PostgreSQL; the message says what to install."""


@dataclass(frozen=True)
class Server:
    """One running server."""

    port: int
    password: str
    numbers: Iterator[int]

    def url(self, database: str) -> str:
        """SQLAlchemy's address of a database, password included."""
        return f"postgresql+psycopg://owner:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The address of an empty database."""
        name = f"ledger_{next(self.numbers)}"
        self.run(f"CREATE DATABASE {name}", database="postgres")
        return self.url(name)

    def run(self, statement: str, *, database: str) -> None:
        """Run one statement as the server's owner."""
        import psycopg

        with psycopg.connect(self.url(database).replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def running(*, durable: bool = False) -> Iterator[Server]:
    """Start a server, and end it afterwards.

    :param durable: Wait for the disk at each commit, as a real deployment does.
    :raises PostgresqlMissingError: no server is installed.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="ml-lifecycle-postgresql-"))
    server = Server(port=_free_port(), password=secrets.token_urlsafe(16), numbers=count(1))
    try:
        as_user = _as_user(folder)
        _make_cluster(programs, folder, server, as_user)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *_options(server, durable=durable)],
                stdout=log,
                stderr=log,
                cwd=folder,
                **as_user,
            )
        try:
            _wait_for(server, process, folder / "log")
            yield server
        finally:
            _end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = [path.parent for path in INSTALLED.glob("*/bin/postgres")]
    if not found:
        raise PostgresqlMissingError(f"no PostgreSQL is installed below {INSTALLED}; {WAY_OUT}")
    return max(found, key=lambda path: float(path.parent.name))


def _as_user(folder: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    for name in USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise PostgresqlMissingError(f"there is no user {' or '.join(USERS)} to run PostgreSQL as; {WAY_OUT}")


def _make_cluster(programs: Path, folder: Path, server: Server, as_user: dict[str, Any]) -> None:
    secret = folder / "password"
    secret.write_text(server.password)
    if as_user:
        os.chown(secret, as_user["user"], as_user["group"])
    secret.chmod(0o600)
    options = ["--username=owner", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
    done = subprocess.run(
        [programs / "initdb", "-D", folder / "data", *options, "--no-sync"],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
        cwd=folder,
        **as_user,
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed: {done.stderr[-2000:]}")
    secret.unlink()


def _options(server: Server, *, durable: bool) -> list[str]:
    settings = {"listen_addresses": "127.0.0.1", "port": server.port, "unix_socket_directories": ""}
    settings |= {} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + START_S
    while True:
        try:
            return server.run("SELECT 1", database="postgres")
        except psycopg.OperationalError as error:  # noqa: PERF203  # it is not there until it is
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGQUIT)  # at once: nobody reads this data again
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
