"""Shifts, kills and rollbacks of real model servers under load: what do users notice, and how fast is it over?

supervisord, HAProxy, the guard and the servers are those of ``ml-lifecycle serving``; a client of its own process asks
200 requests a second. Writes ``benchmarks/serving_drills.json``; ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ml_lifecycle.backends.deployment.base import Means, Serving
from ml_lifecycle.backends.deployment.local import LocalTarget
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.golden import write_golden
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.backends.serving_home.control import HAPROXY
from ml_lifecycle.backends.serving_home.home import Home, HomeSettings
from ml_lifecycle.backends.serving_home.standing import start, stop
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import Move

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = REPOSITORY / "benchmarks" / "serving_drills.json"
MODEL, OTHER = "flights", "trains"
BODY = '{"dataframe_split": {"columns": ["distance"], "data": [[1.5]]}}'
STEPS = (10, 50, 100)
SPLIT_POINTS = 1.5
SPLIT_0_S = 2.0
OK = 200
SETTLE_S = 90.0
VERSIONS = (1, 2, 3)


def write_package(folder: Path, version: int) -> Path:
    """A small real model, another one for each version."""
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    rows = pd.DataFrame({"distance": np.arange(10.0)})
    model = LinearRegression().fit(rows, version * rows["distance"])
    info = PackageInfo(
        name=MODEL,
        format="skops",
        training_key=str(version) * 64,
        features=None,
        features_digest=None,
        inputs={"distance": "number"},
    )
    SkopsFormat().save(model, folder, info, example=rows.head(2))
    write_golden(folder, rows, model.predict(rows))
    return folder


def free_settings() -> HomeSettings:
    """Ports that are probably nobody's."""
    first = random.SystemRandom().randrange(20_000, 32_000, 20)
    return HomeSettings(port=first, first_port=first + 1, last_port=first + 19)


@contextmanager
def home_up() -> Iterator[Home]:
    """A home that is up, and gone afterwards; its path is short, as a socket's has to be."""
    folder = Path(tempfile.mkdtemp(prefix="ml-lifecycle-serving-"))
    home = Home(folder)
    try:
        start(home, free_settings())
        yield home
    finally:
        stop(home)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Machine:
    """A home with three versions of a model, and the moves that the ledger would make."""

    home: Home
    folder: Path
    """For packages and registry."""
    target: LocalTarget = field(default_factory=LocalTarget)
    epoch: int = 0

    @cached_property
    def packages(self) -> dict[int, tuple[str, str]]:
        """Folder and digest by version."""
        folders = {version: write_package(self.folder / str(version), version) for version in VERSIONS}
        return {version: (str(folder), digest_of_folder(folder)) for version, folder in folders.items()}

    @cached_property
    def means(self) -> Means:
        """What the target uses."""
        registry = LocalTracking(self.folder / "registry")
        for model in (MODEL, OTHER):
            for version in VERSIONS:
                registry.ensure_version(model, training_key=str(version) * 64, uri="runs:/1/model", run_id="1", tags={})
        return Means(registry=registry, package=_package, serving_home=self.home.folder)

    def next_move(self, version: int, *, model: str = MODEL, kind: Literal["release", "rollback"] = "release") -> Move:
        """A move to the version, newer than all before."""
        self.epoch += 1
        uri, digest = self.packages[version]
        return Move(
            model=model,
            environment="drill",
            epoch=self.epoch,
            kind=kind,
            version=version,
            digest=digest,
            uri=uri,
            moved_by="drill",
            moved_at=datetime.now(timezone.utc),
        )

    def deployed(self, version: int) -> Move:
        """A move whose version runs beside what serves."""
        move = self.next_move(version)
        self.target.deploy(move, self.means)
        self.settled()
        return move

    def split(self, move: Move, percent: int) -> None:
        """Give the version its share, and wait until it has it."""
        self.target.set_split(move, percent, self.means)
        self.settled()

    def promoted(self, version: int) -> None:
        """Release a version at once."""
        self.target.promote(self.next_move(version), self.means)
        self.settled()

    def rolled_back(self, version: int) -> None:
        """Bring a version back."""
        self.target.promote(self.next_move(version, kind="rollback"), self.means)
        self.settled()

    def status(self, model: str = MODEL) -> Serving:
        """What serves."""
        return self.target.status(model, self.means)

    def settled(self, model: str = MODEL) -> Serving:
        """What serves, once what was asked for is there."""
        return self.until(lambda seen: seen.settled, model)

    def until(self, holds: Callable[[Serving], bool], model: str = MODEL) -> Serving:
        """What serves, once something holds of it."""
        deadline = time.monotonic() + SETTLE_S
        while not holds(seen := self.status(model)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"it does not get there: {seen}")
            time.sleep(0.02)
        return seen

    def kill(self, version: int, how: signal.Signals = signal.SIGKILL) -> float:
        """End a version's server; returns when that was."""
        state = self.home.state(MODEL)
        slots = () if state is None else tuple(state.slots())
        pid = next(slot.pid for _, slot in slots if slot.version == version)
        os.kill(pid, how)
        return time.time()

    def faulted_at(self) -> float | None:
        """When the guard took the newest version's traffic."""
        state = self.home.state(MODEL)
        return None if state is None or state.fault_at is None else state.fault_at.timestamp()


