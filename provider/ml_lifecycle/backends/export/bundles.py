"""Making a bundle: the package, its golden rows as plain JSON, the loader, and a manifest that is signed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.export import loader
from ml_lifecycle.backends.models.base import PackageInfo, read_info
from ml_lifecycle.backends.models.golden import read_golden
from ml_lifecycle.backends.models.inputs import CATEGORY, NUMBER, TWO_CLASSES, prepare
from ml_lifecycle.backends.models.skops import MODEL_FILE, SkopsFormat, check_types
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.keys import SigningKey
from ml_lifecycle.core.bundle import (
    ONNX_TOLERANCE,
    SKOPS_TOLERANCE,
    BundleFile,
    BundleFormat,
    BundleInput,
    BundleManifest,
    ChannelPointer,
)
from ml_lifecycle.core.contracts import Contract, canonical_json
from ml_lifecycle.core.errors import ConfigurationError, MissingLibraryError, UntrustedModelError

if TYPE_CHECKING:
    import pandas as pd

ONNX_FILE: Final = "model.onnx"
LOADER_FILE: Final = "loader.py"
_KINDS: Final = {NUMBER: "number", CATEGORY: "category"}


@dataclass(frozen=True)
class Subject:
    """What is put into a bundle, and what gives the right to it."""

    model: str
    version: int
    digest: str
    environment: str
    decision_id: str | None
    dataset_fingerprint: str


@dataclass(frozen=True)
class Bundle:
    """A finished archive."""

    manifest: BundleManifest
    data: bytes

    @property
    def sha256(self) -> str:
        """Of the archive."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        """What the archive is called: its version, then the first digits of its bytes' digest."""
        return f"v{self.manifest.version}-{self.sha256[:16]}.zip"


def make_bundle(
    package: Path, subject: Subject, key: SigningKey, *, onnx: bool, trusted_types: Sequence[str] = ()
) -> Bundle:
    """The signed archive of a package whose bytes were held against their digest; it was opened as a device would.

    The same package, subject, key and program give the same bytes.

    :param onnx: Whether it can also answer by ONNX.
    :raises UntrustedModelError: the package holds no golden rows, holds types that are not loaded here, does not repeat
        its golden rows, or cannot be written as ONNX.
    """
    info = read_info(package, where=subject.model)
    golden, answers = _golden(package, info)
    files = {f"{loader.PACKAGE}{name}": content for name, content in _contents(package).items()}
    files[loader.GOLDEN] = _golden_json(golden, answers)
    files[LOADER_FILE] = Path(loader.__file__).read_bytes()
    formats = [_skops(package, trusted_types)]
    if onnx:
        files[ONNX_FILE] = _onnx(package, info, golden, trusted_types)
        formats.append(BundleFormat(name="onnx", file=ONNX_FILE, tolerance=ONNX_TOLERANCE))
    manifest = BundleManifest(
        model=subject.model,
        version=subject.version,
        digest=subject.digest,
        environment=subject.environment,
        decision_id=subject.decision_id,
        training_key=info.training_key,
        dataset_fingerprint=subject.dataset_fingerprint,
        inputs=tuple(BundleInput.model_validate({"name": name, "kind": kind}) for name, kind in _inputs(info).items()),
        outputs=_outputs(info),
        classes=info.classes,
        formats=tuple(formats),
        files=tuple(_listed(files)),
    )
    return _sealed(manifest, files, key)


def needed_key(key: SigningKey | None) -> SigningKey:
    """The deployment's key.

    :raises ConfigurationError: it has none.
    """
    if key is None:
        raise ConfigurationError(
            "there is no key to sign bundles with",
            where="connection of [ml_lifecycle] signing_conn_id",
            way_out="make one with `ml-lifecycle keygen`, and enter its text as the connection's password",
        )
    return key


def seal_pointer(pointer: ChannelPointer, key: SigningKey) -> bytes:
    """The pointer in its envelope."""
    return dsse.seal(_text(pointer), loader.CHANNEL_TYPE, key).encode()


def _sealed(manifest: BundleManifest, files: Mapping[str, bytes], key: SigningKey) -> Bundle:
    text = _text(manifest)
    envelope = dsse.seal(text, loader.BUNDLE_TYPE, key).encode()
    entries = {loader.MANIFEST: text, loader.ENVELOPE: envelope, **dict(sorted(files.items()))}
    bundle = Bundle(manifest=manifest, data=b"".join(loader.archive(entries)))
    for one in manifest.formats:
        _open_as_a_device(bundle, key, prefer=one.name)
    return bundle


def _open_as_a_device(bundle: Bundle, key: SigningKey, *, prefer: str) -> None:
    try:
        loader.open_bundle(bundle.data, key.public.text, prefer=prefer)
    except loader.NotInstalledError:
        raise MissingLibraryError(prefer, {"skops": "sklearn"}.get(prefer, prefer)) from None
    except loader.BundleError as error:
        raise UntrustedModelError(
            f"its bundle does not hold: {error}", where=bundle.manifest.model, way_out="train again, then release it"
        ) from error


def _text(contract: Contract) -> bytes:
    return canonical_json(contract.to_xcom()).encode()


def _contents(package: Path) -> dict[str, bytes]:
    """The caller has hashed every file, and so refused links."""
    return {
        path.relative_to(package).as_posix(): path.read_bytes() for path in sorted(package.rglob("*")) if path.is_file()
    }


def _listed(files: Mapping[str, bytes]) -> list[BundleFile]:
    return [
        BundleFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in sorted(files.items())
    ]


def _inputs(info: PackageInfo) -> dict[str, str]:
    return {name: _KINDS[kind] for name, kind in info.inputs.items()}


def _outputs(info: PackageInfo) -> tuple[str, ...]:
    return tuple(f"score_{label}" for label in info.classes) if len(info.classes) > TWO_CLASSES else ("score",)


def _skops(package: Path, trusted_types: Sequence[str]) -> BundleFormat:
    held = check_types((package / MODEL_FILE).read_bytes(), allowed_types=trusted_types, where=MODEL_FILE)
    file = f"{loader.PACKAGE}{MODEL_FILE}"
    return BundleFormat(name="skops", file=file, tolerance=SKOPS_TOLERANCE, types=tuple(sorted(held)))


def _onnx(package: Path, info: PackageInfo, golden: pd.DataFrame, trusted_types: Sequence[str]) -> bytes:
    from ml_lifecycle.backends.models.onnx import to_onnx

    return to_onnx(SkopsFormat().load(package, allowed_types=trusted_types), info, golden)


def _golden(package: Path, info: PackageInfo) -> tuple[pd.DataFrame, Any]:
    """The rows as the model takes them, and training's own answers; rows with an infinity are no plain JSON."""
    import numpy as np

    held = read_golden(package)
    if held is None:
        raise _no_golden(info)
    rows = prepare(held[0], info.inputs, where=f"golden rows of {info.name}")
    numbers = rows.select_dtypes("number").to_numpy("float64")
    finite = ~np.isinf(numbers).any(axis=1)
    if not finite.any():
        raise _no_golden(info)
    return rows[finite].reset_index(drop=True), held[1][finite]


def _no_golden(info: PackageInfo) -> UntrustedModelError:
    return UntrustedModelError(
        "the package holds no golden rows, so that nothing would tell whether a device answers as training did",
        where=info.name,
        way_out="train again, and release that version",
    )


def _golden_json(rows: pd.DataFrame, answers: Any) -> bytes:
    plain = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    return canonical_json({"rows": plain, "answers": answers.tolist()}).encode()
