"""A model package comes back as it was, and nothing in it can run."""

from __future__ import annotations

import importlib
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.inputs import CATEGORY, NUMBER, prepare
from ml_lifecycle.backends.models.skops import MODEL_FILE, SkopsFormat
from ml_lifecycle.core.errors import UntrustedModelError
from ml_lifecycle.stages.training import _pipeline

KINDS = {"distance": NUMBER, "temp": NUMBER, "carrier": CATEGORY}
ESTIMATORS = {
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 3},
    "sklearn.ensemble.HistGradientBoostingRegressor": {"max_iter": 3},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 3},
    "sklearn.ensemble.GradientBoostingRegressor": {"n_estimators": 3},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 3},
    "sklearn.ensemble.RandomForestRegressor": {"n_estimators": 3},
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 3},
    "sklearn.ensemble.ExtraTreesRegressor": {"n_estimators": 3},
    "sklearn.ensemble.BaggingClassifier": {"n_estimators": 3},
    "sklearn.linear_model.LogisticRegression": {},
    "sklearn.linear_model.LinearRegression": {},
    "sklearn.linear_model.Ridge": {},
    "sklearn.linear_model.Lasso": {},
    "sklearn.linear_model.ElasticNet": {},
    "sklearn.linear_model.SGDClassifier": {"loss": "log_loss"},
    "sklearn.linear_model.SGDRegressor": {},
    "sklearn.naive_bayes.GaussianNB": {},
    "sklearn.tree.DecisionTreeClassifier": {},
    "sklearn.tree.DecisionTreeRegressor": {},
    "sklearn.tree.ExtraTreeClassifier": {},
    "sklearn.dummy.DummyClassifier": {},
}


def table() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    raw = pd.DataFrame(
        {
            "distance": rng.normal(size=120),
            "temp": np.where(rng.random(120) < 0.1, np.nan, rng.normal(size=120)),
            "carrier": ["AA", "UA", None] * 40,
        }
    )
    return prepare(raw, KINDS, where="test")


def fitted(path: str, hyperparameters: dict[str, Any]) -> Any:
    module, _, name = path.rpartition(".")
    estimator = getattr(importlib.import_module(module), name)(**hyperparameters)
    rows = table()
    return _pipeline(estimator, KINDS).fit(rows, rows["distance"] > 0)


def info(*, classes: tuple[bool, ...] = (False, True)) -> PackageInfo:
    return PackageInfo(
        name="flights",
        format="skops",
        training_key="a" * 64,
        features=None,
        features_digest=None,
        inputs=KINDS,
        classes=classes,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    model = fitted("sklearn.linear_model.LogisticRegression", {})
    SkopsFormat().save(model, tmp_path / "model", info(), example=table().head(2))
    return tmp_path / "model"


def rewrite(package: Path, change: Any) -> None:
    """Change the schema inside the model file, as somebody with access to the store could."""
    file = package / MODEL_FILE
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(parts["schema.json"])
    change(schema)
    parts["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(("path", "hyperparameters"), ESTIMATORS.items())
def test_a_model_predicts_the_same_after_it_was_loaded(
    path: str, hyperparameters: dict[str, Any], tmp_path: Path
) -> None:
    model, rows = fitted(path, hyperparameters), table()
    SkopsFormat().save(model, tmp_path / "model", info(), example=rows.head(2))

    loaded = SkopsFormat().load(tmp_path / "model", allowed_types=())

    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))


def test_categories_that_training_never_saw_are_scored(tmp_path: Path) -> None:
    rows = table()
    for path in ("sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"):
        model = fitted(path, {})

        scores = model.predict_proba(rows.assign(carrier="never seen"))

        assert np.isfinite(scores).all()


def test_the_package_holds_the_model_and_what_mlflow_reads(package: Path) -> None:
    assert sorted(path.name for path in package.iterdir()) == [
        "MLmodel",
        "input_example.json",
        "model.skops",
        "package.json",
        "python_env.yaml",
        "requirements.txt",
    ]


def test_a_type_that_is_not_listed_is_refused_by_its_name(package: Path) -> None:
    def attack(schema: dict[str, Any]) -> None:
        schema["content"] = {
            **schema["content"],
            "__module__": "posix",
            "__class__": "system",
        }

    rewrite(package, attack)

    with pytest.raises(UntrustedModelError, match=r"posix\.system"):
        SkopsFormat().load(package, allowed_types=())


@pytest.mark.parametrize("loader", ["FunctionNode", "MethodNode", "PartialNode", "OperatorFuncNode", "MadeUpNode"])
def test_a_node_that_names_something_to_call_is_refused(package: Path, loader: str) -> None:
    rewrite(package, lambda schema: schema.update({"__loader__": loader}))

    with pytest.raises(UntrustedModelError, match=loader):
        SkopsFormat().load(package, allowed_types=["posix.system"])


def test_a_type_hidden_deep_inside_is_found(package: Path) -> None:
    hidden = {"__module__": "subprocess", "__class__": "Popen", "__loader__": "ObjectNode"}
    rewrite(package, lambda schema: schema.update({"notes": [{"deeper": [hidden]}]}))

    with pytest.raises(UntrustedModelError, match=r"subprocess\.Popen"):
        SkopsFormat().load(package, allowed_types=())


def test_a_function_inside_a_pipeline_is_refused(tmp_path: Path) -> None:
    from sklearn.preprocessing import FunctionTransformer

    model = FunctionTransformer(np.log1p).fit(table()[["distance"]])
    SkopsFormat().save(model, tmp_path / "model", info(), example=table().head(2))

    with pytest.raises(UntrustedModelError, match="log1p"):
        SkopsFormat().load(tmp_path / "model", allowed_types=())


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_what_mlmodel_says_about_loading_is_never_followed(package: Path, tmp_path: Path) -> None:
    (package / "model.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    text = (package / "MLmodel").read_text()
    (package / "MLmodel").write_text(text.replace("model.skops", "model.pkl").replace(": skops", ": cloudpickle"))

    loaded = SkopsFormat().load(package, allowed_types=())

    assert type(loaded).__name__ == "Pipeline"
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", pickle.dumps({"a": 1})])
def test_what_is_no_skops_file_is_refused(package: Path, content: bytes) -> None:
    (package / MODEL_FILE).write_bytes(content)

    with pytest.raises(UntrustedModelError, match="not a skops file"):
        SkopsFormat().load(package, allowed_types=())


def test_a_truncated_file_is_refused(package: Path) -> None:
    content = (package / MODEL_FILE).read_bytes()
    (package / MODEL_FILE).write_bytes(content[: len(content) // 2])

    with pytest.raises(UntrustedModelError):
        SkopsFormat().load(package, allowed_types=())
