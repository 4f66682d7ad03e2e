"""``ml-lifecycle status``: what serves, what served before, what is asked, what is denied, what is unfinished."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.ledgers import add_options, opened, places
from ml_lifecycle.commands.output import DONE, print_json

if TYPE_CHECKING:
    from ml_lifecycle.backends.ledger.base import Ledger
    from ml_lifecycle.core.contracts import Ask, Move


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "say what serves, what a rollback brings back, what is asked, denied and unfinished"
    parser = subparsers.add_parser("status", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("model", metavar="MODEL", help="name of the registered model")
    add_options(parser)
    parser.set_defaults(command=status)


def status(options: argparse.Namespace) -> int:
    """Print the state of one model in each environment."""
    ledger = opened(options.ledger)
    known = places(ledger, environment=options.environment, model=options.model)
    states = [state_of(model, environment, ledger) for model, environment in known]
    if options.json:
        print_json({"states": states})
    else:
        print("\n\n".join(_text(state) for state in states))
    return DONE


def state_of(model: str, environment: str, ledger: Ledger) -> dict[str, Any]:
    """The state of a model as plain JSON; ``None`` and empty where there is nothing."""
    from ml_lifecycle.core.deployment import denied
    from ml_lifecycle.core.invariants import is_open

    moves = ledger.moves(model, environment)
    back = ledger.previous(model, environment)
    return {
        "model": model,
        "environment": environment,
        "head": _shown(moves[-1]) if moves else None,
        "previous": _shown(back) if back else None,
        "open_asks": [_asked(ask, ledger) for ask in ledger.open_asks(model, environment)],
        "denied": [
            {"digest": digest, "since_epoch": move.epoch, "by": move.moved_by, "reason": move.reason}
            for digest, move in denied(moves).items()
        ],
        "unfinished": [
            {"epoch": move.epoch, "version": move.version, "steps": list(steps)}
            for move in moves
            if is_open(steps := ledger.deployment_states(move))
        ],
    }


def _shown(move: Move) -> dict[str, Any]:
    return move.model_dump(
        mode="json", include={"epoch", "kind", "version", "digest", "moved_by", "moved_at", "reason", "target"}
    )


def _asked(ask: Ask, ledger: Ledger) -> dict[str, Any]:
    asked, votes = ledger.asked(ask.ask_id), ledger.votes(ask.ask_id)
    return {
        "ask_id": ask.ask_id,
        "kind": ask.kind,
        "version": ask.version,
        "digest": ask.digest,
        "approvers": list(ask.terms.approvers),
        "count": ask.terms.count,
        "expires_at": asked.expires_at.isoformat() if asked and asked.expires_at else None,
        "votes": [{"person": vote.person, "outcome": vote.outcome, "channel": vote.channel} for vote in votes],
    }


def _text(state: dict[str, Any]) -> str:
    head, back = state["head"], state["previous"]
    lines = [f"{state['model']} in {state['environment']}"]
    lines.append(f"  serves: {_move(head)}" if head else "  serves: nothing was released yet")
    lines.append(f"  a rollback brings back: {_move(back)}" if back else "  a rollback brings back: nothing")
    for ask in state["open_asks"]:
        votes = ", ".join(f"{vote['person']}: {vote['outcome']}" for vote in ask["votes"]) or "nobody answered"
        about = f"version {ask['version']} " if ask["kind"] == "model" else "data "
        need = f"{ask['count']} of {', '.join(ask['approvers']) or 'anyone'}"
        lines.append(f"  asked: {about}({ask['digest'][:8]}), {need}; {votes}; until {ask['expires_at'] or 'answered'}")
    lines += [
        f"  denied: {one['digest'][:8]} since epoch {one['since_epoch']} by {one['by']}: {one['reason']}"
        for one in state["denied"]
    ]
    lines += [
        f"  unfinished: epoch {one['epoch']} (version {one['version']}): {', '.join(one['steps']) or 'not begun'}"
        for one in state["unfinished"]
    ]
    return "\n".join(lines)


def _move(move: dict[str, Any]) -> str:
    return (
        f"version {move['version']} ({move['digest'][:8]}), epoch {move['epoch']}, {move['kind']} by {move['moved_by']}"
    )
