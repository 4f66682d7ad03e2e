"""``ml-lifecycle audit``: take the ledger's audit away, and say later whether a row of it was changed or cut off."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.ledgers import add_ledger, opened
from ml_lifecycle.commands.output import CODES, DONE, FAILED, print_json, publish_text
from ml_lifecycle.core.errors import DataError, LedgerError, PassingError, RequestError

if TYPE_CHECKING:
    from ml_lifecycle.backends.ledger.base import Ledger
    from ml_lifecycle.backends.ledger.chain import Head

_EXPORTED = "hand in what `audit export` wrote"
_HEAD = re.compile(r"([^=]+)=([1-9][0-9]*):([0-9a-f]{64})")
_EPILOG = f"""\
keep an export, or the heads that verify prints, where whoever may write to the ledger's database may not:
  ml-lifecycle audit export --ledger URL -o monday.jsonl
  ml-lifecycle audit verify monday.jsonl
  ml-lifecycle audit verify --ledger URL --against monday.jsonl

exit codes: 0 whole, 1 a row was changed, removed, put in or cut off, {CODES}
"""


@dataclass
class Bundle:
    """An audit by model, as it was read."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Rows and digest of the newest, by the closing lines."""


@dataclass(frozen=True)
class Finding:
    """What is known of one model's audit."""

    model: str
    rows: int
    head: str
    """Number and digest of the newest row, in the form that ``--head`` takes; empty where there is none."""
    problem: str = ""


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "export the ledger's audit, or say whether one is whole"
    options = {"epilog": _EPILOG, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = subparsers.add_parser("audit", help=text, description=f"{text[0].upper()}{text[1:]}.", **options)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="audit")
    export = commands.add_parser("export", help="write it out, one JSON object a line", **options)
    add_ledger(export)
    export.add_argument("--model", help="only this model's")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="left out: to standard output")
    export.set_defaults(command=_export)
    check = commands.add_parser("verify", help="recompute every digest", **options)
    check.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what export wrote; no ledger is needed")
    add_ledger(check, required=False, text="the ledger itself, each row of every table held against its audit")
    check.add_argument("--model", help="only this model's")
    check.add_argument(
        "--against", type=Path, metavar="FILE", help="an earlier export, of which nothing may be missing"
    )
    check.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="MODEL=SEQ:DIGEST",
        help="a row that was the newest once, as verify printed it; may be repeated",
    )
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    check.set_defaults(command=_verify)


# --- Out -------------------------------------------------------------------------------------------------------------


def _export(options: argparse.Namespace) -> int:
    text = "".join(f"{json.dumps(line)}\n" for line in _lines(opened(options.ledger), options.model))
    if options.output is None:
        print(text, end="")
    else:
        publish_text(text, options.output)
    return DONE


def _lines(ledger: Ledger, model: str | None) -> Iterator[Mapping[str, Any]]:
    """All rows of a model, then a line that closes it, model after model."""
    from itertools import groupby

    from ml_lifecycle.backends.ledger.chain import exported

    audit = ledger.audit(model)
    _refuse_unknown(model, {row["model"] for row in audit})
    for name, rows in groupby(audit, key=lambda row: row["model"]):
        last: Mapping[str, Any] = {}
        for row in rows:
            yield exported(row)
            last = row
        yield {"closes": name, "rows": last["seq"], "head": last["digest"]}


def _refuse_unknown(model: str | None, known: set[str]) -> None:
    if model is not None and model not in known:
        there = ", ".join(sorted(known))
        raise RequestError(
            f"there is no audit of {model}", where="--model", way_out=f"there is one of {there}" if there else "check"
        )


# --- Whole or not ----------------------------------------------------------------------------------------------------


def _verify(options: argparse.Namespace) -> int:
    if (options.file is None) == (options.ledger is None):
        raise RequestError("one of FILE and --ledger is needed", way_out="name exactly one")
    kept = _kept(options)
    if options.file is not None:
        bundle, ledger = read_export(options.file), None
    else:
        ledger = opened(options.ledger)
        bundle = _of_ledger(ledger)
    models = sorted({*bundle.rows, *bundle.heads, *(name for name, _ in kept)})
    if options.model is not None:
        _refuse_unknown(options.model, set(models))
        models = [options.model]
    findings = [_finding(model, bundle, [head for name, head in kept if name == model], ledger) for model in models]
    _print(options, findings)
    return FAILED if any(one.problem for one in findings) else DONE


