"""A model server's endpoints: MLflow's ``/ping``, ``/version`` and ``/invocations``; ``/health`` and ``/stats``."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import ml_lifecycle
from ml_lifecycle.core.contracts import Contract
from ml_lifecycle.core.errors import InvocationError, LifecycleError, OverloadedError
from ml_lifecycle.serving.connections import READ_AT
from ml_lifecycle.serving.protocol import CSV, JSON, Asked, answer_body, error_body, read, read_keys, schema_of
from ml_lifecycle.serving.request_log import Answered, RequestLog
from ml_lifecycle.serving.stats import Stats
from ml_lifecycle.serving.values import columns_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.responses import Response

    from ml_lifecycle.serving.scorer import Scorer

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Headers = Mapping[bytes, bytes]

KEYS_HEADER: Final = "X-Prediction-Keys"
"""Names each row of a request that cannot say so in its body, separated by commas."""
SMALL_BODY: Final = 65536
"""Bytes up to which a request is answered between two others."""
QUICK_S: Final = 0.005
"""Seconds a row up to which it is; a slower model answers in a thread, so that ``/ping`` does not wait for it."""
MOST_WAITING: Final = 32
"""Requests that the thread has before it, at most."""
_LONGEST_ID: Final = 128
_PRINTABLE: Final = frozenset(range(0x21, 0x7F))
_OK, _TOO_LARGE, _FAILED, _UNAVAILABLE = 200, 413, 500, 503
_logger: Final = logging.getLogger(__name__)


class ServedModel(Contract):
    """What a server answers for."""

    model: str
    version: int
    digest: str


@dataclass(frozen=True)
class Terms:
    """How requests are taken."""

    body_bytes: int = 16 * 1024 * 1024
    """Largest request."""
    row_s: float | None = None
    """How long a prediction of one row takes; ``None`` where nobody knows."""
    user_header: str = ""
    """Header whose value the prediction log keeps; empty for none."""


class ModelService:
    """One model version behind its endpoints."""

    def __init__(
        self, served: ServedModel, scorer: Scorer, *, terms: Terms | None = None, log: RequestLog | None = None
    ) -> None:
        self.served = served
        self.stats = Stats()
        self.draining = False
        self._terms = Terms() if terms is None else terms
        self._scorer = scorer
        self._log = log
        self._inputs = tuple(scorer.info.inputs)
        self._user_header = self._terms.user_header.lower().encode()
        self._is_quick = self._terms.row_s is not None and self._terms.row_s <= QUICK_S
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._stamp = (
            (b"content-type", JSON.encode()),
            (b"x-model-version", str(served.version).encode()),
            (b"x-model-digest", served.digest.encode()),
        )

    def told(self) -> dict[str, Any]:
        """What ``/health`` answers."""
        return {**self.served.to_xcom(), "ready": not self.draining, "draining": self.draining}

    def counted(self) -> dict[str, Any]:
        """What ``/stats`` answers."""
        log = {"written": 0, "dropped": 0, "damaged": 0} if self._log is None else self._log.told()
        return {**self.stats.told(), "log": log}

    def schema(self) -> dict[str, Any]:
        """What ``/invocations`` takes, as a JSON schema."""
        return schema_of(self._scorer.info.inputs)

    def close(self) -> None:
        """Bring the prediction log to its end; nothing is answered any more."""
        self._thread.shutdown()
        if self._log is not None:
            self._log.close()

    async def invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``/invocations``, as a bare ASGI application: what a framework does around each request costs as much."""
        headers = dict(scope["headers"])
        request_id = request_id_of(headers.get(b"x-request-id"))
        try:
            body = await _body(headers, receive, self._terms.body_bytes)
            if body is None:
                return
            status, content = _OK, await self._answer(body, headers, request_id, _began(scope))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is counted, and answered without its trace
            status, content = _refusal(error, request_id)
        await self._send(send, status, content, request_id)
        self.stats.count(status, time.perf_counter() - _began(scope))

    async def _answer(self, body: bytes, headers: Headers, request_id: str, began: float) -> bytes:
        if self._is_quick and len(body) <= SMALL_BODY:
            return self._answered(body, headers, request_id, began)
        if self._waiting >= MOST_WAITING:
            raise OverloadedError(
                f"{self._waiting} requests are waiting", where=self.served.model, way_out="ask again in a second"
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._answered, body, headers, request_id, began)
        finally:
            self._waiting -= 1

    def _answered(self, body: bytes, headers: Headers, request_id: str, began: float) -> bytes:
        asked = read(body, headers.get(b"content-type", b"").decode("latin-1"), self._inputs)
        keys = _keys(asked, headers)
        scores = self._scorer.scores(columns_of(asked.columns, self._scorer.info.inputs), asked.rows).tolist()
        if self._log is not None:
            self._log.put(
                Answered(
                    at=time.time(),
                    request_id=request_id,
                    keys=keys,
                    columns=asked.columns,
                    rows=asked.rows,
                    scores=scores,
                    latency_ms=1000 * (time.perf_counter() - began),
                    user=headers[self._user_header].decode("latin-1") if self._user_header in headers else None,
                )
            )
        return answer_body(scores)

    async def _send(self, send: Send, status: int, content: bytes, request_id: str) -> None:
        headers = [*self._stamp, (b"x-request-id", request_id.encode()), (b"content-length", b"%d" % len(content))]
        if self.draining or status == _TOO_LARGE:
            # Of a request that is too large the rest is not read.
            headers.append((b"connection", b"close"))
        if status == _UNAVAILABLE:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def application(service: ModelService) -> FastAPI:
    """The endpoints of a service; ``/openapi.json`` describes them."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse, PlainTextResponse, Response

    app = FastAPI(title=service.served.model, version=str(service.served.version), docs_url=None, redoc_url=None)

    async def ping() -> Response:
        return Response("\n", status_code=_UNAVAILABLE if service.draining else _OK, media_type=JSON)

    async def version() -> Response:
        return PlainTextResponse(ml_lifecycle.__version__)

    async def health() -> Response:
        return JSONResponse(service.told())

    async def stats() -> Response:
        return JSONResponse(service.counted())

    async def invocations() -> None:
        """Predict; the body is one of MLflow's forms, as JSON or CSV."""

    for path, endpoint in {"/ping": ping, "/version": version, "/health": health, "/stats": stats}.items():
        app.add_api_route(path, endpoint, methods=["GET"], response_model=None)
    body = {"required": True, "content": {JSON: {"schema": service.schema()}, CSV: {"schema": {"type": "string"}}}}
    app.add_api_route(
        "/invocations", invocations, methods=["POST"], response_model=None, openapi_extra={"requestBody": body}
    )
    app.routes[-1].app = service.invoke  # type: ignore[attr-defined]  # every route has one
    return app


