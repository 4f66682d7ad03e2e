"""Every error this package raises on purpose: what is wrong, where, and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LifecycleError(Exception):
    """Something is wrong that a person has to mend; trying again cannot help.

    :param what: What is wrong, naming the value.
    :param where: Its place: a file with line and column, a table, a URL, a key path.
    :param way_out: What to do instead, as an imperative.
    """

    def __init__(self, what: str, *, where: str = "", way_out: str = "") -> None:
        self.what, self.where, self.way_out = what, where, way_out
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.way_out}" if self.way_out else text


class PassingError(LifecycleError):
    """Something that may be gone at the next try: a service that does not answer, a file still on its way."""


# --- What was asked for does not exist -------------------------------------------------------------------------------


class UnknownBackendError(LifecycleError):
    """The configuration names a tool that no backend is called by."""

    def __init__(self, concern: str, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"no {concern} backend is called {name!r}",
            way_out=f"installed are {', '.join(sorted(known))}{did_you_mean(name, known)}",
        )


class UnknownMetricError(LifecycleError):
    """A metric is called by a name that none has, or is of no use for what the model predicts."""

    def __init__(self, name: str, known: Iterable[str], *, task: str) -> None:
        super().__init__(
            f"{name!r} is not a metric of a {task} model",
            way_out=f"known are {', '.join(sorted(known))}{did_you_mean(name, known)}",
        )


class CallableNotFoundError(LifecycleError):
    """The configuration names a function or class that cannot be imported, or that the deployment does not allow."""


class MissingLibraryError(LifecycleError):
    """A stage needs an extra that is not installed in this environment."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"the library {library!r} is not installed in this environment",
            way_out=f"pip install 'airflow-provider-ml-lifecycle[{extra}]'",
        )


class PipelineError(LifecycleError):
    """A pipeline file says something that it may not; :attr:`mistakes` holds all of them, one line each."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class RequestError(LifecycleError):
    """A run was asked for something that its pipeline does not offer."""


class ConfigurationError(LifecycleError):
    """The deployment's options or connections do not say what a stage needs."""


# --- Data ------------------------------------------------------------------------------------------------------------


class DataError(LifecycleError):
    """The data cannot be used as it is."""


class PartitionMissingError(DataError):
    """A partition that a run needs is not there."""


class PartitionUnreadableError(DataError):
    """A partition is there but is empty, truncated, or not of the format that its name promises."""


class ColumnError(DataError):
    """A column is missing, renamed, or of another type than the pipeline declares."""


class NoRowsError(DataError):
    """No row is left to work on."""


class LabelsMissingError(DataError):
    """The target is missing where a stage cannot do without it, or holds one class only."""


class DataRejectedError(DataError):
    """The expectation suite failed, and the pipeline says that this blocks.

    :param report_uri: Where the published report says what failed.
    """

    def __init__(self, what: str, *, where: str = "", way_out: str = "", report_uri: str = "") -> None:
        self.report_uri = report_uri
        super().__init__(what, where=where, way_out=way_out)


class SuiteError(LifecycleError):
    """An expectation suite cannot be run: an unknown expectation, a misspelt argument, a check that broke."""


# --- Models and evidence ---------------------------------------------------------------------------------------------


class TrainingError(LifecycleError):
    """The estimator refused its hyperparameters or its data."""


class DigestMismatchError(LifecycleError):
    """Bytes are not what their digest says."""

    def __init__(self, what: str, *, expected: str, found: str, where: str = "", way_out: str = "") -> None:
        self.expected, self.found = expected, found
        super().__init__(f"{what} has digest {found[:12]}, expected {expected[:12]}", where=where, way_out=way_out)


class UntrustedModelError(LifecycleError):
    """A model package holds a format or types that this deployment does not load."""


class ChampionError(LifecycleError):
    """The champion, or a version that a rule names, cannot be read or scored, so nothing can be compared with it."""


class EvidenceError(LifecycleError):
    """A stage was handed a result that no stage wrote into the ledger."""


class SignatureError(LifecycleError):
    """What is signed was not signed by whom it should be, or does not hold."""


# --- The ledger ------------------------------------------------------------------------------------------------------


class LedgerError(LifecycleError):
    """The ledger refuses what was asked of it."""


class StaleEpochError(LedgerError):
    """Another move was made since this one was decided."""


class RollbackOutdatedError(StaleEpochError):
    """The champion that was to be rolled back serves no longer."""


class ApprovalRefusedError(LedgerError):
    """This person's answer does not count; somebody else's may."""


class NoDecisionError(LedgerError):
    """No valid decision stands for exactly this digest, environment and policy."""


class TargetRefusedError(LifecycleError):
    """This environment may not touch a deployment target: it is a sandbox, or another environment owns the place."""


class RollbackNotReadyError(LifecycleError):
    """A rehearsal showed that a rollback would not work, or would take too long."""


class InvariantError(LifecycleError):
    """What the ledger, the registry and the target say does not fit together, and no program can mend it."""


# --- Services --------------------------------------------------------------------------------------------------------


class ServiceUnavailableError(PassingError):
    """A service did not answer within its deadline."""


class StillSettlingError(PassingError):
    """A deployment target is on its way to what was asked of it."""


class TargetFaultError(LifecycleError):
    """A deployment target found that what it was asked for does not work, and does not send it any traffic."""


class NotProvenError(LifecycleError):
    """Traffic is not given to a version whose step before did not pass."""


class ServiceRefusedError(LifecycleError):
    """A service answered that it will not do what was asked."""


# --- Serving ---------------------------------------------------------------------------------------------------------


class InvocationError(RequestError):
    """A model server cannot read what it was asked.

    :param status: Of HTTP, 400 to 499.
    """

    def __init__(self, what: str, *, where: str = "", way_out: str = "", status: int = 400) -> None:
        self.status = status
        super().__init__(what, where=where, way_out=way_out)


class ModelAnswerError(LifecycleError):
    """A model failed on a request that it should be able to answer."""


class OverloadedError(PassingError):
    """A model server has as many requests waiting as it takes."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest known name, or nothing: ``", did you mean 'alias'?"``."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f", did you mean {near[0]!r}?" if near else ""
