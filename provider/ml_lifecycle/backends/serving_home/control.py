"""Makes what runs equal to what is written down; however often it is called, and wherever an earlier call ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Final

from ml_lifecycle.backends.serving_home import servers
from ml_lifecycle.backends.serving_home.haproxy import Server, counts_of, map_path, shares
from ml_lifecycle.backends.serving_home.haproxy import servers as wanted_servers
from ml_lifecycle.backends.serving_home.home import Home, program_name
from ml_lifecycle.backends.serving_home.state import SLOTS, Counts, Mark, ModelState, Seen, Slot, SlotName, advanced
from ml_lifecycle.backends.serving_home.supervisor import Process
from ml_lifecycle.core.contracts import Histogram
from ml_lifecycle.core.errors import ServiceUnavailableError

HAPROXY: Final = "haproxy"
GUARD: Final = "guard"
STANDING: Final = (HAPROXY, GUARD)
"""Programs that run whatever serves."""
MARK_EVERY: Final = timedelta(seconds=30)
"""How exactly a window that begins after the last change of the shares is told."""
_MARKS: Final = 240
_RELOAD_S: Final = 3.0
"""A reload that was asked for has this long before it is asked for again."""


def change(home: Home, model: str, by: Callable[[ModelState | None], ModelState | None]) -> None:
    """Write down what shall be, then bring it about as far as it goes at once; the guard does the rest.

    :param by: The new state out of the present one; ``None``: nothing shall be left of the model.
    """
    home.supervisor.pid()  # nobody would carry it out
    with home.locked():
        before = home.state(model)
        after = by(before)
        if after is None:
            home.forget(model)
        elif after != before:
            home.write(after)
        with suppress(ServiceUnavailableError):
            _settle(home)


def settle(home: Home) -> bool:
    """Take in what became of the servers, and bring about what is written down.

    :returns: Whether anything is on its way, or two versions serve beside each other: then look again soon.
    """
    with home.locked():
        return _settle(home)


def _settle(home: Home) -> bool:
    states = [_looked_after(home, state) for state in home.states()]
    structure = home.write_configuration(states).structure
    programs = home.write_programs(states) | set(STANDING)
    running = home.runtime.structure()
    if _is_reloading(home, running):
        there = False
    elif running != structure:
        _reload(home, states, structure)
        there = False
    else:
        there = True
        for state in states:
            _route(home, state)
    there = home.supervisor.update(programs) and there
    if there:
        home.drop_packages(states)
        home.drop_logs({*programs, "supervisord"})
    return not there or any(_is_moving(state) for state in states)


def _is_moving(state: ModelState) -> bool:
    slots = [slot for _, slot in state.slots()]
    return len(slots) > 1 or state.asked != state.share or not all(slot.pid for slot in slots)


def _looked_after(home: Home, state: ModelState) -> ModelState:
    """The state after a look at its servers; written down where it differs."""
    seen = look(home, state)
    after = advanced(state, seen, datetime.now(timezone.utc))
    if after.shared_at != state.shared_at:
        # Latencies are asked for only here, where somebody counts from.
        after = _with_latencies(after)
        home.drop_marks(state.model)
    if after != state:
        home.write(after)
    if after.shared_at == state.shared_at:
        _mark(home, after, seen)
    return after


def _mark(home: Home, state: ModelState, seen: Mapping[SlotName, Seen]) -> None:
    """Keep what was counted, now and then while two versions serve beside each other."""
    if len(seen) < len(SLOTS) or state.shared_at is None:
        return
    at = datetime.now(timezone.utc)
    if at - (home.marked_at(state.model) or state.shared_at) < MARK_EVERY:
        return
    counts = {slot.version: counted(slot, seen[name].counts) for name, slot in state.slots()}
    home.add_mark(state.model, Mark(at=at, counts=counts), keep=_MARKS)


def counted(slot: Slot, now: Counts) -> Counts:
    """What HAProxy and the server counted since the slot's share was set."""
    latency = minus(servers.latency(slot.port), slot.counted.latency)
    return counted_since(slot, now).model_copy(update={"latency": latency})


def minus(now: Histogram | None, before: Histogram | None) -> Histogram | None:
    """What was counted in between; a server that began anew counts from nothing."""
    if now is None or before is None or before.bounds_ms != now.bounds_ms or len(before.counts) != len(now.counts):
        return now
    between = tuple(one - other for one, other in zip(now.counts, before.counts, strict=True))
    return now if min(between, default=0) < 0 else Histogram(bounds_ms=now.bounds_ms, counts=between)


