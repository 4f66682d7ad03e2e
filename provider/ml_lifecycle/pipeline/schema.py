"""The YAML's shape for editors (JSON schema) and for people (the reference page), from the fields' docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ml_lifecycle.backends.deployment import known_targets, target_type
from ml_lifecycle.core.contracts import AnalysisPolicy, QualityPolicy, Rate
from ml_lifecycle.core.values import parse_share
from ml_lifecycle.pipeline.loader import model_in
from ml_lifecycle.pipeline.spec import PRESETS, Pipeline

_HEAD = """# The pipeline file

One YAML file describes one model's whole life. This page is made by `ml-lifecycle schema --markdown` from the code
that reads the file; `ml-lifecycle schema` prints the same as a JSON schema, which editors complete and check by.

Unknown keys, keys written twice, tags, anchors and several documents in one file are refused. `ml-lifecycle lint FILE`
says everything that is wrong with a file at once, each with its line and column.

- **Durations** are a whole number and a unit: `90s`, `30m`, `72h`, `7d`, `2w`.
- **Shares** are a percentage or a number: `20%` or `0.2`.
- **Rates** are a number and a time: `1 per quarter`; the times are day, week, month, quarter and year.
- **Schedules** are {presets}, or five cron fields such as `0 6 2 * *`.
- **Words** mean what they look like: `true`, `false`, `null` and numbers; all else is text. Where other readers of YAML
  would see something else in a word (`no`, `1:30`, `010`), a value of any type needs quotes.
- **Paths of data** start at the deployment's data root, **paths of files and functions** at the folder that holds
  `dags/`.
"""


_TARGETS = """# Where models serve

The section `deployment` takes the keys of the target that its `backend` names.
"""
_POLICIES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("analysis", AnalysisPolicy),
    ("analysis.quality", QualityPolicy),
)


def json_schema() -> dict[str, Any]:
    """The file's JSON schema (draft 2020-12)."""
    schema = Pipeline.model_json_schema(by_alias=True)
    for model in sections():
        place = schema if model is Pipeline else schema["$defs"].get(model.__name__, {})
        place["description"] = inspect.getdoc(model) or ""
        for name, info in model.model_fields.items():
            shown = place.get("properties", {}).get(info.alias or name)
            if shown is not None:
                shown["description"] = field_docs(model).get(name, "")
    for name, short in _shorthands().items():
        schema["$defs"][name] = {"anyOf": [short, schema["$defs"][name]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def markdown() -> str:
    """The reference page."""
    parts = [_HEAD.format(presets=", ".join(f"`{preset}`" for preset in PRESETS))]
    parts += [_section(path, model) for path, model in _places(Pipeline, "")]
    parts += [_TARGETS, *_targets()]
    return "\n".join(parts)


def _targets() -> Iterator[str]:
    """What the deployment section takes, by the backend that it names."""
    for name in known_targets():
        model = target_type(name)
        yield _section(f"deployment: {{backend: {name}}}", model)
    yield from (_section(f"deployment.{path}", model) for path, model in _POLICIES)


def sections() -> tuple[type[BaseModel], ...]:
    """Every kind of section, each once."""
    return tuple(dict.fromkeys(model for _, model in _places(Pipeline, "")))


@cache
def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings below a section's fields say."""
    docs: dict[str, str] = {}
    for owner in reversed([one for one in model.__mro__ if issubclass(one, BaseModel) and one is not BaseModel]):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in pairwise(lines):
            said = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else None
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(said, str):
                docs[field.target.id] = " ".join(said.split())
    return docs


def _shorthands() -> dict[str, dict[str, Any]]:
    text = {"type": "string", "description": "Short for its uri alone."}
    scalar = {"type": ["string", "number", "boolean", "null"], "description": "Short for its value alone."}
    return {"SourceSection": text, "OutputSection": text, "Hyperparameter": scalar}


def _places(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, info in model.model_fields.items():
        inner = model_in(info.annotation)
        if inner is not None:
            many = {dict: ".<name>", tuple: "[]"}.get(_container(info.annotation), "")
            yield from _places(inner, f"{path}.{info.alias or name}{many}".lstrip("."))


def _container(annotation: Any) -> Any:
    return next(
        (get_origin(one) for one in (annotation, *get_args(annotation)) if get_origin(one) in (dict, tuple)), None
    )


def _section(path: str, model: type[BaseModel]) -> str:
    lines = [f"## `{path}`" if path else "## The file", "", _marked(inspect.getdoc(model) or ""), ""]
    lines += ["| Key | Takes | Default | Meaning |", "| --- | --- | --- | --- |"]
    for name, info in model.model_fields.items():
        meaning = _marked(field_docs(model).get(name, "")).replace("|", "\\|")
        lines.append(f"| `{info.alias or name}` | {_takes(info)} | {_default(info)} | {meaning} |")
    return "\n".join([*lines, ""])


def _marked(text: str) -> str:
    """A docstring's reStructuredText as Markdown."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def _takes(info: FieldInfo) -> str:
    bounds = [f"{word} {getattr(rule, key)}" for rule in info.metadata for key, word in _BOUNDS if hasattr(rule, key)]
    is_share = any(getattr(rule, "func", None) is parse_share for rule in info.metadata)
    return " ".join(["share" if is_share else _kind(info.annotation), ", ".join(bounds)]).strip()


_BOUNDS = (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
_KINDS = {Rate: "rate", str: "text", int: "whole number", float: "number", bool: "true or false", timedelta: "duration"}


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not Rate:
        return "section"
    if get_origin(annotation) is tuple:
        inner = get_args(annotation)[0]
        return f"list of {_plural(_kind(inner))}"
    if get_origin(annotation) is dict:
        return "sections by name" if model_in(annotation) else "keys and values"
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) is not None and inner:
        return _kind(inner[0]) if len(inner) == 1 or hasattr(annotation, "__metadata__") else "any single value"
    return _KINDS.get(annotation, getattr(annotation, "__name__", "any single value"))


def _plural(kind: str) -> str:
    names = {
        "text": "texts",
        "section": "sections",
        "whole number": "whole numbers",
        "any single value": "`shadow` and whole numbers",
    }
    return names.get(kind, kind)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True)
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, BaseModel) and not isinstance(value, Rate):
        return "its defaults"
    return f"`{_written(value)}`"


def _written(value: Any) -> str:
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        unit, size = next(
            ((unit, size) for unit, size in (("d", 86400), ("h", 3600), ("m", 60)) if seconds % size == 0), ("s", 1)
        )
        return f"{seconds // size}{unit}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {one}" for key, one in value.items()) + "}"
    return str(value)
