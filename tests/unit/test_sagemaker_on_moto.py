"""SageMaker as other people imitate it: what moto can do, the target does with it. It cannot update an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.places import MODEL, Place
from tests.fakes.sagemaker_place import BUCKET, place_in, running_cloud


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with running_cloud() as cloud:

        def client(service: str, connection: str) -> Any:
            return cloud.imitated(service)

        made = place_in(cloud, tmp_path, package_group="flights-models", tags={"team": "flights"})
        yield replace(made, means=replace(made.means, client=client))


def test_a_first_release_serves_and_is_removed_whole(place: Place) -> None:
    sagemaker, s3 = (place.means.client(service, "") for service in ("sagemaker", "s3"))

    place.serve(1)
    seen = place.settled()
    told = place.observe(datetime(2026, 1, 1, tzinfo=timezone.utc))
    place.target.destroy(MODEL, "test", place.means)

    assert (dict(seen.traffic), seen.epoch, seen.environment, seen.ready) == ({1: 100}, 1, "test", (1,))
    assert {version: one.requests for version, one in told.items()} == {1: 0}
    assert place.settled().traffic == {}
    assert sagemaker.list_models()["Models"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert s3.list_objects_v2(Bucket=BUCKET).get("Contents", []) == []