def _package(uri: str, digest: str) -> AbstractContextManager[Path]:  # noqa: ARG001  # as targets fetch one
    return nullcontext(Path(uri))


# --- Load ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What became of one request."""

    at: float
    user: int
    status: int
    version: int
    milliseconds: float


@dataclass
class Load:
    """Requests under way."""

    answers: list[Answer] = field(default_factory=list)
    """All of them, once the load has ended."""

    def between(self, begin: float, end: float) -> list[Answer]:
        """Requests that were sent in a window."""
        return [one for one in self.answers if begin <= one.at < end]


@contextmanager
def under_load(machine: Machine, *, rate: float) -> Iterator[Load]:
    """Ask all the while."""
    output = machine.folder / f"answers-{time.time():.3f}"
    command = [sys.executable, str(REPOSITORY / "scripts" / "load_client.py"), "--output", str(output)]
    command += ["--port", str(machine.home.settings().port), "--path", f"/{MODEL}/invocations"]
    command += ["--body", BODY, "--rate", str(rate)]
    found = Load()
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        try:
            yield found
        finally:
            assert client.stdin is not None  # noqa: S101  # a pipe was asked for
            client.stdin.close()
            client.wait(timeout=60)
    found.answers += [Answer(*json.loads(line)) for line in output.read_text().splitlines()]


def failed(answers: list[Answer]) -> int:
    """Requests that users saw fail."""
    return sum(one.status != OK for one in answers)


def share(answers: list[Answer], version: int) -> float:
    """Percent of the answers that a version gave."""
    answered = [one.version for one in answers if one.status == OK]
    return 100 * answered.count(version) / len(answered) if answered else float("nan")


def changed_sides(answers: list[Answer]) -> int:
    """Users whom more than one version answered."""
    sides: dict[int, set[int]] = {}
    for one in answers:
        if one.status == OK:
            sides.setdefault(one.user, set()).add(one.version)
    return sum(len(versions) > 1 for versions in sides.values())


# --- Drills ----------------------------------------------------------------------------------------------------------


def shifting(machine: Machine, *, seconds: float, rate: float) -> dict[str, Any]:
    """0, 10, 50, 100 percent, back, a reload, a hot restart and a third version, under load."""
    windows: dict[str, tuple[float, float]] = {}

    def watch(name: str) -> None:
        begin = time.time()
        time.sleep(seconds)
        windows[name] = (begin, time.time())

    machine.promoted(1)
    with under_load(machine, rate=rate) as load:
        watch("alone")
        move = machine.deployed(2)
        watch("0%")
        for percent in STEPS:
            machine.split(move, percent)
            watch(f"{percent}%")
        machine.rolled_back(1)
        watch("rolled back")
        other = machine.next_move(1, model=OTHER)
        machine.target.promote(other, machine.means)
        machine.settled(OTHER)
        watch("reload with another model")
        machine.target.destroy(OTHER, "drill", machine.means)
        machine.settled(OTHER)
        for _ in range(3):
            machine.home.supervisor.signal(HAPROXY, "USR2")
            time.sleep(1)
        watch("hot restarts")
        third = machine.deployed(3)
        machine.split(third, 50)
        watch("replaced by a third")
    return {"requests": len(load.answers), "failed": failed(load.answers), "phases": _phases(load, windows)}


def _phases(load: Load, windows: dict[str, tuple[float, float]]) -> dict[str, Any]:
    found = {}
    for name, (begin, end) in windows.items():
        answers = load.between(begin, end)
        times = sorted(one.milliseconds for one in answers)
        found[name] = {
            "requests": len(answers),
            "failed": failed(answers),
            "percent": {version: round(share(answers, version), 2) for version in VERSIONS},
            "users_on_two_sides": changed_sides(answers),
            "p50_ms": round(statistics.median(times), 2) if times else None,
            "p95_ms": round(times[int(0.95 * len(times))], 2) if times else None,
        }
    return found


def killing(machine: Machine, percent: int, *, rate: float, how: signal.Signals = signal.SIGKILL) -> dict[str, Any]:
    """The new version's server dies at a step, under load."""
    machine.promoted(1)
    move = machine.deployed(2)
    if percent:
        machine.split(move, percent)
    with under_load(machine, rate=rate) as load:
        time.sleep(2)
        killed = machine.kill(2, how)
        seen = machine.until(lambda one: bool(one.fault) and dict(one.traffic) == {1: 100})
        told = time.time()
        if how is signal.SIGSTOP:
            machine.kill(2, signal.SIGCONT)
        machine.target.set_split(move, percent, machine.means)  # somebody who does not know yet
        time.sleep(6)
        after = machine.status()
    faulted = machine.faulted_at()
    late = load.between(told, time.time())
    return {
        "percent": percent,
        "signal": how.name,
        "requests": len(load.answers),
        "failed": failed(load.answers),
        "slowest_ms": round(max(one.milliseconds for one in load.answers), 1),
        "split_0_after_s": None if faulted is None else round(faulted - killed, 3),
        "told_after_s": round(told - killed, 3),
        "answers_of_the_dead_version_afterwards": sum(one.version == 2 for one in late),  # noqa: PLR2004
        "regained": dict(after.traffic) != {1: 100},
        "fault": seen.fault,
    }


