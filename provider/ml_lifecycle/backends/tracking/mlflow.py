"""An MLflow server, over its REST API 2.0.

The mlflow library costs seconds and 200 MB to import, and repeats every POST blindly, which makes runs and versions
twice when a reply is lost. Here each call has a deadline, and what creates something looks whether it is there first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from ml_lifecycle.backends.tracking.base import RegisteredVersion, Registry, Run, Tracking
from ml_lifecycle.backends.tracking.paths import checked_name, contained, split_run_uri
from ml_lifecycle.core.errors import LifecycleError, MissingLibraryError, ServiceRefusedError, ServiceUnavailableError

Made = TypeVar("Made")

KEY: Final = "ml_lifecycle.key"
"""The tag that a run is found by."""
TRAINING_KEY: Final = "ml_lifecycle.training_key"
"""The tag that a version is found by."""

_API: Final = "api/2.0/mlflow"
_PROXY: Final = "api/2.0/mlflow-artifacts/artifacts"
_BLOCK: Final = 1 << 20
_SLOWEST: Final = 1 << 20
"""Bytes per second below which a transfer counts as dead."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_PARAMETER_LENGTH: Final = 6000
_TAG_LENGTH: Final = 5000
_DESCRIPTION_LENGTH: Final = 5000
_BATCH: Final = 100
_PAGE: Final = 1000
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNAUTHORISED: Final = frozenset({401, 403})
_COMMIT: Final = re.compile("[0-9a-f]{40,64}")
_ABSENT: Final = frozenset({"RESOURCE_DOES_NOT_EXIST"})


