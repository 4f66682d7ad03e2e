"""The model server's endpoints: MLflow's ``/ping``, ``/version`` and ``/invocations``, and ``/health`` and ``/stats``."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import ml_lifecycle
from ml_lifecycle.core.contracts import Contract
from ml_lifecycle.core.errors import InvocationError, LifecycleError, ModelAnswerError, OverloadedError
from ml_lifecycle.serving.connections import READ_AT
from ml_lifecycle.serving.protocol import JSON, answer_body, error_body, read, read_keys
from ml_lifecycle.serving.stats import Stats

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.responses import Response

    from ml_lifecycle.serving.scorer import Scorer

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

KEYS_HEADER: Final = "X-Prediction-Keys"
_logger: Final = logging.getLogger(__name__)
_LONGEST_ID: Final = 128
_SMALL_BODY: Final = 65536
"""Bytes up to which a request is answered between two others."""
_QUICK_S: Final = 0.005
"""Seconds up to which a prediction is made between two requests; a slower model gets a thread of its own."""
_MOST_WAITING: Final = 32
"""Requests that wait for the thread."""


class ServedModel(Contract):
    """What a server answers for."""

    model: str
    version: int
    digest: str


@dataclass(frozen=True)
class Limits:
    """What one request may cost."""

    body_bytes: int = 16 * 1024 * 1024


class ModelService:
    """One model version behind its endpoints."""

    def __init__(self, served: ServedModel, scorer: Scorer, *, limits: Limits, row_seconds: float | None) -> None:
        self.served = served
        self.scorer = scorer
        self.limits = limits
        self.stats = Stats()
        self.draining = False
        self._inputs = tuple(scorer.info.inputs)
        self._inline = row_seconds is not None and row_seconds <= _QUICK_S
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._stamp = (
            (b"content-type", b"application/json"),
            (b"x-model-version", str(served.version).encode()),
            (b"x-model-digest", served.digest.encode()),
        )

    async def invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``/invocations``, as a bare ASGI application."""
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        try:
            body = await _body(headers, receive, self.limits.body_bytes)
            if body is None:
                return
            status, content = 200, await self._answer(body, headers, request_id)
        except InvocationError as error:
            status, content = error.status, error_body(error, error.status)
        except OverloadedError as error:
            status, content = 503, error_body(error, 503)
        except ModelAnswerError as error:
            _logger.error("request %s: %s", request_id, error, exc_info=error.__cause__)
            status, content = 500, error_body(error, 500)
        except Exception:
            _logger.exception("request %s", request_id)
            status, content = 500, error_body(LifecycleError("the server failed on this request"), 500)
        await self._send(send, status, content, request_id)
        self.stats.count(status, time.perf_counter() - scope[READ_AT])

    async def _answer(self, body: bytes, headers: Mapping[bytes, bytes], request_id: str) -> bytes:
        if self._inline and len(body) <= _SMALL_BODY:
            return self._predicted(body, headers, request_id)
        if self._waiting >= _MOST_WAITING:
            raise OverloadedError(
                f"{self._waiting} requests are waiting", where=self.served.model, way_out="ask again in a second"
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._predicted, body, headers, request_id)
        finally:
            self._waiting -= 1

    def _predicted(self, body: bytes, headers: Mapping[bytes, bytes], request_id: str) -> bytes:
        asked = read(body, headers.get(b"content-type", b"").decode("latin-1"), self._inputs)
        keys = asked.keys
        if keys is None and (told := headers.get(KEYS_HEADER.lower().encode())) is not None:
            names = [one.strip() for one in told.decode("latin-1").split(",")]
            keys = read_keys(names, rows=asked.rows, where=KEYS_HEADER)
        scores = self.scorer.scores(self.scorer.table(asked.columns))
        return answer_body(scores)

    async def _send(self, send: Send, status: int, content: bytes, request_id: str) -> None:
        headers = [*self._stamp, (b"x-request-id", request_id.encode()), (b"content-length", b"%d" % len(content))]
        if self.draining or status == 413:
            headers.append((b"connection", b"close"))
        if status == 503:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def told(self) -> dict[str, Any]:
        """What ``/health`` answers."""
        return {**self.served.to_xcom(), "ready": not self.draining, "draining": self.draining}

    def close(self) -> None:
        """Let go of what it holds; nothing is answered any more."""
        self._thread.shutdown()


def application(service: ModelService) -> FastAPI:
    """The endpoints of a service."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse, PlainTextResponse, Response

    app = FastAPI(title=service.served.model, version=str(service.served.version), docs_url=None, redoc_url=None)

    async def ping() -> Response:
        return Response("\n", status_code=503 if service.draining else 200, media_type=JSON)

    async def version() -> Response:
        return PlainTextResponse(ml_lifecycle.__version__)

    async def health() -> Response:
        return JSONResponse(service.told())

    async def stats() -> Response:
        return JSONResponse(service.stats.told())

    async def invocations() -> Response:
        raise NotImplementedError

    for path, endpoint in {"/ping": ping, "/version": version, "/health": health, "/stats": stats}.items():
        app.add_api_route(path, endpoint, methods=["GET"], response_model=None)
    app.add_api_route("/invocations", invocations, methods=["POST"], response_model=None)
    app.routes[-1].app = service.invoke  # type: ignore[attr-defined]
    return app


async def _body(headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes | None:
    """The whole body; ``None`` where the client is gone."""
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > most:
        raise _too_large(most)
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    if not message.get("more_body", False):
        return bytes(message.get("body", b""))
    parts = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(most)
    return b"".join(parts)


def _too_large(most: int) -> InvocationError:
    return InvocationError(
        f"it is larger than {most:,} bytes", where="the request's body", way_out="send fewer rows", status=413
    )


def _request_id(told: bytes | None) -> str:
    """The caller's, where it is a short printable text without blanks; else one of our own."""
    if told is not None and 0 < len(told) <= _LONGEST_ID and all(0x21 <= one < 0x7F for one in told):
        return told.decode("ascii")
    return os.urandom(16).hex()
