"""What a model's servers are doing, read back from HAProxy, supervisord and the servers themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ml_lifecycle.backends.deployment.base import ALL, Serving
from ml_lifecycle.backends.serving_home import servers
from ml_lifecycle.backends.serving_home.control import counted_since, is_as, look
from ml_lifecycle.backends.serving_home.haproxy import BUCKETS, Server, counts_of, map_path, open_requests, shares
from ml_lifecycle.backends.serving_home.haproxy import servers as wanted_servers
from ml_lifecycle.backends.serving_home.home import Home
from ml_lifecycle.backends.serving_home.state import Counts, ModelState, Seen, Slot, SlotName
from ml_lifecycle.core.contracts import Histogram, Observation


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
    """What each version did since its share was last set."""
    state = home.state(model)
    if state is None:
        return {}
    statistics = home.runtime.statistics(model)
    return {
        slot.version: _observed(slot, counts_of(statistics, name), open_requests(statistics, name))
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


def _observed(slot: Slot, now: Counts, open_now: int) -> Observation:
    """What a version did, out of HAProxy's counts: what was sent to it and not answered is an error."""
    done = counted_since(slot, now)
    unanswered = max(0, done.tried - done.answered - done.left - open_now)
    errors = unanswered + done.failed
    requests = max(done.tried - done.received, errors)
    return Observation(
        version=slot.version,
        requests=requests,
        errors=errors,
        retried=min(done.passed_on, errors),
        latency=_latency(servers.latency(slot.port), slot.counted.latency),
    )


def _latency(now: Histogram | None, before: Histogram | None) -> Histogram | None:
    """What was counted in between; a server that began anew counts from nothing."""
    if now is None or before is None or before.bounds_ms != now.bounds_ms or len(before.counts) != len(now.counts):
        return now
    between = tuple(one - other for one, other in zip(now.counts, before.counts, strict=True))
    return now if min(between, default=0) < 0 else Histogram(bounds_ms=now.bounds_ms, counts=between)
