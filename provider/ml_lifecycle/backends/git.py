"""What a team's git repository says: of which commit it is, and who changed a file last."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TIMEOUT_S = 10.0
_FIELDS = ("%P", "%an", "%ae", "%cn", "%ce")
_CONFIG = (
    # A repository is data here: nothing that its own configuration names may be run or fetched.
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "log.showSignature=false",
    "protocol.allow=never",
    "i18n.logOutputEncoding=UTF-8",
)
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
"""What would make git look into another repository than the file's."""
_GITHUB = "@users.noreply.github.com"


def git(folder: Path, *arguments: str) -> str:
    """What one command of git prints, without the blanks around it; nothing that the repository configures is run.

    :raises FileNotFoundError: git is not installed.
    :raises subprocess.SubprocessError: it failed, or did not answer in time.
    """
    settings = [part for setting in _CONFIG for part in ("-c", setting)]
    inherited = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    found = subprocess.run(  # noqa: S603  # fixed arguments, a folder and a file's name
        ["git", "-C", str(folder), "--no-pager", "--literal-pathspecs", *settings, *arguments],  # noqa: S607  # git is where the deployment put it
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT_S,
        env={**inherited, **_ENVIRONMENT},
    )
    return found.stdout.strip()


def committers_of(file: Path) -> tuple[str, ...]:
    """The names by which whoever committed a file last may be known: name, address, and the address's user.

    Author and committer both count: a merge on a website commits what somebody else wrote. Empty where nobody knows:
    without git, a repository or a commit, and where a shallow clone does not reach back to it.
    """
    place = file.resolve()
    try:
        found = git(place.parent, "log", "-1", f"--format={'%x00'.join(_FIELDS)}", "--", place.name)
        parents, *people = found.split("\0") if found else ("",)
        if not parents and git(place.parent, "rev-parse", "--is-shallow-repository") != "false":
            # The oldest commit of a shallow clone seems to have made every file.
            return ()
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(dict.fromkeys(name for known in people for name in _names(known.strip()) if name))


def _names(known: str) -> tuple[str, ...]:
    user, at, _ = known.rpartition("@")
    if not at:
        return (known,)
    mine, plus, label = user.partition("+")
    return known, user, label if plus and known.endswith(_GITHUB) else mine
