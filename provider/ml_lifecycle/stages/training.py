"""A validated dataset in, a model package out."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from ml_lifecycle.backends.callables import callable_digest, load_callable
from ml_lifecycle.backends.files import digest_of_folder, read_parquet
from ml_lifecycle.backends.git import git
from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.golden import golden_rows, write_golden
from ml_lifecycle.backends.models.inputs import CATEGORY, NUMBER, TWO_CLASSES, predict, prepare
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.backends.tracking.base import Run
from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    DatasetRef,
    HoldoutSpec,
    RunRequest,
    Scalar,
    TrainedModel,
    ValidationReport,
)
from ml_lifecycle.core.data_approval import DataPolicy, dataset_of
from ml_lifecycle.core.errors import (
    CallableNotFoundError,
    ColumnError,
    DataError,
    DigestMismatchError,
    LabelsMissingError,
    LifecycleError,
    MissingLibraryError,
    NoRowsError,
    PassingError,
    TrainingError,
    did_you_mean,
)
from ml_lifecycle.core.training import training_key
from ml_lifecycle.stages.data_approval import require_approval
from ml_lifecycle.stages.holdout import split
from ml_lifecycle.stages.runner import Tools

if TYPE_CHECKING:
    import pandas as pd

TAG: Final = "ml_lifecycle."
"""Every tag of ours begins so."""
MOST_CLASSES: Final = 100
"""Each has a probability of its own in every published prediction."""
_EXAMPLE_ROWS: Final = 3
_COLUMNS_SHOWN: Final = 40


class TrainingJob(Contract):
    """What is trained, on what, and how."""

    request: RunRequest
    """Its hyperparameters override the job's; its reason and requester are recorded."""
    dataset: DatasetRef | ValidationReport
    """What to train on: a snapshot, or the report that passed it."""
    features: str | None = None
    """``include.flight_delays.features:build``; called with the rows and each related table by name."""
    estimator: str
    """``sklearn.ensemble.HistGradientBoostingClassifier``; only what the deployment lists."""
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    seed: int = 0
    holdout: HoldoutSpec = HoldoutSpec()
    data_approval: DataPolicy | None = None
    """Under which terms people have to have approved the data; ``None``: nobody has to."""


@dataclass(frozen=True)
class Inputs:
    """A dataset's rows and the model's input made from them, row by row in the same order."""

    rows: pd.DataFrame
    features: pd.DataFrame


def train(job: TrainingJob, tools: Tools) -> TrainedModel:
    """Train once per training key; a run that already trained exactly this is returned as it is.

    :raises NoDecisionError: the job asks for approved data, and no approval of exactly this data is in force.
    """
    if job.data_approval is not None:
        by = job.request.requester or "pipeline"
        require_approval(job.dataset, job.data_approval, tools, model=job.request.model, action="train", by=by)
    plan = _plan(job, tools)
    run = tools.tracking.ensure_run(plan.model, plan.key, name=plan.run_name, tags=plan.tags)
    if run.finished:
        return _as_trained(run, plan)
    try:
        left = _run_training(run.run_id, plan, tools)
    except PassingError:
        raise
    except LifecycleError as error:
        _note_failure(run.run_id, error, tools)
        raise
    tools.tracking.log(run.run_id, tags={**plan.tags, **left})
    tools.tracking.finish_run(run.run_id)
    return _as_trained(tools.tracking.get_run(run.run_id), plan)


def _run_training(run_id: str, plan: _Plan, tools: Tools) -> dict[str, str]:
    """Train and put everything on the run; returns the tags that make it whole."""
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
        package, notes = Path(temporary) / "model", Path(temporary) / "training"
        rows = _write_package(package, plan, tools)
        digest = digest_of_folder(package)
        parameters = {"estimator": plan.job.estimator, "seed": plan.job.seed, **plan.hyperparameters}
        tools.tracking.log(run_id, parameters=parameters, metrics={"training_rows": rows})
        _write_notes(notes, plan)
        tools.tracking.upload(run_id, notes, "training")
        # A path of its own per digest: a try that was given up and still uploads cannot change these bytes.
        uri = tools.tracking.upload(run_id, package, f"model/{digest[:12]}")
    return {f"{TAG}digest": digest, f"{TAG}model_uri": uri, f"{TAG}training_rows": str(rows)}


def _note_failure(run_id: str, error: LifecycleError, tools: Tools) -> None:
    """Show on the run why it failed. The error itself is raised in any case, so a fault here may pass."""
    with suppress(LifecycleError):
        if not tools.tracking.get_run(run_id).finished:
            tools.tracking.log(run_id, tags={f"{TAG}failure": str(error)[:1000]})
            tools.tracking.finish_run(run_id, failed=True)


