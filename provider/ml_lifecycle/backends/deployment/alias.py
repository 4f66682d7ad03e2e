"""Serving by whatever follows an alias of the registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator

from ml_lifecycle.backends.deployment.base import DeploymentTarget
from ml_lifecycle.backends.tracking.base import Registry
from ml_lifecycle.core.contracts import NAME, Contract, Move
from ml_lifecycle.core.errors import StaleEpochError, TargetRefusedError

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

    @field_validator("alias")
    @classmethod
    def _not_taken(cls, alias: str) -> str:
        if _TAKEN.fullmatch(alias):
            raise ValueError(f"{alias!r} means a version to MLflow; choose a word such as champion")
        if alias.endswith(REHEARSAL):
            raise ValueError(f"{alias!r} ends in {REHEARSAL!r}, as the aliases of rehearsals do; choose another word")
        return alias

    def deploy(self, move: Move, registry: Registry) -> None:
        """Point the alias at the move's version, unless it does already."""
        fence = self._fence(move.model, registry)
        self._refuse_foreign(fence, move)
        if fence is not None and fence.epoch > move.epoch:
            raise StaleEpochError(
                f"a newer move is in force: epoch {fence.epoch}, not {move.epoch}",
                where=f"alias {self.alias} of {move.model}",
                way_out="release anew; if the ledger was replaced by an older one, restore it",
            )
        self._set(move, fence, registry)

    def observe(self, model: str, registry: Registry) -> Mapping[int, int]:
        """All traffic goes where the alias points; nowhere while there is none."""
        version = registry.alias(model, self.alias)
        return {} if version is None else {version: 100}

    def epoch(self, model: str, environment: str, registry: Registry) -> int:
        """The epoch that the model's tag names; 0 where there is none, or it is another environment's."""
        fence = self._fence(model, registry)
        return fence.epoch if fence is not None and fence.environment == environment else 0

    def restore(self, head: Move, registry: Registry) -> None:
        """Point the alias at the head's version, and put the tag right."""
        fence = self._fence(head.model, registry)
        self._refuse_foreign(fence, head)
        self._set(head, fence, registry)

    def rehearse(self, move: Move, registry: Registry) -> Mapping[int, int]:
        """Point ``<alias>-drill`` at the move's version, look where it points, and take it away."""
        alias = f"{self.alias}{REHEARSAL}"
        try:
            registry.set_alias(move.model, alias, move.version)
            version = registry.alias(move.model, alias)
        finally:
            registry.remove_alias(move.model, alias)
        return {} if version is None else {version: 100}

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
            registry.tag_model(move.model, {f"{FENCE}{self.alias}": tag.model_dump_json()})
        if registry.alias(move.model, self.alias) != move.version:
            registry.set_alias(move.model, self.alias, move.version)

    def _fence(self, model: str, registry: Registry) -> Fence | None:
        """What the tag says; a tag that somebody made unreadable says nothing."""
        text = registry.model_tags(model).get(f"{FENCE}{self.alias}")
        try:
            return Fence.model_validate_json(text) if text is not None else None
        except ValidationError:
            return None

    def _refuse_foreign(self, fence: Fence | None, move: Move) -> None:
        if fence is not None and fence.environment != move.environment:
            raise TargetRefusedError(
                f"the alias belongs to the environment {fence.environment!r}, not {move.environment!r}",
                where=f"alias {self.alias} of {move.model}",
                way_out=f"give each environment an alias of its own, such as deployment: {{backend: alias, "
                f"alias: {self.alias}-{move.environment}}}, or a tracking server of its own",
            )
