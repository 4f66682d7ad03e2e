"""Where the model servers of one machine keep what they need."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError, model_validator

from ml_lifecycle.backends.files import digest_of_folder, publish_file, publish_folder
from ml_lifecycle.backends.serving_home.haproxy import Configuration, Runtime, configuration, map_path, map_text
from ml_lifecycle.backends.serving_home.state import Mark, ModelState, Slot
from ml_lifecycle.backends.serving_home.supervisor import Program, Supervisor
from ml_lifecycle.core.contracts import Contract, digest_of
from ml_lifecycle.core.errors import ConfigurationError, DataError, ServiceUnavailableError

_LONGEST_PATH: Final = 80
"""A socket's path has to stay below 108 characters, and HAProxy binds it under a longer name first."""
_PLAIN = re.compile(r"/[A-Za-z0-9_./+@-]+")
_LOCK_S: Final = 15.0
_FOLDERS: Final = ("states", "maps", "programs", "packages", "logs", "log", "counts")
REHEARSAL: Final = "rehearsal-"
"""How the programs begin that serve nobody, and are gone in minutes."""
_IN_USE_S: Final = 600.0
_KEPT_LOGS_S: Final = 30 * 86400.0


class HomeSettings(Contract):
    """What ``ml-lifecycle serving up`` was told."""

    bind: str = Field(default="127.0.0.1", pattern=r"^[0-9A-Fa-f.:*]{1,45}$")
    port: int = Field(default=8500, ge=1, le=65535)
    """Of HAProxy's frontend."""
    first_port: int = Field(default=8510, ge=1, le=65535)
    """Model servers listen on this one and those after it."""
    last_port: int = Field(default=8699, ge=1, le=65535)
    python: str = sys.executable
    """Runs servers and guard."""
    haproxy: str = "haproxy"

    @model_validator(mode="after")
    def _in_order(self) -> HomeSettings:
        if self.first_port > self.last_port:
            raise ValueError(f"the ports from {self.first_port} to {self.last_port} are none; write 8510-8699")
        return self


