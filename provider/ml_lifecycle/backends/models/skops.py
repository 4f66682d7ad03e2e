"""scikit-learn models as skops files, of types on our own list only.

MLflow and skops each take a file's word, or a default of their own, for which types it may hold. Here the file's
schema is held against :data:`TRUSTED_TYPES` before anything of it is constructed, and only ``model.skops`` is read:
what ``MLmodel`` says about loading is for MLflow's own tools.
"""

from __future__ import annotations

import io
import json
import platform
import warnings
import zipfile
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ml_lifecycle.backends.models.base import PACKAGE_FILE, ModelFormat, PackageInfo
from ml_lifecycle.backends.models.inputs import NUMBER
from ml_lifecycle.core.errors import MissingLibraryError, UntrustedModelError

if TYPE_CHECKING:
    import pandas as pd

MODEL_FILE: Final = "model.skops"

TRUSTED_TYPES: Final = frozenset(
    {
        "builtins.bool",
        "builtins.dict",
        "builtins.float",
        "builtins.int",
        "builtins.list",
        "builtins.object",
        "builtins.slice",
        "builtins.str",
        "builtins.tuple",
        "numpy.bool",
        "numpy.bool_",
        "numpy.dtype",
        "numpy.float32",
        "numpy.float64",
        "numpy.int32",
        "numpy.int64",
        "numpy.ndarray",
        "numpy.random._generator.Generator",
        "numpy.random.mtrand.RandomState",
        "numpy.uint8",
        "numpy.uint32",
        "numpy.uint64",
        # scikit-learn below 1.8, which Python 3.10 gets, gives its losses a shorter name.
        "_loss.CyHalfBinomialLoss",
        "_loss.CyHalfMultinomialLoss",
        "_loss.CyHalfPoissonLoss",
        "_loss.CyHalfSquaredError",
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn._loss._loss.CyHalfMultinomialLoss",
        "sklearn._loss._loss.CyHalfPoissonLoss",
        "sklearn._loss._loss.CyHalfSquaredError",
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogLink",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn._loss.loss.HalfPoissonLoss",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn.compose._column_transformer.ColumnTransformer",
        "sklearn.dummy.DummyClassifier",
        "sklearn.dummy.DummyRegressor",
        "sklearn.ensemble._bagging.BaggingClassifier",
        "sklearn.ensemble._bagging.BaggingRegressor",
        "sklearn.ensemble._forest.ExtraTreesClassifier",
        "sklearn.ensemble._forest.ExtraTreesRegressor",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.ensemble._forest.RandomForestRegressor",
        "sklearn.ensemble._gb.GradientBoostingClassifier",
        "sklearn.ensemble._gb.GradientBoostingRegressor",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.impute._base.SimpleImputer",
        "sklearn.linear_model._base.LinearRegression",
        "sklearn.linear_model._coordinate_descent.ElasticNet",
        "sklearn.linear_model._coordinate_descent.Lasso",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._ridge.Ridge",
        "sklearn.linear_model._stochastic_gradient.SGDClassifier",
        "sklearn.linear_model._stochastic_gradient.SGDRegressor",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._encoders.OneHotEncoder",
        "sklearn.preprocessing._encoders.OrdinalEncoder",
        "sklearn.preprocessing._function_transformer.FunctionTransformer",  # passes through: functions are not loaded
        "sklearn.preprocessing._label.LabelBinarizer",
        "sklearn.preprocessing._label.LabelEncoder",
        "sklearn.tree._classes.DecisionTreeClassifier",
        "sklearn.tree._classes.DecisionTreeRegressor",
        "sklearn.tree._classes.ExtraTreeClassifier",
        "sklearn.tree._classes.ExtraTreeRegressor",
        "sklearn.tree._tree.Tree",
    }
)
"""What a model package may hold unless the deployment adds to it: data, arrays, preprocessing and fitted estimators."""

