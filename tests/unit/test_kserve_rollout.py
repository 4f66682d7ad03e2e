"""A release on Kubernetes, step by step, on what Prometheus counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fastapi import FastAPI, Response

from ml_lifecycle.core.contracts import Move, Verdict
from ml_lifecycle.core.errors import StillSettlingError, TargetFaultError
from ml_lifecycle.core.invariants import violations
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import deploy
from ml_lifecycle.stages.reconciliation import snapshot
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.rollout import RetirementJob, StepJob, begin, conclude_step, promote, retire, shift
from ml_lifecycle.stages.runner import Tools, record, run
from tests.fakes.champions import NOON, decided, registered
from tests.fakes.endpoint_service import running
from tests.fakes.http_place import Session
from tests.fakes.kserve_place import client_for
from tests.fakes.kube_api import Cluster, kube_api

Made = TypeVar("Made")

TARGET: dict[str, Any] = {
    "backend": "kserve",
    "image": "registry.example.com/server:1",
    "storage": "s3://models/flights",
    "prometheus": "prometheus_default",
    "steps": [10, 50, 100],
    "analysis": {"min_requests": 500, "max_error_rate": "1%"},
}


@dataclass
class Release:
    """A deployment at noon where version 1 serves on Kubernetes, and an approval of version 2."""

    tools: Tools
    job: DeploymentJob
    cluster: Cluster
    errors: dict[int, int]
    """Of 5,000 requests, by version."""

    def there(self, stage: Callable[[], Made]) -> Made:
        """What a stage comes to, called again while its target is on its way."""
        while True:
            with suppress(StillSettlingError):
                return stage()

    def passed(self, percent: int) -> Verdict:
        job = StepJob(**dict(self.job), percent=percent)
        self.there(lambda: run(shift, job, self.tools, model="flights"))
        return self.there(lambda: run(conclude_step, job, self.tools, model="flights")).verdict

    def traffic(self) -> dict[int, int]:
        from ml_lifecycle.stages.rollout import splitting

        return dict(splitting(TARGET).status("flights", means_of(self.tools)).traffic)

    def head(self) -> Move:
        found = self.tools.ledger.head("flights", "test")
        assert found is not None
        return found


def metrics(errors: dict[int, int]) -> FastAPI:
    """A Prometheus that has counted 5,000 requests of each version, all of them fast."""
    app = FastAPI()

    def vector(*samples: tuple[dict[str, str], int]) -> Response:
        result = [{"metric": labels, "value": [0, str(value)]} for labels, value in samples]
        return Response(json.dumps({"status": "success", "data": {"result": result}}))

    @app.get("/api/v1/query")
    def query(query: str) -> Response:
        found = re.search(r"flights-v(\d+)-", query)
        assert found is not None
        if "_bucket" in query:
            return vector(({"le": "5"}, 4000), ({"le": "10"}, 4900), ({"le": "25"}, 5000), ({"le": "+Inf"}, 5000))
        return vector(({}, errors[int(found[1])] if "5.." in query else 5000))

    return app


@pytest.fixture
def release(tools: Tools, tmp_path: Path) -> Iterator[Release]:
    cluster, errors = Cluster(slow=2, unrouted=1), {1: 0, 2: 0}
    with ExitStack() as stack:
        client = stack.enter_context(client_for(stack.enter_context(kube_api(cluster))))
        session = stack.enter_context(Session(stack.enter_context(running(metrics(errors)))))
        clients = {"kubernetes": client, "http": session}
        found = replace(tools, clock=lambda: NOON, client=lambda service, _: clients[service])
        first = decided(found, registered(found, tmp_path, 1)).model_copy(update={"target": TARGET})
        made = Release(found, first, cluster, errors)
        made.there(lambda: deploy(first, found))
        made.job = decided(found, registered(found, tmp_path, 2)).model_copy(update={"target": TARGET})
        record("resolve", made.job.request, found, model="flights")
        yield made


def test_a_good_version_goes_up_step_by_step(release: Release) -> None:
    release.there(lambda: begin(release.job, release.tools))
    shares, verdicts = [release.traffic()], []
    for percent in (10, 50):
        verdicts.append(release.passed(percent))
        shares.append(release.traffic())

    release.there(lambda: run(promote, release.job, release.tools, model="flights"))

    assert shares == [{1: 100}, {1: 90, 2: 10}, {1: 50, 2: 50}]
    assert verdicts == [Verdict.PASS, Verdict.PASS]
    assert release.traffic() == {2: 100}
    assert violations(snapshot("flights", release.tools, target=TARGET)) == ()


def test_a_version_that_fails_its_users_is_rolled_back(release: Release) -> None:
    release.errors[2] = 400
    release.there(lambda: begin(release.job, release.tools))

    verdict = release.passed(10)

    head = release.head()
    assert verdict is Verdict.FAIL
    assert (head.kind, head.version, release.traffic()) == ("rollback", 1, {1: 100})
    assert "version 2 at 10% of the traffic: error rate" in head.reason
    assert release.tools.ledger.deployment_states(head) == ("intent", "observed", "done")
    assert violations(snapshot("flights", release.tools, target=TARGET)) == ()


def test_a_version_whose_pods_die_at_half_of_the_traffic_is_rolled_back(release: Release) -> None:
    release.there(lambda: begin(release.job, release.tools))
    release.passed(10)
    job = StepJob(**dict(release.job), percent=50)
    release.there(lambda: run(shift, job, release.tools, model="flights"))

    release.cluster.broken.add(2)
    report = release.there(lambda: run(conclude_step, job, release.tools, model="flights"))

    head = release.head()
    assert report.verdict is Verdict.FAIL
    assert (head.kind, head.version, release.traffic()) == ("rollback", 1, {1: 100})
    assert "ModelLoadFailed" in head.reason


def test_a_version_whose_pods_die_after_its_promotion_gives_everything_back(release: Release) -> None:
    release.there(lambda: begin(release.job, release.tools))
    for percent in (10, 50):
        release.passed(percent)
    deployment = release.there(lambda: run(promote, release.job, release.tools, model="flights"))
    release.cluster.broken.add(2)

    job = RetirementJob(request=release.job.request, deployment=deployment)
    after = release.there(lambda: run(retire, job, release.tools, model="flights"))

    assert (after.champion.version, after.champion.kind, release.traffic()) == (1, "rollback", {1: 100})
    assert "ModelLoadFailed" in after.champion.reason
    assert release.tools.ledger.deployment_states(after.champion) == ("intent", "observed", "done")


def test_a_version_whose_pods_never_start_never_gets_a_request(release: Release) -> None:
    release.cluster.stuck.add(2)

    with pytest.raises(TargetFaultError, match="version 2: ProgressDeadlineExceeded"):
        release.there(lambda: begin(release.job, release.tools))

    assert release.traffic() == {1: 100}