def _with_latencies(state: ModelState) -> ModelState:
    for name, slot in list(state.slots()):
        counted = slot.counted.model_copy(update={"latency": servers.latency(slot.port)})
        state = state.with_slot(name, slot.model_copy(update={"counted": counted}))
    return state


def look(home: Home, state: ModelState) -> Mapping[SlotName, Seen]:
    """What a model's servers are like at this moment."""
    processes = home.supervisor.processes()
    statistics: Mapping[SlotName, Mapping[str, str]] = {}
    with suppress(ServiceUnavailableError):
        statistics = home.runtime.statistics(state.model)
    found = {}
    for name, slot in state.slots():
        process = processes.get(program_name(state.model, slot), Process("", 0, ""))
        row = statistics.get(name, {})
        is_down = slot.pid != 0 and row.get("status", "").startswith("DOWN")
        # One that HAProxy waited for in vain a moment ago would only be waited for again.
        is_late = slot.pid != 0 and row.get("status", "").startswith("UP 1/") and "TOUT" in row.get("check_status", "")
        told = {} if is_down or is_late else servers.health(slot.port)
        found[name] = Seen(
            pid=process.pid,
            sound=bool(process.pid) and is_right(slot, told) and bool(told.get("ready")),
            foreign=bool(told) and not is_right(slot, told),
            dead=process.why if process.ended else "",
            down=is_down,
            counts=counts_of(statistics, name),
        )
    return found


def is_right(slot: Slot, told: Mapping[str, object]) -> bool:
    """Whether a server says that it serves the slot's version, out of the slot's bytes."""
    return (told.get("version"), told.get("digest")) == (slot.version, slot.digest)


def _route(home: Home, state: ModelState) -> None:
    """Give HAProxy the model's split and servers."""
    runtime, path = home.runtime, map_path(home.maps, state.model)
    now, shall = runtime.servers(state.model), wanted_servers(state)
    if set(now) != set(SLOTS):
        raise ServiceUnavailableError(
            "HAProxy does not have both slots",
            where=f"the servers of {state.model}",
            way_out="the guard has it read its file again; if that stays, look at logs/haproxy.log",
        )
    # What shall take more is opened first, and what shall take nothing is closed last.
    for name in sorted(SLOTS, key=lambda one: not shall[one].open):
        if shall[name].open and not is_as(now[name], shall[name]):
            runtime.set_server(state.model, name, shall[name])
    found = runtime.shares(path)
    for key, value in shares(state).items():
        if found.get(key) != value:
            runtime.set_share(path, key, value)
    for name in SLOTS:
        if not shall[name].open and now[name].open:
            runtime.set_server(state.model, name, shall[name])


def is_as(now: Server, shall: Server) -> bool:
    """Whether a slot is what it shall be; where a closed one points to does not matter."""
    return now == shall or not (now.open or shall.open)


def _is_reloading(home: Home, running: str) -> bool:
    """Whether HAProxy was asked to read its file a moment ago, and what answers is still what ran before."""
    marker = home.folder / "reloading"
    if not marker.exists():
        return False
    if running != marker.read_text() and time.time() - marker.stat().st_mtime < _RELOAD_S:
        return True
    marker.unlink()
    return False


def _reload(home: Home, states: Collection[ModelState], structure: str) -> None:
    """Have HAProxy read its file; it begins to count anew."""
    for state in states:
        home.write(_carried(home, state))
    (home.folder / "reloading").write_text(structure)
    home.supervisor.signal(HAPROXY, "USR2")


def _carried(home: Home, state: ModelState) -> ModelState:
    statistics = home.runtime.statistics(state.model)
    for name, slot in list(state.slots()):
        if name in statistics:
            carried = counted_since(slot, counts_of(statistics, name))
            kept = slot.counted.model_copy(update=dict.fromkeys(_COUNTED, 0))
            state = state.with_slot(name, slot.model_copy(update={"carried": carried, "counted": kept}))
    return state


_COUNTED: Final = ("tried", "answered", "failed", "left", "passed_on", "received")


def counted_since(slot: Slot, now: Counts) -> Counts:
    """What was counted since the slot's share was set; a counter that went backwards began anew."""
    anew = any(getattr(now, one) < getattr(slot.counted, one) for one in ("tried", "answered"))
    before = Counts() if anew else slot.counted
    return Counts.model_validate(
        {one: max(0, getattr(now, one) - getattr(before, one)) + getattr(slot.carried, one) for one in _COUNTED}
    )
