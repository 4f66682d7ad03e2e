"""``ml-lifecycle asks`` and ``decide``: an approver's answer from outside Airflow, signed on a machine of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.ledgers import add_ledger, opened
from ml_lifecycle.commands.output import CODES, DONE, FAILED, counted, print_json, publish_text
from ml_lifecycle.core.errors import LedgerError, RequestError, SignatureError

if TYPE_CHECKING:
    from ml_lifecycle.backends.ledger.base import Asked, Ledger
    from ml_lifecycle.core.answers import OpenAsk
    from ml_lifecycle.core.contracts import Contract

MOST_BYTES = 256 * 1024
"""Of a file that is read."""

_STEPS = f"""\
three steps, of which only the first and the last need the ledger:
  ml-lifecycle asks --ledger URL --environment prod --ask 3f9a2c1b --output ask.json
  ml-lifecycle decide ask.json approve --name ada --key ada.pem --output answer.json
  ml-lifecycle decide --submit answer.json --ledger URL --environment prod --keys keys.json

exit codes: 0 done, 1 the answer does not count, {CODES}
"""


def add_parser(subparsers: Any) -> None:
    """Add both commands' options."""
    _add_asks(subparsers)
    _add_decide(subparsers)


def _add_asks(subparsers: Any) -> None:
    text = "list the questions that wait for an answer, or write one into a file to answer it elsewhere"
    parser = subparsers.add_parser("asks", help=text, description=f"{text[0].upper()}{text[1:]}.")
    add_ledger(parser)
    _add_environment(parser)
    parser.add_argument("--model", help="only those about this model")
    parser.add_argument("--ask", default="", metavar="ID", help="only this one; its first digits are enough")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the one question into this file")
    parser.add_argument("--json", action="store_true", help="print all of their content as JSON")
    parser.set_defaults(command=asks)


def _add_decide(subparsers: Any) -> None:
    text = "answer a question from outside Airflow, under a signature"
    parser = subparsers.add_parser(
        "decide",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ask", nargs="?", type=Path, metavar="ASK.json", help="what `asks --output` wrote")
    parser.add_argument("outcome", nargs="?", choices=("approve", "reject"), help="the answer")
    parser.add_argument("--name", help="your user name, as Airflow shows it")
    parser.add_argument("--key", type=Path, metavar="FILE", help="your private key")
    parser.add_argument("--reason", default="", help="why; a rejection needs one")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="for the signed answer")
    parser.add_argument("--submit", type=Path, metavar="ANSWER.json", help="write a signed answer into the ledger")
    parser.add_argument("--keys", type=Path, metavar="KEYS.json", help="public keys of those who may answer")
    add_ledger(parser, required=False)
    _add_environment(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=decide)


def _add_environment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--environment", metavar="NAME", default="dev", help="whose questions (default: dev)")


# --- What waits for an answer ----------------------------------------------------------------------------------------


def asks(options: argparse.Namespace) -> int:
    """Print the open questions, or write the one that is named into a file."""
    ledger = opened(options.ledger)
    found = [one for one in open_asks(ledger, options.environment, options.model) if one.ask_id.startswith(options.ask)]
    if options.output is not None:
        publish_text(_only(found).model_dump_json(indent=2) + "\n", options.output)
    elif options.json:
        print_json({"asks": [one.to_xcom() for one in found]})
    else:
        for one in found:
            print(_line(one))
        print(f"{counted(len(found), 'open question')} in {options.environment}")
    return DONE


def open_asks(ledger: Ledger, environment: str, model: str | None) -> Iterator[OpenAsk]:
    """Every question that waits for an answer, model by model.

    :param model: Only those about this one.
    """
    for name in ledger.models(environment):
        if model in (None, name):
            for ask in ledger.open_asks(name, environment):
                asked = ledger.asked(ask.ask_id)
                if asked is not None:
                    yield _exported(asked)


def _exported(asked: Asked) -> OpenAsk:
    from ml_lifecycle.core.answers import OpenAsk

    return OpenAsk(
        ask_id=asked.ask.ask_id,
        ask=asked.ask,
        asked_at=asked.at,
        expires_at=asked.expires_at,
        requested_by=asked.requested_by,
        excluded=tuple(asked.excluded),
    )


