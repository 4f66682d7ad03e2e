"""A channel of signed archives as a place where models serve: a folder, or a bucket of an S3 that answers over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.deployment.bundle import BundleTarget
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.golden import write_golden
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.backends.signing.keys import SigningKey, generated
from tests.fakes.places import Place, registry_at
from tests.fakes.s3 import bucket_of


@cache
def signing_key() -> SigningKey:
    """The key that every bundle of the tests is signed by."""
    return generated()


@contextmanager
def bundle_place(tmp_path: Path) -> Iterator[Place]:
    """A channel in a folder."""
    target = BundleTarget(folder=str(tmp_path / "channels"))
    yield _place(target, tmp_path)


@contextmanager
def bundle_in_bucket(tmp_path: Path) -> Iterator[Place]:
    """A channel in a bucket."""
    with bucket_of() as (client, bucket):
        target = BundleTarget(folder=f"s3://{bucket}/channels", channel="beta")
        yield _place(target, tmp_path, client=lambda *_: client)


def _place(target: BundleTarget, tmp_path: Path, **means: Any) -> Place:
    folders = {number: small_package(tmp_path / f"package-{number}", number) for number in (1, 2, 3)}
    known = {str(folder): folder for folder in folders.values()}
    return Place(
        target,
        Means(
            registry=registry_at(tmp_path / "registry"),
            package=lambda uri, _: nullcontext(known[uri]),
            signing_key=signing_key,
            **means,
        ),
        digests={number: digest_of_folder(folder) for number, folder in folders.items()},
        uris={number: str(folder) for number, folder in folders.items()},
    )


def small_package(folder: Path, number: int) -> Path:
    """A package of a line through the origin, whose slope is the number, with two golden rows."""
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    rows = pd.DataFrame({"x": [1.0, 2.0]})
    answers = number * rows["x"].to_numpy()
    model = LinearRegression(fit_intercept=False).fit(rows, answers)
    info = PackageInfo(
        name="flights",
        format="skops",
        training_key=f"{number:064d}",
        features=None,
        features_digest=None,
        inputs={"x": "number"},
    )
    SkopsFormat().save(model, folder, info, example=rows)
    write_golden(folder, rows, np.asarray(answers))
    return folder
