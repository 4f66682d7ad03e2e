"""What a version did, out of what CloudWatch counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment import sagemaker
from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls
from ml_lifecycle.backends.deployment.sagemaker_metrics import BOUNDS_MS, observed
from ml_lifecycle.core.errors import ServiceUnavailableError
from tests.fakes.aws_server import Amazon, Request
from tests.fakes.places import MODEL
from tests.fakes.sagemaker_place import Cloud, place_in, running_cloud

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
OLD, NEW = "v1-11111111", "v2-22222222"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running_cloud(Amazon(looks=0)) as found:
        yield found


def answered(variant: str, ms: float, *, status: int = 200, after_s: float = 70.0, endpoint: str = MODEL) -> Request:
    return Request(endpoint, variant, NOON.timestamp() + after_s, ms, status)


def observe(cloud: Cloud, *, since: datetime = NOON, until: datetime = NOON + timedelta(minutes=10)) -> dict[int, Any]:
    return observed(AmazonCalls(cloud.client, "here"), MODEL, {OLD: 1, NEW: 2}, since, until)


def test_requests_errors_and_latencies_are_told_of_each_version(cloud: Cloud) -> None:
    cloud.amazon.requests += [answered(OLD, 4.0, after_s=70 + number) for number in range(100)]
    cloud.amazon.requests += [answered(NEW, 12.0), answered(NEW, 12.5, status=500), answered(NEW, 9000.0, status=503)]
    cloud.amazon.requests += [answered(NEW, 12.0, endpoint="trains")]

    seen = observe(cloud)

    assert (seen[1].requests, seen[1].errors) == (100, 0)
    assert (seen[2].requests, seen[2].errors, seen[2].retried) == (3, 2, 0)
    old, new = (
        dict(zip((*seen[one].latency.bounds_ms, "beyond"), seen[one].latency.counts, strict=True)) for one in (1, 2)
    )
    assert {bound: count for bound, count in old.items() if count} == {5.0: 100}
    assert {bound: count for bound, count in new.items() if count} == {15.0: 2, "beyond": 1}


def test_a_latency_on_a_bound_lies_below_it(cloud: Cloud) -> None:
    cloud.amazon.requests += [answered(OLD, bound) for bound in BOUNDS_MS]

    latency = observe(cloud)[1].latency

    assert latency.counts == (1,) * len(BOUNDS_MS) + (0,)


def test_without_requests_nothing_is_told_of_latencies(cloud: Cloud) -> None:
    seen = observe(cloud)

    assert {version: (one.requests, one.latency) for version, one in seen.items()} == {1: (0, None), 2: (0, None)}


def test_the_minute_in_which_the_split_was_set_belongs_to_the_split_before(cloud: Cloud) -> None:
    cloud.amazon.requests += [answered(OLD, 4.0, after_s=after) for after in (59.0, 60.0, 61.0)]

    assert observe(cloud, since=NOON + timedelta(seconds=1))[1].requests == 2
    assert observe(cloud, since=NOON)[1].requests == 3


def test_before_the_first_whole_minute_nothing_is_known(cloud: Cloud) -> None:
    cloud.amazon.requests += [answered(OLD, 4.0)]

    since = NOON + timedelta(seconds=61)
    assert observe(cloud, since=since, until=since + timedelta(seconds=30))[1].requests == 0


@pytest.mark.parametrize(("status", "value"), [("InternalError", 1.0), ("Forbidden", 1.0), ("Complete", float("nan"))])
def test_what_cloudwatch_cannot_tell_is_not_taken_for_nothing(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, status: str, value: float
) -> None:
    told = {
        "Id": "m0",
        "Label": "Invocations",
        "StatusCode": status,
        "Values": [value],
        "Timestamps": [NOON.timestamp()],
    }
    monkeypatch.setattr(cloud.amazon, "get_metric_data", lambda _: {"MetricDataResults": [told], "Messages": []})

    with pytest.raises(ServiceUnavailableError, match=f"CloudWatch tells {status} of Invocations"):
        observe(cloud)


def test_an_answer_in_pages_is_read_to_its_end(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def page(asked: dict[str, Any]) -> dict[str, Any]:
        last = "NextToken" in asked
        told = {
            "Id": "m0",
            "StatusCode": "Complete" if last else "PartialData",
            "Values": [2.0],
            "Timestamps": [NOON.timestamp()],
        }
        return {"MetricDataResults": [told], "Messages": [], **({} if last else {"NextToken": "more"})}

    monkeypatch.setattr(cloud.amazon, "get_metric_data", page)

    assert observe(cloud)[1].requests == 4


def test_more_errors_than_requests_are_as_many_requests(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """CloudWatch comes to know of one metric of a minute before the other."""
    told = [
        {"Id": key, "StatusCode": "Complete", "Values": [value], "Timestamps": [NOON.timestamp()]}
        for key, value in (("m0", 2.0), ("m1", 3.0))
    ]
    monkeypatch.setattr(cloud.amazon, "get_metric_data", lambda _: {"MetricDataResults": told, "Messages": []})

    assert (observe(cloud)[1].requests, observe(cloud)[1].errors) == (3, 3)


def test_what_was_answered_under_the_split_before_does_not_count(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1)
    place.target.deploy(place.move(2, epoch=2), place.means)
    place.settled()
    now = datetime.now(timezone.utc)
    monkeypatch.setattr(sagemaker, "_now", lambda: now)
    place.split(place.move(2, epoch=2), 50)
    place.settled()
    moments = [(now + timedelta(minutes=minutes)).timestamp() for minutes in (-5, 3, 3, 4)]
    cloud.amazon.requests += [Request(MODEL, NEW, at, 4.0, 200) for at in moments]
    monkeypatch.setattr(sagemaker, "_now", lambda: now + timedelta(minutes=10))

    seen = place.observe(NOON)

    assert (seen[1].requests, seen[2].requests) == (0, 3)
