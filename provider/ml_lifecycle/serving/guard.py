"""``python -m ml_lifecycle.serving.guard --home DIR``: keeps what runs equal to what is written down, all the time.

It gives a new version its traffic when its server is ready, and takes it away within seconds when that server dies or
hangs, whoever else looks.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ml_lifecycle.backends.serving_home.control import settle
from ml_lifecycle.backends.serving_home.home import Home
from ml_lifecycle.core.errors import LifecycleError

BUSY_S: Final = 0.2
"""Between two looks while versions serve beside each other, or anything is on its way."""
QUIET_S: Final = 1.0
"""Between two looks otherwise."""
_logger: Final = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Look after a home until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m ml_lifecycle.serving.guard", description="Guard model servers.")
    parser.add_argument("--home", required=True, type=Path, help="the model servers' home")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ended = threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: ended.set())
    watch(Home(options.home), ended)
    return 0


def watch(home: Home, ended: threading.Event) -> None:
    """Look again and again; what goes wrong in one look is logged, once while it stays the same."""
    before = ""
    pause = BUSY_S
    while not ended.wait(pause):
        try:
            pause = BUSY_S if settle(home) else QUIET_S
            problem = ""
        except LifecycleError as error:
            problem, pause = str(error), BUSY_S
        if problem and problem != before:
            _logger.warning("%s", problem)
        before = problem


if __name__ == "__main__":
    sys.exit(main())
