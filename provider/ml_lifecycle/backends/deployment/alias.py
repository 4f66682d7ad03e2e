"""Serving by whatever follows an alias of the registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator

from ml_lifecycle.backends.deployment.base import ALL, DeploymentTarget, Means, Serving
from ml_lifecycle.backends.deployment.fence import refuse_foreign, refuse_older, refuse_unknown
from ml_lifecycle.backends.tracking.base import Registry
from ml_lifecycle.core.contracts import NAME, Contract, Move

FENCE: Final = "ml_lifecycle.alias."
"""Start of the tag, on the registered model, that says which move an alias was set for."""
REHEARSAL: Final = "-drill"

_TAKEN = re.compile(r"latest|v\d+")


class Fence(Contract):
    """Which move an alias was set for: one tag, so that it is written whole or not at all."""

    environment: str
    epoch: int
    version: int
    digest: str
    decision: str | None


class AliasTarget(DeploymentTarget):
    """Point ``alias`` at the new version; whatever follows the alias picks it up.

    A tag of the registered model tells for which environment and epoch the alias was set: an older move is refused,
    and so is another environment. MLflow compares nothing when it writes, so this keeps late writers out, but not two
    at the same instant; whoever deploys looks at the ledger again afterwards.
    """

    backend: Literal["alias"] = "alias"
    alias: str = Field(default="champion", pattern=NAME)
    """Of the registered model."""

    @field_validator("alias")
    @classmethod
    def _not_taken(cls, alias: str) -> str:
        if _TAKEN.fullmatch(alias):
            raise ValueError(f"{alias!r} means a version to MLflow; choose a word such as champion")
        if alias.endswith(REHEARSAL):
            raise ValueError(f"{alias!r} ends in {REHEARSAL!r}, as the aliases of rehearsals do; choose another word")
        return alias

    def deploy(self, move: Move, means: Means) -> None:
        """See that the registry has the version: nothing runs here."""
        self._refuse_older(self._fence(move.model, means.registry), move)
        refuse_unknown(move, means.registry)

    def promote(self, move: Move, means: Means) -> None:
        """Point the alias at the move's version, unless it does already."""
        fence = self._fence(move.model, means.registry)
        self._refuse_older(fence, move)
        self._set(move, fence, means.registry)

    def status(self, model: str, means: Means) -> Serving:
        """All traffic goes where the alias points; nowhere while there is none."""
        version, fence = means.registry.alias(model, self.alias), self._fence(model, means.registry)
        return Serving(
            traffic={} if version is None else {version: ALL},
            epoch=fence.epoch if fence else 0,
            environment=fence.environment if fence else "",
            ready=tuple(one.version for one in means.registry.versions(model)),
        )

    def destroy(self, model: str, environment: str, means: Means) -> None:
        """Take the alias and its tag away."""
        self._refuse_foreign(self._fence(model, means.registry), model, environment)
        means.registry.remove_alias(model, self.alias)
        if means.registry.model_tags(model).get(self._tag):
            means.registry.tag_model(model, {self._tag: ""})

    def restore(self, head: Move, means: Means) -> None:
        """Point the alias at the head's version, and put the tag right."""
        fence = self._fence(head.model, means.registry)
        self._refuse_foreign(fence, head.model, head.environment)
        self._set(head, fence, means.registry)

    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        """Point ``<alias>-drill`` at the move's version, look where it points, and take it away."""
        alias = f"{self.alias}{REHEARSAL}"
        try:
            means.registry.set_alias(move.model, alias, move.version)
            version = means.registry.alias(move.model, alias)
        finally:
            means.registry.remove_alias(move.model, alias)
        return {} if version is None else {version: ALL}

    def _set(self, move: Move, fence: Fence | None, registry: Registry) -> None:
        """The tags first: from then on no older move gets through. A version that is not there stops it at once."""
        tag = Fence(
            environment=move.environment,
            epoch=move.epoch,
            version=move.version,
            digest=move.digest,
            decision=move.decision_id,
        )
        if fence != tag:
            shown = {"environment": move.environment, "epoch": str(move.epoch), "decision": move.decision_id or ""}
            registry.tag_version(
                move.model, move.version, {f"{FENCE}{self.alias}.{name}": value for name, value in shown.items()}
            )
            registry.tag_model(move.model, {self._tag: tag.model_dump_json()})
        if registry.alias(move.model, self.alias) != move.version:
            registry.set_alias(move.model, self.alias, move.version)

    def _fence(self, model: str, registry: Registry) -> Fence | None:
        """What the tag says; a tag that somebody made unreadable says nothing."""
        text = registry.model_tags(model).get(self._tag)
        try:
            return Fence.model_validate_json(text) if text else None
        except ValidationError:
            return None

    @property
    def _tag(self) -> str:
        return f"{FENCE}{self.alias}"

    def _refuse_older(self, fence: Fence | None, move: Move) -> None:
        self._refuse_foreign(fence, move.model, move.environment)
        if fence is not None:
            where = self._where(move.model)
            refuse_older(move, environment=fence.environment, epoch=fence.epoch, where=where)

    def _refuse_foreign(self, fence: Fence | None, model: str, environment: str) -> None:
        way_out = (
            f"give each environment an alias of its own, such as deployment: {{backend: alias, "
            f"alias: {self.alias}-{environment}}}, or a tracking server of its own"
        )
        refuse_foreign(fence.environment if fence else "", environment, where=self._where(model), way_out=way_out)

    def _where(self, model: str) -> str:
        return f"alias {self.alias} of {model}"
