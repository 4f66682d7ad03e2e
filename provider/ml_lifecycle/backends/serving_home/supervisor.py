"""supervisord: its configuration as text, and what it says and does through its socket."""

from __future__ import annotations

import http.client
import shlex
import socket
import xmlrpc.client
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.parsers.expat import ExpatError

from ml_lifecycle.core.errors import ServiceRefusedError, ServiceUnavailableError

_TIMEOUT_S: Final = 5.0
_ENDING, _BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING, _ALREADY_ADDED, _STILL_RUNNING = 6, 10, 60, 70, 90, 91
"""Faults of its interface: http://supervisord.org/api.html."""
_ENDED: Final = ("BACKOFF", "EXITED", "FATAL", "UNKNOWN")
_TO_START: Final = ("FATAL", "STOPPED")
"""What a program that shall run is not left in: it was ended a moment ago, or by hand, or gave up."""

_TOP = """\
; Written by ml-lifecycle; what is changed here by hand is written over.
[unix_http_server]
file = {socket}
chmod = 0600

[supervisord]
logfile = {logs}/supervisord.log
logfile_maxbytes = 5MB
logfile_backups = 2
pidfile = {folder}/supervisord.pid
childlogdir = {logs}
directory = {folder}
umask = 077
identifier = ml-lifecycle

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}

[include]
files = {folder}/programs/*.conf
"""
_PROGRAM = """
[program:{name}]
command = {command}
autostart = true
autorestart = true
startsecs = {start_s}
startretries = 20
stopsignal = {stop_signal}
stopwaitsecs = {stop_s}
redirect_stderr = true
stdout_logfile = {logs}/{name}.log
stdout_logfile_maxbytes = 5MB
stdout_logfile_backups = 1
environment = PYTHONUNBUFFERED="1"
"""


@dataclass(frozen=True)
class Program:
    """What supervisord keeps running."""

    name: str
    command: Sequence[str]
    start_s: int = 5
    """How long it has to run before it counts as started; what ends earlier is started again later and later."""
    stop_signal: str = "TERM"
    stop_s: int = 30

    def text(self, logs: Path) -> str:
        """Its section of the configuration."""
        command = shlex.join(self.command).replace("%", "%%")
        return _PROGRAM.format(
            name=self.name,
            command=command,
            start_s=self.start_s,
            stop_signal=self.stop_signal,
            stop_s=self.stop_s,
            logs=logs,
        )


@dataclass(frozen=True)
class Process:
    """A program at this moment."""

    state: str
    pid: int
    why: str
    """Why it does not run."""

    @property
    def ended(self) -> bool:
        """Whether it ended, and nobody asked it to."""
        return self.state in _ENDED


def configuration(folder: Path, control: Path, logs: Path, programs: Sequence[Program]) -> str:
    """What runs these programs, and those of the folder ``programs``."""
    return _TOP.format(folder=folder, socket=control, logs=logs) + "".join(one.text(logs) for one in programs)


@dataclass(frozen=True)
class Supervisor:
    """supervisord's control socket."""

    path: Path

    def processes(self) -> dict[str, Process]:
        """Every program by its name."""
        found: list[dict[str, Any]] = self._call("getAllProcessInfo")
        return {
            str(one["name"]): Process(
                state=str(one["statename"]),
                pid=int(one["pid"]),
                why=str(one["spawnerr"] or one["description"] or f"exit status {one['exitstatus']}"),
            )
            for one in found
        }

    def update(self, wanted: Collection[str]) -> bool:
        """Start programs that were added to the configuration, end those that were taken out; returns without waiting.

        :param wanted: Names of all programs that shall run.
        :returns: Whether nothing is left to do.
        """
        processes = self.processes()
        if missing := set(wanted) - set(processes):
            self._call("reloadConfig")
            for name in sorted(missing):
                self._call("addProcessGroup", name, but=(_ALREADY_ADDED,))
        idle = sorted(set(processes) - set(wanted))
        for name in idle:
            self._call("stopProcessGroup", name, False, but=(_BAD_NAME, _NOT_RUNNING))  # noqa: FBT003  # its interface
            self._call("removeProcessGroup", name, but=(_BAD_NAME, _STILL_RUNNING))
        still = [name for name in wanted if name in processes and processes[name].state in _TO_START]
        for name in still:
            self._call("startProcess", name, False, but=(_ALREADY_STARTED,))  # noqa: FBT003  # its interface
        return not (missing or idle or still)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal to a program."""
        self._call("signalProcess", name, signal, but=(_NOT_RUNNING,))

    def shut_down(self) -> None:
        """End every program, then itself; returns without waiting."""
        self._call("shutdown")

    def listens(self) -> bool:
        """Whether there is one at all, be it at its end."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_TIMEOUT_S)
            return probe.connect_ex(str(self.path)) == 0

    def pid(self) -> int:
        """Its own."""
        return int(self._call("getPID"))

    def _call(self, name: str, *arguments: Any, but: Sequence[int] = ()) -> Any:
        connection = _Connection(self.path)
        try:
            body = xmlrpc.client.dumps(arguments, f"supervisor.{name}")
            connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            (answer,), _ = xmlrpc.client.loads(connection.getresponse().read())
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in but:
                return None
            if fault.faultCode == _ENDING:
                raise _not_up(self.path, "they are being ended") from None
            raise ServiceRefusedError(
                f"supervisord refuses {name}: {fault.faultString}",
                where=str(self.path),
                way_out="look at logs/supervisord.log beside it",
            ) from None
        except (OSError, http.client.HTTPException, ValueError, ExpatError, xmlrpc.client.Error) as error:
            raise _not_up(self.path, type(error).__name__) from None
        finally:
            connection.close()
        return answer


def _not_up(path: Path, why: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"the model servers of this machine are not up ({why})",
        where=str(path.parent),
        way_out=f"run `ml-lifecycle serving up --home {path.parent}`",
    )


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Over the socket's path instead of an address."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))
