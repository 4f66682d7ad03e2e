"""``ml-lifecycle verify``: whether a signed file holds, without any server."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.audit import read_export
from ml_lifecycle.commands.output import CODES, DONE, FAILED, print_json
from ml_lifecycle.core.errors import DataError, LedgerError, RequestError, SignatureError

if TYPE_CHECKING:
    from ml_lifecycle.core.provenance import Statement

MOST_BYTES = 8 * 1024 * 1024
"""Of a signed file."""

_EXAMPLES = f"""\
what a release published, and the answer of an approver:
  ml-lifecycle verify 7.dsse.json --key release.pub --model downloaded/ --data snapshot/ --audit audit.jsonl
  ml-lifecycle verify answer.json --keys keys.json

exit codes: 0 everything that was looked at holds, 1 something does not, {CODES}
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    """What holds if there is no problem, in a sentence."""
    problems: tuple[str, ...] = ()


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "say whether a release's statement or a signed answer holds, without any server"
    parser = subparsers.add_parser(
        "verify",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a release's .dsse.json, or a signed answer")
    parser.add_argument("--key", type=Path, metavar="PUB", help="of a statement: public keys that may have signed it")
    parser.add_argument("--keys", type=Path, metavar="KEYS.json", help="of an answer: public keys by user name")
    parser.add_argument("--environment", help="which environment it has to be about")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="the model package, to hold against the statement")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the dataset, to hold against the statement")
    parser.add_argument("--audit", type=Path, metavar="JSONL", help="what `audit export` wrote, to hold it against")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=verify)


def verify(options: argparse.Namespace) -> int:
    """Print what holds and what does not."""
    checks: list[Check] = []
    try:
        for check in _checks(options):
            checks.append(check)  # noqa: PERF402  # those that were made before an error are shown
    except SignatureError as error:
        checks.append(Check("it is signed by whom it should be, and as it was signed", (error.what,)))
    holds = not any(check.problems for check in checks)
    if options.json:
        print_json({"file": str(options.file), "holds": holds, "checks": [asdict(check) for check in checks]})
    else:
        for line in _lines(checks):
            print(line)
        print(f"{options.file} {'holds' if holds else 'does not hold'}")
    return DONE if holds else FAILED


def _lines(checks: list[Check]) -> Iterator[str]:
    for check in checks:
        yield f"{'no' if check.problems else 'ok'}: {check.what}"
        for problem in check.problems:
            yield f"    {problem}"


def _checks(options: argparse.Namespace) -> Iterator[Check]:
    from ml_lifecycle.backends.signing.dsse import payload_type_of
    from ml_lifecycle.backends.signing.keys import read_text
    from ml_lifecycle.core.answers import ANSWER_TYPE
    from ml_lifecycle.core.provenance import PAYLOAD_TYPE

    envelope = read_text(options.file, most=MOST_BYTES)
    kind = payload_type_of(envelope, where=str(options.file))
    if kind == ANSWER_TYPE:
        yield from _checks_of_answer(envelope, options)
    elif kind == PAYLOAD_TYPE:
        yield from _checks_of_statement(envelope, options)
    else:
        raise RequestError(
            f"it holds {kind[:80]!r}", where=str(options.file), way_out="hand in a release's statement or an answer"
        )


# --- An answer -------------------------------------------------------------------------------------------------------


def _checks_of_answer(envelope: str, options: argparse.Namespace) -> Iterator[Check]:
    from ml_lifecycle.backends.signing.answers import read_answer
    from ml_lifecycle.backends.signing.keys import read_keys
    from ml_lifecycle.core.answers import objection

    _refuse_idle(options, "an answer", "key", "model", "data", "audit")
    if options.keys is None:
        raise RequestError(
            "it is a signed answer, and --keys is missing", where=str(options.file), way_out="see --help"
        )
    answer = read_answer(envelope, read_keys(options.keys), where=str(options.file)).answer
    yield Check(f"{answer.person} signed it")
    ask = answer.ask
    why = objection(answer, datetime.now(timezone.utc))
    what = f"version {ask.version}" if ask.kind == "model" else "dataset"
    said = f"{answer.outcome} to {ask.model} {what} ({ask.digest[:8]}) for {ask.environment}, epoch {ask.epoch}"
    yield Check(f"{said}, at {answer.at.isoformat()}", (why,) if why else ())
    yield from _check_of_environment(ask.environment, options)