def request_id_of(told: bytes | None) -> str:
    """The caller's, where it is a short printable text without blanks; else one of our own."""
    if told and len(told) <= _LONGEST_ID and _PRINTABLE.issuperset(told):
        return told.decode("ascii")
    return os.urandom(16).hex()


def _began(scope: Scope) -> float:
    """When the request had come in: what a client takes to send it is not the model's time."""
    return float(scope.get(READ_AT) or scope.setdefault(READ_AT, time.perf_counter()))


def _refusal(error: Exception, request_id: str) -> tuple[int, bytes]:
    """Status and body that tell what is wrong."""
    if isinstance(error, InvocationError):
        return error.status, error_body(error, error.status)
    if isinstance(error, OverloadedError):
        return _UNAVAILABLE, error_body(error, _UNAVAILABLE)
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    # Half a character in a message must not keep it out of the log.
    _logger.error("request %s failed: %s", request_id, trace.encode("utf-8", "backslashreplace").decode())
    told = error if isinstance(error, LifecycleError) else LifecycleError("the server failed on this request")
    return _FAILED, error_body(told, _FAILED)


def _keys(asked: Asked, headers: Headers) -> tuple[str, ...] | None:
    told = headers.get(KEYS_HEADER.lower().encode())
    if asked.keys is not None or told is None:
        return asked.keys
    return read_keys([one.strip() for one in told.decode("latin-1").split(",")], rows=asked.rows, where=KEYS_HEADER)


async def _body(headers: Headers, receive: Receive, most: int) -> bytes | None:
    """The whole body; ``None`` where the client is gone."""
    if int(headers.get(b"content-length", b"0")) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > most:
            raise _too_large(most)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(most: int) -> InvocationError:
    return InvocationError(
        f"it is larger than {most:,} bytes", where="the request's body", way_out="send fewer rows", status=_TOO_LARGE
    )