def rolling_back(machine: Machine, times: int) -> dict[str, Any]:
    """From a split of 50% back to the old version, again and again."""
    machine.promoted(1)
    seconds, good = [], 0
    for _ in range(times):
        move = machine.deployed(2)
        machine.split(move, 50)
        begun = time.perf_counter()
        machine.rolled_back(1)
        seconds.append(time.perf_counter() - begun)
        good += dict(machine.status().traffic) == {1: 100}
    seconds.sort()
    return {
        "times": times,
        "succeeded": good,
        "p50_s": round(statistics.median(seconds), 3),
        "p95_s": round(seconds[int(0.95 * (len(seconds) - 1))], 3),
        "longest_s": round(seconds[-1], 3),
    }


# --- What it came to -------------------------------------------------------------------------------------------------


def missed(found: dict[str, Any]) -> list[str]:
    """Goals that were not reached."""
    problems = []
    shift = found["shifting"]
    if shift["failed"]:
        problems.append(f"{shift['failed']} requests failed while traffic shifted")
    for percent in STEPS:
        phase = shift["phases"][f"{percent}%"]
        if not abs(phase["percent"][2] - percent) <= SPLIT_POINTS:
            problems.append(f"{phase['percent'][2]}% reached the new version, not {percent}%")
        if phase["users_on_two_sides"]:
            problems.append(f"{phase['users_on_two_sides']} users changed sides at {percent}%")
    for kill in found["kills"]:
        where = f"{kill['signal']} at {kill['percent']}%"
        if kill["failed"]:
            problems.append(f"{where}: {kill['failed']} requests failed")
        if kill["split_0_after_s"] is None or kill["split_0_after_s"] > SPLIT_0_S:
            problems.append(f"{where}: split 0 after {kill['split_0_after_s']} s")
        if kill["regained"] or kill["answers_of_the_dead_version_afterwards"]:
            problems.append(f"{where}: the version got traffic again")
    back = found["rollback"]
    if back["succeeded"] != back["times"]:
        problems.append(f"{back['times'] - back['succeeded']} rollbacks did not succeed")
    return problems


def print_tables(found: dict[str, Any]) -> None:
    """For people."""
    print(f"{'phase':28}{'requests':>9}{'failed':>8}{'v1 %':>8}{'v2 %':>8}{'v3 %':>8}{'two sides':>11}{'p95 ms':>8}")
    for name, one in found["shifting"]["phases"].items():
        percents = "".join(f"{one['percent'][version]:8.2f}" for version in VERSIONS)
        sides = f"{one['users_on_two_sides']:11}" if "%" in name else f"{'':11}"
        print(f"{name:28}{one['requests']:9}{one['failed']:8}{percents}{sides}{one['p95_ms'] or 0:8.2f}")
    print(f"{'all of it':28}{found['shifting']['requests']:9}{found['shifting']['failed']:8}\n")
    print(f"{'new server dies':28}{'requests':>9}{'failed':>8}{'split 0 after s':>17}{'slowest ms':>12}")
    for one in found["kills"]:
        name = f"{one['signal']} at {one['percent']}%"
        print(
            f"{name:28}{one['requests']:9}{one['failed']:8}{one['split_0_after_s'] or 0:17.2f}{one['slowest_ms']:12.1f}"
        )
    back = found["rollback"]
    print(f"\nrollbacks: {back['succeeded']} of {back['times']}, p50 {back['p50_s']} s, p95 {back['p95_s']} s")


def drill(options: argparse.Namespace) -> dict[str, Any]:
    """All drills, one after the other."""
    folder = Path(tempfile.mkdtemp(prefix="ml-lifecycle-drills-"))
    try:
        with home_up() as home:
            machine = Machine(home, folder)
            found: dict[str, Any] = {
                "shifting": shifting(machine, seconds=options.seconds, rate=options.rate),
                "kills": [killing(machine, percent, rate=options.rate) for percent in (0, *STEPS)],
            }
            found["kills"].append(killing(machine, 50, rate=options.rate, how=signal.SIGSTOP))
            found["rollback"] = rolling_back(machine, options.rollbacks)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def main() -> int:
    """Drill, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="that each phase is watched (default: 40)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (default: 200)")
    parser.add_argument("--rollbacks", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--output", type=Path, default=RESULT, help=f"default: {RESULT.relative_to(REPOSITORY)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    found = drill(options)
    problems = missed(found)
    found |= {
        "missed": problems,
        "rate": options.rate,
        "seconds": options.seconds,
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
    }
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print_tables(found)
    for one in problems:
        print(f"missed: {one}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
