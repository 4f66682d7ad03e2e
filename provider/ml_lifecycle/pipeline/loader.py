"""Reads a pipeline file strictly, and says of every mistake where it is and what to write instead.

Plain words are read as YAML 1.2 reads them: ``true``, ``false``, ``null`` and numbers are what they look like, and
everything else is text. Where YAML 1.1 would read a number or a truth value out of the same letters (``no``, ``1:30``,
``010``), a place that takes any type asks for quotes instead of guessing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ml_lifecycle.core.deployment import DEFAULT_TARGET
from ml_lifecycle.core.errors import LifecycleError, PipelineError, UnknownBackendError, did_you_mean
from ml_lifecycle.pipeline.spec import Ambiguous, GateSection, Loc, Pipeline, Section, Sections, disagreements

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
MAX_NODES = 10_000
"""Keys and values; far more would hold up Airflow's DAG processor for minutes."""

_YAML_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_AMBIGUOUS = re.compile(
    r"y|Y|n|N|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"
    r"|[-+]?0[0-9]+|[-+]?0b[01_]+|[-+]?0x[0-9a-fA-F_]*_[0-9a-fA-F_]*"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?|[-+]?[0-9]*\.[0-9_]*_[0-9_]*"
)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNSEEN = "\t\n\r\u200d\u00a0\u3000"
"""Characters that are no mischief though they cannot be seen: white space, and what joins emojis."""
_MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Mistake:
    """One thing to mend in one file; lines and columns count from 1."""

    file: str
    line: int
    column: int
    path: str
    """Key path such as ``evaluation.gate[1].metric``; empty where the whole file is meant."""
    what: str
    way_out: str

    def __str__(self) -> str:
        what = f"{self.what}; {self.way_out}" if self.way_out else self.what
        return ": ".join(filter(None, (f"{self.file}:{self.line}:{self.column}", self.path, what)))


@dataclass
class Node:
    """A piece of the file and where it starts; exactly one of its contents is set."""

    line: int
    column: int
    scalar: Any = None
    entries: dict[str, tuple[Node, Node]] | None = None
    """Key and value by the key's text."""
    items: list[Node] | None = None

    def plain(self) -> Any:
        """The piece as plain values."""
        if self.entries is not None:
            return {key: value.plain() for key, (_, value) in self.entries.items()}
        if self.items is not None:
            return tuple(item.plain() for item in self.items)
        return self.scalar

    def child(self, part: str | int) -> tuple[Node, Node] | None:
        """Where a part is named, and the part itself."""
        if self.entries is not None:
            return self.entries.get(part) if isinstance(part, str) else None
        if self.items is not None and isinstance(part, int) and part < len(self.items):
            return self.items[part], self.items[part]
        return None


@dataclass
class Document:
    """A file as it was read, with its mistakes in the order of their places."""

    file: str
    root: Node = field(default_factory=lambda: Node(1, 1))
    mistakes: list[Mistake] = field(default_factory=list)
    pipeline: Pipeline | None = None
    """``None`` where there are mistakes."""
    _places: set[tuple[int, int, str]] = field(default_factory=set)

    def add(self, loc: Loc, what: str, way_out: str, *, at_key: bool = False) -> None:
        """Note a mistake at the deepest piece of ``loc`` that the file has."""
        node = self.root
        for part in loc:
            found = node.child(part)
            if found is None:
                break
            node = found[0] if at_key and part == loc[-1] else found[1]
        self.add_at(node.line, node.column, path_of(loc), what, way_out)

    def add_at(self, line: int, column: int, path: str, what: str, way_out: str) -> None:
        """Note a mistake at a place; of two that are found in the same one, the first says why."""
        if (line, column, path) not in self._places:
            self._places.add((line, column, path))
            self.mistakes.append(Mistake(self.file, line, column, path, what, way_out))

    def is_wrong(self, loc: Loc) -> bool:
        """Whether a mistake is known of this place, or of one below it."""
        path = path_of(loc)
        return any(one.path == path or one.path.startswith((f"{path}.", f"{path}[")) for one in self.mistakes)

    def finish(self) -> Document:
        """Sort the mistakes by place."""
        self.mistakes.sort(key=lambda mistake: (mistake.line, mistake.column))
        return self


