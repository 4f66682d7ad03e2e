"""Reading a trained model back: the candidate that is judged, and the champion that serves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.callables import callable_digest
from ml_lifecycle.backends.deployment.base import Means, Origin
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.base import PackageInfo, read_info
from ml_lifecycle.backends.models.inputs import predict
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.contracts import DatasetRef, ModelVersion, Move, TrainedModel
from ml_lifecycle.core.deployment import is_rolling_out
from ml_lifecycle.core.errors import (
    ChampionError,
    DigestMismatchError,
    LifecycleError,
    PassingError,
    UntrustedModelError,
)
from ml_lifecycle.stages.evidence import training_of
from ml_lifecycle.stages.runner import Tools

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoadedModel:
    """A model package in memory, its bytes checked against its digest."""

    trained: TrainedModel
    info: PackageInfo
    model: Any
    """The fitted estimator."""

    def predict(self, features: pd.DataFrame) -> Any:
        """One score per row: the probability of the second of two classes, or the predicted number.

        Of more classes a probability for each, ``(rows, classes)``.

        :raises ColumnError: an input column is missing, or holds texts where training saw numbers.
        """
        return predict(self.model, self.info, features)


@dataclass(frozen=True)
class Champion:
    """The model that serves, with the move that made it champion."""

    move: Move
    loaded: LoadedModel

    @property
    def version(self) -> int:
        """Its number in the registry."""
        return self.move.version

    @property
    def info(self) -> PackageInfo:
        """What its package says of itself."""
        return self.loaded.info

    @property
    def dataset(self) -> DatasetRef:
        """What it was trained on."""
        return self.loaded.trained.dataset

    @property
    def model(self) -> Any:
        """The fitted estimator."""
        return self.loaded.model

    def predict(self, features: pd.DataFrame) -> Any:
        """One score per row, as :meth:`LoadedModel.predict`."""
        return self.loaded.predict(features)


@dataclass(frozen=True)
class ChampionInfo:
    """What is known of the model that serves, without loading it."""

    move: Move
    dataset: DatasetRef
    """What it was trained on."""
    info: PackageInfo

    @property
    def version(self) -> int:
        """Its number in the registry."""
        return self.move.version


def champion_of(model: str, tools: Tools) -> Champion | None:
    """The champion of the ledger, ready to predict; ``None`` at epoch 0.

    :raises ChampionError: it cannot be read, its bytes are not those that were approved, or the feature code that
        feeds it has changed.
    """
    move = promoted(model, tools)
    return load_champion(move, tools) if move is not None else None


def promoted(model: str, tools: Tools) -> Move | None:
    """The move whose version is champion: while another one is being rolled out, the one before it."""
    head = tools.ledger.head(model, tools.environment)
    if head is None or not is_rolling_out(head, tools.ledger.deployment_states(head)):
        return head
    return tools.ledger.moves(model, tools.environment)[-2]


def load_champion(move: Move, tools: Tools) -> Champion:
    """What a move made champion, at present or once, ready to predict.

    :raises ChampionError: it cannot be read, its bytes are not those that were approved, or the feature code that
        feeds it has changed.
    """
    trained = _trained_in_ledger(move, tools)
    with _told_as("the champion", move):
        loaded = load_trained(trained, tools)
        check_features(loaded.info, tools)
    return Champion(move=move, loaded=loaded)


def load_version(model: str, version: int, tools: Tools) -> LoadedModel:
    """A version of the registry, as the ledger knows it, ready to predict.

    :raises ChampionError: it was never registered here, cannot be read, or the feature code that feeds it has changed.
    """
    found = tools.ledger.results(tools.environment, model, "register", version=version)
    registered = ModelVersion.model_validate(found[-1]["content"]) if found else None
    trained = training_of(model, registered.digest, tools) if registered is not None else None
    if registered is None or trained is None:
        raise ChampionError(
            f"the ledger holds no {'training' if registered is not None else 'registration'} of version {version}",
            where=f"{model} in environment {tools.environment}",
            way_out="let rules name a version that was registered here",
        )
    with _told_as(f"version {version}", registered):
        loaded = load_trained(trained.model_copy(update={"uri": registered.uri}), tools)
        check_features(loaded.info, tools)
    return loaded


def champion_info(model: str, tools: Tools) -> ChampionInfo | None:
    """As :func:`champion_of`, for whoever needs its data and its features, but not its predictions.

    Importing scikit-learn to load a model costs about two CPU seconds.
    """
    move = promoted(model, tools)
    if move is None:
        return None
    trained = _trained_in_ledger(move, tools)
    with _told_as("the champion", move), _package(trained, tools) as (_, info):
        check_features(info, tools)
    return ChampionInfo(move=move, dataset=trained.dataset, info=info)


@contextmanager
def _told_as(what: str, released: Move | ModelVersion) -> Iterator[None]:
    """Tell errors about a package as errors about what it is to be used for; what may pass stays as it is."""
    try:
        yield
    except PassingError:
        raise
    except LifecycleError as error:
        way_out = error.way_out or "roll back to the version before, or approve another one"
        name = released.model if isinstance(released, Move) else released.name
        where = f"version {released.version} of {name} ({released.uri})"
        raise ChampionError(f"{what} cannot be used: {error.what}", where=where, way_out=way_out) from error


def load_trained(model: TrainedModel, tools: Tools) -> LoadedModel:
    """Fetch a model package, check its bytes against its digest, and load it.

    :raises DigestMismatchError: the bytes are not those that training left.
    :raises UntrustedModelError: the package holds types that this deployment does not load.
    """
    with _package(model, tools) as (folder, info):
        fitted = SkopsFormat().load(folder, allowed_types=tools.trusted_types)
    return LoadedModel(trained=model, info=info, model=fitted)


@contextmanager
def verified_package(uri: str, digest: str, tools: Tools) -> Iterator[Path]:
    """A model package as a local folder whose bytes are what the digest says.

    :raises DigestMismatchError: they are not.
    :raises UntrustedModelError: nothing is there.
    """
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
        folder = _fetched(uri, Path(temporary) / "model", tools)
        found = digest_of_folder(folder)
        if found != digest:
            raise DigestMismatchError(
                "the model package",
                expected=digest,
                found=found,
                where=uri,
                way_out="its files were changed after training; train again, and find out who changed them",
            )
        yield folder


def means_of(tools: Tools) -> Means:
    """What a deployment target may use of these tools."""
    return Means(
        registry=tools.registry,
        package=partial(verified_package, tools=tools),
        client=tools.client,
        serving_home=tools.serving_home,
        trusted_types=tools.trusted_types,
        signing_key=tools.signing_key,
        origin=partial(origin_of, tools=tools),
    )


def origin_of(move: Move, tools: Tools) -> Origin:
    """What the ledger knows of where a move's version comes from."""
    moves = (one for one in reversed(tools.ledger.moves(move.model, move.environment)) if one.epoch <= move.epoch)
    released = next((one for one in moves if one.kind == "release" and one.digest == move.digest), move)
    found = tools.ledger.results(
        move.environment, move.model, "register", version=move.version, digest=move.digest, limit=1
    )
    fingerprint = str(found[0]["content"]["dataset_fingerprint"]) if found else ""
    return Origin(decision_id=released.decision_id, dataset_fingerprint=fingerprint)


