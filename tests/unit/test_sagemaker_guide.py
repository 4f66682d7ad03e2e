"""The permissions in the guide are what a release needs, and no more."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment import sagemaker
from ml_lifecycle.backends.deployment.sagemaker_transform import TransformJob, start, stop
from tests.fakes.aws_server import Amazon
from tests.fakes.places import MODEL
from tests.fakes.sagemaker_place import DirectCloud, place_in, without_pauses

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "sagemaker.md"
ON_BEHALF = {
    # What Amazon does for the caller, with the caller's rights.
    *("cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms", "cloudwatch:PutMetricAlarm", "iam:PassRole"),
}
IN_S3 = {"s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"}


def granted() -> set[str]:
    found = re.search(r"```json\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    statements: list[dict[str, Any]] = json.loads(found[1])["Statement"]
    actions = (one["Action"] for one in statements)
    return {action for held in actions for action in ([held] if isinstance(held, str) else held)}


def service(operation: str) -> str:
    if "Scal" in operation:
        return "application-autoscaling"
    return "cloudwatch" if operation == "GetMetricData" else "sagemaker"


def test_the_guide_grants_what_a_release_asks_for_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pauses(monkeypatch)
    cloud = DirectCloud(Amazon(looks=3))
    place = place_in(cloud, tmp_path, autoscaling={"max": 3}, package_group="flights-models")
    place.serve(1)
    move = place.move(2, epoch=2)
    place.serve(2, epoch=2)
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    monkeypatch.setattr(sagemaker, "_now", lambda: later)
    place.observe(move.moved_at)
    job = TransformJob(model=next(iter(cloud.amazon.models)), source="s3://models/in/", output="s3://models/out/")
    stop(start(job, cloud.client).name, cloud.client)
    place.target.promote(place.move(1, epoch=3).model_copy(update={"kind": "rollback"}), place.means)
    place.settled()
    for _ in range(2):
        place.retire(place.move(1, epoch=3))
        place.settled()
    place.target.destroy(MODEL, "test", place.means)

    assert granted() == {f"{service(one)}:{one}" for one in cloud.amazon.done} | ON_BEHALF | IN_S3