def _only(found: list[OpenAsk]) -> OpenAsk:
    if len(found) == 1:
        return found[0]
    shown = ", ".join(one.ask_id[:12] for one in found[:10])
    raise RequestError(
        f"{len(found) or 'no'} open questions match" + (f": {shown}" if shown else ""),
        where="--ask",
        way_out="name one by the first digits of its id; `ml-lifecycle asks` lists them",
    )


def _line(one: OpenAsk) -> str:
    ask = one.ask
    until = f", until {one.expires_at:%Y-%m-%d %H:%M} UTC" if one.expires_at is not None else ""
    who = ", ".join(ask.terms.approvers) or "anyone"
    what = f"version {ask.version}" if ask.kind == "model" else "a dataset"
    return (
        f"{one.ask_id[:12]}  {ask.model} {what} ({ask.digest[:8]}) for {ask.environment}, "
        f"gate {ask.gate_verdict.value}; {ask.terms.count} of {who}{until}"
    )


# --- Signing, without the ledger -------------------------------------------------------------------------------------


def decide(options: argparse.Namespace) -> int:
    """Sign an answer, or submit a signed one."""
    step = _submit if options.submit is not None else _sign
    try:
        return step(options)
    except (SignatureError, LedgerError) as refused:
        print(f"ml-lifecycle decide: {refused}", file=sys.stderr)
        return FAILED


def _sign(options: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from ml_lifecycle.backends.signing.answers import sign_answer
    from ml_lifecycle.backends.signing.keys import read_signing_key
    from ml_lifecycle.core.answers import answer_to, objection
    from ml_lifecycle.core.contracts import first_mistake

    _refuse_missing(options, "ask", "outcome", "name", "key", "output")
    question = read_ask(options.ask)
    now = datetime.now(timezone.utc)
    try:
        answer = answer_to(
            question, outcome=options.outcome, person=options.name, reason=options.reason.strip(), at=now
        )
    except ValidationError as error:
        raise RequestError(
            f"this cannot be signed ({first_mistake(error)})", way_out="shorten the name or reason"
        ) from None
    if why := objection(answer, now):
        raise SignatureError(why, where=str(options.ask), way_out="export the question again, or give a reason")
    publish_text(sign_answer(answer, read_signing_key(options.key)), options.output)
    print(f"{_line(question)}\n{options.outcome} by {options.name}, signed: {options.output}")
    return DONE


def read_ask(path: Path) -> OpenAsk:
    """A question that :func:`asks` wrote into a file.

    :raises RequestError: the file holds none, or one whose id is not its content's.
    """
    from pydantic import ValidationError

    from ml_lifecycle.backends.signing.keys import parse_json, read_text
    from ml_lifecycle.core.answers import OpenAsk
    from ml_lifecycle.core.contracts import first_mistake

    content = parse_json(read_text(path, most=MOST_BYTES), where=str(path))
    try:
        found = OpenAsk.model_validate(content)
    except ValidationError as error:
        raise RequestError(
            f"this is no question ({first_mistake(error)})",
            where=str(path),
            way_out="export it with `ml-lifecycle asks`",
        ) from None
    if found.ask.ask_id != found.ask_id:
        raise RequestError(
            "the question was changed: its id is another one's", where=str(path), way_out="export it again"
        )
    return found


# --- Into the ledger -------------------------------------------------------------------------------------------------


def _submit(options: argparse.Namespace) -> int:
    from ml_lifecycle.backends.signing.answers import submit
    from ml_lifecycle.backends.signing.keys import read_keys, read_text

    _refuse_missing(options, "ledger", "keys")
    decision = submit(
        read_text(options.submit, most=MOST_BYTES),
        keys=read_keys(options.keys),
        ledger=opened(options.ledger),
        environment=options.environment,
        at=datetime.now(timezone.utc),
    )
    if options.json:
        print_json({"decision": _plain(decision)})
    elif decision is None:
        print("the answer counts; others have to answer, too")
    else:
        print(f"the answer counts; decided: {decision.outcome} by {decision.decided_by}")
    return DONE


def _refuse_missing(options: argparse.Namespace, *names: str) -> None:
    missing = [name if name in ("ask", "outcome") else f"--{name}" for name in names if getattr(options, name) is None]
    if missing:
        raise RequestError(f"missing: {', '.join(missing)}", way_out="see --help for the steps")


def _plain(value: Contract | None) -> Any:
    return value.to_xcom() if value is not None else None
