"""An endpoint in memory behind the example's adapter, served over real HTTP."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from include.serving_adapter.adapter import adapter

GOLDEN = 0.6180339887498949
"""Multiples of it, whole parts left out, spread evenly: a share of 10% gets 10 of 100 requests, give or take one."""


@dataclass
class MemoryEndpoint:
    """Versions that are ready after they were looked at ``slow`` times, or never."""

    slow: int = 2
    broken: set[int] = field(default_factory=set)
    """Versions that will not be ready."""
    looks: dict[tuple[str, int], int] = field(default_factory=dict)
    traffic: dict[str, dict[int, int]] = field(default_factory=dict)
    answered: Counter[int] = field(default_factory=Counter)

    def run(self, model: str, version: int, digest: str, uri: str) -> None:
        self.looks.setdefault((model, version), 0)

    def stop(self, model: str, version: int) -> None:
        self.looks.pop((model, version), None)

    def ready(self, model: str, version: int) -> bool:
        if (model, version) not in self.looks or version in self.broken:
            return False
        self.looks[model, version] += 1
        return self.looks[model, version] > self.slow

    def failure(self, model: str, version: int) -> str:
        return "its process ends at once" if version in self.broken else ""

    def route(self, model: str, traffic: Mapping[int, int]) -> None:
        self.traffic[model] = dict(traffic)

    def routed(self, model: str) -> dict[int, int]:
        return dict(self.traffic.get(model, {}))

    def counts(self, model: str, since: datetime) -> Sequence[Mapping[str, Any]]:
        return [{"version": version, "requests": self.answered[version]} for version in self.traffic.get(model, {})]

    def ask(self, user: str) -> int:
        """Whoever answers the next request about flights."""
        place, below = (self.answered.total() * GOLDEN) % 1 * 100, 0
        for version, percent in sorted(self.traffic["flights"].items()):
            below += percent
            if place < below:
                self.answered[version] += 1
                return version
        raise AssertionError(f"nobody serves {user}")


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of an application that serves until the end."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@contextmanager
def endpoint_service(folder: Path, endpoint: MemoryEndpoint) -> Iterator[str]:
    """The address of the adapter before an endpoint."""
    with running(adapter(endpoint, folder)) as url:
        yield url
