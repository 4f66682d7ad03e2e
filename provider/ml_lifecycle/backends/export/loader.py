"""A model in an app or on a device: one signed archive, which is verified before anything of it is used.

This file stands alone: copy it beside the app, with the public key that archives have to be signed by. Verifying needs
Python alone; answering needs numpy and onnxruntime where the archive holds ``model.onnx``, else scikit-learn, skops and
pandas in the versions of ``package/requirements.txt``.

    bundle = open_bundle("v7-0a1b2c3d4e5f6071.zip", "<the public key's 44 characters>")
    bundle.answer([{"distance": 1089.0, "carrier": "B6"}])

    bundle = follow("/srv/models/flights/stable", "<public key>", state="flights.json")

Nothing is ever unpacked, compressed entries and links are refused, and no pickle is loaded. An archive that does not
hold raises :class:`BundleError`, which says why.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import io
import json
import math
import os
import re
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUNDLE_TYPE = "application/vnd.ml-lifecycle.bundle+json"
"""What an archive's signed manifest says that it is."""
CHANNEL_TYPE = "application/vnd.ml-lifecycle.channel+json"
"""What the signed pointer of a channel says that it is."""
LAYOUT = 1
MANIFEST, ENVELOPE, GOLDEN, POINTER = "manifest.json", "manifest.dsse.json", "golden.json", "channel.dsse.json"
PACKAGE = "package/"
MOST_BYTES = 1 << 30
"""Of an archive."""
MOST_FILES = 500
MOST_ROWS = 10_000
"""Golden rows of an archive."""
MISSING_CATEGORY = "nan"
"""What stands for a missing category where texts cannot be missing, as in ONNX."""

