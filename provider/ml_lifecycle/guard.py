"""Answers to our questions, one at a time: between Airflow's API server and whoever answers in Required Actions.

Airflow says 200 to each of several contradictory answers and hands the resumed task the last one. The guard lets an
answer through to Airflow only within the ledger's transaction that writes it, so that of many answers one is taken, and
whoever gave another one is told why.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, Protocol, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ml_lifecycle.backends.ledger.base import Asked, Ledger
from ml_lifecycle.core.approval import approve_label, is_form_of, option_means
from ml_lifecycle.core.contracts import Posting, Vote
from ml_lifecycle.core.errors import ApprovalRefusedError

PARKED = "awaiting_input"
"""Airflow's state of a task that waits for a person."""
SETTLED_AFTER = timedelta(seconds=5)
"""Airflow's scheduler fails a task that is resumed before it has seen that the task was parked, and keeps no record of
having seen it: an answer that comes earlier is held back until then."""
MOST_BYTES = 64 * 1024
"""An answer is an option and a reason."""
AT_ONCE = 8
"""Answers that are judged at the same time, each in a thread of its own; more wait without one."""
FORWARD_S = 30.0
"""How long Airflow has to take an answer, while the ledger's other writers wait."""
PAGE_STATUS = 432
"""Of a refusal to a browser. Airflow's page shows what a refusal says only where it has no word of its own for the
status; of a 403, a 409 and a 503 it says that, and no more. RFC 9110, 15: whoever does not know a 4xx takes it for a
400."""

_ANSWER = re.compile(r"(?s).*/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/([^/]+)/([^/]+)/hitlDetails/?$")
# `$` as the router has it, which also takes a line's end: whatever reaches Airflow's own function is seen here.
_SHOWN = re.compile(r"Approve [0-9a-f]{8}")
_NUMBER = TypeAdapter(int)
_EARLIER_QUESTION = (
    "The form shows an earlier question about the same bytes, which were judged anew since, or are asked about under "
    "other terms. Trigger the run again to get a fresh form."
)

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Which task a request answers."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True)
class Task:
    """A task as Airflow's database knows it."""

    ti_id: str
    """Of its present try."""
    state: str | None
    since: datetime | None
    """When its state was written last."""
    options: tuple[str, ...] = ()
    """What its form offers; empty where it has none."""
    body: str = ""
    """What its form says: of a task that was cleared, still what it said first."""


class Server(Protocol):
    """What the guard asks of the API server that it stands in."""

    def environment(self) -> str:
        """The environment of this deployment, which may share its ledger with others."""

    def ledger(self) -> Ledger:
        """The ledger of this deployment."""

    def forget_ledger(self) -> None:
        """Look the ledger up anew at the next use."""

    def models_of(self, dag_id: str) -> frozenset[str]:
        """The models that a DAG is tagged with."""

    def task(self, place: Place) -> Task | None:
        """The task as it stands."""

    async def person(self, scope: Scope, dag_id: str) -> str:
        """User name of whoever asks.

        :raises HTTPException: nobody is signed in, or that person may not answer in this DAG.
        """


def answered_at(scope: Scope) -> Place | None:
    """The task that a request answers, or ``None`` where it is any other request."""
    if scope["type"] != "http" or scope["method"] != "PATCH":
        return None
    found = _ANSWER.match(scope["path"])
    if found is None:
        return None
    dag_id, run_id, task_id, index = found.groups()
    try:
        # As Airflow reads it, to which "-1", " -1" and "-1.0" are one task.
        return Place(dag_id, run_id, task_id, _NUMBER.validate_python(index))
    except ValidationError:
        return None


