"""A bundle as an app gets it: what somebody in between may have done to it."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ml_lifecycle.backends.export import loader
from ml_lifecycle.backends.export.bundles import Bundle, Subject, make_bundle
from ml_lifecycle.backends.export.loader import BundleError, archive, open_bundle, read_archive
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.golden import GOLDEN_FILE
from ml_lifecycle.backends.models.skops import _TRUSTED_LOADERS
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.keys import SigningKey, generated
from ml_lifecycle.core.contracts import canonical_json
from ml_lifecycle.core.errors import ConfigurationError, UntrustedModelError
from tests.fakes.bundle_place import signing_key, small_package

KEY = signing_key().public.text


def subject(folder: Path, version: int = 2) -> Subject:
    return Subject("flights", version, digest_of_folder(folder), "test", "a" * 64, "d" * 64)


@cache
def bundle(version: int = 2) -> Bundle:
    """Answers with the number times ``x``."""
    with TemporaryDirectory() as folder:
        package = small_package(Path(folder) / "package", version)
        return make_bundle(package, subject(package, version), signing_key(), onnx=False)


def files() -> dict[str, bytes]:
    return read_archive(bundle().data)


def packed(content: dict[str, bytes]) -> bytes:
    return b"".join(archive(content))


def signed_anew(change: Callable[[dict[str, Any]], object], key: SigningKey | None = None) -> bytes:
    """The archive with another manifest, by somebody who has a key."""
    content = files()
    manifest = json.loads(content["manifest.json"])
    change(manifest)
    text = canonical_json(manifest).encode()
    envelope = dsse.seal(text, loader.BUNDLE_TYPE, key or signing_key()).encode()
    return packed({**content, "manifest.json": text, "manifest.dsse.json": envelope})


# --- What holds ------------------------------------------------------------------------------------------------------


def test_a_bundle_answers_as_its_model_does() -> None:
    opened = open_bundle(bundle().data, KEY)

    assert opened.answer([{"x": 3.0}, {"x": -1}]) == [[pytest.approx(6.0)], [pytest.approx(-2.0)]]
    assert opened.answer([]) == []


def test_its_manifest_says_what_it_is_and_who_approved_it() -> None:
    told = open_bundle(bundle().data, [generated().public.text, KEY]).manifest

    assert (told["model"], told["version"], told["environment"]) == ("flights", 2, "test")
    assert (told["decision_id"], told["dataset_fingerprint"]) == ("a" * 64, "d" * 64)
    assert told["training_key"] == f"{2:064d}"
    assert told["inputs"] == [{"name": "x", "kind": "number"}]
    assert told["outputs"] == ["score"]
    assert [one["name"] for one in told["formats"]] == ["skops"]


def test_the_same_package_always_gives_the_same_bytes(tmp_path: Path) -> None:
    package = small_package(tmp_path / "package", 2)

    made = [make_bundle(package, subject(package), signing_key(), onnx=False) for _ in range(2)]

    assert made[0].data == made[1].data
    assert made[0].name == f"v2-{made[0].sha256[:16]}.zip"


def test_every_unzip_program_reads_it() -> None:
    with zipfile.ZipFile(io.BytesIO(bundle().data)) as held:
        assert held.testzip() is None
        assert {name: held.read(name) for name in held.namelist()} == files()
        assert {one.compress_type for one in held.infolist()} == {zipfile.ZIP_STORED}
        assert all(stat.S_ISREG(one.external_attr >> 16) for one in held.infolist())


def test_its_loader_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_bytes(files()["loader.py"])
    (tmp_path / "model.zip").write_bytes(bundle().data)
    (tmp_path / "rows.json").write_text('[{"x": 5}]')
    command = [sys.executable, "-I", "-W", "ignore", "loader.py", "model.zip", "--key", KEY]

    done = subprocess.run(
        [*command, "--rows", "rows.json"], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120
    )
    other = [*command[:-1], generated().public.text]
    refused = subprocess.run(other, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)

    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [pytest.approx(10.0)], "")
    assert refused.returncode == 1
    assert "none of its signatures" in refused.stderr


def test_verifying_imports_nothing_but_python() -> None:
    program = (
        "import sys, runpy; held = runpy.run_path(sys.argv[1]);"
        "held['verify_bundle'](sys.argv[2], sys.argv[3]);"
        "print([name for name in ('numpy', 'pandas', 'sklearn', 'cryptography', 'onnxruntime') if name in sys.modules])"
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.zip"
        path.write_bytes(bundle().data)
        command = [sys.executable, "-I", "-c", program, loader.__file__, str(path), KEY]

        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


# --- Bytes that were changed -----------------------------------------------------------------------------------------


def test_no_byte_of_it_can_be_changed() -> None:
    data = bundle().data
    step = max(1, len(data) // 400)
    places = [*range(200), *range(0, len(data), step), *range(len(data) - 200, len(data))]

    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(BundleError):
            loader.verify_bundle(bytes(changed), KEY)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_one_is_refused(share: float) -> None:
    data = bundle().data

    with pytest.raises(BundleError):
        open_bundle(data[: int(share * len(data))], KEY)


@pytest.mark.parametrize(("before", "behind"), [(b"#!/bin/sh\n", b""), (b"", b"\0"), (b"", b"PK\x05\x06" + 18 * b"\0")])
def test_nothing_stands_before_or_behind_it(before: bytes, behind: bytes) -> None:
    with pytest.raises(BundleError):
        open_bundle(before + bundle().data + behind, KEY)


def test_files_that_were_swapped_are_refused() -> None:
    content = files()
    content["golden.json"], content["loader.py"] = content["loader.py"], content["golden.json"]

    with pytest.raises(BundleError, match=r"the bytes of golden.json are not those that were signed"):
        open_bundle(packed(content), KEY)


def test_another_bundles_model_is_refused() -> None:
    other = read_archive(bundle(3).data)

    with pytest.raises(BundleError, match=r"package/model.skops"):
        open_bundle(packed({**files(), "package/model.skops": other["package/model.skops"]}), KEY)


def test_another_bundles_manifest_is_refused() -> None:
    other = read_archive(bundle(3).data)

    with pytest.raises(BundleError, match="not the one that was signed"):
        open_bundle(packed({**files(), "manifest.json": other["manifest.json"]}), KEY)
    with pytest.raises(BundleError, match="not those that were signed"):
        open_bundle(packed({**files(), **{name: other[name] for name in ("manifest.json", "manifest.dsse.json")}}), KEY)


@pytest.mark.parametrize("name", ["golden.json", "package/package.json", "loader.py"])
def test_no_file_can_be_left_out(name: str) -> None:
    content = files()
    del content[name]

    with pytest.raises(BundleError, match=f"{name} is missing"):
        open_bundle(packed(content), KEY)


def test_no_file_can_be_added() -> None:
    with pytest.raises(BundleError, match=r"extra.txt is not in the manifest"):
        open_bundle(packed({**files(), "extra.txt": b""}), KEY)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.dsse.json"])
def test_a_bundle_without_its_signature_is_refused(name: str) -> None:
    content = files()
    del content[name]

    with pytest.raises(BundleError, match="holds no manifest"):
        open_bundle(packed(content), KEY)


# --- Keys ------------------------------------------------------------------------------------------------------------


def test_a_bundle_of_somebody_elses_key_is_refused() -> None:
    data = signed_anew(dict.copy, generated())

    with pytest.raises(BundleError, match="none of its signatures"):
        open_bundle(data, KEY)


def test_a_signature_made_for_something_else_is_refused() -> None:
    content = files()
    envelope = dsse.seal(content["manifest.json"], loader.CHANNEL_TYPE, signing_key()).encode()

    with pytest.raises(BundleError, match="what is signed is"):
        open_bundle(packed({**content, "manifest.dsse.json": envelope}), KEY)


@pytest.mark.parametrize("key", ["", "AAAA", "=" * 44, "A" * 43 + "=", "AQ" + "A" * 41 + "=", "not base64 at all"])
def test_a_key_under_which_anybody_could_sign_is_refused(key: str) -> None:
    with pytest.raises(BundleError, match="no public key"):
        open_bundle(bundle().data, key)


def test_no_key_counts_where_none_is_given() -> None:
    with pytest.raises(BundleError, match="none of its signatures"):
        open_bundle(bundle().data, [])


# --- Archives made to harm -------------------------------------------------------------------------------------------


def zipped(name: str, content: bytes = b"x", **attributes: Any) -> bytes:
    """As another program would pack it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as held:
        entry = zipfile.ZipInfo(name)
        for attribute, value in attributes.items():
            setattr(entry, attribute, value)
        held.writestr(entry, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/job", "/etc/passwd", "a/../../b", "a//b", "..", ".hidden", "C:\\x", "a\\b", "ä"]
)
def test_no_name_leads_out_of_it(name: str) -> None:
    with pytest.raises(BundleError, match="holds a file called"):
        read_archive(zipped(name))
    with pytest.raises((BundleError, UnicodeEncodeError)):
        read_archive(packed({name: b"x"}))


