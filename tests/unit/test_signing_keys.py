from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from ml_lifecycle.backends.signing.keys import (
    PublicKey,
    generated,
    parse_keys,
    public_key,
    read_keys,
    read_public_keys,
    read_signing_key,
    signing_key,
    write_signing_key,
)
from ml_lifecycle.core.errors import RequestError

# RFC 8032, section 7.1, test 2.
SECRET_PEM = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7
-----END PRIVATE KEY-----
"""
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
MESSAGE = bytes.fromhex("72")
SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
ORDER = 2**252 + 27742317777372353535851937790883648493


def test_the_vectors_of_the_standard_hold() -> None:
    key = signing_key(SECRET_PEM, where="here")

    assert key.public.raw.hex() == PUBLIC
    assert key.sign(MESSAGE).hex() == SIGNATURE
    assert key.public.verifies(bytes.fromhex(SIGNATURE), MESSAGE)


def test_another_message_another_key_and_a_cut_signature_do_not_hold() -> None:
    public, signature = PublicKey(bytes.fromhex(PUBLIC)), bytes.fromhex(SIGNATURE)

    assert not public.verifies(signature, b"s")
    assert not generated().public.verifies(signature, MESSAGE)
    assert not public.verifies(signature[:-1], MESSAGE)
    assert not public.verifies(b"", MESSAGE)


def test_the_same_signature_in_another_form_does_not_hold() -> None:
    signature = bytes.fromhex(SIGNATURE)
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    other = signature[:32] + scalar.to_bytes(32, "little")

    assert not PublicKey(bytes.fromhex(PUBLIC)).verifies(other, MESSAGE)


def test_a_private_key_survives_its_file_which_nobody_else_may_read(tmp_path: Path) -> None:
    key = generated()

    write_signing_key(key, tmp_path / "ada.pem")

    assert stat.S_IMODE((tmp_path / "ada.pem").stat().st_mode) == 0o600
    assert read_signing_key(tmp_path / "ada.pem").public == key.public


def test_no_key_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ada.pem").write_text("precious")

    with pytest.raises(RequestError, match="something is there already"):
        write_signing_key(generated(), tmp_path / "ada.pem")

    assert (tmp_path / "ada.pem").read_text() == "precious"


def test_a_key_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "ada.pem").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RequestError, match="something is there already"):
        write_signing_key(generated(), tmp_path / "ada.pem")

    assert not (tmp_path / "elsewhere").exists()


def test_a_key_that_others_may_read_does_not_sign(tmp_path: Path) -> None:
    write_signing_key(generated(), tmp_path / "ada.pem")
    (tmp_path / "ada.pem").chmod(0o640)

    with pytest.raises(RequestError, match="others than its owner"):
        read_signing_key(tmp_path / "ada.pem")


def test_a_key_whose_line_ends_a_form_has_escaped_is_read() -> None:
    assert signing_key(SECRET_PEM.replace("\n", "\\n"), where="here").public.raw.hex() == PUBLIC


@pytest.mark.parametrize("text", ["", "no key", SECRET_PEM.replace("MC4", "MC5"), SECRET_PEM.replace("PRIVATE", "X")])
def test_what_is_no_private_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(RequestError, match="no Ed25519 private key") as refused:
        signing_key(text, where="the connection")

    assert "MC" not in str(refused.value)


def test_keys_of_other_kinds_and_with_a_passphrase_are_refused() -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, how: form.KeySerializationEncryption) -> str:
        return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, how).decode()

    locked = pem(ed25519.Ed25519PrivateKey.generate(), form.BestAvailableEncryption(b"word"))
    for text in (pem(ec.generate_private_key(ec.SECP256R1()), form.NoEncryption()), locked):
        with pytest.raises(RequestError, match="no Ed25519 private key"):
            signing_key(text, where="here")


def test_the_secret_is_not_in_the_representation() -> None:
    key = generated()

    assert repr(key) == f"SigningKey({key.public.key_id})"


def test_people_have_one_key_or_several(tmp_path: Path) -> None:
    old, new, bob = generated().public, generated().public, generated().public
    (tmp_path / "keys.json").write_text(json.dumps({"ada": [old.text, new.text], "bob": bob.text}))

    assert read_keys(tmp_path / "keys.json") == {"ada": (old, new), "bob": (bob,)}


def test_one_key_for_two_people_is_refused() -> None:
    shared = generated().public.text

    with pytest.raises(RequestError, match="'ada' and 'bob' have the same key"):
        parse_keys(json.dumps({"ada": shared, "bob": [shared]}), where="keys.json")


@pytest.mark.parametrize("second", ["ADA", "\uff41da"])
def test_one_person_under_two_spellings_is_refused(second: str) -> None:
    text = json.dumps({"ada": generated().public.text, second: generated().public.text})

    with pytest.raises(RequestError, match="are one person"):
        parse_keys(text, where="keys.json")


def test_a_person_who_stands_twice_is_refused() -> None:
    one, other = generated().public.text, generated().public.text

    with pytest.raises(RequestError, match="'ada' stands twice"):
        parse_keys(f'{{"ada": "{one}", "ada": "{other}"}}', where="keys.json")


GOOD = PublicKey(bytes.fromhex(PUBLIC)).text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"ada": 7}',
        '{"ada": []}',
        '{"ada": ["x"]}',
        json.dumps({"": GOOD}),
        json.dumps({" ada": GOOD}),
        json.dumps({"ada": GOOD[:-1]}),
        json.dumps({"ada": f"{GOOD} "}),
        json.dumps({"ada": f"{GOOD[:-2]}{chr(ord(GOOD[-2]) + 1)}="}),
        "[" * 100_000,
    ],
)
def test_what_is_no_file_of_keys_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"keys\.json"):
        parse_keys(text, where="keys.json")


@pytest.mark.parametrize("raw", ["00" * 32, "01" + "00" * 31, "01" + "00" * 30 + "80", "ec" + "ff" * 31])
def test_a_key_under_which_anybody_can_sign_is_refused(raw: str) -> None:
    with pytest.raises(RequestError, match="anybody can sign"):
        public_key(PublicKey(bytes.fromhex(raw)).text, where="here")


def test_public_keys_are_read_from_what_keygen_prints_and_from_a_file_of_keys(tmp_path: Path) -> None:
    one, other = generated().public, generated().public
    (tmp_path / "one.pub").write_text(f"release {one.text}\n\n{other.text}\n")
    (tmp_path / "all.json").write_text(json.dumps({"ada": one.text, "bob": other.text}))

    assert read_public_keys(tmp_path / "one.pub") == (one, other)
    assert read_public_keys(tmp_path / "all.json") == (one, other)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"a" * 300_000])
def test_a_file_without_public_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.pub").write_bytes(content)

    with pytest.raises(RequestError):
        read_public_keys(tmp_path / "one.pub")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_public_keys(tmp_path / "one.pub")
