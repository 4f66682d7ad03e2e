"""One HTTP connection that stays open, as a client under load keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

HOST = "127.0.0.1"
ANSWER_S = 30.0


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    content: bytes


class OpenConnection:
    """Asks one question after the other; opened again where the server closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, user: str | None = None) -> Answer:
        """Send JSON, and wait for the answer; one that breaks closes the connection.

        :raises OSError: the connection broke.
        :raises EOFError: it ended before the answer did.
        :raises ValueError: what came is no HTTP.
        :raises asyncio.TimeoutError: no answer came in time.
        """
        try:
            return await asyncio.wait_for(self._post(path, body, user), ANSWER_S)
        except BaseException:
            self.close()
            raise

    async def _post(self, path: str, body: bytes, user: str | None) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self.port)
        reader, writer = self._streams
        told = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        told += "" if user is None else f"X-User-Id: {user}\r\n"
        writer.write(f"{told}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(lines[0].split()[1]), headers, content)

    def close(self) -> None:
        """Drop it; the next question opens another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
