"""Waiting for a model version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.sensors.base import LifecycleSensor, tools_of_probe
from ml_lifecycle.triggers import Status

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class ModelVersionSensor(LifecycleSensor):
    """Wait until a version is registered, serves, or an alias points at one; returns the version's number.

    :param model: Name of the registered model.
    :param version: The version's number; left out, with no alias: the champion of the ledger.
    :param alias: An alias of the registry, such as ``staging``.
    """

    template_fields: Sequence[str] = ("version",)
    probe = "ml_lifecycle.sensors.deployment:look_at_version"

    def __init__(
        self, *, model: str, version: int | str | None = None, alias: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.version = version
        self.alias = alias

    def waits_for(self) -> str:
        """The version, the alias or the champion."""
        return f"version {self.version} of {self.model}" if self.version else f"{self.model} {self.alias or 'champion'}"

    def arguments(self, context: Context) -> Mapping[str, Any]:  # noqa: ARG002  # each sensor gets it
        """The version or the alias, or neither."""
        version = str(self.version or "")
        if (self.alias and version) or (version and not version.isdigit()):
            raise RequestError(
                f"version {self.version!r} and alias {self.alias!r} do not name one version",
                where=f"task {self.task_id!r}",
                way_out="give version=7, alias='staging', or neither for the champion",
            )
        return {"model": self.model, "version": int(version) if version else None, "alias": self.alias}


def look_at_version(*, project: str, run: str, model: str, version: int | None, alias: str | None) -> Status:
    """Whether it is there; returns the version's number."""
    tools = tools_of_probe(project, run)
    if not alias and version is None:
        return _champion(model, tools)
    registry = tools.registry
    if alias:
        found = registry.alias(model, alias)
        return Status(found is not None, f"{model} has {_nothing(found)} called {alias}", found)
    there = registry.version(model, int(version or 0))
    seen = f"version {version} of {model} is registered" if there else f"{model} has no version {version}"
    return Status(there is not None, seen, there.version if there else None)


def _champion(model: str, tools: Tools) -> Status:
    from ml_lifecycle.stages.champion import promoted

    move = promoted(model, tools)
    seen = f"version {move.version} of {model} is champion" if move else f"no version of {model} was released yet"
    return Status(move is not None, seen, move.version if move else None)


def _nothing(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