# --- The model's input -----------------------------------------------------------------------------------------------


def build_inputs(dataset: DatasetRef, features: str | None, tools: Tools) -> Inputs:
    """Read a dataset, its bytes checked against its fingerprint, and make the model's input from it.

    As :func:`make_features` makes it of the rows and of each related table.
    """
    with tools.data.folder(dataset.uri, dataset.fingerprint) as folder:
        tables = {file.stem: read_parquet(file) for file in sorted(folder.glob("*.parquet"))}
    if "data" not in tables:
        raise DataError("the dataset has no data.parquet", where=dataset.uri, way_out="make the snapshot again")
    rows = tables.pop("data")
    if rows.empty:
        raise NoRowsError("the dataset has no rows", where=dataset.uri, way_out="look at what its drop rules leave")
    made = make_features(rows, tables, features, dataset.columns, tools, label_columns=dataset.label_columns)
    return Inputs(rows, made)


def make_features(
    rows: pd.DataFrame,
    related: Mapping[str, pd.DataFrame],
    features: str | None,
    columns: Columns,
    tools: Tools,
    *,
    label_columns: Collection[str] = (),
) -> pd.DataFrame:
    """The model's input, one row per row.

    The features callable gets the rows without the target and whatever arrived with it, and each related table by its
    name. Without one, all columns but key, time and those are the input.

    :raises TrainingError: the team's callable raised, or returned no table.
    :raises ColumnError: its result is not aligned with the rows, has no column, or holds the target.
    """
    answers = {columns.target, *label_columns}
    known = rows.drop(columns=[name for name in rows.columns if name in answers])
    if features is None:
        own: pd.DataFrame = known.drop(columns=[name for name in (columns.key, columns.time) if name in known.columns])
        return own
    build = load_callable(features, tools.project)
    return _checked(_called(build, known, related, features), rows, answers, features)


def _called(build: Callable[..., Any], rows: pd.DataFrame, related: Mapping[str, pd.DataFrame], where: str) -> Any:
    try:
        return build(rows, **related)
    except LifecycleError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() would end the task without a word
        raise TrainingError(
            f"the features callable raised {type(error).__name__}: {error}",
            where=_innermost(error, where),
            way_out=f"mend it, or the data: it was given {_given({'rows': rows, **related})}",
        ) from error


def _given(tables: Mapping[str, pd.DataFrame]) -> str:
    """Each table with its size and columns, for whoever looks for a column that is not there."""
    columns = {name: ", ".join(map(str, table.columns[:_COLUMNS_SHOWN])) for name, table in tables.items()}
    return "; ".join(f"{name}: {len(table):,} of {columns[name]}" for name, table in tables.items())