class MlflowTracking(Tracking, Registry):
    """Runs and versions on an MLflow server.

    :param url: The server's address, such as ``http://127.0.0.1:5000``; a user and password in it are used, and
        never shown.
    :param ui_url: The address that people open, where it is another one.
    :param timeout_s: Seconds that the server may keep silent within one request.
    :param deadline_s: Seconds after which one call is given up, its repetitions included. Transfers of large files
        get a second more for each MB.
    :param verify: Whether the server's certificate is checked, or the file of the authority that signed it.
    :param connection: What a person calls these settings, such as the id of an Airflow connection; for messages.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        ui_url: str | None = None,
        timeout_s: float = 30.0,
        deadline_s: float = 60.0,
        verify: bool | str = True,
        connection: str = "",
    ) -> None:
        import requests

        parts = urlsplit(url.rstrip("/"))
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._ui = (ui_url or self._url).rstrip("/")
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._connection = connection
        self._session = requests.Session()
        self._session.verify = verify
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif username or parts.username:
            self._session.auth = (username or parts.username or "", password or parts.password or "")

    # --- Runs --------------------------------------------------------------------------------------------------------

    def find_run(self, experiment: str, key: str) -> Run | None:
        """The run of this key, whether it is finished or not; of several made at the same moment, the first."""
        deadline = self._deadline()
        experiment_id = self._experiment_id(experiment, deadline)
        found = self._runs_by_key(experiment_id, key, deadline) if experiment_id is not None else []
        return self._as_run(found[0], experiment) if found else None

    def runs_of(self, experiment: str, key: str) -> tuple[str, ...]:
        """The ids of all runs of this key, first one first; more than one is a fault."""
        deadline = self._deadline()
        experiment_id = self._experiment_id(experiment, deadline)
        found = self._runs_by_key(experiment_id, key, deadline) if experiment_id is not None else []
        return tuple(str(run["info"]["run_id"]) for run in found)

    def ensure_run(self, experiment: str, key: str, *, name: str, tags: Mapping[str, str]) -> Run:
        """The run of this key, made if there is none: calling twice makes one run."""
        deadline = self._deadline()
        experiment_id = self._ensure_experiment(experiment, deadline)

        def look_up() -> dict[str, Any] | None:
            found = self._runs_by_key(experiment_id, key, deadline)
            return found[0] if found else None

        def make() -> None:
            given = _pairs({**tags, **_for_the_page(tags), KEY: key, "mlflow.runName": name})
            started = {"start_time": int(time.time() * 1000), "run_name": name, "tags": given}
            made = self._post("runs/create", {"experiment_id": experiment_id, **started}, deadline, repeat=False)
            self._drop_run_unless_first(made["run"]["info"]["run_id"], experiment_id, key, deadline)

        return self._as_run(self._ensure(look_up, make, deadline, what=f"the run of {key[:12]}"), experiment)

    def get_run(self, run_id: str) -> Run:
        """A run by its id."""
        deadline = self._deadline()
        run = self._read_run(run_id, deadline)
        experiment = self._get("experiments/get", {"experiment_id": run["info"]["experiment_id"]}, deadline)
        return self._as_run(run, experiment["experiment"]["name"])

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record values on a run; logging the same values twice changes nothing, ``None`` metrics are left out."""
        deadline = self._deadline()
        data = self._read_run(run_id, deadline).get("data", {})
        # MLflow keeps every point of a metric: only what differs is sent, so that a repetition leaves no trace.
        old_metrics = {entry["key"]: entry["value"] for entry in data.get("metrics", [])}
        old_tags = _unpaired(data.get("tags", []))
        now = int(time.time() * 1000)
        points = [
            {"key": name, "value": value, "timestamp": now, "step": 0}
            for name, value in (metrics or {}).items()
            if value is not None and old_metrics.get(name) != value
        ]
        texts = {name: str(value)[:_PARAMETER_LENGTH] for name, value in (parameters or {}).items()}
        changed = {name: value for name, value in (tags or {}).items() if old_tags.get(name) != value[:_TAG_LENGTH]}
        for start in range(0, max(len(points), len(texts), len(changed)), _BATCH):
            window = slice(start, start + _BATCH)
            batch = {
                "metrics": points[window],
                "params": _pairs(dict(list(texts.items())[window])),
                "tags": _pairs(dict(list(changed.items())[window])),
            }
            self._post("runs/log-batch", {"run_id": run_id, **batch}, deadline)

    def finish_run(self, run_id: str, *, failed: bool = False) -> None:
        """Close the run."""
        status = "FAILED" if failed else "FINISHED"
        body = {"run_id": run_id, "status": status, "end_time": int(time.time() * 1000)}
        self._post("runs/update", body, self._deadline())

    # --- Files -------------------------------------------------------------------------------------------------------

    def upload(self, run_id: str, folder: Path, path: str) -> str:
        """Put a folder's files below ``path`` of the run's artifacts; returns ``runs:/<run id>/<path>``."""
        contained(path)
        root = self._artifact_root(run_id)
        if root.proxied is None:
            with _moved_by_library(root.uri):
                _library_repository(root.uri).log_artifacts(str(folder), path)
        else:
            for file in sorted(found for found in folder.rglob("*") if found.is_file()):
                self._put_file(file, f"{root.proxied}/{path}/{file.relative_to(folder).as_posix()}")
        return f"runs:/{run_id}/{path}"

    def download(self, uri: str, into: Path) -> Path:
        """Fetch what :meth:`upload` returned, or one file of it, into an empty folder, and return that folder."""
        run_id, path = split_run_uri(uri)
        contained(path)
        root = self._artifact_root(run_id)
        if root.proxied is None:
            _download_by_library(root.uri, path, into)
            return into
        files = list(self._files_below(run_id, path))
        if not files:
            self._get_file(f"{root.proxied}/{path}", into / contained(path).name, 0, uri)
        for name, size in files:
            target = into / contained(name.removeprefix(f"{path}/"))
            self._get_file(f"{root.proxied}/{contained(name).as_posix()}", target, size, uri)
        return into

    def _artifact_root(self, run_id: str) -> _ArtifactRoot:
        uri = str(self._read_run(run_id, self._deadline())["info"]["artifact_uri"])
        parts = urlsplit(uri)
        proxied = parts.path.strip("/") if parts.scheme == "mlflow-artifacts" else None
        return _ArtifactRoot(uri, proxied)

    def _files_below(self, run_id: str, path: str) -> Iterator[tuple[str, int]]:
        """Every file below a folder of the run's artifacts, with its size."""
        waiting, deadline = [path], self._deadline()
        while waiting:
            folder, token = waiting.pop(), ""
            while True:
                query = {"run_id": run_id, "path": folder, **({"page_token": token} if token else {})}
                page = self._get("artifacts/list", query, deadline)
                for entry in page.get("files", []):
                    name = str(entry["path"])
                    # The server names the files: a name that climbs, or belongs elsewhere, is refused.
                    if not contained(name).as_posix().startswith(f"{folder}/"):
                        raise ServiceRefusedError(f"the artifact {name!r} lies outside {folder!r}", where=self._url)
                    if entry.get("is_dir"):
                        waiting.append(name)
                    else:
                        yield name, int(entry.get("file_size") or 0)
                token = page.get("next_page_token", "")
                if not token:
                    break

    def _put_file(self, file: Path, path: str) -> None:
        deadline = self._deadline(file.stat().st_size)

        def send() -> None:
            with file.open("rb") as content:
                # An empty file object would be sent chunked, which the server's proxy does not take.
                self._request("PUT", f"{_PROXY}/{quote(path)}", deadline, data=content if file.stat().st_size else b"")

        self._repeated(send, deadline)

    def _get_file(self, path: str, target: Path, size: int, uri: str) -> None:
        deadline = self._deadline(size)
        target.parent.mkdir(parents=True, exist_ok=True)

        def receive() -> None:
            import requests

            # Half a file that stayed in the folder would be part of what is digested.
            with (
                self._request("GET", f"{_PROXY}/{quote(path)}", deadline, stream=True) as response,
                TemporaryDirectory(dir=target.parent, prefix=".new-") as drafts,
            ):
                new = Path(drafts) / "file"
                with new.open("wb") as file:
                    try:
                        for block in response.iter_content(_BLOCK):
                            file.write(block)
                            if time.monotonic() > deadline:
                                raise _NoAnswerError(f"{file.tell():,} bytes after the deadline")
                    except requests.RequestException as error:
                        raise _NoAnswerError(type(error).__name__) from error
                found = new.stat().st_size
                if size and found != size:
                    raise _NoAnswerError(f"{found:,} of {size:,} bytes")
                new.replace(target)

        try:
            self._repeated(receive, deadline)
        except _RefusedError as refused:
            raise ServiceRefusedError(
                f"there is nothing to download ({refused.what})", where=uri, way_out="check that the run is whole"
            ) from refused

    # --- Versions ----------------------------------------------------------------------------------------------------

    def ensure_version(
        self, name: str, *, training_key: str, uri: str, run_id: str, tags: Mapping[str, str], description: str = ""
    ) -> RegisteredVersion:
        """The version of this training key, registered if there is none: calling twice makes one version."""
        deadline = self._deadline()
        self._ensure_model(checked_name(name), deadline)

        def look_up() -> dict[str, Any] | None:
            found = self._versions_by_key(name, training_key, deadline)
            return found[0] if found else None

        def make() -> None:
            body = {
                "name": name,
                "source": uri,
                "run_id": run_id,
                "tags": _pairs({**tags, TRAINING_KEY: training_key}),
                "description": description[:_DESCRIPTION_LENGTH],
            }
            made = self._post("model-versions/create", body, deadline, repeat=False)["model_version"]
            first = self._versions_by_key(name, training_key, deadline)
            if first and first[0]["version"] != made["version"]:
                self._delete("model-versions/delete", {"name": name, "version": made["version"]}, deadline)

        return self._as_version(self._ensure(look_up, make, deadline, what=f"a version of {name}"))

    def version(self, name: str, version: int) -> RegisteredVersion | None:
        """One version, or ``None``."""
        query = {"name": checked_name(name), "version": str(version)}
        found = self._get_or_none("model-versions/get", query, self._deadline())
        return self._as_version(found["model_version"]) if found is not None else None

    def versions(self, name: str) -> tuple[RegisteredVersion, ...]:
        """Every version, by number; none while nothing is registered."""
        deadline, token = self._deadline(), ""
        found: list[RegisteredVersion] = []
        while True:
            query = {"filter": f"name = '{checked_name(name)}'", "max_results": _PAGE}
            page = self._get("model-versions/search", {**query, **({"page_token": token} if token else {})}, deadline)
            found += [self._as_version(version) for version in page.get("model_versions", [])]
            token = page.get("next_page_token", "")
            if not token:
                return tuple(sorted(found, key=lambda version: version.version))

    def newest_version(self, name: str) -> RegisteredVersion | None:
        """The version with the highest number, or ``None`` while nothing is registered."""
        query = {"filter": f"name = '{checked_name(name)}'", "order_by": "version_number DESC", "max_results": 1}
        found = self._get("model-versions/search", query, self._deadline()).get("model_versions", [])
        return self._as_version(found[0]) if found else None

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""
        deadline = self._deadline()
        for pair in _pairs(tags):
            body = {"name": checked_name(name), "version": str(version), **pair}
            self._post("model-versions/set-tag", body, deadline)

    def model_tags(self, name: str) -> Mapping[str, str]:
        """The tags of the model itself; none while it is not registered."""
        found = self._get_or_none("registered-models/get", {"name": checked_name(name)}, self._deadline())
        return _unpaired(found["registered_model"].get("tags", [])) if found is not None else {}

    def tag_model(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags on the model itself."""
        deadline = self._deadline()
        for pair in _pairs(tags):
            self._post("registered-models/set-tag", {"name": checked_name(name), **pair}, deadline)

    def alias(self, name: str, alias: str) -> int | None:
        """The version that the alias points at, or ``None``."""
        query = {"name": checked_name(name), "alias": alias}
        # MLflow calls an alias that is not there an invalid value.
        found = self._get_or_none("registered-models/alias", query, self._deadline(), also={"INVALID_PARAMETER_VALUE"})
        return int(found["model_version"]["version"]) if found is not None else None

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point the alias at a version."""
        body = {"name": checked_name(name), "alias": alias, "version": str(version)}
        self._post("registered-models/alias", body, self._deadline())

    def remove_alias(self, name: str, alias: str) -> None:
        """Take the alias away; removing one that is not there changes nothing."""
        if self.alias(name, alias) is not None:
            self._delete("registered-models/alias", {"name": checked_name(name), "alias": alias}, self._deadline())

    # --- What makes a thing once -------------------------------------------------------------------------------------

    def _experiment_id(self, name: str, deadline: float) -> str | None:
        found = self._get_or_none("experiments/get-by-name", {"experiment_name": name}, deadline)
        if found is None:
            return None
        experiment = found["experiment"]
        if experiment.get("lifecycle_stage") == "deleted":
            raise ServiceRefusedError(
                f"the experiment {name!r} was deleted", where=self._url, way_out="restore it in MLflow"
            )
        return str(experiment["experiment_id"])

    def _ensure_experiment(self, name: str, deadline: float) -> str:
        def make() -> None:
            self._post("experiments/create", {"name": name}, deadline, repeat=False)

        return self._ensure(lambda: self._experiment_id(name, deadline), make, deadline, what=f"experiment {name}")

    def _ensure_model(self, name: str, deadline: float) -> None:
        def look_up() -> dict[str, Any] | None:
            return self._get_or_none("registered-models/get", {"name": name}, deadline)

        def make() -> None:
            self._post("registered-models/create", {"name": name}, deadline, repeat=False)

        self._ensure(look_up, make, deadline, what=f"the registered model {name}")

    def _ensure(
        self, look_up: Callable[[], Made | None], make: Callable[[], None], deadline: float, *, what: str
    ) -> Made:
        """Look first, make, and look again: a lost reply, or another maker, is found and not repeated."""
        pause, is_made = _FIRST_PAUSE_S, False
        while True:
            found = look_up()
            if found is not None:
                return found
            missing = _NoAnswerError(f"{what} was made, and is not found")
            try:
                if not is_made:
                    make()
                    is_made = True
                    continue
            except _NoAnswerError as error:
                missing = error
            except _RefusedError as error:
                if error.code != "RESOURCE_ALREADY_EXISTS":
                    raise
                is_made = True
            pause = self._pause(pause, deadline, missing)

    def _runs_by_key(self, experiment_id: str, key: str, deadline: float) -> list[dict[str, Any]]:
        """The runs of a key, first one first."""
        if "'" in key:
            raise ServiceRefusedError(f"{key!r} is not a run's key", way_out="use a digest")
        body = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{KEY}` = '{key}'",
            "run_view_type": "ACTIVE_ONLY",
            "max_results": 10,
        }
        found: list[dict[str, Any]] = self._post("runs/search", body, deadline).get("runs", [])
        return sorted(found, key=lambda run: (int(run["info"]["start_time"]), run["info"]["run_id"]))

    def _drop_run_unless_first(self, run_id: str, experiment_id: str, key: str, deadline: float) -> None:
        """Two makers at the same moment agree on one run, without having to know of each other."""
        found = self._runs_by_key(experiment_id, key, deadline)
        if found and found[0]["info"]["run_id"] != run_id:
            self._post("runs/delete", {"run_id": run_id}, deadline)

    def _versions_by_key(self, name: str, training_key: str, deadline: float) -> list[dict[str, Any]]:
        query = {"filter": f"name = '{name}' and tags.`{TRAINING_KEY}` = '{training_key}'", "max_results": 100}
        found: list[dict[str, Any]] = self._get("model-versions/search", query, deadline).get("model_versions", [])
        return sorted(found, key=lambda version: int(version["version"]))

    def _read_run(self, run_id: str, deadline: float) -> dict[str, Any]:
        run: dict[str, Any] = self._get("runs/get", {"run_id": run_id}, deadline)["run"]
        return run

    def _as_run(self, run: Mapping[str, Any], experiment: str) -> Run:
        info = run["info"]
        return Run(
            run_id=info["run_id"],
            experiment=experiment,
            finished=info.get("status") == "FINISHED",
            tags=_unpaired(run.get("data", {}).get("tags", [])),
            url=f"{self._ui}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}",
        )

    def _as_version(self, version: Mapping[str, Any]) -> RegisteredVersion:
        name, number = str(version["name"]), int(version["version"])
        tags = _unpaired(version.get("tags", []))
        return RegisteredVersion(
            name=name,
            version=number,
            uri=str(version.get("source", "")),
            run_id=str(version.get("run_id", "")),
            tags=tags,
            training_key=tags.get(TRAINING_KEY, ""),
            url=f"{self._ui}/#/models/{quote(name)}/versions/{number}",
        )

    # --- Requests ----------------------------------------------------------------------------------------------------

    def _deadline(self, size: int = 0) -> float:
        return time.monotonic() + self._deadline_s + size / _SLOWEST

    def _get(self, path: str, query: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        return self._repeated(lambda: _json(self._request("GET", f"{_API}/{path}", deadline, params=query)), deadline)

    def _get_or_none(
        self, path: str, query: Mapping[str, Any], deadline: float, *, also: set[str] | None = None
    ) -> dict[str, Any] | None:
        try:
            return self._get(path, query, deadline)
        except _RefusedError as refused:
            if refused.code in _ABSENT | (also or set()):
                return None
            raise

    def _post(self, path: str, body: Mapping[str, Any], deadline: float, *, repeat: bool = True) -> dict[str, Any]:
        """:param repeat: Whether posting twice does what posting once does; what creates something looks first."""

        def send() -> dict[str, Any]:
            return _json(self._request("POST", f"{_API}/{path}", deadline, json=body))

        return self._repeated(send, deadline) if repeat else send()

    def _delete(self, path: str, body: Mapping[str, Any], deadline: float) -> None:
        self._repeated(lambda: self._request("DELETE", f"{_API}/{path}", deadline, json=body), deadline)

    def _repeated(self, call: Callable[[], Made], deadline: float) -> Made:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return call()
            except _NoAnswerError as error:  # noqa: PERF203  # trying again is the point
                pause = self._pause(pause, deadline, error)

    def _pause(self, pause: float, deadline: float, error: _NoAnswerError) -> float:
        """Wait a little before the next try, or give up."""
        if time.monotonic() + pause > deadline:
            raise self._unavailable(str(error)) from error
        time.sleep(pause)
        return min(2 * pause, _LONGEST_PAUSE_S)

    def _unavailable(self, last: str) -> ServiceUnavailableError:
        named = f"the connection {self._connection!r}" if self._connection else "the address"
        return ServiceUnavailableError(
            f"MLflow did not answer within {self._deadline_s:g} s (last: {last})",
            where=self._url,
            way_out=f"check that the server runs, and that {named} is right",
        )

    def _request(self, method: str, path: str, deadline: float, **options: Any) -> Any:
        """One request, one answer.

        :raises _NoAnswerError: trying again may help.
        :raises ServiceRefusedError: it may not.
        """
        import requests

        left = max(0.1, min(self._timeout_s, deadline - time.monotonic()))
        try:
            response = self._session.request(method, f"{self._url}/{path}", timeout=left, **options)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _NoAnswerError(type(error).__name__) from error
        except requests.RequestException as error:
            raise ServiceRefusedError(f"the request cannot be sent ({error})", where=self._url) from error
        if response.status_code in _PASSING:
            raise _NoAnswerError(f"HTTP {response.status_code} {response.text[:200]}".strip())
        if not response.ok:
            raise self._refused(response)
        return response

    def _refused(self, response: Any) -> _RefusedError:
        try:
            answer = response.json()
            code, message = str(answer.get("error_code", "")), str(answer.get("message", ""))
        except (ValueError, AttributeError):
            code, message = "", ""
        named = f" of the connection {self._connection!r}" if self._connection else ""
        way_out = f"check the user and password{named}" if response.status_code in _UNAUTHORISED else ""
        what = f"MLflow refused (HTTP {response.status_code}): {(message or code or 'no reason given')[:400]}"
        return _RefusedError(what, code=code, where=self._url, way_out=way_out)


@dataclass(frozen=True)
class _ArtifactRoot:
    """Where a run's files are."""

    uri: str
    proxied: str | None
    """Path below the server's own proxy; ``None`` where the files are reached without the server."""


class _NoAnswerError(Exception):
    """One try got no answer; what is raised in the end is a :class:`ServiceUnavailableError`."""


class _RefusedError(ServiceRefusedError):
    """A refusal with MLflow's code for it."""

    def __init__(self, what: str, *, code: str, where: str, way_out: str = "") -> None:
        self.code = code
        super().__init__(what, where=where, way_out=way_out)


def _library_repository(uri: str) -> Any:
    """Artifacts that lie where the server does not reach for us: S3, Azure, a folder."""
    try:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    except ImportError:
        raise MissingLibraryError("mlflow", "mlflow") from None
    return get_artifact_repository(uri)


@contextmanager
def _moved_by_library(uri: str) -> Iterator[None]:
    """What the library raises while it moves files is its storage's business, and may be anything."""
    try:
        yield
    except LifecycleError:
        raise
    except FileNotFoundError as error:
        raise ServiceRefusedError(
            f"there is nothing to move ({error})", where=uri, way_out="check that the run is whole"
        ) from error
    except Exception as error:
        said = " ".join(str(error).split())[:400]
        raise ServiceUnavailableError(
            f"mlflow could not move the run's files ({type(error).__name__}: {said})",
            where=uri,
            way_out="check that this environment may reach that storage",
        ) from error


def _download_by_library(uri: str, path: str, into: Path) -> None:
    """The library keeps the path below the run; what was asked for lies in ``into`` itself."""
    with TemporaryDirectory(dir=into, prefix=".new-") as drafts:
        with _moved_by_library(uri):
            found = Path(_library_repository(uri).download_artifacts(path, drafts))
            if not found.exists():
                raise FileNotFoundError(path)
        for entry in list(found.iterdir()) if found.is_dir() else [found]:
            entry.rename(into / entry.name)


def _json(response: Any) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ServiceRefusedError(
            "what answers is not MLflow's API",
            where=urlsplit(response.url)._replace(query="").geturl(),
            way_out="check the address: it names the server itself, not a page of it",
        )
    return answer


def _for_the_page(tags: Mapping[str, str]) -> dict[str, str]:
    """What MLflow's own columns show: user, source and commit."""
    commit = tags.get("ml_lifecycle.code_version", "").partition("-dirty")[0]
    shown = {
        "mlflow.user": tags.get("ml_lifecycle.requester", ""),
        "mlflow.source.name": tags.get("ml_lifecycle.run", ""),
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": commit if _COMMIT.fullmatch(commit) else "",
    }
    return {name: value for name, value in shown.items() if value}


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": value[:_TAG_LENGTH]} for name, value in values.items()]


def _unpaired(pairs: list[dict[str, str]]) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in pairs}
