"""Models as ONNX: the same answers, or none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.export.bundles import Subject, make_bundle
from ml_lifecycle.backends.export.loader import open_bundle
from ml_lifecycle.backends.models.base import PackageInfo, read_info
from ml_lifecycle.backends.models.inputs import predict
from ml_lifecycle.backends.models.onnx import to_onnx
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.contracts import TrainedModel
from ml_lifecycle.core.errors import UntrustedModelError
from ml_lifecycle.stages.champion import verified_package
from ml_lifecycle.stages.runner import Tools
from tests.fakes.bundle_place import signing_key
from tests.fakes.small_model import dataset, rows, trained, with_project

BOOSTED = "sklearn.ensemble.HistGradientBoosting"
FEW = {"max_iter": 8}
KEY = signing_key().public.text
ASKED = [
    {"distance": 1.5, "carrier": "B6", "temp": 3.0},
    {"distance": None, "carrier": None, "temp": 7.0},
    {"distance": -1.0, "carrier": "unheard of", "temp": None},
]


@pytest.fixture
def own(tools: Tools, tmp_path: Path) -> Tools:
    return with_project(tools, tmp_path / "project")


def opened(model: TrainedModel, tools: Tools, prefer: str) -> Any:
    subject = Subject("flights", 1, model.digest, "test", "a" * 64, "d" * 64)
    with verified_package(model.uri, model.digest, tools) as package:
        made = make_bundle(package, subject, signing_key(), onnx=True)
    return open_bundle(made.data, KEY, prefer=prefer)


@pytest.mark.parametrize(
    "estimator",
    [
        "sklearn.linear_model.LogisticRegression",
        "sklearn.linear_model.LinearRegression",
        "sklearn.ensemble.GradientBoostingClassifier",
        f"{BOOSTED}Classifier",
        f"{BOOSTED}Regressor",
    ],
)
def test_answers_by_onnx_are_the_models_own_also_where_values_are_missing_or_new(own: Tools, estimator: str) -> None:
    table = rows()
    table.loc[::7, "distance"] = None
    few = FEW if estimator.startswith(BOOSTED) else {}
    model = trained(own, dataset(own, table), estimator=estimator, hyperparameters=few)

    by_onnx, by_skops = (opened(model, own, name).answer(ASKED) for name in ("onnx", "skops"))

    assert by_onnx == [[pytest.approx(value, rel=1e-5, abs=1e-5) for value in row] for row in by_skops]


def test_several_classes_get_a_number_each(own: Tools) -> None:
    table = rows()
    table["late"] = ["no", "some", "much"] * 133 + ["no"]
    model = trained(own, dataset(own, table), estimator=f"{BOOSTED}Classifier", hyperparameters=FEW)

    held = opened(model, own, "onnx")

    assert held.manifest["outputs"] == ["score_much", "score_no", "score_some"]
    assert [sum(row) for row in held.answer(ASKED)] == [pytest.approx(1.0, abs=1e-5)] * 3


@pytest.mark.parametrize("carriers", [["AA", None, "B6"], ["AA", "UA", "B6"]])
def test_a_model_whose_onnx_answers_otherwise_is_refused_even_if_training_had_no_such_row(
    own: Tools, carriers: list[str | None]
) -> None:
    """skl2onnx does not say where the trees of a forest send a missing value."""
    names: list[Any] = [carriers[number % 3] for number in range(400)]
    table = rows().assign(carrier=names)
    model = trained(own, dataset(own, table), estimator="sklearn.ensemble.RandomForestClassifier")

    with pytest.raises(UntrustedModelError, match=r"ONNX form answers otherwise.*allowed are 1e-05.*without onnx"):
        opened(model, own, "onnx")


def test_a_model_that_onnx_has_no_words_for_is_refused(own: Tools) -> None:
    import pandas as pd
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.tree import DecisionTreeRegressor

    table = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    steps = [("root", FunctionTransformer(pd.DataFrame.abs)), ("tree", DecisionTreeRegressor())]
    model = Pipeline(steps).fit(table, table["x"])
    info = PackageInfo(
        name="flights", format="skops", training_key="k", features=None, features_digest=None, inputs={"x": "number"}
    )

    with pytest.raises(UntrustedModelError, match=r"cannot be written as ONNX.*without onnx"):
        to_onnx(model, info, table)


def test_trees_that_split_by_sets_of_categories_are_refused(own: Tools) -> None:
    import numpy as np
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingRegressor

    table = pd.DataFrame({"x": np.arange(200.0) % 7})
    model = HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]).fit(table, table["x"] % 2)
    info = PackageInfo(
        name="flights", format="skops", training_key="k", features=None, features_digest=None, inputs={"x": "number"}
    )

    with pytest.raises(UntrustedModelError, match="split by sets of categories"):
        to_onnx(model, info, table)


def test_making_it_leaves_the_model_as_it_was(own: Tools) -> None:
    model = trained(own, estimator=f"{BOOSTED}Classifier", hyperparameters=FEW)
    with verified_package(model.uri, model.digest, own) as package:
        info, fitted = read_info(package, where=""), SkopsFormat().load(package, allowed_types=())
        asked = partial(predict, fitted, info, rows().assign(temp=1.0))
        before = asked().tolist()

        to_onnx(fitted, info, rows().assign(temp=1.0).head(64))

    assert asked().tolist() == before


def test_names_of_columns_may_be_anything(own: Tools, tmp_path: Path) -> None:
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline

    names = ["a b", "Größe/2", "input_0"]
    table = pd.DataFrame(np.eye(3), columns=names)
    columns = ColumnTransformer([("numbers", "passthrough", names)], verbose_feature_names_out=False)
    model = Pipeline([("columns", columns), ("model", LinearRegression())]).fit(table, [1.0, 2.0, 4.0])
    inputs = dict.fromkeys(names, "number")
    info = PackageInfo(
        name="flights", format="skops", training_key="k", features=None, features_digest=None, inputs=inputs
    )

    # It compares the answers itself.
    assert to_onnx(model, info, table)
