"""Connections that nobody can hold open for nothing: uvicorn bounds only how long one may be idle between requests."""

from __future__ import annotations

import time
from asyncio import TimerHandle
from typing import Any, Final

READ_AT: Final = "ml_lifecycle.read_at"
"""In a request's scope: ``time.perf_counter()`` when the last byte of it had come."""
_MOST_HEADER_BYTES: Final = 65536


def patient_protocol(read_s: float) -> type[Any]:
    """A protocol for uvicorn that closes connections whose requests take longer to come in.

    :param read_s: Seconds from a request's first byte to its last one.
    """
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Protocol
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol  # type: ignore[assignment]

    class PatientProtocol(Protocol):
        """Reads a request within a time, or not at all."""

        _patience: TimerHandle | None = None
        _header_bytes = 0

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            cycle = self.cycle
            if cycle is None or cycle.response_complete:
                self._header_bytes += len(data)
                if self._header_bytes > _MOST_HEADER_BYTES:
                    self.transport.close()
            elif not cycle.more_body:
                cycle.scope.setdefault(READ_AT, time.perf_counter())  # type: ignore[typeddict-item]
                self._stop()
                return
            else:
                self._header_bytes = 0
            if self._patience is None:
                self._patience = self.loop.call_later(read_s, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _stop(self) -> None:
            self._header_bytes = 0
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

    return PatientProtocol