# --- A statement -----------------------------------------------------------------------------------------------------


def _checks_of_statement(envelope: str, options: argparse.Namespace) -> Iterator[Check]:
    from ml_lifecycle.backends.signing.dsse import unseal
    from ml_lifecycle.backends.signing.keys import read_public_keys
    from ml_lifecycle.core.provenance import PAYLOAD_TYPE, contradictions

    _refuse_idle(options, "a release's statement", "keys")
    if options.key is None:
        raise RequestError(
            "it is a release's statement, and --key is missing", where=str(options.file), way_out="see --help"
        )
    keys = read_public_keys(options.key)
    payload, _ = unseal(envelope, PAYLOAD_TYPE, keys, where=str(options.file))
    yield Check(f"it was signed by a key of {options.key}")
    told = _statement(payload, str(options.file))
    move, decision = told.predicate.move, told.predicate.decision
    approved = ", ".join(vote.person for vote in decision.votes if vote.outcome == "approve")
    yield Check(
        f"{move.model} version {move.version} became champion of {move.environment} at epoch {move.epoch} "
        f"({move.at.isoformat()}), approved by {approved}",
        contradictions(told),
    )
    yield from _check_of_environment(move.environment, options)
    if options.model is not None:
        yield _check_of_bytes(told, options.model)
    if options.data is not None:
        yield _check_of_data(told, options.data)
    if options.audit is not None:
        yield _check_of_audit(told, options.audit)


def _statement(payload: bytes, where: str) -> Statement:
    from pydantic import ValidationError

    from ml_lifecycle.backends.signing.keys import parse_json
    from ml_lifecycle.core.contracts import first_mistake
    from ml_lifecycle.core.provenance import Statement

    try:
        return Statement.model_validate(parse_json(payload, where=where))
    except ValidationError as error:
        raise RequestError(
            f"this is no statement about a release ({first_mistake(error)})",
            where=where,
            way_out="hand in what a release published below provenance/",
        ) from None


def _check_of_bytes(told: Statement, folder: Path) -> Check:
    from ml_lifecycle.backends.files import manifest_of
    from ml_lifecycle.core.contracts import digest_of
    from ml_lifecycle.core.provenance import differences_of_bytes

    what = f"the bytes below {folder} are those that were released"
    _refuse_absent(folder)
    try:
        files = manifest_of(folder)
    except DataError as error:
        return Check(what, (error.what,))
    return Check(what, differences_of_bytes(told, digest_of(files), files))


def _check_of_data(told: Statement, folder: Path) -> Check:
    from ml_lifecycle.backends.files import digest_of_folder

    what, said = f"the data below {folder} is what it was trained on", told.predicate.data.fingerprint
    _refuse_absent(folder)
    try:
        found = digest_of_folder(folder)
    except DataError as error:
        return Check(what, (error.what,))
    return Check(what, () if found == said else (f"its fingerprint is {found[:12]}, not {said[:12]}",))


def _check_of_audit(told: Statement, path: Path) -> Check:
    from ml_lifecycle.backends.ledger import chain
    from ml_lifecycle.core.provenance import differences_of_audit

    what = f"{path} says the same of question, answers, decision and move, and its chain is whole"
    rows = read_export(path).rows.get(told.predicate.move.model, [])
    try:
        checked = list(chain.checked(rows))
    except LedgerError as error:
        return Check(what, (str(error),))
    return Check(what, differences_of_audit(told, checked))


def _check_of_environment(environment: str, options: argparse.Namespace) -> Iterator[Check]:
    if options.environment is not None:
        problem = () if environment == options.environment else (f"it is about {environment}",)
        yield Check(f"it is about {options.environment}", problem)


def _refuse_idle(options: argparse.Namespace, what: str, *names: str) -> None:
    idle = [f"--{name}" for name in names if getattr(options, name) is not None]
    if idle:
        raise RequestError(f"{', '.join(idle)} says nothing about {what}", way_out="leave it out")


def _refuse_absent(folder: Path) -> None:
    if not folder.is_dir():
        raise RequestError("there is no such folder", where=str(folder), way_out="check the path")
