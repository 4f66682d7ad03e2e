"""SageMaker: releases from beginning to end, and what SageMaker does behind one's back."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment import sagemaker, target_from
from ml_lifecycle.backends.deployment.sagemaker_endpoint import TAG, endpoint_name, percents, variant_name
from ml_lifecycle.core.contracts import Move
from ml_lifecycle.core.errors import (
    ConfigurationError,
    LifecycleError,
    RollbackNotReadyError,
    ServiceRefusedError,
    ServiceUnavailableError,
    StaleEpochError,
    TargetRefusedError,
)
from tests.fakes.aws_server import ARN, Amazon, Plain, RefusedError
from tests.fakes.places import MODEL, Place
from tests.fakes.sagemaker_place import DirectCloud, place_in, target, without_pauses

V1, V2 = variant_name(1, "1" * 64), variant_name(2, "2" * 64)


@pytest.fixture
def cloud() -> DirectCloud:
    return DirectCloud()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)


def canary(cloud: DirectCloud, folder: Path, **options: Any) -> Place:
    """Version 1 serves, version 2 waits beside it."""
    place = place_in(cloud, folder, **options)
    place.serve(1)
    place.target.deploy(place.move(2, epoch=2), place.means)
    place.settled()
    return place


def rollback(place: Place, version: int, epoch: int) -> Move:
    return place.move(version, epoch).model_copy(update={"kind": "rollback"})


# --- A release, and its end ------------------------------------------------------------------------------------------


def test_a_canary_gets_its_share_and_then_all_of_it_and_the_old_version_goes(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place, seen = canary(cloud, tmp_path), []
    move = place.move(2, epoch=2)

    for percent in (10, 50):
        place.split(move, percent)
        seen.append(place.traffic())
    place.target.promote(move, place.means)
    seen.append(place.traffic())
    for _ in range(2):
        place.retire(move)
        place.settled()

    assert seen == [{1: 90, 2: 10}, {1: 50, 2: 50}, {2: 100}]
    held = cloud.inventory()
    assert [len(held[kind]) for kind in ("endpoints", "configs", "models")] == [1, 1, 1]
    assert list(cloud.amazon.endpoints[MODEL].variants) == [V2]


def test_a_rollback_is_one_update_of_the_weights_while_the_old_version_is_there(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place = canary(cloud, tmp_path)
    place.split(place.move(2, epoch=2), 50)
    place.settled()
    before = cloud.amazon.done.copy()

    place.target.promote(rollback(place, 1, epoch=3), place.means)

    changes = {name: count - before[name] for name, count in cloud.amazon.done.items() if count > before[name]}
    assert changes["UpdateEndpointWeightsAndCapacities"] == 1
    assert not {"UpdateEndpoint", "CreateModel", "CreateEndpointConfig"} & set(changes)
    assert place.traffic() == {1: 100}


def test_a_rollback_after_the_old_version_has_gone_brings_it_back_with_a_whole_configuration(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place = canary(cloud, tmp_path)
    move = place.move(2, epoch=2)
    place.target.promote(move, place.means)
    place.settled()
    place.retire(move)
    place.settled()

    place.target.promote(rollback(place, 1, epoch=3), place.means)

    assert place.traffic() == {1: 100}
    assert list(cloud.amazon.endpoints[MODEL].variants) == [V1]


def test_an_update_that_changes_the_variants_leaves_the_instances_that_autoscaling_added(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1)
    cloud.amazon.endpoints[MODEL].variants[V1].count = 7

    place.target.deploy(place.move(2, epoch=2), place.means)
    place.settled()

    assert {name: one.count for name, one in cloud.amazon.endpoints[MODEL].variants.items()} == {V1: 7, V2: 1}


def test_destroying_leaves_nothing_at_all(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path, autoscaling={"min": 1, "max": 3, "target": 500}, tags={"team": "flights"})
    place.split(place.move(2, epoch=2), 50)
    place.settled()
    assert cloud.inventory()["scaled"] == [f"endpoint/{MODEL}/variant/{one}" for one in (V1, V2)]

    place.target.destroy(MODEL, "test", place.means)

    assert cloud.inventory() == {}


def test_another_models_things_stay(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(cloud, tmp_path)
    cloud.amazon.models["flights-v2-of-somebody"] = {"CreationTime": 1.0}
    cloud.amazon.configs["flights-c-other"] = {"CreationTime": 1.0, "ProductionVariants": []}
    place.serve(1)

    place.target.destroy(MODEL, "test", place.means)

    assert cloud.inventory() == {"configs": ["flights-c-other"], "models": ["flights-v2-of-somebody"]}


# --- What SageMaker does behind one's back ---------------------------------------------------------------------------


def test_a_deployment_that_was_silently_taken_back_is_a_fault_and_not_a_success(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1)
    cloud.amazon.taken_back = "The primary container did not pass the ping health check"

    place.target.deploy(place.move(2, epoch=2), place.means)
    place.target.status(MODEL, place.means)
    seen = place.target.status(MODEL, place.means)

    assert cloud.amazon.endpoints[MODEL].status == "InService"
    assert (seen.settled, dict(seen.traffic), seen.ready) == (False, {1: 100}, (1,))
    assert "was taken back, and flights-c-" in seen.fault
    assert "did not pass the ping health check" in seen.fault


def test_after_such_a_fault_a_rollback_finds_everything_as_it_asks_for(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1)
    cloud.amazon.taken_back = "no capacity"
    place.target.deploy(place.move(2, epoch=2), place.means)
    place.target.status(MODEL, place.means)

    place.target.promote(rollback(place, 1, epoch=3), place.means)

    seen = place.settled()
    assert (dict(seen.traffic), seen.epoch, seen.fault) == ({1: 100}, 3, "")


def test_weights_that_were_taken_back_are_a_fault(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path)
    cloud.amazon.taken_back = "scaling failed"

    place.split(place.move(2, epoch=2), 50)

    first, second = (place.target.status(MODEL, place.means) for _ in range(2))
    assert "takes the update of flights back: scaling failed" in first.fault
    assert f"the weights are {V1} 100%, and {V1} 50%, {V2} 50% was asked for" in second.fault
    assert dict(second.traffic) == {1: 100}


def test_weights_that_somebody_changed_by_hand_are_a_fault(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path)
    cloud.amazon.endpoints[MODEL].variants[V2].weight = 100.0

    seen = place.target.status(MODEL, place.means)

    assert (dict(seen.traffic), seen.settled) == ({1: 50, 2: 50}, False)
    assert "was asked for" in seen.fault


def test_an_update_that_never_ends_becomes_a_fault_at_its_deadline(
    cloud: DirectCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_in(cloud, tmp_path, update_within="30m")
    place.serve(1)
    cloud.amazon.stuck = True
    place.target.deploy(place.move(2, epoch=2), place.means)
    seen = {}

    for minutes in (29, 31):
        later = datetime.now(timezone.utc) + timedelta(minutes=minutes)
        monkeypatch.setattr(sagemaker, "_now", lambda later=later: later)
        seen[minutes] = place.target.status(MODEL, place.means)

    assert (seen[29].settled, seen[29].fault, seen[29].detail) == (False, "", "endpoint flights is Updating")
    assert "has been Updating for longer than 0:30:00" in seen[31].fault
    assert dict(seen[31].traffic) == {1: 100}


def test_while_an_update_is_stuck_the_old_version_can_be_promoted_at_once(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1)
    cloud.amazon.stuck = True
    place.target.deploy(place.move(2, epoch=2), place.means)

    place.target.promote(rollback(place, 1, epoch=3), place.means)

    seen = place.target.status(MODEL, place.means)
    assert (dict(seen.traffic), seen.settled, seen.fault) == ({1: 100}, True, "")
    with pytest.raises(StaleEpochError):
        place.split(place.move(2, epoch=2), 50)


def test_a_write_that_an_update_is_in_the_way_of_is_to_be_tried_again(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path)
    place.split(place.move(2, epoch=2), 50)
    cloud.amazon.stuck = True

    with pytest.raises(ServiceUnavailableError, match=r"Updating.*stands in its tags"):
        place.target.promote(rollback(place, 1, epoch=3), place.means)

    cloud.amazon.stuck = False
    place.target.promote(rollback(place, 1, epoch=3), place.means)
    assert place.traffic() == {1: 100}


def test_an_instance_that_autoscaling_adds_unsettles_nothing(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path)
    cloud.amazon.endpoints[MODEL].status = "Updating"

    seen = place.target.status(MODEL, place.means)

    assert (seen.settled, seen.fault, dict(seen.traffic)) == (True, "", {1: 100})


def test_an_endpoint_that_could_not_be_made_is_a_fault_and_the_next_try_makes_another(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place = place_in(cloud, tmp_path)
    cloud.amazon.taken_back = "no such image"
    place.target.deploy(place.move(1), place.means)
    seen = place.target.status(MODEL, place.means)

    place.serve(1)

    assert (dict(seen.traffic), seen.ready, seen.settled) == ({}, (), False)
    assert seen.fault == "endpoint flights is Failed: no such image"
    assert place.traffic() == {1: 100}


def test_a_mixture_of_two_configurations_is_a_fault_and_a_promotion_replaces_it_whole(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1)
    cloud.amazon.broken_rollback = True
    place.target.deploy(place.move(2, epoch=2), place.means)
    seen = place.target.status(MODEL, place.means)

    place.target.promote(rollback(place, 1, epoch=3), place.means)

    assert "UpdateRollbackFailed: no capacity" in seen.fault
    assert place.traffic() == {1: 100}
    assert cloud.amazon.done["UpdateEndpoint"] == 2


def test_a_container_that_does_not_start_leaves_the_champion_alone(tmp_path: Path) -> None:
    def launch(model: Any) -> Plain:
        if model["PrimaryContainer"]["Environment"]["ML_LIFECYCLE_VERSION"] == "2":
            raise RuntimeError("digest mismatch")
        return Plain(model["PrimaryContainer"]["Environment"])

    cloud = DirectCloud(Amazon(looks=0, launch=launch))
    place = place_in(cloud, tmp_path)
    place.serve(1)

    place.target.deploy(place.move(2, epoch=2), place.means)

    place.target.status(MODEL, place.means)
    seen = place.target.status(MODEL, place.means)
    assert dict(seen.traffic) == {1: 100}
    assert "ping health check: digest mismatch" in seen.fault


def test_a_version_without_a_single_instance_is_a_fault(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path)
    cloud.amazon.endpoints[MODEL].variants[V1].count = 0

    seen = place.target.status(MODEL, place.means)

    assert seen.fault == f"no instance of {V1} runs"
    assert seen.ready == (2,)


# --- Whose it is -----------------------------------------------------------------------------------------------------


def test_an_endpoint_that_somebody_else_made_is_left_alone(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1)
    cloud.amazon.tags[f"{ARN}:endpoint/{MODEL}"].clear()

    for write in (place.target.deploy, place.target.promote, place.target.restore):
        with pytest.raises(TargetRefusedError, match="made by somebody else"):
            write(place.move(2, epoch=2), place.means)
    with pytest.raises(TargetRefusedError, match="made by somebody else"):
        place.target.destroy(MODEL, "test", place.means)

    assert list(cloud.amazon.endpoints[MODEL].variants) == [V1]


def test_two_models_cannot_share_an_endpoint(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(cloud, tmp_path, endpoint="shared")
    place.serve(1)

    with pytest.raises(TargetRefusedError, match="serves the model 'flights'"):
        place.target.status("trains", place.means)


def test_a_late_writer_that_a_newer_move_overtook_brings_back_what_the_newer_one_asked_for(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place = canary(cloud, tmp_path)
    overtaken: list[bool] = []

    def overtake(operation: str, asked: dict[str, Any]) -> None:
        if operation == "UpdateEndpointWeightsAndCapacities" and not overtaken:
            overtaken.append(True)
            place.target.promote(rollback(place, 1, epoch=3), place.means)

    cloud.amazon.before = overtake
    with pytest.raises(StaleEpochError, match="epoch 3, not 2"):
        place.split(place.move(2, epoch=2), 50)

    seen = place.settled()
    assert (dict(seen.traffic), seen.epoch) == ({1: 100}, 3)


def test_a_newer_writer_whose_tags_an_older_one_overwrote_writes_them_again(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path)
    place.split(place.move(2, epoch=2), 50)
    place.settled()
    tags = cloud.amazon.tags[f"{ARN}:endpoint/{MODEL}"]
    once: list[bool] = []

    def overwrite(operation: str, asked: dict[str, Any]) -> None:
        if operation == "UpdateEndpointWeightsAndCapacities" and not once:
            once.append(True)
            tags[f"{TAG}epoch"] = "2"

    cloud.amazon.before = overwrite
    place.target.promote(rollback(place, 1, epoch=3), place.means)

    seen = place.settled()
    assert (dict(seen.traffic), seen.epoch) == ({1: 100}, 3)


def test_the_tags_tell_a_person_whose_it_is_and_why(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(cloud, tmp_path)
    move = place.move(1).model_copy(update={"decision_id": "d" * 64})

    place.target.deploy(move, place.means)

    tags = cloud.amazon.tags[f"{ARN}:endpoint/{MODEL}"]
    assert {name: tags[f"{TAG}{name}"] for name in ("model", "environment", "epoch", "decision", "wanted")} == {
        "model": MODEL,
        "environment": "test",
        "epoch": "1",
        "decision": "d" * 64,
        "wanted": f"{V1}=100",
    }


@pytest.mark.parametrize("text", ["", "many", "-1", "²"])
def test_a_fence_that_was_made_unreadable_is_as_if_no_move_had_been_there(
    cloud: DirectCloud, tmp_path: Path, text: str
) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1, epoch=5)
    cloud.amazon.tags[f"{ARN}:endpoint/{MODEL}"].update({f"{TAG}epoch": text, f"{TAG}asked": text})

    assert place.target.status(MODEL, place.means).epoch == 0
    place.target.promote(place.move(1, epoch=5), place.means)
    assert place.settled().epoch == 5


# --- Options ---------------------------------------------------------------------------------------------------------


def test_versions_scale_as_soon_as_they_may_get_traffic_and_stop_when_they_leave(
    cloud: DirectCloud, tmp_path: Path
) -> None:
    place = canary(cloud, tmp_path, autoscaling={"min": 2, "max": 6, "target": 750})
    move = place.move(2, epoch=2)
    place.target.promote(move, place.means)
    place.settled()
    scaled = cloud.amazon.scaled[f"endpoint/{MODEL}/variant/{V2}"]
    policy = cloud.amazon.policies[f"{MODEL}-{V2}"]["TargetTrackingScalingPolicyConfiguration"]

    place.retire(move)
    place.settled()

    assert (scaled["MinCapacity"], scaled["MaxCapacity"], policy["TargetValue"]) == (2, 6, 750.0)
    assert list(cloud.amazon.scaled) == [f"endpoint/{MODEL}/variant/{V2}"]
    assert list(cloud.amazon.policies) == [f"{MODEL}-{V2}"]


def test_the_package_group_shows_what_was_approved_and_what_was_rolled_back(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path, package_group="flights-models")
    place.split(place.move(2, epoch=2), 10)
    place.settled()
    for _ in range(2):
        place.target.promote(rollback(place, 1, epoch=3), place.means)
        place.settled()

    shown = cloud.amazon.groups["flights-models"]

    assert [(one["ModelPackageDescription"], one["ModelApprovalStatus"]) for one in shown] == [
        (V1, "Approved"),
        (V2, "Rejected"),
    ]
    assert shown[1]["CustomerMetadataProperties"]["digest"] == "2" * 64


def test_alarms_guard_an_update_that_only_changes_the_container(cloud: DirectCloud, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    cloud.amazon.before = lambda operation, what: asked.append(what) if operation == "UpdateEndpoint" else None
    place = place_in(cloud, tmp_path, alarms=["errors", "slow"])
    place.serve(1)
    other = target(alarms=["errors", "slow"], image="another")

    other.deploy(place.move(1, epoch=2), place.means)
    place.settled()
    other.deploy(place.move(2, epoch=3), place.means)
    place.settled()

    assert [one.get("DeploymentConfig", {}).get("AutoRollbackConfiguration") for one in asked] == [
        {"Alarms": [{"AlarmName": "errors"}, {"AlarmName": "slow"}]},
        None,
    ]


def test_network_key_capture_and_tags_reach_what_is_made(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(
        cloud,
        tmp_path,
        network={"subnets": ["subnet-1"], "security_groups": ["sg-1"], "isolated": True},
        data_capture={"percent": 20},
        tags={"team": "flights"},
    )
    place.target.deploy(place.move(1), place.means)

    (model,), (config,) = cloud.amazon.models.values(), cloud.amazon.configs.values()

    assert model["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert model["EnableNetworkIsolation"] is True
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 20
    assert config["DataCaptureConfig"]["DestinationS3Uri"] == "s3://models/capture/flights"
    assert {arn.split(":")[-1].split("/")[0] for arn, tags in cloud.amazon.tags.items() if tags["team"]} == {
        "model",
        "endpoint",
        "endpoint-config",
    }


def test_the_ledger_can_keep_a_targets_options_and_make_the_same_target_of_them() -> None:
    made = target(tags={"team": "flights", "cost": "1"}, alarms=["a"], autoscaling={"max": 3}, steps=[10, 100])

    again = target_from(made.model_dump(mode="json"))

    assert again == made
    assert hash(again) == hash(made)


@pytest.mark.parametrize(
    "options",
    [
        {"role_arn": "serving"},
        {"endpoint": "Flights"},
        {"endpoint": "f" * 45},
        {"bucket": "Models"},
        {"instance_count": 0},
        {"autoscaling": {"min": 3, "max": 2}},
        {"update_within": "soon"},
        {"data_capture": {"percent": 0}},
        {"prefix": "../models"},
        {"tags": 5},
        {"tags": "team"},
        {"tags": {"team": 1, 2: "a"}},
        {"tags": {"team": "{}"}},
        {"surprise": 1},
    ],
)
def test_an_option_that_sagemaker_would_not_take_is_refused_before_anything_is_asked(options: dict[str, Any]) -> None:
    needed = target().model_dump(mode="json")

    with pytest.raises(LifecycleError, match=next(iter(options))):
        target_from({**needed, **options})


def test_a_share_beyond_all_is_refused(cloud: DirectCloud, tmp_path: Path) -> None:
    place = canary(cloud, tmp_path)

    for percent in (-1, 101):
        with pytest.raises(ServiceRefusedError, match="no percentage"):
            place.split(place.move(2, epoch=2), percent)


def test_a_version_that_was_never_deployed_gets_no_share(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(1)

    with pytest.raises(ServiceRefusedError, match=r"version 2 is not deployed.*deploy it first"):
        place.split(place.move(2, epoch=2), 10)

    assert place.traffic() == {1: 100}


# --- Rehearsals ------------------------------------------------------------------------------------------------------


def test_a_rehearsal_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    cloud = DirectCloud()
    place = place_in(cloud, tmp_path, autoscaling={"max": 3}, package_group="flights-models")
    place.serve(2, epoch=2)
    before = cloud.inventory()
    cloud.amazon.taken_back = "out of instances"

    with pytest.raises(RollbackNotReadyError, match="out of instances"):
        place.target.rehearse(place.move(1), place.means)

    assert cloud.inventory() == before


def test_what_a_killed_rehearsal_left_is_removed_by_the_next_one(cloud: DirectCloud, tmp_path: Path) -> None:
    place = place_in(cloud, tmp_path)
    place.serve(2, epoch=2)
    before = cloud.inventory()
    target(endpoint="flights-drill").deploy(place.move(1), place.means)

    assert dict(place.target.rehearse(place.move(1), place.means)) == {1: 100}

    assert cloud.inventory() == before


# --- Answers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "error", "said"),
    [
        (("Rate exceeded", "ThrottlingException"), ServiceUnavailableError, "the next try asks again"),
        (("", "InternalFailure"), ServiceUnavailableError, "InternalFailure"),
        (("The limit is 0 instances", "ResourceLimitExceeded"), ServiceRefusedError, "have the quota raised"),
        (("not authorized", "AccessDeniedException"), ServiceRefusedError, "docs/guides/sagemaker.md"),
        (("token s3cret", "UnrecognizedClientException"), ConfigurationError, "renew its credentials"),
        (("instance type", "ValidationException"), ServiceRefusedError, "mend the option"),
    ],
)
def test_what_amazon_refuses_is_told_with_the_way_out(
    tmp_path: Path, refusal: tuple[str, str], error: type[Exception], said: str
) -> None:
    def refuse(operation: str, asked: dict[str, Any]) -> None:
        if operation == "CreateModel":
            raise RefusedError(*refusal)

    place = place_in(DirectCloud(Amazon(before=refuse)), tmp_path)

    with pytest.raises(error, match=said) as raised:
        place.target.deploy(place.move(1), place.means)

    assert "s3cret" not in str(raised.value)


# --- Names and numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 1.0, "b": 2.0}, {"a": 33, "b": 67}),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 34, "b": 33, "c": 33}),
        ({"a": 90.0, "b": 10.0}, {"a": 90, "b": 10}),
        ({"a": 0.0, "b": 5.0}, {"b": 100}),
        ({"a": 0.0}, {}),
        ({}, {}),
        ({"a": float("nan")}, {}),
    ],
)
def test_weights_are_told_as_whole_percent_that_sum_to_a_hundred(
    weights: dict[str, float], expected: dict[str, int]
) -> None:
    assert percents(weights) == expected


def test_names_that_sagemaker_would_not_take_are_changed_and_stay_apart() -> None:
    names = ["flights", "flight_delays", "flight-delays", "f" * 63, "f" * 62]

    made = [endpoint_name(name) for name in names]

    assert made[0] == "flights"
    assert made[2] == "flight-delays"
    assert made[1].startswith("flight-delays-")
    assert len(set(made)) == len(names)
    assert max(map(len, made)) <= 44
