"""Runs and versions as JSON files in a folder: for the command line and for tests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_lifecycle.backends.tracking.base import RegisteredVersion, Registry, Run, Tracking
from ml_lifecycle.backends.tracking.paths import checked_name, contained, split_run_uri
from ml_lifecycle.core.errors import ServiceRefusedError

_RUN_ID = re.compile(r"[0-9a-f]{32}")


class LocalTracking(Tracking, Registry):
    """A tracking server's work on one folder, for one machine.

    Every value is written whole or not at all, and writers of other processes wait for each other.

    :param folder: Made if it is not there: ``runs/<run id>/`` and ``models/<name>/``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- Runs --------------------------------------------------------------------------------------------------------

    def find_run(self, experiment: str, key: str) -> Run | None:
        """The run of this key, whether it is finished or not."""
        run_id = _run_id(experiment, key)
        return self.get_run(run_id) if self._run_file(run_id).exists() else None

    def runs_of(self, experiment: str, key: str) -> tuple[str, ...]:
        """The ids of all runs of this key; a folder holds one at most."""
        found = self.find_run(experiment, key)
        return (found.run_id,) if found is not None else ()

    def ensure_run(self, experiment: str, key: str, *, name: str, tags: Mapping[str, str]) -> Run:
        """The run of this key, made if there is none: calling twice makes one run."""
        run_id = _run_id(experiment, key)
        with self._locked():
            if not self._run_file(run_id).exists():
                run = {"experiment": experiment, "key": key, "name": name, "finished": False, "status": "RUNNING"}
                _write(self._run_file(run_id), {**run, "parameters": {}, "metrics": {}, "tags": dict(tags)})
        return self.get_run(run_id)

    def get_run(self, run_id: str) -> Run:
        """A run by its id."""
        run = self._read_run(run_id)
        return Run(run_id=run_id, experiment=run["experiment"], finished=run["finished"], tags=run["tags"])

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record values on a run; logging the same values twice changes nothing, ``None`` metrics are left out."""
        measured = {name: value for name, value in (metrics or {}).items() if value is not None}
        with self._locked():
            run = self._read_run(run_id)
            run["parameters"].update({name: str(value) for name, value in (parameters or {}).items()})
            run["metrics"].update(measured)
            run["tags"].update(tags or {})
            _write(self._run_file(run_id), run)

    def upload(self, run_id: str, folder: Path, path: str) -> str:
        """Put a folder's files below ``path`` of the run's artifacts; returns ``runs:/<run id>/<path>``."""
        self._read_run(run_id)
        target = self._artifacts(run_id, path)
        for file in sorted(found for found in folder.rglob("*") if found.is_file()):
            _copy(file, target / file.relative_to(folder))
        return f"runs:/{run_id}/{path}"

    def download(self, uri: str, into: Path) -> Path:
        """Fetch what :meth:`upload` returned, or one file of it, into an empty folder, and return that folder."""
        run_id, path = split_run_uri(uri)
        source = self._artifacts(run_id, path)
        if source.is_file():
            shutil.copyfile(source, into / source.name)
        elif source.is_dir():
            shutil.copytree(source, into, dirs_exist_ok=True)
        else:
            raise ServiceRefusedError("there is nothing to download", where=uri, way_out="check that the run is whole")
        return into

    def finish_run(self, run_id: str, *, failed: bool = False) -> None:
        """Close the run."""
        with self._locked():
            run = self._read_run(run_id)
            _write(
                self._run_file(run_id), {**run, "finished": not failed, "status": "FAILED" if failed else "FINISHED"}
            )

    # --- Versions ----------------------------------------------------------------------------------------------------

    def ensure_version(
        self, name: str, *, training_key: str, uri: str, run_id: str, tags: Mapping[str, str], description: str = ""
    ) -> RegisteredVersion:
        """The version of this training key, registered if there is none: calling twice makes one version."""
        with self._locked():
            numbers = self._numbers(name)
            for number in numbers:
                if self._read_version(name, number)["training_key"] == training_key:
                    return self._registered(name, number)
            number = max(numbers, default=0) + 1
            version = {"uri": uri, "run_id": run_id, "training_key": training_key, "description": description}
            _write(self._version_file(name, number), {**version, "tags": dict(tags)})
            return self._registered(name, number)

    def version(self, name: str, version: int) -> RegisteredVersion | None:
        """One version, or ``None``."""
        return self._registered(name, version) if self._version_file(name, version).exists() else None

    def versions(self, name: str) -> tuple[RegisteredVersion, ...]:
        """Every version, by number; none while nothing is registered."""
        return tuple(self._registered(name, number) for number in self._numbers(name))

    def newest_version(self, name: str) -> RegisteredVersion | None:
        """The version with the highest number, or ``None`` while nothing is registered."""
        numbers = self._numbers(name)
        return self._registered(name, max(numbers)) if numbers else None

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""
        with self._locked():
            found = self._read_version(name, version)
            found["tags"].update(tags)
            _write(self._version_file(name, version), found)

    def model_tags(self, name: str) -> Mapping[str, str]:
        """The tags of the model itself; none while it is not registered."""
        return _read_or_nothing(self._model(name) / "tags.json")

    def tag_model(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags on the model itself."""
        file = self._model(name) / "tags.json"
        with self._locked():
            if not self._numbers(name):
                raise ServiceRefusedError(f"there is no model {name!r}", where=str(self.folder))
            _write(file, {**_read_or_nothing(file), **tags})

    def alias(self, name: str, alias: str) -> int | None:
        """The version that the alias points at, or ``None``."""
        version: int | None = _read_or_nothing(self._model(name) / "aliases.json").get(alias)
        return version

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point the alias at a version."""
        file = self._model(name) / "aliases.json"
        with self._locked():
            self._read_version(name, version)
            _write(file, {**_read_or_nothing(file), alias: version})

    def remove_alias(self, name: str, alias: str) -> None:
        """Take the alias away; removing one that is not there changes nothing."""
        file = self._model(name) / "aliases.json"
        with self._locked():
            aliases = _read_or_nothing(file)
            if aliases.pop(alias, None) is not None:
                _write(file, aliases)

    # --- Files -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _run_file(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise ServiceRefusedError(f"{run_id!r} is not the id of a run", where=str(self.folder))
        return self.folder / "runs" / run_id / "run.json"

    def _artifacts(self, run_id: str, path: str) -> Path:
        root = self._run_file(run_id).parent / "artifacts"
        return root / contained(path)

    def _read_run(self, run_id: str) -> dict[str, Any]:
        return self._read(self._run_file(run_id), f"there is no run {run_id!r}")

    def _model(self, name: str) -> Path:
        return self.folder / "models" / checked_name(name)

    def _version_file(self, name: str, version: int) -> Path:
        return self._model(name) / f"{version:d}.json"

    def _read_version(self, name: str, version: int) -> dict[str, Any]:
        return self._read(self._version_file(name, version), f"there is no version {version} of {name!r}")

    def _read(self, file: Path, missing: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(file.read_text())
        except FileNotFoundError:
            raise ServiceRefusedError(missing, where=str(self.folder)) from None
        return content

    def _numbers(self, name: str) -> list[int]:
        return sorted(int(file.stem) for file in self._model(name).glob("[0-9]*.json"))

    def _registered(self, name: str, number: int) -> RegisteredVersion:
        found = self._read_version(name, number)
        return RegisteredVersion(
            name,
            number,
            uri=found["uri"],
            run_id=found["run_id"],
            tags=found["tags"],
            training_key=found["training_key"],
        )


def _run_id(experiment: str, key: str) -> str:
    return hashlib.sha256(f"{experiment}\0{key}".encode()).hexdigest()[:32]


def _read_or_nothing(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return content


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".new-", delete=False) as new:
        json.dump(content, new, indent=1, sort_keys=True)
        new.flush()
        os.fsync(new.fileno())
    os.replace(new.name, file)  # noqa: PTH105  # the temporary file's name is a string


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".new-", delete=False) as new, source.open("rb") as old:
        shutil.copyfileobj(old, new)
    os.replace(new.name, target)  # noqa: PTH105  # as above
