"""The team's own functions, found below the project folder and nowhere else."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_lifecycle.core.errors import CallableNotFoundError, did_you_mean

_project_of: dict[str, Path] = {}
"""Which project each top-level package was last loaded from, by this module."""
_digest_of: dict[str, str] = {}
"""What each module's file held when it was loaded."""


def load_callable(path: str, project: Path) -> Callable[..., Any]:
    """The function that ``module:function`` names below ``project``.

    Importing runs the module's own code and nothing that lies outside the project under the same name.

    :raises CallableNotFoundError: there is no such module or function, it lies outside the project, or its module
        cannot be imported.
    """
    module_name, function = _parts(path)
    file = _file_of(module_name, path, project)
    module = _import(module_name, file, project, path)
    found = getattr(module, function, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    raise CallableNotFoundError(
        f"{file.name} has no function {function!r}",
        where=path,
        way_out=f"it has {', '.join(sorted(names)) or 'none'}{did_you_mean(function, names)}",
    )


def own_metrics(names: Iterable[str], project: Path) -> dict[str, Callable[..., Any]]:
    """The team's own metrics among these, by name.

    :raises CallableNotFoundError: one of them is not there.
    """
    return {name: load_callable(name, project) for name in names if ":" in name}


def callable_digest(path: str, project: Path) -> str:
    """SHA-256 of the file that holds the function; nothing is imported.

    :raises CallableNotFoundError: there is no such module below the project.
    """
    module_name, _ = _parts(path)
    return _digest(_file_of(module_name, path, project))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _parts(path: str) -> tuple[str, str]:
    module, colon, function = path.partition(":")
    if colon and function.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return module, function
    raise CallableNotFoundError(
        f"{path!r} does not name a function", way_out="write module:function, such as include.flights.features:build"
    )


def _file_of(module: str, path: str, project: Path) -> Path:
    root = project.resolve()
    base = root.joinpath(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            break
    else:
        near = [found.stem for found in base.parent.glob("*.py")] if base.parent.is_dir() else []
        raise CallableNotFoundError(
            f"there is no module {module!r} below {root}",
            where=path,
            way_out=f"put it at {base.with_suffix('.py').relative_to(root)}{did_you_mean(base.name, near)}",
        )
    if not file.resolve().is_relative_to(root):
        raise CallableNotFoundError(
            f"the module {module!r} is a link that leads out of {root}",
            where=path,
            way_out="put the file itself below the project folder",
        )
    return file.resolve()


def _import(name: str, file: Path, project: Path, path: str) -> ModuleType:
    root = project.resolve()
    _put_first(root)
    top = name.partition(".")[0]
    # A long-lived process may serve several projects, each with its own `include`, and may outlive a change of a file.
    digest = _digest(file)
    if _project_of.get(top, root) != root or _digest_of.get(name, digest) != digest:
        _forget(top)
    _project_of[top], _digest_of[name] = root, digest
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # sys.exit() would end the task without a word
        raise CallableNotFoundError(
            f"importing {name} raised {type(error).__name__}: {error}",
            where=str(file),
            way_out="mend the module, or install what it imports",
        ) from error
    loaded_from = Path(module.__file__ or "").resolve()
    if loaded_from != file:
        raise CallableNotFoundError(
            f"the name {name!r} is already taken by {loaded_from}",
            where=path,
            way_out=f"give {file.relative_to(root)} a name that no installed package has",
        )
    return module


def _put_first(root: Path) -> None:
    """Let the project's modules be found first; its functions may import more of them when they are called."""
    entry = str(root)
    if not sys.path or sys.path[0] != entry:
        if entry in sys.path:
            sys.path.remove(entry)
        sys.path.insert(0, entry)
        importlib.invalidate_caches()


def _forget(top: str) -> None:
    """Let a top-level package be imported anew; only packages that were loaded from a project come here."""
    for loaded in (sys.modules, _digest_of):
        for name in [name for name in loaded if name == top or name.startswith(f"{top}.")]:
            del loaded[name]
    importlib.invalidate_caches()
