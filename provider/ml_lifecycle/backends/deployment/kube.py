"""A namespace of a Kubernetes cluster: custom objects, each write held against what was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ml_lifecycle.core.errors import PassingError, ServiceRefusedError, ServiceUnavailableError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, CustomObjectsApi

Made = TypeVar("Made")
Manifest = dict[str, Any]

_ABSENT: Final = 404
_CONFLICT: Final = 409
_GONE: Final = 410
_FORBIDDEN: Final = frozenset({401, 403})
_PASSING: Final = frozenset({0, 408, 429, 500, 502, 503, 504})
_SHOWN: Final = 300


@dataclass(frozen=True)
class Kind:
    """A kind of object, as the API server calls it."""

    group: str
    version: str
    plural: str
    name: str

    def manifest(self, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> Manifest:
        """An object of this kind."""
        return {
            "apiVersion": f"{self.group}/{self.version}",
            "kind": self.name,
            "metadata": dict(metadata),
            "spec": dict(spec),
        }


class ConflictError(PassingError):
    """Somebody else wrote in between, or made what was to be made: look again."""


class Namespace:
    """The custom objects of one namespace.

    :param client: Brings address, credentials and time-outs.
    """

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client, self.name = client, namespace

    def get(self, kind: Kind, name: str) -> Manifest | None:
        """An object, or ``None`` where there is none."""
        return self._call(
            kind, name, lambda api, place: _manifest(api.get_namespaced_custom_object(*place, name)), absent=None
        )

    def list(self, kind: Kind, labels: Mapping[str, str]) -> list[Manifest]:
        """All objects with these labels, by name."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))

        def read(api: CustomObjectsApi, place: tuple[str, str, str, str]) -> list[Manifest]:
            return list(_manifest(api.list_namespaced_custom_object(*place, label_selector=selector)).get("items", []))

        none: list[Manifest] = []
        found = self._call(kind, selector, read, absent=none)
        return sorted(found, key=lambda one: str(one["metadata"]["name"]))

    def create(self, manifest: Manifest, kind: Kind) -> None:
        """Make an object.

        :raises ConflictError: there is one by that name.
        """
        name = manifest["metadata"]["name"]
        self._call(kind, name, lambda api, place: api.create_namespaced_custom_object(*place, manifest))

    def replace(self, manifest: Manifest, kind: Kind) -> None:
        """Write an object over the one that it was read as.

        :raises ConflictError: it is another one by now, or gone.
        """
        name = manifest["metadata"]["name"]
        if not manifest["metadata"].get("resourceVersion"):
            raise ConflictError("an object without resourceVersion is compared with nothing", where=name)
        self._call(kind, name, lambda api, place: api.replace_namespaced_custom_object(*place, name, manifest))

    def delete(self, manifest: Manifest, kind: Kind, *, unchanged: bool) -> None:
        """Remove the object that was read, and none that was made by its name since; one that is gone is gone.

        :param unchanged: Whether nobody may have written to it either; controllers write their statuses all the time.
        :raises ConflictError: it is another one by now.
        """
        metadata = manifest["metadata"]
        name = metadata["name"]
        expected = metadata.get("resourceVersion") if unchanged else None

        def remove(api: CustomObjectsApi, place: tuple[str, str, str, str]) -> None:
            from kubernetes.client import V1DeleteOptions, V1Preconditions

            exactly = V1Preconditions(uid=metadata.get("uid"), resource_version=expected)
            api.delete_namespaced_custom_object(*place, name, body=V1DeleteOptions(preconditions=exactly))

        self._call(kind, name, remove, absent=None)

    def _call(
        self,
        kind: Kind,
        name: str,
        act: Callable[[CustomObjectsApi, tuple[str, str, str, str]], Made],
        **absent: Made,
    ) -> Made:
        from kubernetes.client import CustomObjectsApi
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        where = f"{kind.plural}.{kind.group} {name} in namespace {self.name}"
        try:
            return act(CustomObjectsApi(self._client), (kind.group, kind.version, self.name, kind.plural))
        except ApiException as error:
            if error.status == _ABSENT and "absent" in absent and not _is_unknown_kind(error):
                return absent["absent"]
            raise _told(error, kind, where) from None
        except HTTPError as error:
            raise ServiceUnavailableError(
                f"the API server did not answer ({type(error).__name__})", where=where, way_out="see whether it runs"
            ) from None


def _manifest(value: object) -> Manifest:
    """What the client says is an object without saying which."""
    if not isinstance(value, dict):
        raise ServiceRefusedError(
            f"the API server answered with {type(value).__name__}, not an object",
            where="Kubernetes",
            way_out="see what the connection leads to",
        )
    return value


def _is_unknown_kind(error: Any) -> bool:
    """An object that is not there is told as ``Status``; a kind that is not, as plain text."""
    return "page not found" in str(error.body or "")


def _told(error: Any, kind: Kind, where: str) -> ServiceRefusedError | ServiceUnavailableError | ConflictError:
    status, said = int(error.status or 0), _message(error)
    if status == _ABSENT and said.startswith("namespaces "):
        return ServiceRefusedError(f"the API server answered {status} ({said})", where=where, way_out="create it")
    if status in {_CONFLICT, _GONE} or (status == _ABSENT and not _is_unknown_kind(error)):
        return ConflictError(f"it changed in between ({said})", where=where, way_out="the next try looks again")
    if status in _PASSING:
        return ServiceUnavailableError(f"the API server answered {status} ({said})", where=where, way_out="try again")
    if status in _FORBIDDEN:
        return ServiceRefusedError(
            f"the API server answered {status} ({said})",
            where=where,
            way_out=f"let the connection's account get, list, create, update and delete {kind.plural}.{kind.group}",
        )
    if status == _ABSENT:
        return ServiceRefusedError(
            f"the cluster does not know {kind.plural}.{kind.group}/{kind.version}",
            where=where,
            way_out="install KServe and the Gateway API: see docs/guides/kserve.md",
        )
    return ServiceRefusedError(
        f"the API server answered {status} ({said})", where=where, way_out="see docs/guides/kserve.md"
    )


def _message(error: Any) -> str:
    """The server's own words, cut; never headers, which hold credentials."""
    import json

    text = str(error.body or error.reason or "no reason given")
    try:
        told = json.loads(text)
    except ValueError:
        return text[:_SHOWN]
    return str(told.get("message", text) if isinstance(told, dict) else text)[:_SHOWN]
