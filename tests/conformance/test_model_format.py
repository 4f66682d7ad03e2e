"""What every model format promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.models.base import ModelFormat, PackageInfo
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.errors import LifecycleError, UntrustedModelError

FORMATS: dict[str, Callable[[], ModelFormat]] = {"skops": SkopsFormat}


@pytest.fixture(params=FORMATS)
def model_format(request: pytest.FixtureRequest) -> ModelFormat:
    return FORMATS[request.param]()


def rows() -> pd.DataFrame:
    found: pd.DataFrame = pd.DataFrame(
        {"distance": [float(number) for number in range(40)], "carrier": ["AA", "UA"] * 20}
    )
    return found


def classifier() -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer((StandardScaler(), ["distance"]), (OneHotEncoder(), ["carrier"]))
    return make_pipeline(columns, LogisticRegression()).fit(rows(), rows()["distance"] > 20)


def regressor() -> Any:
    from sklearn.linear_model import Ridge

    return Ridge().fit(rows()[["distance"]], rows()["distance"] * 2)


def info(**changes: Any) -> PackageInfo:
    values = {
        "name": "flights",
        "format": "skops",
        "training_key": "a" * 64,
        "features": None,
        "features_digest": None,
        "inputs": {"distance": "number", "carrier": "category"},
        "classes": (False, True),
        **changes,
    }
    return PackageInfo.model_validate(values)


@pytest.fixture
def package(model_format: ModelFormat, tmp_path: Path) -> Path:
    model_format.save(classifier(), tmp_path / "package", info(format=model_format.name), example=rows().head(2))
    return tmp_path / "package"


class Treacherous:
    """A model that leaves a file behind when it is brought back."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        Path(self.target).touch()


# --- What was saved --------------------------------------------------------------------------------------------------


def test_a_classifier_predicts_the_same_after_it_was_loaded(model_format: ModelFormat, package: Path) -> None:
    loaded = model_format.load(package, allowed_types=())

    np.testing.assert_array_equal(loaded.predict(rows()), classifier().predict(rows()))
    np.testing.assert_array_equal(loaded.predict_proba(rows()), classifier().predict_proba(rows()))
    assert loaded.classes_.tolist() == [False, True]


def test_a_regressor_predicts_the_same_after_it_was_loaded(model_format: ModelFormat, tmp_path: Path) -> None:
    inputs = rows()[["distance"]]
    said = info(format=model_format.name, inputs={"distance": "number"}, classes=())

    model_format.save(regressor(), tmp_path / "package", said, example=inputs.head(2))

    loaded = model_format.load(tmp_path / "package", allowed_types=())
    np.testing.assert_array_equal(loaded.predict(inputs), regressor().predict(inputs))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"inputs": {"carrier": "category", "distance": "number"}},
        {"features": "flights.features:build", "features_digest": "b" * 64},
        {"classes": ()},
        {"classes": ("late", "on time")},
        {"classes": (1, 2, 3)},
    ],
)
def test_the_package_says_what_was_saved_with_its_inputs_in_order(
    model_format: ModelFormat, changes: dict[str, Any], tmp_path: Path
) -> None:
    said = info(format=model_format.name, **changes)

    model_format.save(classifier(), tmp_path / "package", said, example=rows().head(2))

    read = PackageInfo.model_validate(json.loads((tmp_path / "package" / "package.json").read_text()))
    assert read == said
    assert list(read.inputs) == list(said.inputs)
    assert [type(label) for label in read.classes] == [type(label) for label in said.classes]


def test_saving_twice_gives_the_same_package(model_format: ModelFormat, package: Path, tmp_path: Path) -> None:
    model, said, example = classifier(), info(format=model_format.name), rows().head(2)

    model_format.save(model, package, said, example=example)
    model_format.save(model, tmp_path / "other", said, example=example)

    over, beside = (model_format.load(folder, allowed_types=()) for folder in (package, tmp_path / "other"))
    assert sorted(path.name for path in package.iterdir()) == sorted(
        path.name for path in (tmp_path / "other").iterdir()
    )
    for loaded in (over, beside):
        np.testing.assert_array_equal(loaded.predict_proba(rows()), model.predict_proba(rows()))


def test_mlflow_can_serve_the_package(model_format: ModelFormat, package: Path) -> None:
    pyfunc = pytest.importorskip("mlflow.pyfunc")

    served = pyfunc.load_model(str(package))

    expected = model_format.load(package, allowed_types=()).predict_proba(rows())
    np.testing.assert_array_equal(served.predict(rows()), expected)


# --- What is not loaded ----------------------------------------------------------------------------------------------


def test_a_type_that_is_not_trusted_is_refused_by_its_name_and_never_run(
    model_format: ModelFormat, tmp_path: Path
) -> None:
    model, folder = Treacherous(str(tmp_path / "ran")), tmp_path / "package"
    model_format.save(model, folder, info(format=model_format.name), example=rows().head(2))

    with pytest.raises(UntrustedModelError, match="Treacherous"):
        model_format.load(folder, allowed_types=["sklearn.svm._classes.SVC"])

    assert not (tmp_path / "ran").exists()


def test_the_deployment_may_add_a_type(model_format: ModelFormat, tmp_path: Path) -> None:
    model, folder = Treacherous(str(tmp_path / "ran")), tmp_path / "package"
    model_format.save(model, folder, info(format=model_format.name), example=rows().head(2))

    loaded = model_format.load(folder, allowed_types=[f"{Treacherous.__module__}.{Treacherous.__qualname__}"])

    assert loaded.target == model.target
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [None, {}, {"notes.txt": "none"}, {"package.json": "{}"}])
def test_a_folder_that_is_no_package_is_told_with_its_place(
    model_format: ModelFormat, content: dict[str, str] | None, tmp_path: Path
) -> None:
    folder = tmp_path / "package"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)

    with pytest.raises(LifecycleError, match=str(folder)):
        model_format.load(folder, allowed_types=())


def test_a_package_whose_files_are_all_cut_off_is_refused(model_format: ModelFormat, package: Path) -> None:
    for path in package.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(LifecycleError, match=str(package)):
        model_format.load(package, allowed_types=())
