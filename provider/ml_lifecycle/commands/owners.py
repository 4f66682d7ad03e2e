"""``ml-lifecycle owners``: who answers for each model, and which models nobody answers for."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.ledgers import add_ledger, opened, places
from ml_lifecycle.commands.output import CODES, DONE, FAILED, counted, print_json
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from ml_lifecycle.pipeline.spec import Pipeline

_DESCRIBES_A_MODEL = re.compile(r"^model\s*:", re.MULTILINE)


@dataclass(frozen=True)
class Owned:
    """One model, and who answers for it."""

    model: str
    owner: str = ""
    contact: str = ""
    risk: str = ""
    file: str = ""
    champions: Mapping[str, int] = field(default_factory=dict)
    """The version that serves, by environment; empty where none does, or no ledger was looked at."""
    orphaned: str = ""
    """Why nobody answers for it; empty where somebody does."""


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "list who answers for each model, and the models that nobody answers for"
    parser = subparsers.add_parser(
        "owners",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"exit codes: 0 somebody answers for every model, 1 there are orphans, {CODES}",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folder that holds pipeline files")
    add_ledger(parser, required=False, text="also look for champions whose pipeline file is gone")
    parser.add_argument(
        "--environment", metavar="NAME", help="only champions of this environment (default: of all that the ledger has)"
    )
    parser.add_argument("--known", type=Path, metavar="FILE", help="the owners that there are, one a line")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=owners)


def owners(options: argparse.Namespace) -> int:
    """Print every model with its owner; 1 where there are orphans."""
    pipelines = read_folders(options.folders)
    champions = _champions(options.ledger, options.environment) if options.ledger else {}
    known = _known_owners(options.known) if options.known else None
    found = tuple(owned(pipelines, champions, known))
    if options.json:
        print_json({"models": [asdict(one) for one in found]})
    else:
        for one in found:
            print(_line(one))
        orphans = sum(bool(one.orphaned) for one in found)
        print(f"{counted(len(found), 'model')}, {counted(orphans, 'orphan')}")
    return FAILED if any(one.orphaned for one in found) else DONE


def owned(
    pipelines: Mapping[str, Pipeline], champions: Mapping[str, Mapping[str, int]], known: frozenset[str] | None
) -> Iterator[Owned]:
    """Every model by name: those that a file describes, and those that serve without one.

    :param pipelines: By the file that describes it.
    :param champions: The versions that serve, by model and environment.
    :param known: The owners that there are; ``None``: every owner counts.
    """
    described = {pipeline.model: (file, pipeline) for file, pipeline in pipelines.items()}
    for model in sorted({*described, *champions}):
        serving = champions.get(model, {})
        if model not in described:
            yield Owned(model, champions=serving, orphaned=f"{_serving(serving)}, but no file describes it")
            continue
        file, pipeline = described[model]
        stranger = known is not None and pipeline.owner not in known
        yield Owned(
            model,
            owner=pipeline.owner,
            contact=pipeline.contact,
            risk=pipeline.risk,
            file=file,
            champions=serving,
            orphaned=f"its owner {pipeline.owner!r} is not among the known ones" if stranger else "",
        )


def read_folders(folders: Iterable[Path]) -> dict[str, Pipeline]:
    """The pipelines below some folders, by file; other YAML files are passed over.

    :raises RequestError: a folder is not there.
    :raises PipelineError: with every mistake of every pipeline file.
    """
    from ml_lifecycle.core.errors import PipelineError
    from ml_lifecycle.pipeline.loader import read_documents

    documents = read_documents(sorted({file for folder in folders for file in _pipeline_files(folder)}))
    mistakes = [str(mistake) for document in documents for mistake in document.mistakes]
    if mistakes:
        raise PipelineError(mistakes)
    return {document.file: document.pipeline for document in documents if document.pipeline is not None}


def _pipeline_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise RequestError("there is no such folder", where=str(folder), way_out="name the folder of the DAG files")
    for file in (*folder.rglob("*.yaml"), *folder.rglob("*.yml")):
        # A pipeline that lacks its first line still has a DAG file beside it.
        if file.with_suffix(".py").is_file() or _DESCRIBES_A_MODEL.search(file.read_text("utf-8", errors="replace")):
            yield file


def _champions(url: str, environment: str | None) -> dict[str, dict[str, int]]:
    ledger = opened(url)
    found: dict[str, dict[str, int]] = {}
    for model, place in places(ledger, environment=environment):
        head = ledger.head(model, place)
        if head is not None:
            found.setdefault(model, {})[place] = head.version
    return found


def _known_owners(file: Path) -> frozenset[str]:
    """One owner a line; what follows a ``#`` is a comment."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"it cannot be read ({type(error).__name__})", where=str(file), way_out="name a text file of owners"
        ) from None
    return frozenset(name for line in lines if (name := line.partition("#")[0].strip()))


def _line(one: Owned) -> str:
    serves = f", {_serving(one.champions)}" if one.champions else ""
    who = f"{one.owner} <{one.contact}>, risk {one.risk}{serves}" if one.owner else "nobody"
    return f"{one.model}: {who}" + (f"; ORPHAN: {one.orphaned}" if one.orphaned else "")


def _serving(champions: Mapping[str, int]) -> str:
    return ", ".join(f"version {version} serves in {place}" for place, version in champions.items())
