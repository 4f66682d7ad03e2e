"""``ml-lifecycle export`` and ``ml-lifecycle bundle``: hand a model out to apps and devices, and look at what was."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.ledgers import add_ledger, environment_of, opened, tracking_at
from ml_lifecycle.commands.output import CODES, DONE, FAILED, INCONCLUSIVE, print_json, publish_bytes, publish_copy
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from ml_lifecycle.backends.export.loader import Bundle
    from ml_lifecycle.stages.runner import Tools

_EXAMPLES = f"""\
an approved version as one signed file, and whether such a file holds:
  ml-lifecycle export bundle flights --version 7 --out flights-7.zip --key release.pem --ledger URL --mlflow URL
  ml-lifecycle bundle verify flights-7.zip --key release.pub

exit codes: 0 done, or it holds; 1 it does not; 2 the libraries to answer with are not installed here; {CODES}
"""


def add_parser(subparsers: Any) -> None:
    """Add both commands' options."""
    _add_export(subparsers)
    _add_bundle(subparsers)


def _add_export(subparsers: Any) -> None:
    commands = _group(subparsers, "export", "hand an approved model version out to apps and devices")
    bundle = commands.add_parser("bundle", help="as one signed archive", epilog=_EXAMPLES, **_RAW)
    bundle.add_argument("model", metavar="MODEL", help="name of the registered model")
    bundle.add_argument("--version", required=True, type=int, metavar="N", help="which one; it has to be approved")
    bundle.add_argument("--out", required=True, type=Path, metavar="FILE", help="the archive, such as flights-7.zip")
    bundle.add_argument("--key", required=True, type=Path, metavar="PEM", help="private key that it is signed by")
    bundle.add_argument("--onnx", action="store_true", help="let it answer by ONNX, too, without scikit-learn")
    add_ledger(bundle)
    bundle.add_argument("--environment", metavar="NAME", help="needed where the ledger knows the model in several")
    bundle.add_argument("--mlflow", required=True, metavar="URL", help="where packages are: http://..., or file:///...")
    bundle.add_argument("--by", metavar="NAME", default="", help="who exports it, for the audit")
    bundle.add_argument("--json", action="store_true", help="print the result as JSON")
    bundle.set_defaults(command=export_bundle)
    loader = commands.add_parser("loader", help="the one file that apps open archives with", epilog=_EXAMPLES, **_RAW)
    loader.add_argument("--out", required=True, type=Path, metavar="FILE", help="such as loader.py")
    loader.set_defaults(command=export_loader)


def _add_bundle(subparsers: Any) -> None:
    commands = _group(subparsers, "bundle", "look at a signed archive")
    verify = commands.add_parser("verify", help="say whether it holds", epilog=_EXAMPLES, **_RAW)
    verify.add_argument("file", type=Path, metavar="FILE", help="the archive")
    verify.add_argument("--key", required=True, type=Path, metavar="PUB", help="public keys that may have signed it")
    verify.add_argument("--environment", metavar="NAME", help="which environment has to have approved it")
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    verify.set_defaults(command=verify_bundle)


_RAW: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}


def _group(subparsers: Any, name: str, text: str) -> Any:
    parser = subparsers.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXAMPLES, **_RAW
    )
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest=name)


# --- Out -------------------------------------------------------------------------------------------------------------


def export_bundle(options: argparse.Namespace) -> int:
    """Write the archive; the ledger's audit names it."""
    from ml_lifecycle.core.contracts import RunRequest
    from ml_lifecycle.stages.export import ExportJob, export_file
    from ml_lifecycle.stages.runner import extras_named

    if options.version < 1:
        raise RequestError(f"{options.version} is no version", where="--version", way_out="name a number such as 7")
    with extras_named(), _tools(options) as tools:
        request = RunRequest(
            model=options.model, stream="release", version=options.version, requester=options.by or None
        )
        exported, data = export_file(ExportJob(request=request, version=options.version, onnx=options.onnx), tools)
    publish_bytes(data, options.out)
    if options.json:
        print_json({**exported.to_xcom(), "file": str(options.out)})
    else:
        print(f"{options.out}: {exported.model} version {exported.version} of {exported.environment}")
        print(f"  {exported.size:,} bytes, sha256 {exported.sha256}")
        print(f"  answers by {', '.join(exported.formats)}; signed by key {exported.signed_by}")
    return DONE


def export_loader(options: argparse.Namespace) -> int:
    """Write the loader."""
    from ml_lifecycle.backends.export import loader

    publish_copy(Path(loader.__file__), options.out)
    print(f"{options.out}: copy it beside the app")
    return DONE


@contextmanager
def _tools(options: argparse.Namespace) -> Iterator[Tools]:
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.signing.keys import read_signing_key
    from ml_lifecycle.stages.runner import Tools

    ledger, key = opened(options.ledger), read_signing_key(options.key)
    environment = environment_of(ledger, options.model, environment=options.environment)
    tracking = tracking_at(options.mlflow)
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as empty:
        yield Tools(
            data=LocalStore(Path(empty).resolve()),
            project=Path.cwd(),
            tracking=tracking,
            registry=tracking,
            ledger=ledger,
            environment=environment,
            signing_key=lambda: key,
        )


# --- In --------------------------------------------------------------------------------------------------------------


def verify_bundle(options: argparse.Namespace) -> int:
    """Print whether the archive holds, as a device would find."""
    from ml_lifecycle.backends.export.loader import BundleError, NotInstalledError

    try:
        held, why, code = _opened(options), "", DONE
    except NotInstalledError as error:
        held, why, code = [], str(error), INCONCLUSIVE
    except BundleError as error:
        held, why, code = [], str(error), FAILED
    if options.json:
        formats = [bundle.format for bundle in held]
        manifest = {name: value for name, value in held[0].manifest.items() if name != "files"} if held else None
        print_json(
            {"file": str(options.file), "holds": code == DONE, "problem": why, "formats": formats, "bundle": manifest}
        )
        return code
    for bundle in held:
        told = bundle.manifest
        model = f"{told['model']} version {told['version']} ({told['digest'][:12]})"
        print(f"ok: {model} repeats its golden rows by {bundle.format}")
    if code == INCONCLUSIVE:
        print(f"unknown: signature and bytes hold, and nobody knows how it answers: {why}")
    print(f"{options.file} {_SAID[code]}" + (f": {why}" if code == FAILED else ""))
    return code


_SAID = {DONE: "holds", FAILED: "does not hold", INCONCLUSIVE: "was not tried"}


def _opened(options: argparse.Namespace) -> list[Bundle]:
    """The archive, once for each way in which it can answer."""
    from ml_lifecycle.backends.export.loader import BundleError, open_bundle
    from ml_lifecycle.backends.export.loader import verify_bundle as verified
    from ml_lifecycle.backends.signing.keys import read_public_keys

    keys = [key.text for key in read_public_keys(options.key)]
    if not options.file.is_file():
        raise RequestError("there is no such file", where=str(options.file), way_out="check the path")
    manifest, _ = verified(options.file, keys)
    if options.environment not in (None, manifest.get("environment")):
        raise BundleError(f"it was approved for {manifest.get('environment')!r}, not {options.environment!r}")
    return [open_bundle(options.file, keys, prefer=one["name"]) for one in manifest["formats"]]
