"""What a model's servers are doing, read back from HAProxy, supervisord and the servers themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ml_lifecycle.backends.deployment.base import ALL, Serving
from ml_lifecycle.backends.serving_home.control import counted, is_as, look, minus
from ml_lifecycle.backends.serving_home.haproxy import BUCKETS, Server, counts_of, map_path, open_requests, shares
from ml_lifecycle.backends.serving_home.haproxy import servers as wanted_servers
from ml_lifecycle.backends.serving_home.home import Home
from ml_lifecycle.backends.serving_home.state import Counts, ModelState, Seen, Slot, SlotName
from ml_lifecycle.core.contracts import Observation


def serving(home: Home, model: str) -> Serving:
    """Who serves, by HAProxy's map and servers, supervisord's processes, and what the servers say of their bytes."""
    state = home.state(model)
    # Asked in any case, so that a machine without servers is not taken for one on which nothing serves.
    now = home.runtime.servers(model)
    if state is None:
        return Serving(settled=not now, detail="being removed" if now else "")
    found = home.runtime.shares(map_path(home.maps, model))
    seen = look(home, state)
    newest = state.slot(state.new)
    fault = newest.fault if newest is not None else ""
    shall = wanted_servers(state)
    there = bool(now) and found == shares(state) and all(is_as(now[name], shall[name]) for name in now)
    started = all(slot.pid for _, slot in state.slots() if not slot.fault)
    return Serving(
        traffic=_traffic(state, now, found),
        epoch=state.epoch,
        environment=state.environment,
        ready=tuple(slot.version for name, slot in state.slots() if _is_ready(slot, seen[name], now.get(name))),
        settled=there and started and state.asked in (None, state.share) and not fault,
        fault=fault,
        detail=_detail(state, seen, there=there),
    )


def observed(home: Home, model: str, since: datetime) -> dict[int, Observation]:
    """What each version did since then, to within half a minute, or since its share was last set if that is later."""
    state = home.state(model)
    if state is None:
        return {}
    statistics = home.runtime.statistics(model)
    marks = [mark for mark in home.marks(model) if mark.at <= since]
    before = marks[-1].counts if marks else {}
    return {
        slot.version: _observed(
            slot.version,
            counted(slot, counts_of(statistics, name)),
            before.get(slot.version, Counts()),
            open_requests(statistics, name),
        )
        for name, slot in state.slots()
        if name in statistics
    }


def _is_ready(slot: Slot, seen: Seen, server: Server | None) -> bool:
    is_open = server is not None and server.open and server.port == slot.port
    return is_open and seen.sound and not seen.down and not slot.fault


def _traffic(state: ModelState, now: Mapping[SlotName, Server], found: Mapping[str, str]) -> dict[int, int]:
    """Percent by version, as HAProxy shares it out."""
    if not found.get("green", "").isdigit():
        return {}
    green = round(ALL * int(found["green"]) / BUCKETS)
    percent = {"green": green, "blue": ALL - green}
    serving = {
        slot.version: percent[name]
        for name, slot in state.slots()
        if name in now and now[name].open and now[name].port == slot.port and now[name].weight and percent[name]
    }
    # A slot that is promised all and has nothing in it serves nobody.
    return serving if sum(serving.values()) == ALL else {}


def _detail(state: ModelState, seen: Mapping[SlotName, Seen], *, there: bool) -> str:
    waits = [
        f"version {slot.version} does not answer" + (f" ({seen[name].dead})" if seen[name].dead else "")
        for name, slot in state.slots()
        if not seen[name].sound and not slot.fault
    ]
    return "; ".join([*waits, *([] if there else ["HAProxy is being told"])])


def _observed(version: int, now: Counts, before: Counts, open_now: int) -> Observation:
    """What a version did, out of HAProxy's counts: what was sent to it and not answered is an error."""
    tried, answered, failed, left, passed_on, received = (
        max(0, getattr(now, name) - getattr(before, name))
        for name in ("tried", "answered", "failed", "left", "passed_on", "received")
    )
    errors = max(0, tried - answered - left - open_now) + failed
    return Observation(
        version=version,
        requests=max(tried - received, errors),
        errors=errors,
        retried=min(passed_on, errors),
        latency=minus(now.latency, before.latency),
    )
