"""Serving by whatever follows an alias of the registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from ml_lifecycle.backends.deployment.base import DeploymentTarget
from ml_lifecycle.backends.tracking.base import Registry
from ml_lifecycle.core.contracts import NAME, Move

_TAKEN = re.compile(r"latest|v\d+")


class AliasTarget(DeploymentTarget):
    """Point ``alias`` at the new version; whatever follows the alias picks it up."""

    backend: Literal["alias"] = "alias"
    alias: str = Field(default="champion", pattern=NAME)

    @field_validator("alias")
    @classmethod
    def _not_taken(cls, alias: str) -> str:
        if _TAKEN.fullmatch(alias):
            raise ValueError(f"{alias!r} means a version to MLflow; choose a word such as champion")
        return alias

    def deploy(self, move: Move, registry: Registry) -> None:
        """Point the alias at the move's version, unless it does already."""
        if registry.alias(move.model, self.alias) != move.version:
            registry.set_alias(move.model, self.alias, move.version)

    def observe(self, model: str, registry: Registry) -> Mapping[int, int]:
        """All traffic goes where the alias points; nowhere while there is none."""
        version = registry.alias(model, self.alias)
        return {} if version is None else {version: 100}