class _StopReadingError(Exception):
    """The rest of the file cannot be read."""


def read_pipeline(path: Path) -> Pipeline:
    """The checked pipeline of one file. Looks at nothing but the file: :mod:`.lint` checks what it names.

    :raises PipelineError: with all mistakes of the file.
    """
    document = read_document(Path(path))
    if document.pipeline is None:
        raise PipelineError(str(mistake) for mistake in document.mistakes)
    return document.pipeline


def read_pipelines(paths: Iterable[Path]) -> tuple[Pipeline, ...]:
    """The checked pipelines of several files, no two of the same model.

    :raises PipelineError: with all mistakes of all files.
    """
    documents = read_documents(paths)
    mistakes = [str(mistake) for document in documents for mistake in document.mistakes]
    if mistakes:
        raise PipelineError(mistakes)
    return tuple(document.pipeline for document in documents if document.pipeline)


def read_documents(paths: Iterable[Path]) -> tuple[Document, ...]:
    """Several files with their mistakes; a model described twice is one."""
    documents = tuple(read_document(Path(path)) for path in paths)
    seen: dict[str, str] = {}
    for document in documents:
        if document.pipeline is None:
            continue
        model = document.pipeline.model
        other = seen.setdefault(model, document.file)
        if other != document.file:
            document.add(
                ("model",), f"{model!r} is described by {other} already", "give each model one file and one name"
            )
    return documents


def read_document(path: Path) -> Document:
    """One file with all its mistakes."""
    document = read_tree(path)
    if document.root.entries is not None:
        _validate(document)
    return document.finish()


def read_tree(path: Path) -> Document:
    """One file as it is written, whatever it is about; its root has entries where it could be read."""
    document = Document(str(path))
    with suppress(_StopReadingError):
        document.root = _read_tree(_read_text(path, document), document)
    return document


