"""Telling people that a question waits for them or that something failed, by the deployment's notifiers.

Whatever goes wrong with a notifier is logged and goes no further: the question stands, and so does its deadline.
"""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timezone
from importlib import import_module
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import quote

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowFailException

from ml_lifecycle.core import approval
from ml_lifecycle.core.errors import LifecycleError
from ml_lifecycle.hooks.settings import SECTION, read_settings

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.notifier import BaseNotifier

    from ml_lifecycle.backends.ledger.base import Asked
    from ml_lifecycle.core.contracts import Posting

PATIENCE_S = 10.0
"""How long the notifiers of one question may take together; they run on behind it, and are waited for no more."""

_CALLS: Final = re.compile(r"<(?=[!@#]|[A-Za-z][\w+.-]*:)")
"""Where chats such as Slack begin a mention or a link."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """What a notifier's templates find under ``ml_lifecycle``."""

    event: Literal["posed", "escalated", "failed", "alert"]
    """``failed`` and ``alert`` ask nothing: what only a question has is empty there."""
    subject: str
    """What it is about in one line."""
    message: str
    """All of it in a few lines of plain text."""
    model: str
    environment: str
    url: str
    """Where the question is answered, or where to look."""
    contact: str
    """Where people reach the model's team."""
    owner: str = ""
    """The model's team, where something failed."""
    kind: str = ""
    version: int = 0
    digest: str = ""
    approvers: tuple[str, ...] = ()
    """Who may answer at this moment; empty for anyone who may edit the run."""
    count: int = 0
    evidence: tuple[str, ...] = ()
    """Reports that an alert stands on: addresses, or places below the data root where a browser finds none."""
    runbook: str = ""
    """Where people read what to do."""
    prepared: str = ""
    """What can be done at once, by a DAG's name and what to hand it."""


def notify_posed(
    context: Context, asked: Asked, posting: Posting, *, subject: str, contact: str = "", notifiers: Sequence[Any] = ()
) -> None:
    """Tell the approvers that a question waits.

    :param notifiers: Beside those of ``[ml_lifecycle] notifiers``.
    """
    people = asked.ask.terms.approvers
    _tell(context, _notice("posed", asked, posting, people, subject=subject, contact=contact), notifiers)


def notify_escalated(context: Context, asked: Asked, posting: Posting) -> None:
    """Tell the second list of people that the question waits for them too."""
    subject = f"{approval.named(asked.ask)} in {asked.ask.environment} waits for an answer"
    people = asked.ask.terms.escalate_to
    _tell(context, _notice("escalated", asked, posting, people, subject=subject, contact=""), ())


def alert_owner(
    context: Context,
    *,
    model: str,
    contact: str,
    event: Literal["failed", "alert"] = "failed",
    what: str = "",
    evidence: Sequence[str] = (),
    runbook: str = "",
    prepared: str = "",
) -> None:
    """Tell a model's team that a task failed for good, or that monitoring found something.

    Airflow calls it as the ``on_failure_callback`` of every task of a pipeline's DAGs.

    :param what: What happened; left out, what the task failed with.
    :param evidence: Reports that it stands on.
    :param runbook: Where people read what to do.
    :param prepared: What can be done at once.
    """
    task, place = context["task"], f"{context['dag'].dag_id}.{context['task'].task_id}"
    subject = f"{place} failed" if event == "failed" else f"{place} alerts"
    url = _task_address(context["dag"].dag_id, context["run_id"], context["task"].task_id, context["ti"].map_index)
    lines = [subject, _calling_nobody(what or _reason(context.get("exception")))]
    lines += [f"What you can do: {prepared}"] if prepared else []
    lines += [f"Runbook: {runbook}"] if runbook else []
    lines += [f"Evidence: {report}" for report in evidence]
    lines += [f"Look here: {url}"] if url else []
    lines += [f"The model's team: {task.owner}, {contact}"]
    notice = Notice(
        event=event,
        subject=subject,
        message="\n".join(lines),
        model=model,
        environment=read_settings().environment,
        url=url,
        contact=contact,
        owner=task.owner,
        evidence=tuple(evidence),
        runbook=runbook,
        prepared=prepared,
    )
    _tell(context, notice, ())


def _calling_nobody(text: str) -> str:
    """A name or a value of data in a text must not call a whole channel, nor pass for a link, where chats read it."""
    return _CALLS.sub("< ", text)


