"""A place behind the contract of ``backend: http``: the example's adapter before an endpoint in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.deployment.http import HttpTarget
from tests.fakes.endpoint_service import MemoryEndpoint, endpoint_service
from tests.fakes.places import Place, no_package, registry_at


class Session(requests.Session):
    """As the hook's session, without a connection."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self.base_url = base_url
        self.trust_env = False


def means_for(base_url: str, folder: Path) -> Means:
    """What a target may use where one service answers."""
    session = Session(base_url)

    def client(service: str, connection: str) -> Any:
        assert service == "http", f"{service} at {connection}"
        return session

    return Means(registry=registry_at(folder / "registry"), package=no_package, client=client)


@contextmanager
def http_place(tmp_path: Path) -> Iterator[Place]:
    """An endpoint in memory whose versions need a while."""
    endpoint = MemoryEndpoint()
    with endpoint_service(tmp_path / "adapter", endpoint) as url:
        means = means_for(url, tmp_path)
        try:
            yield Place(HttpTarget(), means, ask=endpoint.ask)
        finally:
            means.client("http", "").close()
