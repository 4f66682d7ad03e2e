"""What CloudWatch counted of each variant of an endpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls
from ml_lifecycle.core.contracts import Histogram, Observation
from ml_lifecycle.core.errors import ServiceUnavailableError

BOUNDS_MS: Final = (1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
"""Each is a metric that is asked for, and paid for."""
PERIOD_S: Final = 60
"""SageMaker publishes once a minute."""

_NAMESPACE: Final = "AWS/SageMaker"
_QUERIES: Final = 500
"""That GetMetricData takes at once."""
_LONGEST: Final = 1440


def observed(
    calls: AmazonCalls, endpoint: str, variants: Mapping[str, int], since: datetime, until: datetime
) -> dict[int, Observation]:
    """What each variant's version did in the whole minutes between two moments.

    Failed are the requests that ended with a server error. Latencies are those of the containers, counted by
    CloudWatch's trimmed count, whose upper bound is inclusive
    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html).

    :param variants: Versions by name.
    """
    begin = _next_minute(since)
    if begin >= until or not variants:
        return {version: Observation(version=version, requests=0) for version in variants.values()}
    asked = {
        f"m{number}": (name, what)
        for number, (name, what) in enumerate((name, what) for name in variants for what in _statistics())
    }
    sums = _sums(calls, endpoint, asked, begin, until)
    found: dict[int, Observation] = {}
    for name, version in variants.items():
        told = {what: sums.get(key, 0.0) for key, (whose, what) in asked.items() if whose == name}
        found[version] = _observation(version, list(told.values()))
    return found


def _statistics() -> list[tuple[str, str]]:
    """Metric and statistic: requests, server errors, all latencies, and those up to each bound, in microseconds."""
    bounds = [("ModelLatency", f"TC(:{bound * 1000:g})") for bound in BOUNDS_MS]
    return [("Invocations", "Sum"), ("Invocation5XXErrors", "Sum"), ("ModelLatency", "SampleCount"), *bounds]


def _observation(version: int, sums: Sequence[float]) -> Observation:
    requests, errors, measured, *below = (round(one) for one in sums)
    latency = None
    if measured:
        upto = [0, *below, max(measured, below[-1])]
        latency = Histogram(bounds_ms=BOUNDS_MS, counts=tuple(max(0, high - low) for low, high in pairwise(upto)))
    # Metrics of the same minute appear one after the other.
    return Observation(version=version, requests=max(requests, errors), errors=errors, latency=latency)


def _sums(
    calls: AmazonCalls,
    endpoint: str,
    asked: Mapping[str, tuple[str, tuple[str, str]]],
    begin: datetime,
    until: datetime,
) -> dict[str, float]:
    """Sums over the minutes, by the queries' ids."""
    minutes = math.ceil((until - begin).total_seconds() / PERIOD_S)
    period = PERIOD_S * math.ceil(minutes / _LONGEST)
    queries = [_query(key, endpoint, variant, *what, period=period) for key, (variant, what) in asked.items()]
    sums = dict.fromkeys(asked, 0.0)
    for start in range(0, len(queries), _QUERIES):
        for result in _results(calls, queries[start : start + _QUERIES], begin, until):
            values = result.get("Values", ())
            if result.get("StatusCode") not in ("Complete", "PartialData") or not all(map(math.isfinite, values)):
                raise ServiceUnavailableError(
                    f"CloudWatch tells {result.get('StatusCode')} of {result.get('Label', result.get('Id'))}",
                    where=f"endpoint {endpoint}",
                    way_out="the next look asks again",
                )
            sums[result["Id"]] += math.fsum(values)
    return sums


def _results(
    calls: AmazonCalls, queries: list[dict[str, Any]], begin: datetime, until: datetime
) -> Iterator[dict[str, Any]]:
    return calls.pages(
        *("cloudwatch", "get_metric_data", "MetricDataResults"),
        MetricDataQueries=queries,
        StartTime=begin,
        EndTime=until,
        ScanBy="TimestampAscending",
    )


def _query(key: str, endpoint: str, variant: str, metric: str, statistic: str, *, period: int) -> dict[str, Any]:
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    held = {"Namespace": _NAMESPACE, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": key, "MetricStat": {"Metric": held, "Period": period, "Stat": statistic}, "ReturnData": True}


def _next_minute(moment: datetime) -> datetime:
    """The minute in which the split was set belongs to the split before."""
    begin = moment.replace(second=0, microsecond=0)
    return begin if begin == moment else begin + timedelta(minutes=1)
