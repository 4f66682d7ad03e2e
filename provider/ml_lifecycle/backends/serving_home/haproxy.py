"""HAProxy: its configuration as text, and what it says and takes at run time."""

from __future__ import annotations

import csv
import hashlib
import io
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ml_lifecycle.backends.serving_home.state import ALL, SLOTS, Counts, ModelState, SlotName
from ml_lifecycle.core.errors import ServiceUnavailableError

BUCKETS: Final = 10_000
"""A user's bucket is one of these: the split's resolution is 0.01%."""
_TIMEOUT_S: Final = 3.0
_MOST_ANSWER: Final = 16 << 20
_MAINTENANCE: Final = 0x01 | 0x02 | 0x20
"""Bits of the administrative state: forced, inherited, unresolved (management guide, "show servers state")."""
_NOWHERE: Final = 9
"""Discard: the port of a slot that nothing fills."""

_TOP = """\
# Written by ml-lifecycle; what is changed here by hand is written over.
global
    description {structure}
    stats socket {socket} mode 600 level admin expose-fd listeners
    log stderr format raw local0 notice
    maxconn 4000
    hard-stop-after 60s
    tune.bufsize 65536

defaults
    mode http
    log global
    option dontlognull
    option http-buffer-request
    option idle-close-on-response
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response response-timeout
    timeout connect 500ms
    timeout check 400ms
    timeout client 30s
    timeout queue 5s
    timeout server 5s
    timeout http-request 10s
    timeout http-keep-alive 30s

frontend models
    bind {bind}:{port}
{routes}    default_backend nothing

backend nothing
    http-request return status 404 content-type application/json string '{{"error": "no such model"}}'
"""
_BACKEND = """
backend {backend}
    timeout server {answer_timeout_ms}ms
    option httpchk GET /ping
    http-check expect status 200
    default-server inter 200ms fastinter 100ms fall 3 rise 2 check
    # A server that is late with its checks answers more than none.
    force-persist if {{ nbsrv({backend}) eq 0 }}
    http-request return status 404 content-type application/json string '{{"error": "no such path"}}' \
unless {{ path /{model}/invocations /{model}/ping /{model}/version }}
    http-request set-header X-Request-Id %[uuid()] unless {{ req.fhdr(X-Request-Id) -m len gt 0 }}
    http-request set-var(txn.user) req.fhdr({user_header})
    http-request set-var(txn.user) req.fhdr(X-Request-Id) unless {{ req.fhdr({user_header}) -m len gt 0 }}
    http-request set-var(txn.green) str(green),map_str({map},0),add(0)
    http-request set-var(txn.bucket) str(salt),map_str({map},none),concat(:,txn.user),xxh32(0),mod({buckets})
    http-request set-path %[path,regsub(^/[^/]*,)]
    acl tester req.fhdr({tester_header}) -m str {tester_value}
    acl tests_green str(tester),map_str({map},none) -m str green
    acl tests_blue str(tester),map_str({map},none) -m str blue
    acl in_green var(txn.bucket),sub(txn.green) -m int lt 0
    use-server green if tester tests_green
    use-server blue if tester tests_blue
    use-server green if in_green
    use-server blue unless in_green
{servers}"""


def backend_name(model: str) -> str:
    """What HAProxy calls a model's servers."""
    return f"model.{model}"


