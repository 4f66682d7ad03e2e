"""A model on Kubernetes: what happens when others write, pods fail, and things are removed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Response
from hypothesis import given
from hypothesis import strategies as st

from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.base import Serving
from ml_lifecycle.backends.deployment.kserve_objects import FENCE, HTTP_ROUTE, fence_in, place_of, service_name
from ml_lifecycle.backends.deployment.kube import Namespace
from ml_lifecycle.core.errors import (
    LifecycleError,
    RollbackNotReadyError,
    ServiceRefusedError,
    ServiceUnavailableError,
    StaleEpochError,
    TargetRefusedError,
)
from tests.fakes.endpoint_service import running
from tests.fakes.kserve_place import client_for, cluster_place, target
from tests.fakes.kube_api import DNS_1035, Cluster, Object, kube_api
from tests.fakes.places import Place


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(slow=0, unrouted=0)


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    """Version 1 serves, and version 2 runs beside it."""
    with cluster_place(tmp_path, cluster) as found:
        found.serve(1)
        found.target.deploy(found.move(2, epoch=2), found.means)
        found.settled()
        yield found


def seen(place: Place) -> Serving:
    """What serves, settled or not."""
    return place.target.status("flights", place.means)


def writes(cluster: Cluster) -> list[tuple[str, str]]:
    """What was written since it was last asked."""
    found = [one for one in cluster.requests if one[0] != "GET"]
    cluster.requests.clear()
    return found


@contextmanager
def meanwhile(cluster: Cluster, method: str, act: Callable[[], Any]) -> Iterator[None]:
    """Something that happens right before the next request by this method."""
    waiting = [act]

    def happen(asked: str, name: str) -> None:
        if asked == method and waiting:
            waiting.pop()()

    cluster.before = happen
    try:
        yield
    finally:
        cluster.before = lambda *_: None
    assert not waiting


# --- Two writers -----------------------------------------------------------------------------------------------------


def test_who_was_overtaken_between_reading_and_writing_is_refused(cluster: Cluster, place: Place) -> None:
    newer = place.move(1, epoch=3)

    with (
        meanwhile(cluster, "PUT", lambda: place.target.promote(newer, place.means)),
        pytest.raises(StaleEpochError, match="epoch 3, not 2"),
    ):
        place.split(place.move(2, epoch=2), 50)

    assert (place.traffic(), seen(place).epoch) == ({1: 100}, 3)


def test_who_was_overtaken_by_itself_does_it_once(cluster: Cluster, place: Place) -> None:
    move = place.move(2, epoch=2)

    with meanwhile(cluster, "PUT", lambda: place.split(move, 50)):
        place.split(move, 50)

    assert place.traffic() == {1: 50, 2: 50}


def test_two_who_make_the_first_route_at_once_agree_on_the_newer_move(cluster: Cluster, tmp_path: Path) -> None:
    with cluster_place(tmp_path, cluster) as place:
        with (
            meanwhile(cluster, "POST", lambda: place.target.promote(place.move(2, epoch=2), place.means)),
            pytest.raises(StaleEpochError, match="epoch 2, not 1"),
        ):
            place.target.promote(place.move(1, epoch=1), place.means)

        assert place.traffic() == {2: 100}


def test_of_many_writers_at_once_the_newest_move_is_the_last(cluster: Cluster, place: Place) -> None:
    def write(epoch: int) -> None:
        try:
            place.target.promote(place.move(epoch % 3 + 1, epoch=epoch), place.means)
        except (StaleEpochError, ServiceUnavailableError):
            refused.append(epoch)

    refused: list[int] = []
    threads = [threading.Thread(target=write, args=(epoch,)) for epoch in range(3, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if 10 in refused:  # others were eight times faster: it is told to try again, and does
        place.target.promote(place.move(2, epoch=10), place.means)

    assert (place.traffic(), seen(place).epoch) == ({2: 100}, 10)


def test_a_reader_never_undoes_what_somebody_writes_meanwhile(cluster: Cluster, place: Place) -> None:
    cluster.slow = 3
    place.target.promote(place.move(3, epoch=3), place.means)
    back = place.move(1, epoch=4)

    with meanwhile(cluster, "PUT", lambda: place.target.promote(back, place.means)):
        found = place.settled()

    assert (dict(found.traffic), found.epoch) == ({1: 100}, 4)


# --- Slow and broken -------------------------------------------------------------------------------------------------


def test_a_version_gets_nothing_before_it_is_ready(cluster: Cluster, place: Place) -> None:
    cluster.slow = 4
    place.target.promote(place.move(3, epoch=3), place.means)

    found = []
    while not (one := seen(place)).settled:
        found.append((dict(one.traffic), one.detail))

    assert ({1: 100}, "version 3 is not ready") in found
    assert all(traffic in ({1: 100}, {3: 100}) for traffic, _ in found)
    assert dict(one.traffic) == {3: 100}


def test_shares_that_the_gateway_has_not_taken_are_not_settled(cluster: Cluster, place: Place) -> None:
    cluster.unrouted = 3
    place.split(place.move(2, epoch=2), 50)

    first = seen(place)

    assert (first.settled, first.detail) == (False, "the gateway has not seen the shares yet")
    assert place.traffic() == {1: 50, 2: 50}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("broken", "version 3: ModelLoadFailed: digest mismatch Traceback ..."),
        ("stuck", "version 3: ProgressDeadlineExceeded: ReplicaSet has timed out progressing."),
    ],
)
def test_a_version_that_never_gets_ready_is_a_fault_and_the_champion_keeps_all(
    cluster: Cluster, place: Place, how: str, why: str
) -> None:
    getattr(cluster, how).add(3)

    place.target.promote(place.move(3, epoch=3), place.means)
    found = seen(place)

    assert (found.fault, dict(found.traffic), found.settled) == (why, {1: 100}, False)
    assert cluster.ask("anybody") == 1


def test_a_version_that_dies_under_its_share_loses_it_until_somebody_decides(cluster: Cluster, place: Place) -> None:
    place.split(place.move(2, epoch=2), 50)
    place.settled()

    cluster.broken.add(2)
    died = seen(place)
    cluster.broken.clear()
    mended = seen(place)

    assert dict(died.traffic) == {1: 100}
    assert died.fault.startswith("version 2: ModelLoadFailed")
    assert (mended.fault, dict(mended.traffic)) == (died.fault, {1: 100})
    place.target.promote(place.move(1, epoch=3), place.means)
    assert place.settled().fault == ""


def test_a_version_that_is_not_ready_any_longer_loses_its_share(cluster: Cluster, place: Place) -> None:
    place.split(place.move(2, epoch=2), 50)
    place.settled()

    cluster.slow = 1000
    found = seen(place)

    assert (found.fault, dict(found.traffic)) == ("version 2 is not ready any longer", {1: 100})


def test_a_champion_that_restarts_alone_keeps_what_nobody_else_could_answer(cluster: Cluster, place: Place) -> None:
    place.target.promote(place.move(2, epoch=2), place.means)
    place.settled()

    cluster.slow = 1000
    found = seen(place)

    assert (found.fault, dict(found.traffic), found.settled) == ("", {2: 100}, False)
    assert found.detail == "version 2 is not ready"


def test_what_failed_once_can_be_deployed_again(cluster: Cluster, place: Place) -> None:
    cluster.broken.add(2)
    assert seen(place).fault

    cluster.broken.clear()
    place.target.deploy(place.move(2, epoch=2), place.means)

    assert place.settled().fault == ""


# --- Removed by somebody ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("removed", "left"), [(2, 1), (1, 2)])
def test_what_somebody_removed_gets_no_requests_and_is_a_fault(
    cluster: Cluster, place: Place, removed: int, left: int
) -> None:
    place.split(place.move(2, epoch=2), 10)
    place.settled()

    cluster.remove(removed)
    found = seen(place)

    assert found.fault == f"the InferenceService of version {removed} is gone: somebody removed it"
    assert dict(found.traffic) == {left: 100}
    assert {cluster.ask(str(user)) for user in range(20)} == {left}


def test_a_champion_that_somebody_removed_serves_nothing_until_it_is_promoted_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    with cluster_place(tmp_path, cluster) as place:
        place.serve(1)
        cluster.remove(1)

        gone = seen(place)
        place.target.promote(place.move(1, epoch=1), place.means)

        assert (dict(gone.traffic), gone.settled, gone.epoch) == ({}, False, 1)
        assert gone.fault == "the InferenceService of version 1 is gone: somebody removed it"
        assert place.traffic() == {1: 100}


def test_weights_that_somebody_edits_are_set_back(cluster: Cluster, place: Place) -> None:
    place.split(place.move(2, epoch=2), 10)
    place.settled()

    for backend in cluster.objects["httproutes", "flights"]["spec"]["rules"][0]["backendRefs"]:
        backend["weight"] = 50

    assert place.traffic() == {1: 90, 2: 10}


def test_a_rollback_brings_back_a_champion_that_somebody_removed(cluster: Cluster, place: Place) -> None:
    place.split(place.move(2, epoch=2), 10)
    place.settled()
    cluster.remove(1)

    place.target.promote(place.move(1, epoch=3), place.means)

    assert place.traffic() == {1: 100}


def test_a_route_that_somebody_removed_serves_nothing_until_it_is_written_again(cluster: Cluster, place: Place) -> None:
    del cluster.objects["httproutes", "flights"]

    gone = seen(place)
    place.target.promote(place.move(1, epoch=2), place.means)

    assert (dict(gone.traffic), gone.epoch) == ({}, 0)
    assert place.traffic() == {1: 100}


def test_a_route_of_somebody_else_is_left_alone(cluster: Cluster, tmp_path: Path) -> None:
    metadata = {"name": "flights", "labels": {"app.kubernetes.io/managed-by": "somebody"}}
    cluster.create("httproutes", HTTP_ROUTE.manifest(metadata, {"parentRefs": [{"name": "theirs"}], "rules": []}))

    with cluster_place(tmp_path, cluster) as place:
        for act in (place.target.promote, place.target.deploy):
            with pytest.raises(TargetRefusedError, match="a route by that name that somebody else made"):
                act(place.move(1), place.means)

    assert cluster.objects["httproutes", "flights"]["spec"]["rules"] == []


def test_a_fence_that_somebody_made_unreadable_says_nothing() -> None:
    for text in ("", "{", '{"epoch": "NaN"}', json.dumps({"environment": "x" * 10})):
        assert fence_in({"metadata": {"annotations": {FENCE: text}}}) is None


# --- Retries and rollbacks -------------------------------------------------------------------------------------------


def test_a_rollback_is_one_write_and_asks_no_registry(cluster: Cluster, place: Place) -> None:
    place.target.promote(place.move(2, epoch=2), place.means)
    place.settled()
    writes(cluster)
    blind = replace(place.means, registry=None)  # type: ignore[arg-type]  # it is not asked

    place.target.promote(place.move(1, epoch=3), blind)

    assert writes(cluster) == [("PUT", "flights")]
    assert place.traffic() == {1: 100}


def test_what_is_so_already_is_not_written_again(cluster: Cluster, place: Place) -> None:
    move = place.move(2, epoch=2)
    place.split(move, 10)
    place.settled()
    writes(cluster)

    place.split(move, 10)
    place.target.deploy(move, place.means)
    place.settled()

    assert writes(cluster) == []


def test_a_task_that_deploys_again_after_promotion_leaves_the_version_before_warm(place: Place) -> None:
    move = place.move(2, epoch=2)
    place.target.promote(move, place.means)
    place.settled()

    place.target.deploy(move, place.means)

    assert place.settled().ready == (1, 2)
    assert place.traffic() == {2: 100}


def test_a_try_that_was_killed_after_the_route_is_ended_by_the_next_one(cluster: Cluster, place: Place) -> None:
    def die() -> None:
        raise ConnectionAbortedError

    move = place.move(3, epoch=3)
    with meanwhile(cluster, "POST", die), pytest.raises(ServiceUnavailableError, match="did not answer"):
        place.target.promote(move, place.means)
    between = seen(place)

    place.target.promote(move, place.means)

    assert (dict(between.traffic), between.settled, between.epoch) == ({1: 100}, False, 3)
    assert place.traffic() == {3: 100}


def test_a_place_that_is_still_being_cleared_is_tried_again(cluster: Cluster, place: Place) -> None:
    place.target.destroy("flights", "test", place.means)
    cluster.finalized_after = 6
    place.serve(1)
    place.target.destroy("flights", "test", place.means)

    with pytest.raises(ServiceUnavailableError, match="being removed"):
        place.target.deploy(place.move(1), place.means)
    while any(kind == "inferenceservices" for kind, _ in cluster.objects):
        seen(place)
    place.serve(1)

    assert place.traffic() == {1: 100}


def test_a_rehearsal_that_fails_says_why_and_leaves_nothing(cluster: Cluster, place: Place) -> None:
    cluster.broken.add(3)

    with pytest.raises(RollbackNotReadyError, match="version 3 did not become ready: ModelLoadFailed: digest mismatch"):
        place.target.rehearse(place.move(3), place.means)

    assert all("drill" not in name for _, name in cluster.objects)


def test_other_bytes_never_take_a_serving_version_s_name(cluster: Cluster, place: Place) -> None:
    place.digests[1] = "f" * 64

    with pytest.raises(TargetRefusedError, match="other bytes serve as version 1: 11111111, not ffffffff"):
        place.target.promote(place.move(1, epoch=3), place.means)

    assert seen(place).epoch == 2


def test_bytes_that_serve_nobody_are_replaced_under_their_version(cluster: Cluster, place: Place) -> None:
    place.digests[2] = "f" * 64
    move = place.move(2, epoch=3)

    place.target.deploy(move, place.means)
    place.split(move, 10)

    assert place.traffic() == {1: 90, 2: 10}
    assert cluster.service_of(2)["metadata"]["annotations"]["ml-lifecycle/digest"] == "f" * 64


# --- What is written -------------------------------------------------------------------------------------------------


def container(service: Object) -> Object:
    """The only container of a predictor."""
    (found,) = service["spec"]["predictor"]["containers"]
    assert isinstance(found, dict)
    return found


def test_pods_serve_the_bytes_of_the_decision_or_none(cluster: Cluster, place: Place) -> None:
    service = cluster.service_of(2)

    found = container(service)

    assert service["metadata"]["name"] == "flights-v2-22222222"
    assert found["env"] == [{"name": "STORAGE_URI", "value": f"pvc://models/flights/{'2' * 64}"}]
    assert {f"--digest={'2' * 64}", "--version=2", "--model=flights", "--package=/mnt/models"} <= set(found["args"])
    assert found["readinessProbe"]["httpGet"] == {"path": "/ping", "port": 8080}
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"


def test_the_server_understands_what_pods_are_started_with(place: Place, cluster: Cluster) -> None:
    from ml_lifecycle.serving.server import options_of

    found = options_of(container(cluster.service_of(2))["args"], {})

    assert (found.digest, found.version, found.model, found.port) == ("2" * 64, 2, "flights", 8080)
    assert (found.package, found.host) == ("/mnt/models", "0.0.0.0")  # noqa: S104  # a pod listens to its node


def test_pods_log_what_they_answer_where_workers_read_it(cluster: Cluster, place: Place) -> None:
    from ml_lifecycle.serving.server import options_of

    logging = replace(place, target=target(log_claim="data/lifecycle/log"))
    logging.target.deploy(place.move(3, epoch=3), place.means)

    service = cluster.service_of(3)
    mounted = container(service)["volumeMounts"][0]
    assert options_of(container(service)["args"], {}).log == mounted["mountPath"]
    assert mounted["subPath"] == "lifecycle/log"
    assert service["spec"]["predictor"]["volumes"] == [{"name": "log", "persistentVolumeClaim": {"claimName": "data"}}]


def test_a_changed_option_reaches_the_version_that_is_deployed_with_it(cluster: Cluster, place: Place) -> None:
    other = replace(place, target=target(image="registry.example.com/server:2", replicas=3, path="/late"))

    other.target.deploy(place.move(2, epoch=2), place.means)

    images = [container(cluster.service_of(version))["image"] for version in (1, 2)]
    assert images == ["registry.example.com/server@sha256:0", "registry.example.com/server:2"]
    assert cluster.service_of(2)["spec"]["predictor"]["minReplicas"] == 3
    rule = cluster.objects["httproutes", "flights"]["spec"]["rules"][0]
    assert rule["matches"][0]["path"]["value"] == "/late"
    assert other.traffic() == {1: 100}


def test_what_others_wrote_on_our_objects_stays(cluster: Cluster, place: Place) -> None:
    for one in (cluster.objects["httproutes", "flights"], cluster.service_of(2)):
        one["metadata"]["annotations"]["team"] = "flights"
        one["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
    other = replace(place, target=target(image="registry.example.com/server:2"))

    other.target.deploy(place.move(2, epoch=2), place.means)
    other.split(place.move(2, epoch=2), 10)
    other.settled()

    for one in (cluster.objects["httproutes", "flights"], cluster.service_of(2)):
        assert one["metadata"]["annotations"]["team"] == "flights"
        assert one["metadata"]["finalizers"] == ["inferenceservice.finalizers"]
    assert container(cluster.service_of(2))["image"] == "registry.example.com/server:2"
    assert json.loads(cluster.objects["httproutes", "flights"]["metadata"]["annotations"][FENCE])["epoch"] == 2


def test_a_controller_that_writes_its_status_all_the_time_keeps_nobody_from_removing(
    cluster: Cluster, place: Place
) -> None:
    def churn(method: str, name: str) -> None:
        if method == "DELETE" and "-v" in name:
            cluster.store("inferenceservices", cluster.objects["inferenceservices", name])

    place.target.promote(place.move(2, epoch=2), place.means)
    place.settled()
    cluster.before = churn

    place.retire(place.move(2, epoch=2))

    assert place.settled().ready == (2,)


# --- Options and names -----------------------------------------------------------------------------------------------

NEEDED = {"backend": "kserve", "image": "server:1", "storage": "s3://models/flights"}


def test_a_move_keeps_the_options_as_plain_json_and_gives_the_same_target_back() -> None:
    made = target_from({**NEEDED, "steps": ["shadow", 10, 100], "resources": {"memory": "2Gi"}})

    again = target_from(json.loads(made.model_dump_json()))

    assert again == made
    assert len({again, made}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"storage": "/srv/models"}, "storage"),
        ({"storage": "s3://models/../other"}, "storage"),
        ({"storage": "s3://models/late flights"}, "storage"),
        ({"namespace": "Team A"}, "namespace"),
        ({"gateway": "kserve-ingress-gateway"}, "gateway"),
        ({"path": "late"}, "path"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": 3, "max_replicas": 2}, "max_replicas is below replicas"),
        ({"storage_folder": "models"}, "storage_folder is no absolute path"),
        ({"storage": "pvc://models/a", "storage_connection": "aws"}, "uploads to s3:// only"),
        ({"resources": {"gpus": "1"}}, "gpus"),
        ({"image": ""}, "image"),
        ({"log_claim": "data/../../etc"}, "log_claim"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LifecycleError, match=re.escape(message)):
        target_from({**NEEDED, **options})


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True), st.integers(1, 99_999_999))
def test_every_model_s_name_becomes_one_that_kubernetes_takes(model: str, version: int) -> None:
    name = service_name(f"{place_of(model)}-drill", version, "f" * 64)

    assert DNS_1035.fullmatch(f"{name}-predictor")
    assert DNS_1035.fullmatch(place_of(model))


def test_models_whose_names_look_alike_have_places_of_their_own() -> None:
    models = ["late", "late_flights", "late-flights", "7-late", "m-7-late", "late-", "l" * 60, "l" * 61]

    assert len({place_of(model) for model in models}) == len(models)
    assert place_of("late") == "late"


# --- Clusters that answer otherwise ----------------------------------------------------------------------------------


def test_a_cluster_without_kserve_or_a_gateway_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fakes.kube_api.KNOWN", {})

    with (
        kube_api(cluster) as url,
        client_for(url) as client,
        pytest.raises(ServiceRefusedError, match=r"does not know httproutes.*install KServe"),
    ):
        Namespace(client, "default").get(HTTP_ROUTE, "flights")


def test_a_namespace_that_is_not_there_is_named(cluster: Cluster, tmp_path: Path) -> None:
    with (
        cluster_place(tmp_path, cluster, namespace="nowhere") as place,
        pytest.raises(ServiceRefusedError, match=r'namespaces "nowhere" not found\); create it'),
    ):
        place.target.deploy(place.move(1), place.means)


@pytest.mark.parametrize(
    ("status", "headers", "error", "message"),
    [
        (200, {"Content-Type": "text/html"}, ServiceRefusedError, "the API server answered with str, not an object"),
        (502, {"Content-Type": "text/html"}, ServiceUnavailableError, "the API server answered 502"),
        (429, {}, ServiceUnavailableError, "the API server answered 429"),
        (302, {"Location": "http://127.0.0.1:9/"}, ServiceUnavailableError, "did not answer"),
        (403, {}, ServiceRefusedError, "let the connection's account get, list"),
        (422, {}, ServiceRefusedError, "the API server answered 422"),
    ],
)
def test_whatever_stands_before_the_api_server_is_told_apart(
    status: int, headers: dict[str, str], error: type[Exception], message: str
) -> None:
    app = FastAPI()
    app.add_api_route("/{path:path}", lambda: Response("<html>" + "x" * 5000, status, headers), response_model=None)

    with running(app) as url, client_for(url) as client, pytest.raises(error, match=message) as told:
        Namespace(client, "default").get(HTTP_ROUTE, "flights")

    assert len(str(told.value)) < 700


def test_an_api_server_that_is_down_may_be_up_again(tmp_path: Path, cluster: Cluster) -> None:
    with cluster_place(tmp_path, cluster) as place, client_for("http://127.0.0.1:9") as client:
        away = replace(place.means, client=lambda *_: client)

        with pytest.raises(ServiceUnavailableError, match="did not answer"):
            place.target.status("flights", away)
