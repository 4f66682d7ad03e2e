"""Sends requests at a steady pace over connections that stay open, and writes down what became of each.

A process of its own, so that whoever watches does not slow it down: ``python scripts/load_client.py --help``. It ends
when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from open_connection import OpenConnection

CONNECTIONS = 32


async def asked(connection: OpenConnection, path: str, body: bytes, user: str) -> tuple[int, int]:
    """Status and version of the answer; status 0 where the connection broke."""
    try:
        answer = await connection.post(path, body, user)
    except (OSError, EOFError, asyncio.TimeoutError, ValueError):
        return 0, 0
    return answer.status, int(answer.headers.get("x-model-version", "0"))


async def load(options: argparse.Namespace) -> list[tuple[float, int, int, int, float]]:
    """Ask until standard input ends; one row a request: when, user, status, version, milliseconds."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    idle: asyncio.Queue[OpenConnection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(OpenConnection(options.port))
    found: list[tuple[float, int, int, int, float]] = []
    chosen = random.Random(options.seed)  # noqa: S311  # users, not secrets
    body = options.body.encode()

    async def one(user: int) -> None:
        connection = await idle.get()
        at, begun = time.time(), time.perf_counter()
        status, version = await asked(connection, options.path, body, f"user-{user}")
        found.append((at, user, status, version, 1000 * (time.perf_counter() - begun)))
        idle.put_nowait(connection)

    due, under_way = time.perf_counter(), set()
    while not ended.is_set():
        due += 1 / options.rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(chosen.randrange(options.users)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    while not idle.empty():
        idle.get_nowait().close()
    return found


def main() -> int:
    """Ask, then write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True, help="such as /flights/invocations")
    parser.add_argument("--body", required=True, help="of every request")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (default: 200)")
    parser.add_argument("--users", type=int, default=20_000, help="how many different users ask (default: 20000)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, required=True, help="one JSON list a line")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        rows = asyncio.run(load(options))
        options.output.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
