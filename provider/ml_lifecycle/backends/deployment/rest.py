"""Asking a service over HTTP whose answers may be slow, huge or something else altogether."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ml_lifecycle.core.errors import ServiceRefusedError, ServiceUnavailableError

if TYPE_CHECKING:
    import requests

LARGEST: Final = 4 << 20
"""Bytes of an answer; more is not read."""

_BLOCK: Final = 1 << 16
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNAUTHORISED: Final = frozenset({401, 403})
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0


@dataclass(frozen=True)
class Answer:
    """What a service said."""

    status: int
    body: Any
    """Plain JSON; ``None`` where there is none."""
    etag: str = ""


def ask(
    session: requests.Session,
    method: str,
    path: str,
    *,
    deadline: float,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> Answer:
    """One request, repeated while the service is away: only for what may be done twice.

    :param session: With its ``base_url``; it brings credentials and time-outs.
    :param path: Below the base address, with its leading slash.
    :param deadline: When to give up, by ``time.monotonic()``, repetitions included.
    :raises ServiceUnavailableError: nothing usable was answered in time.
    :raises ServiceRefusedError: it leads elsewhere, wants other credentials, or answers something else than JSON.
    """
    base = str(getattr(session, "base_url", ""))
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return _once(session, method, f"{base}{path}", deadline, body=body, headers=headers, query=query)
        except ServiceUnavailableError:
            if time.monotonic() + pause >= deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _once(
    session: requests.Session,
    method: str,
    url: str,
    deadline: float,
    *,
    body: Any,
    headers: Mapping[str, str] | None,
    query: Mapping[str, str] | None,
) -> Answer:
    import requests

    where = f"{method} {url}"
    try:
        with session.request(
            method,
            url,
            json=body,
            headers={"Accept": "application/json", **(headers or {})},
            params=query,
            stream=True,
            allow_redirects=False,
        ) as response:
            text = _read(response, deadline, where)
            return _answer(response, text, where)
    except requests.RequestException as error:
        # The library's own text may hold the address with what was asked; its kind says enough.
        raise ServiceUnavailableError(
            f"it did not answer ({type(error).__name__})", where=where, way_out="see whether it runs"
        ) from None


def _read(response: requests.Response, deadline: float, where: str) -> bytes:
    """The body, however slowly it drips, until the deadline."""
    text = bytearray()
    for block in response.iter_content(_BLOCK):
        text += block
        if len(text) > LARGEST:
            raise ServiceRefusedError(
                f"its answer is larger than {LARGEST:,} bytes", where=where, way_out="see what answers there"
            )
        if time.monotonic() > deadline:
            raise ServiceUnavailableError(
                f"its answer was not complete in time ({len(text):,} bytes)", where=where, way_out="see why it is slow"
            )
    return bytes(text)


def _answer(response: requests.Response, text: bytes, where: str) -> Answer:
    status = response.status_code
    if status in _PASSING:
        raise ServiceUnavailableError(f"it answered {status}", where=where, way_out="see its log")
    if status in _UNAUTHORISED:
        raise ServiceRefusedError(
            f"it answered {status}", where=where, way_out="enter the credentials in the connection"
        )
    if response.is_redirect:
        elsewhere = urlsplit(response.headers.get("Location", ""))
        raise ServiceRefusedError(
            f"it sends on to {elsewhere.scheme}://{elsewhere.hostname}, which is not followed",
            where=where,
            way_out="enter the final address in the connection",
        )
    return Answer(status, _parsed(text, status, where), response.headers.get("ETag", ""))


def _parsed(text: bytes, status: int, where: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ServiceRefusedError(
            f"it answered {status} with something else than JSON", where=where, way_out="see what answers there"
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