def shares(state: ModelState) -> dict[str, str]:
    """What a model's map says: buckets of the green slot, salt, and the slot that testers reach."""
    percent = 0 if state.share is None else state.share if state.new == "green" else ALL - state.share
    return {"green": str(percent * BUCKETS // ALL), "salt": state.salt, "tester": state.new}


def map_text(state: ModelState) -> str:
    """The same as the file that HAProxy begins with."""
    return "".join(f"{key} {value}\n" for key, value in shares(state).items())


@dataclass(frozen=True)
class Server:
    """One slot, as HAProxy has it or shall have it."""

    port: int
    open: bool
    """Whether it takes requests at all."""
    weight: int
    """0: only requests that are meant for it, and none that another server did not answer."""


def servers(state: ModelState) -> dict[SlotName, Server]:
    """What a model's slots shall be."""
    found = {}
    for name in SLOTS:
        slot = state.slot(name)
        is_open = slot is not None and slot.pid != 0 and not slot.fault
        found[name] = Server(
            slot.port if slot and is_open else _NOWHERE, is_open, state.weight_of(name) if is_open else 0
        )
    return found


@dataclass(frozen=True)
class Configuration:
    """HAProxy's file, and a name for everything in it that run time cannot change."""

    text: str
    structure: str


def configuration(states: Iterable[ModelState], *, bind: str, port: int, control: Path, maps: Path) -> Configuration:
    """What serves these models."""
    states = sorted(states, key=lambda state: state.model)
    routes = "".join(f"    use_backend {backend_name(one.model)} if {{ path_beg /{one.model}/ }}\n" for one in states)
    where = {"socket": control, "bind": bind, "port": port, "routes": routes}
    fixed = _TOP.format(structure="", **where) + "".join(_backend(one, maps, with_servers=False) for one in states)
    structure = hashlib.sha256(fixed.encode()).hexdigest()[:16]
    text = _TOP.format(structure=structure, **where) + "".join(_backend(one, maps) for one in states)
    return Configuration(text, structure)


def _backend(state: ModelState, maps: Path, *, with_servers: bool = True) -> str:
    lines = (
        f"    server {name} 127.0.0.1:{one.port} weight {one.weight}{'' if one.open else ' disabled'}\n"
        for name, one in servers(state).items()
    )
    return _BACKEND.format(
        backend=backend_name(state.model),
        model=state.model,
        map=map_path(maps, state.model),
        buckets=BUCKETS,
        servers="".join(lines) if with_servers else "",
        **state.routing.model_dump(),
    )


def map_path(maps: Path, model: str) -> Path:
    """The file that a model's split is written to."""
    return maps / f"{model}.map"


# --- Run time --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runtime:
    """HAProxy's control socket; whoever may write to it is its administrator."""

    path: Path

    def structure(self) -> str:
        """Of the configuration that it runs."""
        for line in self._ask("show info").splitlines():
            name, _, value = line.partition(": ")
            if name.lower() == "description":
                return value.strip()
        return ""

    def statistics(self, model: str) -> dict[SlotName, Mapping[str, str]]:
        """Its own columns of each slot; none where it does not know the model."""
        text = self._ask(f"show stat {backend_name(model)} 4 -1")
        rows = csv.DictReader(io.StringIO(text.lstrip("# ")))
        found = {row["svname"]: row for row in rows if row.get("svname")}
        return {name: found[name] for name in SLOTS if name in found}

    def servers(self, model: str) -> dict[SlotName, Server]:
        """The slots as they are; none where it does not know the model."""
        rows = {row["srv_name"]: row for row in _table(self._ask(f"show servers state {backend_name(model)}"))}
        return {
            name: Server(
                port=int(rows[name]["srv_port"]),
                open=not int(rows[name]["srv_admin_state"]) & _MAINTENANCE,
                weight=int(rows[name]["srv_uweight"]),
            )
            for name in SLOTS
            if name in rows
        }

    def shares(self, path: Path) -> dict[str, str]:
        """A map as it is; empty where it does not know the file."""
        lines = (line.split() for line in self._ask(f"show map {path}").splitlines())
        return {parts[1]: parts[2] for parts in lines if len(parts) == 3}  # noqa: PLR2004  # id, key, value

    def set_share(self, path: Path, key: str, value: str) -> None:
        """Change one entry of a map."""
        self._tell(f"set map {path} {key} {value}")

    def set_server(self, model: str, name: SlotName, server: Server) -> None:
        """Give a slot another address, weight or state. Nothing is sent to it while its address changes."""
        place = f"{backend_name(model)}/{name}"
        if not server.open:
            return self._tell(f"set server {place} state maint")
        now = self.servers(model).get(name)
        if now is not None and now.port != server.port:
            self._tell(f"set server {place} state maint")
            self._tell(f"set server {place} addr 127.0.0.1 port {server.port}", answers=True)
        self._tell(f"set server {place} weight {server.weight}")
        return self._tell(f"set server {place} state ready")

    def _tell(self, command: str, *, answers: bool = False) -> None:
        said = self._ask(command).strip()
        if said and not (answers and ("changed" in said or "no need" in said)):
            # What it does not know now it may know in a moment, as when somebody made it read its file.
            raise ServiceUnavailableError(
                f"HAProxy answers {said[:200]!r} to {command!r}", where=str(self.path), way_out="look at its log"
            )

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_S)
            try:
                connection.connect(str(self.path))
                connection.sendall(f"{command}\n".encode())
                return b"".join(_received(connection)).decode(errors="replace")
            except OSError as error:
                raise ServiceUnavailableError(
                    f"HAProxy does not answer ({type(error).__name__})",
                    where=str(self.path),
                    way_out="run `ml-lifecycle serving up`, and look at its log",
                ) from None


def _received(connection: socket.socket) -> Iterator[bytes]:
    size = 0
    while size < _MOST_ANSWER and (block := connection.recv(1 << 16)):
        size += len(block)
        yield block


def _table(text: str) -> Iterator[dict[str, str]]:
    """The rows of ``show servers state``: a version, a line with names, the rows."""
    names: list[str] = []
    for line in text.splitlines():
        if line.startswith("# "):
            names = line[2:].split()
        elif names and line.strip():
            yield dict(zip(names, line.split(), strict=False))


def counts_of(slots: Mapping[SlotName, Mapping[str, str]], name: SlotName) -> Counts:
    """What HAProxy has counted for one slot."""
    row = slots.get(name, {})
    other = slots.get("green" if name == "blue" else "blue", {})
    return Counts(
        tried=_number(row, "stot"),
        answered=sum(_number(row, f"hrsp_{kind}") for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")),
        failed=_number(row, "hrsp_5xx"),
        left=_number(row, "cli_abrt"),
        passed_on=_passed_on(row),
        received=_passed_on(other),
    )


def open_requests(slots: Mapping[SlotName, Mapping[str, str]], name: SlotName) -> int:
    """Requests that a slot's server has not answered yet."""
    return _number(slots.get(name, {}), "scur")


def _passed_on(row: Mapping[str, str]) -> int:
    # A try that found no connection counts as redispatched; one without an answer as retried and as redispatched.
    return max(_number(row, "wretr"), _number(row, "wredis"))


def _number(row: Mapping[str, str], name: str) -> int:
    text = row.get(name) or "0"
    return int(text) if text.isdigit() else 0