def path_of(loc: Loc) -> str:
    """A place as people write it: ``evaluation.gate[1].metric``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


# --- Bytes to a tree -------------------------------------------------------------------------------------------------


def _read_text(path: Path, document: Document) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        _stop(document, 1, 1, f"cannot be read ({reason})", "check the path and its permissions")
    if len(content) > MAX_BYTES:
        _stop(document, 1, 1, f"is larger than {MAX_BYTES} bytes", "a pipeline file is a page; was another file meant?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        byte = f"byte 0x{content[error.start]:02x} is not UTF-8"
        _stop(document, *_place(before), byte, "save the file in the encoding UTF-8")
    found = _UNPRINTABLE.search(text)
    if found:
        letter = f"the character U+{ord(found[0]):04X} cannot be seen"
        _stop(document, *_place(text[: found.start()]), letter, "remove it")
    return text


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _stop(document: Document, line: int, column: int, what: str, way_out: str) -> NoReturn:
    document.add_at(line, column, "", what, way_out)
    raise _StopReadingError


def _read_tree(text: str, document: Document) -> Node:
    events = yaml.parse(text, Loader=_YAML_LOADER)
    try:
        root = _TreeReader(document, events).root()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        _stop(document, line, column, *_syntax(error))
    if root is None or (root.entries is None and root.items is None and root.scalar is None):
        _stop(document, 1, 1, "is empty", "start with the lines model, owner and contact")
    if root.entries is None:
        way_out = "write `key: value` lines, starting with model, owner and contact"
        _stop(document, root.line, root.column, "is not a mapping of keys to values", way_out)
    return root


def _syntax(error: yaml.YAMLError) -> tuple[str, str]:
    problem = str(getattr(error, "problem", None) or error)
    if "\\t" in problem or "tab" in problem.split():
        return "a tab stands where YAML wants spaces", "indent with spaces"
    if "mapping values are not allowed" in problem:
        return "a second ': ' stands in one line", "put the text in quotes, or start a new line"
    if "could not find expected ':'" in problem:
        return "a key without ': '", "write `key: value`"
    if "undefined alias" in problem:
        return "an alias (*name) is not accepted here", "write the value out"
    if "did not find expected" in problem or "expected <block end>" in problem or "expected ',' or" in problem:
        return f"this does not fit what stands before it ({problem})", "check indentation, brackets and quotes"
    return f"is not YAML here ({problem})", "check quotes, brackets and indentation"


class _TreeReader:
    """Turns parse events into nodes, and notes what YAML offers and a pipeline file does not."""

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self.document = document
        self.events = events
        self.nodes = 0

    def end(self) -> None:
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.refuse(event, "", "a second document starts here", "keep one model per file")
                raise _StopReadingError

    def root(self) -> Node | None:
        root = None
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                root = self.node(event, ())
                self.end()
        return root

    def refuse(self, event: Any, path: str, what: str, way_out: str) -> None:
        mark = event.start_mark
        self.document.add_at(mark.line + 1, mark.column + 1, path, what, way_out)

    def node(self, event: Any, loc: Loc) -> Node:
        path = path_of(loc)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.refuse(
                event, path, f"is beyond the first {MAX_NODES:,} keys and values", "a pipeline file is a page; split it"
            )
            raise _StopReadingError
        if len(loc) > MAX_DEPTH:
            self.refuse(
                event, path, f"is nested deeper than {MAX_DEPTH} levels", "a pipeline file is flat; check brackets"
            )
            raise _StopReadingError
        node = Node(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent):
            self.refuse(event, path, f"the alias *{event.anchor} is not accepted", "write the value out")
            return node
        if event.anchor is not None:
            self.refuse(event, path, f"the anchor &{event.anchor} is not accepted", "remove it, and write values out")
        if event.tag is not None:
            self.refuse(event, path, f"the tag {event.tag} is not accepted", "remove it, and write a plain value")
        if isinstance(event, yaml.MappingStartEvent):
            node.entries = self.entries(loc)
        elif isinstance(event, yaml.SequenceStartEvent):
            node.items = [
                self.node(item, (*loc, index)) for index, item in enumerate(self.until(yaml.SequenceEndEvent))
            ]
        else:
            node.scalar = self.scalar(event, path)
        return node

    def until(self, end: type) -> Iterator[Any]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield event

    def entries(self, loc: Loc) -> dict[str, tuple[Node, Node]]:
        entries: dict[str, tuple[Node, Node]] = {}
        for event in self.until(yaml.MappingEndEvent):
            key = self.node(event, (*loc, "?"))
            name = event.value if isinstance(event, yaml.ScalarEvent) else None
            value = self.node(next(self.events), (*loc, name if name is not None else "?"))
            if name is None:
                self.refuse(event, path_of(loc), "a key is not a word", "write `key: value`")
            elif name in entries:
                first = entries[name][0]
                what = f"the key {name!r} is written twice, first in line {first.line}"
                self.refuse(event, path_of((*loc, name)), what, "keep one of them")
            else:
                entries[name] = (key, value)
        return entries

    def scalar(self, event: Any, path: str) -> Any:
        text: str = event.value
        hidden = next((letter for letter in text if not letter.isprintable() and letter not in _UNSEEN), None)
        if hidden is not None:
            self.refuse(event, path, f"the character U+{ord(hidden):04X} cannot be seen", "remove it")
        if not event.implicit[0]:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _NOT_FINITE.fullmatch(text):
            self.refuse(event, path, f"{text} is not a number to count with", "write a finite number")
            return None
        if _AMBIGUOUS.fullmatch(text):
            return Ambiguous(text)
        return self.number(event, text, path)

    def number(self, event: Any, text: str, path: str) -> Any:
        if _INTEGER.fullmatch(text) or _BASED.fullmatch(text):
            if len(text) <= 30 and abs(int(text, 0)) <= _MAX_INTEGER:  # noqa: PLR2004  # any longer is too large
                return int(text, 0)
        elif not _FLOAT.fullmatch(text):
            return text
        elif math.isfinite(float(text)):
            return float(text)
        self.refuse(event, path, f"{text[:30]} is too large a number", "write a smaller one, or put it in quotes")
        return None


# --- A tree to a pipeline --------------------------------------------------------------------------------------------


def _validate(document: Document) -> None:
    values = document.root.plain()
    try:
        pipeline = Pipeline.model_validate(values)
    except ValidationError as error:
        translate(document, error, Pipeline)
        sections = _readable_sections(values)
    else:
        sections = Sections.of(pipeline)
        document.pipeline = pipeline
    wrong = [
        one
        for one in disagreements(sections)
        if not (document.is_wrong(one.loc) or (one.against and document.is_wrong(one.against)))
    ]
    for one in wrong:
        document.add(one.loc, one.what, one.way_out)
    _check_target(document, values)
    if document.mistakes:
        document.pipeline = None


def _check_target(document: Document, values: Mapping[str, Any]) -> None:
    from ml_lifecycle.backends.deployment import target_from

    options = values.get("deployment", dict(DEFAULT_TARGET))
    if not isinstance(options, dict):
        return
    if not isinstance(options.get("backend"), str):
        what = "must be text" if "backend" in options else "is missing"
        document.add(("deployment", "backend"), what, "write backend: alias")
        return
    try:
        target_from(options)
    except UnknownBackendError as error:
        document.add(("deployment", "backend"), error.what, error.way_out)
    except LifecycleError as error:
        # One sentence for each option, which starts with the option's name.
        for mistake in error.what.split("; "):
            name, colon, what = mistake.partition(": ")
            about_option = bool(colon) and name in options
            loc = ("deployment", name) if about_option else ("deployment",)
            document.add(loc, what if about_option else mistake, error.way_out, at_key=about_option)


def _readable_sections(values: dict[str, Any]) -> Sections:
    """What can be read of a file with mistakes, so that its sections' disagreements are found in the same go."""
    sections: dict[str, Any] = {}
    for name in ("data", "validation", "training", "evaluation", "approval", "scoring", "monitoring"):
        model = model_in(Pipeline.model_fields[name].annotation)
        given = values.get(name, {} if name in ("evaluation", "approval") else None)
        without_gate = (
            {key: value for key, value in given.items() if key != "gate"} if isinstance(given, dict) else None
        )
        sections[name] = readable(model, without_gate) if model and without_gate is not None else None
    evaluation = values.get("evaluation")
    gate = evaluation.get("gate") if isinstance(evaluation, dict) else None
    rules = {index: readable(GateSection, rule) for index, rule in enumerate(gate if isinstance(gate, tuple) else ())}
    return Sections(**sections, gate={index: rule for index, rule in rules.items() if isinstance(rule, GateSection)})


