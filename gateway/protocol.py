"""The server's side of one connection: uvicorn's, with a deadline for request heads and our kind of 400."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from pydantic_core import to_json
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.problems import MEDIA_TYPE, Problem

HEAD_TIMEOUT = 15.0
"""Seconds for a request's head, and for a connection's first byte: slow senders must not hold sockets for ever."""
ABORT = "orchestrator.abort"
"""Extension of a request's scope: a function that ends its connection at once, with what was not sent."""


class HttpProtocol(H11Protocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_TIMEOUT, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Take what came; time runs only while a head, or a body nobody wants any more, is incomplete."""
        super().data_received(data)
        waiting = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
        if not waiting and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        elif waiting and self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_TIMEOUT, self._too_slow)

    def handle_events(self) -> None:
        """Let whoever answers a request end its connection."""
        super().handle_events()
        if self.scope is not None:
            self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection; one whose client takes none of its answer too, which a mere close would wait for."""
        unsent, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self._unsent == 0:
            super().timeout_keep_alive_handler()
        elif self._unsent == unsent:
            self.transport.abort()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        problem = Problem("invalid_body", msg)
        headers = [("content-type", MEDIA_TYPE), ("connection", "close")]
        parts: tuple[Any, ...] = (
            h11.Response(status_code=problem.status, headers=headers, reason=b"Bad Request"),
            h11.Data(data=to_json(problem.body())),
            h11.EndOfMessage(),
        )
        for part in parts:
            self.transport.write(self.conn.send(part))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: anybody may ask for an upgrade, and is served without one."""

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