class AnswerGuard:
    """ASGI middleware that judges every answer to a question of ours, and touches no other request."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app = app
        self.server = server
        self._threads = anyio.Semaphore(AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or hand it on."""
        place = answered_at(scope)
        if place is None:
            await self.app(scope, receive, send)
            return
        try:
            posting = await self._in_thread(lambda: self._posting(place))
            answer: ASGIApp | None = None if posting is None else await self._judge(posting, place, scope, receive)
        except HTTPException as refusal:
            answer = _told(scope, refusal)
        except Exception:
            log.exception("An answer to %s/%s/%s could not be judged", *place[:3])
            answer = _told(scope, _unjudged())
        await (answer or self.app)(scope, receive, send)

    # --- Whose question it is ----------------------------------------------------------------------------------------

    def _posting(self, place: Place) -> Posting | None:
        """The question that the task shows; ``None`` where it is none of ours.

        :raises _Refusal: it is one of ours, and the ledger does not say which.
        """
        try:
            posting = self.server.ledger().posting_at(self.server.environment(), *place)
        except Exception:
            self.server.forget_ledger()
            if not self.server.models_of(place.dag_id):
                return None
            log.exception("The ledger could not be asked about %s/%s/%s", *place[:3])
            raise _unjudged() from None
        if posting is None and self._shows_ours(place):
            self.server.forget_ledger()
            raise _Refusal(
                503,
                "This API server's ledger does not hold the question, so the answer was not taken. Ask whoever runs "
                "Airflow whether its API server and its workers use the same connection for the ledger.",
            )
        return posting

    def _shows_ours(self, place: Place) -> bool:
        task = self.server.task(place)
        shown = task is not None and any(_SHOWN.fullmatch(option) for option in task.options)
        return shown and bool(self.server.models_of(place.dag_id))

    # --- What becomes of an answer -----------------------------------------------------------------------------------

    async def _judge(self, posting: Posting, place: Place, scope: Scope, receive: Receive) -> ASGIApp:
        """What is answered: Airflow's own words where it took the answer or refused it itself."""
        person = await self.server.person(scope, place.dag_id)
        body = await _body(receive)
        option, reason = _chosen(body)
        try:
            task = await self._settled(posting, place)
        except _Refusal as refusal:
            why = str(refusal.detail)
            await self._in_thread(lambda: self._note(posting, person, why))
            raise
        vote = await self._in_thread(lambda: self._vote(posting, task, person, option, reason))

        async def forward() -> _Reply:
            reply = _Reply()
            with anyio.fail_after(FORWARD_S):
                await self.app(scope, _replayed(body, receive), reply.keep)
            return reply

        return await self._in_thread(lambda: self._carry(vote, forward))

    async def _settled(self, posting: Posting, place: Place) -> Task:
        """The task, once an answer can be given without Airflow failing it for that.

        :raises _Refusal: the task is not waiting for this answer.
        """
        waited_since: datetime | None = None
        while True:
            task = await self._in_thread(lambda: self.server.task(place))
            if task is None or task.state != PARKED or task.ti_id != posting.ti_id:
                raise _Refusal(
                    409, "The question is being put or was answered; look at the task and try again in a few seconds."
                )
            rest = _rest(task.since)
            # Once is enough, however far the clock of whoever parked it is ahead.
            if rest <= 0 or task.since == waited_since:
                return task
            waited_since = task.since
            await anyio.sleep(rest)

    def _note(self, posting: Posting, person: str, why: str) -> None:
        """Write into the audit that an answer came when none was waited for."""
        self.server.ledger().refuse(posting.ask_id, person=person, why=why, at=datetime.now(timezone.utc))

    def _vote(self, posting: Posting, task: Task, person: str, option: str, reason: str) -> Vote:
        ledger = self.server.ledger()
        asked = ledger.asked(posting.ask_id)
        if asked is None:
            raise _unjudged()
        at = datetime.now(timezone.utc)
        outcome = option_means(option, asked.ask.digest)
        # A rejection of what was asked before stops what is asked now, too; without a form Airflow takes no answer.
        is_stale = outcome == "approve" and task.options and not is_form_of(posting.ask_id, task.body)
        if outcome is None or is_stale:
            why = _EARLIER_QUESTION if is_stale else _another_question(option, asked)
            ledger.refuse(posting.ask_id, person=person, why=why, at=at)
            raise _Refusal(409, why)
        return Vote(
            ask_id=posting.ask_id,
            outcome=outcome,
            person=person,
            channel="airflow",
            posting=posting.number,
            reason=reason,
            at=at,
        )

    def _carry(self, vote: Vote, forward: Callable[[], Coroutine[Any, Any, _Reply]]) -> ASGIApp:
        """Write the vote if Airflow takes the answer; called in a thread.

        Where this process ends between Airflow's yes and the ledger's commit, the resumed task finds no vote: to it an
        approval then is one that came past the guard, which releases nothing.
        """
        ledger = self.server.ledger()
        reply: _Reply | None = None

        def send_on() -> None:
            nonlocal reply
            # The ledger may begin its transaction anew; Airflow takes the answer once.
            reply = reply or anyio.from_thread.run(forward)
            if not reply.is_yes:
                raise _NotTakenError

        try:
            ledger.vote(vote, forward=send_on)
        except _NotTakenError:
            pass
        except ApprovalRefusedError as refused:
            raise _Refusal(_status(ledger, vote), refused.what) from None
        except Exception:
            self.server.forget_ledger()
            log.exception("The answer of %s could not be recorded", vote.person)
            raise _unjudged(taken=reply is not None and reply.is_yes) from None
        if reply is None:
            raise _Refusal(409, "This answer is in the ledger already.")
        return reply.replay

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Databases block: never in the event loop, and never in the threads that Airflow's own routes need."""
        async with self._threads:
            return await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))


