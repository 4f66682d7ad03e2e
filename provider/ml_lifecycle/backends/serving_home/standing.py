"""Starting and ending the supervisor of a home, with HAProxy and the guard."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ml_lifecycle.backends.serving_home.control import GUARD, HAPROXY, STANDING, settle
from ml_lifecycle.backends.serving_home.home import Home, HomeSettings
from ml_lifecycle.backends.serving_home.state import restarted
from ml_lifecycle.backends.serving_home.supervisor import Program, configuration
from ml_lifecycle.core.errors import ConfigurationError, MissingLibraryError, ServiceUnavailableError

_START_S: Final = 30.0
_STOP_S: Final = 60.0


def prepare(home: Home, settings: HomeSettings, *, begins: bool = False) -> None:
    """Write the configuration of supervisord and HAProxy; what runs goes on running.

    :param begins: Nothing runs: what a supervisor that was killed left behind is ended.

    :raises ConfigurationError: HAProxy is not installed.
    :raises MissingLibraryError: supervisor, or what the servers need, is not installed.
    """
    haproxy = _haproxy(settings)
    for library in ("fastapi", "supervisor", "uvicorn"):
        if find_spec(library) is None:
            raise MissingLibraryError(library, "serving")
    home.make(settings)
    if begins:
        _end_orphans(home)
    states = [restarted(state) if begins else state for state in home.states()]
    for state in states:
        home.write(state)
    home.write_configuration(states)
    home.write_programs(states)
    guard = (settings.python, "-m", "ml_lifecycle.serving.guard", "--home", str(home.folder))
    programs = (
        # Asked to end with USR1, HAProxy answers what is open first.
        Program(HAPROXY, (haproxy, "-W", "-f", str(home.haproxy_file)), start_s=1, stop_signal="USR1", stop_s=5),
        Program(GUARD, guard, start_s=1),
    )
    text = configuration(home.folder, home.supervisor.path, home.logs, programs)
    home.supervisor_file.write_text(text)
    home.supervisor_file.chmod(0o600)


def command(home: Home, *, in_foreground: bool = False) -> list[str]:
    """What starts the supervisor of a prepared home."""
    python = home.settings().python
    options = ["-n"] if in_foreground else []
    return [python, "-W", "ignore", "-m", "supervisor.supervisord", *options, "-c", str(home.supervisor_file)]


def start(home: Home, settings: HomeSettings) -> bool:
    """Start what serves models on this machine, in a session of its own; returns whether it did not run before.

    :raises ServiceUnavailableError: it does not come up.
    """
    if is_up(home):
        prepare(home, settings)
        settle(home)
        return False
    prepare(home, settings, begins=True)
    done = subprocess.run(  # noqa: S603  # our own program
        command(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_START_S,
        check=False,
        start_new_session=True,
    )
    if done.returncode or not _wait(lambda: _stands(home), _START_S):
        raise ServiceUnavailableError(
            f"supervisord, HAProxy or the guard does not come up: {(done.stderr or done.stdout).strip()[-300:]}",
            where=str(home.logs),
            way_out=f"read the logs there; is port {settings.port} free?",
        )
    return True


def run_in_foreground(home: Home, settings: HomeSettings) -> int:
    """The same, as a child of this process, until it is asked to end; returns its exit code."""
    prepare(home, settings, begins=not is_up(home))
    with subprocess.Popen(command(home, in_foreground=True)) as process:  # noqa: S603  # our own program
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda *_: process.terminate())
        return process.wait()


def stop(home: Home) -> bool:
    """End everything, and wait for it; returns whether it ran."""
    try:
        home.supervisor.shut_down()
    except ServiceUnavailableError:
        return False
    if not _wait(lambda: not home.supervisor.listens(), _STOP_S):
        raise ServiceUnavailableError(
            f"supervisord has not ended in {_STOP_S:.0f} s", where=str(home.folder), way_out="look at its log"
        )
    return True


def is_up(home: Home) -> bool:
    """Whether the supervisor answers."""
    with suppress(ServiceUnavailableError):
        return home.supervisor.pid() > 0
    return False


def _stands(home: Home) -> bool:
    with suppress(ServiceUnavailableError):
        processes = home.supervisor.processes()
        return all(processes[name].state == "RUNNING" for name in STANDING) and bool(home.runtime.structure())
    return False


def _wait(until: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _end_orphans(home: Home) -> None:
    """End processes of this home that have no supervisor any more; they would take requests that others should."""
    if not _wait(lambda: not _killed(_orphans(home)), _START_S):
        raise ServiceUnavailableError(
            "processes of an earlier supervisor do not end", where=str(home.folder), way_out="end them by hand"
        )


def _killed(pids: list[int]) -> list[int]:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def _orphans(home: Home) -> list[int]:
    """Looked for where Linux lists processes, and by this home's own paths only."""
    marks = (str(home.haproxy_file), f"{home.folder}/packages/")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            guards = "ml_lifecycle.serving.guard" in words and str(home.folder) in words
            serves = any(word.startswith(marks) for word in words) and ("-W" in words or "--digest" in words)
            if path.stat().st_uid == os.getuid() and (guards or serves):
                found.append(int(path.parent.name))
    return found


def _haproxy(settings: HomeSettings) -> str:
    found = shutil.which(settings.haproxy) or shutil.which(settings.haproxy, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ConfigurationError(
            f"there is no program {settings.haproxy!r} on this machine",
            where="serving up",
            way_out="install HAProxy 2.4 or later, such as by `apt-get install --yes haproxy`, or name it by --haproxy",
        )
    return found
