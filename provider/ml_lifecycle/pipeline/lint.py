"""Looks at what a pipeline file names: suite, functions, estimator. Heavy, so never done where a DAG is parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ml_lifecycle.core.errors import CallableNotFoundError, LifecycleError, did_you_mean
from ml_lifecycle.pipeline.loader import Document, read_documents
from ml_lifecycle.pipeline.spec import Loc, Pipeline


def lint(paths: Iterable[Path]) -> tuple[tuple[Document, ...], tuple[str, ...]]:
    """Files with all their mistakes, and what could not be checked for want of a library."""
    documents = read_documents(paths)
    unchecked: dict[str, None] = {}
    for document in documents:
        if document.pipeline is not None:
            unchecked.update(dict.fromkeys(_check_names(document, document.pipeline)))
            document.finish()
    return documents, tuple(unchecked)


def project_of(file: Path) -> Path:
    """The folder that a pipeline's paths start from: the one that holds ``dags/``, else the file's own."""
    folder = file.resolve().parent
    for candidate in (folder, *folder.parents):
        if candidate.name == "dags":
            return candidate.parent
    return folder


def _check_names(document: Document, pipeline: Pipeline) -> list[str]:
    """Note what is not there; return what could not be looked at."""
    project = project_of(Path(document.file))
    unchecked = []
    if pipeline.validation is not None and not _check_suite(document, pipeline.validation.suite, project):
        unchecked.append("the expectations' names and arguments: great_expectations is not installed")
    if pipeline.training.features is not None:
        _check_features(document, pipeline.training.features, project)
    library = pipeline.training.estimator.partition(".")[0]
    if find_spec(library) is None and library == "sklearn":
        unchecked.append("the estimators and their hyperparameters: scikit-learn is not installed")
    else:
        _check_estimator(document, pipeline)
    return unchecked


def _guard(document: Document, loc: Loc, check: Callable[[], Any]) -> Any:
    """What ``check`` returns; what it refuses becomes a mistake at ``loc``."""
    try:
        return check()
    except LifecycleError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        document.add(loc, what, error.way_out)
        return None


def _check_suite(document: Document, name: str, project: Path) -> bool:
    """Whether the expectations in the suite could be looked at."""
    from ml_lifecycle.stages.validation import default_validator, read_suite

    loc = ("validation", "suite")
    suite = _guard(document, loc, lambda: read_suite(project, name))
    if find_spec("great_expectations") is None:
        return suite is None
    if suite is not None:
        _guard(document, loc, lambda: default_validator().check_suite(suite, where=name))
    return True


def _check_features(document: Document, features: str, project: Path) -> None:
    from ml_lifecycle.backends.callables import load_callable

    _guard(document, ("training", "features"), lambda: load_callable(features, project))


def _check_estimator(document: Document, pipeline: Pipeline) -> None:
    path = pipeline.training.estimator
    estimator = _guard(document, ("training", "estimator"), lambda: _estimator(path))
    if estimator is None:
        return
    takes = list(estimator().get_params())
    for name in pipeline.training.hyperparameters:
        if name not in takes:
            what = f"{path.rpartition('.')[2]} takes no {name!r}{did_you_mean(name, takes)}"
            document.add(("training", "hyperparameters", name), what, f"it takes {', '.join(takes)}", at_key=True)


def _estimator(path: str) -> Any:
    """The estimator's class, of which an instance without arguments can be made.

    :raises CallableNotFoundError: there is none of this name.
    """
    import importlib

    module_name, _, name = path.rpartition(".")
    if not path.startswith("sklearn."):
        raise CallableNotFoundError(
            f"{path!r} is none of scikit-learn's estimators", way_out="name one, such as sklearn.linear_model.Ridge"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise CallableNotFoundError(
            f"there is no module {module_name!r} ({error})", way_out="look its name up in scikit-learn's documentation"
        ) from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) and hasattr(found, "fit") and hasattr(found, "get_params")):
        near = did_you_mean(name, [known for known in dir(module) if not known.startswith("_")])
        raise CallableNotFoundError(
            f"{module_name} has no estimator {name!r}{near}", way_out="name a class that can be fitted"
        )
    return found
