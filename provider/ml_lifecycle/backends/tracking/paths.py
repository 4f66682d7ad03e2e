"""Names and paths that are safe in every tracking server, file system and page."""

from __future__ import annotations

import re
from pathlib import Path

from ml_lifecycle.core.contracts import NAME
from ml_lifecycle.core.errors import ServiceRefusedError


def checked_name(name: str) -> str:
    """A model name of our own pattern, which every registry, file system and page takes.

    :raises ServiceRefusedError: it is not.
    """
    if not re.fullmatch(NAME, name):
        raise ServiceRefusedError(
            f"{name!r} is not a model's name", way_out="use lower-case letters, digits, '-' and '_', at most 63"
        )
    return name


def contained(path: str) -> Path:
    """A relative path that leads nowhere but down.

    :raises ServiceRefusedError: it is absolute, empty, or climbs.
    """
    parts = path.split("/")
    if not all(parts) or {".", ".."} & set(parts) or any(char in path for char in "\\\0%"):
        raise ServiceRefusedError(f"the artifact path {path!r} leads out of its run")
    return Path(*parts)


def split_run_uri(uri: str) -> tuple[str, str]:
    """Run id and path of ``runs:/<run id>/<path>``.

    :raises ServiceRefusedError: it is of another form.
    """
    match = re.fullmatch(r"runs:/([0-9a-zA-Z_-]+)/(.+)", uri)
    if match is None:
        raise ServiceRefusedError(f"{uri!r} does not name a run's files", way_out="expected runs:/<run id>/<path>")
    return match.group(1), match.group(2)
