"""A place in a cluster: the fake API server with KServe's and a gateway's controllers behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.deployment.kserve import KServeTarget
from tests.fakes.kube_api import TOKEN, Cluster, kube_api
from tests.fakes.places import Place, no_package, registry_at


def target(**options: Any) -> KServeTarget:
    """The target with the options that have no default."""
    return KServeTarget.model_validate(
        {"image": "registry.example.com/server@sha256:0", "storage": "pvc://models/flights", **options}
    )


@contextmanager
def client_for(url: str) -> Iterator[Any]:
    """A client of the API server at this address."""
    from kubernetes.client import ApiClient, Configuration

    configuration = Configuration(host=url, api_key={"authorization": f"Bearer {TOKEN}"})
    configuration.retries = 0
    with ApiClient(configuration) as client:
        yield client
        client.rest_client.pool_manager.clear()


@contextmanager
def cluster_place(tmp_path: Path, cluster: Cluster, **options: Any) -> Iterator[Place]:
    """A place in this cluster."""
    with kube_api(cluster) as url, client_for(url) as client:

        def made(service: str, connection: str) -> Any:
            assert service == "kubernetes", f"{service} at {connection}"
            return client

        means = Means(registry=registry_at(tmp_path / "registry"), package=no_package, client=made)
        yield Place(target(**options), means, ask=cluster.ask)


@contextmanager
def kserve_place(tmp_path: Path) -> Iterator[Place]:
    """A place in a cluster whose pods need a while."""
    with cluster_place(tmp_path, Cluster()) as place:
        yield place