_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_READS_20, _MADE_ON_UNIX, _JANUARY_1980, _PLAIN_FILE = 20, 3 << 8 | 20, 33, 0o100644 << 16
_PART = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.,=@+-]{0,199}")
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth")
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_SMALL_ENVELOPE = 8 * 1024 * 1024
_MOST_SIGNATURES = 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOADERS = frozenset(
    {
        "CachedNode",
        "DTypeNode",
        "DictNode",
        "JsonNode",
        "ListNode",
        "LossNode",
        "NdArrayNode",
        "ObjectNode",
        "RandomGeneratorNode",
        "RandomStateNode",
        "SliceNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    }
)


class BundleError(Exception):
    """An archive or a channel that does not hold; nothing of it was used."""


class NotInstalledError(BundleError):
    """A library that would answer is missing here: nothing is known of the answers."""


@dataclass(frozen=True)
class Bundle:
    """A verified archive, ready to answer."""

    manifest: Mapping[str, Any]
    """``model``, ``version``, ``digest``, ``environment``, ``decision_id``, ``inputs``, ``outputs``, ``classes`` ..."""
    files: Mapping[str, bytes] = field(repr=False)
    format: str
    """``onnx`` or ``skops``: which one answers."""
    _score: Callable[[Sequence[Sequence[Any]]], list[list[float]]] = field(repr=False)

    def answer(self, rows: Iterable[Mapping[str, Any]]) -> list[list[float]]:
        """One list of numbers a row, as ``manifest["outputs"]`` names them.

        :param rows: Each input by its name; ``None`` where a value is missing.
        :raises BundleError: a row lacks an input, or holds what is no number where one is expected.
        """
        inputs = self.manifest["inputs"]
        prepared = [[_value(row, one["name"], one["kind"]) for one in inputs] for row in rows]
        return self._score(prepared) if prepared else []


# --- Archives --------------------------------------------------------------------------------------------------------


def open_bundle(
    source: str | os.PathLike[str] | bytes, keys: str | Sequence[str], *, prefer: str | None = None
) -> Bundle:
    """Verify an archive, have it repeat its golden rows, and return it.

    :param source: A path, or the archive's bytes.
    :param keys: The public keys, 44 characters each, of which one has to have signed it.
    :param prefer: ``onnx`` or ``skops``; left out, ``onnx`` where the archive holds it.
    :raises BundleError: it was changed, is signed by nobody known, or does not answer as it should.
    """
    manifest, files = verify_bundle(source, keys)
    formats = {one["name"]: one for one in manifest["formats"]}
    name = prefer or ("onnx" if "onnx" in formats else "skops")
    if name not in formats:
        raise BundleError(f"the archive holds no {name}, only {', '.join(sorted(formats))}")
    score = _SCORERS[name](manifest, formats[name], files)
    _repeat_golden(formats[name], files, score)
    return Bundle(manifest=manifest, files=files, format=name, _score=score)


def verify_bundle(
    source: str | os.PathLike[str] | bytes, keys: str | Sequence[str]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The signed manifest and the files of an archive; its model is not loaded.

    :raises BundleError: it was changed, or is signed by nobody known.
    """
    files = read_archive(_bytes_of(source))
    if MANIFEST not in files or ENVELOPE not in files:
        raise BundleError(f"the archive holds no {MANIFEST} with its signature")
    manifest = files.pop(MANIFEST)
    if unsealed(files.pop(ENVELOPE), BUNDLE_TYPE, keys) != manifest:
        raise BundleError(f"{MANIFEST} is not the one that was signed")
    told = _parsed(manifest, MANIFEST)
    _check_manifest(told)
    _check_files(told, files)
    return told, files


def archive(files: Mapping[str, bytes]) -> Iterator[bytes]:
    """The one zip archive of these files, in their order: the same files always give the same bytes.

    Nothing is compressed, so that what it unpacks to is never larger than itself.
    """
    directory, place = [], 0
    for name, content in files.items():
        raw, crc, size = name.encode("ascii"), zlib.crc32(content), len(content)
        facts = (_READS_20, 0, 0, 0, _JANUARY_1980, crc, size, size, len(raw), 0)
        yield _LOCAL.pack(_LOCAL_MARK, *facts) + raw
        yield content
        directory.append(_CENTRAL.pack(_CENTRAL_MARK, _MADE_ON_UNIX, *facts, 0, 0, 0, _PLAIN_FILE, place) + raw)
        place += _LOCAL.size + len(raw) + size
    listed = b"".join(directory)
    yield listed
    yield _END.pack(_END_MARK, 0, 0, len(directory), len(directory), len(listed), place, 0)


def read_archive(data: bytes) -> dict[str, bytes]:
    """The files of an archive that is, to the last byte, as :func:`archive` writes it.

    :raises BundleError: it is not: truncated, compressed, with links, names twice, names that lead out, or anything
        before, between or behind its files.
    """
    files = dict(_local_files(data))
    place = 0
    for piece in archive(files):
        if data[place : place + len(piece)] != piece:
            raise BundleError(f"from byte {place} on it is no archive of ours: truncated, compressed, or changed")
        place += len(piece)
    if place != len(data):
        raise BundleError(f"{len(data) - place} bytes stand behind the archive's end")
    return files


def _local_files(data: bytes) -> Iterator[tuple[str, bytes]]:
    place = 0
    seen: set[str] = set()
    while data[place : place + 4] == _LOCAL_MARK:
        if len(data) < place + _LOCAL.size:
            raise BundleError("the archive is truncated")
        size, length = _LOCAL.unpack_from(data, place)[8:10]
        begin = place + _LOCAL.size + length
        name = data[place + _LOCAL.size : begin].decode("ascii", errors="replace")
        if not all(_PART.fullmatch(part) for part in name.split("/")):
            raise BundleError(f"the archive holds a file called {name[:80]!r}")
        if name in seen:
            raise BundleError(f"the archive holds {name} twice")
        if len(seen) == MOST_FILES:
            raise BundleError(f"the archive holds more than {MOST_FILES} files")
        place = begin + size
        if place > len(data):
            raise BundleError("the archive is truncated")
        seen.add(name)
        yield name, data[begin:place]
    if not seen:
        raise BundleError("this is no archive")


def _bytes_of(source: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            with Path(source).open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise BundleError(f"{source} cannot be read ({error.strerror})") from None
    if len(data) > MOST_BYTES:
        raise BundleError(f"the archive is larger than {MOST_BYTES:,} bytes")
    return data


# --- What is signed --------------------------------------------------------------------------------------------------


def _check_manifest(told: Any) -> None:
    """Only what the rest relies on: who signed it wrote it by a schema."""
    if not isinstance(told, dict) or told.get("layout") != LAYOUT:
        raise BundleError(f"this archive is not of layout {LAYOUT}; get the loader that came with it")
    lists = dict.fromkeys(("inputs", "outputs", "formats", "files"), list)
    wanted: dict[str, type] = {"model": str, "version": int, "digest": str, **lists}
    for name, kind in wanted.items():
        if not isinstance(told.get(name), kind):
            raise BundleError(f"the manifest says no {name}")


def _check_files(told: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Exactly the files that the manifest lists, byte for byte, and among them the package that was approved."""
    listed = {one["path"]: one for one in told["files"]}
    for name in sorted({*listed, *files}):
        if name not in files:
            raise BundleError(f"{name} is missing")
        if name not in listed:
            raise BundleError(f"{name} is not in the manifest")
        content = files[name]
        if hashlib.sha256(content).hexdigest() != listed[name]["sha256"] or len(content) != listed[name]["size"]:
            raise BundleError(f"the bytes of {name} are not those that were signed")
        if name.lower().endswith(_PICKLES) or (content[:1] == b"\x80" and content[-1:] == b"."):
            raise BundleError(f"{name} is a pickle, which runs foreign code when it is loaded")
    package = [
        {"path": name.removeprefix(PACKAGE), "size": len(content), "sha256": listed[name]["sha256"]}
        for name, content in sorted(files.items())
        if name.startswith(PACKAGE)
    ]
    text = json.dumps(package, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(text.encode()).hexdigest() != told["digest"]:
        raise BundleError(f"the package is not the one that was approved ({str(told['digest'])[:12]})")


def unsealed(envelope: bytes, payload_type: str, keys: str | Sequence[str]) -> bytes:
    """What a DSSE envelope holds, signed by one of these keys (https://github.com/secure-systems-lab/dsse).

    :raises BundleError: it is none, holds something else, or none of the keys signed it.
    """
    known = [_key(text) for text in ([keys] if isinstance(keys, str) else keys)]
    if len(envelope) > _SMALL_ENVELOPE:
        raise BundleError(f"the signed text is larger than {_SMALL_ENVELOPE:,} bytes")
    content = _parsed(envelope, "the signed text")
    try:
        kind, payload = content["payloadType"], base64.b64decode(content["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in content["signatures"][:_MOST_SIGNATURES]]
    except (TypeError, KeyError, ValueError, binascii.Error):
        raise BundleError("the signed text is no envelope") from None
    if kind != payload_type:
        raise BundleError(f"what is signed is {str(kind)[:80]!r}, not {payload_type!r}")
    message = b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type.encode(), len(payload), payload)
    if not any(verifies(key, signature, message) for key in known for signature in signatures):
        raise BundleError("none of its signatures was made by a key that counts here")
    return payload


def _key(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    point = _point(raw) if len(raw) == _KEY_BYTES else None
    # Under a key of small order anybody can sign.
    if point is None or _encoded(_times(8, point)) == _encoded(_NEUTRAL):
        raise BundleError("this is no public key that could be relied on; it has 44 characters")
    return raw


def _parsed(text: bytes, what: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BundleError(f"{what} is no plain JSON") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def _refuse_constant(_: str) -> Any:
    raise ValueError


# --- Ed25519, RFC 8032 section 5.1: verifying alone, so that nothing secret is ever computed with --------------------

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT = pow(2, (_P - 1) // 4, _P)
"""A square root of -1."""
_Point = tuple[int, int, int, int]
"""Extended coordinates: x and y times z, z, and x times y times z."""
_NEUTRAL: _Point = (0, 1, 1, 0)


def verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the holder of the private key signed exactly this."""
    if len(signature) != _SIGNATURE_BYTES:
        return False
    public, factor = _point(key), int.from_bytes(signature[32:], "little")
    if public is None or factor >= _ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    turned = (_P - public[0], public[1], public[2], _P - public[3])
    found = _plus(_times(factor, _BASE), _times(int.from_bytes(digest, "little") % _ORDER, turned))
    return _encoded(found) == signature[:32]


def _point(raw: bytes) -> _Point | None:
    """Section 5.1.3; ``None`` where the bytes are no point, or not the one way to write it."""
    number = int.from_bytes(raw, "little")
    y, odd = number & ((1 << 255) - 1), number >> 255
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT % _P
    if (x * x - square) % _P or (x == 0 and odd):
        return None
    x = _P - x if x & 1 != odd else x
    return x, y, 1, x * y % _P


def _encoded(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _plus(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(factor: int, point: _Point) -> _Point:
    found = _NEUTRAL
    while factor:
        if factor & 1:
            found = _plus(found, point)
        point, factor = _plus(point, point), factor >> 1
    return found


_BASE = _point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little")) or _NEUTRAL


# --- Answers ---------------------------------------------------------------------------------------------------------


def _value(row: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in row:
        raise BundleError(f"the row lacks {name!r}")
    value = row[name]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind == "category":
        return str(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BundleError(f"{name!r} is {str(value)[:40]!r}, which is no number") from None


def _repeat_golden(
    told: Mapping[str, Any],
    files: Mapping[str, bytes],
    score: Callable[[Sequence[Sequence[Any]]], list[list[float]]],
) -> None:
    golden = _parsed(files.get(GOLDEN, b"{}"), GOLDEN)
    rows, expected = golden.get("rows") or [], golden.get("answers") or []
    if not 0 < len(rows) <= MOST_ROWS or len(rows) != len(expected):
        raise BundleError("the archive holds no golden rows, so that nothing tells whether it answers as it should")
    worst = _difference(score(rows), expected)
    if not worst <= told["tolerance"]:
        raise BundleError(f"by {told['name']} it answers otherwise than training did, by up to {worst:.3g}")


def _difference(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> float:
    """The largest, relative for answers beyond 1; infinite where anything is not a number, or not there."""
    if [len(row) for row in found] != [len(row) for row in expected]:
        return math.inf
    pairs = [pair for row, wanted in zip(found, expected, strict=True) for pair in zip(row, wanted, strict=True)]
    if not all(math.isfinite(one) and math.isfinite(other) for one, other in pairs):
        return math.inf
    return max((abs(one - other) / max(1.0, abs(other)) for one, other in pairs), default=math.inf)


def _by_onnx(manifest: Mapping[str, Any], told: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
    session = onnx_session(files[told["file"]])
    return lambda rows: onnx_scores(session, manifest["inputs"], len(manifest["outputs"]), rows)


def onnx_session(model: bytes) -> Any:
    """A model that onnxruntime runs, on the processor and with one thread."""
    try:
        import onnxruntime
    except ImportError as error:
        raise NotInstalledError(f"answering by onnx needs {error.name}; install it") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BundleError(f"the model cannot be loaded by onnxruntime ({_first_line(error)})") from error


def onnx_scores(
    session: Any, inputs: Sequence[Mapping[str, str]], outputs: int, rows: Sequence[Sequence[Any]]
) -> list[list[float]]:
    """One column for each input, named by its place; the last output holds the numbers, of two classes the second."""
    import numpy as np

    feed: dict[str, Any] = {}
    for place, one in enumerate(inputs):
        column = [row[place] for row in rows]
        if one["kind"] == "category":
            texts = [MISSING_CATEGORY if value is None else value for value in column]
            feed[f"input_{place}"] = np.array(texts, dtype=object).reshape(-1, 1)
        else:
            numbers = [math.nan if value is None else value for value in column]
            feed[f"input_{place}"] = np.array(numbers, dtype="float32").reshape(-1, 1)
    try:
        found = np.asarray(session.run(None, feed)[-1], dtype="float64").reshape(len(rows), -1)
    except Exception as error:
        raise BundleError(f"onnxruntime cannot answer ({_first_line(error)})") from error
    scores: list[list[float]] = found[:, -outputs:].tolist()
    return scores


def _by_skops(manifest: Mapping[str, Any], told: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
    data = files[told["file"]]
    _check_types(data, told.get("types") or [])
    try:
        import pandas as pd
        import skops.io
    except ImportError as error:
        raise NotInstalledError(f"answering by skops needs {error.name}; install package/requirements.txt") from None
    try:
        model = skops.io.loads(data, trusted=sorted(told["types"]))
    except Exception as error:
        raise BundleError(f"the model cannot be loaded ({_first_line(error)}); see package/requirements.txt") from error
    inputs, outputs = manifest["inputs"], len(manifest["outputs"])

    def score(rows: Sequence[Sequence[Any]]) -> list[list[float]]:
        columns = {}
        for place, one in enumerate(inputs):
            values = [math.nan if row[place] is None else row[place] for row in rows]
            columns[one["name"]] = pd.Series(values, dtype="object" if one["kind"] == "category" else "float64")
        table = pd.DataFrame(columns)
        found = model.predict_proba(table) if manifest.get("classes") else model.predict(table).reshape(len(rows), 1)
        scores: list[list[float]] = found[:, -outputs:].tolist()
        return scores

    return score


def _check_types(data: bytes, allowed: Sequence[str]) -> None:
    """Nothing is constructed before each type is one that was signed, and none is a function to call."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as held:
            waiting = [json.loads(held.read("schema.json"))]
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, NotImplementedError):
        raise BundleError("the model file is no skops file") from None
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__class__" in node or "__module__" in node or "__loader__" in node:
                name, way = f"{node.get('__module__')}.{node.get('__class__')}", node.get("__loader__")
                if name not in allowed or way not in _LOADERS:
                    raise BundleError(f"the model holds {name} ({way}), which is not loaded here")
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


_SCORERS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, bytes]], Any]] = {
    "onnx": _by_onnx,
    "skops": _by_skops,
}


# --- Channels --------------------------------------------------------------------------------------------------------


def follow(
    source: str | os.PathLike[str] | Callable[[str], bytes],
    keys: str | Sequence[str],
    *,
    state: str | os.PathLike[str],
    prefer: str | None = None,
) -> Bundle:
    """The archive that a channel points at, verified; never one from before what this device has seen.

    :param source: The channel's folder, or a function that fetches a file of it by name.
    :param state: A file of this device: which channel it follows, and the newest epoch that it saw.
    :raises BundleError: pointer or archive does not hold, is of another channel, or of an earlier epoch.
    """
    read = source if callable(source) else _reader(Path(source))
    pointer = _parsed(unsealed(read(POINTER), CHANNEL_TYPE, keys), POINTER)
    _check_pointer(pointer)
    _check_state(pointer, Path(state))
    data = read(pointer["bundle"])
    if hashlib.sha256(data).hexdigest() != pointer["sha256"]:
        raise BundleError(f"{pointer['bundle']} is not the archive that the channel points at")
    bundle = open_bundle(data, keys, prefer=prefer)
    for name in ("model", "version", "digest", "environment"):
        if bundle.manifest.get(name) != pointer[name]:
            raise BundleError(f"the archive is of another {name} than the channel says")
    _remember(pointer, Path(state))
    return bundle


def _reader(folder: Path) -> Callable[[str], bytes]:
    return lambda name: _bytes_of(folder / name)


def _check_pointer(pointer: Any) -> None:
    wanted = {"epoch": int, "version": int, "model": str, "environment": str, "channel": str, "bundle": str}
    wanted |= {"sha256": str, "digest": str}
    if not isinstance(pointer, dict) or pointer.get("layout") != LAYOUT:
        raise BundleError(f"the channel's pointer is not of layout {LAYOUT}")
    for name, kind in wanted.items():
        if type(pointer.get(name)) is not kind:
            raise BundleError(f"the channel's pointer says no {name}")
    if not _PART.fullmatch(pointer["bundle"]) or not _DIGEST.fullmatch(pointer["sha256"]):
        raise BundleError("the channel's pointer names no archive")


def _check_state(pointer: Mapping[str, Any], state: Path) -> None:
    """An older pointer was signed, too: only what this device remembers tells that it is played back to it."""
    if not state.exists():
        return
    seen = _parsed(_bytes_of(state), str(state))
    if not isinstance(seen, dict) or type(seen.get("epoch")) is not int:
        raise BundleError(f"{state} is not what this loader wrote; restore it")
    for name in ("model", "environment", "channel"):
        if seen.get(name) != pointer[name]:
            raise BundleError(f"this device follows the {name} {seen.get(name)!r}, not {pointer[name]!r}")
    if pointer["epoch"] < seen["epoch"]:
        raise BundleError(f"the channel shows epoch {pointer['epoch']}, and this device saw epoch {seen['epoch']}")
    if pointer["epoch"] == seen["epoch"] and pointer["digest"] != seen.get("digest"):
        raise BundleError(f"the channel shows two versions under epoch {pointer['epoch']}")


def _remember(pointer: Mapping[str, Any], state: Path) -> None:
    seen = {name: pointer[name] for name in ("model", "environment", "channel", "epoch", "digest")}
    handle, name = tempfile.mkstemp(prefix=f".{state.name}.", dir=state.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(seen, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(state)
    finally:
        Path(name).unlink(missing_ok=True)


# --- As a command ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify an archive, and answer rows by it; 0 where it holds, 1 where it does not."""
    parser = argparse.ArgumentParser(description="Verify a model archive, and answer rows by it.")
    parser.add_argument("file")
    parser.add_argument("--key", required=True, action="append", help="a public key, 44 characters; may be repeated")
    parser.add_argument("--rows", metavar="JSON", help="a file with a list of objects, one a row")
    options = parser.parse_args(arguments)
    try:
        bundle = open_bundle(options.file, options.key)
        told = bundle.manifest
        said = [f"{told['model']} version {told['version']} ({told['digest'][:12]}), answering by {bundle.format}"]
        if options.rows is not None:
            said = [json.dumps(answer) for answer in bundle.answer(_parsed(_bytes_of(options.rows), options.rows))]
    except BundleError as error:
        sys.stderr.write(f"{options.file} does not hold: {error}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
