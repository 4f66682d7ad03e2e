"""What versions did on Kubernetes, as Prometheus tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import FastAPI, Response

from ml_lifecycle.backends.deployment.prometheus import Queries, observed
from ml_lifecycle.core.contracts import Histogram, Observation
from ml_lifecycle.core.errors import ServiceRefusedError
from tests.fakes.endpoint_service import running
from tests.fakes.http_place import Session
from tests.fakes.kserve_place import cluster_place, target
from tests.fakes.kube_api import Cluster
from tests.fakes.places import MODEL

LONG_AGO = datetime(2026, 1, 1, tzinfo=timezone.utc)
BUCKETS = [("5", "40"), ("10", "90.4"), ("25", "98"), ("+Inf", "100.2")]
"""Cumulative, and not whole: Prometheus extrapolates to the window's ends."""


def vector(*samples: tuple[dict[str, str], str]) -> dict[str, Any]:
    """An instant vector, as Prometheus answers."""
    result = [{"metric": labels, "value": [1772366400.0, value]} for labels, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@contextmanager
def prometheus(answers: dict[str, Any], status: int = 200) -> Iterator[tuple[requests.Session, list[str]]]:
    """A session with a Prometheus that answers queries by the first word of these that is in them."""
    app, asked = FastAPI(), []

    @app.get("/api/v1/query")
    def query(query: str) -> Response:
        asked.append(query)
        found = next((answer for word, answer in answers.items() if word in query), vector())
        return Response(found if isinstance(found, str) else json.dumps(found), status)

    with running(app) as url, Session(url) as session:
        yield session, asked


def one(session: requests.Session, queries: Queries | None = None) -> Observation:
    """What version 2 did in the last minute."""
    services = {2: "flights-v2-22222222-predictor"}
    return observed(session, queries or Queries(), services, namespace="late", seconds=60)[2]


def test_requests_errors_and_latencies_are_those_of_the_version_s_service() -> None:
    answers = {
        "5..": vector(({}, "3.2")),
        "_total": vector(({}, "99.6")),
        "_bucket": vector(*(({"le": bound}, count) for bound, count in BUCKETS)),
    }

    with prometheus(answers) as (session, asked):
        found = one(session)

    latency = Histogram(bounds_ms=(5.0, 10.0, 25.0), counts=(40, 50, 8, 2))
    assert found == Observation(version=2, requests=100, errors=3, latency=latency)
    assert all('destination_service_name="flights-v2-22222222-predictor"' in query for query in asked)
    assert all('destination_service_namespace="late"' in query and "[60s]" in query for query in asked)


def test_what_was_not_counted_is_nothing_and_no_latency_is_made_up() -> None:
    with prometheus({}) as (session, _):
        assert one(session) == Observation(version=2, requests=0)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-7", "many"])
def test_a_count_that_is_none_is_never_a_request(value: str) -> None:
    with prometheus({"_total": vector(({}, value))}) as (session, _):
        assert one(session) == Observation(version=2, requests=0)


def test_there_are_never_more_errors_than_requests() -> None:
    with prometheus({"5..": vector(({}, "9")), "_total": vector(({}, "4"))}) as (session, _):
        found = one(session)

    assert (found.requests, found.errors) == (4, 4)


@pytest.mark.parametrize(
    "buckets",
    [
        [({"le": "5"}, "40")],
        [({"le": "5"}, "NaN"), ({"le": "+Inf"}, "4")],
        [({}, "40"), ({"le": "+Inf"}, "40")],
        [({"le": "fast"}, "40"), ({"le": "+Inf"}, "40")],
    ],
)
def test_buckets_that_are_not_whole_are_no_latency(buckets: list[tuple[dict[str, str], str]]) -> None:
    with prometheus({"_bucket": vector(*buckets)}) as (session, _):
        assert one(session).latency is None


def test_bounds_in_seconds_become_milliseconds() -> None:
    queries = Queries(latency="seconds_bucket{service='{service}'}", milliseconds=1000)

    with prometheus({"_bucket": vector(({"le": "0.5"}, "1"), ({"le": "+Inf"}, "1"))}) as (session, _):
        assert one(session, queries).latency == Histogram(bounds_ms=(500.0,), counts=(1, 0))


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "error", "error": "parse error: unexpected character"},
        {"status": "success", "data": {"result": "many"}},
        {"status": "success"},
        [],
        "<html>Sign in</html>",
    ],
)
def test_a_query_that_fails_is_never_no_requests(answer: Any) -> None:
    with prometheus({"_total": answer}, 400) as (session, _), pytest.raises(ServiceRefusedError):
        one(session)


def test_the_window_begins_when_the_share_was_last_set(tmp_path: Path) -> None:
    with prometheus({}) as (session, asked), cluster_place(tmp_path, Cluster(slow=0)) as place:
        place.serve(1)
        clients = place.means.client
        means = replace(
            place.means, client=lambda service, name: session if service == "http" else clients(service, name)
        )
        watched = target(prometheus="prometheus_default")

        watched.observe(MODEL, LONG_AGO, means)
        watched.observe(MODEL, datetime.now(timezone.utc) + timedelta(hours=1), means)

    windows = [int(query.rpartition("[")[2].partition("s]")[0]) for query in asked]
    assert max(windows) < 600
    assert min(windows) == 1


def test_without_prometheus_nobody_knows_what_versions_did(tmp_path: Path) -> None:
    with cluster_place(tmp_path, Cluster(slow=0)) as place:
        place.serve(1)

        assert place.observe(LONG_AGO) == {1: Observation(version=1, requests=0)}