@dataclass(frozen=True)
class Home:
    """A folder that belongs to one user. Every name in it is made of checked parts."""

    folder: Path

    def __post_init__(self) -> None:
        if not _PLAIN.fullmatch(str(self.folder)) or len(str(self.folder)) > _LONGEST_PATH:
            raise ConfigurationError(
                f"{str(self.folder)!r} cannot be the model servers' home",
                where="serving_home",
                way_out=f"name an absolute path of at most {_LONGEST_PATH} letters, digits and _./+@-",
            )

    @property
    def control(self) -> Path:
        """HAProxy's socket."""
        return self.folder / "haproxy.sock"

    @property
    def haproxy_file(self) -> Path:
        """HAProxy's configuration."""
        return self.folder / "haproxy.cfg"

    @property
    def supervisor_file(self) -> Path:
        """The configuration of supervisord."""
        return self.folder / "supervisord.conf"

    @property
    def maps(self) -> Path:
        """Splits, as HAProxy begins with them."""
        return self.folder / "maps"

    @property
    def logs(self) -> Path:
        """What the processes print."""
        return self.folder / "logs"

    @property
    def log(self) -> Path:
        """The prediction log."""
        return self.folder / "log"

    @property
    def programs(self) -> Path:
        """Where supervisord reads about the model servers."""
        return self.folder / "programs"

    @property
    def runtime(self) -> Runtime:
        """HAProxy, as it runs."""
        return Runtime(self.control)

    @property
    def supervisor(self) -> Supervisor:
        """supervisord, as it runs."""
        return Supervisor(self.folder / "supervisor.sock")

    def settings(self) -> HomeSettings:
        """What it was set up with.

        :raises ServiceUnavailableError: it was not set up.
        """
        path = self.folder / "home.json"
        try:
            return HomeSettings.model_validate_json(path.read_text())
        except (OSError, ValidationError) as error:
            raise ServiceUnavailableError(
                f"the model servers' home is not set up ({type(error).__name__})",
                where=str(self.folder),
                way_out=f"run `ml-lifecycle serving up --home {self.folder}`",
            ) from None

    def make(self, settings: HomeSettings) -> None:
        """Make the folders, for this user's eyes only."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name in _FOLDERS:
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        _write(self.folder / "home.json", settings.model_dump_json(indent=1) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes here meanwhile.

        :raises ServiceUnavailableError: somebody else does, for long.
        """
        deadline = time.monotonic() + _LOCK_S
        with (self.folder / "lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise ServiceUnavailableError(
                            f"somebody else has been writing for {_LOCK_S:.0f} s",
                            where=str(self.folder),
                            way_out="find out which process holds the file `lock` there",
                        ) from None
                time.sleep(0.02)
            yield

    # --- States ------------------------------------------------------------------------------------------------------

    def states(self) -> list[ModelState]:
        """All models, by name."""
        found = (self.state(path.stem) for path in sorted((self.folder / "states").glob("*.json")))
        return [state for state in found if state is not None]

    def state(self, model: str) -> ModelState | None:
        """What one model's servers are to be; ``None`` where it has none.

        :raises DataError: the file cannot be read.
        """
        path = self.folder / "states" / f"{model}.json"
        try:
            return ModelState.model_validate_json(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise DataError(
                f"the state cannot be read ({type(error).__name__})",
                where=str(path),
                way_out="restore it; without it nobody knows which move it serves under",
            ) from None

    def write(self, state: ModelState) -> None:
        """Keep a state, and what HAProxy begins with."""
        _write(self.folder / "states" / f"{state.model}.json", state.model_dump_json(indent=1) + "\n")
        _write(map_path(self.maps, state.model), map_text(state))

    def forget(self, model: str) -> None:
        """Remove a model's state."""
        self.drop_marks(model)
        (self.folder / "states" / f"{model}.json").unlink(missing_ok=True)

    def marks(self, model: str) -> list[Mark]:
        """What was counted at moments since the shares were last set; one that cannot be read tells nothing."""
        found = []
        for line in (_text(self._marks(model)) or "").splitlines():
            with suppress(ValidationError):
                found.append(Mark.model_validate_json(line))
        return found

    def marked_at(self, model: str) -> datetime | None:
        """When the last of them was kept; ``None`` where none was."""
        with suppress(OSError):
            return datetime.fromtimestamp(self._marks(model).stat().st_mtime, timezone.utc)
        return None

    def add_mark(self, model: str, mark: Mark, *, keep: int) -> None:
        """Keep one more, and at most so many."""
        lines = [*(_text(self._marks(model)) or "").splitlines(), mark.model_dump_json()]
        _write(self._marks(model), "".join(f"{line}\n" for line in lines[-keep:]))

    def drop_marks(self, model: str) -> None:
        """The shares were set anew, or the model is gone."""
        self._marks(model).unlink(missing_ok=True)

    def _marks(self, model: str) -> Path:
        return self.folder / "counts" / f"{model}.jsonl"

    # --- What runs ---------------------------------------------------------------------------------------------------

    def configuration(self, states: Collection[ModelState]) -> Configuration:
        """HAProxy's."""
        found = self.settings()
        return configuration(states, bind=found.bind, port=found.port, control=self.control, maps=self.maps)

    def write_configuration(self, states: Collection[ModelState]) -> Configuration:
        """Keep HAProxy's configuration; maps of models that are gone go."""
        wanted = self.configuration(states)
        if _text(self.haproxy_file) != wanted.text:
            _write(self.haproxy_file, wanted.text)
        for path in self.maps.glob("*.map"):
            if path.stem not in {state.model for state in states}:
                path.unlink(missing_ok=True)
        return wanted

    def program(self, name: str, model: str, slot: Slot, *, logged: bool = True) -> Program:
        """What runs one version's server."""
        settings = self.settings()
        command = [settings.python, "-m", "ml_lifecycle.serving.server", "--package", str(self.package(slot.digest))]
        command += ["--digest", slot.digest, "--model", model, "--version", str(slot.version)]
        command += ["--host", "127.0.0.1", "--port", str(slot.port)]
        command += ["--log", str(self.log)] if logged else []
        command += [part for one in slot.trusted_types for part in ("--trusted-type", one)]
        return Program(name, command)

    def write_programs(self, states: Collection[ModelState]) -> set[str]:
        """Keep supervisord's sections of the model servers; returns the names of all that shall run."""
        wanted = {
            program_name(state.model, slot): self.program(program_name(state.model, slot), state.model, slot)
            for state in states
            for _, slot in state.slots()
        }
        for path in self.programs.glob("*.conf"):
            if path.stem in wanted:
                continue
            if path.stem.startswith(REHEARSAL) and time.time() - path.stat().st_mtime < _IN_USE_S:
                wanted[path.stem] = Program(path.stem, ())
            else:
                path.unlink(missing_ok=True)
        for name, program in wanted.items():
            path = self.programs / f"{name}.conf"
            if program.command and _text(path) != program.text(self.logs):
                _write(path, program.text(self.logs))
        return set(wanted)

    def free_port(self, states: Collection[ModelState]) -> int:
        """A port that no server has and nobody listens on.

        :raises ServiceUnavailableError: there is none.
        """
        settings = self.settings()
        taken = {slot.port for state in states for _, slot in state.slots()} | {settings.port}
        for port in range(settings.first_port, settings.last_port + 1):
            if port not in taken and _is_free(port):
                return port
        raise ServiceUnavailableError(
            f"no port from {settings.first_port} to {settings.last_port} is free",
            where=str(self.folder),
            way_out="run `ml-lifecycle serving up` with more of them",
        )

    # --- Packages ----------------------------------------------------------------------------------------------------

    def package(self, digest: str) -> Path:
        """Where the bytes of a digest lie."""
        return self.folder / "packages" / digest

    def keep_package(self, folder: Path, digest: str) -> None:
        """Keep a package whose bytes were held against the digest."""
        target = self.package(digest)
        if target.is_dir() and digest_of_folder(target) != digest:
            shutil.rmtree(target)
        if not target.is_dir():
            publish_folder(target, lambda draft: _copy(folder, draft))
        os.utime(target)

    def drop_packages(self, states: Collection[ModelState]) -> None:
        """Remove the packages that no server serves; one that was just kept is about to be."""
        used = {slot.digest for state in states for _, slot in state.slots()}
        for path in (self.folder / "packages").iterdir():
            if path.name in used or path.name.startswith(".") or time.time() - path.stat().st_mtime < _IN_USE_S:
                continue
            shutil.rmtree(path, ignore_errors=True)

    def drop_logs(self, programs: Collection[str]) -> None:
        """Remove what programs printed that ended a month ago."""
        for path in self.logs.glob("*.log*"):
            if path.name.partition(".log")[0] not in programs and time.time() - path.stat().st_mtime > _KEPT_LOGS_S:
                path.unlink(missing_ok=True)


def program_name(model: str, slot: Slot) -> str:
    """What supervisord calls a version's server: another name for whatever is started otherwise."""
    started_as = digest_of([slot.digest, *slot.trusted_types])[:8]
    return f"{model}.{slot.version}.{started_as}.{slot.port}"


def _copy(source: Path, draft: Path) -> None:
    shutil.copytree(source, draft, dirs_exist_ok=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _text(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text()
    return None


def _write(path: Path, text: str) -> None:
    publish_file(path, lambda draft: draft.write_text(text))
