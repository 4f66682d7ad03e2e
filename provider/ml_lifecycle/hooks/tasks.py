"""Between a task and its stage: plain JSON in, clear errors out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow.sdk import XComArg
from airflow.sdk.exceptions import AirflowFailException
from pydantic import ValidationError

from ml_lifecycle.core.contracts import Contract
from ml_lifecycle.core.errors import ConfigurationError, LifecycleError, PassingError

Job = TypeVar("Job", bound=Contract)
Handed = dict[str, Any] | XComArg
"""What another task returned: its ``output``, which is plain JSON by the time the task runs."""


@contextmanager
def plain_errors(log: Any) -> Iterator[None]:
    """Turn an error that a person has to mend into one clear line and a failure that is not retried.

    What may pass is told in one line as well, and left to the task's retries.
    """
    try:
        yield
    except PassingError as error:
        log.warning("%s. This may pass: the task is tried again while it has retries left", error)
        # The text says it all; the library's own chain of errors would bury it.
        raise error from None
    except LifecycleError as error:
        text = str(error)
        log.error(text)  # noqa: TRY400  # the text says what, where and the way out; a traceback would bury it
        raise AirflowFailException(text) from None


def parse(kind: type[Job], values: Handed | Mapping[str, Any], *, task_id: str) -> Job:
    """A job out of plain JSON values.

    :raises ConfigurationError: a value is missing or is not what the job takes; all of them are named.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in mistake['loc']) or kind.__name__}: {mistake['msg']}"
            for mistake in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError(
            mistakes, where=f"task {task_id!r}", way_out="correct the operator's arguments"
        ) from None
