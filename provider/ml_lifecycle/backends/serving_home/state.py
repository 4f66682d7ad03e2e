"""What one model's servers are to be, and how that moves on: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from ml_lifecycle.core.contracts import DIGEST, Contract, Histogram, Move

SlotName = Literal["blue", "green"]
SLOTS: Final[tuple[SlotName, SlotName]] = ("blue", "green")
ALL: Final = 100


class Counts(Contract):
    """What HAProxy and a server have counted for one slot since each of them began."""

    tried: int = 0
    """Requests that were sent to the server, whoever they were for."""
    answered: int = 0
    """Of these, those that it answered, whatever it said."""
    failed: int = 0
    """Server errors among the answers."""
    left: int = 0
    """Requests that the client did not wait for."""
    passed_on: int = 0
    """Requests that were sent to the other slot because this one did not answer."""
    received: int = 0
    """The same of the other slot."""
    latency: Histogram | None = None


class Slot(Contract):
    """One server, and the version that it serves."""

    version: int
    digest: str = Field(pattern=DIGEST)
    port: int
    trusted_types: tuple[str, ...] = ()
    pid: int = 0
    """Of the process that answered with this digest; 0 until one did. Until then it gets no traffic."""
    fault: str = ""
    """Why it gets no traffic any more."""
    counted: Counts = Counts()
    """When the share was last set."""
    carried: Counts = Counts()
    """Since then, but before HAProxy began to count anew."""


class Mark(Contract):
    """What was counted at a moment since the shares were last set, so that later windows can be told."""

    at: datetime
    counts: dict[int, Counts]
    """By version."""


class Routing(Contract):
    """How requests find their version."""

    user_header: str = "X-User-Id"
    tester_header: str = "X-Tester"
    tester_value: str = "new"
    answer_timeout_ms: int = 5000


class ModelState(Contract):
    """One model's servers: at most two, of which ``new`` is the one that the newest move is about."""

    model: str
    environment: str
    epoch: int
    salt: str
    """What users are shared out by; another one for each rollout, so that it is not always the same users."""
    routing: Routing = Routing()
    blue: Slot | None = None
    green: Slot | None = None
    new: SlotName = "blue"
    asked: int | None = None
    """Percent that the new slot is to get; ``None`` while nobody said."""
    share: int | None = None
    """Percent that it gets, and the other slot the rest; ``None`` while nothing serves."""
    fallback: bool = False
    """Whether the other slot may take over: it served before, and was not rolled back from."""
    shared_at: datetime | None = None
    """When the share was last set."""
    fault_at: datetime | None = None

    @property
    def old(self) -> SlotName:
        """The other slot."""
        return "green" if self.new == "blue" else "blue"

    def slot(self, name: SlotName) -> Slot | None:
        """What is in a slot."""
        return self.blue if name == "blue" else self.green

    def slots(self) -> Iterator[tuple[SlotName, Slot]]:
        """The slots that are filled."""
        for name in SLOTS:
            slot = self.slot(name)
            if slot is not None:
                yield name, slot

    def share_of(self, name: SlotName) -> int:
        """Percent of the traffic that a slot gets."""
        if self.share is None or self.slot(name) is None:
            return 0
        return self.share if name == self.new else ALL - self.share

    def weight_of(self, name: SlotName) -> int:
        """1 where the slot may answer what the other one does not."""
        slot = self.slot(name)
        if slot is None or slot.fault:
            return 0
        return int(self.share_of(name) > 0 or (self.share is not None and name == self.old and self.fallback))

    def holding(self, version: int, digest: str) -> SlotName | None:
        """The slot in which a version serves or waits."""
        found = (name for name, slot in self.slots() if (slot.version, slot.digest) == (version, digest))
        return next(found, None)

    def with_slot(self, name: SlotName, slot: Slot | None, **changes: Any) -> ModelState:
        """The same with another slot."""
        return self.model_copy(update={name: slot, **changes})


@dataclass(frozen=True)
class Seen:
    """What one slot's server looks like at this moment."""

    pid: int = 0
    """0 where no process runs."""
    sound: bool = False
    """It answered that it is ready, with the digest and the version that it should have."""
    foreign: bool = False
    """It answered with another digest or version."""
    dead: str = ""
    """Why the process does not run."""
    down: bool = False
    """HAProxy's checks say that it does not answer."""
    counts: Counts = field(default_factory=Counts)


# --- What a move asks for --------------------------------------------------------------------------------------------


def deployed(state: ModelState | None, move: Move, fresh: Slot, *, routing: Routing, salt: str) -> ModelState:
    """The move's version runs beside what serves.

    :param fresh: What its slot holds if none has the version yet.
    :param salt: For a rollout that begins with this move.
    """
    if state is None:
        state = ModelState(model=move.model, environment=move.environment, epoch=move.epoch, salt=salt)
        return state.with_slot("blue", fresh, routing=routing)
    name = state.holding(move.version, move.digest)
    if name is not None and move.epoch == state.epoch and name == state.new:
        return state.model_copy(update={"routing": routing})
    begun = {"epoch": move.epoch, "environment": move.environment, "routing": routing, "fault_at": None}
    if name is None:
        return _placed(state, move, fresh, salt=salt, **begun)
    other: SlotName = "green" if name == "blue" else "blue"
    share = state.share_of(name) if state.share is not None else None
    held = state.slot(name)
    kept = held if held is not None and not held.fault else fresh
    fallback = move.kind == "release" and _serves(state, other)
    return state.with_slot(name, kept, new=name, asked=share, share=share, fallback=fallback, **begun)


