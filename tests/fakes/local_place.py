"""A place on this machine: real supervisord, HAProxy and model servers, of small real models."""

from __future__ import annotations

import atexit
import http.client
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path

from ml_lifecycle.backends.serving_home.home import Home
from serving_drills import BODY, Machine, home_up
from tests.fakes.places import MODEL, Place


@cache
def machine() -> Machine:
    """A home that is up until the tests end: what a test leaves in it, it removes."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ml-lifecycle-packages-")))
    return Machine(stack.enter_context(home_up()), folder)


@contextmanager
def local_place(tmp_path: Path) -> Iterator[Place]:
    """Model servers of this machine."""
    found = machine()
    place = Place(
        found.target,
        found.means,
        digests={version: digest for version, (_, digest) in found.packages.items()},
        uris={version: folder for version, (folder, _) in found.packages.items()},
        ask=partial(ask, found.home),
        sticky=True,
    )
    try:
        yield place
    finally:
        clear(found)


def clear(found: Machine) -> None:
    """Leave nothing of any model."""
    for state in found.home.states():
        found.target.destroy(state.model, state.environment, found.means)
        found.settled(state.model)
    found.epoch = 0


def ask(home: Home, user: str, *, headers: dict[str, str] | None = None) -> int:
    """Send one request through HAProxy; returns the version that answered."""
    connection = http.client.HTTPConnection("127.0.0.1", home.settings().port, timeout=10)
    try:
        told = {"Content-Type": "application/json", "X-User-Id": user, **(headers or {})}
        connection.request("POST", f"/{MODEL}/invocations", BODY, told)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)
        return int(answer.headers["X-Model-Version"])
    finally:
        connection.close()