def readable(model: type[BaseModel], value: Any, *, tries: int = 3) -> BaseModel | None:
    """The section without its wrong keys and with examples for the missing ones, or ``None`` if that does not help."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            _mend(model, value, problem["loc"], missing=problem["type"] == "missing")
    return readable(model, value, tries=tries - 1) if tries else None


def _mend(model: type[BaseModel], value: Any, loc: Loc, *, missing: bool) -> None:
    owner = owner_of(model, loc)
    for depth, part in enumerate(loc):
        if not isinstance(value, dict):
            return
        last = depth + 1 == len(loc)
        if last and missing and owner:
            info = owner.model_fields[str(part)]
            value[part] = (info.examples or [None])[0]
        elif last or not isinstance(value.get(part), dict):
            value.pop(part, None)
        else:
            value = value[part]


def translate(document: Document, error: ValidationError, model: type[BaseModel]) -> None:
    """Note what ``model`` says against the file."""
    for problem in error.errors(include_url=False):
        loc = _written(document.root, problem["loc"], missing=problem["type"] == "missing")
        what, way_out = _words(problem, owner_of(model, problem["loc"]))
        document.add(loc, what, way_out, at_key=problem["type"] == "extra_forbidden")


def _written(root: Node, loc: Loc, *, missing: bool) -> Loc:
    """The part of ``loc`` that the file has: a shorthand has no keys of its own."""
    node, written = root, 0
    for part in loc:
        found = node.child(part)
        if found is None:
            break
        node, written = found[1], written + 1
    return loc[: written + 1] if missing else loc[:written]


def _words(problem: Mapping[str, Any], owner: type[BaseModel] | None) -> tuple[str, str]:
    """Pydantic's finding in our words: what is wrong, and the way out."""
    kind, context, shown = problem["type"], problem.get("ctx", {}), _shown(problem["input"])
    name = str(problem["loc"][-1]) if problem["loc"] else ""
    if kind == "value_error":
        what, _, way_out = str(context["error"]).rpartition("; ")
        return what, way_out
    if kind in ("missing", "extra_forbidden"):
        return _about_key(name, owner, missing=kind == "missing")
    if kind == "literal_error":
        choices = tuple(re.findall(r"'([^']*)'", context["expected"]))
        hint = did_you_mean(str(problem["input"]), choices)
        return f"{shown} is not one of the values that this key takes{hint}", f"write {' or '.join(choices)}"
    if kind in _BOUNDS:
        wording, key = _BOUNDS[kind]
        return f"{shown} is out of bounds", f"write a number {wording} {context[key]:g}"
    wanted, way_out = _WANTED.get(kind, (f"something else ({problem['msg']})", "see ml-lifecycle schema"))
    return f"must be {wanted}, is {shown}", way_out