def _reason(error: object) -> str:
    """What a task failed with; a text that is not ours may hold anything, secrets among it."""
    if isinstance(error, AirflowFailException | LifecycleError):
        return str(error)
    return f"{type(error).__name__}: the task's log says more" if error else "the task's log says why"


def question_address(posting: Posting) -> str:
    """Where a browser finds the question; an empty text where the deployment does not say its own address."""
    task = _task_address(posting.dag_id, posting.run_id, posting.task_id, posting.map_index)
    return f"{task}/required_actions" if task else ""


def _task_address(dag_id: str, run_id: str, task_id: str, map_index: int | None) -> str:
    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    dag, run, task = (quote(part, safe="") for part in (dag_id, run_id, task_id))
    mapped = f"/mapped/{map_index}" if map_index is not None and map_index >= 0 else ""
    return f"{base}/dags/{dag}/runs/{run}/tasks/{task}{mapped}" if base else ""


def _notice(
    event: Literal["posed", "escalated"],
    asked: Asked,
    posting: Posting,
    people: Sequence[str],
    *,
    subject: str,
    contact: str,
) -> Notice:
    ask, url = asked.ask, question_address(posting)
    who = ", ".join(people) or "anyone who may edit the run"
    lines = [subject, f"Who may answer{' too' if event == 'escalated' else ''}: {who}"]
    lines += [f"It takes {ask.terms.count} different people"] if ask.terms.count > 1 else []
    lines += (
        [f"Answer before {asked.expires_at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"] if asked.expires_at else []
    )
    lines += [f"Answer here: {url}"] if url else []
    lines += [f"The model's team: {contact}"] if contact else []
    return Notice(
        event=event,
        subject=subject,
        message="\n".join(lines),
        kind=ask.kind,
        model=ask.model,
        version=ask.version,
        digest=approval.short(ask.digest),
        environment=ask.environment,
        url=url,
        approvers=tuple(people),
        count=ask.terms.count,
        contact=contact,
    )


# --- Sending ---------------------------------------------------------------------------------------------------------


def _tell(context: Context, notice: Notice, more: Sequence[Any]) -> None:
    threads = [
        Thread(target=_send, args=(notifier, context, notice), daemon=True, name=_name(notifier))
        for notifier in (*_configured(), *more)
    ]
    for thread in threads:
        thread.start()
    until = monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(until - monotonic(), 0))
        if thread.is_alive():
            _log.warning("%s takes longer than %g s; nothing waits for it any longer", thread.name, PATIENCE_S)


def _send(notifier: BaseNotifier, context: Context, notice: Notice) -> None:
    try:
        # Rendering writes into the notifier and the context: neither is the caller's.
        own = cast("Context", {**context, "ml_lifecycle": asdict(notice)})
        copy.copy(notifier)(own)
    except BaseException as error:  # noqa: BLE001  # nothing that a notifier raises may reach the question
        _log.warning("%s could not tell anybody: %s: %s", _name(notifier), type(error).__name__, error)


def _configured() -> list[BaseNotifier]:
    """Those that the deployment names and that can be made; what cannot is logged."""
    text = read_settings().notifiers
    try:
        named = json.loads(text or "[]")
    except ValueError as error:
        _log.warning("[%s] notifiers is not JSON (%s): nobody is told", SECTION, error)
        return []
    return [made for one in (named if isinstance(named, list) else [named]) if (made := _made(one)) is not None]


def _made(one: Any) -> BaseNotifier | None:
    try:
        return _notifier(one)
    except Exception as error:  # noqa: BLE001  # a notifier's own code
        _log.warning("[%s] notifiers: %s: %s; it tells nobody", SECTION, type(error).__name__, error)
        return None


def _notifier(one: Any) -> BaseNotifier:
    from airflow.sdk.bases.notifier import BaseNotifier

    if not isinstance(one, Mapping) or not isinstance(one.get("class"), str):
        raise TypeError('each is written as {"class": "package.module.Notifier", "kwargs": {...}}')
    module, _, name = one["class"].rpartition(".")
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, BaseNotifier)):
        raise TypeError(f"{one['class']} is no notifier of Airflow")
    return kind(**one.get("kwargs", {}))


def _name(notifier: object) -> str:
    return type(notifier).__name__