@contextmanager
def _package(model: TrainedModel, tools: Tools) -> Iterator[tuple[Path, PackageInfo]]:
    with verified_package(model.uri, model.digest, tools) as folder:
        yield folder, read_info(folder, where=model.uri)


def check_features(info: PackageInfo, tools: Tools) -> None:
    """Refuse to feed a model from other code than it was trained with.

    :raises DigestMismatchError: the file that holds the feature callable has changed.
    """
    if info.features is None:
        return
    found = callable_digest(info.features, tools.project)
    if found != info.features_digest:
        raise DigestMismatchError(
            f"the feature code {info.features}",
            expected=info.features_digest or "none",
            found=found,
            way_out=(
                "restore the file, and put new features into a new module: "
                "the champion keeps its own until it is replaced"
            ),
        )


def _fetched(uri: str, into: Path, tools: Tools) -> Path:
    if uri.startswith("runs:/"):
        into.mkdir()
        return tools.tracking.download(uri, into)
    folder = Path(uri)
    if not folder.is_dir():
        raise UntrustedModelError("there is no model package", where=uri, way_out="name the folder that training wrote")
    return folder


def _trained_in_ledger(move: Move, tools: Tools) -> TrainedModel:
    trained = training_of(move.model, move.digest, tools)
    if trained is not None:
        return trained.model_copy(update={"uri": move.uri})
    raise ChampionError(
        f"the ledger holds no training of the champion's digest {move.digest[:12]}",
        where=f"version {move.version} of {move.model} in environment {tools.environment}",
        way_out="the ledger was replaced or emptied; restore it, or release a newly trained version",
    )