_TRUSTED_LOADERS: Final = frozenset(
    {
        "CachedNode",
        "DTypeNode",
        "DictNode",
        "JsonNode",
        "ListNode",
        "LossNode",
        "NdArrayNode",
        "ObjectNode",
        "RandomGeneratorNode",
        "RandomStateNode",
        "SliceNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    }
)
"""How skops may rebuild a value. Its function, method and partial nodes are not here: they name something to call."""


class SkopsFormat(ModelFormat):
    """scikit-learn estimators and pipelines."""

    name: ClassVar[str] = "skops"

    def save(self, model: Any, folder: Path, info: PackageInfo, *, example: pd.DataFrame) -> None:
        """Write ``model.skops``, ``package.json``, and the ``MLmodel`` that MLflow shows and serves it by."""
        skops = _skops()
        data = skops.dumps(model)
        # No types beside our own are needed by what training builds; others are refused when the package is loaded.
        types = sorted({name for name, _ in _nodes(_schema(data, where=str(folder)))} - {""})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(data)
        (folder / PACKAGE_FILE).write_text(json.dumps(info.to_xcom(), indent=1) + "\n")
        for name, text in _mlflow_files(info, types, example).items():
            (folder / name).write_text(text)

    def load(self, folder: Path, *, allowed_types: Sequence[str]) -> Any:
        """The fitted model. The folder's digest was checked before."""
        skops = _skops()
        where = str(folder / MODEL_FILE)
        try:
            data = (folder / MODEL_FILE).read_bytes()
        except OSError as error:
            raise UntrustedModelError(
                f"the model file cannot be read ({type(error).__name__})",
                where=where,
                way_out="name the folder of a model package, or train again",
            ) from None
        types = check_types(data, allowed_types=allowed_types, where=where)
        try:
            return skops.loads(data, trusted=sorted(types))
        except Exception as error:
            raise UntrustedModelError(
                f"the file cannot be loaded ({type(error).__name__}: {error})",
                where=where,
                way_out="train again with the library versions of this environment",
            ) from error


def check_types(data: bytes, *, allowed_types: Collection[str], where: str) -> frozenset[str]:
    """All types that a skops file holds; nothing of it is constructed.

    :raises UntrustedModelError: one of them is neither ours nor in ``allowed_types``, or it is no skops file.
    """
    nodes = list(_nodes(_schema(data, where=where)))
    types = frozenset(name for name, _ in nodes if name)
    unknown = types - TRUSTED_TYPES - set(allowed_types)
    unknown |= {f"{name} ({loader})" for name, loader in nodes if loader not in _TRUSTED_LOADERS}
    if unknown:
        raise UntrustedModelError(
            f"the model holds types that are not loaded here: {', '.join(sorted(unknown))}",
            where=where,
            way_out="use an estimator of listed types, or let the deployment manager add them to trusted_types",
        )
    return types


def _skops() -> Any:
    try:
        with warnings.catch_warnings():
            # At its import skops looks names up in every loaded module, and so finds all their deprecated ones.
            warnings.simplefilter("ignore")
            import skops.io
    except ImportError as error:
        raise MissingLibraryError(error.name or "skops", "sklearn") from None
    return skops.io


def _schema(data: bytes, *, where: str) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise UntrustedModelError(
            f"this is not a skops file ({type(error).__name__})", where=where, way_out="train the model again"
        ) from error


def _nodes(schema: Any) -> Iterator[tuple[str, str]]:
    """Type and loader of every node, wherever in the schema it hides."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__class__" in node or "__module__" in node or "__loader__" in node:
                yield f"{node.get('__module__')}.{node.get('__class__')}", str(node.get("__loader__"))
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _mlflow_files(info: PackageInfo, types: Sequence[str], example: pd.DataFrame) -> dict[str, str]:
    """What ``mlflow.sklearn.save_model`` writes beside the model, without its import of a second and 100 MB.

    The format is documented at https://mlflow.org/docs/latest/ml/model/.
    """
    import yaml

    requirements = [f"{name}=={version(name)}" for name in ("scikit-learn", "skops", "numpy", "pandas")]
    fields = [
        {"type": "double" if kind == NUMBER else "string", "name": name, "required": True}
        for name, kind in info.inputs.items()
    ]
    shape = [-1, len(info.classes)] if info.classes else [-1]
    output = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": shape}}]
    description = {
        "flavors": {
            "python_function": {
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.sklearn",
                "model_path": MODEL_FILE,
                "predict_fn": "predict_proba" if info.classes else "predict",
                "python_version": platform.python_version(),
            },
            "sklearn": {
                "code": None,
                "pickled_model": MODEL_FILE,
                "serialization_format": "skops",
                "sklearn_version": version("scikit-learn"),
                "skops_trusted_types": list(types),
            },
        },
        "signature": {"inputs": json.dumps(fields), "outputs": json.dumps(output), "params": None},
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        },
        "metadata": {"training_key": info.training_key, "model": info.name},
    }
    python = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    return {
        "MLmodel": yaml.safe_dump(description, sort_keys=True),
        "python_env.yaml": yaml.safe_dump(python, sort_keys=True),
        "requirements.txt": "".join(f"{line}\n" for line in ("mlflow", *requirements)),
        "input_example.json": example.to_json(orient="split", index=False) + "\n",
    }
