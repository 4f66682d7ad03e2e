"""``ml-lifecycle serving``: the model servers of this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.output import CODES, DONE, FAILED, counted, print_json, table_lines

if TYPE_CHECKING:
    from ml_lifecycle.backends.serving_home.home import Home, HomeSettings

_CODES = f"exit codes: 0 up and sound, 1 down or faulty, {CODES}\n"


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "start, end or look at the model servers of this machine"
    parser = subparsers.add_parser("serving", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_CODES)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="serving_command")
    up = _command(commands, "up", _up, "start supervisord, HAProxy and the guard, or tell them what has changed")
    up.add_argument("--port", type=int, help="where HAProxy listens (default: as before, else 8500)")
    up.add_argument("--bind", metavar="ADDRESS", help="at which address (default: as before, else 127.0.0.1)")
    up.add_argument("--server-ports", metavar="FIRST-LAST", help="of the model servers (default: as before)")
    up.add_argument("--haproxy", metavar="PROGRAM", help="the program, where it is not on the path")
    up.add_argument(
        "--foreground", action="store_true", help="stay in the foreground, as systemd and containers want it"
    )
    _command(commands, "down", _down, "end all model servers, after what they are answering")
    _command(commands, "status", _status, "say what runs and who serves")


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--home", required=True, type=Path, metavar="DIR", help="[ml_lifecycle] serving_home")
    parser.add_argument("--json", action="store_true", help="print the status as JSON")
    parser.set_defaults(command=run)
    return parser


def _up(options: argparse.Namespace) -> int:
    from ml_lifecycle.backends.serving_home.standing import run_in_foreground, start

    home = _home(options)
    settings = _settings(home, options)
    if options.foreground:
        return run_in_foreground(home, settings)
    start(home, settings)
    return _status(options)


def _down(options: argparse.Namespace) -> int:
    from ml_lifecycle.backends.serving_home.standing import stop

    ran = stop(_home(options))
    if options.json:
        print_json({"up": False, "ended": ran})
    else:
        print("ended" if ran else "nothing ran")
    return DONE


def _status(options: argparse.Namespace) -> int:
    from ml_lifecycle.backends.serving_home.report import report

    found = report(_home(options))
    if options.json:
        print_json(found.to_xcom())
    else:
        print(f"up at {found.address}" if found.up else "down")
        for line in table_lines(
            [("process", "state", "pid"), *((p.name, p.state, str(p.pid)) for p in found.processes)]
        ):
            print(line)
        for one in found.models:
            traffic = ", ".join(f"version {version} {percent}%" for version, percent in one.traffic.items())
            print(f"{one.model} ({one.environment}, epoch {one.epoch}): {traffic or 'nothing serves'}")
            for problem in filter(None, (one.fault, one.detail)):
                print(f"  {problem}")
        print(counted(len(found.models), "model"))
    return DONE if found.sound else FAILED


def _home(options: argparse.Namespace) -> Home:
    from ml_lifecycle.backends.serving_home.home import Home

    return Home(options.home.absolute())


def _settings(home: Home, options: argparse.Namespace) -> HomeSettings:
    """As the home was set up before, with what is said anew."""
    from pydantic import ValidationError

    from ml_lifecycle.backends.serving_home.home import HomeSettings
    from ml_lifecycle.core.contracts import first_mistake
    from ml_lifecycle.core.errors import RequestError, ServiceUnavailableError

    try:
        before = home.settings().model_dump()
    except ServiceUnavailableError:
        before = {}
    told: dict[str, Any] = {"port": options.port, "bind": options.bind, "haproxy": options.haproxy}
    if options.server_ports:
        told["first_port"], _, told["last_port"] = options.server_ports.partition("-")
    told["python"] = sys.executable
    try:
        return HomeSettings.model_validate(
            {**before, **{name: value for name, value in told.items() if value is not None}}
        )
    except ValidationError as error:
        raise RequestError(
            first_mistake(error), where="serving up", way_out="see `ml-lifecycle serving up --help`"
        ) from None
