"""Serving in apps and on devices: signed archives in a channel that they follow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator

from ml_lifecycle.backends.deployment.base import ALL, DeploymentTarget, Means, Serving
from ml_lifecycle.backends.deployment.fence import refuse_foreign, refuse_older, refuse_unknown
from ml_lifecycle.backends.export.bundles import Bundle, Subject, make_bundle, needed_key, seal_pointer
from ml_lifecycle.backends.export.loader import CHANNEL_TYPE, POINTER
from ml_lifecycle.backends.export.places import ChannelPlace, place_at
from ml_lifecycle.backends.s3 import is_address, split_address
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.keys import SigningKey, parse_json
from ml_lifecycle.core.bundle import ChannelPointer
from ml_lifecycle.core.contracts import NAME, Move
from ml_lifecycle.core.errors import ConfigurationError, RequestError, ServiceUnavailableError, SignatureError

_ARCHIVE = re.compile(r"v([0-9]{1,9})-[0-9a-f]{16}\.zip")
_TRIES: Final = 5
"""To write the pointer while others do."""


class BundleTarget(DeploymentTarget):
    """Publish a signed archive, and point a channel at it: ``<folder>/<model>/<channel>/``.

    Apps and devices follow the pointer, ``channel.dsse.json``. It is signed and carries the move's epoch, and is
    written only over the pointer that was looked at: an older move is refused, also one that comes at the same instant.
    Archives are named by their bytes and never change.
    """

    backend: Literal["bundle"] = "bundle"
    folder: str
    """Absolute, or an address such as ``s3://bucket/prefix``."""
    channel: str = Field(default="stable", pattern=NAME)
    onnx: bool = False
    """Whether archives can also answer by ONNX, without scikit-learn."""
    connection: str = "aws_default"
    """Airflow connection that leads to the bucket; not looked at where a folder is named."""

    @field_validator("folder")
    @classmethod
    def _usable(cls, folder: str) -> str:
        if is_address(folder):
            try:
                split_address(folder)
            except ConfigurationError as error:
                raise ValueError(f"{error.what}; {error.way_out}") from None
        elif not folder.startswith("/") or ".." in PurePosixPath(folder).parts:
            raise ValueError(f"{folder!r} is no absolute folder; write /srv/models, or s3://bucket/prefix")
        return folder

    def deploy(self, move: Move, means: Means) -> None:
        """Publish the archive; nothing points at it."""
        place = self._place(move.model, means)
        self._refuse_older(_pointer(place), move, place)
        refuse_unknown(move, means.registry)
        self._publish(move, place, means)

    def promote(self, move: Move, means: Means) -> None:
        """Publish the archive, and point the channel at it."""
        place = self._place(move.model, means)
        self._refuse_older(_pointer(place), move, place)
        self._point(move, place, means, forced=False)

    def status(self, model: str, means: Means) -> Serving:
        """What the channel points at, with a fault where that is not what was published or signed."""
        place = self._place(model, means)
        pointer, fault = _pointer(place), ""
        if pointer is not None:
            fault = _fault(pointer, place, means.signing_key())
        found = (_ARCHIVE.fullmatch(name) for name in place.names())
        return Serving(
            traffic={} if pointer is None or fault else {pointer.version: ALL},
            epoch=pointer.epoch if pointer else 0,
            environment=pointer.environment if pointer else "",
            ready=tuple(sorted({int(one[1]) for one in found if one})),
            fault=fault,
        )

    def destroy(self, model: str, environment: str, means: Means) -> None:
        """Remove the channel: devices keep what they have."""
        place = self._place(model, means)
        pointer = _pointer(place)
        refuse_foreign(pointer.environment if pointer else "", environment, where=place.where)
        place.clear()

    def restore(self, head: Move, means: Means) -> None:
        """Point the channel at the head's version; devices that saw a higher epoch wait for one beyond it."""
        place = self._place(head.model, means)
        pointer = _pointer(place)
        refuse_foreign(pointer.environment if pointer else "", head.environment, where=place.where)
        self._point(head, place, means, forced=True)

    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        """Make the archive in memory, and open it as a device would."""
        refuse_unknown(move, means.registry)
        return {self._made(move, means).manifest.version: ALL}

    def _place(self, model: str, means: Means) -> ChannelPlace:
        client = means.client("s3", self.connection) if is_address(self.folder) else None
        return place_at(self.folder, model, self.channel, client=client)

    def _made(self, move: Move, means: Means) -> Bundle:
        origin = means.origin(move)
        subject = Subject(
            model=move.model,
            version=move.version,
            digest=move.digest,
            environment=move.environment,
            decision_id=origin.decision_id,
            dataset_fingerprint=origin.dataset_fingerprint,
        )
        with means.package(move.uri, move.digest) as package:
            return make_bundle(
                package, subject, needed_key(means.signing_key()), onnx=self.onnx, trusted_types=means.trusted_types
            )

    def _publish(self, move: Move, place: ChannelPlace, means: Means) -> Bundle:
        bundle = self._made(move, means)
        if place.size(bundle.name) != len(bundle.data):
            place.put(bundle.name, bundle.data)
        return bundle

    def _point(self, move: Move, place: ChannelPlace, means: Means, *, forced: bool) -> None:
        bundle = self._publish(move, place, means)
        pointer = ChannelPointer(
            model=move.model,
            environment=move.environment,
            channel=self.channel,
            epoch=move.epoch,
            version=move.version,
            digest=move.digest,
            decision_id=bundle.manifest.decision_id,
            bundle=bundle.name,
            sha256=bundle.sha256,
            size=len(bundle.data),
        )
        content = seal_pointer(pointer, needed_key(means.signing_key()))
        for _ in range(_TRIES):
            before = place.read(POINTER)
            if before == content:
                return
            if not forced:
                self._refuse_older(_read(before, place.where), move, place)
            if place.swap(POINTER, before, content):
                return
        raise ServiceUnavailableError(
            "others write the channel's pointer all the time", where=place.where, way_out="find out who does"
        )

    def _refuse_older(self, pointer: ChannelPointer | None, move: Move, place: ChannelPlace) -> None:
        if pointer is not None:
            refuse_older(move, environment=pointer.environment, epoch=pointer.epoch, where=place.where)


def _pointer(place: ChannelPlace) -> ChannelPointer | None:
    return _read(place.read(POINTER), place.where)


def _read(envelope: bytes | None, where: str) -> ChannelPointer | None:
    """What the pointer claims; one that somebody made unreadable claims nothing.

    Signed or not, its epoch counts: after a change of the key, an older move is still an older one.
    """
    if envelope is None:
        return None
    try:
        payload = dsse.unverified_payload(envelope, CHANNEL_TYPE, where=where)
        return ChannelPointer.model_validate(parse_json(payload, where=where))
    except (RequestError, ValidationError):
        return None


def _fault(pointer: ChannelPointer, place: ChannelPlace, key: SigningKey | None) -> str:
    """Why devices would not take what the channel points at; empty where they would."""
    content = place.read(pointer.bundle)
    if content is None:
        return f"the archive {pointer.bundle} is gone"
    if hashlib.sha256(content).hexdigest() != pointer.sha256:
        return f"the bytes of {pointer.bundle} are not those that were published"
    return _unsigned(place.read(POINTER) or b"", key, place.where) if key is not None else ""


def _unsigned(envelope: bytes, key: SigningKey, where: str) -> str:
    try:
        dsse.unseal(envelope, CHANNEL_TYPE, [key.public], where=where)
    except (SignatureError, RequestError) as error:
        return f"the channel's pointer is not signed by this deployment's key: {error.what}"
    return ""
