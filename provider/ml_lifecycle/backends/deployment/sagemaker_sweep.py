"""Removing what was made for an endpoint and is of no use any more."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from ml_lifecycle.backends.deployment.amazon_calls import AmazonCalls
from ml_lifecycle.backends.deployment.sagemaker_endpoint import Endpoint

_BATCH: Final = 1000
"""Objects that S3 deletes with one request."""


def sweep(calls: AmazonCalls, seen: Endpoint | None) -> None:
    """Remove configurations and models that an endpoint neither uses nor is being updated to.

    Archives stay: they are what brings a version back soonest.
    """
    if seen is None:
        return
    configs, models = {seen.config, seen.coming}, set()
    for config in configs:
        found = calls("sagemaker", "describe_endpoint_config", EndpointConfigName=config)
        models |= {one["ModelName"] for one in found["ProductionVariants"]}
    _sweep(calls, seen.name, configs, models)


def sweep_all(calls: AmazonCalls, endpoint: str, bucket: str, folder: str) -> None:
    """Remove every configuration, model and archive that was made for an endpoint which is gone.

    :param folder: Where its archives lie, with a slash at its end.
    """
    _sweep(calls, endpoint, (), ())
    while keys := _keys(calls, bucket, folder):
        calls("s3", "delete_objects", Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})


def _sweep(calls: AmazonCalls, endpoint: str, configs: Collection[str], models: Collection[str]) -> None:
    for name in _named(calls, "endpoint_configs", "EndpointConfig", f"{endpoint}-c-", "[0-9a-f]{12}"):
        if name not in configs:
            calls.remove("sagemaker", "delete_endpoint_config", EndpointConfigName=name)
    for name in _named(calls, "models", "Model", f"{endpoint}-v", "[0-9]{1,9}-[0-9a-f]{10}"):
        if name not in models:
            calls.remove("sagemaker", "delete_model", ModelName=name)


def _named(calls: AmazonCalls, plural: str, kind: str, begin: str, end: str) -> Iterator[str]:
    """Names that this product gave; others only happen to hold the same text."""
    pattern = re.compile(re.escape(begin) + end)
    listed = list(calls.pages("sagemaker", f"list_{plural}", f"{kind}s", NameContains=begin, MaxResults=100))
    return (one[f"{kind}Name"] for one in listed if pattern.fullmatch(one[f"{kind}Name"]))


def _keys(calls: AmazonCalls, bucket: str, folder: str) -> list[str]:
    found = calls("s3", "list_objects_v2", Bucket=bucket, Prefix=folder, MaxKeys=_BATCH)
    return [one["Key"] for one in found.get("Contents", ())]