def _about_key(name: str, owner: type[BaseModel] | None, *, missing: bool) -> tuple[str, str]:
    if not missing:
        known = keys_of(owner) if owner else ()
        way_out = f"known keys are {', '.join(known)}" if known else "remove it"
        return f"unknown key {name!r}{did_you_mean(name, known)}", way_out
    info = owner.model_fields.get(name) if owner else None
    if info is None or not info.examples:
        return "is missing", f"add `{name}:`"
    example = str(info.examples[0])
    return (
        "is missing",
        f'write it, such as `{name}: "{example}"`' if "{" in example else f"write it, such as `{name}: {example}`",
    )


_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}
_WANTED = {
    "string_pattern_mismatch": ("a name of a-z, 0-9, _ and -, at most 63 of them", "write it like flight_delays"),
    "string_type": ("text", "put it in quotes"),
    "int_type": ("a whole number", "write digits only, without quotes"),
    "int_from_float": ("a whole number", "leave out the fraction"),
    "float_type": ("a number", "write digits, such as 0.6, without quotes"),
    "finite_number": ("a finite number", "write digits, such as 0.6"),
    "tuple_type": ("a list", "write [one, two], or one `- item` per line"),
    "too_short": ("a list with at least one item", "name one, or remove the key for the default"),
    "model_type": ("a section of `key: value` lines", "write its keys below it, indented"),
    "dict_type": ("a section of `key: value` lines", "write its keys below it, indented"),
    "bool_type": ("true or false", "write true or false"),
}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "nothing" if value is None else repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004  # one line of a message


# --- The spec's own shape --------------------------------------------------------------------------------------------


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys that a section takes, in the order of the reference."""
    return tuple(info.alias or name for name, info in model.model_fields.items())


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field's type holds: itself, or in an optional, a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((model for model in map(model_in, get_args(annotation)) if model), None)


def owner_of(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The section whose key the last part of ``loc`` is."""
    owner: type[BaseModel] | None = model
    for part in loc[:-1]:
        info = {key: owner.model_fields[name] for key, name in _names(owner)}.get(str(part)) if owner else None
        owner = model_in(info.annotation) if info else owner
    return owner


def _names(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, info in model.model_fields.items():
        yield info.alias or name, name