def test_a_link_is_refused() -> None:
    with pytest.raises(BundleError, match="no archive of ours"):
        read_archive(zipped("golden.json", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16))


def test_a_bomb_is_refused_before_anything_of_it_is_unpacked() -> None:
    bomb = zipped("golden.json", 50_000_000 * b"\0", compress_type=zipfile.ZIP_DEFLATED)

    assert len(bomb) < 100_000
    with pytest.raises(BundleError):
        read_archive(bomb)


def test_a_name_that_stands_twice_is_refused() -> None:
    once = packed({"a.txt": b"one"})
    local = once[: once.index(b"PK\x01\x02")]

    with pytest.raises(BundleError, match=r"holds a.txt twice"):
        read_archive(local + packed({"a.txt": b"two"}))


def test_a_directory_that_shows_other_files_than_there_are_is_refused() -> None:
    one, two = packed({"a.txt": b"one"}), packed({"b.txt": b"two"})
    lying = one[: one.index(b"PK\x01\x02")] + two[two.index(b"PK\x01\x02") :]

    with pytest.raises(BundleError, match="no archive of ours"):
        read_archive(lying)


def test_an_archive_of_countless_files_is_refused() -> None:
    with pytest.raises(BundleError, match="more than 500 files"):
        read_archive(packed({f"f{number}": b"" for number in range(501)}))


