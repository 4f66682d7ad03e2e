"""``ml-lifecycle ledger``: bring the ledger's tables up to date, by whoever may make tables there."""

from __future__ import annotations

import argparse
from typing import Any

from ml_lifecycle.commands.ledgers import add_ledger
from ml_lifecycle.commands.output import DONE


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "look after the ledger's database"
    parser = subparsers.add_parser("ledger", help=text, description=f"{text[0].upper()}{text[1:]}.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="ledger_command")
    what = "make the tables, or bring them to this package's version, as the first use would"
    upgrade = commands.add_parser("upgrade", help=what, description=f"{what[0].upper()}{what[1:]}.")
    add_ledger(upgrade)
    upgrade.set_defaults(command=_upgrade)


def _upgrade(options: argparse.Namespace) -> int:
    from ml_lifecycle.backends.ledger.sql import SqlLedger

    before, after = SqlLedger(options.ledger).upgrade()
    print(f"schema version {after}, as before" if before == after else f"schema version {before or 'none'} -> {after}")
    return DONE
