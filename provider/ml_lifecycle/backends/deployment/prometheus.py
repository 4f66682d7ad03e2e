"""What a mesh or a gateway counted for each version's service, out of Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.deployment.rest import ask
from ml_lifecycle.core.contracts import Contract, Histogram, Observation
from ml_lifecycle.core.errors import ServiceRefusedError

if TYPE_CHECKING:
    import requests

_DEADLINE_S: Final = 30.0
_ISTIO: Final = 'destination_service_name="{service}",destination_service_namespace="{namespace}",reporter="source"'


class Queries(Contract):
    """PromQL, with ``{service}``, ``{namespace}`` and ``{window}`` to be filled in; out of the box for Istio.

    ``reporter="source"`` is the gateway's own count: what never reached a pod is among it.
    """

    requests: str = "sum(increase(istio_requests_total{" + _ISTIO + "}[{window}]))"
    errors: str = "sum(increase(istio_requests_total{" + _ISTIO + ',response_code=~"5..|0"}[{window}]))'
    latency: str = "sum by (le) (increase(istio_request_duration_milliseconds_bucket{" + _ISTIO + "}[{window}]))"
    """A classic histogram's buckets."""
    milliseconds: float = 1.0
    """How many of them the buckets' bounds count in: 1000 for seconds."""


def observed(
    session: requests.Session, queries: Queries, services: Mapping[int, str], *, namespace: str, seconds: int
) -> dict[int, Observation]:
    """What each version's service did in the last seconds.

    :param services: Names by version.
    """
    found = {}
    for version, service in services.items():
        filled = {"{service}": service, "{namespace}": namespace, "{window}": f"{seconds}s"}
        requests_ = _number(_ask(session, _filled(queries.requests, filled)))
        errors = min(_number(_ask(session, _filled(queries.errors, filled))), requests_)
        latency = _histogram(_ask(session, _filled(queries.latency, filled)), queries.milliseconds)
        found[version] = Observation(version=version, requests=requests_, errors=errors, latency=latency)
    return found


def _filled(query: str, values: Mapping[str, str]) -> str:
    # PromQL is full of braces: str.format would trip over them.
    for name, value in values.items():
        query = query.replace(name, value)
    return query


def _ask(session: requests.Session, query: str) -> list[dict[str, Any]]:
    answer = ask(session, "GET", "/api/v1/query", query={"query": query}, deadline=time.monotonic() + _DEADLINE_S)
    body = answer.body if isinstance(answer.body, dict) else {}
    data = body.get("data")
    if body.get("status") != "success" or not isinstance(data, dict) or not isinstance(data.get("result"), list):
        raise ServiceRefusedError(
            f"it answered {answer.status}: {str(body.get('error', 'no result'))[:200]}",
            where="Prometheus",
            way_out="try the deployment's queries in its own page",
        )
    return [one for one in data["result"] if isinstance(one, dict)]


def _number(series: list[dict[str, Any]]) -> int:
    """A sum, rounded: Prometheus extrapolates counts to the window's ends. What is not there was not counted."""
    values = [_value(one) for one in series]
    return max(round(sum(value for value in values if math.isfinite(value))), 0)


def _histogram(series: list[dict[str, Any]], milliseconds: float) -> Histogram | None:
    """Cumulative buckets as counts between bounds; ``None`` where they are not whole."""
    try:
        buckets = sorted((float(one["metric"]["le"]), _value(one)) for one in series)
    except (KeyError, TypeError, ValueError):
        return None
    if not buckets or not math.isinf(buckets[-1][0]) or not all(math.isfinite(count) for _, count in buckets):
        return None
    counts, below = [], 0
    for _, cumulated in buckets:
        counts.append(max(round(cumulated) - below, 0))
        below = max(round(cumulated), below)
    return Histogram(bounds_ms=tuple(bound * milliseconds for bound, _ in buckets[:-1]), counts=tuple(counts))


def _value(one: Mapping[str, Any]) -> float:
    try:
        return float(one["value"][1])
    except (KeyError, IndexError, TypeError, ValueError):
        return math.nan