def test_an_archive_that_is_too_large_is_not_read_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "MOST_BYTES", 1000)
    (tmp_path / "model.zip").write_bytes(bundle().data)

    for source in (tmp_path / "model.zip", bundle().data):
        with pytest.raises(BundleError, match="larger than 1,000 bytes"):
            open_bundle(source, KEY)


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\x03\x04", b"PK\x05\x06" + 18 * b"\0", b"\x1f\x8b", 1000 * b"PK\x03\x04"]
)
def test_what_is_no_archive_is_told_so(data: bytes) -> None:
    with pytest.raises(BundleError):
        open_bundle(data, KEY)


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(tmp_path / "none.zip", KEY)


# --- Even with the right key -----------------------------------------------------------------------------------------


def resigned(content: dict[str, bytes], **manifest: Any) -> bytes:
    """These files, listed and signed as if they were right."""
    import hashlib

    told = {**json.loads(content["manifest.json"]), **manifest}
    held = {name: data for name, data in content.items() if not name.startswith("manifest.")}
    told["files"] = [
        {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(held.items())
    ]
    text = canonical_json(told).encode()
    envelope = dsse.seal(text, loader.BUNDLE_TYPE, signing_key()).encode()
    return packed({"manifest.json": text, "manifest.dsse.json": envelope, **held})


@pytest.mark.parametrize("name", ["model.pkl", "weights.JOBLIB", "model.pt"])
def test_no_pickle_is_taken_by_its_name(name: str) -> None:
    with pytest.raises(BundleError, match="is a pickle"):
        open_bundle(resigned({**files(), name: b"x"}), KEY)


def test_no_pickle_is_taken_by_its_bytes() -> None:
    import pickle

    with pytest.raises(BundleError, match="is a pickle"):
        open_bundle(resigned({**files(), "notes.txt": pickle.dumps([1])}), KEY)


def test_a_package_that_nobody_approved_is_refused_whoever_signed_it() -> None:
    other = read_archive(bundle(3).data)

    with pytest.raises(BundleError, match="not the one that was approved"):
        open_bundle(resigned({**files(), "package/model.skops": other["package/model.skops"]}), KEY)


def test_a_type_that_was_not_signed_is_never_constructed() -> None:
    formats = json.loads(files()["manifest.json"])["formats"]
    held = [{**formats[0], "types": [one for one in formats[0]["types"] if "LinearRegression" not in one]}]

    with pytest.raises(BundleError, match=r"LinearRegression.*not loaded here"):
        open_bundle(resigned(files(), formats=held), KEY)


def test_a_function_to_call_is_never_loaded_even_if_its_type_is_listed() -> None:
    schema = {"__class__": "function", "__module__": "builtins", "__loader__": "FunctionNode", "content": "os.system"}
    model = zipped("schema.json", json.dumps(schema).encode())

    with pytest.raises(BundleError, match="FunctionNode"):
        loader._check_types(model, ["builtins.function"])


@pytest.mark.parametrize("answers", [[[2.0], [4.1]], [[2.0]], [[2.0], [4.0, 0.0]], [[2.0], [1e400]], []])
def test_a_bundle_that_answers_otherwise_than_training_did_is_refused(answers: list[list[float]]) -> None:
    golden = json.dumps({"rows": [[1.0], [2.0]], "answers": answers}).replace("Infinity", "1e999").encode()

    with pytest.raises(BundleError):
        open_bundle(resigned({**files(), "golden.json": golden}), KEY)


@pytest.mark.parametrize(
    "change", [{"layout": 2}, {"formats": []}, {"version": "2"}, {"files": None}, {"digest": None}]
)
def test_a_manifest_of_another_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        open_bundle(signed_anew(lambda manifest: manifest.update(change)), KEY)


# --- Asking and making -----------------------------------------------------------------------------------------------


def test_a_row_that_cannot_be_answered_is_named() -> None:
    opened = open_bundle(bundle().data, KEY)

    with pytest.raises(BundleError, match="lacks 'x'"):
        opened.answer([{"y": 1.0}])
    with pytest.raises(BundleError, match=r"'x' is 'far', which is no number"):
        opened.answer([{"x": "far"}])
    with pytest.raises(BundleError, match="no onnx"):
        open_bundle(bundle().data, KEY, prefer="onnx")


def test_a_package_without_golden_rows_is_not_handed_out(tmp_path: Path) -> None:
    package = small_package(tmp_path / "package", 2)
    (package / GOLDEN_FILE).unlink()

    with pytest.raises(UntrustedModelError, match="no golden rows"):
        make_bundle(package, subject(package), signing_key(), onnx=False)


def test_a_package_that_does_not_repeat_its_golden_rows_is_not_handed_out(tmp_path: Path) -> None:
    package, other = (small_package(tmp_path / f"package-{number}", number) for number in (2, 3))
    (package / GOLDEN_FILE).write_bytes((other / GOLDEN_FILE).read_bytes())

    with pytest.raises(UntrustedModelError, match=r"answers otherwise than training did, by up to 0\.333"):
        make_bundle(package, subject(package), signing_key(), onnx=False)


def test_nothing_is_handed_out_unsigned() -> None:
    from ml_lifecycle.backends.export.bundles import needed_key

    with pytest.raises(ConfigurationError, match="no key to sign bundles with"):
        needed_key(None)


def test_an_app_loads_a_model_in_no_other_way_than_airflow_does() -> None:
    assert loader._LOADERS == _TRUSTED_LOADERS
