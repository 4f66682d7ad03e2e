"""``ml-lifecycle keygen``: a key of one's own to sign with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ml_lifecycle.commands.output import DONE


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "make a key to sign with: the private half into a file, the public half on the screen"
    parser = subparsers.add_parser("keygen", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--name", required=True, help="user name of whoever signs with it, as Airflow shows it")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FILE", help="for the private key; must not be there yet"
    )
    parser.add_argument("--json", action="store_true", help="print the public key as an entry of a file of keys")
    parser.set_defaults(command=keygen)


def keygen(options: argparse.Namespace) -> int:
    """Write the private key, and print the line that others need."""
    from ml_lifecycle.backends.signing.keys import generated, write_signing_key

    key = generated()
    write_signing_key(key, options.output)
    public = key.public.text
    print(json.dumps({options.name: public}, ensure_ascii=False) if options.json else f"{options.name} {public}")
    return DONE