def _placed(state: ModelState, move: Move, fresh: Slot, *, salt: str, **begun: Any) -> ModelState:
    """In the slot that serves nobody; where both do, in that of the rollout that was not finished."""
    name = next((one for one in SLOTS if state.slot(one) is None), None)
    if name is None:
        name = state.old if _serves(state, state.new) and not _serves(state, state.old) else state.new
    other: SlotName = "green" if name == "blue" else "blue"
    serves = _serves(state, other) or state.share_of(other) > 0
    return state.with_slot(
        name,
        fresh,
        new=name,
        asked=None,
        share=0 if serves else None,
        fallback=serves and move.kind == "release",
        salt=salt,
        **begun,
    )


def _serves(state: ModelState, name: SlotName) -> bool:
    """Whether a slot has traffic, or waits for what it was promised."""
    slot = state.slot(name)
    if slot is None or slot.fault:
        return False
    return state.share_of(name) > 0 or (name == state.new and bool(state.asked))


def asked(state: ModelState, percent: int) -> ModelState:
    """The new slot is to have this share; all, where no other version serves."""
    old = state.slot(state.old)
    beside = _serves(state, state.old) or (state.fallback and old is not None and not old.fault)
    return state.model_copy(update={"asked": percent if beside else ALL})


def retired(state: ModelState, version: int) -> ModelState:
    """Without the slots that get no traffic; the version's stays."""
    for name, slot in list(state.slots()):
        if state.share_of(name) == 0 and slot.version != version:
            changes: dict[str, Any] = {"fallback": False}
            if name == state.new:
                changes |= {"new": state.old, "share": ALL if state.share is not None else None}
                changes |= {"asked": changes["share"]}
            state = state.with_slot(name, None, **changes)
    return state


def restarted(state: ModelState) -> ModelState:
    """All servers begin anew, as when the machine does: none of them died."""
    for name, slot in list(state.slots()):
        begun = {"pid": 0, "counted": Counts(), "carried": Counts()}
        state = state.with_slot(name, slot.model_copy(update=begun))
    return state


# --- What happens by itself ------------------------------------------------------------------------------------------


def advanced(state: ModelState, seen: Mapping[SlotName, Seen], at: datetime) -> ModelState:
    """Take in what servers became: those that are sound, those that died; then give what was asked for."""
    for name, slot in list(state.slots()):
        if not slot.fault:
            state = _looked_after(state, name, slot, seen, at)
    newest = state.slot(state.new)
    if newest is None or newest.fault or state.asked is None or state.asked == state.share:
        return state
    lowered = state.share is not None and state.asked < state.share
    if not lowered and not (newest.pid and seen[state.new].sound):
        return state
    return _counted_anew(state.model_copy(update={"share": state.asked, "shared_at": at}), seen)


def _looked_after(
    state: ModelState, name: SlotName, slot: Slot, seen: Mapping[SlotName, Seen], at: datetime
) -> ModelState:
    look = seen[name]
    if slot.pid == 0 and look.sound:
        return state.with_slot(name, slot.model_copy(update={"pid": look.pid, "counted": look.counts}))
    problem = _problem(slot, look)
    never_served = slot.pid == 0 and state.share_of(name) == 0
    if problem and name == state.new and (never_served or _may_take_over(state, seen)):
        fault = f"version {slot.version}: {problem}"
        state = state.with_slot(name, slot.model_copy(update={"fault": fault}), fault_at=at)
        if not state.share:
            return state
        return _counted_anew(state.model_copy(update={"share": 0, "shared_at": at}), seen)
    if look.sound and look.pid != slot.pid:
        return state.with_slot(name, slot.model_copy(update={"pid": look.pid}))
    return state


def _problem(slot: Slot, look: Seen) -> str:
    if look.foreign:
        return "its server answers with another digest or version"
    if slot.pid == 0:
        return f"its server does not start: {look.dead}" if look.dead else ""
    if look.pid != slot.pid:
        return f"its server ended ({look.dead or 'and was started again'})"
    return "its server does not answer" if look.down else ""


def _may_take_over(state: ModelState, seen: Mapping[SlotName, Seen]) -> bool:
    old = state.slot(state.old)
    if old is None or old.fault or old.pid == 0 or not (state.share_of(state.old) > 0 or state.fallback):
        return False
    return seen[state.old].pid != 0 and not seen[state.old].down


def _counted_anew(state: ModelState, seen: Mapping[SlotName, Seen]) -> ModelState:
    for name, slot in list(state.slots()):
        state = state.with_slot(name, slot.model_copy(update={"counted": seen[name].counts, "carried": Counts()}))
    return state