class _Refusal(HTTPException):
    """The guard's own no, with a sentence for whoever answered."""


class _NotTakenError(Exception):
    """Airflow did not take the answer; undoes the ledger's transaction."""


@dataclass
class _Reply:
    """Airflow's reply, held back until the ledger has committed."""

    messages: list[Message] = field(default_factory=list)

    async def keep(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def is_yes(self) -> bool:
        return bool(self.messages) and self.messages[0].get("status") in range(200, 300)

    async def replay(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        for message in self.messages:
            await send(message)


async def _body(receive: Receive) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refusal(400, "The request ended early.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            raise _Refusal(413, f"An answer has at most {MOST_BYTES:,} bytes; write a shorter reason.")
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The request's body once more, unchanged; after it whatever still comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _chosen(body: bytes) -> tuple[str, str]:
    """The option and the reason.

    :raises _Refusal: the request does not say exactly one option, or holds more than text.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise _Refusal(400, "The answer is not valid JSON.") from None
    options = answer.get("chosen_options") if isinstance(answer, Mapping) else None
    if not isinstance(options, list) or len(options) != 1 or not isinstance(options[0], str):
        raise _Refusal(422, "Choose exactly one option.")
    form = answer.get("params_input", {})
    if not isinstance(form, Mapping) or not all(value is None or _is_text(value) for value in form.values()):
        raise _Refusal(422, "The fields of the form hold plain text.")
    if not _is_text(options[0]):
        raise _Refusal(422, "Choose an option that the form shows.")
    return options[0], form.get("reason") or ""


def _is_text(value: object) -> bool:
    """Whether every database can keep it: half a surrogate pair is no UTF-8, and PostgreSQL takes no NUL."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _rest(since: datetime | None) -> float:
    """Seconds until a task that was parked then counts as settled; never more than the whole time."""
    if since is None:
        return 0.0
    past = datetime.now(timezone.utc) - since
    return min(SETTLED_AFTER - past, SETTLED_AFTER).total_seconds()


def _another_question(option: str, asked: Asked) -> str:
    return (
        f"The form shows another question: it said {option[:80]!r}, and what is asked is "
        f"{approve_label(asked.ask.digest)!r}. Trigger the release again to get a fresh form."
    )


def _status(ledger: Ledger, vote: Vote) -> int:
    """409 where nobody's answer is taken any more, 403 where this person's is not."""
    asked = ledger.asked(vote.ask_id)
    if asked is None or asked.superseded or asked.blocked or ledger.decision(vote.ask_id) is not None:
        return 409
    if asked.expires_at is not None and vote.at > asked.expires_at:
        return 409
    return 409 if any(other.posting == vote.posting for other in ledger.votes(vote.ask_id)) else 403


def _unjudged(*, taken: bool = False) -> _Refusal:
    then = "Airflow goes on without it, and an approval that the ledger does not hold releases nothing" if taken else ""
    return _Refusal(
        503,
        "The answer could not be written into the ledger, so it does not count. "
        f"{then or 'Try again later'}; the API server's log says why.",
    )


def _told(scope: Scope, refusal: HTTPException) -> ASGIApp:
    """The refusal in the form that its reader shows: a browser comes with a cookie, a program with a token."""
    by_page = not any(name == b"authorization" for name, _ in scope["headers"])
    status = PAGE_STATUS if by_page and isinstance(refusal, _Refusal) else refusal.status_code
    return JSONResponse({"detail": refusal.detail}, status, headers=refusal.headers)
