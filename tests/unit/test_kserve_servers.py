"""A whole canary on Kubernetes, whose pods are real model servers on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.tree import DecisionTreeClassifier  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.backends.deployment.base import Means
from tests.fakes.kserve_place import cluster_place, target
from tests.fakes.kube_api import Cluster
from tests.fakes.places import Place
from tests.fakes.served_model import INPUTS, ModelServer, fitted, started, write_package

REQUEST = {"dataframe_split": {"columns": list(INPUTS), "data": [[0.7, "B6", None]]}}


class Pods:
    """Starts, for an InferenceService, what its container says, on the package that its storage holds."""

    def __init__(self, cluster: Cluster, claim: Path, stack: ExitStack) -> None:
        self.cluster, self.claim, self.stack = cluster, claim, stack
        self.servers: dict[str, ModelServer] = {}

    def start(self, version: int) -> None:
        service = self.cluster.service_of(version)
        (container,) = service["spec"]["predictor"]["containers"]
        package = self.claim / container["env"][0]["value"].removeprefix("pvc://models/")
        elsewhere = ("--package", "--host", "--port")
        arguments = [one for one in container["args"] if not one.startswith(elsewhere)]
        server = self.stack.enter_context(started(self.claim.parent, *arguments, f"--package={package}"))
        self.servers[f"{service['metadata']['name']}-predictor"] = server

    def ask(self, user: str) -> int:
        """One request of a user, through the gateway's shares."""
        answer = self.servers[self.cluster.backend()].invoke(REQUEST)
        assert answer.status == 200, (user, answer)
        version = int(answer.headers["x-model-version"])
        self.cluster.answered[version] += 1
        return version


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[tuple[Place, Pods]]:
    cluster, claim, packages = Cluster(slow=0), tmp_path / "claim", {}
    for version in (1, 2):
        folder = tmp_path / f"package-{version}"
        packages[write_package(folder, fitted(DecisionTreeClassifier(max_depth=version)))] = folder

    @contextmanager
    def package(uri: str, digest: str) -> Iterator[Path]:
        yield packages[digest]

    with ExitStack() as stack, cluster_place(tmp_path, cluster) as place:
        found = Pods(cluster, claim, stack)
        means: Means = replace(place.means, package=package)
        chosen = target(storage="pvc://models", storage_folder=str(claim))
        yield (
            replace(place, target=chosen, means=means, digests=dict(enumerate(packages, start=1)), ask=found.ask),
            found,
        )


def answers(place: Place, requests: int = 100) -> Counter[int]:
    """Who answered that many requests."""
    return Counter(place.ask(str(number)) for number in range(requests))


def test_every_request_is_answered_through_a_canary_a_promotion_and_a_rollback(pods: tuple[Place, Any]) -> None:
    place, cluster = pods
    first, second, back = place.move(1, epoch=1), place.move(2, epoch=2), place.move(1, epoch=3)
    place.target.deploy(first, place.means)
    cluster.start(1)
    place.target.promote(first, place.means)
    place.settled()
    place.target.deploy(second, place.means)
    cluster.start(2)
    found = [answers(place)]

    for percent in (10, 50, 100):
        place.split(second, percent)
        place.settled()
        found.append(answers(place))
    place.target.promote(back, place.means)
    place.settled()
    found.append(answers(place))

    assert [one.total() for one in found] == [100] * 5
    assert [set(one) for one in found] == [{1}, {1, 2}, {1, 2}, {2}, {1}]
    assert [abs(one[2] - percent) <= 1.5 for one, percent in zip(found[1:3], (10, 50), strict=True)] == [True] * 2
