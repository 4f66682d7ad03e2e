"""Batch scoring by SageMaker: started once, found again, stopped when nobody waits for it any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment.sagemaker_transform import TransformJob, start, status, stop
from ml_lifecycle.core.errors import ServiceRefusedError
from tests.fakes.aws_server import Amazon
from tests.fakes.sagemaker_place import Cloud, DirectCloud, place_in, running_cloud


def account(folder: Path, cloud: DirectCloud | Cloud | None = None) -> tuple[DirectCloud | Cloud, TransformJob]:
    """An account with a deployed model, and a job for it."""
    cloud = cloud or DirectCloud(Amazon(looks=3))
    place = place_in(cloud, folder)
    place.target.deploy(place.move(1), place.means)
    (model,) = cloud.amazon.models
    return cloud, TransformJob(model=model, source="s3://models/inputs/", output="s3://models/scores/")


def test_a_job_runs_and_is_done(tmp_path: Path) -> None:
    with running_cloud(Amazon(looks=1)) as cloud:
        _, job = account(tmp_path, cloud)

        begun = start(job, cloud.client)
        ended = status(begun.name, cloud.client)

    assert (begun.state, ended.state) == ("running", "done")
    (asked,) = cloud.amazon.jobs.values()
    assert asked["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://models/inputs/"
    assert asked["TransformOutput"]["S3OutputPath"] == "s3://models/scores/"


def test_whoever_was_killed_after_starting_it_finds_it_again(tmp_path: Path) -> None:
    cloud, job = account(tmp_path)

    names = {start(job, cloud.client).name for _ in range(5)}

    assert names == set(cloud.amazon.jobs)
    assert len(names) == 1


def test_other_inputs_are_another_job(tmp_path: Path) -> None:
    cloud, job = account(tmp_path)

    for source in ("s3://models/january/", "s3://models/february/"):
        start(job.model_copy(update={"source": source}), cloud.client)

    assert len(cloud.amazon.jobs) == 2
    assert all(len(name) <= 63 for name in cloud.amazon.jobs)


def test_one_that_failed_is_started_anew_under_another_name(tmp_path: Path) -> None:
    cloud, job = account(tmp_path)
    first = start(job, cloud.client)
    cloud.amazon.jobs[first.name].update({"TransformJobStatus": "Failed", "FailureReason": "AlgorithmError"})

    second = start(job, cloud.client)

    assert status(first.name, cloud.client).detail == "AlgorithmError"
    assert (first.name[-2:], second.name[-2:], second.state) == ("-1", "-2", "running")


def test_one_that_always_fails_is_given_up(tmp_path: Path) -> None:
    cloud, job = account(tmp_path)
    for _ in range(20):
        name = start(job, cloud.client).name
        cloud.amazon.jobs[name].update({"TransformJobStatus": "Failed", "FailureReason": "AlgorithmError"})

    with pytest.raises(ServiceRefusedError, match="failed 20 times, at last with: AlgorithmError"):
        start(job, cloud.client)


def test_a_stopped_job_stops_and_one_that_has_ended_stays_as_it_is(tmp_path: Path) -> None:
    cloud, job = account(tmp_path)
    name = start(job, cloud.client).name

    stop(name, cloud.client)
    seen = [status(name, cloud.client).state for _ in range(6)]
    for _ in range(2):
        stop(name, cloud.client)
    stop("nobody-started-this", cloud.client)

    assert seen[-1] == "stopped"
    assert status(name, cloud.client).state == "stopped"
    assert status("nobody-started-this", cloud.client).state == "missing"


def test_a_job_that_ends_while_it_is_being_stopped_is_as_good_as_stopped(tmp_path: Path) -> None:
    cloud, job = account(tmp_path)
    name = start(job, cloud.client).name

    def end(operation: str, asked: dict[str, Any]) -> None:
        if operation == "StopTransformJob":
            cloud.amazon.jobs[name]["TransformJobStatus"] = "Completed"

    cloud.amazon.before = end
    stop(name, cloud.client)

    assert status(name, cloud.client).state == "done"


@pytest.mark.parametrize("field", ["source", "output"])
def test_a_folder_that_is_not_in_s3_is_refused(field: str) -> None:
    options: dict[str, Any] = {"model": "m", "source": "s3://b/i/", "output": "s3://b/o/", field: "/tmp/x"}  # noqa: S108

    with pytest.raises(ValueError, match=field):
        TransformJob.model_validate(options)
