"""``python -m ml_lifecycle.serving.server``: one process that serves one model version.

Each option may come from the environment, as SageMaker and Kubernetes hand options in: ``--drain-s`` is
``ML_LIFECYCLE_DRAIN_S``. ``docs/guides/model-server.md`` describes what it answers.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.core.errors import LifecycleError, MissingLibraryError
from ml_lifecycle.serving.application import ModelService, ServedModel, Terms, application
from ml_lifecycle.serving.request_log import LogOptions, RequestLog, Segment

if TYPE_CHECKING:
    from ml_lifecycle.backends.models.base import PackageInfo

REFUSED: Final = 1
"""Exit code of a server that may not, or cannot, serve its package."""
WRONG_USAGE: Final = 64
PREFIX: Final = "ML_LIFECYCLE_"
_MEGABYTE: Final = 1024 * 1024
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(WRONG_USAGE, f"{self.prog}: {message}\n")


def options_of(arguments: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    """What the command line says, and where it is silent the environment."""
    parser = _Parser(prog="python -m ml_lifecycle.serving.server", description="Serve one model version.")
    parser.add_argument("serve", nargs="?", choices=["serve"], help="what SageMaker starts a container with")

    def add(name: str, kind: type, default: Any, text: str) -> None:
        told = environment.get(PREFIX + name.upper().replace("-", "_"))
        required = default is None and told is None
        parser.add_argument(
            f"--{name}", type=kind, default=default if told is None else told, required=required, help=text
        )

    add("package", str, environment.get("SM_MODEL_DIR", "/opt/ml/model"), "folder of the model package")
    add("digest", str, None, "the package's digest; other bytes are not served")
    add("model", str, None, "the model's name")
    add("version", int, None, "the version's number")
    add("host", str, "127.0.0.1", "address to listen at")
    add("port", int, environment.get("SAGEMAKER_BIND_TO_PORT", 8080), "port to listen at")
    add("log", str, "", "folder of the prediction log; left out, nothing is logged")
    add("log-every-s", float, 30.0, "seconds after which answers become parquet in the log")
    add("log-user-header", str, "", "header that names the user, whose value the log then keeps")
    add("drain-s", float, 2.0, "seconds that it goes on answering after SIGTERM, while /ping answers 503")
    add("read-s", float, 20.0, "seconds within which a request must have come in whole")
    add("keep-alive-s", float, 75.0, "seconds that a connection may be idle")
    add("max-body-mb", int, 16, "largest request")
    types = environment.get(f"{PREFIX}TRUSTED_TYPES", "").split(",")
    parser.add_argument(
        "--trusted-type",
        action="append",
        default=[one.strip() for one in types if one.strip()],
        help="a type that the package may hold beside those that are listed here; may be repeated",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; returns the exit code."""
    options = options_of(sys.argv[1:] if arguments is None else arguments, os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in _THREADS:
        # Requests hold few rows: threads of the libraries would only wait for each other.
        os.environ.setdefault(name, "1")
    warnings.simplefilter("ignore")
    try:
        service = _service(options)
    except LifecycleError as error:
        print(f"{error}", file=sys.stderr)  # noqa: T201  # a program that ends tells why
        return REFUSED
    # What was loaded stays: no collection has to look through all libraries while a request waits.
    gc.collect()
    gc.freeze()
    try:
        _run(service, options)
    finally:
        service.close()
    return 0


def _service(options: argparse.Namespace) -> ModelService:
    for library in ("fastapi", "uvicorn"):
        if find_spec(library) is None:
            raise MissingLibraryError(library, "serving")
    from ml_lifecycle.serving.scorer import Scorer

    served = ServedModel(model=options.model, version=options.version, digest=options.digest)
    folder = Path(options.package)
    scorer = Scorer.load(folder, options.digest, trusted_types=options.trusted_type)
    terms = Terms(
        body_bytes=options.max_body_mb * _MEGABYTE,
        row_s=scorer.warm_up(folder),
        user_header=options.log_user_header,
    )
    return ModelService(served, scorer, terms=terms, log=_log(options, scorer.info) if options.log else None)


def _log(options: argparse.Namespace, info: PackageInfo) -> RequestLog:
    segment = Segment(
        endpoint=options.model,
        version=options.version,
        digest=options.digest,
        inputs=info.inputs,
        classes=info.classes,
        writer=os.getpid(),
    )
    return RequestLog(LogOptions(Path(options.log), every_s=options.log_every_s), segment)


def _run(service: ModelService, options: argparse.Namespace) -> None:
    import uvicorn

    from ml_lifecycle.serving.connections import patient_protocol

    class Server(uvicorn.Server):
        """Goes on answering for a while after it was asked to end."""

        async def startup(self, sockets: list[Any] | None = None) -> None:
            self.loop = asyncio.get_running_loop()
            await super().startup(sockets)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
            if service.draining or not self.started:
                self.end()
                return
            service.draining = True
            self.loop.call_soon_threadsafe(self.loop.call_later, options.drain_s, self.end)

        def end(self) -> None:
            """Take no more connections, and end when the last request is answered."""
            self.should_exit = True

    config = uvicorn.Config(
        application(service),
        host=options.host,
        port=options.port,
        http=patient_protocol(options.read_s),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=options.keep_alive_s,
        timeout_graceful_shutdown=30,
        backlog=2048,
    )
    Server(config).run()


if __name__ == "__main__":
    sys.exit(main())