def _kept(options: argparse.Namespace) -> list[tuple[str, Head]]:
    """Model and newest row of what was kept from before."""
    from ml_lifecycle.backends.ledger.chain import Head

    kept = []
    for text in options.head:
        found = _HEAD.fullmatch(text)
        if found is None:
            raise RequestError(f"{text!r} names no row", where="--head", way_out="write MODEL=SEQ:DIGEST")
        kept.append((found[1], Head(int(found[2]), found[3])))
    if options.against is not None:
        earlier = read_export(options.against)
        for model in sorted({*earlier.rows, *earlier.heads}):
            one = _finding(model, earlier, [], None)
            if one.problem:
                raise DataError(one.problem, where=str(options.against), way_out="compare with an export that is whole")
            kept.append((model, Head(one.rows, earlier.rows[model][-1]["digest"])))
    return kept


def _finding(model: str, bundle: Bundle, kept: list[Head], ledger: Ledger | None) -> Finding:
    from ml_lifecycle.backends.ledger import chain

    rows = bundle.rows.get(model, [])
    head = f"{model}={rows[-1]['seq']}:{rows[-1]['digest']}" if rows else ""
    digests = {row["seq"]: row["digest"] for row in rows}
    try:
        for _ in chain.checked(rows):
            pass
        if ledger is not None:
            ledger.verify_audit(model)
    except PassingError:
        raise
    except LedgerError as error:
        return Finding(model, len(rows), head, str(error))
    problems = [_unclosed(model, bundle)] if ledger is None else []
    problems += [chain.cut_off(model, one, digests) for one in kept]
    return Finding(model, len(rows), head, next(filter(None, problems), ""))


def _unclosed(model: str, bundle: Bundle) -> str:
    rows = bundle.rows.get(model, [])
    closing = bundle.heads.get(model)
    if closing is None:
        return f"the line that closes the audit of {model} is missing: its end was cut off"
    if not rows or closing != (len(rows), rows[-1]["digest"]):
        return f"the audit of {model} does not end with row {closing[0]}, as its closing line says"
    return ""


def _of_ledger(ledger: Ledger) -> Bundle:
    from ml_lifecycle.backends.ledger.chain import exported

    bundle = Bundle()
    for row in ledger.audit():
        bundle.rows.setdefault(row["model"], []).append(exported(row))
    return bundle


def read_export(path: Path) -> Bundle:
    """What ``audit export`` wrote, its form checked and nothing else.

    :raises RequestError: the file holds something else.
    """
    bundle = Bundle()
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                _take(bundle, line, where=f"{path}:{number}")
    except OSError as error:
        raise RequestError(f"it cannot be read ({error.strerror})", where=str(path), way_out="check the path") from None
    except UnicodeDecodeError:
        raise RequestError("it is no text", where=str(path), way_out=_EXPORTED) from None
    if not bundle.rows and not bundle.heads:
        raise RequestError("it holds no audit", where=str(path), way_out=_EXPORTED)
    return bundle


def _take(bundle: Bundle, line: str, *, where: str) -> None:
    from ml_lifecycle.backends.ledger.chain import COLUMNS
    from ml_lifecycle.backends.signing.keys import parse_json

    found = parse_json(line, where=where)
    names = set(found) if isinstance(found, dict) else set()
    if names == set(COLUMNS) and isinstance(found["model"], str) and type(found["seq"]) is int:
        bundle.rows.setdefault(found["model"], []).append(found)
    elif names == {"closes", "rows", "head"} and found["closes"] not in bundle.heads:
        bundle.heads[str(found["closes"])] = (found["rows"], found["head"])
    else:
        raise RequestError("this is neither a row of an audit nor its end", where=where, way_out=_EXPORTED)


def _print(options: argparse.Namespace, findings: list[Finding]) -> None:
    if options.json:
        print_json({"whole": not any(one.problem for one in findings), "models": [asdict(one) for one in findings]})
        return
    for one in findings:
        said = f"tampered with: {one.problem}" if one.problem else f"{one.rows} rows, {one.head}"
        print(f"{one.model}: {said}")
