"""Signed envelopes, by DSSE 1.0 (https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any

from ml_lifecycle.backends.signing.keys import PublicKey, SigningKey, parse_json
from ml_lifecycle.core.errors import RequestError, SignatureError

MOST_BYTES = 8 * 1024 * 1024
"""Of an envelope."""
MOST_SIGNATURES = 20
_ANY_ALPHABET = str.maketrans("-_", "+/")


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: the payload together with what it is."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, payload_type: str, key: SigningKey) -> str:
    """The envelope as JSON; the same payload and key give the same text."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return _envelope(payload, payload_type, key.public, signature)


def payload_type_of(envelope: str | bytes, *, where: str) -> str:
    """What an envelope says that it holds; nothing of it has been checked.

    :raises RequestError: this is no envelope.
    """
    return str(_parsed(envelope, where)["payloadType"])


def unverified_payload(envelope: str | bytes, payload_type: str, *, where: str) -> bytes:
    """What an envelope holds, before anybody knows who signed it: for finding the key to check with.

    :raises RequestError: this is no envelope, or it holds something else.
    """
    content = _parsed(envelope, where)
    if content["payloadType"] != payload_type:
        raise RequestError(
            f"it holds {content['payloadType'][:80]!r}, not {payload_type!r}",
            where=where,
            way_out="hand in the file that the command asks for",
        )
    return _decoded(content["payload"], "the payload", where)


def unseal(envelope: str | bytes, payload_type: str, keys: Iterable[PublicKey], *, where: str) -> tuple[bytes, str]:
    """The payload that one of these keys signed, and the envelope with that signature alone.

    The envelope's ``keyid`` is not signed, so nothing is concluded from it.

    :raises RequestError: this is no envelope, or it holds something else.
    :raises SignatureError: none of the keys signed it.
    """
    payload = unverified_payload(envelope, payload_type, where=where)
    message = pre_authentication_encoding(payload_type, payload)
    trusted = tuple(keys)
    for entry in _parsed(envelope, where)["signatures"]:
        signature = _decoded(entry["sig"], "a signature", where)
        for key in trusted:
            if key.verifies(signature, message):
                return payload, _envelope(payload, payload_type, key, signature)
    raise SignatureError(
        "none of its signatures was made by a key that counts here",
        where=where,
        way_out="check the keys that you verify with; if they are right, the file was changed or signed by another",
    )


def _envelope(payload: bytes, payload_type: str, key: PublicKey, signature: bytes) -> str:
    content = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key.key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"


def _parsed(envelope: str | bytes, where: str) -> dict[str, Any]:
    if len(envelope) > MOST_BYTES:
        raise RequestError(f"it is larger than {MOST_BYTES:,} bytes", where=where, way_out="hand in another file")
    content = parse_json(envelope, where=where)
    if not _is_envelope(content):
        raise RequestError(
            "this is no signed envelope", where=where, way_out="hand in the file as `decide` or a release wrote it"
        )
    if len(content["signatures"]) > MOST_SIGNATURES:
        raise RequestError(f"it has more than {MOST_SIGNATURES} signatures", where=where, way_out="leave some out")
    return dict(content)


def _is_envelope(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("signatures"), list):
        return False
    texts = [content.get("payload"), content.get("payloadType")]
    texts += [entry.get("sig") if isinstance(entry, dict) else None for entry in content["signatures"]]
    return all(isinstance(text, str) for text in texts)


def _decoded(text: str, what: str, where: str) -> bytes:
    """Both alphabets of base64, as DSSE asks; but one text only for the same bytes."""
    standard = text.translate(_ANY_ALPHABET)
    try:
        found = base64.b64decode(standard, validate=True)
    except (binascii.Error, ValueError):
        found = None
    if found is None or base64.b64encode(found).decode() != standard:
        raise RequestError(f"{what} is no canonical base64", where=where, way_out="hand in the file as it was written")
    return found
