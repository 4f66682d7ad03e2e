"""Ed25519 keys: one that signs, and who is known by which."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.approval import same_name
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RAW_BYTES = 32
MOST_BYTES = 256 * 1024
"""Of a file of keys."""
_LONGEST_NAME = 200
_SIGN_BIT = 0x7F
_SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""Points of order 1, 2, 4 and 8, without their sign: signatures that such keys accept can be made by anybody."""


@dataclass(frozen=True)
class PublicKey:
    """What a signature is checked with."""

    raw: bytes

    @property
    def text(self) -> str:
        """The key in 44 characters."""
        return base64.b64encode(self.raw).decode()

    @property
    def key_id(self) -> str:
        """A hint for people; never what a check relies on."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the holder of the private key signed exactly this."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class SigningKey:
    """What signs; neither its text nor its representation shows the secret."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"SigningKey({self.public.key_id})"

    @property
    def public(self) -> PublicKey:
        """What others check with."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same message gives the same signature."""
        return self._key.sign(message)

    def pem(self) -> bytes:
        """The secret itself, as PKCS 8."""
        from cryptography.hazmat.primitives import serialization

        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


Keys = Mapping[str, tuple[PublicKey, ...]]
"""Public keys by user name. A person may have several, such as an old and its successor; no key has two persons."""


def generated() -> SigningKey:
    """A key that nobody had before."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return SigningKey(Ed25519PrivateKey.generate())


def signing_key(pem: str, *, where: str) -> SigningKey:
    """A private key from its text.

    :param where: What a person calls the place of the text; the text itself is never shown.
    :raises RequestError: it is no Ed25519 key, or is protected by a passphrase.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        # A connection's form turns line ends into the two characters `\n`.
        key = load_pem_private_key(pem.replace("\\n", "\n").encode(), password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise RequestError(
            "this is no Ed25519 private key in PEM form without a passphrase",
            where=where,
            way_out="make one with `ml-lifecycle keygen`",
        )
    return SigningKey(key)


def read_signing_key(path: Path) -> SigningKey:
    """A private key from a file that nobody but its owner may read.

    :raises RequestError: others may read it, or it holds no key.
    """
    text = read_text(path, most=MOST_BYTES)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise RequestError(
            "others than its owner may use this private key", where=str(path), way_out=f"chmod 600 {path}"
        )
    return signing_key(text, where=str(path))


def write_signing_key(key: SigningKey, path: Path) -> None:
    """Write a private key to a file that nobody but its owner may read.

    :raises RequestError: something is there already, or nothing can be written there.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise RequestError(
            "something is there already", where=str(path), way_out="name another file; no key is overwritten"
        ) from None
    except OSError as error:
        raise RequestError(
            f"it cannot be written ({error.strerror})", where=str(path), way_out="name a place you may write to"
        ) from None
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, 0o600)
        file.write(key.pem())
        file.flush()
        os.fsync(handle)


def public_key(text: str, *, where: str) -> PublicKey:
    """A public key from its 44 characters.

    :raises RequestError: they are no Ed25519 public key, or one under which anybody could sign.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != RAW_BYTES or base64.b64encode(raw).decode() != text:
        raise RequestError(
            "this is no Ed25519 public key",  # not shown: it may be a private one
            where=where,
            way_out="copy the 44 characters that `ml-lifecycle keygen` printed",
        )
    if raw[:-1] + bytes([raw[-1] & _SIGN_BIT]) in _SMALL_ORDER:
        raise RequestError(
            "anybody can sign under this public key", where=where, way_out="make a key with `ml-lifecycle keygen`"
        )
    return PublicKey(raw)


def read_keys(path: Path) -> Keys:
    """Who is known by which keys: a JSON file ``{user name: key or list of keys}``.

    :raises RequestError: it is no such file, names a person twice, or gives one key to two persons.
    """
    return parse_keys(read_text(path, most=MOST_BYTES), where=str(path))


def parse_keys(text: str, *, where: str) -> Keys:
    """As :func:`read_keys`, from the file's text."""
    content = parse_json(text, where=where)
    if not isinstance(content, dict):
        raise RequestError("this is no JSON object", where=where, way_out='write {"ada": "<public key>", ...}')
    found = {name: _keys_of(name, value, where) for name, value in content.items()}
    _refuse_shared(found, where)
    return found


def read_public_keys(path: Path) -> tuple[PublicKey, ...]:
    """Every public key in a file: JSON as :func:`read_keys`, else lines of a name and a key, as ``keygen`` prints.

    :raises RequestError: it holds none, or something else.
    """
    text = read_text(path, most=MOST_BYTES)
    if text.lstrip().startswith("{"):
        keys = tuple(key for held in parse_keys(text, where=str(path)).values() for key in held)
    else:
        lines = [line.split() for line in text.splitlines() if line.strip()]
        keys = tuple(public_key(line[-1], where=str(path)) for line in lines)
    if not keys:
        raise RequestError("it holds no public key", where=str(path), way_out="write what `keygen` printed into it")
    return keys


def read_text(path: Path, *, most: int) -> str:
    """A small text file.

    :param most: Bytes that it may have.
    :raises RequestError: it cannot be read, is larger, or is no text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise RequestError(f"it cannot be read ({error.strerror})", where=str(path), way_out="check the path") from None
    if len(content) > most:
        raise RequestError(f"it is larger than {most:,} bytes", where=str(path), way_out="hand in another file")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RequestError("it is no text", where=str(path), way_out="hand in another file") from None


def parse_json(text: str | bytes, *, where: str) -> Any:
    """JSON in which every key stands once, and every number is finite.

    :raises RequestError: it is not.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else f"this is no plain JSON ({error})"
        raise RequestError(what, where=where, way_out="hand in the file as it was written") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} stands twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _keys_of(name: str, value: Any, where: str) -> tuple[PublicKey, ...]:
    texts = value if isinstance(value, list) else [value]
    if not name.strip() or name != name.strip() or len(name) > _LONGEST_NAME:
        raise RequestError(f"{name[:60]!r} is no user name", where=where, way_out="write it as Airflow shows it")
    if not texts or not all(isinstance(text, str) for text in texts):
        raise RequestError(f"{name!r} has no key", where=where, way_out="give one key, or a list of keys, as texts")
    return tuple(public_key(text, where=f"{where}, {name}") for text in texts)


def _refuse_shared(keys: Keys, where: str) -> None:
    """One key for two persons would let one of them answer twice, and names that look alike would, too."""
    owner: dict[PublicKey, str] = {}
    names: dict[str, str] = {}
    for name, held in keys.items():
        if names.setdefault(same_name(name), name) != name:
            raise RequestError(
                f"{names[same_name(name)]!r} and {name!r} are one person",
                where=where,
                way_out="write each person once, with a list of keys",
            )
        for key in held:
            if owner.setdefault(key, name) != name:
                raise RequestError(
                    f"{owner[key]!r} and {name!r} have the same key",
                    where=where,
                    way_out="let each person make a key of their own",
                )