def _innermost(error: BaseException, where: str) -> str:
    """The callable, with the line that it raised at."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "site-packages" not in file and trace.tb_frame.f_globals.get("__name__") != __name__:
            line = f" ({Path(file).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return where + line


def _checked(result: Any, rows: pd.DataFrame, answers: Collection[str | None], where: str) -> pd.DataFrame:
    import pandas as pd

    if not isinstance(result, pd.DataFrame):
        raise TrainingError(
            f"the features callable returned {type(result).__name__}", where=where, way_out="return a DataFrame"
        )
    if len(result) != len(rows) or not result.index.equals(rows.index):
        raise ColumnError(
            f"the features are not aligned with the rows: {len(result):,} for {len(rows):,}, or another index",
            where=where,
            way_out="return one row per given row, in their order and with their index; a join may have doubled some",
        )
    if not len(result.columns):
        raise ColumnError("the features have no column", where=where, way_out="return at least one")
    twice = sorted({str(name) for name in result.columns[result.columns.duplicated()]})
    if twice:
        raise ColumnError(f"the features hold {', '.join(twice)} twice", where=where, way_out="name columns once")
    leaked = [repr(name) for name in result.columns if name in answers]
    if leaked:
        raise ColumnError(
            f"the features hold {', '.join(leaked)}, which arrives with the target",
            where=where,
            way_out="leave it out: it is the answer",
        )
    return result


# --- The plan: everything that the training key is about -------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """One training, before any of it is done."""

    job: TrainingJob
    dataset: DatasetRef
    hyperparameters: dict[str, Scalar]
    features_digest: str | None
    environment: str
    """Installed distributions, one ``name==version`` a line."""
    key: str
    tags: dict[str, str]

    @property
    def model(self) -> str:
        return self.job.request.model

    @property
    def run_name(self) -> str:
        return f"{self.job.request.partition or self.dataset.partitions[-1]} {self.key[:8]}"


def _plan(job: TrainingJob, tools: Tools) -> _Plan:
    dataset = dataset_of(job.dataset)
    if dataset.columns.target is None:
        raise LabelsMissingError(
            "the dataset has no target", where=dataset.uri, way_out="declare data.target: only labelled rows can train"
        )
    hyperparameters = {**job.hyperparameters, **job.request.hyperparameters}
    features_digest = callable_digest(job.features, tools.project) if job.features else None
    code = code_version(tools.project)
    environment = installed_distributions()
    lock = hashlib.sha256(environment.encode()).hexdigest()
    key = training_key(
        model=job.request.model,
        dataset_fingerprint=dataset.fingerprint,
        target=dataset.columns.target,
        features=job.features,
        features_digest=features_digest,
        estimator=job.estimator,
        hyperparameters=hyperparameters,
        seed=job.seed,
        holdout=job.holdout,
        code_version=code,
        environment_digest=lock,
    )
    tags = {
        f"{TAG}stage": "training",
        f"{TAG}dataset_fingerprint": dataset.fingerprint,
        f"{TAG}dataset_uri": dataset.uri,
        f"{TAG}partitions": ", ".join(dataset.partitions),
        f"{TAG}code_version": code,
        f"{TAG}features": job.features or "",
        f"{TAG}features_digest": features_digest or "",
        f"{TAG}hyperparameters": json.dumps(hyperparameters, sort_keys=True),
        f"{TAG}seed": str(job.seed),
        f"{TAG}environment_digest": lock,
        f"{TAG}hardware": hardware_summary(),
        f"{TAG}reason": job.request.reason,
        f"{TAG}requester": job.request.requester or "",
        f"{TAG}run": tools.run,
    }
    return _Plan(job, dataset, hyperparameters, features_digest, environment, key, tags)


def _as_trained(run: Run, plan: _Plan) -> TrainedModel:
    """What a finished run left; its tags have to be about this very training."""
    tags = run.tags
    missing = [name for name in ("digest", "model_uri", "training_rows") if not tags.get(f"{TAG}{name}")]
    other = tags.get(f"{TAG}dataset_fingerprint") != plan.dataset.fingerprint
    if missing or other:
        raise DigestMismatchError(
            "the finished run of this training",
            expected=plan.dataset.fingerprint,
            found=tags.get(f"{TAG}dataset_fingerprint", "no dataset fingerprint"),
            where=run.url or f"run {run.run_id}",
            way_out="its tags were changed; delete the run, and train again",
        )
    return TrainedModel(
        name=plan.model,
        uri=tags[f"{TAG}model_uri"],
        digest=tags[f"{TAG}digest"],
        training_key=plan.key,
        run_id=run.run_id,
        dataset=plan.dataset,
        holdout=plan.job.holdout,
        training_rows=int(tags[f"{TAG}training_rows"]),
        estimator=plan.job.estimator,
        hyperparameters=plan.hyperparameters,
        seed=plan.job.seed,
        code_version=plan.tags[f"{TAG}code_version"],
        features=plan.job.features or "",
        features_digest=plan.features_digest or "",
        environment_digest=plan.tags[f"{TAG}environment_digest"],
        # Everything else is part of the key; the machine is not, and a later try may run on another one.
        hardware=tags.get(f"{TAG}hardware", ""),
    )


@lru_cache(maxsize=1)
def installed_distributions() -> str:
    """Everything that is installed here, sorted: one ``name==version`` a line."""
    found: dict[str, str] = {}
    for folder in sys.path:
        # Reading each one's metadata, as importlib.metadata does, costs half a second.
        for place in Path(folder).glob("*.dist-info"):
            name, _, version = place.stem.partition("-")
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return "\n".join(sorted(f"{name}=={version}" for name, version in found.items())) + "\n"


def code_version(project: Path) -> str:
    """The project's git commit, or ``unknown`` with the reason.

    Where tracked files differ from the commit, ``-dirty.`` and eight digits of how follow: another change is another
    version, and so another training. ``ML_LIFECYCLE_CODE_VERSION`` overrides it where the project is deployed without
    its repository.
    """
    given = os.environ.get("ML_LIFECYCLE_CODE_VERSION")
    if given:
        return given
    try:
        commit = git(project, "rev-parse", "HEAD")
        changed = git(project, "diff", "--binary", "--no-ext-diff", "--no-textconv", "HEAD", "--", ".")
    except FileNotFoundError:
        return "unknown: git is not installed"
    except subprocess.TimeoutExpired:
        return "unknown: git did not answer"
    except subprocess.CalledProcessError as error:
        return f"unknown: {(error.stderr.strip().splitlines() or ['git failed'])[0][:200]}"
    return f"{commit}-dirty.{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed else commit


def hardware() -> dict[str, str | int]:
    """The machine that trains."""
    return {
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 0,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def hardware_summary() -> str:
    """The machine in one line, such as ``x86_64, 2 cores, 7.8 GiB``."""
    found = hardware()
    return f"{found['machine']}, {found['cores']} cores, {int(found['memory_bytes']) / 2**30:.1f} GiB"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


# --- Fitting and packing ---------------------------------------------------------------------------------------------


def _write_package(folder: Path, plan: _Plan, tools: Tools) -> int:
    """Fit on the training rows alone and write the package; returns their number."""
    estimator = _estimator(plan, tools)
    _check_answers(estimator, plan)
    inputs = build_inputs(plan.dataset, plan.job.features, tools)
    held = split(inputs.rows, plan.dataset.columns, plan.job.holdout)
    kinds = _kinds(inputs.features, where=plan.job.features or plan.dataset.uri)
    table = prepare(inputs.features, kinds, where=plan.job.features or plan.dataset.uri)[~held]
    target = _target(inputs.rows, plan, ~held, classify=_is_classifier(estimator))
    pipeline = _pipeline(estimator, kinds)
    try:
        pipeline.fit(table, target)
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"the estimator refused its hyperparameters or its data: {error}",
            where=plan.job.estimator,
            way_out="change training.hyperparameters, or the features",
        ) from error
    info = PackageInfo(
        name=plan.model,
        format=SkopsFormat.name,
        training_key=plan.key,
        features=plan.job.features,
        features_digest=plan.features_digest,
        inputs=kinds,
        classes=tuple(pipeline.classes_.tolist()) if _is_classifier(estimator) else (),
    )
    packer = SkopsFormat()
    packer.save(pipeline, folder, info, example=table.head(_EXAMPLE_ROWS))
    golden = golden_rows(table, kinds)
    write_golden(folder, golden, predict(pipeline, info, golden))
    # What cannot be loaded again must not become a candidate.
    packer.load(folder, allowed_types=tools.trusted_types)
    return len(table)


def _estimator(plan: _Plan, tools: Tools) -> Any:
    """The unfitted estimator, with its seed where it takes one."""
    found = _estimator_class(plan.job.estimator, tools.estimators)
    known = list(inspect.signature(found).parameters)
    unknown = [name for name in plan.hyperparameters if name not in known]
    if unknown:
        raise TrainingError(
            f"{found.__name__} has no hyperparameter {', '.join(map(repr, unknown))}",
            where=plan.job.estimator,
            way_out=f"it knows {', '.join(sorted(known))}{did_you_mean(unknown[0], known)}",
        )
    seed = {"random_state": plan.job.seed} if "random_state" in known else {}
    try:
        return found(**{**seed, **plan.hyperparameters})
    except TypeError as error:
        raise TrainingError(
            f"{found.__name__} cannot be made from numbers and texts alone ({error})",
            where=plan.job.estimator,
            way_out="name an estimator that needs no other estimator",
        ) from error


def _check_answers(estimator: Any, plan: _Plan) -> None:
    """Refuse a classifier that tells labels and no probabilities, which is all that others could compare."""
    if _is_classifier(estimator) and not hasattr(estimator, "predict_proba"):
        raise TrainingError(
            f"{type(estimator).__name__} predicts no probabilities with these hyperparameters",
            where=plan.job.estimator,
            way_out="choose ones that give it predict_proba, such as loss: log_loss, or another classifier",
        )


def _estimator_class(path: str, allowed: tuple[str, ...]) -> Any:
    if not any(path.startswith(prefix) for prefix in allowed):
        raise CallableNotFoundError(
            f"the estimator {path!r} is not one that this deployment allows",
            way_out=f"use one that begins with {' or '.join(allowed)}, or let the deployment manager add it",
        )
    try:
        from sklearn.base import BaseEstimator
    except ImportError:
        raise MissingLibraryError("scikit-learn", "sklearn") from None
    module, _, name = path.rpartition(".")
    try:
        holder = importlib.import_module(module)
    except ImportError as error:
        raise CallableNotFoundError(
            f"there is no module {module!r}", where=path, way_out="check the estimator's name"
        ) from error
    found = getattr(holder, name, None)
    if isinstance(found, type) and issubclass(found, BaseEstimator) and hasattr(found, "predict"):
        return found
    names = [
        known for known, value in vars(holder).items() if isinstance(value, type) and issubclass(value, BaseEstimator)
    ]
    raise CallableNotFoundError(
        f"{module} has no estimator {name!r}{did_you_mean(name, names)}",
        where=path,
        way_out="name a scikit-learn classifier or regressor",
    )


def _is_classifier(estimator: Any) -> bool:
    from sklearn.base import is_classifier

    return bool(is_classifier(estimator))


def _kinds(features: pd.DataFrame, *, where: str) -> dict[str, str]:
    """Whether each input column is a number or a category."""
    from pandas.api import types

    kinds: dict[str, str] = {}
    for name in features.columns:
        dtype = features[name].dtype
        if types.is_bool_dtype(dtype) or types.is_numeric_dtype(dtype):
            kinds[str(name)] = NUMBER
        elif types.is_object_dtype(dtype) or types.is_string_dtype(dtype) or isinstance(dtype, _categorical()):
            kinds[str(name)] = CATEGORY
        else:
            raise ColumnError(
                f"the feature {name!r} is of type {dtype}",
                where=where,
                way_out="let the features callable make numbers or categories of it, such as the hour of a time",
            )
    return kinds


def _categorical() -> type:
    import pandas as pd

    return pd.CategoricalDtype


def _target(rows: pd.DataFrame, plan: _Plan, chosen: Any, *, classify: bool) -> Any:
    name = plan.dataset.columns.target
    if name not in rows.columns:
        raise ColumnError(f"there is no target column {name!r}", where=plan.dataset.uri, way_out="check data.target")
    target = rows[name]
    missing = int(target.isna().sum())
    if missing:
        raise LabelsMissingError(
            f"{missing:,} of {len(target):,} rows have no {name!r}",
            where=plan.dataset.uri,
            way_out="wait for the labels, or drop these rows by a rule with its reason",
        )
    values = target.infer_objects().convert_dtypes(convert_string=False).to_numpy()[chosen].tolist()
    if classify:
        _check_classes(values, plan)
    return _array(values)


def _check_classes(values: list[Any], plan: _Plan) -> None:
    found = sorted({str(value) for value in values})
    where, name = plan.dataset.uri, plan.dataset.columns.target
    if len(found) < TWO_CLASSES:
        raise LabelsMissingError(
            f"the target {name!r} is {found[0]} in all {len(values):,} training rows",
            where=where,
            way_out="train on data that holds several classes: more partitions, or another holdout",
        )
    if len(found) > MOST_CLASSES:
        raise TrainingError(
            f"the target {name!r} has {len(found):,} classes ({', '.join(found[:5])}, ...)",
            where=where,
            way_out=f"at most {MOST_CLASSES} are told apart; make coarser ones, or use a regressor for numbers",
        )


def _array(values: list[Any]) -> Any:
    import numpy as np

    return np.asarray(values)


def _pipeline(estimator: Any, kinds: Mapping[str, str]) -> Any:
    """Preprocessing that the estimator needs and no more, then the estimator."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.utils import get_tags

    numbers = [name for name, kind in kinds.items() if kind == NUMBER]
    categories = [name for name, kind in kinds.items() if kind == CATEGORY]
    steps = _tolerant_steps() if get_tags(estimator).input_tags.allow_nan else _strict_steps()
    columns = ColumnTransformer(
        [(label, step, names) for (label, step), names in zip(steps, (numbers, categories), strict=True) if names],
        verbose_feature_names_out=False,
    )
    return Pipeline([("columns", columns), ("model", estimator)])


def _tolerant_steps() -> list[tuple[str, Any]]:
    """For estimators that take missing values: categories become numbers, unknown ones are missing."""
    import numpy as np
    from sklearn.preprocessing import OrdinalEncoder

    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, dtype=np.float64
    )
    return [("numbers", "passthrough"), ("categories", encoder)]


def _strict_steps() -> list[tuple[str, Any]]:
    """For estimators that need every value: fill, scale, one column per category."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    numbers = Pipeline([("fill", fill), ("scale", StandardScaler())])
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return [("numbers", numbers), ("categories", encoder)]


def _write_notes(folder: Path, plan: _Plan) -> None:
    """What a person needs to repeat the training: environment, machine, dataset."""
    folder.mkdir()
    (folder / "environment.txt").write_text(plan.environment)
    (folder / "hardware.json").write_text(json.dumps(hardware(), indent=1) + "\n")
    (folder / "dataset.json").write_text(json.dumps(plan.dataset.to_xcom(), indent=1) + "\n")
