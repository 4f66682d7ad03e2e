"""A place on this machine: real supervisord, HAProxy and model servers, of small real models."""

from __future__ import annotations

import atexit
import http.client
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path

from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.deployment.local import LocalTarget
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.golden import write_golden
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.backends.serving_home.home import Home, HomeSettings
from ml_lifecycle.backends.serving_home.standing import start, stop
from tests.fakes.places import MODEL, Place, registry_at

BODY = '{"dataframe_split": {"columns": ["distance"], "data": [[1.5]]}}'


@cache
def packages() -> dict[int, Path]:
    """Three packages of one small model, by version."""
    folder = Path(tempfile.mkdtemp(prefix="ml-lifecycle-packages-"))
    return {version: _package(folder / str(version), version) for version in (1, 2, 3)}


def _package(folder: Path, version: int) -> Path:
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    rows = pd.DataFrame({"distance": np.arange(10.0)})
    model = LinearRegression().fit(rows, version * rows["distance"])
    info = PackageInfo(
        name=MODEL,
        format="skops",
        training_key=str(version) * 64,
        features=None,
        features_digest=None,
        inputs={"distance": "number"},
    )
    SkopsFormat().save(model, folder, info, example=rows.head(2))
    write_golden(folder, rows, model.predict(rows))
    return folder


def free_settings() -> HomeSettings:
    """Ports that are probably nobody's."""
    first = random.SystemRandom().randrange(20_000, 32_000, 20)
    return HomeSettings(port=first, first_port=first + 1, last_port=first + 19)


@contextmanager
def local_home() -> Iterator[Home]:
    """A home that is up."""
    # A socket's path must be short, and pytest's are not.
    folder = Path(tempfile.mkdtemp(prefix="ml-lifecycle-serving-"))
    home = Home(folder)
    try:
        start(home, free_settings())
        yield home
    finally:
        stop(home)
        shutil.rmtree(folder, ignore_errors=True)


@cache
def shared_home() -> Home:
    """One that is up until the tests end: what a test leaves in it, it removes."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(local_home())


@contextmanager
def local_place(tmp_path: Path) -> Iterator[Place]:
    """Model servers of this machine."""
    home = shared_home()
    place = place_in(home, tmp_path)
    try:
        yield place
    finally:
        for state in home.states():
            place.target.destroy(state.model, state.environment, place.means)


def place_in(home: Home, tmp_path: Path) -> Place:
    """Three versions, in a home that is up."""
    means = Means(registry=registry_at(tmp_path), package=_fetched, serving_home=home.folder)
    found = packages()
    return Place(
        LocalTarget(),
        means,
        digests={version: digest_of_folder(folder) for version, folder in found.items()},
        uris={version: str(folder) for version, folder in found.items()},
        ask=partial(ask, home.settings().port),
        sticky=True,
    )


def _fetched(uri: str, digest: str) -> AbstractContextManager[Path]:
    return nullcontext(Path(uri))


def ask(port: int, user: str) -> int:
    """Send one request through HAProxy; returns the version that answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/json", "X-User-Id": user}
        connection.request("POST", f"/{MODEL}/invocations", BODY, headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)
        return int(answer.headers["X-Model-Version"])
    finally:
        connection.close()
