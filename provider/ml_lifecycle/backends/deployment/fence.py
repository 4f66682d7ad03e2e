"""What every place refuses: moves older than the newest that reached it, and other environments than its own."""

from __future__ import annotations

from ml_lifecycle.backends.tracking.base import Registry
from ml_lifecycle.core.contracts import Move
from ml_lifecycle.core.errors import ServiceRefusedError, StaleEpochError, TargetRefusedError


def refuse_older(move: Move, *, environment: str, epoch: int, where: str) -> None:
    """Refuse what an older move, or another environment, would write.

    :param environment: Whose place it is; empty while nobody's.
    :param epoch: Of the newest move that reached it.
    :raises StaleEpochError: a newer move was there.
    :raises TargetRefusedError: the place belongs to another environment.
    """
    refuse_foreign(environment, move.environment, where=where)
    if epoch > move.epoch:
        raise StaleEpochError(
            f"a newer move is in force: epoch {epoch}, not {move.epoch}",
            where=where,
            way_out="release anew; if the ledger was replaced by an older one, restore it",
        )


def refuse_foreign(
    owner: str, environment: str, *, where: str, way_out: str = "give each environment a place of its own"
) -> None:
    """Refuse what an environment would do to the place of another one.

    :param owner: Whose place it is; empty while nobody's.
    :raises TargetRefusedError: it belongs to another environment.
    """
    if owner and owner != environment:
        raise TargetRefusedError(
            f"the place belongs to the environment {owner!r}, not {environment!r}",
            where=where,
            way_out=way_out,
        )


def refuse_unknown(move: Move, registry: Registry) -> None:
    """Refuse a version that the registry does not have.

    :raises ServiceRefusedError: there is no such version.
    """
    if registry.version(move.model, move.version) is None:
        raise ServiceRefusedError(
            f"there is no version {move.version}",
            where=f"{move.model} in the registry",
            way_out="it was deleted; restore it, or release another one",
        )


def shares(version: int, percent: int, before: int | None) -> dict[int, int]:
    """Percent by version when this one gets its share and the one before the rest; those that get nothing left out.

    :param before: The version that served before; ``None`` where none did: then this one gets everything.
    """
    if before is None or before == version:
        return {version: 100}
    return {one: share for one, share in ((version, percent), (before, 100 - percent)) if share}


def before_of(version: int, traffic: dict[int, int]) -> int | None:
    """The version that serves beside this one: of several, the one with most of the traffic."""
    others = {one: share for one, share in traffic.items() if one != version and share > 0}
    return max(others, key=lambda one: (others[one], -one)) if others else None
