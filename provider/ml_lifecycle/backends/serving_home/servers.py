"""What a model server says of itself."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

from pydantic import ValidationError

from ml_lifecycle.core.contracts import Histogram

_TIMEOUT_S: Final = 0.5
_MOST_ANSWER: Final = 1 << 20


def health(port: int) -> dict[str, Any]:
    """``model``, ``version``, ``digest``, ``ready``, ``draining``; empty where nobody answers in half a second."""
    return _get(port, "/health")


def latency(port: int) -> Histogram | None:
    """How long its requests took since it began; ``None`` where it does not say."""
    try:
        return Histogram.model_validate(_get(port, "/stats").get("latency"))
    except ValidationError:
        return None


def _get(port: int, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        found = json.loads(answer.read(_MOST_ANSWER))
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return found if isinstance(found, dict) else {}
