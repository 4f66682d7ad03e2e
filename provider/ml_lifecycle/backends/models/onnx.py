"""scikit-learn models as ONNX, for where there is no scikit-learn, held against the model itself beforehand.

skl2onnx passes over some of what a model does, such as where a tree sends a missing value, and computes in single
precision. What comes out is therefore compared: on the golden rows, and on rows mixed from their values.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.export.loader import BundleError, onnx_scores, onnx_session
from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.inputs import NUMBER, predict, prepare
from ml_lifecycle.core.bundle import ONNX_TOLERANCE
from ml_lifecycle.core.errors import MissingLibraryError, UntrustedModelError

if TYPE_CHECKING:
    import pandas as pd

MIXED_ROWS: Final = 2000
"""Rows that are made of the golden rows' values, each column drawn by itself: combinations that training never saw."""
_GAPS: Final = 0.1
"""Share of the mixed values that are missing, and of the categories as many that nobody has heard of: golden rows need
not hold any, and a device will."""
_UNHEARD_OF: Final = "a category that nobody has heard of"
_SEED: Final = 0
_OPSETS: Final = {"": 17, "ai.onnx.ml": 3}
"""What onnxruntime 1.14 and later run (https://onnxruntime.ai/docs/reference/compatibility.html)."""
_WAY_OUT: Final = "export it without onnx, or train an estimator that it can be written for"


def to_onnx(model: Any, info: PackageInfo, golden: pd.DataFrame) -> bytes:
    """The model as ONNX, with an input ``input_<place>`` for each column of ``info.inputs``.

    :param golden: Inputs that it has to answer as the model does, as do :data:`MIXED_ROWS` mixed ones.
    :raises UntrustedModelError: a part of the model cannot be written as ONNX, or it answers otherwise.
    """
    converted = _converted(model, info)
    rows, expected = _asked(model, info, prepare(golden, info.inputs, where=f"golden rows of {info.name}"))
    worst = _largest_difference(converted, expected, info, rows)
    if not worst <= ONNX_TOLERANCE:
        raise UntrustedModelError(
            f"its ONNX form answers otherwise than the model does, by up to {worst:.3g} (allowed are "
            f"{ONNX_TOLERANCE:g}) over {len(rows):,} rows",
            where=info.name,
            way_out=_WAY_OUT,
        )
    return converted


