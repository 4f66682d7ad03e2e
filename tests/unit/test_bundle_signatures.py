"""The loader's own check of signatures, which needs no library, held against one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_lifecycle.backends.export import loader
from ml_lifecycle.backends.export.loader import BundleError, unsealed, verifies
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.keys import PublicKey, generated

KIND = "application/x"


def bytes_of(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


# RFC 8032, section 7.1: TEST 1, TEST 2 and TEST 3.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_standards_own_examples_hold(key: str, message: str, signature: str) -> None:
    assert verifies(bytes_of(key), bytes_of(signature), bytes_of(message))
    assert not verifies(bytes_of(key), bytes_of(signature), bytes_of(message) + b"x")


@settings(max_examples=40, deadline=None)
@given(message=st.binary(max_size=200), place=st.integers(0, 63), bit=st.integers(0, 7))
def test_what_was_signed_holds_and_nothing_else_does(message: bytes, place: int, bit: int) -> None:
    key = generated()
    signature = bytearray(key.sign(message))

    holds = verifies(key.public.raw, bytes(signature), message)
    signature[place] ^= 1 << bit

    assert holds
    assert not verifies(key.public.raw, bytes(signature), message)


@settings(max_examples=60, deadline=None)
@given(key=st.binary(min_size=32, max_size=32), signature=st.binary(min_size=64, max_size=64), message=st.binary())
def test_it_never_takes_what_the_library_refuses(key: bytes, signature: bytes, message: bytes) -> None:
    assert verifies(key, signature, message) <= PublicKey(key).verifies(signature, message)


def test_a_signature_has_one_form_only() -> None:
    """Adding the group's order to the second half gives the same point (RFC 8032, section 8.4)."""
    key = generated()
    signature = key.sign(b"one")
    larger = int.from_bytes(signature[32:], "little") + loader._ORDER
    other = signature[:32] + larger.to_bytes(32, "little")

    assert not verifies(key.public.raw, other, b"one")
    assert not PublicKey(key.public.raw).verifies(other, b"one")


@pytest.mark.parametrize("signature", [b"", b"\0" * 63, b"\0" * 65])
def test_a_signature_of_another_length_is_none(signature: bytes) -> None:
    assert not verifies(generated().public.raw, signature, b"")


def test_an_envelope_of_this_product_is_read() -> None:
    key = generated()

    assert unsealed(dsse.seal(b"one", KIND, key).encode(), KIND, key.public.text) == b"one"


@pytest.mark.parametrize(
    "envelope",
    [b"", b"[]", b"{}", b'{"payload": 1, "payloadType": "application/x", "signatures": []}', b"{" * 100_000, b"\xff"],
)
def test_what_is_no_envelope_is_told_so(envelope: bytes) -> None:
    with pytest.raises(BundleError):
        unsealed(envelope, KIND, generated().public.text)


@pytest.mark.parametrize("raw", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f"])
def test_keys_of_small_order_are_refused_as_everywhere_else(raw: str) -> None:
    with pytest.raises(BundleError, match="no public key"):
        unsealed(b"{}", KIND, base64.b64encode(bytes.fromhex(raw)).decode())
