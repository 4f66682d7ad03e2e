"""What a home's model servers are like, for whoever looks at the machine."""

from __future__ import annotations

from contextlib import suppress

from ml_lifecycle.backends.serving_home.control import STANDING
from ml_lifecycle.backends.serving_home.home import Home
from ml_lifecycle.backends.serving_home.reading import serving
from ml_lifecycle.core.contracts import Contract
from ml_lifecycle.core.errors import ServiceUnavailableError


class ProcessReport(Contract):
    """One process that the supervisor looks after."""

    name: str
    state: str
    pid: int


class ModelReport(Contract):
    """One model's servers."""

    model: str
    environment: str
    epoch: int
    traffic: dict[int, int]
    """Percent by version."""
    ready: tuple[int, ...]
    settled: bool
    fault: str
    detail: str


class HomeReport(Contract):
    """Everything in a home."""

    home: str
    up: bool
    address: str = ""
    """Where models answer, below their names."""
    processes: tuple[ProcessReport, ...] = ()
    models: tuple[ModelReport, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether everything runs, and nothing went wrong."""
        running = {one.name for one in self.processes if one.state == "RUNNING"}
        return self.up and running >= set(STANDING) and not any(one.fault for one in self.models)


def report(home: Home) -> HomeReport:
    """Look at everything in a home; what is down is told, and never raised."""
    with suppress(ServiceUnavailableError):
        settings = home.settings()
        processes = tuple(
            ProcessReport(name=name, state=one.state, pid=one.pid)
            for name, one in sorted(home.supervisor.processes().items())
        )
        return HomeReport(
            home=str(home.folder),
            up=True,
            address=f"http://{settings.bind}:{settings.port}",
            processes=processes,
            models=tuple(_models(home)),
        )
    return HomeReport(home=str(home.folder), up=False)


def _models(home: Home) -> list[ModelReport]:
    found = []
    for state in home.states():
        seen = serving(home, state.model)
        found.append(
            ModelReport(
                model=state.model,
                environment=seen.environment,
                epoch=seen.epoch,
                traffic=dict(seen.traffic),
                ready=seen.ready,
                settled=seen.settled,
                fault=seen.fault,
                detail=seen.detail,
            )
        )
    return found