def _converted(model: Any, info: PackageInfo) -> bytes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import skl2onnx
            from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    except ImportError as error:
        raise MissingLibraryError(error.name or "skl2onnx", "onnx") from None
    _register_boosted_trees()
    plain = _with_plain_nodes(model)
    kinds = [FloatTensorType if kind == NUMBER else StringTensorType for kind in info.inputs.values()]
    inputs = [(f"input_{place}", kind([None, 1])) for place, kind in enumerate(kinds)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = skl2onnx.to_onnx(
                _renamed(plain, info.inputs),
                name=info.name,
                initial_types=inputs,
                options={"zipmap": False} if info.classes else None,
                target_opset=_OPSETS,
            )
    except Exception as error:
        # skl2onnx raises whatever its converters meet, from its own MissingShapeCalculator to a plain KeyError.
        raise UntrustedModelError(
            f"it cannot be written as ONNX ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]})",
            where=info.name,
            way_out=_WAY_OUT,
        ) from error
    data: bytes = found.SerializeToString()
    return data


def _renamed(model: Any, inputs: Mapping[str, str]) -> Any:
    """The pipeline with columns by place: names that people give may hold what a graph's names may not."""
    places = {name: f"input_{place}" for place, name in enumerate(inputs)}
    columns = model.steps[0][1] if hasattr(model, "steps") else None
    if columns is None or not hasattr(columns, "transformers_"):
        return model
    columns.transformers_ = [(name, step, _places(held, places)) for name, step, held in columns.transformers_]
    for _, step, _ in columns.transformers_:
        _forget_missing(step)
    columns.feature_names_in_ = [places[name] for name in columns.feature_names_in_]
    return model


def _places(held: Any, places: Mapping[str, str]) -> Any:
    return [places[name] for name in held] if isinstance(held, list) else held


def _forget_missing(step: Any) -> None:
    """An encoder that has no number for a missing category nor for an unknown one need not tell them apart.

    skl2onnx would give the missing one a number.
    """
    import numpy as np

    numbers = [getattr(step, name, 0.0) for name in ("encoded_missing_value", "unknown_value")]
    if all(isinstance(number, float) and np.isnan(number) for number in numbers):
        step.categories_ = [
            np.array([one for one in held if isinstance(one, str)], object) for held in step.categories_
        ]


def _with_plain_nodes(model: Any) -> Any:
    """A copy whose gradient-boosted trees have nodes of plain integers, as protobuf takes no others."""
    found = copy.deepcopy(model)
    estimator = found.steps[-1][1] if hasattr(found, "steps") else found
    for trees in getattr(estimator, "_predictors", ()):
        for tree in trees:
            tree.nodes = [_plain(node) for node in tree.nodes]
    return found


def _register_boosted_trees() -> None:
    """skl2onnx says of a leaf that missing values go ``False``, where protobuf takes whole numbers alone."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common._registration import get_converter, get_shape_calculator
    from skl2onnx.operator_converters import random_forest
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    converters = {
        HistGradientBoostingClassifier: random_forest.convert_sklearn_random_forest_classifier,
        HistGradientBoostingRegressor: random_forest.convert_sklearn_random_forest_regressor_converter,
    }
    for estimator, convert in converters.items():
        alias = f"Sklearn{estimator.__name__}"
        shapes, options = get_shape_calculator(alias), get_converter(alias).get_allowed_options()
        update_registered_converter(
            estimator, alias, shapes, _in_whole_numbers(convert), overwrite=True, options=options
        )


def _in_whole_numbers(convert: Callable[..., Any]) -> Callable[..., Any]:
    def converted(scope: Any, operator: Any, container: Any) -> Any:
        return convert(scope, operator, _WholeNumbers(container))

    return converted


class _WholeNumbers:
    """A graph under construction, whose nodes get 0 and 1 where they are given false and true."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *named: Any, **attributes: Any) -> Any:
        """As the graph's own."""
        told = {
            name: [int(one) if isinstance(one, bool) else one for one in value] if isinstance(value, list) else value
            for name, value in attributes.items()
        }
        return self._container.add_node(*named, **told)


def _plain(node: Any) -> dict[str, Any]:
    if node["is_categorical"]:
        raise UntrustedModelError("its trees split by sets of categories, which ONNX cannot say", way_out=_WAY_OUT)
    held = {name: node[name] for name in ("value", "is_leaf", "num_threshold")}
    whole = {name: int(node[name]) for name in ("feature_idx", "left", "right", "missing_go_to_left")}
    return {**held, **whole, "threshold": node["num_threshold"]}


def _asked(model: Any, info: PackageInfo, golden: pd.DataFrame) -> tuple[pd.DataFrame, Any]:
    """The rows that are compared, and the model's own answers, ``(rows, scores)``."""
    import numpy as np

    rows = _mixed(golden, info.inputs, gaps=_GAPS)
    try:
        answers = predict(model, info, rows)
    except ValueError:
        # It takes no missing value, or no category that training did not have.
        rows = _mixed(golden, info.inputs, gaps=0.0)
        answers = predict(model, info, rows)
    return rows, np.asarray(answers, dtype="float64").reshape(len(rows), -1)


def _mixed(rows: pd.DataFrame, inputs: Mapping[str, str], *, gaps: float) -> pd.DataFrame:
    """The rows, then rows whose every value stands in one of them, is missing, or is unheard of."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(_SEED)
    columns = {}
    for name, kind in inputs.items():
        drawn, luck = rows[name].to_numpy()[rng.integers(len(rows), size=MIXED_ROWS)], rng.random(MIXED_ROWS)
        drawn = np.where(luck < gaps, np.nan, drawn)
        columns[name] = drawn if kind == NUMBER else np.where(luck > 1 - gaps, _UNHEARD_OF, drawn)
    table: pd.DataFrame = pd.concat([rows, pd.DataFrame(columns)], ignore_index=True)
    return table


def _largest_difference(converted: bytes, expected: Any, info: PackageInfo, rows: pd.DataFrame) -> float:
    """Relative for answers beyond 1."""
    import numpy as np

    inputs = [{"name": name, "kind": kind} for name, kind in info.inputs.items()]
    asked = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    try:
        found = np.asarray(onnx_scores(onnx_session(converted), inputs, expected.shape[1], asked))
    except BundleError as error:
        raise UntrustedModelError(str(error), where=info.name, way_out=_WAY_OUT) from error
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float((abs(found - expected) / np.maximum(1.0, abs(expected))).max())
